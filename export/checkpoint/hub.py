"""Checkpoints of the Hugging Face hub, fetched by the hub's own client into its cache."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge.errors import CheckpointNotFound
from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.dependency import dependency
from export.checkpoint.folder import open_folder

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

_BYTES_BAR = "huggingface_hub.snapshot_download"


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
    folder = download(match[1], match[2], progress)
    checkpoint = open_folder(folder, hub_id)
    provenance = {**checkpoint.provenance, "repository": match[1], "revision": folder.name}
    return replace(checkpoint, provenance=provenance)


def download(repository: str, revision: str | None, progress: Progress | None) -> Path:
    """Fetch the files an export needs and return their folder in the hub's cache; errors as `open_hub`."""
    hub, errors = dependency("huggingface_hub"), dependency("huggingface_hub.errors")
    try:
        folder = hub.snapshot_download(
            repository,
            revision=revision,
            allow_patterns=WANTED,
            endpoint=os.environ.get("HF_ENDPOINT") or None,
            tqdm_class=_bar(progress),
        )
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
    return Path(folder)


def _bar(progress: Progress | None) -> Any:
    """A progress bar in the client's form that hands bytes to `progress` and draws nothing."""
    base = dependency("huggingface_hub.utils").tqdm

    class Bar(base):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # Of the bars of a snapshot this one counts the bytes of all files, those fetched before included.
            self._reports = kwargs.get("name") == _BYTES_BAR and kwargs.get("unit") == "B"
            self._done = 0
            super().__init__(*args, **{**kwargs, "disable": True})
            self.total = kwargs.get("total")

        def update(self, n: float | None = 1) -> bool | None:
            self._done += int(n or 0)
            if self._reports and progress is not None:
                progress("download", self._done, max(self._done, int(self.total or 0)))
            return None

    return Bar


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
