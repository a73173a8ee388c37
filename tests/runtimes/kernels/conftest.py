"""The built library and its C functions, for tests of the kernels from Python."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

import pytest

from edge.errors import EdgeError
from runtimes.kernels.library import Library, load_library
from tests.runtimes.kernels.functions import Functions

# Set where a library must be there: then nothing is skipped.
REQUIRED = "EDGEWISE_TEST_KERNELS"


@pytest.fixture(scope="session")
def library() -> Library:
    """Skips where the library of kernels is not built."""
    try:
        return load_library()
    except EdgeError as e:
        if REQUIRED in os.environ:
            raise
        pytest.skip(str(e))


@pytest.fixture(scope="session")
def functions(library: Library) -> Iterator[Functions]:
    """Its C functions; the instruction set is the best again afterwards."""
    found = Functions(ctypes.CDLL(str(library.path)))
    yield found
    found.use("auto")
