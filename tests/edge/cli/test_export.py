"""`edge export`: from the command line to the artifact, or to nothing at all."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import edge.cli.export
from edge.artifact import open_artifact
from edge.cli.export import default_output
from edge.errors import MemoryBudgetError
from tests.edge.cli.conftest import Ended

Run = Callable[..., Ended]

REPORT: dict[str, Any] = {
    "path": "out/my model.edge",
    "source": "org/model@main",
    "architecture": "llama",
    "parameters": 134_515_008,
    "weights": "int4",
    "block": 32,
    "engine": "cpu",
    "file_bytes": 88_600_000,
    "bits_per_weight": 5.0084,
    "seconds": 22.44,
    "peak_rss_bytes": 138_500_000,
    "kv": None,
    "method": "auto",
    "kept": 3,
    "fidelity": {
        "engine": "cpu",
        "reference": "model@main",
        "tokens": 1312,
        "mean_kl": 0.11234,
        "top1_agreement": 0.8211,
        "perplexity": 22.0,
        "reference_perplexity": 20.0,
    },
    "board": None,
    "note": "",
}
TABLE = """\
source           org/model@main
architecture     llama
parameters       134.5 M
weights          int4, block 32
method           auto
kept             3 matrices as they are in the source
engine           cpu
size             88.6 MB
bits per weight  5.01
fidelity         mean KL 0.1123, top-1 82.1%, perplexity ×1.100 of model@main (1312 tokens on engine cpu)
took             22.4 s
peak memory      138.5 MB
written to       out/my model.edge

Next: edge run 'out/my model.edge' --prompt "What is an inode?"
"""


class Exporter:
    """Stands where the package `export` would be."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.given: dict[str, Any] = {}

    def export(self, source: str, out: Path, **options: Any) -> Exporter:
        self.given = {"source": source, "out": out, **options}
        if self.error is not None:
            raise self.error
        options["progress"]("int4", 1, 2)
        return self

    def to_json(self) -> dict[str, Any]:
        return REPORT


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Exporter:
    exporter = Exporter()
    monkeypatch.setattr(edge.cli.export, "import_module", {"export": exporter}.__getitem__)
    return exporter


def test_a_checkpoint_becomes_an_artifact_that_runs(
    run_edge: Run, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tiny.edge"
    ended = run_edge(
        "export", tiny_checkpoint, "-o", out, "--weights", "int8", "--engine", "onnxruntime", "--json"
    )
    assert ended.code == 0
    assert set(ended.json) == set(REPORT)
    assert ended.json["path"] == str(out)
    assert ended.json["file_bytes"] == sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    assert open_artifact(out).manifest.recipe["weights"] == "int8"
    assert run_edge("verify", out).code == 0
    assert run_edge("run", out, "-p", "hello", "--max-tokens", "3").code == 0

    again = run_edge("export", tiny_checkpoint, "-o", out)
    assert again.code == 1
    assert "--force" in again.err
    assert run_edge("export", tiny_checkpoint, "-o", out, "--force", "--quiet") == Ended(0, "", "")
    assert open_artifact(out).manifest.recipe["weights"] == "int4"
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.edge"]


def test_kv_in_int8_is_exported(run_edge: Run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny.edge"
    options = ("--engine", "onnxruntime", "--kv", "int8")
    assert "\nKV               int8\n" in run_edge("export", tiny_checkpoint, "-o", out, *options).out
    assert open_artifact(out).manifest.kv[0].type == "int8"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--kv", "int8"),
            "kv is 'int8', and engine cpu is told what to keep KV as when it loads (edge run --kv int8)",
        ),
        (("--kv", "fp32"), "leave it out, or export with --engine onnxruntime"),
        (
            ("--calibration", "t.txt"),
            "the calibration text t.txt is of no use with method rtn and KV in full precision; add --method auto or",
        ),
        (
            ("--engine", "onnxruntime", "--kv", "int8", "--calibration", "/none.txt"),
            "the calibration text /none.txt cannot be read (No such file or directory); give a UTF-8 text file",
        ),
        (
            ("--engine", "onnxruntime", "--kv", "int8", "--calibration", "{short}"),
            "the calibration text short.txt has 5 tokens; give one of 128 or more",
        ),
        (
            ("--engine", "onnxruntime", "--kv", "int8", "--calibration", "{latin}"),
            "cannot be read (it is not UTF-8)",
        ),
    ],
)
def test_kv_that_cannot_be_exported(
    run_edge: Run, tiny_checkpoint: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    (tmp_path / "short.txt").write_text("short")
    (tmp_path / "latin.txt").write_bytes(b"\xe4" * 1000)
    files = {"short": tmp_path / "short.txt", "latin": tmp_path / "latin.txt"}
    ended = run_edge(
        "export", tiny_checkpoint, "-o", tmp_path / "a.edge", *(option.format(**files) for option in options)
    )
    assert (ended.code, ended.out) == (1, "")
    assert message in ended.err
    assert not (tmp_path / "a.edge").exists()


def test_what_is_printed(run_edge: Run, exporter: Exporter) -> None:
    assert run_edge("export", "org/model") == Ended(0, TABLE, "")
    assert run_edge("export", "org/model", "--quiet") == Ended(0, "", "")
    assert run_edge("export", "org/model", "--json").json == REPORT


@pytest.mark.parametrize(
    ("args", "given"),
    [
        (
            (),
            {
                "out": Path("model-int4.edge"),
                "weights": "int4",
                "block": 32,
                "zero_points": False,
                "engine": None,
                "kv": None,
                "method": None,
                "effort": "normal",
                "bits": None,
                "size": None,
                "calibration": None,
                "restart": False,
                "fidelity": None,
                "force": False,
            },
        ),
        (("-o", "x.edge", "--force"), {"out": Path("x.edge"), "force": True}),
        (("--weights", "fp16"), {"out": Path("model-fp16.edge"), "weights": "fp16"}),
        (("--engine", "onnxruntime"), {"engine": "onnxruntime"}),
        (("--kv", "int8", "--calibration", "t.txt"), {"kv": "int8", "calibration": Path("t.txt")}),
        (("--bits", "4.5"), {"out": Path("model-4.5bit.edge"), "bits": 4.5}),
        (
            ("--size", "90MB", "--effort", "best"),
            {"out": Path("model-90MB.edge"), "size": "90MB", "effort": "best"},
        ),
        (("--method", "gptq", "--no-fidelity"), {"method": "gptq", "fidelity": False}),
        (("--block", "128", "--zero-points"), {"block": 128, "zero_points": True}),
    ],
)
def test_what_the_exporter_is_given(
    run_edge: Run, exporter: Exporter, args: tuple[str, ...], given: dict[str, Any]
) -> None:
    assert run_edge("export", "org/model", *args).code == 0
    assert exporter.given["source"] == "org/model"
    assert {key: exporter.given[key] for key in given} == given


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ((), 2, "Missing argument 'SOURCE'"),
        (("",), 1, "SOURCE is empty"),
        (("model.gguf", "--weights", "int3"), 2, "'int3' is not one of"),
        (("model.gguf", "--engine", "tpu"), 2, "'tpu' is not one of"),
        (("model.gguf", "--block", "16"), 2, "'16' is not one of"),
        (("model.gguf", "--method", "magic"), 2, "'magic' is not one of"),
        (("model.gguf", "--effort", "all"), 2, "'all' is not one of"),
        (("model.gguf", "--bits", "few"), 2, "'few' is not a valid float"),
        (("model.gguf", "--kv", "fp8"), 2, "'fp8' is not one of"),
    ],
)
def test_a_wrong_command_line(
    run_edge: Run, exporter: Exporter, args: tuple[str, ...], code: int, message: str
) -> None:
    ended = run_edge("export", *args)
    assert (ended.code, ended.out) == (code, "")
    assert message in ended.err
    assert exporter.given == {}


def test_a_missing_extra_says_what_to_install(run_edge: Run, exporter: Exporter) -> None:
    exporter.error = ModuleNotFoundError("No module named 'onnx'", name="onnx.helper")
    ended = run_edge("export", "model.gguf", "--json")
    assert ended.code == 1
    assert ended.json["error"]["type"] == "MissingExtra"
    assert "onnx" in ended.err
    assert "pip install 'edgewise[export]'" in ended.err

    exporter.error = ModuleNotFoundError("No module named 'oops'", name="oops")
    with pytest.raises(ModuleNotFoundError, match="oops"):
        run_edge("export", "model.gguf")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "SmolLM2-135M-Instruct-int4.edge"),
        ("org/model@v1.0", "model-int4.edge"),
        ("/no/such/place/model.Q4_1.gguf", "model.Q4_1-int4.edge"),
        ("folder/", "folder-int4.edge"),
        ("a b", "a-b-int4.edge"),
        ("@", "model-int4.edge"),
    ],
)
def test_default_output(source: str, name: str) -> None:
    assert default_output(source, "int4") == Path(name)


def test_default_output_of_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Some.Model").mkdir()
    (tmp_path / "v1.5.gguf").touch()
    monkeypatch.chdir(tmp_path / "Some.Model")
    assert default_output(".", "int8") == Path("Some.Model-int8.edge")
    assert default_output("../v1.5.gguf", "int8") == Path("v1.5-int8.edge")


# Sends itself the signal as soon as the first bytes are worked through.
KILLED = """
import importlib, os, sys
package, number = importlib.import_module("export"), int(sys.argv[1])
real = package.export
def export(*args, progress, **options):
    def told(stage, done, total):
        if done:
            os.kill(os.getpid(), number)
        progress(stage, done, total)
    return real(*args, progress=told, **options)
package.export = export
from edge.cli.main import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143)], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("force", [(), ("--force",)], ids=["new", "replacing"])
def test_an_export_that_is_stopped_leaves_things_as_they_were(
    tiny_checkpoint: Path, tiny_artifact: Path, tmp_path: Path, number: int, code: int, force: tuple[str, ...]
) -> None:
    out = tmp_path / "tiny.edge"
    if force:
        shutil.copytree(tiny_artifact, out)
    command = [
        sys.executable,
        "-c",
        KILLED,
        str(number),
        "export",
        str(tiny_checkpoint),
        "-o",
        str(out),
        "--method",
        "rtn",
        "--no-fidelity",
        *force,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == (["tiny.edge"] if force else [])
    if force:
        assert (out / "edge.json").read_text() == (tiny_artifact / "edge.json").read_text()


def test_graphs_for_tensorrt_are_not_said_to_run(
    run_edge: Run, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tiny.edge"
    told = run_edge("export", tiny_checkpoint, "-o", out, "--engine", "tensorrt", "--kv", "fp16").out
    assert "\nKV               fp16\n" in told
    assert told.endswith(f"\nNext: edge build {out} --target GPU-OR-BOARD, see docs/tensorrt.md\n")
    converted = tmp_path / "cpu.edge"
    assert "Next: edge run" in run_edge("convert", out, "-o", converted, "--engine", "cpu").out


def test_an_artifact_for_cuda_from_the_export_to_the_load(
    run_edge: Run, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no GPU is, what comes next is said in each place."""
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    out = tmp_path / "tiny.edge"
    options = ("--engine", "cuda", "--method", "rtn", "--fidelity")
    told = run_edge("export", tiny_checkpoint, "-o", out, *options).out
    assert "\nKV               fp16\n" in told
    assert f"\nNext: on a computer with an NVIDIA GPU: edge run {out} " in told
    assert "fidelity was not measured: edge evaluate does so where a GPU is" in told
    assert "engine cuda, with onnxruntime 1.31.0 or newer" in run_edge("inspect", out).out
    assert run_edge("verify", out).code == 0
    plan = run_edge("plan", out, "--json").json
    assert (plan["engine"], plan["kv"]) == ("cuda", "float16")
    for engine in ("auto", "cuda"):
        ended = run_edge("run", out, "-p", "hello", "--engine", engine)
        assert ended.code == 1
        assert f"Without a GPU: edge convert {out} -o OUT --engine cpu" in ended.err
    ended = run_edge("build", out, "--target", "sm89")
    assert "has no variant for engine 'tensorrt' (it has: cuda)" in ended.err
    back = tmp_path / "cpu.edge"
    assert run_edge("convert", out, "-o", back, "--engine", "onnxruntime", "-q").code == 0
    assert run_edge("run", back, "-p", "hello", "--max-tokens", "3").code == 0


def test_a_jetson_builds_its_engine_itself(run_edge: Run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny.edge"
    options = ("--tensorrt", "--target", "jetson-orin-nano-8gb", "--method", "rtn", "--no-fidelity")
    told = run_edge("export", tiny_checkpoint, "-o", out, *options).out
    assert told.endswith(f"\nNext: on the board: edge build {out} --target jetson-orin-nano-8gb\n")
    ended = run_edge("export", tiny_checkpoint, "-o", out, *options, "--force", "--json")
    assert (ended.json["engines"], ended.json["targets_elsewhere"]) == ([], ["jetson-orin-nano-8gb"])


def test_graphs_are_told_of_before_their_engines_are_built(
    run_edge: Run, exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the build is refused they are there, with what was found of them."""

    def refused(*_: Any, **options: Any) -> Any:
        raise MemoryBudgetError("the build needs about 3000 MB, and 1000 MB are free")

    monkeypatch.setattr(edge.cli.export, "_sorted_targets", lambda names, engine, weights: (["sm89"], []))
    monkeypatch.setattr(edge.cli.export, "run_build", refused)
    monkeypatch.setitem(REPORT, "note", "fidelity was not measured: so it is")
    ended = run_edge("export", "org/model", "--tensorrt", "--target", "sm89")
    assert ended.code == 1
    assert "\nwritten to       out/my model.edge\n\nNote: fidelity was not measured: so it is\n" in ended.out
    assert "Next:" not in ended.out
    assert "the build needs about 3000 MB" in ended.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--target", "sm89"), "--target is what an engine is built for; add --tensorrt"),
        (("--tensorrt", "--engine", "cpu"), "--tensorrt and --engine cpu do not go together; drop one"),
        (("--tensorrt", "--target", "rtx-409"), "there is no target 'rtx-409'; did you mean rtx-4090"),
        (("--tensorrt", "--target", ""), "no target is named"),
    ],
)
def test_a_wrong_target_is_told_before_the_export(
    run_edge: Run, tiny_checkpoint: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    ended = run_edge("export", tiny_checkpoint, "-o", tmp_path / "tiny.edge", *options)
    assert ended.code == 1
    assert message in ended.err
    assert list(tmp_path.iterdir()) == []
