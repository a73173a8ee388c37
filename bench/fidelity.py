"""How far quantized artifacts are from a reference artifact, as both run.

python -m bench.fidelity REFERENCE.edge ARTIFACT.edge... [--tokens 4000] [--json]
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

import edge
from edge.artifact.pages import KV_NAMES
from edge.cli.output import print_json, print_table
from edge.errors import EdgeError, InvalidArgument
from export.evaluate.divergence import Divergence
from export.evaluate.log_probabilities import CHUNK, log_probabilities
from export.evaluate.text import HELD_OUT, held_out_text


@click.command()
@click.argument("reference", metavar="REFERENCE", type=click.Path(path_type=Path))
@click.argument("artifacts", metavar="ARTIFACT...", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--tokens", default=4000, show_default=True, metavar="N", help="Tokens of text to compare on.")
@click.option("--threads", type=int, metavar="N", help="Threads to compute with.  [default: physical cores]")
@click.option("--kv", type=click.Choice(tuple(KV_NAMES)), help="What each ARTIFACT keeps KV as.")
@click.option("--reference-kv", type=click.Choice(tuple(KV_NAMES)), help="What REFERENCE keeps KV as.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(
    reference: Path,
    artifacts: tuple[Path, ...],
    tokens: int,
    threads: int | None,
    kv: str | None,
    reference_kv: str | None,
    as_json: bool,
) -> None:
    """Compare what each ARTIFACT predicts with what REFERENCE does, such as the fp32 artifact of the model.

    All read the same held-out text as one sequence through their KV caches. KL divergence is in nats. An artifact
    may be its own reference, its KV kept otherwise; see bench.kv_fidelity for what that alone costs.
    """
    try:
        report = _compare((reference, *artifacts), tokens, threads, (reference_kv, kv))
    except EdgeError as e:
        raise click.ClickException(str(e)) from None
    if as_json:
        print_json(report)
    else:
        _print_report(report)


def _compare(
    paths: Sequence[Path], tokens: int, threads: int | None, kv: tuple[str | None, str | None]
) -> dict[str, Any]:
    if tokens < 2:
        raise InvalidArgument(f"--tokens is {tokens}; give 2 or more")
    with ExitStack() as stack:
        models = [
            stack.enter_context(edge.load(path, threads=threads, kv=kv[i > 0]))
            for i, path in enumerate(paths)
        ]
        ids = shared_tokens(models, held_out_text(), tokens)
        found = divergences(models, ids)
        return {
            "tokens": tokens,
            "text": {"source": "pydoc_data.topics", "from": HELD_OUT, "python": platform.python_version()},
            "reference": _about(models[0], found[0].reference_perplexity),
            "artifacts": [
                {
                    **_about(model, divergence.perplexity),
                    "mean_kl": divergence.mean_kl,
                    "p99_kl": divergence.p99_kl,
                    "top1_agreement": divergence.top1,
                }
                for model, divergence in zip(models[1:], found, strict=True)
            ],
        }


def shared_tokens(models: Sequence[edge.Model], text: str, count: int) -> list[int]:
    """The first `count` tokens of `text`, the same for all models.

    Raises:
        InvalidArgument: they have different vocabularies, or the text is too short.
    """
    first = models[0]
    ids = first.encode(text)[:count]
    if len(ids) < count:
        raise InvalidArgument(f"--tokens is {count}, and the text has {len(ids)}; give fewer")
    for model in models[1:]:
        same = model.spec.vocab_size == first.spec.vocab_size and model.encode(text)[:count] == ids
        if not same:
            raise InvalidArgument(
                f"{model.artifact.path} has another vocabulary than {first.artifact.path}; "
                "compare artifacts of one model"
            )
    return ids


def divergences(models: Sequence[edge.Model], ids: Sequence[int]) -> list[Divergence]:
    """How far each model but the first is from the first, over `ids`, with a progress bar."""
    found = [Divergence() for _ in models[1:]]
    passes = [log_probabilities(model.engine, ids) for model in models]
    with tqdm(total=len(ids), desc="compare", unit=" tokens", disable=None) as bar:
        for start, chunk in zip(range(0, len(ids), CHUNK), zip(*passes, strict=True), strict=True):
            reference = chunk[0]
            for divergence, model in zip(found, chunk[1:], strict=True):
                divergence.add(reference, model, ids[start + 1 : start + len(reference) + 1])
            bar.update(len(reference))
    return found


def _about(model: edge.Model, perplexity: float) -> dict[str, Any]:
    manifest = model.artifact.manifest
    return {
        "path": str(model.artifact.path),
        "recipe": manifest.recipe,
        "bits_per_weight": manifest.bits_per_weight,
        "weight_bytes": manifest.weight_bytes,
        "kv": model.engine.kv[0].type,
        "perplexity": perplexity,
    }


def _print_report(report: dict[str, Any]) -> None:
    reference = report["reference"]
    rows: list[tuple[str, ...]] = [
        ("artifact", "KV", "bits per weight", "mean KL", "p99 KL", "top-1", "perplexity")
    ]
    rows.append((Path(reference["path"]).name, reference["kv"], *_figures(reference, "-", "-", "-")))
    for artifact in report["artifacts"]:
        divergence = (
            f"{artifact['mean_kl']:.5f}",
            f"{artifact['p99_kl']:.4f}",
            f"{artifact['top1_agreement']:.4f}",
        )
        rows.append((Path(artifact["path"]).name, artifact["kv"], *_figures(artifact, *divergence)))
    print_table(rows, right=range(2, 7))
    click.echo(
        f"\n{report['tokens']} tokens of {report['text']['source']} as of Python {report['text']['python']}, "
        f"from character {report['text']['from']:,} on; KL in nats"
    )


def _figures(about: dict[str, Any], *divergence: str) -> tuple[str, ...]:
    return (f"{about['bits_per_weight']:.2f}", *divergence, f"{about['perplexity']:.3f}")


if __name__ == "__main__":
    main()
