"""Where the time of a token goes: the graph's nodes by what they compute, and what lies between them.

    python -m bench.node_times ARTIFACT [--held 128] [--tokens 64] [--prompt 512] [--threads N] [--json]

ONNX Runtime's own profiler times the nodes of tokens decoded behind `--held` others, and of a prompt. Beside each kind
of node stands what it reads per token, weights or KV, and how fast that was. What a run takes beyond its nodes is ONNX
Runtime's; the profiler adds a microsecond or two a node to it.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edge.artifact import Artifact, KvGroup, Variant, open_artifact
from edge.cli.output import print_table
from runtimes import default_threads
from runtimes.kernels.engine import CpuEngine
from runtimes.kernels.weights import FILE, INDEX, read_index
from runtimes.onnxruntime.engine import CHUNK
from runtimes.protocol import Step

# The end of a node's name, and what the node computes.
KINDS = (
    ("v_proj", "q, k, v"),
    (".mixed", "attention"),
    ("o_proj", "attention output"),
    (".gated", "gate, up"),
    ("down_proj", "down"),
    ("logits", "head"),
    ("lm_head", "head"),
    ("embed_tokens", "embedding"),
)
OTHER, BETWEEN = "other nodes", "between nodes"


_PROMPTS = 3


@dataclass(frozen=True)
class Row:
    """One kind of node: medians of a decoded token, and of a prompt."""

    kind: str
    token_us: float
    token_share: float
    token_bytes: int
    prompt_us: float
    prompt_share: float


class _Profiled(CpuEngine):
    """The engine, its session's profile written to a folder."""

    folder = ""

    def _options(self, artifact: Artifact, variant: Variant, threads: int) -> Any:
        options = super()._options(artifact, variant, threads)
        options.enable_profiling = True
        options.profile_file_prefix = f"{self.folder}/run"
        return options

    @property
    def vocab(self) -> int:
        """Tokens of the vocabulary."""
        return self._artifact.spec.vocab_size

    def profile(self) -> list[dict[str, Any]]:
        """End profiling; its events."""
        events: list[dict[str, Any]] = json.loads(Path(self._session.end_profiling()).read_text())
        return events


def kind_of(node: str) -> str:
    """What the node of that name computes."""
    return next((kind for end, kind in KINDS if node.endswith(end)), OTHER)


def node_times(events: Sequence[dict[str, Any]]) -> list[Counter[str]]:
    """Microseconds of each kind of node, and between nodes, of each run in the order of time."""
    runs = sorted((e for e in events if e["name"] == "model_run"), key=lambda e: float(e["ts"]))
    nodes = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    nodes.sort(key=lambda e: float(e["ts"]))
    found, at = [], 0
    for run in runs:
        times: Counter[str] = Counter()
        end = run["ts"] + run["dur"]
        while at < len(nodes) and nodes[at]["ts"] < end:
            if nodes[at]["ts"] >= run["ts"]:
                times[kind_of(nodes[at]["name"].removesuffix("_kernel_time"))] += nodes[at]["dur"]
            at += 1
        times[BETWEEN] = run["dur"] - sum(times.values())
        found.append(times)
    return found


def token_bytes(artifact: Artifact, groups: Sequence[KvGroup], held: int) -> Counter[str]:
    """Bytes that each kind of node reads for a token behind `held` others."""
    folder = Path(artifact.variant("cpu").model).parent
    index, weights = (artifact.file(str(folder / name)) for name in (INDEX, FILE))
    read: Counter[str] = Counter()
    for tensor in read_index(index, weights.stat().st_size):
        if tensor.name.endswith(".panels"):
            name = tensor.name.removesuffix(".panels")
            read[kind_of(f"{name}.gated" if name.endswith("up_proj") else name)] += tensor.length
    # Of the embedding one row is read; a tied head reads all of it.
    embedding = read.pop("embedding", 0)
    read["head"] = read["head"] or embedding
    read["attention"] = held * sum(group.bytes_per_token for group in groups)
    return read


def measure(path: Path, held: int, prompt: int, threads: int, tokens: int) -> list[Row]:
    """A row for each kind of node, those that a token spends most time in first."""
    artifact = open_artifact(path)
    with tempfile.TemporaryDirectory() as folder:
        _Profiled.folder = folder
        engine = _Profiled(artifact, threads, max(held + tokens, prompt), None)
        runs = node_times(_profile(engine, held, prompt, tokens))
        engine.close()
    before = -(-held // CHUNK)
    decoded = runs[before : before + tokens]
    chunks = runs[before + tokens :]
    count = len(chunks) // _PROMPTS
    prompts = [sum(chunks[i * count : (i + 1) * count], Counter()) for i in range(_PROMPTS)]
    read = token_bytes(artifact, engine.kv, held + tokens // 2)
    rows = [
        Row(kind, token, 0.0, read[kind], of_prompt, 0.0)
        for kind, token, of_prompt in _medians(decoded, prompts)
    ]
    in_all = sum(row.token_us for row in rows), sum(row.prompt_us for row in rows)
    rows = [
        replace(row, token_share=row.token_us / in_all[0], prompt_share=row.prompt_us / in_all[1])
        for row in rows
    ]
    return sorted(rows, key=lambda row: -row.token_us)


def _profile(engine: _Profiled, held: int, prompt: int, tokens: int) -> list[dict[str, Any]]:
    """The events of `held` tokens read, `tokens` decoded, and `_PROMPTS` prompts read."""
    ids = random.Random(0).choices(range(engine.vocab), k=max(held, prompt, tokens))
    cache = engine.new_cache()
    engine.run([Step(ids[:held], cache, [])])
    for id in ids[:tokens]:
        engine.run([Step([id], cache, [0])])
    cache.close()
    for _ in range(_PROMPTS):
        cache = engine.new_cache()
        engine.run([Step(ids[:prompt], cache, [prompt - 1])])
        cache.close()
    return engine.profile()


def _medians(*kinds: Sequence[Counter[str]]) -> Iterator[tuple[Any, ...]]:
    """(kind, median of each of `kinds`) for every kind of node."""
    for kind in dict.fromkeys(kind for runs in kinds for run in runs for kind in run):
        yield kind, *(float(statistics.median(run[kind] for run in runs)) for runs in kinds)


def _print(rows: Sequence[Row], prompt: int) -> None:
    table = [("", "us a token", "share", "MB read", "GB/s", f"ms of {prompt}", "share")]
    for row in rows:
        measured = row.token_bytes and row.token_us
        read = (
            (f"{row.token_bytes / 1e6:.1f}", f"{row.token_bytes / row.token_us / 1e3:.1f}")
            if measured
            else ("", "")
        )
        table.append(
            (
                row.kind,
                f"{row.token_us:.0f}",
                f"{100 * row.token_share:.1f}%",
                *read,
                f"{row.prompt_us / 1e3:.1f}",
                f"{100 * row.prompt_share:.1f}%",
            )
        )
    print_table(table, right=range(1, 7))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Where the time of a token goes.")
    parser.add_argument("artifact", type=Path, help="an artifact for the cpu engine")
    parser.add_argument("--held", type=int, default=128, help="tokens in the cache while decoding (128)")
    parser.add_argument("--tokens", type=int, default=64, help="tokens to decode (64)")
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the prompt (512)")
    parser.add_argument("--threads", type=int, default=None, help="threads to compute with")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    if min(args.held, args.tokens, args.prompt) < 1:
        parser.error("--held, --tokens and --prompt are 1 or more")
    rows = measure(args.artifact, args.held, args.prompt, args.threads or default_threads(), args.tokens)
    if args.json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        _print(rows, args.prompt)


if __name__ == "__main__":
    main()
