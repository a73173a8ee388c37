"""The memory that a plan foresees beside the peak that a process reaches.

    python -m bench.memory_plan smollm2.edge qwen25.edge --contexts 512 4096 8192

Each line is a process of its own: it loads the artifact for so many tokens, reads text until 16 are left, decodes
those, and does so again with another text, the first in the prefix cache. The peak is the kernel's (VmHWM), mapped
files included; the plan's reserve is left out, nobody takes it.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.generate import Generation
    from edge.model import Model

_DECODED = 16
_CHILD = """
import sys
from bench.memory_plan import measure
measure(sys.argv[1], int(sys.argv[2]), sys.argv[3] or None)
"""


@dataclass(frozen=True)
class Peak:
    """Of one run, in bytes."""

    artifact: str
    context: int
    kv: str
    planned: int
    peak: int
    planned_kv: int
    kv_bytes: int

    @property
    def ratio(self) -> float:
        """What was reached ÷ what was planned."""
        return self.peak / self.planned


def run(artifact: str, context: int, kv: str | None = None) -> Peak:
    """Measure in a new process."""
    command = [sys.executable, "-c", _CHILD, artifact, str(context), kv or ""]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Peak(**json.loads(done.stdout))


def fill(model: Model, decoded: int) -> Generation:
    """Use all that was planned: the tokenizer, and the context to its end, the last `decoded` tokens as an answer.

    Twice, so that the prefix cache has the one conversation while the other is read.
    """
    model.encode("The tokenizer is part of what is planned.")
    for seed in range(2):
        prompt = random.Random(seed).choices(range(model.spec.vocab_size), k=model.engine.context - decoded)
        generation = model.generate(prompt, max_tokens=decoded, temperature=0, ignore_eos=True)
        for _ in generation.tokens():
            pass
    return generation


def measure(artifact: str, context: int, kv: str | None) -> None:
    """Run here, and print the Peak as JSON."""
    import edge
    from edge.memory.usage import peak_rss_bytes

    with edge.load(artifact, context=context, kv=kv) as model:
        assert model.plan is not None
        required = model.plan.required
        generation = fill(model, _DECODED)
        peak = Peak(
            artifact=model.artifact.manifest.name,
            context=context,
            kv=model.engine.kv[0].type,
            planned=required.total - required.reserve,
            peak=peak_rss_bytes(),
            planned_kv=required.kv,
            kv_bytes=generation.kv_bytes,
        )
    print(json.dumps(asdict(peak)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifacts", nargs="+")
    parser.add_argument("--contexts", nargs="+", type=int, default=[512, 4096, 8192])
    parser.add_argument("--kv", choices=["fp32", "fp16", "int8", "int4"])
    options = parser.parse_args(arguments)
    print("| artifact | context | KV | planned MiB | peak MiB | peak ÷ planned |\n|---|---|---|---|---|---|")
    for artifact in options.artifacts:
        for context in options.contexts:
            p = run(artifact, context, options.kv)
            sizes = f"{p.planned / 2**20:.0f} | {p.peak / 2**20:.0f} | {p.ratio:.3f}"
            print(f"| {p.artifact} | {p.context} | {p.kv} | {sizes} |", flush=True)


if __name__ == "__main__":
    main()
