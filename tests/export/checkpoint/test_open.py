"""What a source is, and what is said of one that is none."""

from __future__ import annotations

import builtins
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from edge.errors import CheckpointError, CheckpointNotFound, MissingExtra, Unsupported
from export.checkpoint import open_checkpoint
from tests.export.checkpoint.conftest import Source


def test_a_path_may_be_text_or_path(source: Source) -> None:
    for path in (source.folder, source.gguf):
        with open_checkpoint(str(path)) as text, open_checkpoint(path) as checkpoint:
            assert text.source == checkpoint.source == str(path)
            assert text.spec == checkpoint.spec


def test_a_gguf_needs_no_suffix(source: Source, tmp_path: Path) -> None:
    blob = shutil.copy(source.gguf, tmp_path / "0123abcd")
    assert open_checkpoint(blob).provenance["format"] == "gguf"


FILES: dict[str, tuple[str, bytes, type[CheckpointError], str]] = {
    "torch zip": (
        "pytorch_model.bin",
        b"PK\x03\x04",
        Unsupported,
        "pickle, .*never loaded; convert it to safetensors",
    ),
    "pickle": ("model.pth", b"\x80\x04", Unsupported, "never loaded"),
    "pickle in disguise": ("model.dat", b"\x80\x02rest", Unsupported, "never loaded"),
    "one safetensors": ("model.safetensors", b"", Unsupported, "name the folder it is in: "),
    "config alone": ("config.json", b"{}", Unsupported, "name the folder it is in: "),
    "text": ("notes.txt", b"hello", Unsupported, "not a checkpoint that Edgewise knows; name a folder"),
}


@pytest.mark.parametrize("case", FILES)
def test_another_kind_of_file_is_refused(tmp_path: Path, case: str) -> None:
    name, data, error, message = FILES[case]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(error, match=message):
        open_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "nowhere",
        "/no/such/folder",
        "./no/such",
        "no/such.gguf",
        "a/b/c",
        "org/",
        "org/na me",
        "org/x@",
        "a\0b",
        "x" * 5000,
    ],
)
def test_nothing_of_that_name_says_what_would_do(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)

    def refuse(*args: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(
        CheckpointNotFound,
        match="no checkpoint|no config" if name == "" else r"name a folder with config\.json",
    ):
        open_checkpoint(name)


@pytest.mark.parametrize("make", [os.mkfifo], ids=["fifo"])
def test_a_fifo_is_not_waited_for(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "model.gguf")
    with pytest.raises(Unsupported, match="neither a file nor a folder"):
        open_checkpoint(tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("kind", "missing"), [("folder", "safetensors"), ("gguf", "gguf"), ("hub", "huggingface_hub")]
)
def test_a_missing_extra_is_named(
    source: Source, monkeypatch: pytest.MonkeyPatch, kind: str, missing: str
) -> None:
    original = builtins.__import__
    for module in [m for m in sys.modules if m.split(".")[0] == missing]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, missing, None)
    assert builtins.__import__ is original
    name = {"folder": str(source.folder), "gguf": str(source.gguf), "hub": "org/name"}[kind]
    with pytest.raises(MissingExtra, match=rf"needs {missing} .*pip install 'edgewise\[export\]'"):
        open_checkpoint(name)
