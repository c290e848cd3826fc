"""One HTML page of a run, or of several side by side: curves, pictures, tables; it asks for nothing else."""

from renderpretrain.report.page import report_page
from renderpretrain.report.writing import check_page, write_report

__all__ = ["check_page", "report_page", "write_report"]
