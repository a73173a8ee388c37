"""Engines for TensorRT, built from the graphs of an artifact.

- `target`: what an engine is built for, by the name of a GPU or a board;
- `gate`: what a target's GPU can compute, and which TensorRT builds for it;
- `installed`: the TensorRT modules of this machine;
- `graph`: the graph of one bucket, and what its inputs may be;
- `need`: memory that a build takes;
- `worker`: the process that builds, with `builder`, which talks to TensorRT, and `nested`, its progress;
- `process`: that process, from outside;
- `place`: where an engine goes in the artifact;
- `build`: all of it.
"""
