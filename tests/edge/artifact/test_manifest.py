from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.artifact import FORMAT, Manifest, ModelSpec
from edge.errors import ArtifactCorrupt, ArtifactError, ArtifactTooNew
from tests.edge.artifact.samples import (
    json_values,
    manifests,
    put,
    sample_json,
    sample_manifest,
    specs,
)

NESTED = "[" * 100_000
BOMB: Any = []
for _ in range(200):
    BOMB = [BOMB]


@given(specs())
def test_a_spec_reads_back_equal(spec: ModelSpec) -> None:
    assert ModelSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@given(manifests())
def test_a_manifest_reads_back_equal(manifest: Manifest) -> None:
    assert Manifest.loads(manifest.dumps()) == manifest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("not json", "not JSON"),
        ("{", "not JSON"),
        ("\ufeff{}", "not JSON"),
        ("[]", "expected an object"),
        ("null", "expected an object"),
        ("{}", "format is None"),
        (NESTED, "nests too deeply"),
        (f'{{"format": 1, "recipe": {NESTED}', "nests too deeply"),
        ('{"format": 1e999}', "no finite number"),
        (f'{{"format": {"9" * 5000}}}', "not JSON"),
    ],
)
def test_no_manifest(text: str, message: str) -> None:
    with pytest.raises(ArtifactCorrupt, match=message):
        Manifest.loads(text)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400"])
@pytest.mark.parametrize("key", ["spec.norm_eps", "spec.rope.theta", "recipe.block", "provenance.source"])
def test_numbers_that_are_none(key: str, constant: str) -> None:
    data = sample_json()
    put(data, key, "HERE")
    with pytest.raises(ArtifactCorrupt, match="no finite number"):
        Manifest.loads(json.dumps(data).replace('"HERE"', constant))


SPOILT: list[tuple[str, Any, str]] = [
    ("format", 0, "format is 0"),
    ("format", -1, "format is -1"),
    ("format", True, "format is True"),
    ("format", 1.0, "format is 1.0"),
    ("format", "1", "format is '1'"),
    ("name", 7, "name is 7, expected str"),
    ("surprise", 1, "unknown key 'surprise'"),
    ("_check", 1, "unknown key '_check'"),
    ("spec", None, "spec is None, expected an object"),
    ("spec", [], "spec is \\[\\], expected an object"),
    ("spec.surprise", 1, "spec has an unknown key 'surprise'"),
    ("spec.rope", 3, "spec.rope is 3, expected an object"),
    ("spec.rope.surprise", 3, "spec.rope has an unknown key"),
    ("spec.rope.kind", "spiral", "spec.rope.kind is 'spiral', expected one of default"),
    ("spec.rope.theta", 0, "spec.rope.theta is 0.0, expected more than 0"),
    ("spec.rope.theta", -1.5, "expected more than 0"),
    ("spec.rope.theta", 10**400, "spec.rope.theta is 1000.*expected a finite number"),
    ("spec.rope.factor", 0, "spec.rope.factor is 0.0"),
    ("spec.rope.attention_factor", -1, "spec.rope.attention_factor"),
    ("spec.rope.factors", [1, 2], "spec.rope.factors"),
    ("spec.rope.factors", "12", "spec.rope.factors is '12', expected a list"),
    ("spec.rope", {"kind": "factors"}, "spec.rope.factors"),
    ("spec.rope", {"kind": "factors", "factors": [1.0, 0.0]}, "divisors above 0"),
    ("spec.architecture", None, "spec.architecture is None, expected str"),
    ("spec.layers", 0, "spec.layers is 0, expected 1 to 4096"),
    ("spec.layers", 10**18, "spec.layers is 1000000000000000000"),
    ("spec.layers", 2.0, "spec.layers is 2.0, expected int"),
    ("spec.layers", True, "spec.layers is True, expected int"),
    ("spec.layers", -2, "spec.layers is -2, expected a count"),
    ("spec.layers", 10**300, "expected a count of at most"),
    ("spec.vocab_size", 0, "spec.vocab_size is 0"),
    ("spec.hidden_size", 1 << 40, "spec.hidden_size"),
    ("spec.intermediate_size", 0, "spec.intermediate_size"),
    ("spec.kv_heads", 0, "spec.kv_heads is 0"),
    ("spec.kv_heads", 3, "spec.heads is 4, expected a multiple of the 3 kv_heads"),
    ("spec.head_dim", 5, "spec.head_dim is 5, expected an even number"),
    ("spec.context", 0, "spec.context is 0"),
    ("spec.context", 1 << 40, "spec.context"),
    ("spec.norm_eps", 0.0, "spec.norm_eps"),
    ("spec.norm_eps", "1e-5", "spec.norm_eps is '1e-5', expected float"),
    ("spec.tied", 1, "spec.tied is 1, expected bool"),
    ("spec.windows", [0], "spec.windows is \\(0,\\), expected one for each of the 2 layers"),
    ("spec.windows", [0, -1], "spec.windows\\[1\\] is -1"),
    ("spec.windows", {"0": 0}, "spec.windows is .*expected a list"),
    ("recipe", None, "recipe is None, expected an object"),
    ("recipe.deep", BOMB, "recipe nests deeper than 8 levels"),
    ("provenance", "here", "provenance is 'here', expected an object"),
    ("provenance.deep", BOMB, "provenance nests deeper"),
    ("parts", {}, "parts is {}, expected a list"),
    ("parts", [None], "parts\\[0\\] is None, expected an object"),
    ("parts.0", {"name": "mlp"}, "parts\\[0\\] lacks parameters, bytes"),
    ("parts.0.bytes", -1, "parts\\[0\\].bytes is -1"),
    ("parts.0.bytes", 10**30, "parts\\[0\\].bytes"),
    ("kv", [], "kv does not name each of the 2 layers once"),
    ("kv.0.layers", [0, 0], "kv does not name"),
    ("kv.0.layers", [1], "kv does not name"),
    ("kv.0.layers", [7], "kv does not name"),
    ("kv.0.layers", [0.0], "kv\\[0\\].layers\\[0\\] is 0.0, expected int"),
    ("variants", None, "variants is None, expected a list"),
    ("variants.0.engine", 3, "variants\\[0\\].engine is 3, expected str"),
    ("variants.0.model", "elsewhere.onnx", "names 'elsewhere.onnx', which is not listed"),
    ("variants.0.files", ["elsewhere.bin"], "names 'elsewhere.bin', which is not listed"),
    ("variants.0.files", "tokenizer.json", "expected a list"),
    ("variants.0.layout", None, "variants\\[0\\].layout is None, expected str"),
    ("variants.0.layout_version", "1", "variants\\[0\\].layout_version is '1', expected int"),
    ("variants.0.layout_version", -1, "variants\\[0\\].layout_version is -1, expected a count"),
    ("variants.0.requires", "new", "requires 'new', expected a version"),
    ("variants.0.requires", "1." + "9" * 5000, "expected a version"),
    ("variants.0.requires", "²", "expected a version"),
    ("files", 1, "files is 1, expected a list"),
    ("files.0", [], "files\\[0\\] is \\[\\], expected an object"),
    ("files.0.path", None, "files\\[0\\].path is None, expected str"),
    ("files.0.size", -1, "files\\[0\\].size is -1"),
    ("files.0.size", "100", "files\\[0\\].size is '100', expected int"),
    ("files.0.path", "tokenizer.json", "lists 'tokenizer.json' twice"),
    ("files.0.mode", 511, "unknown key 'mode'"),
]


@pytest.mark.parametrize(
    ("key", "value", "message"), SPOILT, ids=[f"{k}-{i}" for i, (k, *_) in enumerate(SPOILT)]
)
def test_a_spoilt_manifest_is_refused(key: str, value: Any, message: str) -> None:
    data = sample_json()
    put(data, key, value)
    with pytest.raises(ArtifactCorrupt, match=message) as caught:
        Manifest.loads(json.dumps(data))
    assert "edge.json" in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("key", [key for key in sample_json() if key != "edgewise"])
def test_a_key_of_the_manifest_is_missing(key: str) -> None:
    data = sample_json()
    del data[key]
    with pytest.raises(ArtifactCorrupt, match=key):
        Manifest.loads(json.dumps(data))


@pytest.mark.parametrize("key", ["architecture", "vocab_size", "layers", "norm_eps", "rope", "tied"])
def test_a_key_of_the_spec_is_missing(key: str) -> None:
    data = sample_json()
    del data["spec"][key]
    with pytest.raises(ArtifactCorrupt, match=f"spec.*{key}"):
        Manifest.loads(json.dumps(data))


@pytest.mark.parametrize("writer", ["9.1", None, {"a": [1] * 9999}, "\x1b[2J" * 999])
def test_a_newer_format_is_told_before_anything_else(writer: Any) -> None:
    newer = {"format": FORMAT + 1, "edgewise": writer, "all": "else may have changed"}
    with pytest.raises(ArtifactTooNew, match=f"format {FORMAT + 1} .* upgrade") as caught:
        Manifest.loads(json.dumps(newer))
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


def test_format_1_has_no_layouts() -> None:
    data = sample_json()
    data["format"] = 1
    for variant in data["variants"]:
        del variant["layout"], variant["layout_version"]
    (variant,) = Manifest.loads(json.dumps(data)).variants
    assert (variant.layout, variant.layout_version) == ("", 0)


def test_a_layout_of_tomorrow_is_read() -> None:
    """Whoever opens that variant refuses it; the others may be used."""
    data = sample_json()
    put(data, "variants.0.layout", "spirals")
    put(data, "variants.0.layout_version", 9)
    (variant,) = Manifest.loads(json.dumps(data)).variants
    assert (variant.layout, variant.layout_version) == ("spirals", 9)


def places(value: Any, way: str = "") -> list[str]:
    """Every key of nested JSON, as `put` names it."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, v in inner for place in (f"{way}{key}", *places(v, f"{way}{key}."))]


@given(st.sampled_from(places(sample_json())), json_values)
def test_any_value_anywhere_is_read_or_refused(key: str, value: Any) -> None:
    data = sample_json()
    put(data, key, value)
    _read_or_refuse(json.dumps(data))


@given(st.data())
@settings(max_examples=200)
def test_any_change_of_the_text_is_read_or_refused(data: st.DataObject) -> None:
    text = sample_manifest().dumps()
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, min(len(text), start + 40)))
    insert = data.draw(
        st.text(max_size=10) | st.sampled_from(["[", "{", "}", "]", "9" * 400, "-", "1e999", '"\\ud800"'])
    )
    _read_or_refuse(text[:start] + insert + text[stop:])


def _read_or_refuse(text: str) -> None:
    try:
        manifest = Manifest.loads(text)
    except ArtifactError:
        return
    assert Manifest.loads(manifest.dumps()) == manifest
    assert manifest.bits_per_weight >= 0
