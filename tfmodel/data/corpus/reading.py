"""The files of a corpus: found, and read as documents of a length that memory holds."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tfmodel.config import ConfigError
from tfmodel.data.corpus.settings import CorpusSettings, DocumentRows
from tfmodel.data.reading.inputs import locate_all
from tfmodel.data.reading.places import Place
from tfmodel.data.rows import Reject, Row

_log = logging.getLogger(__name__)

_LINKS_NAMED = 5
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

    Args:
        most_characters: of a piece.
    """

    def __init__(self, most_characters: int):
        self._most = most_characters

    def __call__(self, rows: Iterable[Row | Reject]) -> Iterator[Row | Reject]:
        """Give the rows; a long one as several, whose origins end in `#1`, `#2` ..."""
        for row in rows:
            if isinstance(row, Reject) or len(row.text) <= self._most:
                yield row
                continue
            for number, text in enumerate(self._pieces(row.text), start=1):
                yield Row(text, None, None, f"{row.origin}#{number}")

    def _pieces(self, text: str) -> Iterator[str]:
        start = 0
        while len(text) - start > self._most:
            end = start + self._most
            # What comes of half a piece or less would be a piece too short to learn from.
            least = start + self._most // 2
            cut = next((at for sign in "\n " if (at := text.rfind(sign, least, end)) > 0), end)
            yield text[start:cut]
            start = cut
        yield text[start:]


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
