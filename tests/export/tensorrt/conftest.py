"""A TensorRT that is none, a machine that is a Jetson, and an artifact for both."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

import boards
from boards.survey import detect
from export import export
from tests.boards import trees
from tests.checkpoints import tiny_folder

FAKE = Path(__file__).parent / "fake"


@pytest.fixture
def fake_tensorrt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Plants module `name`, of a version, for this process and those that it starts; `mode` as in the fake."""
    planted = {"fake_tensorrt"}

    def plant(name: str, version: str, mode: str = "") -> None:
        folder = tmp_path / "modules" / name
        folder.mkdir(parents=True, exist_ok=True)
        text = f"import fake_tensorrt\nfake_tensorrt.fill(globals(), {version!r})\n"
        (folder / "__init__.py").write_text(text)
        monkeypatch.syspath_prepend(FAKE)
        monkeypatch.syspath_prepend(tmp_path / "modules")
        monkeypatch.setenv("FAKE_TENSORRT", mode)
        monkeypatch.delitem(sys.modules, name, raising=False)
        planted.add(name)

    yield plant
    for name in planted:
        sys.modules.pop(name, None)


@pytest.fixture
def on_an_orin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This machine is an Orin Nano with JetPack 6."""
    root = trees.plant(tmp_path / "root", trees.ORIN_NANO)
    monkeypatch.setattr(boards, "detect", partial(detect, root))


@pytest.fixture(scope="session")
def whole_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tensorrt")
    tiny_folder(folder / "checkpoint", "llama")
    export(
        folder / "checkpoint",
        folder / "m.edge",
        engine="tensorrt",
        method="rtn",
        fidelity=False,
        block=32,
    )
    return folder / "m.edge"


@pytest.fixture
def artifact(whole_artifact: Path, tmp_path: Path) -> Path:
    """A tiny one for TensorRT in int4, the test's own."""
    return Path(shutil.copytree(whole_artifact, tmp_path / "m.edge"))
