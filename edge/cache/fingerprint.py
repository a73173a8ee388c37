"""The fingerprint: what KV depends on besides the tokens."""

from __future__ import annotations

import json
from dataclasses import asdict
from hashlib import sha256

from edge.artifact import Artifact
from edge.artifact.pages import PAGES_VERSION
from edge.version import VERSION
from runtimes.protocol import Engine


def fingerprint(artifact: Artifact, engine: Engine) -> str:
    """32 hexadecimal digits of weights and graph, the engine with its version and instruction set, the layout of KV.

    KV of one fingerprint is the same to the bit for the same tokens, on the `cpu` engine.
    """
    variant = artifact.variant(engine.variant)
    hashes = {entry.path: entry.sha256 for entry in artifact.manifest.files}
    parts = {
        "files": [hashes[name] for name in (variant.model, *variant.files)],
        "engine": [engine.name, engine.version, engine.isa, VERSION],
        "kv": [PAGES_VERSION, *(asdict(group) for group in engine.kv)],
    }
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
