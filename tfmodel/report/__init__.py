"""A run's figures and plots -> one self-contained page, and the table a run ends with."""

from tfmodel.report.page import write_report
from tfmodel.report.results import Results
from tfmodel.report.terminal import summary_text

__all__ = ["Results", "summary_text", "write_report"]
