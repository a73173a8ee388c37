"""ONNX Runtime as an engine."""

from runtimes.onnxruntime.engine import OnnxRuntimeEngine

__all__ = ["OnnxRuntimeEngine"]
