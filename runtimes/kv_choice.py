"""What an engine keeps keys and values as: by what it can, what was asked for, and what the artifact has."""

from __future__ import annotations

from collections.abc import Sequence

from edge.artifact import Artifact, planned_kv, stored_kv_type
from edge.artifact.pages import KV_NAMES
from edge.errors import EngineError, InvalidArgument


def chosen_kv(kv: str | None, artifact: Artifact, engine: str, variant: str, able: Sequence[str]) -> str:
    """The type that goes by the name `kv` on `engine`, which runs the variant for `variant` and keeps what is `able`.

    None is what the artifact has, or was planned with for its board, or else the first of `able`.

    Raises:
        InvalidArgument: there is none.
        EngineError: this engine does not keep them so, or not of this artifact.
    """
    if kv is not None and kv not in KV_NAMES:
        raise InvalidArgument(f"kv is {kv!r}; choose one of {', '.join(KV_NAMES)}")
    stored = stored_kv_type(artifact.manifest, variant)
    planned = KV_NAMES.get(planned_kv(artifact.manifest) or "")
    chosen = KV_NAMES[kv] if kv is not None else stored or planned or able[0]
    if chosen not in able:
        names = ", ".join(name for name, kind in KV_NAMES.items() if kind in able)
        raise EngineError(
            f"the {engine} engine keeps KV as {names}, not {kv or chosen}; choose one of these, or engine cpu"
        )
    if stored not in (None, chosen):
        had = next((name for name, kind in KV_NAMES.items() if kind == stored), stored)
        raise EngineError(
            f"{artifact.path} keeps KV as {had}, not {kv}: for the {engine} engine that is settled at export; "
            f"export it again with --kv {kv}, or load it without kv"
        )
    return chosen
