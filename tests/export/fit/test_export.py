"""Exports that are calibrated: nearer to the source, of the size asked for, going on where they were stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edge
from edge.artifact import open_artifact
from edge.errors import InvalidArgument, StorageError, TensorError
from export import export
from export.checkpoint import open_checkpoint
from export.evaluate.divergence import Divergence, log_softmax
from export.fit import EFFORTS
from export.fit.target import other_bytes
from export.fit.work import Work
from export.folder import locked
from export.graph.checkpoint_weights import CheckpointWeights
from export.layerwise import Head, full_precision
from export.quantize import METHODS, Quantized, Recipe
from tests.export.small import Tensors, small_checkpoint

SIZES = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 160}
TEXT = "a list of what was lost, and of what was found: 17 keys, 3 hats\n" * 40
quick = pytest.mark.usefixtures("few_windows")


@pytest.fixture
def few_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, effort in list(EFFORTS.items()):
        monkeypatch.setitem(EFFORTS, name, type(effort)(name, 4, 1, effort.candidates))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random llama of 2 layers, not tied. Not to be changed."""
    return small_checkpoint(tmp_path_factory.mktemp("fit") / "source", tie_word_embeddings=False, **SIZES)


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("fit") / "source", tie_word_embeddings=True, **SIZES)


def divergence(artifact: Path, source: Path, folder: Path) -> float:
    """Mean KL of an artifact, as it runs."""
    with edge.load(artifact) as model, open_checkpoint(source) as checkpoint:
        ids = model.encode(TEXT)[:512]
        exact = CheckpointWeights(checkpoint.tensors, Recipe(weights="fp32"), lambda nbytes: None)
        hidden = full_precision(checkpoint.spec, exact, np.array([ids]), folder, lambda layers: None)
        found = Divergence()
        expected = log_softmax(Head(checkpoint.spec, exact).logits(hidden[0]))
        found.add(expected, log_softmax(model.logits(ids)), ids[1:])
        return found.mean_kl


@quick
@pytest.mark.parametrize("source", ["checkpoint", "tied"])
@pytest.mark.parametrize("engine", ["cpu", "onnxruntime"])
def test_nearer_than_rounding(
    source: str, engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if engine == "cpu":
        request.getfixturevalue("kernels")
    path = request.getfixturevalue(source)
    for method in ("rtn", "auto"):
        export(path, tmp_path / method, method=method, engine=engine)
    rounded, fitted = (divergence(tmp_path / method, path, tmp_path) for method in ("rtn", "auto"))
    assert fitted < 0.9 * rounded
    manifest = open_artifact(tmp_path / "auto").manifest
    assert manifest.recipe["method"] == "awq+gptq"
    told = manifest.provenance["fitting"]
    assert (told["text"], told["effort"], told["method"]) == ("edgewise", "normal", "auto")
    assert sum(told["methods"].values()) == 2 * 7 + 1
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@quick
@pytest.mark.parametrize("method", [method for method in METHODS if method != "rtn"])
def test_every_method_makes_an_artifact(method: str, checkpoint: Path, tmp_path: Path) -> None:
    export(
        checkpoint, tmp_path / "a.edge", method=method, engine="onnxruntime", zero_points=True, effort="fast"
    )
    assert open_artifact(tmp_path / "a.edge").manifest.recipe["method"] == method
    export(checkpoint, tmp_path / "rtn.edge", method="rtn", engine="onnxruntime", zero_points=True)
    found, rounded = (divergence(tmp_path / name, checkpoint, tmp_path) for name in ("a.edge", "rtn.edge"))
    assert found < 1.2 * rounded


@quick
def test_bits_go_where_they_matter(checkpoint: Path, tmp_path: Path, kernels: None) -> None:
    """More bytes, less KL; never more than were asked for; and one matrix unlike another."""
    found = []
    for bits in (4.8, 5.5, 7.0):
        out = tmp_path / f"{bits}.edge"
        report = export(checkpoint, out, bits=bits)
        # Norms are floats, and pages are filled up: this model is tiny.
        assert report.bits_per_weight < bits * 1.05
        assert (report.weights, report.block) == ("mixed", None)
        found.append(divergence(out, checkpoint, tmp_path))
        recipe = open_artifact(out).manifest.recipe
        assert Recipe.from_json(recipe).to_json() == recipe
        assert recipe["tensors"]
    assert found[0] > found[1] > found[2]


@quick
def test_a_size_that_is_kept(checkpoint: Path, tmp_path: Path, kernels: None) -> None:
    with open_checkpoint(checkpoint) as opened:
        other = other_bytes(opened.spec, len(opened.text.tokenizer_json.encode()))
        weights = sum(t.nbytes for t in opened.tensors.values()) // 4
    wanted = other + weights * 5 // 8 + 200_000
    report = export(checkpoint, tmp_path / "a.edge", size=wanted, fidelity=True)
    held = sum(p.stat().st_size for p in (tmp_path / "a.edge").rglob("*") if p.is_file())
    assert report.file_bytes <= held <= wanted
    fidelity = json.loads((tmp_path / "a.edge" / "fidelity.json").read_text())
    assert fidelity["size_curve"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 1.5}, "1.5 bits per weight are too few for engine cpu; it needs"),
        ({"bits": float("nan")}, "nan bits per weight are too few"),
        ({"bits": 3.0}, "3 bits per weight are too few"),
        ({"bits": 40.0}, "40 bits per weight are more than"),
        ({"bits": 20.0}, "use for; take --weights fp16 or fp32"),
        ({"size": "100kB"}, "is too small for this model on engine cpu; it takes .* MB at least"),
        ({"size": "9GB"}, "is more than the source has"),
        ({"size": "900 bananas"}, "give a number with a unit"),
        ({"bits": 5, "size": "9MB"}, "bits and size are both given"),
        ({"bits": 5, "weights": "int8"}, "drop --weights, --block and --zero-points"),
        ({"bits": 5, "method": "rtn"}, "method rtn does without; choose --method auto"),
        ({"method": "magic"}, "method 'magic' is unknown; choose one of auto, rtn"),
        ({"effort": "none"}, "effort 'none' is unknown; choose one of fast, normal, best"),
        ({"method": "auto", "calibration": "{empty}"}, "has 0 tokens, less than one window of 512"),
        ({"method": "auto", "calibration": "{short}"}, "tokens, less than one window of 512; give a longer"),
        ({"method": "auto", "calibration": "{binary}"}, "cannot be read \\(it is not UTF-8\\)"),
        ({"method": "auto", "calibration": "/none.txt"}, "cannot be read \\(No such file"),
    ],
)
def test_what_cannot_be(options: dict[str, Any], message: str, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    (tmp_path / "short").write_text("short")
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    if "calibration" in options:
        names = {name: str(tmp_path / name) for name in ("empty", "short", "binary")}
        options = {**options, "calibration": options["calibration"].format(**names)}
    options.setdefault("method", "auto")
    with pytest.raises(InvalidArgument, match=message):
        export(checkpoint, tmp_path / "a.edge", **options)
    # Nor anything that another try would have to go on with.
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "short", "binary"}


class Stopped(Exception):
    pass


def stop_at(stage: str, done: int) -> Any:
    def progress(name: str, at: int, total: int) -> None:
        if name == stage and at >= done:
            raise Stopped

    return progress


@quick
@pytest.mark.parametrize(
    ("stage", "done"), [("sensitivity", 1), ("calibrate", 2), ("quantize", 1), ("int4", 0), ("checksums", 1)]
)
def test_what_was_interrupted_goes_on(
    stage: str, done: int, tied: Path, tmp_path: Path, kernels: None
) -> None:
    """With the same result, byte for byte, and nothing left behind."""
    export(tied, tmp_path / "whole.edge", bits=5.0)
    out = tmp_path / "a" / "a.edge"
    try:
        export(tied, out, bits=5.0, progress=stop_at(stage, done))
    except Stopped:
        assert (out.parent / ".a.edge.work").is_dir()
        assert not out.exists()
        begun: list[str] = []
        export(tied, out, bits=5.0, progress=lambda name, at, total: begun.append(name))
        assert stage == "sensitivity" or "sensitivity" not in begun
    whole, resumed = (path / "cpu" / "weights.bin" for path in (tmp_path / "whole.edge", out))
    assert whole.read_bytes() == resumed.read_bytes()
    assert [path.name for path in out.parent.iterdir()] == ["a.edge"]


@quick
def test_other_options_are_refused_by_name(tied: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.edge"
    with pytest.raises(Stopped):
        export(tied, out, method="gptq", progress=stop_at("quantize", 1))
    with pytest.raises(
        InvalidArgument, match=r"method was gptq, is awq.*go on with the same ones, or begin anew with"
    ):
        export(tied, out, method="awq")
    with pytest.raises(InvalidArgument, match=r"checkpoint was .*, is "):
        export(checkpoint, out, method="gptq")
    with pytest.raises(InvalidArgument, match="effort was normal, is best"):
        export(tied, out, method="gptq", effort="best")
    export(tied, out, method="awq", restart=True)
    assert open_artifact(out).manifest.recipe["method"] == "awq"
    assert not (tmp_path / ".a.edge.work").exists()


@quick
def test_two_at_once(tied: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.edge"
    with pytest.raises(Stopped):
        export(tied, out, method="gptq", progress=stop_at("quantize", 1))
    with (
        locked(tmp_path / ".a.edge.work"),
        pytest.raises(StorageError, match="is being exported by another process"),
    ):
        export(tied, out, method="gptq")


@quick
def test_weights_that_compute_no_numbers(tmp_path: Path) -> None:
    def huge(tensors: Tensors) -> None:
        tensors["model.layers.0.post_attention_layernorm.weight"][:] = 1e30

    source = small_checkpoint(tmp_path / "source", huge, tie_word_embeddings=False, **SIZES)
    with pytest.raises(
        TensorError, match="are no finite numbers on the calibration text; check the checkpoint"
    ):
        export(source, tmp_path / "a.edge", method="gptq", engine="onnxruntime")


@quick
def test_a_constant_input_and_a_dead_one(tmp_path: Path) -> None:
    """Moments that no matrix inverts: inputs that are always zero, and a column of the embedding that is all alike."""

    def dead(tensors: Tensors) -> None:
        for name in tensors:
            if "layernorm" in name:
                tensors[name][:5] = 0
        tensors["model.embed_tokens.weight"][:, 7] = 1

    source = small_checkpoint(tmp_path / "source", dead, tie_word_embeddings=False, **SIZES)
    export(source, tmp_path / "a.edge", method="auto", engine="onnxruntime")
    assert np.isfinite(divergence(tmp_path / "a.edge", source, tmp_path))


def test_work_that_was_spoilt(tmp_path: Path) -> None:
    """What cannot be read is as if it had not been done; a part is never taken for the whole."""
    work = Work.begin(tmp_path / "w", {"method": "gptq"}, restart=False)
    codes = Quantized(np.zeros((2, 1, 32), np.uint8), np.ones((2, 1), np.float32), None)
    work.store_codes("a.weight", codes)
    found = work.codes("a.weight")
    assert found is not None
    assert np.array_equal(found.codes, codes.codes)
    (tmp_path / "w" / "a.weight.codes.npy").write_bytes(b"\x93NUMPY spoilt")
    assert work.codes("a.weight") is None
    (tmp_path / "w" / "state.json").write_text("{")
    assert work.read("state.json") is None
    (tmp_path / "w" / "options.json").unlink()
    again = Work.begin(tmp_path / "w", {"method": "awq"}, restart=False)
    assert again.read("options.json") == {"method": "awq"}
    assert again.codes("a.weight") is None


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work.begin(tmp_path / "w", {}, restart=False)

    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(StorageError, match="the disk is full; free some room"):
        work.store("hidden", np.zeros(3))
    assert work.array("hidden") is None
    assert not list((tmp_path / "w").glob("*.part"))
