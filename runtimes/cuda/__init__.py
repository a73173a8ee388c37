"""The onnxruntime dialect in float16 on an NVIDIA GPU, run by ONNX Runtime."""

from runtimes.cuda.engine import CudaEngine

__all__ = ["CudaEngine"]
