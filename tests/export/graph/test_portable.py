"""The portable dialect: its two forms share weights and say the same, with a cache of a fixed size."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from edge.artifact import open_artifact
from edge.artifact.kv import stored_kv_type
from edge.errors import InvalidArgument, TensorError
from export import convert, export
from export.graph.capacity import with_capacity
from export.graph.portable_form import FORMS, OPSET21, OPSET24
from export.quantize import Precision, Recipe
from export.variant import chosen_engine, chosen_kv, write_variant
from tests.checkpoints import tiny_folder
from tests.export.graph.test_cpu_dialect import SPEC, Ones
from tests.logits import relative_error
from tests.portable import PortableRun, portable_run

TOKENS = [5, 100, 7, 200, 31, 8, 64, 3, 250, 12, 77]
NAMES = [form.name for form in FORMS]
# Of the largest logit, between two ways through float16.
BOUND = 3e-3
# What TensorRT 10.3 has, and what came later.
PRIMITIVE = {
    "Add", "Cast", "Concat", "DequantizeLinear", "Div", "Gather", "Identity", "MatMul", "Mul", "Pad", "ReduceMean",
    "Reshape", "Shape", "Sigmoid", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze",
    "Where",
}  # fmt: skip
LATER = {"Attention", "RMSNormalization", "RotaryEmbedding", "TensorScatter"}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Windows on one of two layers, a tied head, rows whose last block is not full."""
    folder = tmp_path_factory.mktemp("portable")
    options: dict[str, Any] = {
        "use_sliding_window": True,
        "sliding_window": 6,
        "layer_types": ["sliding_attention", "full_attention"],
        "tie_word_embeddings": True,
        "hidden_size": 76,
        "head_dim": 16,
        "initializer_range": 0.05,
    }
    tiny_folder(folder / "checkpoint", "qwen3", **options)
    export(folder / "checkpoint", folder / "m.edge", engine="tensorrt", method="rtn", fidelity=False)
    return folder / "m.edge"


def graph(artifact: Path, form: str) -> onnx.GraphProto:
    return load(artifact, form).graph


def load(artifact: Path, form: str) -> onnx.ModelProto:
    return onnx.load(artifact / "tensorrt" / f"{form}.onnx", load_external_data=False)


def place(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def test_the_variants_say_which_tensorrt_reads_them(artifact: Path) -> None:
    variants = open_artifact(artifact).manifest.variants
    assert [(v.engine, v.dialect, v.requires, v.activation) for v in variants] == [
        ("tensorrt", "portable-opset24", "10.16.0", "float16"),
        ("tensorrt", "portable-opset21", "10.3.0", "float16"),
    ]
    assert [v.files for v in variants] == [
        (f"tensorrt/{name}.onnx", "tensorrt/weights.bin") for name in NAMES
    ]
    opened = open_artifact(artifact)
    opened.verify()
    spec = opened.spec
    assert {group.type for group in opened.manifest.kv} == {"float16"}
    assert stored_kv_type(opened.manifest, "tensorrt") == "float16"
    assert opened.manifest.kv_bytes_per_token == 2 * 2 * spec.layers * spec.kv_heads * spec.head_dim


@pytest.mark.parametrize("form", FORMS, ids=NAMES)
def test_operators_are_those_of_the_form(artifact: Path, form: Any) -> None:
    model = load(artifact, form.name)
    onnx.checker.check_model(str(artifact / "tensorrt" / f"{form.name}.onnx"), full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", form.opset)]
    assert model.ir_version == form.ir
    ops = {node.op_type for node in model.graph.node}
    assert ops <= PRIMITIVE | (LATER if form is OPSET24 else set())
    assert ops >= LATER if form is OPSET24 else not ops & LATER
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            assert len(node.input) == 2, "a zero point"


def test_the_cache_is_the_left_factor_as_it_is(artifact: Path) -> None:
    """Of keys, and the right one of values: so TensorRT reads it without a copy."""
    taken = [
        (node.op_type, name, at)
        for node in graph(artifact, OPSET21.name).node
        for at, name in enumerate(node.input)
        if name.startswith("past.") and node.op_type != "Shape"
    ]
    layers = range(open_artifact(artifact).spec.layers)
    wanted = [("MatMul", f"past.{i}.{kind}", at) for i in layers for at, kind in enumerate(("key", "value"))]
    assert sorted(taken) == sorted(wanted)


def test_weights_lie_once_in_one_file(artifact: Path) -> None:
    new, old = ({t.name: t for t in graph(artifact, name).initializer} for name in NAMES)
    outside = {name for name, tensor in new.items() if tensor.external_data}
    assert outside == {name for name, tensor in old.items() if tensor.external_data}
    for name in outside:
        assert new[name] == old[name]
        assert place(new[name])["location"] == "weights.bin"
    # What is in the graphs themselves are shapes and single numbers.
    assert all(np.prod(t.dims) <= 4 for ts in (new, old) for n, t in ts.items() if n not in outside)
    regions = [(int(place(new[n])["offset"]), int(place(new[n])["length"])) for n in outside]
    regions.sort()
    assert all(start + n <= following for (start, n), (following, _) in pairwise(regions))
    types = Counter(new[name].data_type for name in outside)
    layers = open_artifact(artifact).spec.layers
    assert types == {
        TensorProto.INT4: 4 * layers + 1,
        # Scales, norms and tables.
        TensorProto.FLOAT16: 4 * layers + 1 + 4 * layers + 1 + 2,
    }


@pytest.mark.parametrize("form", NAMES)
def test_logits_come_for_the_positions_asked_for(artifact: Path, form: str) -> None:
    every = portable_run(artifact, form).run(TOKENS, range(len(TOKENS)))
    some = portable_run(artifact, form).run(TOKENS, [10, 0, 4])
    assert some.dtype == np.float32
    assert relative_error(some, every[[10, 0, 4]]) <= BOUND


@pytest.mark.parametrize("form", NAMES)
@pytest.mark.parametrize("chunk", [1, 4])
def test_a_prompt_may_come_in_chunks(artifact: Path, form: str, chunk: int) -> None:
    whole = portable_run(artifact, form)
    expected = whole.run(TOKENS, [len(TOKENS) - 1])
    run = portable_run(artifact, form)
    for start in range(0, len(TOKENS), chunk):
        part = TOKENS[start : start + chunk]
        logits = run.run(part, [len(part) - 1])
    assert relative_error(logits, expected) <= BOUND
    for name in ("0.key", "1.value"):
        assert np.abs(run.rows(name) - whole.rows(name)).max() <= BOUND * np.abs(whole.rows(name)).max()


@pytest.mark.parametrize("form", NAMES)
def test_rows_of_no_token_do_not_matter(artifact: Path, form: str) -> None:
    """As after a sequence was cut back: what stands there is finite."""
    expected, run = portable_run(artifact, form), portable_run(artifact, form)
    for each in (expected, run):
        each.run(TOKENS[:5], [4])
    run.spoil(999.0)
    for token in TOKENS[5:]:
        np.testing.assert_array_equal(run.run([token], [0]), expected.run([token], [0]))


@pytest.mark.parametrize("form", NAMES)
def test_the_rows_of_earlier_tokens_stay_where_they_are(artifact: Path, form: str) -> None:
    run = portable_run(artifact, form)
    run.run(TOKENS[:6], [5])
    before = run.rows("1.key")
    run.run(TOKENS[6:], [0])
    np.testing.assert_array_equal(run.rows("1.key")[:, :6], before)


def test_both_forms_keep_the_same(artifact: Path) -> None:
    new, old = (portable_run(artifact, name) for name in NAMES)
    assert relative_error(new.run(TOKENS, [10]), old.run(TOKENS, [10])) <= BOUND
    for name in ("0.key", "0.value", "1.key", "1.value"):
        assert np.abs(new.rows(name) - old.rows(name)).max() <= BOUND * np.abs(old.rows(name)).max()


@pytest.mark.parametrize("form", NAMES)
def test_a_graph_of_one_capacity_says_the_same(artifact: Path, form: str, tmp_path: Path) -> None:
    model = with_capacity(load(artifact, form), 16)
    (tmp_path / f"{form}.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "weights.bin").hardlink_to(artifact / "tensorrt" / "weights.bin")
    spec = open_artifact(artifact).spec
    run = PortableRun(tmp_path / f"{form}.onnx", spec, 16)
    expected = portable_run(artifact, form).run(TOKENS, [10])
    assert relative_error(run.run(TOKENS, [10]), expected) <= 1e-6
    shapes = {
        i.name: [d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input
    }
    assert shapes["past.0.key"] == [1, spec.kv_heads, 16, spec.head_dim]
    assert shapes["attention_mask.6"] == [1, 1, "tokens", 16 if form == OPSET24.name else "keys"]
    assert {t.name: list(t.dims) for t in model.graph.initializer}["rope.cos"] == [16, spec.head_dim // 2]


@pytest.mark.parametrize("capacity", [0, -1, 257])
def test_a_capacity_beyond_the_context_is_refused(artifact: Path, capacity: int) -> None:
    with pytest.raises(InvalidArgument, match=rf"capacity is {capacity}; this model takes from 1 to 256"):
        with_capacity(load(artifact, OPSET21.name), capacity)


REFUSED: list[tuple[Recipe, str]] = [
    (Recipe(weights="fp32"), r"computes in float16.*--weights fp16, int8 or int4"),
    (Recipe(zero_points=True), r"no zero points, and model\.embed_tokens has them; .*--zero-points"),
    (
        Recipe(tensors={"model.layers.1.mlp.down_proj": Precision(4, 32, True)}),
        r"no zero points, and model\.layers\.1\.mlp\.down_proj has them; .*--no-keep",
    ),
    (
        Recipe(tensors={"model.layers.0.self_attn.o_proj": Precision(6, 32)}),
        r"4 and 8 bits, and model\.layers\.0\.self_attn\.o_proj has 6; export it for tensorrt",
    ),
    (Recipe(tensors={"lm_head": Precision(5, 64)}), r"4 and 8 bits, and lm_head has 5"),
]


@pytest.mark.parametrize(("recipe", "words"), REFUSED)
def test_what_tensorrt_does_not_take_is_refused(recipe: Recipe, words: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=words):
        chosen_engine("tensorrt", recipe)
    with pytest.raises(InvalidArgument, match=words):
        write_variant(tmp_path, "tensorrt", SPEC, recipe, Ones())


def test_kv_is_float16_or_int8() -> None:
    assert chosen_kv(None, "tensorrt") == chosen_kv("fp16", "tensorrt") == "float16"
    assert chosen_kv("int8", "tensorrt") == "int8"
    with pytest.raises(InvalidArgument, match="kv is 'int4'; engine tensorrt keeps KV as one of fp16, int8"):
        chosen_kv("int4", "tensorrt")


class LargeNorm(Ones):
    """With a norm that float16 does not hold."""

    def vector(self, name: str) -> np.ndarray:
        return np.full(32, 7e4 if "post_attention" in name else 1, np.float32)


def test_a_number_that_float16_does_not_hold_is_named(tmp_path: Path) -> None:
    words = r"model\.layers\.0\.post_attention_layernorm\.weight holds a number of size 70000.*another engine"
    with pytest.raises(TensorError, match=words):
        write_variant(tmp_path, "tensorrt", SPEC, Recipe(), LargeNorm())


@pytest.fixture
def engines(tmp_path: Path) -> dict[str, Path]:
    """One checkpoint, exported for each engine."""
    tiny_folder(tmp_path / "checkpoint", "qwen2")
    paths = {engine: tmp_path / f"{engine}.edge" for engine in ("cpu", "onnxruntime", "tensorrt")}
    for engine, path in paths.items():
        export(tmp_path / "checkpoint", path, engine=engine, method="rtn", fidelity=False)
    return paths


def files(artifact: Path) -> dict[str, bytes]:
    names = (*(f"{form}.onnx" for form in NAMES), "weights.bin")
    return {name: (artifact / "tensorrt" / name).read_bytes() for name in names}


@pytest.mark.parametrize("other", ["cpu", "onnxruntime"])
def test_converting_there_and_back_gives_the_same(
    other: str, engines: dict[str, Path], tmp_path: Path
) -> None:
    convert(engines["tensorrt"], tmp_path / "to.edge", engine=other)
    convert(tmp_path / "to.edge", tmp_path / "back.edge", engine="tensorrt")
    assert files(tmp_path / "back.edge") == files(engines["tensorrt"])


def test_whatever_scales_were_those_of_tensorrt_are_above_0(engines: dict[str, Path], tmp_path: Path) -> None:
    found = []
    for engine in ("cpu", "onnxruntime"):
        convert(engines[engine], tmp_path / f"from-{engine}.edge", engine="tensorrt")
        found.append(files(tmp_path / f"from-{engine}.edge"))
    assert found[0] == found[1]
    for artifact in (tmp_path / "from-cpu.edge", engines["tensorrt"]):
        model = onnx.load(artifact / "tensorrt/opset21.onnx")
        used = {node.input[1] for node in model.graph.node if node.op_type == "DequantizeLinear"}
        scales = [numpy_helper.to_array(t) for t in model.graph.initializer if t.name in used]
        assert len(scales) == len(used) > 5
        assert all((each > 0).all() for each in scales)


def test_float_weights_are_not_converted(tmp_path: Path) -> None:
    tiny_folder(tmp_path / "checkpoint", "llama")
    export(tmp_path / "checkpoint", tmp_path / "m.edge", weights="fp16", engine="onnxruntime", fidelity=False)
    with pytest.raises(InvalidArgument, match=r"only codes are converted; export from the checkpoint"):
        convert(tmp_path / "m.edge", tmp_path / "to.edge", engine="tensorrt")
    assert not (tmp_path / "to.edge").exists()
