"""Fitting: codes chosen for what each layer is seen to take, and bits put where they matter."""

from export.fit.effort import EFFORTS, Effort
from export.fit.fitted import FittedWeights
from export.fit.text import CalibrationTokens

__all__ = ["EFFORTS", "CalibrationTokens", "Effort", "FittedWeights"]
