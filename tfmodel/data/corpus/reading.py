"""The files of a corpus: found, and read as documents of a length that memory holds."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from tfmodel.config import ConfigError
from tfmodel.data.cleaning import clean_and_tell
from tfmodel.data.corpus.settings import CorpusSettings, DocumentRows
from tfmodel.data.privacy import PrivacySettings, find_private
from tfmodel.data.reading.inputs import locate_all
from tfmodel.data.reading.places import Place
from tfmodel.data.rows import Reject, Row

_log = logging.getLogger(__name__)

_LINKS_NAMED = 5
# A block of a private key, and a little; how far words tell what a number is.
_LONGEST_PRIVATE = 2**15 + 2**8
_WORDS_BEFORE, _WORDS_AFTER = 64, 16
_OF_NO_TEXT = range(0xE000, 0xF900)  # for private use
_OF_DATA = re.compile(rf"(?<![\w./])data\.(?=(?:{'|'.join(CorpusSettings.model_fields)})\b)")


def places_of(rows: DocumentRows, locate: Callable[[str], Path]) -> dict[str, Place]:
    """Find the files of train and, where it is named, dev; of a folder all that is below it.

    The test split of a TFDS folder is not read: what is measured on is nothing to learn from.
    """
    as_it_is = rows.format == "tfds"
    places = locate_all(rows, locate, expand=lambda p: p if as_it_is else _files_of_folder(p))
    return {role: place for role, place in places.items() if role in ("train", "dev")}


def _files_of_folder(place: Place) -> Place:
    if place.files or not place.path.is_dir() or (place.path / "dataset_info.json").exists():
        return place
    links = sorted(
        path for path in place.path.rglob("*") if path.is_symlink() and not path.is_file()
    )
    if links:
        _log.warning(
            "%s: links to folders, or to nothing, are passed over: %s (%s in all)",
            place,
            ", ".join(str(link.relative_to(place.path)) for link in links[:_LINKS_NAMED]),
            f"{len(links):,}",
        )
    found = sorted(
        path
        for path in place.path.rglob("*")
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(place.path).parts)
    )
    if not found:
        raise ConfigError(
            f"{place}: expected files of documents. Received: a folder without any. Check the path."
        )
    return Place(place.path, files=tuple(found)) if len(found) > 1 else Place(found[0])


class CutLong:
    """Cuts documents that are longer than memory should hold: at the last line end, or space.

    Where private data is replaced, no cut goes through it, nor between it and the words that tell
    it: a half would be told from nothing. That is so of the text as it comes and as cleaning makes
    it, where `467<b> </b>3395` is a number; pieces that come from a reader are joined before.

    Args:
        most_characters: of a piece; more only where a private place is as long.
        privacy: what is private; None: nothing.
        steps: of cleaning, as `document_steps` names them.
    """

    def __init__(
        self,
        most_characters: int,
        privacy: PrivacySettings | None = None,
        steps: Sequence[str] = (),
    ):
        self._most = most_characters
        self._privacy = privacy
        self._steps = steps

    def __call__(self, rows: Iterable[Row | Reject]) -> Iterator[Row | Reject]:
        """Give the rows; a long one as several, whose origins end in `#1`, `#2` ..."""
        held: Row | None = None  # the end of a reader's piece, until it is seen what follows
        for row in rows:
            is_piece = isinstance(row, Row) and row.group is not None
            if held is not None:
                if is_piece and row.group == held.group:
                    row.text = f"{held.text}\n{row.text}"
                else:
                    yield held
                held = None
            for piece in self._cut_row(row):
                if held is not None:
                    yield held
                held = piece
            if not (is_piece and self._privacy is not None):
                yield held
                held = None
        if held is not None:
            yield held

    def _cut_row(self, row: Row | Reject) -> Iterator[Row | Reject]:
        if isinstance(row, Reject) or len(row.text) <= self._most:
            yield row
            return
        group = row.group or row.origin
        for number, text in enumerate(self._pieces(row.text), start=1):
            yield Row(text, None, None, f"{row.origin}#{number}", group)

    def _pieces(self, text: str) -> Iterator[str]:
        start = 0
        while len(text) - start > self._most:
            cut = self._cut(text, start)
            yield text[start:cut]
            start = cut
        yield text[start:]

    def _cut(self, text: str, start: int) -> int:
        """Give where the piece that begins at `start` ends."""
        end = start + self._most
        # What comes of half a piece or less would be a piece too short to learn from.
        least = start + self._most // 2
        places = self._private(text, start, end)
        cut = latest = _last_free(text, start, least, end, places)
        back = 1
        while parted := self._parted(text, start, cut):
            end = min(end, cut) - max(parted, back)
            back *= 2
            if end <= least:
                return latest
            cut = _last_free(text, start, least, end, places)
        return cut

    def _private(self, text: str, start: int, end: int) -> list[tuple[int, int]]:
        """Places, apart from each other, that no cut around `end` may go through."""
        if self._privacy is None:
            return []
        first = max(start, end - _LONGEST_PRIVATE)
        found = self._kept_whole(text[first : end + _LONGEST_PRIVATE])
        return [(first + begin, first + stop) for begin, stop in found]

    def _parted(self, text: str, start: int, cut: int) -> int:
        """Give how many characters before a cut begins what it would part once it is cleaned.

        0: it parts nothing; 1: at least one, as where it goes through a tag or an entity.
        """
        if self._privacy is None:
            return 0
        first = max(start, cut - _LONGEST_PRIVATE)
        near = text[first : cut + _LONGEST_PRIVATE]
        cleaned = clean_and_tell(near, self._steps)[0]
        if cleaned == near:
            return 0
        mark = next(sign for sign in map(chr, _OF_NO_TEXT) if sign not in near)
        marked = clean_and_tell(near[: cut - first] + mark + near[cut - first :], self._steps)[0]
        before, found, after = marked.partition(mark)
        # Whitespace is compared nowhere: at the mark it is cleaned in another way.
        if not found or _letters(before + after) != _letters(cleaned):
            return 1
        left = len(_letters(before))
        letters = [place for place, letter in enumerate(cleaned) if not letter.isspace()]
        place = letters[left - 1] + 1 if left else 0
        inside = (b for b, stop in self._kept_whole(cleaned) if b < place < stop)
        return next((place - begin for begin in inside), 0)

    def _kept_whole(self, text: str) -> list[tuple[int, int]]:
        """What is private in a text with the words that tell it; places apart from each other."""
        places: list[tuple[int, int]] = []
        for finding in find_private(text, self._privacy.kinds, regions=self._privacy.regions):
            begin = max(0, finding.start - _WORDS_BEFORE)
            stop = min(len(text), finding.end + _WORDS_AFTER)
            if places and places[-1][1] >= begin:
                begin = places.pop()[0]
            places.append((begin, stop))
        return places


def _last_free(
    text: str, start: int, least: int, end: int, places: Sequence[tuple[int, int]]
) -> int:
    """Give the last line end, or space, up to `end` that is in no place; else where one ends."""
    while True:
        cut = next((at for sign in "\n " if (at := text.rfind(sign, least, end)) > 0), end)
        inside = next((place for place in places if place[0] < cut < place[1]), None)
        if inside is None:
            return cut
        if inside[0] <= start:
            return inside[1]
        if inside[0] <= least:
            return inside[0]
        end = inside[0]


def _letters(text: str) -> str:
    return "".join(text.split())


@contextlib.contextmanager
def in_words_of_corpus() -> Iterator[None]:
    """Let messages about `data:` settings speak of `corpus:`, where they stand here."""
    try:
        yield
    except ConfigError as error:
        message = str(error).replace(", data.dev and data.test", " and data.dev")
        message = message.replace(" labelled rows", " documents").replace("`data:`", "`corpus:`")
        message = _OF_DATA.sub("corpus.", message)
        raise ConfigError(message) from error
