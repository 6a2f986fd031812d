"""Rows of one sentence each: for SimCSE."""

from __future__ import annotations

import numpy as np

from tfmodel.config import ConfigError
from tfmodel.tokens.objectives import SimcseSettings
from tfmodel.tokens.packing import lay_out, ranges, sentence_places
from tfmodel.tokens.token_documents import TokenDocuments
from tfmodel.tokens.vocabulary import Vocabulary

_SENTENCES_AT_ONCE = 100_000


class SentenceRows:
    """Rows of [CLS] sentence [SEP]; of equal sentences the first, or it would be its own negative.

    Args:
        documents: the documents, their sentences marked.
        vocabulary: theirs.
        max_length: tokens a row at most; longer sentences lose their end.
        objective: the objective's figures.

    Attributes:
        starts: int64 (rows,), first tokens among those of all documents.
        lengths: int64 (rows,), tokens of each row, special tokens included.
        account: how many sentences there were, too short, repeated and cut.

    Raises:
        ConfigError: the documents have no sentences, or none is long enough.
    """

    def __init__(
        self,
        documents: TokenDocuments,
        vocabulary: Vocabulary,
        max_length: int,
        objective: SimcseSettings,
    ):
        self.documents = documents
        self.vocabulary = vocabulary
        self.max_length = max_length
        starts = sentence_places(documents, objective.name)
        lengths = np.diff(starts, append=len(documents.ids))
        long_enough = lengths >= objective.shortest
        starts, lengths = starts[long_enough], lengths[long_enough]
        cut = int((lengths > max_length - 2).sum())
        lengths = np.minimum(lengths, max_length - 2)
        _, first = np.unique(self._hashes(starts, lengths), return_index=True)
        first.sort()
        self.account = {
            "sentences": len(long_enough),
            "too_short": int((~long_enough).sum()),
            "repeated": len(starts) - len(first),
            "cut": cut,
        }
        self.starts, self.lengths = starts[first], lengths[first] + 2
        if len(self) < 2:
            raise ConfigError(
                f"The objective simcse needs sentences of {objective.shortest} tokens or more. "
                f"Received: {len(self)} in {documents.folder}. Look at the corpus, or lower "
                "objective.shortest."
            )

    def _hashes(self, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Of each sentence a number of 64 bits."""
        powers = np.random.default_rng(0).integers(1, 2**63, self.max_length, np.uint64) | 1
        found = [np.empty(0, np.uint64)]
        for begin in range(0, len(starts), _SENTENCES_AT_ONCE):
            chosen = slice(begin, begin + _SENTENCES_AT_ONCE)
            ids = self.documents.ids[ranges(starts[chosen], lengths[chosen])].astype(np.uint64)
            before = np.cumsum(lengths[chosen]) - lengths[chosen]
            offsets = np.arange(len(ids)) - np.repeat(before, lengths[chosen])
            found.append(np.add.reduceat((ids + 1) * powers[offsets], before))
        return np.concatenate(found)

    def __len__(self) -> int:
        """Rows."""
        return len(self.starts)

    def drawn(self, random: np.random.Generator) -> None:
        """Nothing: a row is the same in every epoch."""

    def row_lengths(self, drawn: None) -> np.ndarray:
        """Real tokens of each row: int64 (rows,)."""
        return self.lengths

    def inputs(self, drawn: None, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Make rows, as `PackedRows.inputs`.

        Args:
            drawn: from `drawn`.
            rows: int (B,), row numbers.
        """
        total = self.lengths[rows]
        length = int(total.max())
        begins = np.arange(len(rows)) * length
        inputs = lay_out(
            self.documents,
            self.vocabulary,
            (len(rows), length),
            places=begins + 1,
            starts=self.starts[rows],
            lengths=total - 2,
        )
        inputs["token_ids"][:, 0] = self.vocabulary.start_id
        inputs["padding_mask"].flat[ranges(begins, total)] = 1
        return inputs
