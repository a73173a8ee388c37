"""Our own operators for the CPU: a C++ library that ONNX Runtime loads, and the `cpu` engine that asks it to.

The sources are in `src/`; `scripts/kernels` builds them into `lib/`. `library.py` finds and checks the library,
`engine.py` opens sessions with it. Importing this loads nothing.
"""
