"""What `edge plan` and `edge export` are given: a checkpoint that is still to be exported, or an artifact."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from edge.artifact import MANIFEST, Manifest, ModelSpec, open_artifact, stored_kv_type
from edge.artifact.kv import kv_names
from edge.artifact.pages import KV_NAMES
from edge.cli.extra import needs_exporter
from edge.cli.options import VARIANTS
from edge.errors import EngineError, InvalidArgument
from edge.memory.recipe import Held, Recipe, Recipes, Wishes, artifact_recipes, every, recipes
from edge.memory.room import Room
from edge.memory.weights import ENGINE_WEIGHTS, engine_for


@dataclass(frozen=True)
class PlannedSource:
    """A model, and the artifact that it is in already, if any."""

    name: str
    spec: ModelSpec
    held: Held
    artifact: Path | None = None
    manifest: Manifest | None = None
    engine: str = ""
    """Of the artifact, the variant that would be taken."""

    def recipes(self, room: Room, wishes: Wishes) -> Recipes:
        """What there is to choose from on a board: of an artifact its KV, unless other weights are asked for.

        Raises:
            InvalidArgument: the wishes do not go together, or not with the board.
        """
        if wishes.engine is not None and (lack := room.lacks(wishes.engine)):
            raise InvalidArgument(f"{lack}; leave the engine out for what it can run")
        if self.manifest is not None and not wishes.weights_settled:
            assert self.artifact is not None
            engine = wishes.engine or self.engine
            held = {variant.engine for variant in self.manifest.variants}
            if engine not in held:
                raise InvalidArgument(
                    f"{self.artifact} is for engine {', '.join(sorted(held))}, not {engine}; see edge convert, or add "
                    "--weights to plan another export"
                )
            check_stored_kv(self.artifact, self.manifest, engine, wishes.kv)
            return artifact_recipes(self.manifest, engine, wishes.kv)
        engine = wishes.engine or engine_for(wishes.weights, room.engine)
        if wishes.weights is not None and wishes.weights not in ENGINE_WEIGHTS[engine]:
            raise InvalidArgument(
                f"engine {engine} takes weights in {', '.join(ENGINE_WEIGHTS[engine])}, not {wishes.weights}; choose "
                "such weights, or engine onnxruntime"
            )
        check_kv(wishes.kv, engine)
        return recipes(self.spec, room.engine, wishes, self.held)

    def every(self, room: Room, engine: str | None = None) -> tuple[Recipe, ...]:
        """All recipes that there are for a board, with its own engine or another."""
        return every(self.spec, engine or room.engine)


def read_planned(source: str | Path) -> PlannedSource:
    """Of an artifact its manifest, of anything else its config; nothing of the weights.

    Raises:
        ArtifactError, CheckpointError, MissingExtra
        EngineError: the artifact is for no engine of ours.
    """
    path = Path(source)
    folder = path.parent if path.name == MANIFEST else path
    if (folder / MANIFEST).is_file():
        manifest = open_artifact(folder, check_files=False).manifest
        engine = engine_of(folder, manifest)
        return PlannedSource(manifest.name, manifest.spec, Held(), folder, manifest, engine)
    with needs_exporter("plan"):
        found = import_module("export.checkpoint").describe(source)
    name = path.parent.name if path.name == "config.json" else str(source).rstrip("/").rsplit("/", 1)[-1]
    return PlannedSource(name, found.spec, Held(found.bits, found.codes))


def engine_of(folder: Path, manifest: Manifest) -> str:
    """The engine that would run an artifact.

    Raises:
        EngineError: it is for none of ours.
    """
    held = {variant.engine for variant in manifest.variants}
    engine = next((name for name in VARIANTS if name in held), None)
    if engine is None:
        raise EngineError(f"{folder} has no variant for any of {', '.join(VARIANTS)}; export it again")
    return engine


def check_stored_kv(folder: Path, manifest: Manifest, engine: str, kv: str | None) -> None:
    """Raises InvalidArgument where an artifact has another KV than `kv`, and no load can change it."""
    stored, kind = stored_kv_type(manifest, engine), KV_NAMES.get(kv or "")
    if stored not in (None, kind or stored):
        had = next(name for name, of in KV_NAMES.items() if of == stored)
        raise InvalidArgument(
            f"--kv {kv} is not what {folder} has, {had}: for engine {engine} that is settled at export; "
            f"drop --kv, or export it again with --kv {kv}"
        )


def check_kv(kv: str | None, engine: str) -> None:
    """Raises InvalidArgument where the engine does not keep `kv`."""
    able = kv_names(engine)
    if kv is not None and kv not in able:
        raise InvalidArgument(
            f"--kv {kv} is not what engine {engine} keeps, {' or '.join(able)}; drop --kv, or choose another"
        )
