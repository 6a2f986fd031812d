"""Rows of two segments: for next sentence and sentence order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfmodel.config import ConfigError
from tfmodel.tokens.objectives import NspSettings, SopSettings
from tfmodel.tokens.packing import cut_documents, lay_out, ranges, sentence_places
from tfmodel.tokens.token_documents import TokenDocuments
from tfmodel.tokens.vocabulary import Vocabulary

# How far apart, in the order of their lengths, two rows may be that exchange their second segments.
_FARTHEST = 64
_TRIES = 20


class Pairs(NamedTuple):
    """What is drawn for an epoch: of each row two segments.

    Attributes:
        starts: int64 (rows, 2), first tokens among those of all documents.
        lengths: int64 (rows, 2).
        labels: int32 (rows,); 1: not the next one, or swapped.
    """

    starts: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray


class PairRows:
    """Rows of [CLS] first [SEP] second [SEP], from pieces of documents that hold two sentences.

    Documents are cut as near to the full room as it goes, once: at sentence ends, or inside of the
    second sentence where two do not fit. Each epoch cuts each piece in two at another of its
    sentence ends. Of nsp about half of the rows get the
    second segment of such another row, of another document and of nearly the same length: each
    segment is used once, but for the few that would meet their own document, and lengths tell
    nothing.

    Args:
        documents: the documents, their sentences marked.
        vocabulary: theirs.
        max_length: tokens a row at most, special tokens included.
        objective: nsp or sop.
        seed: of the pieces that are shorter.

    Attributes:
        pieces: the documents' pieces; those of one sentence are left out and counted.

    Raises:
        ConfigError: the documents have no sentences, no piece has two, or for nsp only one
            document has such pieces.

    Source: Devlin et al. 2018, appendix A.2; Lan et al. 2020, section 3.1. Deviation: the second
    segment of nsp is exchanged among rows, where BERT draws any.
    """

    def __init__(
        self,
        documents: TokenDocuments,
        vocabulary: Vocabulary,
        max_length: int,
        objective: NspSettings | SopSettings,
        *,
        seed: int = 0,
    ):
        self.documents = documents
        self.vocabulary = vocabulary
        self.max_length = max_length
        self.swaps = isinstance(objective, SopSettings)
        sentences = sentence_places(documents, objective.name)
        pieces = cut_documents(
            documents,
            vocabulary,
            room=max_length - 3,
            back=1.0,
            sentences=2,
            short_share=objective.short_share,
            seed=seed,
        )
        # Of each piece the sentences that begin inside of it.
        first = np.searchsorted(sentences, pieces.starts, side="right")
        inside = np.searchsorted(sentences, pieces.starts + pieces.lengths) - first
        kept = inside > 0
        self.pieces = pieces.only(kept)
        self._sentences, self._first, self._inside = sentences, first[kept], inside[kept]
        if not len(self.pieces):
            raise ConfigError(
                f"The objective {objective.name} needs documents of two sentences or more. "
                f"Received: none of {len(documents)} in {documents.folder}. Look at the corpus, or "
                "take the objective mlm."
            )
        if not self.swaps and (self.pieces.documents == self.pieces.documents[0]).all():
            raise ConfigError(
                "The objective nsp needs two documents of two sentences or more. Received: one, in "
                f"{documents.folder}. Take the objective sop or mlm."
            )

    def __len__(self) -> int:
        """Rows."""
        return len(self.pieces)

    def drawn(self, random: np.random.Generator) -> Pairs:
        """Draw where each piece is cut in two, and what becomes of the two."""
        count = len(self)
        chosen = (random.random(count) * self._inside).astype(np.int64)
        cuts = self._sentences[self._first + chosen]
        starts = np.stack([self.pieces.starts, cuts], axis=1)
        ends = self.pieces.starts + self.pieces.lengths
        lengths = np.stack([cuts, ends], axis=1) - starts
        labels = random.random(count) < 0.5
        if self.swaps:
            starts[labels], lengths[labels] = starts[labels, ::-1], lengths[labels, ::-1]
        else:
            self._exchange(starts, lengths, labels, random)
        return Pairs(starts, lengths, labels.astype(np.int32))

    def _exchange(self, starts, lengths, labels, random: np.random.Generator) -> None:
        """Give the labelled rows second segments of others; those that find none lose the label."""
        rows = np.flatnonzero(labels)
        rows = random.permutation(rows)
        rows = rows[np.argsort(lengths[rows, 1], kind="stable")]
        places = np.arange(len(rows))
        # One step for all, so that each gives once; the few shortest get the longest, cut to fit.
        farthest = max(min(_FARTHEST, len(rows) // 50), 1)
        givers = places - random.integers(1, farthest + 1)
        owners = self.pieces.documents[rows]
        clash = np.flatnonzero(owners[givers] == owners)
        for _ in range(_TRIES):
            if not len(clash):
                break
            givers[clash] = places[clash] - random.integers(1, max(len(rows), 2), len(clash))
            clash = clash[owners[givers[clash]] == owners[clash]]
        labels[rows[clash]] = False
        givers[clash] = places[clash]
        second = starts[rows[givers], 1], lengths[rows[givers], 1]
        starts[rows, 1] = second[0]
        room = self.max_length - 3 - lengths[rows, 0]
        lengths[rows, 1] = np.minimum(second[1], room)

    def row_lengths(self, drawn: Pairs) -> np.ndarray:
        """Real tokens of each row in an epoch: int64 (rows,)."""
        return drawn.lengths.sum(1) + 3

    def inputs(self, drawn: Pairs, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Make rows: as `PackedRows.inputs`, and `pair_labels` int32 (B,).

        Args:
            drawn: from `drawn`.
            rows: int (B,), row numbers.
        """
        starts, lengths = drawn.starts[rows], drawn.lengths[rows]
        total = lengths.sum(1) + 3
        length = int(total.max())
        begins = np.arange(len(rows)) * length
        second = begins + lengths[:, 0] + 2
        inputs = lay_out(
            self.documents,
            self.vocabulary,
            (len(rows), length),
            places=np.stack([begins + 1, second], axis=1).ravel(),
            starts=starts.ravel(),
            lengths=lengths.ravel(),
        )
        inputs["token_ids"][:, 0] = self.vocabulary.start_id
        inputs["segment_ids"].flat[ranges(second, lengths[:, 1] + 1)] = 1
        inputs["padding_mask"].flat[ranges(begins, total)] = 1
        return {**inputs, "pair_labels": drawn.labels[rows]}
