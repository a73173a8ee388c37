"""Engines whose graphs have caches of fixed sizes: all that is decided, over a device that computes."""
