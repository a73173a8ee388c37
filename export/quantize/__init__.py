"""Quantization: a file a method, behind one small interface."""

from export.quantize.inputs import Inputs
from export.quantize.method import Method, Quantized
from export.quantize.precision import BITS, BLOCKS, Precision
from export.quantize.recipe import AUTO, METHODS, MIXED, WEIGHTS, Recipe
from export.quantize.rtn import RoundToNearest

__all__ = [
    "AUTO",
    "BITS",
    "BLOCKS",
    "METHODS",
    "MIXED",
    "WEIGHTS",
    "Inputs",
    "Method",
    "Precision",
    "Quantized",
    "Recipe",
    "RoundToNearest",
]
