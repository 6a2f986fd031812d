"""Texts as they are stored: without what is private, and with the way from the texts as sent."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmodel.data.privacy import Round, check_privacy, moved, replace_and_follow
from tfmodel.data.privacy.settings import PrivacySettings
from tfmodel.serve.feedback.asked import AskedRow, task_of_answer

_LABELS = ("label", "labels")


@dataclasses.dataclass(frozen=True)
class StoredText:
    """A text as it is stored.

    Attributes:
        text: without what is private.
        changes: what was replaced, for places of the text as it was sent.
    """

    text: str
    changes: Sequence[Round] = ()

    @property
    def sent_length(self) -> int:
        """Characters of the text as it was sent."""
        grown = sum(size - (end - start) for each in self.changes for start, end, size in each)
        return len(self.text) - grown

    def place(self, start: int, end: int) -> tuple[int, int, bool]:
        """Where a span of the text as sent stands, and whether its borders do exactly."""
        return moved(self.changes, start, end)


@dataclasses.dataclass(frozen=True)
class StoredRow:
    """A row as it is stored: its texts, and the answer with its places in them."""

    text: StoredText
    text_pair: StoredText | None = None
    answer: dict[str, Any] | None = None

    @property
    def context(self) -> StoredText:
        """The text that answers stand in: the second one, where there are two."""
        return self.text if self.text_pair is None else self.text_pair

    def changes(self) -> str | None:
        """What was replaced, as JSON; None: nothing."""
        pair = () if self.text_pair is None else self.text_pair.changes
        if not self.text.changes and not pair:
            return None
        return json.dumps([[*self.text.changes], [*pair]], separators=(",", ":"))

    @classmethod
    def read(cls, text: str, text_pair: str | None, answer: str | None, changes: str | None):
        """The row out of what is in the database."""
        first, second = json.loads(changes) if changes else ([], [])
        return cls(
            StoredText(text, first),
            None if text_pair is None else StoredText(text_pair, second),
            json.loads(answer) if answer else None,
        )


class Scrubber:
    """Replaces what is private, before anything is stored.

    Args:
        settings: the kinds; None: nothing is replaced.

    Raises:
        ConfigError: the extra `privacy` is not installed, or a region is unknown.
    """

    def __init__(self, settings: PrivacySettings | None):
        self._settings = settings
        if settings is not None:
            check_privacy(settings)

    def text(self, text: str) -> StoredText:
        """A text as it is stored."""
        if self._settings is None:
            return StoredText(text)
        kinds, regions = self._settings.kinds, self._settings.regions
        return StoredText(*replace_and_follow(text, kinds, regions=regions))

    def row(
        self, row: AskedRow, *, has_labels: bool = False, has_vectors: bool = False
    ) -> StoredRow:
        """A row as it is stored.

        Args:
            row: as it was asked and answered.
            has_labels: whether what the answer calls labels are those of a model that we know;
                otherwise they may be texts.
            has_vectors: whether the model's answers are vectors. One is kept of a text that nothing
                was replaced in; of others it would still tell what was private.
        """
        text = self.text(row.text)
        pair = None if row.text_pair is None else self.text(row.text_pair)
        stored = StoredRow(text, pair)
        answer = self._answer(row.answer, stored, has_labels)
        if has_vectors and row.vector is not None and stored.changes() is None:
            answer = {**(answer or {}), "vector": packed(row.vector)}
        return dataclasses.replace(stored, answer=answer)

    def _answer(
        self, answer: dict[str, Any] | None, row: StoredRow, has_labels: bool
    ) -> dict[str, Any] | None:
        """The answer with its places moved, and its parts of a text cut out anew."""
        if answer is None:
            return None
        task = task_of_answer(answer)
        if task == "tag":
            placed, is_exact = [], True
            for entity in answer["entities"]:
                start, end, stands = row.text.place(entity["start"], entity["end"])
                is_exact &= stands
                placed.append(entity | {"start": start, "end": end})
            return answer | {"entities": placed} | _unless(is_exact)
        if task == "span" and answer["answer"]:
            start, end, is_exact = row.context.place(answer["start"], answer["end"])
            cut = {"answer": row.context.text[start:end], "start": start, "end": end}
            return answer | cut | _unless(is_exact)
        return {
            name: value if has_labels and name in _LABELS else self.anything(value)
            for name, value in answer.items()
        }

    def anything(self, value: Any) -> Any:
        """A JSON value without what is private in its strings."""
        if isinstance(value, list):
            return [*map(self.anything, value)]
        if isinstance(value, dict):
            return {name: self.anything(each) for name, each in value.items()}
        return self.text(value).text if isinstance(value, str) else value


def packed(vector: Sequence[float]) -> str:
    """A vector as it is stored: 16 bits a number, in base64."""
    return base64.b64encode(np.asarray(vector, "<f2").tobytes()).decode("ascii")


def unpacked(vector: str) -> np.ndarray:
    """The float32 vector of what `packed` gave."""
    return np.frombuffer(base64.b64decode(vector), "<f2").astype(np.float32)


def _unless(is_exact: bool) -> dict[str, bool]:
    """What is said of an answer that begins or ends inside of what was replaced."""
    return {} if is_exact else {"is_exact": False}
