"""Time and peak memory of a build for TensorRT for RTX, allocated memory and mapped files apart; no GPU is needed.

    python -m bench.tensorrt_build
    python -m bench.tensorrt_build ARTIFACT --target sm86,sm89,sm120 --context 4096 --form opset21

Without ARTIFACT a checkpoint is made with the sizes of DeepSeek-R1-Distill-Qwen-1.5B and random weights, and exported
to int4 with blocks of 128: that takes minutes and 5 GB of disk for a while. The pages of the process that builds are
sampled from /proc/PID/status. The artifact that is built from is a copy, of links.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.export_memory import R1_DISTILL_QWEN_1_5B, write_synthetic
from boards.proc import listed_sizes
from edge.artifact import open_artifact

_SAMPLE_S = 0.02


class ChildPages:
    """Samples the largest child of this process while the block runs; bytes."""

    def __init__(self) -> None:
        self.anonymous = self.mapped = self.total = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> ChildPages:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(_SAMPLE_S):
            for child in _children(os.getpid()):
                pages = listed_sizes(Path(f"/proc/{child}/status"))
                self.anonymous = max(self.anonymous, pages.get("RssAnon", 0))
                self.mapped = max(self.mapped, pages.get("RssFile", 0))
                self.total = max(self.total, pages.get("VmHWM", 0))


def measure(artifact: Path, targets: str, context: int, form: str | None) -> dict[str, Any]:
    """Build in a copy of `artifact`; sizes in bytes."""
    from export.tensorrt.build import build

    with tempfile.TemporaryDirectory(prefix=".tensorrt-build-", dir=artifact.parent) as scratch:
        copy = Path(scratch) / artifact.name
        shutil.copytree(
            artifact, copy, copy_function=os.link, ignore=shutil.ignore_patterns("edge.json", "engines")
        )
        manifest = open_artifact(artifact).manifest
        files = tuple(entry for entry in manifest.files if not entry.path.startswith("tensorrt/engines/"))
        (copy / "edge.json").write_text(type(manifest)(**{**vars(manifest), "files": files}).dumps())
        with ChildPages() as pages:
            engine = build(copy, [targets], contexts=[context], form=form).engines[0]
    return {
        "artifact": artifact.name,
        "parameters": manifest.spec.parameters,
        "weight_bytes": manifest.weight_bytes,
        "form": engine.header.form,
        "sms": list(engine.header.sms),
        "context": context,
        "plan_bytes": engine.header.plan_bytes,
        "bits_per_parameter": engine.bits_per_parameter,
        "expected": engine.needed_bytes,
        "anonymous": pages.anonymous,
        "mapped": pages.mapped,
        "total": max(pages.total, engine.peak_rss_bytes),
        "seconds": engine.seconds,
    }


def synthetic(folder: Path) -> Path:
    """The 1.5B-shaped artifact, made in `folder`."""
    from export import export

    source, out = folder / "synthetic-1.5b", folder / "synthetic-1.5b.edge"
    write_synthetic(source, R1_DISTILL_QWEN_1_5B)
    export(source, out, engine="tensorrt", block=128, method="rtn", fidelity=False)
    shutil.rmtree(source)
    return out


def _children(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            yield from map(int, (task / "children").read_text().split())
        except OSError:
            continue


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Time and peak memory of a build for TensorRT for RTX.")
    parser.add_argument("artifact", nargs="?", type=Path, help="an artifact with graphs for TensorRT")
    parser.add_argument("--target", default="sm86,sm89,sm120")
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--form", choices=["opset24", "opset21"])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tensorrt-build-") as scratch:
        artifact = args.artifact or synthetic(Path(scratch))
        found = measure(artifact.absolute(), args.target, args.context, args.form)
    if args.json:
        print(json.dumps(found))
        return
    print(f"{found['artifact']}, {found['form']}, {' '.join(found['sms'])}, context {found['context']}")
    for name in ("weight_bytes", "plan_bytes", "expected", "anonymous", "mapped", "total"):
        print(f"{name:20}{found[name] / 1e6:10.0f} MB")
    print(f"{'bits_per_parameter':20}{found['bits_per_parameter']:10.2f}")
    print(f"{'seconds':20}{found['seconds']:10.1f}")


if __name__ == "__main__":
    main()
