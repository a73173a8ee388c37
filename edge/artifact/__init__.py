"""The artifact: the folder in which the exporter and the runtime meet."""

from edge.artifact.folder import Artifact, GraphArtifact, open_any, open_artifact
from edge.artifact.graphs import GraphEntry, GraphsManifest, GraphTensor
from edge.artifact.kv import kv_groups, kv_layers, planned_kv, stored_kv_type
from edge.artifact.manifest import FIDELITY, FORMAT, MANIFEST, FileEntry, KvGroup, Manifest, Part, Variant
from edge.artifact.spec import ModelSpec, Rope

__all__ = [
    "FIDELITY",
    "FORMAT",
    "MANIFEST",
    "Artifact",
    "FileEntry",
    "GraphArtifact",
    "GraphEntry",
    "GraphTensor",
    "GraphsManifest",
    "KvGroup",
    "Manifest",
    "ModelSpec",
    "Part",
    "Rope",
    "Variant",
    "kv_groups",
    "kv_layers",
    "open_any",
    "open_artifact",
    "planned_kv",
    "stored_kv_type",
]
