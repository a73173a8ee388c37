"""How fast prompts are read and tokens decoded with each KV type, at several lengths, and several sequences at once.

python -m bench.kv_speed ARTIFACT.edge [--kv fp32 --kv int8] [--held 128 --held 4096] [--sequences 4] [--json]
python -m bench.kv_speed FP32.edge INT8.edge

The second form is for the engine onnxruntime, whose artifacts have their type of KV from the export.
"""

from __future__ import annotations

import random
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from edge.artifact import open_artifact
from edge.artifact.pages import KV_NAMES
from edge.cli.output import print_json, print_table
from edge.errors import EdgeError
from runtimes import Cache, Engine, Step, open_engine

# Tokens decoded for one figure, the median of their times.
_DECODED = 48
# Tokens are drawn from so many, which every vocabulary has.
_IDS = 250


@click.command()
@click.argument("artifacts", metavar="ARTIFACT...", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--kv",
    "kinds",
    multiple=True,
    type=click.Choice(tuple(KV_NAMES)),
    help="KV types; ratios are to the first.  [default: fp32, int8; of several artifacts what they have]",
)
@click.option("--held", multiple=True, default=(128, 4096), show_default=True, help="Tokens of the prompt.")
@click.option("--sequences", default=4, show_default=True, help="Sequences that are decoded together.")
@click.option("--rounds", default=5, show_default=True, help="Everything is measured once a round.")
@click.option("--threads", type=int, metavar="N", help="Threads to compute with.  [default: physical cores]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(
    artifacts: tuple[Path, ...],
    kinds: tuple[str, ...],
    held: tuple[int, ...],
    sequences: int,
    rounds: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Tokens/s of each ARTIFACT with each KV type, in turn; medians over rounds, and of ratios within a round."""
    types: Sequence[str | None] = kinds or ((None,) if len(artifacts) > 1 else ("fp32", "int8"))
    context = max(held) + sequences + 2 * _DECODED
    try:
        engines = [
            open_engine(open_artifact(path), threads=threads, context=context, kv=kind)
            for path in artifacts
            for kind in types
        ]
        report = measure(engines, held, sequences, rounds)
    except EdgeError as e:
        raise click.ClickException(str(e)) from None
    if as_json:
        print_json(
            {"artifacts": [*map(str, artifacts)], "rounds": rounds, "sequences": sequences, "rows": report}
        )
        return
    first = report[0]["kv"]
    table = [
        (
            "KV",
            "held",
            "prefill/s",
            f"to {first}",
            "decode/s",
            f"to {first}",
            "to shortest",
            f"{sequences} at once",
        )
    ]
    table += [
        (
            row["kv"],
            str(row["held"]),
            f"{row['prefill_tokens_per_s']:.0f}",
            f"{row['prefill_ratio']:.2f}",
            f"{row['decode_tokens_per_s']:.1f}",
            f"{row['decode_ratio']:.2f}",
            f"{row['decode_to_shortest']:.2f}",
            f"{row['together_ratio']:.2f}",
        )
        for row in report
    ]
    print_table(table, right=range(1, 8))


def measure(
    engines: Sequence[Engine], held: Sequence[int], sequences: int, rounds: int
) -> list[dict[str, Any]]:
    """A row for each engine and length; the engines are closed."""
    found: dict[tuple[int, int], list[tuple[float, float, float]]] = defaultdict(list)
    places = [(which, n) for n in held for which in range(len(engines))]
    with tqdm(total=rounds * len(places), desc="measure", disable=None) as bar:
        for i in range(-1, rounds):
            for place in places:
                which, n = place
                if i < 0 and n != min(held):
                    continue
                figures = _one(engines[which], n, sequences, seed=i)
                # The first turn is to warm up.
                if i >= 0:
                    found[place].append(figures)
                    bar.update()
    for engine in engines:
        engine.close()
    names = {kind: name for name, kind in KV_NAMES.items()}

    def ratio(place: tuple[int, int], base: tuple[int, int], figure: int) -> float:
        pairs = zip(found[place], found[base], strict=True)
        return statistics.median(mine[figure] / other[figure] for mine, other in pairs)

    return [
        {
            "kv": names[engines[which].kv[0].type],
            "held": n,
            "prefill_tokens_per_s": statistics.median(f[0] for f in found[which, n]),
            "decode_tokens_per_s": statistics.median(f[1] for f in found[which, n]),
            "together_tokens_per_s": statistics.median(f[2] for f in found[which, n]),
            "prefill_ratio": ratio((which, n), (0, n), 0),
            "decode_ratio": ratio((which, n), (0, n), 1),
            "decode_to_shortest": ratio((which, n), (which, min(held)), 1),
            "together_ratio": statistics.median(f[2] / f[1] for f in found[which, n]),
        }
        for which, n in places
    ]


def _one(engine: Engine, held: int, sequences: int, seed: int) -> tuple[float, float, float]:
    """Tokens/s of reading `held` tokens, of decoding behind them, and of decoding `sequences` that share them."""
    tokens = random.Random(seed).choices(range(_IDS), k=held)
    cache = engine.new_cache()
    start = time.perf_counter()
    engine.run([Step(tokens, cache, [held - 1])])
    prefill = held / (time.perf_counter() - start)
    branches = [cache.fork(held) for _ in range(sequences)]
    decode = _decode(engine, [cache])
    together = _decode(engine, branches)
    for each in (cache, *branches):
        each.close()
    return prefill, decode, together


def _decode(engine: Engine, caches: Sequence[Cache]) -> float:
    chosen = [1] * len(caches)
    times = []
    for _ in range(_DECODED):
        start = time.perf_counter()
        steps = [Step([token], cache, [0]) for token, cache in zip(chosen, caches, strict=True)]
        chosen = [int(logits[0].argmax()) for logits in engine.run(steps)]
        times.append(time.perf_counter() - start)
    return len(caches) / statistics.median(times)


if __name__ == "__main__":
    main()
