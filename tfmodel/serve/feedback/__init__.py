"""Answers to a better model: what was asked, what was answered, and what is right."""

from tfmodel.serve.feedback.deleting import delete_feedback
from tfmodel.serve.feedback.exporting import Exported, export_feedback
from tfmodel.serve.feedback.settings import FeedbackSettings
from tfmodel.serve.feedback.stats import VersionFigures, feedback_stats

__all__ = [
    "Exported",
    "FeedbackSettings",
    "VersionFigures",
    "delete_feedback",
    "export_feedback",
    "feedback_stats",
]
