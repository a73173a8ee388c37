"""What a prompt costs whose beginning was read before: time to first token beside that of a cold one.

    python -m bench.prefix_cache smollm2.edge [--shared 2000] [--new 16] [--rounds 5] [--kv int8]

A round is three processes in turn, each on prompts of its own: cold, from memory (the beginning was read by an earlier
request), and from the disk (by an earlier process; its files are in the page cache, as after a restart of a program).
Loading the model is left out; tokens of all three are compared.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

_CHILD = """
import json, sys
from bench.prefix_cache import measure
print(json.dumps([vars(each) for each in measure(*json.loads(sys.argv[1]))]))
"""
_ANSWER = 16


@dataclass(frozen=True)
class First:
    """Of one answer: seconds to the first token, prompt tokens found, and the tokens."""

    ttft_s: float
    cached: int
    tokens: list[int]


def measure(artifact: str, kv: str | None, store: str | None, prompts: list[list[int]]) -> list[First]:
    """Answer `prompts` here, one behind the other, after a short one that wakes the engine."""
    import edge

    with edge.load(artifact, kv=kv, store=store, context=2 * max(map(len, prompts))) as model:
        list(model.generate([1, 2, 3], max_tokens=2, private=True).tokens())
        found = []
        for prompt in prompts:
            answer = model.generate(prompt, max_tokens=_ANSWER, temperature=0, ignore_eos=True)
            tokens = list(answer.tokens())
            found.append(First(answer.timings.ttft_s, answer.cached_tokens, tokens))
        return found


def in_process(*arguments: object) -> list[First]:
    """`measure` in a new one."""
    command = [sys.executable, "-c", _CHILD, json.dumps(arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [First(**each) for each in json.loads(done.stdout)]


def rounds(artifact: str, kv: str | None, shared: int, new: int, count: int) -> list[dict[str, First]]:
    """Each of `count` rounds by where the beginning was found."""
    import edge

    vocabulary = edge.open_artifact(artifact).spec.vocab_size
    found = []
    for seed in range(count):
        words = random.Random(seed)
        base = words.choices(range(vocabulary), k=shared)
        earlier, prompt = (base + words.choices(range(vocabulary), k=new) for _ in range(2))
        with tempfile.TemporaryDirectory() as store:
            [cold] = in_process(artifact, kv, None, [prompt])
            _, memory = in_process(artifact, kv, None, [earlier, prompt])
            in_process(artifact, kv, store, [earlier])
            [disk] = in_process(artifact, kv, store, [prompt])
        found.append({"cold": cold, "memory": memory, "disk": disk})
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print medians as JSON: seconds, and each place's ratio to the cold answer of its own round."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifact")
    parser.add_argument("--kv", choices=["fp32", "fp16", "int8", "int4"])
    parser.add_argument("--shared", type=int, default=2000)
    parser.add_argument("--new", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    found = rounds(options.artifact, options.kv, options.shared, options.new, options.rounds)
    report: dict[str, object] = {
        "same_tokens": all(each[place].tokens == each["cold"].tokens for each in found for place in each)
    }
    for place in ("cold", "memory", "disk"):
        report[place] = {
            "ttft_s": statistics.median(each[place].ttft_s for each in found),
            "of_cold": statistics.median(each[place].ttft_s / each["cold"].ttft_s for each in found),
            "worst_of_cold": max(each[place].ttft_s / each["cold"].ttft_s for each in found),
            "cached_tokens": found[0][place].cached,
        }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
