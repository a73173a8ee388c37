"""ONNX Runtime's own reports of its use: switched off before it is loaded, so that nothing leaves the board."""

from __future__ import annotations

import os

VARIABLE = "ORT_DISABLE_TELEMETRY"


def silence() -> None:
    """Have an onnxruntime that is imported from now on report nothing; who has set the variable keeps it so.

    From 1.29 on the wheels for Linux upload how they are used, write an identifier below ~/.cache and read this
    variable once, when they are loaded (onnxruntime#27379); the call of their API that stops it later leaves a report
    of the process out.
    """
    os.environ.setdefault(VARIABLE, "1")
