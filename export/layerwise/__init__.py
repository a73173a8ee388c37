"""A model run through ONNX Runtime a layer at a time: for what needs its inside and must not hold the whole of it."""

from export.layerwise.arrays import ArrayWeights
from export.layerwise.dequantized import Dequantized
from export.layerwise.embedding import embedded
from export.layerwise.exact import exact_layer, full_precision
from export.layerwise.head import Head
from export.layerwise.layer import Heard, Layer, Taps
from export.layerwise.source import layer_arrays, whole

__all__ = [
    "ArrayWeights",
    "Dequantized",
    "Head",
    "Heard",
    "Layer",
    "Taps",
    "embedded",
    "exact_layer",
    "full_precision",
    "layer_arrays",
    "whole",
]
