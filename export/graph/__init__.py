"""The ONNX builder and its dialects."""
