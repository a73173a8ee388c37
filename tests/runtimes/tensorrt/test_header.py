"""The header of an engine file: read back, told apart from what is damaged, and explained where it does not fit."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.errors import EdgeError, EngineDamaged, EngineMismatch
from runtimes.tensorrt.header import (
    FORMAT,
    PLAN_OFFSET,
    EngineHeader,
    Here,
    Shapes,
    check_here,
    check_plan,
    mismatch,
    read_header,
)

PLAN = b"plan" * 50
HEADER = EngineHeader(
    flavour="tensorrt_rtx",
    version="1.7.1.116",
    sms=("8.9",),
    platform="linux-x86_64",
    artifact="ab" * 16,
    form="opset24",
    capacity=4096,
    profiles=(Shapes(256, 32), Shapes(1, 1)),
    weights=("int4",),
    kv="float16",
    built=1_790_000_000,
    activation_bytes=0,
    plan_bytes=len(PLAN),
    plan_sha256=hashlib.sha256(PLAN).hexdigest(),
)
HERE = Here(
    flavour="tensorrt_rtx", version="1.7.1.116", sm="8.9", platform="linux-x86_64", artifact="ab" * 16
)
# A folder is made anew for each example.
PROPERTY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


def written(folder: Path, data: bytes | None = None) -> Path:
    path = folder / "e.engine"
    path.write_bytes(HEADER.dumps() + PLAN if data is None else data)
    return path


@given(
    header=st.builds(
        EngineHeader,
        flavour=st.sampled_from(["tensorrt", "tensorrt_rtx"]),
        version=st.from_regex(r"\d{1,3}(\.\d{1,4}){1,3}", fullmatch=True),
        sms=st.lists(st.sampled_from(["8.6", "8.7", "11.0", "12.0"]), min_size=1, max_size=4).map(tuple),
        platform=st.just("linux-aarch64"),
        artifact=st.text("0123456789abcdef", min_size=32, max_size=32),
        form=st.sampled_from(["opset24", "opset21"]),
        capacity=st.integers(1, 1 << 20),
        profiles=st.lists(st.builds(Shapes, st.integers(1, 999), st.integers(1, 99)), min_size=1).map(tuple),
        weights=st.just(("int4", "int8")),
        kv=st.just("int8"),
        built=st.integers(1, 1 << 40),
        activation_bytes=st.integers(0, 1 << 40),
        plan_bytes=st.just(len(PLAN)),
        plan_sha256=st.just(HEADER.plan_sha256),
    )
)
@PROPERTY
def test_what_is_written_is_read(tmp_path: Path, header: EngineHeader) -> None:
    path = written(tmp_path, header.dumps() + PLAN)
    assert read_header(path) == header
    check_plan(path, header)


@given(length=st.integers(0, PLAN_OFFSET + len(PLAN) - 1))
@PROPERTY
def test_a_file_that_ends_early_is_damaged(tmp_path: Path, length: int) -> None:
    path = written(tmp_path, (HEADER.dumps() + PLAN)[:length])
    with pytest.raises(EngineDamaged, match=r"truncated|does not begin as one"):
        read_header(path)


@given(data=st.data())
@PROPERTY
def test_an_altered_byte_is_noticed(tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(HEADER.dumps() + PLAN)
    text = len(HEADER.dumps().rstrip(b"\0"))
    at = data.draw(st.integers(0, text - 1) | st.integers(PLAN_OFFSET, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    path = written(tmp_path, bytes(whole))
    with pytest.raises((EngineDamaged, EngineMismatch), match=str(path)):
        check_plan(path, read_header(path))


@given(rubbish=st.binary(max_size=9000))
@PROPERTY
def test_any_other_file_is_none(tmp_path: Path, rubbish: bytes) -> None:
    with pytest.raises(EngineDamaged):
        read_header(written(tmp_path, rubbish))


@pytest.mark.parametrize(
    "change",
    [
        {"capacity": 0},
        {"capacity": True},
        {"capacity": "4096"},
        {"sms": ()},
        {"sms": ("89",)},
        {"sms": ("8.9\n",)},
        {"profiles": ()},
        {"profiles": ({"tokens": 1},)},
        {"platform": ""},
        {"kv": "float8"},
        {"built": 0},
        {"built": 1.5},
        {"plan_bytes": -1},
        {"activation_bytes": -1},
        {"activation_bytes": None},
    ],
)
def test_a_header_of_other_fields_is_none(tmp_path: Path, change: dict[str, object]) -> None:
    from dataclasses import fields

    class Other(EngineHeader):
        pass

    wrong = object.__new__(Other)
    for field in fields(HEADER):
        object.__setattr__(wrong, field.name, change.get(field.name, getattr(HEADER, field.name)))
    with pytest.raises(EngineDamaged):
        read_header(written(tmp_path, wrong.dumps() + PLAN))


def test_a_longer_file_is_altered(tmp_path: Path) -> None:
    with pytest.raises(EngineDamaged, match=r"altered: it has 4297 bytes, its header says 4296"):
        read_header(written(tmp_path, HEADER.dumps() + PLAN + b"x"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EngineDamaged, match="No such file"):
        read_header(tmp_path / "none.engine")
    with pytest.raises(EngineDamaged, match="No such file"):
        check_plan(tmp_path / "none.engine", HEADER)


def test_a_later_format_says_what_to_upgrade(tmp_path: Path) -> None:
    data = bytearray(HEADER.dumps() + PLAN)
    data[8] = FORMAT + 1
    with pytest.raises(EngineMismatch, match="pip install --upgrade edgewise"):
        read_header(written(tmp_path, bytes(data)))


RUN = "run: edge build q.edge --target sm{} --context 4096"


@pytest.mark.parametrize(
    ("here", "told"),
    [
        ({}, None),
        (
            {"flavour": "tensorrt", "version": "10.3.0", "sm": "8.7", "platform": "linux-aarch64"},
            "built for sm_89 with TensorRT-RTX 1.7; this is sm_87 with TensorRT 10.3: " + RUN.format("87"),
        ),
        (
            {"sm": "12.0"},
            "built for sm_89 with TensorRT-RTX 1.7; this is sm_120 with TensorRT-RTX 1.7: "
            + RUN.format("120"),
        ),
        (
            {"version": "1.8.0.2"},
            "built for sm_89 with TensorRT-RTX 1.7; this is sm_89 with TensorRT-RTX 1.8: " + RUN.format("89"),
        ),
        (
            {"version": "1.7.2.9"},
            "built for sm_89 with TensorRT-RTX 1.7.1.116; this is sm_89 with TensorRT-RTX 1.7.2.9: "
            + RUN.format("89"),
        ),
        (
            {"platform": "linux-aarch64"},
            "built for linux-x86_64; this is linux-aarch64: " + RUN.format("89"),
        ),
        ({"artifact": "cd" * 16}, "built from another artifact than q.edge: " + RUN.format("89")),
    ],
)
def test_a_mismatch_is_explained_in_a_sentence(here: dict[str, str], told: str | None) -> None:
    machine = replace(HERE, **here)
    assert mismatch(HEADER, machine, "q.edge") == told
    if told is None:
        check_here(Path("e.engine"), HEADER, machine, "q.edge")
    else:
        with pytest.raises(EngineMismatch) as raised:
            check_here(Path("e.engine"), HEADER, machine, "q.edge")
        assert str(raised.value) == f"e.engine is {told}"
        assert isinstance(raised.value, EdgeError)


def test_one_plan_serves_several_gpus() -> None:
    header = replace(HEADER, sms=("8.6", "8.9"))
    assert mismatch(header, replace(HERE, sm="8.6"), "q.edge") is None
    assert "built for sm_86 and sm_89 with" in str(mismatch(header, replace(HERE, sm="12.0"), "q.edge"))


def test_the_command_can_be_pasted() -> None:
    told = mismatch(HEADER, replace(HERE, sm="8.7"), Path("my models/q.edge"))
    assert told is not None
    assert told.endswith("run: edge build 'my models/q.edge' --target sm87 --context 4096")
