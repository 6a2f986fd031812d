"""What becomes of one raw document: it is clean, or there is a reason why it cannot be kept."""

from __future__ import annotations

import collections

from tfmodel.data.cleaning import chosen_steps, clean_and_tell
from tfmodel.data.cleaning.filters import reason_to_drop
from tfmodel.data.cleaning.row_cleaning import Cleaned
from tfmodel.data.corpus.repetition import find_repetition
from tfmodel.data.corpus.settings import CorpusSettings, DocumentCleaningSettings
from tfmodel.data.corpus.words import count_words
from tfmodel.data.privacy import replace_private
from tfmodel.data.rows import Reject, Row, encodable


def document_steps(settings: DocumentCleaningSettings) -> list[str]:
    """Name the steps that are switched on, in the order they run; what is auto is not."""
    steps = [name for name in chosen_steps(settings) if name != "whitespace"]
    chosen = {
        "wiki_markup": settings.wiki_markup is True,
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
        self._privacy = settings.privacy
        self._steps = document_steps(settings.cleaning)
        self.private: collections.Counter[str] = collections.Counter()

    def __call__(self, row: Row | Reject) -> Cleaned:
        """Clean a document in place; tell whether it can be kept."""
        row.text, row.origin = encodable(row.text), encodable(row.origin)
        hide = None if self._privacy is None else self._without_private
        if isinstance(row, Reject):
            if hide is not None:
                row.text = self._hidden_to_the_end(row.text)
                row.detail = hide(row.detail)  # what is wrong with a line may quote it
            return Cleaned(row.reason, row.detail)
        before = row.text
        row.text, steps = clean_and_tell(before, self._steps)
        cleaned = Cleaned("", steps=steps, hide=hide)
        if steps:
            cleaned.before, cleaned.after = before, row.text
        if self._privacy is not None:
            row.text, found = self._replace(row.text)
            self.private.update(found)
        cleaned.reason, cleaned.detail = judge(row.text, self._settings)
        return cleaned

    def _replace(self, text: str) -> tuple[str, collections.Counter[str]]:
        return replace_private(text, self._privacy.kinds, regions=self._privacy.regions)

    def _without_private(self, text: str) -> str:
        return self._replace(text)[0]

    def _hidden_to_the_end(self, text: str) -> str:
        """Hide what is private; where cleaning uncovers more, give the text cleaned."""
        text = self._without_private(text)
        cleaned = clean_and_tell(text, self._steps)[0]
        hidden = self._without_private(cleaned)
        return text if hidden == cleaned else hidden


def judge(text: str, settings: DocumentCleaningSettings) -> tuple[str, str]:
    """Tell why a cleaned document is left out: a reason of one word, and a detail; "" if it isn't.

    Raises:
        ConfigError: the extra `language` is needed and not installed.
    """
    if not text.strip():
        return "empty_text", ""
    if count_words(text, most=settings.min_words) < settings.min_words:
        return "too_short", ""
    if reason := reason_to_drop(text, settings):
        return reason, ""
    if settings.repetitive and (detail := find_repetition(text)):
        return "too_repetitive", detail
    return "", ""
