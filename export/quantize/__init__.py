"""Quantization: a file a method, behind one small interface."""

from export.quantize.method import Method, Quantized
from export.quantize.recipe import BLOCKS, METHODS, WEIGHTS, Recipe
from export.quantize.rtn import RoundToNearest

__all__ = ["BLOCKS", "METHODS", "WEIGHTS", "Method", "Quantized", "Recipe", "RoundToNearest"]
