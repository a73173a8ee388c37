"""Who may import whom: the rooms of the project, and what the slim runtime takes from outside."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("edge", "runtimes", "export", "boards")

# Prefixes of our own modules that each room may import.
OURS = {
    "edge": ("edge", "runtimes", "boards"),
    "runtimes": ("runtimes", "edge.artifact", "edge.errors", "edge.version"),
    # An artifact is evaluated as it runs, admitted by the same plan, and asked in its own template.
    "export": (
        "export",
        "boards",
        "runtimes",
        "edge.artifact",
        "edge.errors",
        "edge.memory",
        "edge.template",
        "edge.version",
    ),
    "boards": ("boards", "edge.errors"),
}
SLIM = {"numpy", "tokenizers", "jinja2", "click", "tqdm", "prompt_toolkit"}
# Profiles are TOML, which Python reads itself from 3.11 on; there is no other use for numbers or a command line.
BOARDS = {"tomli", "tomllib"}
EXPORT = {"numpy", "tokenizers", "tqdm", "onnx", "gguf", "safetensors", "huggingface_hub", "ml_dtypes"}
THEIRS = {"edge": SLIM, "runtimes": SLIM, "boards": BOARDS, "export": EXPORT}
# (file, module) that only a function may import.
LAZY = {
    ("edge/cli/export.py", "export"),
    ("edge/cli/convert.py", "export"),
    ("edge/cli/export_optimum.py", "export"),
    ("edge/cli/build.py", "export"),
    ("edge/cli/planned_source.py", "export"),
    ("edge/cli/evaluate.py", "export"),
    # Where the extra `gpu` brought it.
    ("boards/gpu.py", "pynvml"),
    ("boards/nvml.py", "pynvml"),
    ("runtimes/onnxruntime/", "onnxruntime"),
    # A program for the Python that has optimum; nothing of ours imports it.
    ("export/optimum/worker.py", "optimum"),
    ("export/optimum/worker.py", "torch"),
    ("export/optimum/worker.py", "transformers"),
    # Calibration runs the model that is being exported.
    ("export/layerwise/session.py", "onnxruntime"),
}


def imported(source: str, module: str) -> Iterator[tuple[str, bool]]:
    """(name, whether a function does it) for each import in `source`, the text of `module`; types aside."""
    package = module.split(".")[:-1]

    def walk(node: ast.AST, lazy: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            # Types know no arrows of time, but those of the rooms hold for them too.
            for child in node.body:
                yield from ((name, True) for name, _ in walk(child, True))
            for child in node.orelse:
                yield from walk(child, lazy)
            return
        if isinstance(node, ast.Import):
            yield from ((alias.name, lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], node.module or ""]).strip(".")
            name = base if node.level else node.module or ""
            # `from edge import errors` imports edge.errors, `from edge import load` only edge.
            yield from (
                (f"{name}.{alias.name}" if is_module(name, alias.name) else name, lazy)
                for alias in node.names
            )
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            importing = ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__")
            yield from [(str(node.args[0].value), lazy)] * importing
        function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from walk(child, lazy or function)

    yield from walk(ast.parse(source), False)


def is_module(package: str, name: str) -> bool:
    path = ROOT.joinpath(*package.split("."), name)
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def violations(file: str, source: str) -> list[str]:
    room = file.split("/")[0]
    module = file.removesuffix(".py").replace("/", ".")
    found = []
    for name, lazy in imported(source, module):
        top = name.split(".")[0]
        if top in sys.stdlib_module_names:
            continue
        if any(file.startswith(where) and top == what for where, what in LAZY):
            if not lazy:
                found.append(f"{file} imports {name} before a function needs it")
        elif top in ROOMS:
            if not any(name == allowed or name.startswith(f"{allowed}.") for allowed in OURS[room]):
                found.append(f"{file} imports {name}")
        elif top not in THEIRS[room]:
            found.append(f"{file} imports {name}, which {room} does without")
    return found


def python_files() -> list[str]:
    return [
        path.relative_to(ROOT).as_posix() for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))
    ]


@pytest.mark.parametrize("file", python_files())
def test_arrows_hold(file: str) -> None:
    assert violations(file, (ROOT / file).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("edge/model.py", "import export"),
        ("edge/model.py", "from importlib import import_module\nimport_module('export.pipeline')"),
        ("edge/model.py", "def f():\n    import export"),
        ("edge/model.py", "import torch"),
        ("edge/model.py", "def f():\n    import onnxruntime"),
        ("edge/cli/export.py", "import export"),
        ("runtimes/select.py", "from edge.model import load"),
        ("runtimes/select.py", "from edge import load"),
        ("runtimes/select.py", "from edge import generate"),
        (
            "runtimes/select.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from edge.model import Model",
        ),
        ("runtimes/onnxruntime/engine.py", "import onnxruntime"),
        ("runtimes/onnxruntime/engine.py", "from ...edge import model"),
        ("export/pipeline.py", "from edge import load"),
        ("export/pipeline.py", "import edge.model"),
        ("export/pipeline.py", "def f():\n    import transformers"),
        ("boards/folders.py", "import edge"),
        ("boards/gpu.py", "import pynvml"),
        ("boards/survey.py", "from edge.memory.probe import probe"),
        ("boards/survey.py", "import numpy"),
    ],
)
def test_a_wrong_import_is_found(file: str, source: str) -> None:
    assert len(violations(file, source)) == 1


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("edge/cli/export.py", "def f():\n    import_module('export')"),
        ("runtimes/onnxruntime/engine.py", "def f():\n    import onnxruntime"),
        (
            "runtimes/select.py",
            "from edge import errors\nfrom edge.artifact import Artifact\nfrom . import threads",
        ),
        (
            "export/pipeline.py",
            "import onnx.helper\nfrom edge.version import VERSION\nfrom boards import profile",
        ),
        ("edge/model.py", "import json, numpy\nfrom runtimes import open_engine"),
    ],
)
def test_a_right_import_passes(file: str, source: str) -> None:
    assert violations(file, source) == []
