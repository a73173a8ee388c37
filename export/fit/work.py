"""The folder of an unfinished export: what is done is there, whole, and is not done again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import InvalidArgument
from export.graph.weights_file import writing
from export.quantize import Quantized
from export.quantize.method import Rows

_OPTIONS = "options.json"


class Work:
    """Codes, vectors and the state of a fitting below `path`. A file appears whole or not at all.

    Raises:
        StorageError: the disk is full or refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def begin(cls, path: Path, options: Mapping[str, Any], *, restart: bool) -> Work:
        """The folder at `path` for a fitting with `options`: the one that is there if it was begun with the same.

        Raises:
            InvalidArgument: it was begun with others, and `restart` is not set.
        """
        work, wanted = cls(path), json.loads(json.dumps(options))
        if restart:
            work.remove()
        before = work.read(_OPTIONS)
        if before is None:
            # Without options it was hardly begun.
            work.remove()
            with writing(path):
                path.mkdir(parents=True)
            work.write(_OPTIONS, wanted)
        elif before != wanted:
            keys = sorted(key for key in {*before, *wanted} if before.get(key) != wanted.get(key))
            changed = "; ".join(f"{key} was {before.get(key)}, is {wanted.get(key)}" for key in keys)
            raise InvalidArgument(
                f"{path} holds an export that was interrupted, with other options ({changed}); "
                "go on with the same ones, or begin anew with --restart"
            )
        return work

    def remove(self) -> None:
        """Take the folder away."""
        with writing(self.path):
            if self.path.is_dir():
                shutil.rmtree(self.path)

    def read(self, name: str) -> Any:
        """The JSON of a file, None if it is not there or is none."""
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def write(self, name: str, data: Any) -> None:
        """Write a file of JSON."""
        self._replace(name, lambda part: part.write_text(json.dumps(data, indent=1), encoding="utf-8"))

    def array(self, name: str) -> NDArray[Any] | None:
        """An array that was stored, mapped, or None."""
        try:
            return np.asarray(np.load(self.path / f"{name}.npy", mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError):
            return None

    def store(self, name: str, array: NDArray[Any]) -> None:
        """Keep an array under a name."""

        def save(part: Path) -> None:
            with part.open("wb") as file:
                np.save(file, array, allow_pickle=False)

        self._replace(f"{name}.npy", save)

    def codes(self, tensor: str) -> Quantized | None:
        """What was stored of a matrix, mapped, or None."""
        codes, scales = self.array(f"{tensor}.codes"), self.array(f"{tensor}.scales")
        if codes is None or scales is None:
            return None
        return Quantized(codes, scales, self.array(f"{tensor}.zeros"))

    def store_codes(self, tensor: str, found: Quantized) -> None:
        """Keep what a matrix was quantized to."""
        if found.zeros is not None:
            self.store(f"{tensor}.zeros", found.zeros)
        self.store(f"{tensor}.codes", found.codes)
        self.store(f"{tensor}.scales", found.scales)

    def vector(self, name: str) -> Rows | None:
        """A norm or bias that takes the place of the checkpoint's, or None."""
        return self.array(f"{name}.vector")

    def store_vector(self, name: str, values: Rows) -> None:
        """Keep a norm or bias that takes the place of the checkpoint's."""
        self.store(f"{name}.vector", values)

    def _replace(self, name: str, write: Any) -> None:
        part = self.path / f"{name}.part"
        with writing(self.path):
            try:
                write(part)
                os.replace(part, self.path / name)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
