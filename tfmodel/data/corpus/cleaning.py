"""What becomes of one raw document: it is clean, or there is a reason why it cannot be kept."""

from __future__ import annotations

import collections

from tfmodel.data.cleaning import chosen_steps, clean_and_tell
from tfmodel.data.cleaning.filters import reason_to_drop
from tfmodel.data.cleaning.row_cleaning import Cleaned
from tfmodel.data.corpus.repetition import find_repetition
from tfmodel.data.corpus.settings import CorpusSettings, DocumentCleaningSettings
from tfmodel.data.rows import Reject, Row, encodable


def document_steps(settings: DocumentCleaningSettings) -> list[str]:
    """Name the steps that are switched on, in the order they run."""
    steps = [name for name in chosen_steps(settings) if name != "whitespace"]
    chosen = {
        "wiki_markup": settings.wiki_markup,
        "lines": settings.whitespace,
        "navigation": settings.navigation,
    }
    return steps + [name for name, is_chosen in chosen.items() if is_chosen]


class DocumentCleaner:
    """Cleans documents, one at a time.

    Args:
        settings: the `corpus:` section.

    Attributes:
        private: how many private pieces were replaced, by kind, since it was made.
    """

    def __init__(self, settings: CorpusSettings):
        self._settings = settings.cleaning
        self._steps = document_steps(settings.cleaning)
        self.private: collections.Counter[str] = collections.Counter()

    def __call__(self, row: Row | Reject) -> Cleaned:
        """Clean a document in place; tell whether it can be kept."""
        row.text, row.origin = encodable(row.text), encodable(row.origin)
        if isinstance(row, Reject):
            return Cleaned(row.reason, row.detail)
        before = row.text
        row.text, steps = clean_and_tell(before, self._steps)
        cleaned = Cleaned("", steps=steps)
        if steps:
            cleaned.before, cleaned.after = before, row.text
        cleaned.reason, cleaned.detail = judge(row.text, self._settings)
        return cleaned


def judge(text: str, settings: DocumentCleaningSettings) -> tuple[str, str]:
    """Tell why a cleaned document is left out: a reason of one word, and a detail; "" if it isn't.

    Raises:
        ConfigError: the extra `language` is needed and not installed.
    """
    if not text.strip():
        return "empty_text", ""
    if reason := reason_to_drop(text, settings):
        return reason, ""
    if settings.repetitive and (detail := find_repetition(text)):
        return "too_repetitive", detail
    return "", ""
