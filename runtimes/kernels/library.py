"""The library of CPU kernels: found, checked, loaded once, registered with a session."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import EngineFailed, EngineTooOld, InvalidArgument, KernelsMissing
from edge.version import VERSION

BUILT = Path(__file__).with_name("lib") / "libedgewise_kernels.so"
VARIABLE = "EDGEWISE_KERNELS"
ISA_VARIABLE = "EDGEWISE_ISA"
LAYOUT = "panels"
MOST_THREADS = 256

_REBUILD = "build it again (scripts/kernels in a checkout, else reinstall edgewise)"
_MACHINES = {3: "x86", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv"}
_HEADER = 20

Array = NDArray[np.float32]


class _Pool(ctypes.Structure):
    """`edgewise_pool` of src/c_api.h."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("pages", ctypes.c_int64),
        ("page_bytes", ctypes.c_int64),
        ("type", ctypes.c_int32),
        ("summary", ctypes.c_int32),
    )


@dataclass(frozen=True)
class KernelPool:
    """Pages uint8 [pages, page_bytes], each of `heads` KV heads (layers · KV heads) of `dim` numbers."""

    data: NDArray[np.uint8]
    type: int
    heads: int
    dim: int


class Library:
    """A library that was loaded; it stays loaded for the process.

    Raises:
        EngineFailed: the file is no library, or one for another machine.
        EngineTooOld: another version of Edgewise built it.
        InvalidArgument: EDGEWISE_ISA names what is not known or what this CPU lacks.
    """

    def __init__(self, path: Path) -> None:
        _check_machine(path)
        try:
            self._functions = ctypes.CDLL(str(path))
            for name in ("edgewise_version", "edgewise_isa", "edgewise_isas"):
                getattr(self._functions, name).restype = ctypes.c_char_p
            self._functions.edgewise_layout_version.restype = ctypes.c_uint32
            self._functions.edgewise_set_isa.argtypes = [ctypes.c_char_p]
            self._functions.edgewise_set_threads.argtypes = [ctypes.c_int]
        except (OSError, AttributeError) as e:
            raise EngineFailed(
                f"{path} is no library of edgewise kernels that this system can load ({e}); {_REBUILD}"
            ) from None
        self.path = path
        self.version = self._text("edgewise_version")
        self.layout_version = int(self._functions.edgewise_layout_version())
        if self.version != VERSION:
            raise EngineTooOld(
                f"{path} was built from edgewise {self.version}, this is edgewise {VERSION}; {_REBUILD}"
            )
        self.use(os.environ.get(ISA_VARIABLE) or "auto")

    @property
    def isa(self) -> str:
        """The instruction set in use."""
        return self._text("edgewise_isa")

    @property
    def isas(self) -> list[str]:
        """The instruction sets that this CPU runs, the best last."""
        return self._text("edgewise_isas").split(",")

    def check_layout(self, layout: str, version: int, where: Path) -> None:
        """Check that the kernels read weights of this layout.

        Raises:
            EngineTooOld: they do not.
        """
        if (layout, version) != (LAYOUT, self.layout_version):
            raise EngineTooOld(
                f"{where}: its weights are in layout {layout or 'none'} {version}, edgewise {VERSION} reads "
                f"{LAYOUT} {self.layout_version}; export it again from the checkpoint, "
                "or use the edgewise that wrote it"
            )

    def register(self, options: Any, threads: int) -> None:
        """Give an onnxruntime.SessionOptions the operators; a session made by this thread next has `threads`.

        Raises:
            InvalidArgument: the kernels do not take so many threads.
            EngineFailed: onnxruntime refuses the library.
        """
        if self._functions.edgewise_set_threads(threads):
            raise InvalidArgument(f"threads is {threads}; the cpu engine takes from 1 to {MOST_THREADS}")
        try:
            options.register_custom_ops_library(str(self.path))
        except Exception as e:
            raise EngineFailed(f"onnxruntime refuses {self.path} ({e}); {_REBUILD}") from e

    def shift(self, pool: KernelPool, pages: Sequence[int], cos: Array, sin: Array, threads: int) -> None:
        """Turn every key of `pages` by the angle of cos and sin, float32 [head_dim / 2] each.

        Raises:
            EngineFailed: the kernels refuse.
        """
        numbers = np.array(pages, np.int32)
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (numbers, cos, sin)]
        outcome = self._functions.edgewise_shift(
            ctypes.byref(_Pool(pool.data.ctypes.data, *pool.data.shape, pool.type, 0)),
            ctypes.c_int32(pool.dim),
            ctypes.c_int32(pool.dim),
            ctypes.c_int64(pool.heads),
            pointers[0],
            ctypes.c_int64(len(numbers)),
            *pointers[1:],
            ctypes.c_int(threads),
        )
        if outcome:
            raise EngineFailed(f"the kernels refuse to move {len(numbers)} pages of KV (code {outcome})")

    def use(self, isa: str) -> None:
        """Compute with the instruction set `isa` from now on, `auto` for the best: the whole process, every session.

        Raises:
            InvalidArgument: it is unknown, or this CPU lacks it.
        """
        outcome = self._functions.edgewise_set_isa(isa.encode())
        if outcome:
            fault = "this CPU lacks" if outcome == 2 else "edgewise does not know"
            raise InvalidArgument(
                f"the instruction set ({ISA_VARIABLE}) is {isa!r}, which {fault}; choose one of {', '.join(self.isas)}"
            )

    def _text(self, function: str) -> str:
        value: bytes = getattr(self._functions, function)()
        return value.decode()


def load_library() -> Library:
    """The library: the file that EDGEWISE_KERNELS names, else the one in this package.

    Raises:
        KernelsMissing: there is none.
        InvalidArgument, EngineFailed, EngineTooOld: see `Library`.
    """
    named = os.environ.get(VARIABLE)
    path = Path(named) if named else BUILT
    if not path.is_file():
        if named:
            raise InvalidArgument(f"{VARIABLE} names {path}, which is no file; correct or unset it")
        raise KernelsMissing(
            f"the CPU kernels are not built ({path} is not there); build them with scripts/kernels in a checkout, "
            "or reinstall edgewise where a C++ compiler and cmake are; to do without, convert the artifact: "
            "edge convert ARTIFACT -o OUT --engine onnxruntime"
        )
    return _loaded(path.resolve())


@cache
def _loaded(path: Path) -> Library:
    return Library(path)


def _check_machine(path: Path) -> None:
    """The dynamic linker says "no such file" of a library for another machine: compare with this process."""
    try:
        with path.open("rb") as file:
            theirs = file.read(_HEADER)
        with open("/proc/self/exe", "rb") as file:
            ours = file.read(_HEADER)
    except OSError as e:
        raise EngineFailed(f"{path} cannot be read ({e.strerror}); {_REBUILD}") from None
    if len(theirs) < _HEADER or theirs[:4] != b"\x7fELF":
        raise EngineFailed(f"{path} is no shared library; {_REBUILD}")
    # Class, byte order and machine.
    if theirs[4:6] + theirs[18:20] != ours[4:6] + ours[18:20]:
        raise EngineFailed(
            f"{path} is a library for {_machine(theirs)}, this process runs on {_machine(ours)}; {_REBUILD}"
        )


def _machine(header: bytes) -> str:
    [number] = struct.unpack("<H" if header[5] == 1 else ">H", header[18:20])
    return _MACHINES.get(number, f"machine {number}")
