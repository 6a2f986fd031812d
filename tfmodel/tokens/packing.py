"""Fill rows with several texts: documents cut to fit, put together so that little is padding."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfmodel.config import ConfigError
from tfmodel.tokens.token_documents import STARTS_SENTENCE, STARTS_WORD, TokenDocuments
from tfmodel.tokens.vocabulary import Vocabulary

SHORTEST_PIECE = 4
"""Tokens: what is shorter, the rest of a document or the whole of it, is left out and counted."""

# How far back from a full row a cut may be, as a share of the row, to fall at a sentence's end.
_BACK = 0.125
_CUTS_AT_ONCE = 65_536
_SENTENCE_ENDS = (".", "!", "?", "。", "！", "？", "…")
_CLOSERS = ('"', "'", "”", "’", ")", "」", "』", "）", "》")


@dataclasses.dataclass(frozen=True)
class Pieces:
    """Documents cut into pieces that fit a row; n pieces, the documents' order kept.

    Attributes:
        starts: int64 (n,), each piece's first token among those of all documents.
        lengths: int32 (n,), tokens.
        documents: int64 (n,), the document that it is from.
        left_out: tokens of remainders and documents too short to learn from.
    """

    starts: np.ndarray
    lengths: np.ndarray
    documents: np.ndarray
    left_out: int

    def __len__(self) -> int:
        return len(self.starts)


def cut_documents(
    documents: TokenDocuments,
    vocabulary: Vocabulary,
    *,
    room: int,
    shortest: int = SHORTEST_PIECE,
    back: float = _BACK,
) -> Pieces:
    """Cut documents into pieces of at most `room` tokens.

    A document that fits is one piece. A longer one is cut as near to the full room as it goes: at
    the last sentence's end within the last eighth of it, else before the last word, so that no
    word is cut through unless it is longer than that. Sentences are those that were marked, or
    else end at a point, `!`, `?` or their Chinese forms.

    Args:
        documents: the documents.
        vocabulary: theirs.
        room: tokens of a piece at most.
        shortest: tokens of a piece at least; shorter ones are left out.
        back: share of the room in which a sentence's end is looked for.
    """
    splits = np.asarray(documents.splits)
    place, end = splits[:-1].copy(), splits[1:]
    owner = np.arange(len(documents))
    starts, lengths, owners = [], [], []
    window = max(int(room * back), 1)
    find_cut = _CutFinder(documents, vocabulary, window)
    while len(owner):
        cut = np.minimum(place + room, end)
        longer = np.flatnonzero(cut < end)
        for first in range(0, len(longer), _CUTS_AT_ONCE):
            chosen = longer[first : first + _CUTS_AT_ONCE]
            cut[chosen] = find_cut(cut[chosen])
        starts.append(place)
        lengths.append(cut - place)
        owners.append(owner)
        place, end, owner = cut[longer], end[longer], owner[longer]
    if not starts:
        empty = np.empty(0, np.int64)
        return Pieces(empty, empty.astype(np.int32), empty, 0)
    starts, lengths, owners = map(np.concatenate, (starts, lengths, owners))
    order = np.argsort(starts, kind="stable")
    starts, lengths, owners = starts[order], lengths[order], owners[order]
    kept = lengths >= shortest
    left_out = int(lengths[~kept].sum())
    return Pieces(starts[kept], lengths[kept].astype(np.int32), owners[kept], left_out)


class _CutFinder:
    """Where a long document may be cut: not after the given places, and not far before."""

    def __init__(self, documents: TokenDocuments, vocabulary: Vocabulary, window: int):
        self.documents = documents
        self.window = window
        pieces = [(piece in _SENTENCE_ENDS, piece in _CLOSERS) for piece in vocabulary.pieces]
        self.ends, self.closes = np.array(pieces).T

    def __call__(self, latest: np.ndarray) -> np.ndarray:
        """The cuts for the latest places possible: int64 of the same shape."""
        # Candidates are latest, latest - 1, ..., so that argmax takes the latest one.
        places = latest[:, None] - np.arange(self.window)
        marks = self.documents.marks[places]
        word = (marks & STARTS_WORD) > 0
        if self.documents.sentences:
            sentence = (marks & STARTS_SENTENCE) > 0
        else:
            before = self.documents.ids[places - 1]
            closed = self.closes[before] & self.ends[self.documents.ids[places - 2]]
            here = self.documents.ids[places]
            sentence = (self.ends[before] | closed) & word
            sentence &= ~(self.ends[here] | self.closes[here])
        back = np.where(sentence.any(1), sentence.argmax(1), word.argmax(1))
        return latest - back


def pack_lengths(lengths: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Put texts together into rows by their lengths alone, longest first, each where it fits best.

    Args:
        lengths: int (n,), in [1, room].
        room: tokens of a row.

    Returns:
        int64 (n,), the lengths in the order of the rows; int64 (rows + 1,), where rows begin in it.

    Source: Krell et al. 2021, section 3.2 (longest-pack-first histogram packing): the work grows
    with the room, not with the number of texts.
    """
    counts = np.bincount(np.asarray(lengths, np.int64), minlength=room + 1)
    # Rows with the same room left, as (how many, their lengths so far).
    open_rows: list[list[tuple[int, tuple[int, ...]]]] = [[] for _ in range(room + 1)]
    for length in range(room, 0, -1):
        left = int(counts[length])
        space = length
        while left:
            while space <= room and not open_rows[space]:
                space += 1
            if space > room:
                # New rows hold as many of this length as fit, for none that is left is longer.
                fits = room // length
                many, rest = divmod(left, fits)
                if many:
                    open_rows[room - fits * length].append((many, (length,) * fits))
                if rest:
                    open_rows[room - rest * length].append((1, (length,) * rest))
                break
            rows, held = open_rows[space].pop()
            used = min(rows, left)
            if rows > used:
                open_rows[space].append((rows - used, held))
            open_rows[space - length].append((used, (*held, length)))
            left -= used
            space = length if space - length >= length else space
    groups = [group for groups in open_rows for group in groups]
    if not groups:
        return np.empty(0, np.int64), np.zeros(1, np.int64)
    order = np.concatenate([np.tile(np.array(held, np.int64), rows) for rows, held in groups])
    texts = np.concatenate([np.full(rows, len(held), np.int64) for rows, held in groups])
    return order, np.concatenate([[0], np.cumsum(texts)])


class PackedRows:
    """Rows of up to `max_length` tokens, each filled with texts as [CLS] text [SEP].

    How many texts of which lengths are in a row is settled once, and with it the number of rows;
    which texts these are is drawn anew for each epoch. `padding_mask` is k for the k-th text.

    Args:
        documents: the documents.
        vocabulary: theirs.
        max_length: tokens a row, special tokens included.

    Attributes:
        pieces: the documents' pieces.
        lengths: int64 (rows,), real tokens of each row, the same in every epoch.

    Raises:
        ConfigError: no text is long enough to learn from.
    """

    def __init__(self, documents: TokenDocuments, vocabulary: Vocabulary, max_length: int):
        self.documents = documents
        self.vocabulary = vocabulary
        self.max_length = max_length
        self.pieces = cut_documents(documents, vocabulary, room=max_length - 2)
        if not len(self.pieces):
            raise ConfigError(
                f"Expected documents of at least {SHORTEST_PIECE} tokens. Received: "
                f"{len(documents)} documents, none as long, in {documents.folder}. Look at the "
                "corpus and its cleaning."
            )
        order, self._splits = pack_lengths(self.pieces.lengths + 2, max_length)
        self._by_length = np.argsort(order, kind="stable")
        self.lengths = np.add.reduceat(order, self._splits[:-1])

    def __len__(self) -> int:
        """Rows."""
        return len(self.lengths)

    @property
    def padding_share(self) -> float:
        """Share of the rows' tokens that is padding, in [0, 1)."""
        return 1 - float(self.lengths.sum()) / (len(self) * self.max_length)

    def drawn(self, random: np.random.Generator | None) -> np.ndarray:
        """Which piece is in which place of the rows: int (n,); None keeps the documents' order."""
        count = len(self.pieces)
        order = np.arange(count) if random is None else random.permutation(count)
        order = order[np.argsort(self.pieces.lengths[order], kind="stable")]
        placed = np.empty_like(order)
        placed[self._by_length] = order
        return placed

    def inputs(self, drawn: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Make rows: `token_ids`, `segment_ids`, `padding_mask` int32, `word_starts` bool, (B, T).

        Args:
            drawn: from `drawn`.
            rows: int (B,), row numbers.
        """
        first, last = self._splits[rows], self._splits[rows + 1]
        counts = last - first
        places = ranges(first, counts)
        pieces = drawn[places]
        lengths = self.pieces.lengths[pieces].astype(np.int64)
        # Where each text begins in the batch, its rows one after the other.
        row = np.repeat(np.arange(len(rows)), counts)
        before = np.cumsum(lengths + 2) - (lengths + 2)
        row_first = np.cumsum(counts) - counts
        begins = row * self.max_length + before - np.repeat(before[row_first], counts)
        shape = (len(rows), self.max_length)
        token_ids = np.full(shape, self.vocabulary.padding_id, np.int32)
        word_starts = np.ones(shape, bool)
        padding_mask = np.zeros(shape, np.int32)
        source, target = ranges(self.pieces.starts[pieces], lengths), ranges(begins + 1, lengths)
        token_ids.flat[target] = self.documents.ids[source]
        token_ids.flat[begins] = self.vocabulary.start_id
        token_ids.flat[begins + 1 + lengths] = self.vocabulary.end_id
        word_starts.flat[target] = self.documents.marks[source] & STARTS_WORD
        word_starts.flat[begins + 1] = True
        number = np.arange(len(pieces)) - np.repeat(row_first, counts) + 1
        padding_mask.flat[ranges(begins, lengths + 2)] = np.repeat(number, lengths + 2)
        return {
            "token_ids": token_ids,
            "segment_ids": np.zeros(shape, np.int32),
            "padding_mask": padding_mask,
            "word_starts": word_starts,
        }


def ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Join the ranges from `starts[i]` of `counts[i]` numbers: int64 (sum of counts,)."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - (ends - counts), counts)
