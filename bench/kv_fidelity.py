"""What a KV type alone costs: the model with quantized keys and values against itself with those of float32.

python -m bench.kv_fidelity ARTIFACT.edge [--kv int8] [--tokens 4096] [--json]

Activations are float32 here. Where they are codes, any change at all, if only of rounding, makes other codes of some,
and the difference that this makes hides what KV costs; `bench.fidelity --reference-kv fp32 --kv int8` shows the two
together.
"""

from __future__ import annotations

import json
import platform
import tempfile
from pathlib import Path
from typing import Any

import click

import edge
from bench.fidelity import divergences, shared_tokens
from edge.artifact import Artifact, ModelSpec, Variant, open_artifact
from edge.artifact.pages import KV_NAMES
from edge.cli.output import print_json, print_table
from edge.errors import EdgeError
from export.architecture.decoder import describe
from export.evaluate.text import HELD_OUT, held_out_text
from export.folder import write_text
from export.graph.builder import Value
from export.graph.cpu_attention import CpuAttention
from export.graph.cpu_dialect import DOMAIN
from export.graph.graph import CONTRIB, Graph
from export.graph.onnxruntime_dialect import OnnxRuntimeDialect
from export.graph.weight_store import WeightStore
from export.graph.weights_file import WeightsFile
from export.manifest import write_manifest
from export.quantize import Recipe
from export.stored_weights import StoredWeights
from runtimes import default_threads
from runtimes.kernels.engine import CpuEngine
from runtimes.kernels.library import load_library
from runtimes.onnxruntime.session import session_options

_FLOAT_ACTIVATIONS = 1


class _Dialect(OnnxRuntimeDialect):
    """The operators of ONNX Runtime with our attention."""

    def __init__(self, spec: ModelSpec, weights: WeightStore) -> None:
        super().__init__(spec, weights)
        self._graph = Graph(spec, [CONTRIB, DOMAIN])
        self._ours = CpuAttention(spec, weights, self._graph, DOMAIN)

    def attention(self, layer: int, qkv: Value, prefix: str) -> Value:
        """See `Builder.attention`."""
        return self._ours.emit(layer, qkv, prefix)


class _Engine(CpuEngine):
    """Runs such a graph: its weights are ONNX Runtime's own."""

    def _options(self, artifact: Artifact, variant: Variant, threads: int) -> Any:
        options = session_options(self._ort, threads, spin=True)
        load_library().register(options, threads)
        return options


def with_float_activations(artifact: Artifact, out: Path) -> Artifact:
    """The model of `artifact` in a graph for `_Engine`, in the folder `out`."""
    recipe = Recipe.from_json(artifact.manifest.recipe)
    variant = artifact.variant("cpu")
    source = StoredWeights(artifact, variant, recipe, lambda nbytes: None)
    (out / "cpu").mkdir(parents=True)
    with WeightsFile(out / "cpu" / "weights.bin") as file:
        store = WeightStore(source, recipe, file)
        dialect = _Dialect(artifact.spec, store)
        describe(artifact.spec, dialect)
        graph = dialect.model()
    for node in graph.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = _FLOAT_ACTIVATIONS
    (out / "cpu" / "model.onnx").write_bytes(graph.SerializeToString())
    write_text(out / "tokenizer.json", artifact.tokenizer_json)
    write_text(out / "generation.json", json.dumps(artifact.generation) + "\n")
    write_manifest(
        out,
        lambda stage, done, total: None,
        name=artifact.manifest.name,
        spec=artifact.spec,
        recipe=artifact.manifest.recipe,
        parts=store.parts,
        variants=(
            Variant(
                engine="cpu",
                dialect="cpu",
                activation="float32",
                requires=dialect.requires,
                model="cpu/model.onnx",
                files=("cpu/model.onnx", "cpu/weights.bin"),
            ),
        ),
        provenance={},
    )
    return open_artifact(out)


def measure(path: Path, kinds: tuple[str, ...], tokens: int, threads: int) -> list[dict[str, Any]]:
    """Divergence of each of the KV types from float32, over `tokens` tokens of held-out text."""
    with tempfile.TemporaryDirectory() as folder:
        artifact = with_float_activations(open_artifact(path), Path(folder) / "float.edge")
        engines = [_Engine(artifact, threads, tokens, None, kind) for kind in ("fp32", *kinds)]
        models = [edge.Model(artifact, engine) for engine in engines]
        found = divergences(models, shared_tokens(models[:1], held_out_text(), tokens))
        for model in models:
            model.close()
    return [
        {
            "kv": kind,
            "bytes_per_token": sum(group.bytes_per_token for group in engine.kv),
            "mean_kl": divergence.mean_kl,
            "p99_kl": divergence.p99_kl,
            "top1_agreement": divergence.top1,
            "perplexity": divergence.perplexity,
            "reference_perplexity": divergence.reference_perplexity,
        }
        for kind, engine, divergence in zip(kinds, engines[1:], found, strict=True)
    ]


@click.command()
@click.argument("artifact", metavar="ARTIFACT", type=click.Path(path_type=Path))
@click.option("--kv", "kinds", multiple=True, type=click.Choice(tuple(KV_NAMES)), help="KV types to measure.")
@click.option("--tokens", default=4096, show_default=True, metavar="N", help="Tokens of text to compare on.")
@click.option("--threads", type=int, metavar="N", help="Threads to compute with.  [default: physical cores]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(artifact: Path, kinds: tuple[str, ...], tokens: int, threads: int | None, as_json: bool) -> None:
    """KL divergence in nats of ARTIFACT with each KV type from itself with float32, activations in float32."""
    try:
        rows = measure(artifact, kinds or ("fp16", "int8", "int4"), tokens, threads or default_threads())
    except EdgeError as e:
        raise click.ClickException(str(e)) from None
    if as_json:
        print_json({"tokens": tokens, "text_from": HELD_OUT, "python": platform.python_version(), "kv": rows})
        return
    table = [("KV", "bytes per token", "mean KL", "p99 KL", "top-1", "perplexity", "of float32")]
    table += [
        (
            row["kv"],
            f"{row['bytes_per_token']:,}",
            f"{row['mean_kl']:.6f}",
            f"{row['p99_kl']:.5f}",
            f"{row['top1_agreement']:.4f}",
            f"{row['perplexity']:.4f}",
            f"{row['reference_perplexity']:.4f}",
        )
        for row in rows
    ]
    print_table(table, right=range(1, 7))


if __name__ == "__main__":
    main()
