"""TensorRT as an engine, and the plan of a run that needs no GPU to be made."""
