from __future__ import annotations

from typing import Any

import pytest

from edge.errors import InvalidArgument
from export.quantize import BLOCKS, METHODS, WEIGHTS, Recipe


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weights": "int5"}, "weights 'int5' is unknown; choose one of int4, int8, fp16, fp32"),
        ({"weights": "INT4"}, "weights 'INT4' is unknown"),
        ({"weights": None}, "weights None is unknown"),
        ({"weights": ["int4"]}, "weights .* is unknown"),
        ({"block": 16}, "block 16 is not offered; choose one of 32, 64, 128"),
        ({"block": 0}, "block 0 is not offered"),
        ({"block": -32}, "block -32 is not offered"),
        ({"block": 32.0}, "block 32.0 is not offered"),
        ({"block": "32"}, "block '32' is not offered"),
        ({"weights": "fp32", "block": 7}, "block 7 is not offered"),
        ({"weights": "fp16", "zero_points": True}, "zero points go with int4 and int8, not with fp16"),
        ({"method": "magic"}, "method 'magic' is unknown; choose one of rtn"),
    ],
)
def test_what_a_recipe_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Recipe(**values)


def test_every_offer_is_taken() -> None:
    for weights in WEIGHTS:
        for block in BLOCKS:
            for method in METHODS:
                recipe = Recipe(weights=weights, block=block, method=method)
                assert recipe.bits == {"int4": 4, "int8": 8}.get(weights, 0)


def test_what_the_manifest_keeps() -> None:
    assert Recipe(block=64, zero_points=True).to_json() == {
        "weights": "int4",
        "block": 64,
        "zero_points": True,
        "method": "rtn",
    }
    assert Recipe(weights="fp16").to_json() == {"weights": "fp16"}
