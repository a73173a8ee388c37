"""Benchmarks: how fast, how large, how close."""
