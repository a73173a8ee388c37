"""Whether an engine works here, found out without an artifact."""

from __future__ import annotations

from dataclasses import dataclass

from edge.errors import EngineFailed
from runtimes.kernels.engine import CpuEngine
from runtimes.kernels.library import load_library
from runtimes.onnxruntime.session import onnxruntime, session_options

# An ONNX model of IR 8, opset 17: y = Identity(x), float [1].
_GRAPH = (
    b'\x08\x08:;\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x05trialZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x11"
)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """An engine that has loaded a graph and run it."""

    version: str
    """Of ONNX Runtime."""
    providers: tuple[str, ...]
    """What this build of ONNX Runtime could compute on; not all of them need work."""
    kernels: str = ""
    """Version of our operators, where the engine has them."""
    isa: str = ""
    """The instruction set that they use."""
    isas: tuple[str, ...] = ()
    """Those that this CPU runs, the best last."""


def try_engine(name: str) -> Trial:
    """Load a graph of one node with the engine `name`, its operators registered, and run it.

    Raises:
        MissingExtra, EngineError, InvalidArgument: it does not work here, and why.
    """
    import numpy as np

    ort = onnxruntime()
    options = session_options(ort, 1, spin=False)
    library = load_library() if name == CpuEngine.name else None
    if library is not None:
        library.register(options, 1)
    try:
        session = ort.InferenceSession(_GRAPH, options, providers=["CPUExecutionProvider"])
        [result] = session.run(None, {"x": np.array([0.5], np.float32)})
    except Exception as e:
        raise EngineFailed(
            f"onnxruntime {ort.__version__} fails on a graph of one node ({e}); install it again: "
            "pip install --force-reinstall onnxruntime"
        ) from e
    if result.tolist() != [0.5]:
        raise EngineFailed(
            f"onnxruntime {ort.__version__} computes {result.tolist()} where it should be [0.5]; install it again: "
            "pip install --force-reinstall onnxruntime"
        )
    return Trial(
        version=str(ort.__version__),
        providers=tuple(ort.get_available_providers()),
        kernels=library.version if library else "",
        isa=library.isa if library else "",
        isas=tuple(library.isas) if library else (),
    )
