"""What phone runtimes take: refused in words before conversion, checked in the file after."""

from __future__ import annotations

import dataclasses
import logging

from tfmodel.config import ConfigError
from tfmodel.export.settings import PHONE_RUNTIMES
from tfmodel.export.trained import Trained

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Runtime:
    """A runtime that takes `.tflite` files.

    Attributes:
        shown: its name for people.
        takes_text: whether it tokenizes itself: one text a row, ASCII lower-cased, always.
        has_per_channel: whether it knows int8 matrices with a scale for each column.
    """

    shown: str
    takes_text: bool
    has_per_channel: bool


RUNTIMES = {
    "task-library-0.4": Runtime("the Task Library 0.4", True, has_per_channel=False),
    "mediapipe": Runtime("MediaPipe", True, has_per_channel=True),
    "litert": Runtime("LiteRT", False, has_per_channel=True),
}
"""Each takes what those before it take."""


def choose_runtime(wish: str, trained: Trained) -> str:
    """Find the runtime that files are made for.

    Args:
        wish: one of `RUNTIMES`, or `auto`: the first of them that the model can satisfy.
        trained: the model and its tokenizer.

    Returns:
        A name of `RUNTIMES`.

    Raises:
        ConfigError: an unknown name, or a runtime that cannot ask such a model.
    """
    if wish not in PHONE_RUNTIMES:
        raise ConfigError(
            f"export.runtime must be one of {', '.join(PHONE_RUNTIMES)}. Received: {wish!r}."
        )
    if wish == "auto":
        wish = "litert" if trained.has_pairs else next(iter(RUNTIMES))
    runtime = RUNTIMES[wish]
    if runtime.takes_text and trained.has_pairs:
        raise ConfigError(
            f"export.runtime={wish}: expected a model of single texts, for {runtime.shown} "
            "tokenizes one text a row and has no place for a second. Received: a model of pairs. "
            "Set export.runtime=litert, and fill ids, mask and segment_ids in the app."
        )
    if runtime.takes_text and not trained.tokenizer.lowercase:
        _log.warning(
            "%s lower-cases ASCII letters always, and the vocabulary is cased: capitals are lost "
            "on the phone. Count the rows that differ with `tfmodel data CONFIG --skew`.",
            runtime.shown,
        )
    return wish


def check_operations(content: bytes, runtime: str) -> None:
    """Placeholder."""
