"""Token documents to the batches of a pretraining objective."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tfmodel.config import ConfigError
from tfmodel.tokens.masking import Masking
from tfmodel.tokens.objectives import (
    ElectraSettings,
    NspSettings,
    ObjectiveSettings,
    SimcseSettings,
    SopSettings,
)
from tfmodel.tokens.packing import PackedRows, compact
from tfmodel.tokens.pair_rows import PairRows
from tfmodel.tokens.sentence_rows import SentenceRows
from tfmodel.tokens.token_documents import TokenDocuments
from tfmodel.tokens.vocabulary import Vocabulary

if TYPE_CHECKING:
    import tensorflow as tf

# What chance is drawn for, so that no two draws are of the same numbers.
_ORDER, _MASKS = 0, 1
# Rows that are not packed are sorted by length inside chunks of this many batches: long enough for
# rows of a batch to be nearly equal, short enough for batches to differ from epoch to epoch.
_BATCHES_A_CHUNK = 200


class PretrainingBatches:
    """The batches of every epoch: a pure function of the seed, the epoch and the position.

    Every epoch has the same number of batches, its rows put together, ordered and masked anew.
    What a batch holds, B rows of T tokens, P places for masked tokens:

    | Objective | inputs | targets | weights |
    |---|---|---|---|
    | mlm | token_ids, segment_ids, padding_mask (B, T), masked_positions (B, P) | masked_ids (B, P) | float32 (B, P), 0 for places not used |
    | electra | the same and original_ids (B, T) | the same | the same |
    | nsp, sop | as mlm | `masked_ids`, and `pair_labels` (B,) | a dict likewise |
    | simcse | token_ids, segment_ids, padding_mask | | |

    All are int32 but the weights. T is `max_length` where rows are packed, else the batch's longest
    row.

    Args:
        documents: the documents.
        objective: which objective, and its figures.
        vocabulary: the documents' own.
        max_length: tokens a row at most, special tokens included.
        batch_size: rows a batch; the last one of an epoch may have fewer.
        seed: of rows, order and masks.
        fixed: every epoch is the first one: for evaluation.

    Attributes:
        epoch: which epoch is given next.
        skip: batches of it that are left out.
        rows: the rows, `PackedRows`, `PairRows` or `SentenceRows`.

    Raises:
        ConfigError: another vocabulary than the documents', too short rows, or no rows.
    """  # noqa: E501

    def __init__(
        self,
        documents: TokenDocuments,
        *,
        objective: ObjectiveSettings,
        vocabulary: Vocabulary,
        max_length: int,
        batch_size: int,
        seed: int = 0,
        fixed: bool = False,
    ):
        if batch_size < 1:
            raise ConfigError(f"batch_size must be 1 or more. Received: {batch_size}.")
        if max_length < 8:
            raise ConfigError(f"max_length must be 8 or more. Received: {max_length}.")
        documents.require(vocabulary)
        self.documents = documents
        self.objective = objective
        self.vocabulary = vocabulary
        self.max_length = max_length
        self.batch_size = batch_size
        self.seed = seed
        self.fixed = fixed
        self.epoch = 0
        self.skip = 0
        self._masking = None
        if isinstance(objective, SimcseSettings):
            self.rows = SentenceRows(documents, vocabulary, max_length, objective)
        else:
            self._masking = _masking(objective, vocabulary)
            if isinstance(objective, NspSettings | SopSettings):
                self.rows = PairRows(documents, vocabulary, max_length, objective, seed=seed)
            else:
                self.rows = PackedRows(documents, vocabulary, max_length)
        self._drawn: tuple[int, Any, np.ndarray] | None = None

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.rows) // self.batch_size)

    @property
    def padding_share(self) -> float:
        """Share of padding among the first epoch's tokens, in [0, 1)."""
        if isinstance(self.rows, PackedRows):
            return self.rows.padding_share
        lengths = self.row_lengths(0)
        padded = sum(len(rows) * int(lengths[rows].max()) for rows in self.plan(0))
        return 1 - float(lengths.sum()) / padded

    @property
    def left_out_share(self) -> float:
        """Share of the documents' tokens that are in no row, in [0, 1).

        Remainders and documents that are too short; of pairs also pieces of one sentence, of
        sentences the short, the repeated and the ends of those longer than a row.
        """
        total = len(self.documents.ids)
        if isinstance(self.rows, SentenceRows):
            return 1 - float((self.rows.lengths - 2).sum()) / total
        return self.rows.pieces.left_out / total

    @property
    def fingerprint(self) -> str:
        """Equal for equal batches in every epoch."""
        values = (
            self.documents.fingerprint,
            self.objective.model_dump_json(),
            self.max_length,
            self.batch_size,
            self.seed,
            self.fixed,
        )
        return hashlib.sha256(repr(values).encode("utf-8")).hexdigest()

    def _epoch(self, epoch: int) -> tuple[Any, np.ndarray]:
        """What is drawn for an epoch: what the rows are made of, and their order."""
        epoch = 0 if self.fixed else epoch
        kept = self._drawn
        if kept is None or kept[0] != epoch:
            random = np.random.default_rng([self.seed, epoch, _ORDER])
            drawn = self.rows.drawn(random)
            order = compact(random.permutation(len(self.rows)))
            if not isinstance(self.rows, PackedRows):
                lengths = self.rows.row_lengths(drawn)
                order = near_in_length(order, lengths, self.batch_size, random)
            self._drawn = kept = (epoch, drawn, order)
        return kept[1:]

    def plan(self, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch, as arrays of row numbers."""
        _, order = self._epoch(epoch)
        size = self.batch_size
        return [order[start : start + size] for start in range(0, len(order), size)]

    def row_lengths(self, epoch: int) -> np.ndarray:
        """Real tokens of each row in an epoch: int (rows,)."""
        drawn, _ = self._epoch(epoch)
        return self.rows.row_lengths(drawn)

    def batch(self, epoch: int, index: int) -> tuple:
        """Make one batch of an epoch: inputs, targets and weights, None where there are none.

        Args:
            epoch: from 0.
            index: which batch of it, from 0.
        """
        drawn, order = self._epoch(epoch)
        rows = order[index * self.batch_size : (index + 1) * self.batch_size]
        inputs = self.rows.inputs(drawn, rows)
        word_starts = inputs.pop("word_starts")
        if self._masking is None:
            return inputs, None, None
        labels = inputs.pop("pair_labels", None)
        random = np.random.default_rng([self.seed, 0 if self.fixed else epoch, _MASKS, index])
        original = inputs["token_ids"]
        special = 2 if labels is None else 3
        places = self._masking.places(original.shape[1] - special)
        masked = self._masking(original, word_starts, places, random)
        inputs["token_ids"] = masked.token_ids
        inputs["masked_positions"] = masked.positions
        if isinstance(self.objective, ElectraSettings):
            inputs["original_ids"] = original
        if labels is None:
            return inputs, masked.ids, masked.weights
        return (
            inputs,
            {"masked_ids": masked.ids, "pair_labels": labels},
            {"masked_ids": masked.weights, "pair_labels": np.ones(len(rows), np.float32)},
        )

    def __iter__(self) -> Iterator[tuple | dict[str, np.ndarray]]:
        epoch, skip = self.epoch, self.skip
        self.epoch, self.skip = epoch + 1, 0
        for index in range(skip, len(self)):
            yield _given(self.batch(epoch, index))

    def dataset(self) -> tf.data.Dataset:
        """A dataset whose every iteration is the next epoch, made ahead of the training."""
        import tensorflow as tf

        from tfmodel.tokens.batches import without_tuning

        def spec(value):
            shape = [None] * value.ndim
            return tf.TensorSpec(shape, value.dtype)

        signature = tf.nest.map_structure(spec, _given(self.batch(self.epoch, 0)))
        dataset = tf.data.Dataset.from_generator(lambda: iter(self), output_signature=signature)
        dataset = dataset.prefetch(4)
        # Keras takes the number for that of all later epochs: after a `skip` make a new dataset.
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(self) - self.skip))
        dataset = without_tuning(dataset)
        dataset.batches = self
        return dataset


def _given(batch: tuple) -> tuple | dict[str, np.ndarray]:
    """A batch as `fit` takes it: without what it has not."""
    inputs, targets, _ = batch
    return inputs if targets is None else batch


def _masking(objective: ObjectiveSettings, vocabulary: Vocabulary) -> Masking:
    shares = {}
    if isinstance(objective, ElectraSettings):
        shares = {"mask_share": 1.0, "random_share": 0.0}
    figures = objective.model_dump(exclude={"name", "mask_rate", "short_share"})
    return Masking(vocabulary, rate=objective.mask_rate, **figures, **shares)


def near_in_length(
    order: np.ndarray, lengths: np.ndarray, batch_size: int, random: np.random.Generator
) -> np.ndarray:
    """Bring rows of similar length together in batches, the batches in a random order.

    Args:
        order: int (n,), the rows in a random order.
        lengths: int (n,), tokens of each row.
        batch_size: rows a batch.
        random: where chance comes from.

    Returns:
        The same rows; what is left for a smaller batch comes last.
    """
    whole = len(order) // batch_size * batch_size
    chunk = np.arange(whole) // (batch_size * _BATCHES_A_CHUNK)
    sorted_rows = order[:whole][np.lexsort((-lengths[order[:whole]], chunk))]
    batches = sorted_rows.reshape(-1, batch_size)
    batches = batches[random.permutation(len(batches))]
    return np.concatenate([batches.ravel(), order[whole:]])
