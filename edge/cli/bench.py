"""`edge bench`: the speed and memory of an artifact on this machine."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.artifact import KvGroup, Manifest
from edge.cli.decoder import load_decoder
from edge.cli.options import artifact_argument, engine_options
from edge.cli.output import output_options, print_json, print_table, remark, seconds, size
from edge.conditions.words import condition_rows
from edge.errors import InvalidArgument
from edge.memory.usage import peak_rss_bytes

if TYPE_CHECKING:
    from edge.conditions.meters import Phases
    from edge.conditions.recorder import Recorder
    from edge.model import Model


@dataclass(frozen=True)
class Round:
    """One measured answer: seconds, and tokens per second."""

    ttft_s: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    kv_bytes: int


@click.command("bench")
@artifact_argument
@click.option("--prompt-tokens", default=512, show_default=True, metavar="N", help="Tokens to prefill.")
@click.option("--decode-tokens", default=128, show_default=True, metavar="N", help="Tokens to decode then.")
@click.option("--rounds", default=5, show_default=True, metavar="N", help="Measured rounds; medians count.")
@engine_options
@output_options
def command(
    artifact: Path,
    prompt_tokens: int,
    decode_tokens: int,
    rounds: int,
    loading: dict[str, Any],
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure prefill, decode and memory of an artifact on this machine.

    Decoding is bound by memory: for every token all weights and the KV so far are read once. It shows how fast this
    machine reads memory, measured just then, and how much of that decoding reached. The last lines say under what
    conditions: board, power mode, heat, whether it was throttled, and energy where the board measures it.

    \b
    Example:
      edge bench smollm2.edge --prompt-tokens 512 --decode-tokens 128 --threads 2
    """
    for name, value in (
        ("--prompt-tokens", prompt_tokens),
        ("--decode-tokens", decode_tokens),
        ("--rounds", rounds),
    ):
        least = 2 if name == "--decode-tokens" else 1
        if value < least:
            raise InvalidArgument(f"{name} is {value}; give {least} or more")
    from edge.conditions.machine import machine_report
    from edge.conditions.meters import Phases
    from edge.conditions.recorder import Recorder

    machine = machine_report()
    with load_decoder(artifact, loading) as model:
        if prompt_tokens + decode_tokens > model.engine.context:
            raise InvalidArgument(
                f"{prompt_tokens} prompt tokens and {decode_tokens} decoded ones are more than the context "
                f"of {model.engine.context}; lower --prompt-tokens or --decode-tokens"
            )
        done = []
        with Recorder() as recorder:
            for number in range(rounds + 1):
                # The first run pays for pages not yet read.
                phases = recorder.phases if number else Phases.none()
                measured = _measure(model, prompt_tokens, decode_tokens, number, recorder, phases)
                if number == 0:
                    continue
                done.append(measured)
                if not (quiet or as_json):
                    remark(
                        f"round {number} of {rounds}: prefill {measured.prefill_tokens_per_s:.0f}, "
                        f"decode {measured.decode_tokens_per_s:.1f} tokens/s"
                    )
        report = _report(model, done, prompt_tokens, decode_tokens)
        report["conditions"] = machine | recorder.report()
    if as_json:
        print_json(report)
    else:
        _print_report(report)


def _measure(
    model: Model, prompt_tokens: int, decode_tokens: int, seed: int, recorder: Recorder, phases: Phases
) -> Round:
    # Other tokens each round, so that nothing can be reused.
    prompt = random.Random(seed).choices(range(model.spec.vocab_size), k=prompt_tokens)
    # Private: what another round has read is of no use here.
    generation = model.generate(
        prompt, max_tokens=decode_tokens, temperature=0, ignore_eos=True, private=True
    )
    start = recorder.mark()
    tokens = generation.tokens()
    next(tokens)
    first = recorder.mark()  # between two tokens, which is not counted in their rates
    for _ in tokens:
        pass
    phases.add(start, first, recorder.mark(), prompt_tokens, decode_tokens - 1)
    timings = generation.timings
    return Round(
        timings.ttft_s, timings.prefill_tokens_per_s, timings.decode_tokens_per_s, generation.kv_bytes
    )


def bytes_per_token(manifest: Manifest, groups: Sequence[KvGroup], held: int) -> int:
    """Bytes read to decode a token behind `held` tokens: weights, and KV as far as each window reaches."""
    kv = sum(g.bytes_per_token * (min(held, g.window) if g.window else held) for g in groups)
    return manifest.decode_bytes + kv


def _report(model: Model, rounds: Sequence[Round], prompt_tokens: int, decode_tokens: int) -> dict[str, Any]:
    def median(name: str) -> float:
        return float(statistics.median(getattr(r, name) for r in rounds))

    peak = peak_rss_bytes()  # before the bandwidth's buffer counts too
    per_token = bytes_per_token(model.artifact.manifest, model.engine.kv, prompt_tokens + decode_tokens // 2)
    from edge.memory.bandwidth import read_bandwidth

    bandwidth = read_bandwidth(model.engine.threads)
    return {
        "engine": model.engine.name,
        "isa": model.engine.isa,
        "threads": model.engine.threads,
        "kv": model.engine.kv[0].type,
        "rounds": len(rounds),
        "prompt_tokens": prompt_tokens,
        "completion_tokens": decode_tokens,
        "timings": {
            "load_s": model.load_s,
            "ttft_s": median("ttft_s"),
            "prefill_tokens_per_s": median("prefill_tokens_per_s"),
            "decode_tokens_per_s": median("decode_tokens_per_s"),
        },
        "memory": {
            "peak_rss_bytes": peak,
            "kv_bytes": max(r.kv_bytes for r in rounds),
            "weight_bytes": model.engine.weight_bytes,
        },
        "bytes_per_token": per_token,
        "bandwidth_bytes_per_s": bandwidth,
        "bandwidth_fraction": median("decode_tokens_per_s") * per_token / bandwidth,
    }


def _print_report(report: dict[str, Any]) -> None:
    timings, memory = report["timings"], report["memory"]
    threads = f"{report['threads']} thread{'s' * (report['threads'] != 1)}"
    print_table(
        [
            ("engine", ", ".join(filter(None, (report["engine"], report["isa"], threads)))),
            ("load", seconds(timings["load_s"])),
            (
                "prefill",
                f"{timings['prefill_tokens_per_s']:.0f} tokens/s over {report['prompt_tokens']} tokens",
            ),
            ("first token", seconds(timings["ttft_s"])),
            (
                "decode",
                f"{timings['decode_tokens_per_s']:.1f} tokens/s over {report['completion_tokens']} tokens",
            ),
            (
                "memory",
                f"{size(memory['peak_rss_bytes'])} peak; "
                f"weights {size(memory['weight_bytes'])}, KV {size(memory['kv_bytes'])} ({report['kv']})",
            ),
            ("read per token", size(report["bytes_per_token"])),
            ("read bandwidth", f"{size(report['bandwidth_bytes_per_s'])}/s here, {threads}"),
            ("reached", f"{100 * report['bandwidth_fraction']:.0f}% of it while decoding"),
            *condition_rows(report["conditions"]),
        ]
    )
