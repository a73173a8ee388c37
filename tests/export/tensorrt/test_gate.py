"""What a GPU cannot multiply is refused before anything is built."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper

from edge.errors import TargetRefused
from export.tensorrt.gate import check_precision, coded_weights
from export.tensorrt.target import Target


@pytest.mark.parametrize(
    ("weights", "sm", "refused"),
    [
        ("int4", "7.5", "TensorRT multiplies int4 weights from sm80 on, and this is sm75; export it with"),
        ("int4", "8.0", None),
        ("int4", "8.7", None),
        ("fp8", "8.7", "from sm89 on, and this is sm87; export it with --weights int4 or int8"),
        ("fp8", "8.9", None),
        ("fp4", "8.9", "from sm100 on, and this is sm89"),
        ("fp4", "11.0", None),
        ("fp4", "12.0", None),
        ("int8", "7.5", None),
        ("float16", "7.5", None),
    ],
)
def test_the_gate(weights: str, sm: str, refused: str | None) -> None:
    target = Target("t", sm, "tensorrt_rtx")
    if refused is None:
        check_precision([weights], target)
        return
    with pytest.raises(TargetRefused) as raised:
        check_precision(["int8", weights], target)
    assert refused in str(raised.value)


def test_blocks_of_int8_are_for_rtx_alone() -> None:
    """NVIDIA's page on Dequantize: scales of blocks are for kINT4 only."""
    jetson = Target("jetson-orin-nano-8gb", "8.7", "tensorrt")
    check_precision(["int4"], jetson)
    check_precision(["float16"], jetson)
    words = r"target jetson-orin-nano-8gb: TensorRT has scales of blocks for int4 .*--weights int4 or fp16"
    with pytest.raises(TargetRefused, match=words):
        check_precision(["int4", "int8"], jetson)


def test_the_graph_says_what_its_weights_are() -> None:
    def model(*types: int) -> object:
        tensors = [TensorProto(name=str(i), data_type=kind) for i, kind in enumerate(types)]
        return helper.make_model(helper.make_graph([], "g", [], [], tensors))

    float16 = TensorProto.FLOAT16
    assert coded_weights(model(float16)) == ("float16",)  # type: ignore[arg-type]
    assert coded_weights(model(TensorProto.INT8, TensorProto.INT4, float16)) == ("int4", "int8")  # type: ignore[arg-type]
    assert coded_weights(model(TensorProto.FLOAT8E4M3FN)) == ("fp8",)  # type: ignore[arg-type]
    assert coded_weights(model(TensorProto.FLOAT4E2M1)) == ("fp4",)  # type: ignore[arg-type]
