"""How a question and its context are cut into windows, and how long an answer may be."""

from __future__ import annotations

from tfmodel.config import ConfigError

MAX_LENGTH = 384
DOC_STRIDE = 128
MAX_QUERY_LENGTH = 64
MAX_ANSWER_LENGTH = 30
"""BERT's, for SQuAD."""


def check_windows(*, max_length: int, max_query_length: int, special_tokens: int = 3) -> None:
    """Refuse windows that have no room for a context behind the longest question.

    Args:
        max_length: tokens a window at most.
        max_query_length: tokens that a question is cut to.
        special_tokens: how many of them a window has; a RoBERTa's has one more than a BERT's.

    Raises:
        ConfigError: there is none.
    """
    if max_length < max_query_length + special_tokens + 1:
        number = {3: "three", 4: "four"}[special_tokens]
        raise ConfigError(
            f"train.max_length must be at least task.max_query_length + {special_tokens + 1}, for "
            f"a question, {number} special tokens and some of its context. Received: {max_length} "
            f"with task.max_query_length {max_query_length}. Raise the one or lower the other"
        )
