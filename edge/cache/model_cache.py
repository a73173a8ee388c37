"""What a model keeps of its conversations: in memory, for whoever begins alike, and in a folder."""

from __future__ import annotations

import logging
import weakref
from pathlib import Path

from edge.artifact import Artifact
from edge.cache.disk import DiskStore
from edge.cache.fingerprint import fingerprint
from edge.cache.folder import default_folder, disk_budget, make_folder
from edge.cache.policy import Window
from edge.cache.prefix import PrefixCache
from edge.cache.saved import SavedSession
from edge.cache.session import Session
from edge.errors import InvalidArgument, StorageError
from edge.memory.plan import Plan
from edge.memory.pressure import Pressure
from runtimes.protocol import Engine

_log = logging.getLogger("edgewise.cache")


class ModelCache:
    """The sessions of `engine`, the prefix cache where there is one, and the folder `store`."""

    def __init__(
        self,
        engine: Engine,
        prefix: PrefixCache | None = None,
        store: Path | None = None,
        model: tuple[str, str] = ("", ""),
    ) -> None:
        self.prefix = prefix
        self.store = store
        self.pressure: Pressure | None = None
        self.window: Window | None = None
        """Of new sessions."""
        self._engine = engine
        self._name, self._fingerprint = model
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()

    @classmethod
    def of(
        cls, artifact: Artifact, engine: Engine, plan: Plan, store: Path | None, disk: int | str
    ) -> ModelCache:
        """For an artifact that was admitted with `plan`; its KV gives way to conversations, and to other processes.

        Raises:
            InvalidArgument: `disk` is no size.
        """
        name, made = artifact.manifest.name, fingerprint(artifact, engine)
        budget = disk_budget(store, disk) if store is not None else 0
        prefix = None
        if plan.needs.shares_prefixes and (plan.required.prefix_cache or budget):
            blocks = DiskStore(store, made, name, budget) if store is not None and budget else None
            prefix = PrefixCache(made, plan.required.prefix_cache, blocks)
        found = cls(engine, prefix, store, (name, made))
        # Weakly: a model that is dropped is gone at once, not when cycles are next looked for.
        itself = weakref.ref(found)

        def release(nbytes: int) -> int:
            alive = itself()
            return alive.release(nbytes) if alive is not None else 0

        found.pressure = Pressure(plan, release)
        engine.budget.reclaim = release
        engine.budget.guard = found.pressure.admit
        found.pressure.watch()
        return found

    def new_session(self, private: bool = False) -> Session:
        """An empty session; a private one shares nothing with others."""
        session = Session(self._engine, None if private else self.prefix, self.window)
        self._sessions.add(session)
        return session

    def saved_session(self, name: str) -> SavedSession:
        """The session of that name on the disk, locked for this process.

        Raises:
            InvalidArgument: no name for a file, or there is no folder.
            SessionInUse, StorageError
        """
        if self.store is None:
            raise InvalidArgument(
                f'session {name!r} needs a folder to be kept in; load the model with store="auto"'
            )
        return SavedSession(self.store, name, self._fingerprint, self._name)

    def release(self, nbytes: int) -> int:
        """Give back `nbytes` of memory, or what there is: blocks of the prefix cache first, then idle sessions.

        Returns:
            Bytes given back.
        """
        freed = self.prefix.release(nbytes) if self.prefix is not None else 0
        for session in list(self._sessions):
            if freed >= nbytes:
                break
            freed += session.park()
        return freed

    def close(self) -> None:
        """Write to the disk what is wanted there, and give all memory of the prefix cache back."""
        if self.pressure is not None:
            self.pressure.close()
        if self.prefix is not None:
            self.prefix.close()


def open_folder(store: str | Path | None) -> Path | None:
    """The folder that `edge.load` was told; where `auto` cannot be written it is done without, with a warning.

    Raises:
        StorageError: a folder that was named cannot be written.
    """
    if store is None:
        return None
    if store != "auto":
        return make_folder(Path(store))
    try:
        return make_folder(default_folder())
    except StorageError as e:
        _log.warning("%s", e)
        return None
