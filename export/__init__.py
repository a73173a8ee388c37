"""The exporter: checkpoint → artifact, and artifact → artifact for another engine."""

from export.convert import ConvertReport, convert
from export.pipeline import ExportReport, export

__all__ = ["ConvertReport", "ExportReport", "convert", "export"]
