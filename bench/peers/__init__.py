"""Edgewise beside other runtimes, in interleaved runs."""
