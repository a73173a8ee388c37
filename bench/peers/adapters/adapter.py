"""What every adapter shares: the phases that are measured, and the JSON line that is printed.

load      import and load, and the memory taken then; then 4 tokens behind a prompt of 16, unmeasured
decode    128 tokens behind a prompt of 128: tokens/s over all but the first
prefill   1 token behind a prompt of 512: 512 over the time to it
long      32 tokens behind a prompt of 4096: both rates

Greedy, one sequence, token ids in and out, end-of-text ignored. Every repetition reads another stretch of the
text, so that no prefix cache helps. Standard library only: the runtime's environment may have nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import traceback
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

_START = time.perf_counter()
_SHIFT = 37


class Adapter:
    """A runtime under test. The methods are called in this order."""

    name = ""

    def imports(self) -> None:
        """Import the runtime, so that importing and loading are timed apart."""

    def load(self, path: str, threads: int, context: int) -> None:
        """Load the model at `path`; no run holds more than `context` tokens, the answer included."""
        raise NotImplementedError

    def generate(self, ids: list[int], count: int) -> tuple[list[int], list[float]]:
        """Greedily generate exactly `count` tokens behind the prompt `ids`, from an empty cache.

        Returns the tokens, and for each the time.perf_counter() at which it was known.
        """
        raise NotImplementedError

    def decode_bytes(self, path: str) -> int | None:
        """Bytes of weights that one decoded token reads, the embedding's rows aside; None if unknown."""
        return None

    def version(self) -> str:
        """The runtime's version."""
        return "unknown"


@dataclass(frozen=True)
class Phase:
    """A prompt of `prompt` tokens and `new` tokens behind it."""

    prompt: int
    new: int
    repetitions: int


class Prompts:
    """Hands out stretches of a text, never the same twice until it is used up."""

    def __init__(self, ids: list[int], start: int) -> None:
        self._ids = ids
        self._at = start

    def take(self, count: int) -> list[int]:
        """The next `count` tokens."""
        if count > len(self._ids):
            raise ValueError(f"the prompts hold {len(self._ids)} tokens, and a run needs {count}")
        if self._at + count > len(self._ids):
            self._at = 0
        taken = self._ids[self._at : self._at + count]
        self._at += count
        return taken


def phases(names: list[str], repetitions: int) -> dict[str, Phase]:
    """The phases of these names."""
    known = {
        "decode": Phase(128, 128, repetitions),
        "prefill": Phase(512, 1, repetitions),
        "long": Phase(4096, 32, 1),
    }
    return {name: known[name] for name in names}


def measure(adapter: Adapter, options: argparse.Namespace) -> dict[str, Any]:
    """Load, run every phase, and return all that was measured."""
    chosen = phases(options.phases.split(","), options.repetitions)
    context = max(phase.prompt + phase.new for phase in chosen.values())
    with open(options.prompts) as file:
        prompts = Prompts(json.load(file)["ids"], options.round * _SHIFT)
    start = time.perf_counter()
    adapter.imports()
    imported = time.perf_counter()
    adapter.load(options.model, options.threads, context)
    loaded = time.perf_counter()
    memory = {"loaded": memory_mib()}
    _, first = adapter.generate(prompts.take(16), 4)
    result: dict[str, Any] = {
        "import_s": imported - start,
        "load_s": loaded - imported,
        "start_to_first_s": first[0] - _START,
        "phases": {},
        "memory": memory,
    }
    for name, phase in chosen.items():
        result["phases"][name] = [_run(adapter, prompts, phase) for _ in range(phase.repetitions)]
        memory[name] = memory_mib()
    result["decode_bytes"] = adapter.decode_bytes(options.model)
    result["version"] = adapter.version()
    return result


def _run(adapter: Adapter, prompts: Prompts, phase: Phase) -> dict[str, Any]:
    ids = prompts.take(phase.prompt)
    start = time.perf_counter()
    new, times = adapter.generate(ids, phase.new)
    if not len(new) == len(times) == phase.new:
        raise ValueError(f"{len(new)} tokens at {len(times)} times came back, and {phase.new} were asked for")
    run: dict[str, Any] = {
        "prefill_tokens_per_s": phase.prompt / (times[0] - start),
        "ttft_s": times[0] - start,
        "ids": new[:16],
    }
    if phase.new > 1:
        steps = [after - before for before, after in pairwise(times)]
        run["decode_tokens_per_s"] = len(steps) / (times[-1] - times[0])
        run["step_s_median"] = statistics.median(steps)
        run["step_s_least"] = min(steps)
    return run


def memory_mib() -> dict[str, float]:
    """MiB resident: the peak so far, and now, of which anonymous and of which mapped from files."""
    names = {"VmHWM": "peak", "VmRSS": "now", "RssAnon": "anonymous", "RssFile": "file"}
    found = {}
    with open("/proc/self/status") as status:
        for line in status:
            name, _, value = line.partition(":")
            if name in names:
                found[names[name]] = round(int(value.split()[0]) / 1024, 1)
    return found


def main(adapter: Adapter) -> None:
    """Measure `adapter` as the command line says; print one JSON object on stdout, all else on stderr."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument(
        "--prompts", required=True, help='JSON: {"ids": [...]}, token ids of an ordinary text'
    )
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--phases", default="decode,prefill")
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--round", type=int, default=0, help="moves the stretches of the text")
    options = parser.parse_args()
    # Runtimes print what they like on stdout, some of them past Python.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        result = {"ok": True, **measure(adapter, options)}
    except BaseException as e:
        traceback.print_exc()
        result = {"ok": False, "error": f"{type(e).__name__}: {e}"}
    out.write(json.dumps({"adapter": adapter.name, **result}) + "\n")
    out.flush()
    os._exit(0)  # no runtime's teardown may hang or crash the run
