"""The engines under the runtime, behind one small protocol."""

from runtimes.protocol import Cache, CancelToken, Engine, LayerGroup, Logits, Step
from runtimes.select import ENGINES, open_engine
from runtimes.threads import default_threads

__all__ = [
    "ENGINES",
    "Cache",
    "CancelToken",
    "Engine",
    "LayerGroup",
    "Logits",
    "Step",
    "default_threads",
    "open_engine",
]
