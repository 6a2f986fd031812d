"""`tfmodel feedback`: what it is told, and what it says."""

from __future__ import annotations

import argparse

from tfmodel.serve.feedback.deleting import delete_feedback
from tfmodel.serve.feedback.exporting import export_feedback
from tfmodel.serve.feedback.stats import feedback_stats, table_lines


def run_command(options: argparse.Namespace) -> list[str]:
    """Export, count or delete.

    Args:
        options: `action`, `database`, and those of the action.

    Returns:
        Lines to print.
    """
    if options.action == "export":
        names = ("only", "since", "model", "text", "text_pair", "label")
        given = {name: getattr(options, name) for name in names}
        return export_feedback(options.database, options.output, **given).lines
    if options.action == "stats":
        return table_lines(feedback_stats(options.database))
    requests, corrections = delete_feedback(options.database, options.ids)
    return [f"{requests:,} requests and {corrections:,} corrections deleted"]
