"""Upgrade a served model: a version beside another, compared, then in its place or taken back."""

from tfmodel.serve.rollout.compare import Comparison, Rule, compare
from tfmodel.serve.rollout.control import Rollout, write_first_config
from tfmodel.serve.rollout.live import Live, VersionRefused
from tfmodel.serve.rollout.page import comparison_lines, write_page
from tfmodel.serve.rollout.recorded import compare_mirrored, feedback_rows
from tfmodel.serve.rollout.rows import Rows, labelled_rows, run_rows, text_rows
from tfmodel.serve.rollout.served import manifest_of, served_predictor
from tfmodel.serve.rollout.state import State

__all__ = [
    "Comparison",
    "Live",
    "Rollout",
    "Rows",
    "Rule",
    "State",
    "VersionRefused",
    "compare",
    "compare_mirrored",
    "comparison_lines",
    "feedback_rows",
    "labelled_rows",
    "manifest_of",
    "run_rows",
    "served_predictor",
    "text_rows",
    "write_first_config",
    "write_page",
]
