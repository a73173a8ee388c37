"""The KV cache above the engine: sequences, the blocks they share, and what of them lies on the disk."""
