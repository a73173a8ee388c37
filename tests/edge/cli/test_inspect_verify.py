"""`edge inspect` and `edge verify`: what is printed, to the letter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edge.artifact import FORMAT, MANIFEST, open_artifact
from tests.edge.artifact.samples import VARIANT, entries, write_artifact
from tests.edge.cli.artifacts import FILES, MANIFEST_OF_WINDOWED, SPEC, write_windowed
from tests.edge.cli.conftest import Ended

Run = Callable[..., Ended]

SUMMARY = """\
name             windowed
architecture     qwen2
parameters       {parameters}
layers           3
context          4096 tokens
bits per weight  5.00
size             {size}
KV per token     768 B
recipe           weights int4, block 32
runs on          engine onnxruntime, with onnxruntime 1.23.2 or newer

came from
source     org/windowed@main
license    apache-2.0

part       parameters     size  share
embedding      64.0 k  40.0 kB    32%
mlp            73.7 k  46.1 kB    37%
head           64.0 k  40.0 kB    32%

file                       size
tokenizer.json           1.2 kB
onnxruntime/model.onnx      5 B
onnxruntime/weights.bin  2.0 kB
"""
LAYERS = """
layer  KV      type     window      per token
    0  full    float32  all             256 B
    1  window  float32  256 tokens      256 B
    2  window  float32  256 tokens      256 B
"""


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return write_windowed(tmp_path / "windowed.edge")


def test_inspect(run_edge: Run, artifact: Path) -> None:
    whole = sum(path.stat().st_size for path in artifact.rglob("*") if path.is_file())
    summary = SUMMARY.format(parameters=f"{SPEC.parameters / 1000:.1f} k", size=f"{whole / 1000:.1f} kB")
    assert run_edge("inspect", artifact) == Ended(0, summary, "")
    assert run_edge("inspect", artifact, "--layers") == Ended(0, summary + LAYERS, "")


def test_inspect_json(run_edge: Run, artifact: Path) -> None:
    report = run_edge("inspect", artifact, "--json").json
    promised = ["architecture", "parameters", "layers", "context", "bits_per_weight", "file_bytes", "recipe"]
    assert {key: report[key] for key in promised} == {
        "architecture": "qwen2",
        "parameters": SPEC.parameters,
        "layers": 3,
        "context": 4096,
        "bits_per_weight": pytest.approx(8 * 126080 / 201728),
        "file_bytes": sum(path.stat().st_size for path in artifact.rglob("*") if path.is_file()),
        "recipe": {"weights": "int4", "block": 32},
    }
    assert "kv_layers" not in report
    layers = run_edge("inspect", artifact, "--json", "--layers").json["kv_layers"]
    assert [(row["layer"], row["kind"], row["window"], row["bytes_per_token"]) for row in layers] == [
        (0, "full", 0, 256),
        (1, "window", 256, 256),
        (2, "window", 256, 256),
    ]


def test_inspect_names_the_tensorrt_of_each_form(run_edge: Run, tmp_path: Path) -> None:
    forms = [
        replace(VARIANT, engine="tensorrt", dialect=f"portable-{form}", requires=version)
        for form, version in (("opset24", "10.16.0"), ("opset21", "10.3.0"))
    ]
    manifest = replace(MANIFEST_OF_WINDOWED, variants=tuple(forms), files=entries(FILES))
    write_artifact(tmp_path / "m.edge", manifest, FILES)
    told = [line for line in run_edge("inspect", tmp_path / "m.edge").out.splitlines() if "runs on" in line]
    assert [line.partition("engine ")[2] for line in told] == [
        "tensorrt, form opset24: TensorRT 10.16.0 or newer, or TensorRT for RTX",
        "tensorrt, form opset21: TensorRT 10.3.0 or newer, or TensorRT for RTX",
    ]


def test_inspect_names_the_layout_of_weights(run_edge: Run, tmp_path: Path) -> None:
    variant = replace(VARIANT, engine="cpu", dialect="cpu", layout="panels", layout_version=1)
    manifest = replace(MANIFEST_OF_WINDOWED, variants=(variant, VARIANT), files=entries(FILES))
    artifact = write_artifact(tmp_path / "two.edge", manifest, FILES)
    assert [line for line in run_edge("inspect", artifact).out.splitlines() if "runs on" in line] == [
        "runs on          engine cpu, with onnxruntime 1.23.2 or newer, weights in layout panels 1",
        "runs on          engine onnxruntime, with onnxruntime 1.23.2 or newer",
    ]
    variants = run_edge("inspect", artifact, "--json").json["variants"]
    assert [(v["engine"], v["layout"], v["layout_version"]) for v in variants] == [
        ("cpu", "panels", 1),
        ("onnxruntime", "", 0),
    ]


def test_inspect_of_a_real_artifact_agrees_with_its_manifest(run_edge: Run, tiny_artifact: Path) -> None:
    opened = open_artifact(tiny_artifact)
    report = run_edge("inspect", tiny_artifact, "--json").json
    assert report["parameters"] == opened.spec.parameters == sum(p["parameters"] for p in report["parts"])
    assert report["layers"] == 2
    assert run_edge("inspect", tiny_artifact).out.startswith("name             tiny\n")


def test_verify(run_edge: Run, artifact: Path) -> None:
    assert run_edge("verify", artifact) == Ended(
        0, f"{artifact}: 3 files, 3.3 kB, all as the manifest says\n", ""
    )
    assert run_edge("verify", artifact, "--quiet") == Ended(0, "", "")
    assert run_edge("verify", artifact, "--json").json == {"ok": True, "files": 3, "file_bytes": 3253}


def test_verify_names_every_bad_file(run_edge: Run, artifact: Path) -> None:
    changed = ["tokenizer.json", "onnxruntime/weights.bin"]
    for name in changed:
        data = bytearray((artifact / name).read_bytes())
        data[-1] ^= 1
        (artifact / name).write_bytes(data)
    ended = run_edge("verify", artifact)
    assert ended.code == 1
    assert ended.out == ""
    assert all(f"{artifact / name} has changed" in ended.err for name in changed)
    assert "model.onnx" not in ended.err
    ended = run_edge("verify", artifact, "--json")
    assert ended.code == 1
    assert ended.json["error"]["type"] == "ArtifactCorrupt"


@pytest.mark.parametrize("command", ["inspect", "verify", "run", "bench"])
@pytest.mark.parametrize(
    ("damage", "kind", "message"),
    [
        (lambda a: (a / "tokenizer.json").unlink(), "ArtifactCorrupt", "tokenizer.json is missing"),
        (
            lambda a: (a / "tokenizer.json").write_bytes(b"{}"),
            "ArtifactCorrupt",
            "has 2 bytes, the manifest says 1200",
        ),
        (lambda a: (a / MANIFEST).write_text("{"), "ArtifactCorrupt", "edge.json is not JSON"),
        (lambda a: edit(a, f'"format": {FORMAT}', '"format": 99'), "ArtifactTooNew", "format 99"),
        (lambda a: edit(a, '"tokenizer.json"', '"../tokenizer.json"'), "UnsafePath", "'../tokenizer.json'"),
        (lambda a: edit(a, '"tokenizer.json"', '"/etc/passwd"'), "UnsafePath", "'/etc/passwd'"),
        (lambda a: (a / MANIFEST).unlink(), "ArtifactNotFound", "holds no edge.json"),
    ],
    ids=["missing", "shortened", "no JSON", "too new", "parent", "absolute", "no manifest"],
)
def test_a_bad_artifact_is_refused(
    run_edge: Run, artifact: Path, command: str, damage: Callable[[Path], None], kind: str, message: str
) -> None:
    damage(artifact)
    ended = run_edge(command, artifact, "--json", stdin=b"hello")
    assert ended.code == 1
    assert ended.json["error"]["type"] == kind
    assert message in ended.json["error"]["message"]
    assert ended.err == f"error: {ended.json['error']['message']}\n"


def edit(artifact: Path, old: str, new: str) -> None:
    text = (artifact / MANIFEST).read_text()
    assert old in text
    (artifact / MANIFEST).write_text(text.replace(old, new))
