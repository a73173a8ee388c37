"""What a model keeps of its conversations: in memory, for whoever begins alike, and in a folder."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
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
from runtimes.budget import Budget
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
        """On the memory that sessions are in."""
        self.host_pressure: Pressure | None = None
        """On the host's, where sessions are on a card and the prefix cache is here."""
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
        if plan.needs.shares_prefixes and (plan.prefix_cache or budget):
            blocks = DiskStore(store, made, name, budget) if store is not None and budget else None
            prefix = PrefixCache(made, plan.prefix_cache, blocks)
        found = cls(engine, prefix, store, (name, made))
        # Weakly: a model that is dropped is gone at once, not when cycles are next looked for.
        itself = weakref.ref(found)

        def weakly(give_back: Callable[[ModelCache, int], int]) -> Callable[[int], int]:
            def given_back(nbytes: int) -> int:
                alive = itself()
                return give_back(alive, nbytes) if alive is not None else 0

            return given_back

        if engine.card is None:
            release = weakly(cls.release)
            found.pressure = _watch(engine.budget, Pressure(plan, release), release)
        else:
            park, forget = weakly(cls.park), weakly(cls.forget)
            found.pressure = _watch(engine.budget, Pressure(plan, park, card_free=engine.card.free), park)
            found.host_pressure = _watch(engine.card.copies, Pressure(plan, forget), forget)
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
        freed = self.forget(nbytes)
        return freed + self.park(nbytes - freed)

    def forget(self, nbytes: int) -> int:
        """The same from the prefix cache alone: where sessions are on a card, it is all that the host holds."""
        return self.prefix.release(nbytes) if self.prefix is not None else 0

    def park(self, nbytes: int) -> int:
        """The same from idle sessions alone."""
        freed = 0
        for session in list(self._sessions):
            if freed >= nbytes:
                break
            freed += session.park()
        return freed

    def close(self) -> None:
        """Write to the disk what is wanted there, and give all memory of the prefix cache back."""
        for pressure in (self.pressure, self.host_pressure):
            if pressure is not None:
                pressure.close()
        if self.prefix is not None:
            self.prefix.close()


def _watch(budget: Budget, pressure: Pressure, release: Callable[[int], int]) -> Pressure:
    """Have what is taken from `budget` be admitted by `pressure`, and `release` give back what it lacks."""
    budget.reclaim, budget.guard = release, pressure.admit
    pressure.watch()
    return pressure


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
