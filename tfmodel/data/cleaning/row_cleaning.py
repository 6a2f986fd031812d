"""What becomes of one raw row: it is clean, or there is a reason why it cannot be kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from tfmodel.data.cleaning import chosen_steps
from tfmodel.data.cleaning.filters import reason_to_drop
from tfmodel.data.ranks import time_rank
from tfmodel.data.rows import BadLabel, Reject, Row, encodable
from tfmodel.data.settings import DataSettings
from tfmodel.data.targets import Target


@dataclasses.dataclass(slots=True)
class Cleaned:
    """What cleaning did to a row.

    Attributes:
        reason: why it cannot be kept, one word; empty: it can.
        detail: a sentence more, or nothing.
        steps: names of the steps that changed a text.
        before: the text that changed, where one did.
        after: what became of that text.
        hide: takes out of a text what no account may show; None: nothing is hidden.
    """

    reason: str
    detail: str = ""
    steps: tuple[str, ...] = ()
    before: str = ""
    after: str = ""
    hide: Callable[[str], str] | None = None


class RowCleaner:
    """Cleans the rows of a file, one at a time.

    Args:
        role: train, dev or test.
        target: the kind of label.
        settings: the `data:` section.
    """

    def __init__(self, role: str, target: Target, settings: DataSettings):
        self._target = target
        self._settings = settings
        self._steps = chosen_steps(settings.cleaning)
        self._needs_time = settings.split == "time" and role == "train"

    def __call__(self, row: Row | Reject) -> Cleaned:
        """Clean a row in place; tell whether it can be kept."""
        row.text, row.origin = encodable(row.text), encodable(row.origin)
        if isinstance(row, Reject):
            return Cleaned(row.reason, row.detail)
        row.group = None if row.group is None else encodable(row.group)
        before, pair_before = row.text, row.text_pair
        problem = None
        try:
            steps = self._target.clean(row, self._steps)
        except BadLabel as error:
            steps, problem = (), error
        cleaned = Cleaned("", steps=tuple(steps))
        if steps:
            cleaned.before, cleaned.after = before, row.text
            if before == row.text and row.text_pair is not None:
                cleaned.before, cleaned.after = pair_before or "", row.text_pair
        cleaned.reason, cleaned.detail = self._judge(row, problem)
        return cleaned

    def _judge(self, row: Row, problem: BadLabel | None) -> tuple[str, str]:
        texts = [row.text] if row.text_pair is None else [row.text, row.text_pair]
        if not all(text.strip() for text in texts):
            return "empty_text", ""
        if problem is not None:
            return problem.reason, problem.detail
        if self._target.is_empty(row.label):
            return "empty_label", ""
        if max(map(len, texts)) > self._settings.max_characters:
            return "too_long", ""
        if self._needs_time:
            try:
                time_rank(row.group or "")
            except ValueError:
                return "bad_time", f"{(row.group or '')[:80]!r} is no number, date or time"
        return reason_to_drop(" ".join(texts), self._settings.cleaning), ""
