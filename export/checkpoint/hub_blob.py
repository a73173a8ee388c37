"""One large file of a hub repository, fetched into the client's cache so that a later run goes on with it.

The hub's client keeps a part of a file only while it runs; here it stays beside the finished blobs.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
from pathlib import Path
from typing import Any

from edge.errors import CheckpointCorrupt
from export.checkpoint.dependency import dependency

_NAME = re.compile(r"[A-Za-z0-9-]{8,128}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PART = ".edgewise-part"


def fetch_blob(repository: str, file: Any, endpoint: str | None, bar: Any) -> None:
    """Fetch `file`, an entry of the client's dry run, from where an earlier run stopped.

    The client links the blob into the snapshot. A file that another process is fetching is left to it.
    `bar` is the class of progress bars that the client is given.

    Raises:
        CheckpointCorrupt: the bytes are not those the hub promised.
        OSError and the client's errors.
    """
    hub, download = dependency("huggingface_hub"), dependency("huggingface_hub.file_download")
    url = hub.hf_hub_url(repository, file.filename, revision=file.commit_hash, endpoint=endpoint)
    promised = hub.get_hf_file_metadata(url, endpoint=endpoint)
    if promised.etag is None or not _NAME.fullmatch(promised.etag):
        return
    blobs = Path(file.local_path).parent.parent.parent / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    part = blobs / (promised.etag + _PART)
    with part.open("ab") as out:
        try:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if promised.size is not None and out.tell() > promised.size:
            out.truncate(0)
        download.http_get(
            url,
            out,
            resume_size=out.tell(),
            headers=dependency("huggingface_hub.utils").build_hf_headers(),
            expected_size=promised.size,
            displayed_filename=file.filename,
            tqdm_class=bar,
        )
        out.flush()
        if _SHA256.fullmatch(promised.etag) and _sha256(part) != promised.etag:
            part.unlink()
            raise CheckpointCorrupt(
                f"{repository}: {file.filename} has not the sha256 {promised.etag} that the hub gives; "
                "run the same command again, it fetches the file anew"
            )
        part.replace(blobs / promised.etag)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
