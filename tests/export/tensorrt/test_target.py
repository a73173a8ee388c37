"""Targets: always named, and refused with the nearest names."""

from __future__ import annotations

import pytest

from boards.targets import target_names
from edge.errors import EdgeError, InvalidArgument, TargetRefused, UnknownTarget
from export.tensorrt.target import Target, parse_targets


@pytest.mark.parametrize(
    ("names", "sms"),
    [
        (["sm89"], ["8.9"]),
        (["SM_86", "sm-120", "12.1"], ["8.6", "12.0", "12.1"]),
        (["sm86,sm89", "sm120"], ["8.6", "8.9", "12.0"]),
        (["sm110"], ["11.0"]),
        (["rtx-4060, rtx-5090"], ["8.9", "12.0"]),
        # The same GPU needs no second engine.
        (["rtx-4060,sm89,rtx-4090"], ["8.9"]),
        (["jetson-orin-nano-8gb"], ["8.7"]),
    ],
)
def test_a_target_is_a_gpu_or_a_board(names: list[str], sms: list[str]) -> None:
    assert [target.sm for target in parse_targets(names)] == sms


def test_a_jetson_is_for_its_own_tensorrt() -> None:
    assert parse_targets(["jetson-agx-thor", "dgx-spark"]) == (
        Target("jetson-agx-thor", "11.0", "tensorrt", "jetson-agx-thor", "aarch64"),
        Target("dgx-spark", "12.1", "tensorrt_rtx", "dgx-spark", "aarch64"),
    )


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        ("", InvalidArgument, "no target is named"),
        (" , ", InvalidArgument, "no target is named"),
        ("sm88", UnknownTarget, "did you mean sm86 or sm87 or sm89?"),
        ("sm999", UnknownTarget, "compute capability 99.9"),
        ("rtx4090", UnknownTarget, "did you mean rtx-4090"),
        ("rtx-4080", UnknownTarget, "'rtx-4080'; did you mean sm89? "),
        ("rtx-3080", UnknownTarget, "did you mean sm86? "),
        ("RTX 4060 Ti", UnknownTarget, "did you mean sm89? "),
        ("rtx-2070", UnknownTarget, "(RTX 20: sm75, 30: sm86, 40: sm89, 50: sm120), boards: edge boards"),
        (
            "jetson-nano-orin",
            UnknownTarget,
            "did you mean jetson-orin-nano-4gb or jetson-orin-nano-8gb or jetson",
        ),
        ("jetson orin nano 8gb super", UnknownTarget, "did you mean jetson-orin-nano-super-8gb?"),
        ("jetson-orin-nano", UnknownTarget, "did you mean jetson-orin-nano-4gb or jetson-orin-nano-8gb or"),
        ("zzz", UnknownTarget, "GPUs are sm75, sm80, sm86, sm87, sm89, sm110, sm120, sm121 (RTX"),
        ("x" * 999, UnknownTarget, "xxx..."),
        ("rk3588-16gb", TargetRefused, "no NVIDIA GPU"),
        ("jetson-nano", TargetRefused, "sm53, which TensorRT 10 is not there for"),
        ("jetson-xavier-nx-8gb", TargetRefused, "sm72"),
    ],
)
def test_what_is_no_target(name: str, error: type[EdgeError], told: str) -> None:
    with pytest.raises(error) as raised:
        parse_targets([name])
    assert told in str(raised.value)
    assert len(str(raised.value)) < 400


def test_every_name_that_is_suggested_is_one() -> None:
    names = list(target_names())
    assert {"sm89", "rtx-4090", "jetson-orin-nano-8gb"} <= set(names)
    for name in names:
        assert parse_targets([name])
