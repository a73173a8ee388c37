"""An NVIDIA GPU, whatever runs graphs on it: memory, copies, a stream."""
