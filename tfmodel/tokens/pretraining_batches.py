"""Token documents to the batches of a pretraining objective."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tfmodel.config import ConfigError
from tfmodel.tokens.masking import Masking
from tfmodel.tokens.objectives import ElectraSettings, ObjectiveSettings
from tfmodel.tokens.packing import PackedRows
from tfmodel.tokens.token_documents import TokenDocuments
from tfmodel.tokens.vocabulary import Vocabulary

if TYPE_CHECKING:
    import tensorflow as tf

# What chance is drawn for, so that no two draws are of the same numbers.
_ORDER, _MASKS = 0, 1


class PretrainingBatches:
    """The batches of every epoch: a pure function of the seed, the epoch and the position.

    Every epoch has the same number of batches, its rows put together, ordered and masked anew.
    What a batch holds, B rows of T tokens, P places for masked tokens:

    | Objective | inputs | targets | weights |
    |---|---|---|---|
    | mlm | token_ids, segment_ids, padding_mask (B, T), masked_positions (B, P) | masked_ids (B, P) | float32 (B, P), 0 for places not used |
    | electra | the same and original_ids (B, T) | masked_ids | the same |

    Args:
        documents: the documents.
        objective: which objective, and its figures.
        vocabulary: the documents' own.
        max_length: tokens a row at most, special tokens included.
        batch_size: rows a batch; the last one of an epoch may have fewer.
        seed: of rows, order and masks.
        fixed: every epoch is the same, in the documents' order: for evaluation.

    Attributes:
        epoch: which epoch is given next.
        skip: batches of it that are left out.
        rows: the rows: `rows.lengths` are their real tokens.

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
        self.rows = PackedRows(documents, vocabulary, max_length)
        shares = {}
        if isinstance(objective, ElectraSettings):
            shares = {"mask_share": 1.0, "random_share": 0.0}
        figures = objective.model_dump(exclude={"name", "mask_rate", "short_share"})
        self._masking = Masking(vocabulary, rate=objective.mask_rate, **figures, **shares)
        self.places = self._masking.places(max_length - 2)
        self._drawn: tuple[int, Any, np.ndarray] | None = None

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.rows) // self.batch_size)

    @property
    def padding_share(self) -> float:
        """Share of padding among an epoch's tokens, in [0, 1)."""
        return self.rows.padding_share

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
        """What is drawn for an epoch: the rows' texts, and the order of the rows."""
        epoch = 0 if self.fixed else epoch
        kept = self._drawn
        if kept is None or kept[0] != epoch:
            random = None if self.fixed else np.random.default_rng([self.seed, epoch, _ORDER])
            drawn = self.rows.drawn(random)
            count = len(self.rows)
            order = np.arange(count) if random is None else random.permutation(count)
            self._drawn = kept = (epoch, drawn, order)
        return kept[1:]

    def plan(self, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch, as arrays of row numbers."""
        _, order = self._epoch(epoch)
        size = self.batch_size
        return [order[start : start + size] for start in range(0, len(order), size)]

    def batch(self, epoch: int, index: int) -> tuple:
        """Make one batch of an epoch: `(inputs, targets, weights)`.

        Args:
            epoch: from 0.
            index: which batch of it, from 0.
        """
        drawn, order = self._epoch(epoch)
        rows = order[index * self.batch_size : (index + 1) * self.batch_size]
        random = np.random.default_rng([self.seed, 0 if self.fixed else epoch, _MASKS, index])
        inputs = self.rows.inputs(drawn, rows)
        word_starts = inputs.pop("word_starts")
        original = inputs["token_ids"]
        masked = self._masking(original, word_starts, self.places, random)
        inputs["token_ids"] = masked.token_ids
        inputs["masked_positions"] = masked.positions
        if isinstance(self.objective, ElectraSettings):
            inputs["original_ids"] = original
        return inputs, masked.ids, masked.weights

    def __iter__(self) -> Iterator[tuple]:
        epoch, skip = self.epoch, self.skip
        self.epoch, self.skip = epoch + 1, 0
        for index in range(skip, len(self)):
            yield self.batch(epoch, index)

    def dataset(self) -> tf.data.Dataset:
        """A dataset whose every iteration is the next epoch, made ahead of the training."""
        import tensorflow as tf

        from tfmodel.tokens.batches import without_tuning

        def spec(value):
            shape = [None] * value.ndim
            return tf.TensorSpec(shape, value.dtype)

        signature = tf.nest.map_structure(spec, self.batch(0, 0))
        dataset = tf.data.Dataset.from_generator(lambda: iter(self), output_signature=signature)
        dataset = dataset.prefetch(4)
        # Keras takes the number for that of all later epochs: after a `skip` make a new dataset.
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(self) - self.skip))
        dataset = without_tuning(dataset)
        dataset.batches = self
        return dataset
