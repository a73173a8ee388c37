"""KV in int8 and int4 on the onnxruntime engine: an oracle, the conformance suite, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.numpy import load_file

import edge
from edge.artifact import KvGroup, open_artifact
from edge.errors import ArtifactCorrupt, EngineError, InvalidArgument
from edge.memory.needs import Needs
from export import convert, export
from export.calibration import TOKENS, CalibrationText
from export.graph.static_kv import OLDEST_FOR_STATIC_KV
from runtimes import Cache, Engine, open_engine
from runtimes.onnxruntime import OnnxRuntimeEngine
from runtimes.onnxruntime.cache import OnnxRuntimeCache
from runtimes.onnxruntime.session import onnxruntime
from tests.export.small import Tensors, small_checkpoint
from tests.runtimes.conformance import EngineConformance, OpenEngine, fresh, run, text
from tests.runtimes.streaming_llama import Array, StreamingLlama
from tests.runtimes.test_onnxruntime import is_older, opener
from tests.tiny_llama import CONFIG, byte_tokenizer

pytestmark = pytest.mark.skipif(
    is_older(str(onnxruntime().__version__), OLDEST_FOR_STATIC_KV),
    reason=f"KV in int8 needs onnxruntime {OLDEST_FOR_STATIC_KV}",
)

Scales = list[tuple[Array, Array]]


def soft(tensors: Tensors) -> None:
    """Queries an eighth as large: a softmax that is no choice of one token, where a code more or less would decide."""
    for name in tensors:
        if "q_proj" in name:
            tensors[name] *= np.float32(0.125)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random llama of 2 layers. Not to be changed."""
    return small_checkpoint(tmp_path_factory.mktemp("static") / "source", soft)


@pytest.fixture(scope="module")
def artifact(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With exact weights and KV in int8. Not to be changed: copy it first."""
    path = tmp_path_factory.mktemp("static") / "int8.edge"
    export(checkpoint, path, weights="fp32", kv="int8")
    return path


@pytest.fixture(scope="module")
def halved(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With KV in int4."""
    path = tmp_path_factory.mktemp("static") / "int4.edge"
    export(checkpoint, path, weights="fp32", kv="int4")
    return path


@pytest.fixture(scope="module")
def exact(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with KV in float32."""
    path = tmp_path_factory.mktemp("static") / "fp32.edge"
    export(checkpoint, path, weights="fp32", kv="fp32")
    return path


def scales_of(artifact: Path) -> Scales:
    """Each layer's scales of keys and of values, [kv_heads, head_dim]."""
    graph = onnx.load(str(artifact / "onnxruntime" / "model.onnx"), load_external_data=False).graph
    found = {t.name: numpy_helper.to_array(t)[0, :, 0] for t in graph.initializer if "_scale" in t.name}
    layers = CONFIG["num_hidden_layers"]
    return [(found[f"layers.{i}.k_scale"], found[f"layers.{i}.v_scale"]) for i in range(layers)]


class CodedLlama(StreamingLlama):
    """The oracle with keys and values rounded to codes."""

    def __init__(self, checkpoint: Path, scales: Scales, bits: int = 8) -> None:
        super().__init__(CONFIG, load_file(checkpoint / "model.safetensors"))
        self._scales, self._ends = scales, (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
        self.codes: dict[int, list[Array]] = {}

    def held(self, layer: int, keys: Array, values: Array) -> tuple[Array, Array]:
        parts = list(zip((keys, values), self._scales[layer], strict=True))
        self.codes[layer] = [np.clip(np.rint(x / scale), *self._ends) for x, scale in parts]
        k, v = (codes * scale for codes, (_, scale) in zip(self.codes[layer], parts, strict=True))
        return k, v


def codes_of(cache: Cache) -> list[list[Array]]:
    assert isinstance(cache, OnnxRuntimeCache)
    return [[whole(x[0, :, : cache.length].transpose(1, 0, 2)) for x in pair] for pair in cache.buffers()]


def whole(codes: Array) -> Array:
    """Codes as numbers: where bytes hold two, the first is in the low half, and 8 is added to both."""
    if codes.dtype != np.uint8:
        return codes
    pairs = np.stack([codes & 15, codes >> 4], axis=-1).astype(np.int8) - 8
    return pairs.reshape(*codes.shape[:-1], -1)


class TestInt8(EngineConformance):
    # A last bit of difference may round a number to the next code, of which one costs up to 2e-3.
    tolerance = 1e-2

    @pytest.fixture
    def open_engine(self, artifact: Path) -> OpenEngine:
        return opener(artifact)


class TestInt4(EngineConformance):
    # A code more or less costs sixteen times as much.
    tolerance = 0.03

    @pytest.fixture
    def open_engine(self, halved: Path) -> OpenEngine:
        return opener(halved)


@pytest.mark.parametrize(("which", "bits"), [("artifact", 8), ("halved", 4)])
def test_the_cache_holds_what_the_oracle_says(
    which: str, bits: int, checkpoint: Path, request: pytest.FixtureRequest
) -> None:
    """Codes and logits, of prompt and answer."""
    path = request.getfixturevalue(which)
    engine = opener(path)()
    oracle, cache, tokens = CodedLlama(checkpoint, scales_of(path), bits), engine.new_cache(), text(150)
    logits = np.concatenate(
        [run(engine, cache, tokens[:130]), *(run(engine, cache, [t]) for t in tokens[130:])]
    )
    expected = np.stack([oracle.run(token) for token in tokens])
    assert np.abs(logits - expected).max() < (1e-2 if bits == 8 else 0.15) * np.abs(expected).max()
    assert np.median(np.abs(logits - expected)) < 1e-5 * np.abs(expected).max()
    for layer, pair in enumerate(codes_of(cache)):
        for ours, theirs in zip(pair, oracle.codes[layer], strict=True):
            assert ours.dtype == np.int8
            assert np.abs(ours - theirs).max() <= 1
            assert np.mean(ours != theirs) < 1e-3


def test_scales_are_those_of_the_calibration_text(checkpoint: Path, artifact: Path, exact: Path) -> None:
    """Of values the largest number, of keys the largest length of a pair that RoPE turns; a 127th of it."""
    tokenizer = (artifact / "tokenizer.json").read_text()
    ids = CalibrationText.read(None).tokens(tokenizer, CONFIG["max_position_embeddings"])
    assert len(ids) == TOKENS
    engine = opener(exact)()
    cache = engine.new_cache()
    run(engine, cache, ids)
    for (keys, values), (k_scale, v_scale) in zip(codes_of(cache), scales_of(artifact), strict=True):
        a, b = np.split(keys.astype(np.float64), 2, axis=2)
        lengths = np.sqrt(a * a + b * b).max(axis=0)
        assert np.allclose(k_scale, np.tile(lengths, 2) / 127, rtol=1e-4)
        assert np.allclose(v_scale, np.abs(values).max(axis=0) / 127, rtol=1e-4)


def lost(artifact: Path, exact: Path) -> float:
    """The mean difference of logits, relative to the largest; of bytes that the calibration text has."""
    tokens = byte_tokenizer().encode("a list of what was lost, and of what was found: 17 keys\n" * 5).ids
    ours, expected = (fresh(opener(path)(), tokens) for path in (artifact, exact))
    return float(np.abs(ours - expected).mean() / np.abs(expected).max())


def test_little_is_lost(artifact: Path, halved: Path, exact: Path) -> None:
    assert 0 < lost(artifact, exact) < 0.01
    assert lost(artifact, exact) < lost(halved, exact) < 0.15


def test_heads_that_are_turned_outside_of_the_operator(tmp_path: Path) -> None:
    """24 numbers a head, no multiple of 16: keys reach the operator turned."""
    sizes = {"hidden_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
    source = small_checkpoint(tmp_path / "source", soft, **sizes)
    for kv in ("fp32", "int8"):
        export(source, tmp_path / kv, weights="fp32", kv=kv)
    assert 0 < lost(tmp_path / "int8", tmp_path / "fp32") < 0.01


def test_weights_are_written_as_ever(artifact: Path, exact: Path) -> None:
    ours, theirs = (path / "onnxruntime" for path in (artifact, exact))
    assert sorted(p.name for p in ours.iterdir()) == sorted(p.name for p in theirs.iterdir())
    assert (ours / "weights.bin").read_bytes() == (theirs / "weights.bin").read_bytes()


def test_the_manifest_tells(artifact: Path, exact: Path) -> None:
    manifest, other = open_artifact(artifact).manifest, open_artifact(exact).manifest
    assert manifest.kv == (
        KvGroup(kind="full", layers=(0, 1), type="int8", window=0, bytes_per_token=2 * 64, scale_group=1),
    )
    assert type(manifest).loads(manifest.dumps()) == manifest
    told = manifest.provenance["kv_calibration"]
    assert (told["text"], told["tokens"], len(told["sha256"])) == ("edgewise", TOKENS, 64)
    assert manifest.variants[0].requires == OLDEST_FOR_STATIC_KV
    assert other.kv[0].bytes_per_token == 4 * manifest.kv[0].bytes_per_token
    assert "kv_calibration" not in other.provenance


def test_another_text(checkpoint: Path, tmp_path: Path) -> None:
    """Scales are of what was read; a number that was never anything but 0 has one all the same."""
    (tmp_path / "a.txt").write_text("a" * 300)
    export(checkpoint, tmp_path / "a.edge", weights="fp32", kv="int8", calibration=tmp_path / "a.txt")
    told = open_artifact(tmp_path / "a.edge").manifest.provenance["kv_calibration"]
    assert (told["text"], told["tokens"]) == ("a.txt", 300)
    (tmp_path / "0.txt").write_text("0" * 300)
    export(checkpoint, tmp_path / "0.edge", weights="fp32", kv="int8", calibration=tmp_path / "0.txt")
    assert all(scale.min() > 0 for pair in scales_of(tmp_path / "0.edge") for scale in pair)
    assert np.isfinite(fresh(opener(tmp_path / "0.edge")(), text(50))).all()


@pytest.mark.parametrize(("which", "kind", "token"), [("artifact", "int8", 128), ("halved", "int4", 64)])
def test_a_plan_knows_the_bytes(which: str, kind: str, token: int, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(which)
    engine = opener(path)()
    needs = Needs.of_artifact(open_artifact(path).manifest, "onnxruntime")
    assert (needs.kv_type, needs.kv_bytes_per_token) == (kind, token)
    cache = engine.new_cache()
    assert isinstance(cache, OnnxRuntimeCache)
    for tokens in (1, 127, 1, 300):
        run(engine, cache, text(tokens))
        held = sum(buffer.nbytes for pair in cache.buffers() for buffer in pair)
        assert cache.nbytes == held == needs.kv(cache.capacity) == engine.budget.taken


def test_the_type_is_what_the_artifact_has(artifact: Path, exact: Path) -> None:
    for path, kv, kind in ((artifact, "int8", "int8"), (exact, "fp32", "float32")):
        for chosen in (None, kv):
            with edge.load(path, kv=chosen) as model:
                assert model.engine.kv[0].type == kind
                assert model.plan is not None
                assert model.plan.needs.kv_type == kind


@pytest.mark.parametrize(
    ("which", "kv", "message"),
    [
        (
            "exact",
            "int8",
            "keeps KV as fp32, not int8.* export it again with --kv int8, or load it without kv",
        ),
        (
            "artifact",
            "fp32",
            "keeps KV as int8, not fp32.* export it again with --kv fp32, or load it without kv",
        ),
        (
            "artifact",
            "fp16",
            "onnxruntime engine keeps KV as fp32, int8, int4, not fp16; choose one of these",
        ),
    ],
)
def test_another_type_is_refused(which: str, kv: str, message: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(EngineError, match=message):
        edge.load(request.getfixturevalue(which), kv=kv)


def test_a_graph_that_is_not_what_the_manifest_says(artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.edge"
    shutil.copytree(artifact, path)
    manifest = json.loads((path / "edge.json").read_text())
    manifest["kv"][0]["type"] = "float32"
    (path / "edge.json").write_text(json.dumps(manifest))
    with pytest.raises(
        ArtifactCorrupt, match=r"past\.0\.key is tensor\(int8\), and edge.json says .* float32"
    ):
        open_engine(open_artifact(path))


def test_keys_stay_where_they_are(artifact: Path) -> None:
    """The policy window is refused at load, and a slide whoever asks."""
    with pytest.raises(
        EngineError, match="scales fixed at export: its keys cannot be moved; choose at_limit"
    ):
        edge.load(artifact, at_limit="window", context=512)
    engine: Engine = opener(artifact)()
    cache = engine.new_cache()
    run(engine, cache, text(200))
    before = cache.export(0, 200)
    with pytest.raises(EngineError, match="scales fixed at export"):
        cache.slide(64, 64)
    assert cache.export(0, 200) == before


def test_kv_of_another_type_is_not_adopted(artifact: Path, exact: Path) -> None:
    coded, floats = opener(artifact)().new_cache(), opener(exact)().new_cache()
    for path, cache, other in ((artifact, coded, floats), (exact, floats, coded)):
        engine = open_engine(open_artifact(path))
        held = engine.new_cache()
        run(engine, held, text(20))
        with pytest.raises(InvalidArgument, match="does not follow"):
            other.adopt(held.export(0, 20))
        cache.adopt(held.export(0, 20))
        assert cache.length == 20


def test_a_conversion_leaves_the_calibration_behind(checkpoint: Path, tmp_path: Path) -> None:
    """The cpu engine makes its own scales, and what comes back from it keeps float32."""
    export(checkpoint, tmp_path / "int8.edge", engine="onnxruntime", kv="int8")
    convert(tmp_path / "int8.edge", tmp_path / "cpu.edge", engine="cpu")
    convert(tmp_path / "cpu.edge", tmp_path / "back.edge", engine="onnxruntime")
    for name, kind in (("cpu", "int8"), ("back", "float32")):
        manifest = open_artifact(tmp_path / f"{name}.edge").manifest
        assert manifest.kv[0].type == kind
        assert manifest.kv[0].scale_group != 1
        assert "kv_calibration" not in manifest.provenance
    assert OnnxRuntimeEngine.kv_type(None, open_artifact(tmp_path / "back.edge")) == "float32"
