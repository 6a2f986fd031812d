"""Artifact to answers."""

from tfmodel.serve.files import answer_file, answer_lines

__all__ = ["answer_file", "answer_lines"]
