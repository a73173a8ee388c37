"""TensorRT as an engine: plans that were built of an artifact, and the device that runs them."""
