"""How a question and its context are cut into windows, and how long an answer may be."""

from __future__ import annotations

from tfmodel.config import ConfigError

MAX_LENGTH = 384
DOC_STRIDE = 128
MAX_QUERY_LENGTH = 64
MAX_ANSWER_LENGTH = 30
"""BERT's, for SQuAD."""


def check_windows(*, max_length: int, max_query_length: int) -> None:
    """Refuse windows that have no room for a context behind the longest question.

    Raises:
        ConfigError: there is none.
    """
    if max_length < max_query_length + 4:
        raise ConfigError(
            "train.max_length must be at least task.max_query_length + 4, for a question, three "
            f"special tokens and some of its context. Received: {max_length} with "
            f"task.max_query_length {max_query_length}. Raise the one or lower the other"
        )
