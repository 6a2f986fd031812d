"""A run's figures and plots -> one self-contained page, and the table a run ends with.

A dataset has a page of its own: what became of every raw row.
"""

from tfmodel.report.data_report import write_data_report
from tfmodel.report.page import write_report
from tfmodel.report.pretraining import (
    PretrainingResults,
    pretraining_summary,
    write_pretraining_report,
)
from tfmodel.report.results import Results
from tfmodel.report.several import (
    SeveralResults,
    TaskResults,
    several_summary,
    write_several_report,
)
from tfmodel.report.terminal import summary_text

__all__ = [
    "PretrainingResults",
    "Results",
    "SeveralResults",
    "TaskResults",
    "pretraining_summary",
    "several_summary",
    "summary_text",
    "write_data_report",
    "write_pretraining_report",
    "write_report",
    "write_several_report",
]
