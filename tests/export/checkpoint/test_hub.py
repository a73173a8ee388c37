"""Hub ids, with the hub's real client against a hub of ours on this machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import huggingface_hub.file_download
import numpy as np
import pytest

import export.checkpoint.hub
from edge.errors import CheckpointCorrupt, CheckpointNotFound
from export.checkpoint import open_checkpoint
from tests.export.checkpoint.conftest import Source
from tests.export.checkpoint.hub_server import COMMIT, Hub, serve

NAME = "edgewise/tiny-llama"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The client's cache in a folder of the test, small chunks, and no pause between its own attempts."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_XET_CACHE", str(tmp_path / "xet"), raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1 << 12)
    monkeypatch.setattr(export.checkpoint.hub, "_LARGE", 1 << 17)
    monkeypatch.setattr(huggingface_hub.file_download.time, "sleep", lambda seconds: None)
    return tmp_path / "cache"


@pytest.fixture
def hub(source: Source, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve(NAME, source.folder) as running:
        running.files["pytorch_model.bin"] = b"never fetched"
        running.files["README.md"] = b"never fetched"
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running


@pytest.mark.parametrize("name", [NAME, f"{NAME}@main", f"{NAME}@{COMMIT}"])
def test_a_hub_id_is_the_folder_behind_it(hub: Hub, source: Source, name: str) -> None:
    told: list[tuple[str, int, int]] = []
    checkpoint = open_checkpoint(name, progress=lambda *call: told.append(call))
    for key, tensor in checkpoint.tensors.items():
        np.testing.assert_array_equal(tensor.read(), source.state[key])
    assert checkpoint.source == name
    assert checkpoint.provenance == {"format": "safetensors", "repository": NAME, "revision": COMMIT}
    assert checkpoint.text.chat_template
    assert {stage for stage, _, _ in told} == {"download"}
    size = sum(len(data) for file, data in hub.files.items() if hub.fetched(file))
    assert told[-1] == ("download", size, size)
    assert all(done <= total for _, done, total in told)
    assert hub.fetched("model.safetensors") == [None]
    assert not hub.fetched("pytorch_model.bin")
    assert not hub.fetched("README.md")


def test_what_is_in_the_cache_is_not_fetched_again(hub: Hub) -> None:
    open_checkpoint(NAME)
    open_checkpoint(NAME)
    assert hub.fetched("model.safetensors") == [None]
    assert hub.fetched("config.json") == [None]


def test_an_interrupted_download_goes_on_where_it_stopped(hub: Hub, source: Source) -> None:
    hub.cut = "model.safetensors"
    with pytest.raises(CheckpointNotFound, match=r"the download failed .* goes on where it stopped"):
        open_checkpoint(NAME)
    before = len(hub.fetched("model.safetensors"))
    hub.broken = False
    checkpoint = open_checkpoint(NAME)
    resumed = hub.fetched("model.safetensors")[before:]
    half = len(hub.files["model.safetensors"]) // 2
    assert len(resumed) == 1
    assert resumed[0] is not None
    start = int(resumed[0].removeprefix("bytes=").split("-")[0])
    assert half - (1 << 12) <= start <= half
    for key, tensor in checkpoint.tensors.items():
        np.testing.assert_array_equal(tensor.read(), source.state[key])


def test_a_dropped_connection_is_taken_up_again_by_itself(hub: Hub, source: Source) -> None:
    hub.cut, hub.breaks = "model.safetensors", False
    told: list[int] = []
    checkpoint = open_checkpoint(NAME, progress=lambda stage, done, total: told.append(done))
    first, second = hub.fetched("model.safetensors")
    assert first is None
    assert second is not None
    assert second.startswith("bytes=")
    assert told == sorted(told)
    for key, tensor in checkpoint.tensors.items():
        np.testing.assert_array_equal(tensor.read(), source.state[key])


def test_a_part_that_was_damaged_is_thrown_away(hub: Hub, cache: Path) -> None:
    hub.cut = "model.safetensors"
    with pytest.raises(CheckpointNotFound):
        open_checkpoint(NAME)
    hub.broken = False
    (part,) = cache.rglob("*-part")
    part.write_bytes(b"\0" * part.stat().st_size)
    with pytest.raises(CheckpointCorrupt, match=r"model\.safetensors has not the sha256"):
        open_checkpoint(NAME)
    assert open_checkpoint(NAME).tensors
    assert not list(cache.rglob("*-part"))


REFUSALS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no repository": ({}, "edgewise/none", "no such repository on the hub; check the name"),
    "no revision": ({}, f"{NAME}@v9", "no revision 'v9'; name a branch"),
    "gated": ({"refusal": (403, "GatedRepo")}, NAME, "gated; accept its terms on the hub and set HF_TOKEN"),
    "private": ({"refusal": (401, "RepoNotFound")}, NAME, "set HF_TOKEN if it is private"),
    "hub in trouble": ({"refusal": (500, "")}, NAME, "connect, unset HF_HUB_OFFLINE"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_says_what_to_do(hub: Hub, case: str) -> None:
    options, name, message = REFUSALS[case]
    for key, value in options.items():
        setattr(hub, key, value)
    with pytest.raises(CheckpointNotFound, match=message):
        open_checkpoint(name)


def test_a_repository_without_weights_says_so(hub: Hub) -> None:
    del hub.files["model.safetensors"]
    with pytest.raises(CheckpointNotFound, match=r"neither model\.safetensors nor"):
        open_checkpoint(NAME)


def test_a_repository_with_nothing_of_a_checkpoint_says_so(hub: Hub) -> None:
    hub.files = {"model.Q4_K_M.gguf": b"GGUF"}
    with pytest.raises(CheckpointNotFound, match=rf"{NAME}: there is no config\.json in this repository"):
        open_checkpoint(NAME)


def test_no_network_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(CheckpointNotFound, match=r"hub was not reached .* connect"):
        open_checkpoint(NAME)


def test_offline_the_cache_still_serves(hub: Hub, source: Source, cache: Path, tmp_path: Path) -> None:
    open_checkpoint(NAME)
    shutil.move(cache, tmp_path / "home" / "hub")
    program = "import sys, export.checkpoint as c; print(len(c.open_checkpoint(sys.argv[1]).tensors))"
    environment = {
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "1",
        "HF_ENDPOINT": "http://127.0.0.1:1",
    }
    asked = len(hub.requests)

    def run(name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", program, name]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            env={**environment, "PYTHONPATH": str(Path.cwd())},
            check=False,
        )

    assert run(NAME).stdout.strip() == str(len(source.state))
    missing = run("edgewise/other")
    assert "CheckpointNotFound: edgewise/other: not in the hub's cache" in missing.stderr
    assert len(hub.requests) == asked
