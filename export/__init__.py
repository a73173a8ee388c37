"""The exporter: checkpoint → artifact."""

from export.pipeline import ExportReport, export

__all__ = ["ExportReport", "export"]
