"""Checkpoints of the Hugging Face hub, fetched by the hub's own client into its cache."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge.errors import CheckpointNotFound
from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.dependency import dependency
from export.checkpoint.folder import open_folder
from export.checkpoint.hub_blob import fetch_blob

Progress = Callable[[str, int, int], None]
"""Called with the stage ("download"), the bytes fetched so far and, as far as known, in all."""

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
HUB_ID = re.compile(rf"({_NAME}/{_NAME})(?:@([A-Za-z0-9][A-Za-z0-9._/-]{{0,254}}))?")

WANTED = [
    "config.json",
    "generation_config.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.*",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*.safetensors",
]

# Of the client's bars these two count bytes: of a whole snapshot, and of one file.
_BYTES_BARS = ("huggingface_hub.snapshot_download", "huggingface_hub.http_get")
_LARGE = 32 << 20


def open_hub(hub_id: str, progress: Progress | None = None) -> Checkpoint:
    """The checkpoint `org/name` or `org/name@revision`; an interrupted download goes on where it stopped.

    HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE mean what they mean to the hub's client.

    Raises:
        CheckpointNotFound: not on the hub, not open to you, or the hub cannot be reached.
        CheckpointCorrupt, TensorError, Unsupported: see `export.checkpoint.open_checkpoint`.
    """
    match = HUB_ID.fullmatch(hub_id)
    if match is None:
        raise CheckpointNotFound(f"{hub_id!r:.200} is no hub id; write org/name or org/name@revision")
    folder = download(match[1], match[2], progress or (lambda stage, done, total: None))
    if not (folder / "config.json").is_file():
        raise CheckpointNotFound(
            f"{hub_id}: there is no config.json in this repository; choose one with config.json and "
            "safetensors, or download its GGUF and name that file"
        )
    checkpoint = open_folder(folder, hub_id)
    provenance = {**checkpoint.provenance, "repository": match[1], "revision": folder.name}
    return replace(checkpoint, provenance=provenance)


def download(
    repository: str, revision: str | None, progress: Progress, wanted: Sequence[str] = WANTED
) -> Path:
    """Fetch `wanted`, by default what an export needs; the folder in the hub's cache. Errors as `open_hub`."""
    hub, errors = dependency("huggingface_hub"), dependency("huggingface_hub.errors")
    try:
        return _fetch(hub, errors, repository, revision, progress, wanted)
    except errors.GatedRepoError as e:
        raise CheckpointNotFound(
            f"{repository}: the repository is gated; accept its terms on the hub and set HF_TOKEN"
        ) from e
    except errors.RevisionNotFoundError as e:
        raise CheckpointNotFound(
            f"{repository}: there is no revision {revision!r}; name a branch, a tag or a commit after the @"
        ) from e
    except errors.RepositoryNotFoundError as e:
        raise CheckpointNotFound(
            f"{repository}: there is no such folder, and no such repository on the hub; "
            "check the name, and set HF_TOKEN if it is private"
        ) from e
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as e:
        raise CheckpointNotFound(
            f"{repository}: not in the hub's cache, and the hub was not reached ({_first_line(e)}); "
            "connect, unset HF_HUB_OFFLINE, or name a folder or GGUF file instead"
        ) from e
    except (errors.HfHubHTTPError, errors.HTTPError, OSError, ValueError) as e:
        raise CheckpointNotFound(
            f"{repository}: the download failed ({_first_line(e)}); "
            "run the same command again, it goes on where it stopped"
        ) from e


def _fetch(
    hub: Any, errors: Any, repository: str, revision: str | None, progress: Progress, wanted: Sequence[str]
) -> Path:
    endpoint = os.environ.get("HF_ENDPOINT") or None
    options = {"repo_id": repository, "allow_patterns": list(wanted), "endpoint": endpoint}
    try:
        files = hub.snapshot_download(**options, revision=revision, dry_run=True, tqdm_class=_bar(_Meter()))
    except errors.DryRunError:
        # Without the hub the client may still have all of it, or knows why not.
        return Path(hub.snapshot_download(**options, revision=revision, tqdm_class=_bar(_Meter())))
    absent = [file for file in files if file.will_download]
    bar = _bar(_Meter(sum(file.file_size or 0 for file in absent), progress))
    for file in absent:
        if (file.file_size or 0) >= _LARGE and "/" not in file.filename:
            fetch_blob(repository, file, endpoint, bar)
    return Path(hub.snapshot_download(**options, revision=revision, tqdm_class=bar))


class _Meter:
    """Bytes fetched, of all files together."""

    def __init__(self, total: int = 0, progress: Progress | None = None) -> None:
        self._total, self._progress, self._done = total, progress, 0

    def add(self, nbytes: float) -> None:
        self._done += int(nbytes)
        if self._progress is not None and nbytes:
            self._progress("download", self._done, max(self._done, self._total))


def _bar(meter: _Meter) -> Any:
    """A class of progress bars in the client's form that tell `meter` their bytes and draw nothing."""
    base = dependency("huggingface_hub.utils").tqdm

    class Bar(base):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._counts = kwargs.get("name") in _BYTES_BARS and kwargs.get("unit") == "B"
            super().__init__(*args, **{**kwargs, "disable": True})
            self.total = kwargs.get("total")
            self.update(kwargs.get("initial") or 0)

        def update(self, n: float | None = 1) -> bool | None:
            if self._counts:
                meter.add(n or 0)
            return None

    return Bar


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
