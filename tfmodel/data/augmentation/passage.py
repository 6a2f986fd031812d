"""A text as words and what stands between them, so that words can move and the rest stays."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence

from tfmodel.config import ConfigError

Segmenter = Callable[[str], Sequence[str]]

# Han characters and kana: written without spaces between words.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_CHUNK = re.compile(f"[{_UNSPACED}]+|[^\\s{_UNSPACED}]+")
_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")
# English endings that stand alone in tokenized texts ("film 's"): a word, not a quotation mark.
_ENDING = re.compile(r"['’](?:s|t|d|m|re|ve|ll)$", re.IGNORECASE)


def by_character(run: str) -> list[str]:
    """Take each character for a word."""
    return list(run)


def by_longest_match(words: Collection[str]) -> Segmenter:
    """Make a segmenter that keeps known words whole and takes each other character for a word."""
    known = {word for word in words if len(word) > 1 and is_unspaced(word)}
    longest = max(map(len, known), default=1)

    def segment(run: str) -> list[str]:
        found, start = [], 0
        while start < len(run):
            lengths = range(min(longest, len(run) - start), 1, -1)
            length = next((n for n in lengths if run[start : start + n] in known), 1)
            found.append(run[start : start + length])
            start += length
        return found

    return segment if known else by_character


def is_unspaced(word: str) -> bool:
    """Whether a word is of a script without spaces (Chinese characters, kana)."""
    return bool(_IS_UNSPACED.match(word))


@dataclasses.dataclass(frozen=True)
class Passage:
    """Words, and the gaps (spaces and punctuation) before, between and after them.

    Attributes:
        words: n words.
        gaps: n + 1 strings; the text is `gaps[0] + words[0] + gaps[1] + … + gaps[n]`.
    """

    words: tuple[str, ...]
    gaps: tuple[str, ...]

    @classmethod
    def of(cls, text: str, segment: Segmenter = by_character) -> Passage:
        """Take a text apart.

        A word is what stands between spaces, without the punctuation at its ends; a run of
        Chinese characters is what `segment` makes of it.

        Args:
            text: any text.
            segment: from a run of Chinese characters to its words, which joined are the run.

        Raises:
            ConfigError: the segmenter's words are not the run.
        """
        words, gaps, end = [], [], 0
        for start, word in _found(text, segment):
            gaps.append(text[end:start])
            words.append(word)
            end = start + len(word)
        return cls(tuple(words), (*gaps, text[end:]))

    def text(self) -> str:
        """Put the text together."""
        parts = [self.gaps[0]]
        for word, gap in zip(self.words, self.gaps[1:], strict=True):
            parts += [word, gap]
        return "".join(parts)

    def with_words(self, changes: dict[int, str]) -> Passage:
        """Give words at some positions others."""
        words = [changes.get(index, word) for index, word in enumerate(self.words)]
        return self._spaced(words, list(self.gaps))

    def without(self, positions: Collection[int]) -> Passage:
        """Leave words out; of the spaces around each one stays, punctuation stays."""
        words, gaps = [], [self.gaps[0]]
        for index, (word, after) in enumerate(zip(self.words, self.gaps[1:], strict=True)):
            if index not in positions:
                words.append(word)
                gaps.append(after)
            elif not gaps[-1].strip():
                gaps[-1] = after
            else:
                gaps[-1] = (gaps[-1].rstrip() if after[:1].isspace() else gaps[-1]) + after
        return self._spaced(words, gaps)

    def with_inserted(self, position: int, word: str) -> Passage:
        """Put a word right after the one at `position`."""
        words = [*self.words[: position + 1], word, *self.words[position + 1 :]]
        gaps = [*self.gaps[: position + 1], "", *self.gaps[position + 1 :]]
        return self._spaced(words, gaps)

    def _spaced(self, words: list[str], gaps: list[str]) -> Passage:
        # Two words of a script with spaces never run together.
        for index in range(1, len(words)):
            left, right = words[index - 1], words[index]
            if not gaps[index] and not (is_unspaced(left[-1:]) or is_unspaced(right)):
                gaps[index] = " "
        return Passage(tuple(words), tuple(gaps))


def _found(text: str, segment: Segmenter) -> Iterator[tuple[int, str]]:
    for match in _CHUNK.finditer(text):
        chunk, start = match.group(), match.start()
        if is_unspaced(chunk):
            words = list(segment(chunk))
            if "".join(words) != chunk:
                raise ConfigError(
                    "segment: expected words that joined are the characters given. "
                    f"Received: {words[:20]!r} for {chunk[:40]!r}. Give a segmenter that leaves "
                    "nothing out and adds no spaces."
                )
        else:
            lead, word = _without_punctuation(chunk)
            start, words = start + lead, [word]
        for word in filter(None, words):
            yield start, word
            start += len(word)


def _without_punctuation(chunk: str) -> tuple[int, str]:
    if _ENDING.match(chunk):
        return 0, chunk
    real = [n for n, sign in enumerate(chunk) if unicodedata.category(sign)[0] not in "PS"]
    return (real[0], chunk[real[0] : real[-1] + 1]) if real else (0, "")
