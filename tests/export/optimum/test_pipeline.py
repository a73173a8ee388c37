"""export_graphs() with hand-made graphs in place of optimum's, and what becomes of them in `edge.load`."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edge
from edge.errors import (
    CheckpointCorrupt,
    CheckpointNotFound,
    EdgeError,
    EngineFailed,
    InvalidArgument,
    MissingExtra,
    OutputExists,
    StorageError,
    Unsupported,
)
from export.optimum import pipeline
from export.optimum.pipeline import GraphsReport, export_graphs
from export.optimum.run import PYTHON, run_optimum
from tests.export.optimum.made import encoder, ids, made_run, run


def exported(
    patch: pytest.MonkeyPatch, out: Path, *, how: dict[str, Any] | None = None, **options: Any
) -> GraphsReport:
    """An artifact of two graphs."""
    models = {"encoder": encoder(), "decoder": encoder(7)}
    patch.setattr(
        pipeline, "run_optimum", lambda source, task, made, _: made_run(made, models, **(how or {}))
    )
    return export_graphs("org/made", out, **options)


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("weights", ["int8", "fp32"])
def test_an_artifact_is_loaded_and_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str, external: bool
) -> None:
    out = tmp_path / "made.edge"
    report = exported(monkeypatch, out, how={"external": external}, weights=weights)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made.edge"]
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()) == [
        "config.json",
        "edge.json",
        "graphs/decoder.onnx",
        "graphs/encoder.onnx",
        "graphs/weights.bin",
    ]
    assert report.file_bytes == sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    for graph in report.graphs:
        assert max(graph.float_errors.values()) < 1e-6
        assert graph.quantized_errors is None or 0 < max(graph.quantized_errors.values()) < 0.05
    with edge.load(out, threads=1) as graphs:
        assert graphs.names == ("encoder", "decoder")
        assert [tensor.name for tensor in graphs.inputs["encoder"]] == ["ids"]
        assert graphs.outputs["encoder"][0].shape == ("tokens", 96)
        feeds = {"ids": ids(3, 1, 9)}
        for name, model in (("encoder", encoder()), ("decoder", encoder(7))):
            found, wanted = graphs.run(feeds, name), run(model, feeds)
            assert list(found) == list(wanted)
            for key in wanted:
                assert np.linalg.norm(found[key] - wanted[key]) < 0.05 * np.linalg.norm(wanted[key])
    edge.load(out)  # again
    manifest = json.loads((out / "edge.json").read_text())
    assert (manifest["kind"], manifest["format"], manifest["task"]) == ("graphs", 3, "feature-extraction")
    assert manifest["provenance"]["source"] == "org/made"


def test_a_float_graph_that_is_not_torchs_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unsupported, match=r"encoder is not what torch computes: .* is 0\.0099 away"):
        exported(monkeypatch, tmp_path / "made.edge", how={"off": 0.01})
    assert list(tmp_path.iterdir()) == []


def test_an_artifact_is_replaced_only_when_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "made.edge"
    exported(monkeypatch, out)
    before = (out / "edge.json").read_bytes()
    with pytest.raises(OutputExists, match="--force"):
        exported(monkeypatch, out, weights="int4")
    assert (out / "edge.json").read_bytes() == before
    exported(monkeypatch, out, weights="int4", force=True)
    assert (out / "edge.json").read_bytes() != before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weights": "fp16"}, "choose one of int4, int8, fp32"),
        ({"method": "gptq"}, "choose one of rtn, hqq"),
        ({"block": 16}, "block 16"),
        ({"task": "--model"}, "--model"),
        ({"task": ""}, "task ''"),
        ({"weights": "fp32", "zero_points": True}, "zero points"),
    ],
)
def test_options_that_are_not_offered(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        export_graphs(tmp_path, tmp_path / "out.edge", **options)


def silent(stage: str, done: int, total: int) -> None:
    pass


def test_an_engine_that_is_missing_is_told_before_optimum_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"onnxruntime is missing .*edgewise\[cpu,export\]"):
        exported(monkeypatch, tmp_path / "made.edge")
    assert list(tmp_path.iterdir()) == []


def python(folder: Path, body: str) -> Path:
    """A program in place of the Python that has optimum: it is given the worker, SOURCE, OUT, TASK and REVISION."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\nout="$3"\n{body}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def told(kind: str, message: str) -> str:
    return f"""echo '{json.dumps({"kind": kind, "message": message})}' > "$out/error.json"; exit 1"""


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (told("missing", "optimum"), MissingExtra, r"needs optimum, .*edgewise\[optimum\].*EDGEWISE_OPTIMUM"),
        (
            told("not found", "no connection"),
            CheckpointNotFound,
            r"org/x.* \(no connection.* name its folder",
        ),
        (told("missing", "timm"), MissingExtra, r"needs timm, .* install it: .*python -m pip install timm$"),
        (told("unusable", "no name X in torch"), MissingExtra, r"no name X .*edgewise\[optimum\]"),
        (told("corrupt", "cut off"), CheckpointCorrupt, r"damaged \(cut off\)"),
        ("exit 28", StorageError, r"/out: the disk is full"),
        (told("unsupported", "no fnet. Please mail us"), Unsupported, r"\(no fnet\); choose a model and a"),
        (told("failed", "boom " * 900), EngineFailed, r"boom \.\.\.\); EDGE_TRACEBACK=1"),
        ("echo 'Segmentation fault' >&2; exit 3", EngineFailed, "Segmentation fault"),
        ("kill -9 $$", EngineFailed, "signal 9 .* memory"),
        ("exit 0", EngineFailed, "no report"),
        ("echo '{\"graphs\": 5}' > $out/report.json", EngineFailed, "no report"),
    ],
)
def test_what_optimum_says_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, error: type[EdgeError], words: str
) -> None:
    monkeypatch.setenv(PYTHON, str(python(tmp_path, body)))
    with pytest.raises(error, match=words):
        run_optimum("org/x@main", "auto", tmp_path / "out", silent)


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("model.gguf", InvalidArgument, "is a file; .* GGUF"),
        ("empty", CheckpointNotFound, "holds no config.json"),
        ("./nothing", CheckpointNotFound, "there is no folder ./nothing"),
        ("-x", CheckpointNotFound, "there is no folder -x"),
        ("a/b/c", CheckpointNotFound, "there is no folder a/b/c"),
    ],
)
def test_sources_that_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, error: type[EdgeError], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv(PYTHON, str(python(tmp_path, "exit 9")))
    with pytest.raises(error, match=words):
        run_optimum(source, "auto", tmp_path / "out", silent)


def test_a_python_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (tmp_path / "nothing", tmp_path):
        monkeypatch.setenv(PYTHON, str(name))
        with pytest.raises(InvalidArgument, match=r"EDGEWISE_OPTIMUM is .*edgewise\[optimum\]"):
            run_optimum("org/x", "auto", tmp_path / "out", silent)
    broken = tmp_path / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    monkeypatch.setenv(PYTHON, str(broken))
    with pytest.raises(InvalidArgument, match="cannot be run"):
        run_optimum("org/x", "auto", tmp_path / "out", silent)


def test_a_folder_without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setenv(PYTHON, str(python(tmp_path, told("not found", "no file"))))
    with pytest.raises(CheckpointNotFound, match=r"\(no file\).* as model\.safetensors, .*pickles"):
        run_optimum(str(tmp_path), "auto", tmp_path / "out", silent)


def test_steps_are_told_while_optimum_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, seen = tmp_path / "out", []

    def progress(*told: object) -> None:
        seen.append(told)
        if told == ("torch to ONNX", 2, 5):
            (out / "go").touch()

    body = 'printf 2/5 > "$out/steps.txt"; until [ -e "$out/go" ]; do sleep 0.01; done; exit 3'
    monkeypatch.setattr("export.optimum.run._LOOK", 0.01)
    monkeypatch.setenv(PYTHON, str(python(tmp_path, body)))
    with pytest.raises(EngineFailed):
        run_optimum("org/x", "auto", out, progress)
    assert seen[0] == ("torch to ONNX", 0, 1)
    assert set(seen) == {seen[0], ("torch to ONNX", 2, 5)}


def test_an_interrupted_export_ends_optimum_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def progress(stage: str, done: int, total: int) -> None:
        if (done, total) == (1, 5):
            raise KeyboardInterrupt

    pid, home = tmp_path / "pid", tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr("export.optimum.run._LOOK", 0.01)
    body = f'echo $$ > {pid}; printf 1/5 > "$out/steps.txt"; exec sleep 600'
    monkeypatch.setenv(PYTHON, str(python(tmp_path, body)))
    with pytest.raises(KeyboardInterrupt):
        export_graphs("org/x", home / "new" / "x.edge", progress=progress)
    assert list(home.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_all_that_optimum_said_is_shown_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(PYTHON, str(python(tmp_path, "echo first; echo last >&2; exit 3")))
    monkeypatch.setenv("EDGE_TRACEBACK", "1")
    with pytest.raises(EngineFailed, match=r"\(last\)"):
        run_optimum("org/x", "auto", tmp_path / "out", silent)
    assert capsys.readouterr().err == "first\nlast\n"


@pytest.mark.parametrize(
    ("weights", "stages"),
    [
        ("int8", ["compare floats with torch", "quantize", "compare codes with torch", "checksums"]),
        ("fp32", ["compare floats with torch", "write", "checksums"]),
    ],
)
def test_every_stage_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str, stages: list[str]
) -> None:
    seen: dict[str, int] = {}

    def progress(stage: str, done: int, total: int) -> None:
        seen[stage] = done
        assert 0 <= done <= total

    exported(monkeypatch, tmp_path / "made.edge", weights=weights, progress=progress)
    assert list(seen) == stages


def test_a_text_that_is_no_unicode_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(source: str, task: str, made: Path, progress: Any) -> Any:
        graphs = made_run(made, {"encoder": encoder()})
        (made / "tokenizer.json").write_bytes(b"\xff")
        return graphs

    monkeypatch.setattr(pipeline, "run_optimum", spoilt)
    with pytest.raises(CheckpointCorrupt, match=r"tokenizer\.json is not UTF-8"):
        export_graphs("org/made", tmp_path / "made.edge")
    assert list(tmp_path.iterdir()) == []


def test_the_revision_goes_its_own_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON, str(python(tmp_path, 'printf "%s\\n" "$@" > "$out/../given"; exit 3')))
    with pytest.raises(EngineFailed):
        run_optimum("org/x@v2", "fill-mask", tmp_path / "out", silent)
    given = (tmp_path / "given").read_text().splitlines()
    assert os.path.basename(given[0]) == "worker.py"
    assert given[1:] == ["org/x", str(tmp_path / "out"), "fill-mask", "v2"]
