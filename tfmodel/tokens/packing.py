"""Fill rows with several texts: documents cut to fit, put together so that little is padding."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfmodel.config import ConfigError
from tfmodel.tokens.token_documents import STARTS_SENTENCE, STARTS_WORD, TokenDocuments
from tfmodel.tokens.vocabulary import Vocabulary

SHORTEST_PIECE = 4
"""Tokens: what is shorter, the rest of a document or the whole of it, is left out and counted."""

# How far back from a full row a cut may be, as a share of the row, to fall at a sentence's end: as
# far as rows get full by it.
_BACK = (1 / 8, 1 / 16, 1 / 32, 0.0)
_MOST_PADDING = 0.029
_MARKS_AT_ONCE = 4_000_000
_SENTENCE_ENDS = (".", "!", "?", "。", "！", "？", "…")
_CLOSERS = ('"', "'", "”", "’", ")", "」", "』", "）", "》")


@dataclasses.dataclass(frozen=True)
class Pieces:
    """Documents cut into pieces that fit a row; n pieces, the documents' order kept.

    Attributes:
        starts: int64 (n,), each piece's first token among those of all documents.
        lengths: int32 (n,), tokens.
        documents: int (n,), the document that it is from.
        left_out: tokens of remainders and documents too short to learn from.
    """

    starts: np.ndarray
    lengths: np.ndarray
    documents: np.ndarray
    left_out: int

    def __len__(self) -> int:
        return len(self.starts)

    def only(self, kept: np.ndarray) -> Pieces:
        """The pieces where `kept`, bool (n,), is true."""
        left_out = self.left_out + int(self.lengths[~kept].sum())
        return Pieces(self.starts[kept], self.lengths[kept], self.documents[kept], left_out)


def cut_documents(
    documents: TokenDocuments,
    vocabulary: Vocabulary,
    *,
    room: int,
    shortest: int = SHORTEST_PIECE,
    back: float = _BACK[0],
    sentences: int = 1,
    short_share: float = 0.0,
    seed: int = 0,
) -> Pieces:
    """Cut documents into pieces of at most `room` tokens.

    A document that fits is one piece. A longer one is cut as near to the full room as it goes: at
    the last sentence's end within the last part of it, else before the last word, so that no
    word is cut through unless it is longer than that part. Sentences are those that were marked,
    or else end at a point, `!`, `?` or their Chinese forms.

    Args:
        documents: the documents.
        vocabulary: theirs.
        room: tokens of a piece at most.
        shortest: tokens of a piece at least; shorter ones are left out.
        back: share of the room in which a sentence's end is looked for.
        sentences: how many sentences, the last cut through, a cut at a sentence's end must leave
            in its piece.
        short_share: share of the pieces that get a shorter room, drawn from all there are.
        seed: of the shorter rooms.
    """
    splits = np.asarray(documents.splits)
    place, end = splits[:-1].copy(), splits[1:]
    owner = np.arange(len(documents))
    starts, lengths, owners = [], [], []
    window = max(int(room * back), 1)
    find_cut = _CutFinder(documents, vocabulary, window, sentences)
    at_once = max(_MARKS_AT_ONCE // window, 1)
    random = np.random.default_rng([seed, 0])
    while len(owner):
        cut = place + room
        if short_share:
            short = np.flatnonzero(random.random(len(place)) < short_share)
            cut[short] = place[short] + random.integers(
                min(2 * shortest, room), room + 1, len(short)
            )
        cut = np.minimum(cut, end)
        longer = np.flatnonzero(cut < end)
        for first in range(0, len(longer), at_once):
            chosen = longer[first : first + at_once]
            cut[chosen] = find_cut(cut[chosen], place[chosen])
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
    return Pieces(starts[kept], lengths[kept].astype(np.int32), compact(owners[kept]), left_out)


class _CutFinder:
    """Where a long document may be cut: not after the given places, and not far before."""

    def __init__(
        self, documents: TokenDocuments, vocabulary: Vocabulary, window: int, sentences: int
    ):
        self.documents = documents
        self.window = window
        self.inner = sentences - 1
        pieces = [(piece in _SENTENCE_ENDS, piece in _CLOSERS) for piece in vocabulary.pieces]
        self.ends, self.closes = np.array(pieces).T

    def __call__(self, latest: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """The cuts for the latest places possible, each after its start: int64 of that shape."""
        # Candidates are latest, latest - 1, ..., so that argmax takes the latest one.
        places = latest[:, None] - np.arange(self.window)
        inside = places > starts[:, None]
        places = np.maximum(places, starts[:, None] + 1)
        marks = self.documents.marks[places]
        word = ((marks & STARTS_WORD) > 0) & inside
        if self.documents.sentences:
            sentence = ((marks & STARTS_SENTENCE) > 0) & inside
        else:
            before = self.documents.ids[places - 1]
            closed = self.closes[before] & self.ends[self.documents.ids[np.maximum(places - 2, 0)]]
            here = self.documents.ids[places]
            sentence = (self.ends[before] | closed) & word
            sentence &= ~(self.ends[here] | self.closes[here])
        if self.inner:
            later = np.cumsum(sentence, axis=1)
            sentence &= later[:, -1:] - later >= self.inner
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

    Where documents are cut, and how many texts of which lengths are in a row, is settled once, and
    with it the number of rows; which texts these are is drawn anew for each epoch. Cuts fall at
    sentence ends as far as 97% of the tokens stay real. `padding_mask` is k for the k-th text.

    Args:
        documents: the documents.
        vocabulary: theirs.
        max_length: tokens a row, special tokens included.

    Attributes:
        pieces: the documents' pieces.
        lengths: int32 (rows,), real tokens of each row, the same in every epoch.

    Raises:
        ConfigError: no text is long enough to learn from.
    """

    def __init__(self, documents: TokenDocuments, vocabulary: Vocabulary, max_length: int):
        self.documents = documents
        self.vocabulary = vocabulary
        self.max_length = max_length
        for back in _BACK:
            self.pieces = cut_documents(documents, vocabulary, room=max_length - 2, back=back)
            order, self._splits = pack_lengths(self.pieces.lengths + 2, max_length)
            filled = float(order.sum()) / max((len(self._splits) - 1) * max_length, 1)
            if 1 - filled <= _MOST_PADDING:
                break
        if not len(self.pieces):
            raise ConfigError(
                f"Expected documents of at least {SHORTEST_PIECE} tokens. Received: "
                f"{len(documents)} documents, none as long, in {documents.folder}. Look at the "
                "corpus and its cleaning."
            )
        self._by_length = compact(np.argsort(order, kind="stable"))
        self.lengths = np.add.reduceat(order, self._splits[:-1]).astype(np.int32)
        self._splits = compact(self._splits)

    def __len__(self) -> int:
        """Rows."""
        return len(self.lengths)

    @property
    def padding_share(self) -> float:
        """Share of the rows' tokens that is padding, in [0, 1)."""
        return 1 - float(self.lengths.sum()) / (len(self) * self.max_length)

    def drawn(self, random: np.random.Generator) -> np.ndarray:
        """Draw which piece is in which place of the rows: int (n,)."""
        order = compact(random.permutation(len(self.pieces)))
        order = order[np.argsort(self.pieces.lengths[order], kind="stable")]
        placed = np.empty_like(order)
        placed[self._by_length] = order
        return placed

    def row_lengths(self, drawn: np.ndarray) -> np.ndarray:
        """Real tokens of each row: int32 (rows,)."""
        return self.lengths

    def inputs(self, drawn: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Make rows: `token_ids`, `segment_ids`, `padding_mask` int32, `word_starts` bool, (B, T).

        Args:
            drawn: from `drawn`.
            rows: int (B,), row numbers.
        """
        first, last = self._splits[rows], self._splits[rows + 1]
        counts = last - first
        pieces = drawn[ranges(first, counts)]
        lengths = self.pieces.lengths[pieces].astype(np.int64)
        # Where each text begins in the batch, its rows one after the other.
        row = np.repeat(np.arange(len(rows)), counts)
        before = np.cumsum(lengths + 2) - (lengths + 2)
        row_first = np.repeat(np.cumsum(counts) - counts, counts)
        begins = row * self.max_length + before - before[row_first]
        shape = (len(rows), self.max_length)
        inputs = lay_out(
            self.documents,
            self.vocabulary,
            shape,
            places=begins + 1,
            starts=self.pieces.starts[pieces],
            lengths=lengths,
        )
        inputs["token_ids"].flat[begins] = self.vocabulary.start_id
        number = np.arange(len(pieces)) - row_first + 1
        whole = ranges(begins, lengths + 2)
        inputs["padding_mask"].flat[whole] = np.repeat(number, lengths + 2)
        return inputs


def lay_out(
    documents: TokenDocuments,
    vocabulary: Vocabulary,
    shape: tuple[int, int],
    *,
    places: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
) -> dict[str, np.ndarray]:
    """Copy texts into rows that are padding otherwise, each with a [SEP] behind it.

    Args:
        documents: where the texts are.
        vocabulary: theirs.
        shape: (B, T).
        places: int64 (k,), the first place of each text, counted through all rows.
        starts: int64 (k,), its first token among those of all documents.
        lengths: int64 (k,), its tokens.

    Returns:
        `token_ids`; `segment_ids` and `padding_mask`, all 0; `word_starts`: (B, T) each.
    """
    token_ids = np.full(shape, vocabulary.padding_id, np.int32)
    word_starts = np.ones(shape, bool)
    source, target = ranges(starts, lengths), ranges(places, lengths)
    token_ids.flat[target] = documents.ids[source]
    token_ids.flat[places + lengths] = vocabulary.end_id
    word_starts.flat[target] = documents.marks[source] & STARTS_WORD
    word_starts.flat[places] = True
    return {
        "token_ids": token_ids,
        "segment_ids": np.zeros(shape, np.int32),
        "padding_mask": np.zeros(shape, np.int32),
        "word_starts": word_starts,
    }


def sentence_places(documents: TokenDocuments, objective: str) -> np.ndarray:
    """Where sentences begin among the tokens of all documents: int64 (s,), rising.

    Raises:
        ConfigError: the documents were tokenized without a look for sentences.
    """
    if not documents.sentences:
        raise ConfigError(
            f"The objective {objective} needs documents whose sentences are marked. Received: "
            f"{documents.folder}, tokenized without. Tokenize with sentences=True."
        )
    found = [np.empty(0, np.int64)]
    for first in range(0, len(documents.marks), _MARKS_AT_ONCE):
        marks = documents.marks[first : first + _MARKS_AT_ONCE]
        found.append(np.flatnonzero(marks & STARTS_SENTENCE) + first)
    return np.concatenate(found)


def compact(numbers: np.ndarray) -> np.ndarray:
    """Numbers from 0 up, in half of the memory where they are small enough."""
    return numbers.astype(np.int32) if numbers.max(initial=0) < 2**31 else numbers


def ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Join the ranges from `starts[i]` of `counts[i]` numbers: int64 (sum of counts,)."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - (ends - counts), counts)
