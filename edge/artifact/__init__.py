"""The artifact: the folder in which the exporter and the runtime meet."""

from edge.artifact.folder import Artifact, open_artifact
from edge.artifact.manifest import FORMAT, MANIFEST, FileEntry, KvGroup, Manifest, Part, Variant
from edge.artifact.spec import ModelSpec, Rope

__all__ = [
    "FORMAT",
    "MANIFEST",
    "Artifact",
    "FileEntry",
    "KvGroup",
    "Manifest",
    "ModelSpec",
    "Part",
    "Rope",
    "Variant",
    "open_artifact",
]
