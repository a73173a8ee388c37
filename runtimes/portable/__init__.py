"""The graphs for TensorRT on a CPU: the same plan, run by ONNX Runtime."""

from runtimes.portable.engine import PortableEngine

__all__ = ["PortableEngine"]
