"""Fidelity: how far an artifact, as it runs, is from the full-precision model it was made from."""

from export.evaluate.comparison import evaluate
from export.evaluate.report import FidelityReport

__all__ = ["FidelityReport", "evaluate"]
