"""Token ids to batches: rows of similar length together, in an order drawn anew each epoch."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from tfmodel.config import ConfigError
from tfmodel.tokens.pretraining_batches import PretrainingBatches
from tfmodel.tokens.row_tokenizer import RowTokenizer

_ROWS_AT_ONCE = 4096
# Rows are sorted by length inside chunks of this many batches: long enough for rows of a
# batch to be nearly equal, short enough for batches to differ from epoch to epoch.
_BATCHES_A_CHUNK = 200


@dataclasses.dataclass(frozen=True)
class TokenRows:
    """Tokenized rows of any length, one after the other.

    Args:
        ids: int32, the ids of all rows.
        splits: int64 (n + 1,); row i is `ids[splits[i]:splits[i + 1]]`.
        first_lengths: int32 (n,), tokens of each row's first segment.
        padding_id: what fills a batch's shorter rows.
    """

    ids: np.ndarray
    splits: np.ndarray
    first_lengths: np.ndarray
    padding_id: int = 0

    @classmethod
    def from_texts(
        cls,
        tokenizer: RowTokenizer,
        texts: Sequence[str],
        text_pairs: Sequence[str] | None = None,
        *,
        max_length: int | None = None,
    ) -> TokenRows:
        """Tokenize all texts, on all cores.

        Args:
            tokenizer: the tokenizer.
            texts: n strings.
            text_pairs: n strings, or None.
            max_length: tokens a row at most; the tokenizer's own by default.
        """
        if text_pairs is not None and len(text_pairs) != len(texts):
            raise ConfigError(
                "Expected a second text for every text. "
                f"Received: {len(texts)} texts and {len(text_pairs)} second texts."
            )
        limit = tokenizer.max_length if max_length is None else max_length

        def tokenize(start: int) -> tuple[np.ndarray, ...]:
            chunk = slice(start, start + _ROWS_AT_ONCE)
            ids, first_lengths = tokenizer.join(
                tokenizer.tokenize(tf.constant(texts[chunk], tf.string)),
                None
                if text_pairs is None
                else tokenizer.tokenize(tf.constant(text_pairs[chunk], tf.string)),
                max_length=limit,
            )
            return ids.flat_values.numpy(), ids.row_lengths().numpy(), first_lengths.numpy()

        # Threads, for TensorFlow lets go of Python while it works; a tf.data pipeline takes
        # longer to be traced than a few thousand rows take to be tokenized.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            chunks = list(pool.map(tokenize, range(0, len(texts), _ROWS_AT_ONCE)))
        ids, lengths, first_lengths = (
            np.concatenate([chunk[part] for chunk in chunks] or [np.empty(0, np.int32)])
            for part in range(3)
        )
        splits = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return cls(ids, splits, first_lengths, tokenizer.vocabulary.padding_id)

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, int64 (n,)."""
        return np.diff(self.splits)

    def __len__(self) -> int:
        return len(self.splits) - 1

    def batch(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The named rows as one batch, padded to the longest: int32 (B, T) each."""
        lengths = self.lengths[rows]
        positions = np.arange(lengths.max(initial=1))
        real = positions < lengths[:, None]
        token_ids = np.full(real.shape, self.padding_id, np.int32)
        token_ids[real] = np.concatenate(
            [self.ids[self.splits[row] : self.splits[row + 1]] for row in rows]
        )
        second = real & (positions >= self.first_lengths[rows][:, None])
        return {
            "token_ids": token_ids,
            "segment_ids": second.astype(np.int32),
            "padding_mask": real.astype(np.int32),
        }


@dataclasses.dataclass(frozen=True)
class TokenValues:
    """A number for each token of rows of any length; batches of it are padded with 0.

    Args:
        values: those of all rows, one row after the other.
        splits: int64 (n + 1,), as those of the `TokenRows`.
    """

    values: np.ndarray
    splits: np.ndarray

    @property
    def shape(self) -> tuple[int, None]:
        """Rows, and tokens of each, which differ."""
        return len(self), None

    @property
    def dtype(self) -> np.dtype:
        """Of the numbers."""
        return self.values.dtype

    def __len__(self) -> int:
        return len(self.splits) - 1

    def __getitem__(self, rows) -> np.ndarray:
        """One row (T,), or several as a batch, padded to the longest (B, T)."""
        if np.ndim(rows) == 0:
            return self.values[self.splits[rows] : self.splits[rows + 1]]
        lengths = self.splits[rows + 1] - self.splits[rows]
        real = np.arange(lengths.max(initial=1)) < lengths[:, None]
        found = np.zeros(real.shape, self.values.dtype)
        found[real] = np.concatenate([self[row] for row in rows])
        return found


class Batches:
    """The batches of every epoch: a pure function of the seed, the epoch and the position.

    Every epoch has the same number of batches, `len(batches)`: Keras counts on it.

    Args:
        rows: the tokenized rows.
        targets: array (n, …), numbers of each token, or None for rows without.
        weights: float (n,) weight of each row in the loss, or of each token, or None.
        batch_size: rows a batch; give this or `batch_tokens`.
        batch_tokens: tokens a batch at most, padding included.
        order: `random` draws a new order each epoch, rows of similar length together; `mixed`
            too, rows of all lengths in a batch (of `batch_tokens` as `random`); `length` goes from
            short to long; `given` keeps the rows' order.
        seed: of the random orders.

    Raises:
        ConfigError: both or neither of `batch_size` and `batch_tokens`, a budget below the
            longest row, or another number of targets or weights than of rows.
    """

    def __init__(
        self,
        rows: TokenRows,
        targets: np.ndarray | TokenValues | None = None,
        *,
        weights: np.ndarray | TokenValues | None = None,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        order: str = "random",
        seed: int = 0,
    ):
        if order not in ("random", "mixed", "length", "given"):
            raise ValueError(f"order must be random, mixed, length or given. Received: {order!r}.")
        if (batch_size is None) == (batch_tokens is None):
            raise ConfigError(
                "Give batch_size or batch_tokens, one of them. "
                f"Received: batch_size {batch_size}, batch_tokens {batch_tokens}."
            )
        if batch_size is not None and batch_size < 1:
            raise ConfigError(f"batch_size must be 1 or more. Received: {batch_size}.")
        for name, values in (("target", targets), ("weight", weights)):
            if values is not None and len(values) != len(rows):
                raise ConfigError(
                    f"Expected a {name} for every row. "
                    f"Received: {len(rows)} rows and {len(values)} {name}s."
                )
        longest = int(rows.lengths.max(initial=0))
        if batch_tokens is not None and batch_tokens < longest:
            raise ConfigError(
                f"batch_tokens must hold the longest row, {longest} tokens. "
                f"Received: {batch_tokens}. Raise it or lower max_length."
            )
        self.rows = rows
        self.targets = targets
        self.weights = weights
        self.batch_size = batch_size
        self.batch_tokens = batch_tokens
        self.order = order
        self.seed = seed
        self.epoch = 0
        self.skip = 0
        self._count = len(self.plan(0))

    def plan(self, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch, as arrays of row numbers."""
        lengths = self.rows.lengths
        if self.order == "given":
            return self._cut(np.arange(len(lengths)), lengths)
        if self.order == "length":
            return self._cut(np.argsort(lengths, kind="stable"), lengths)
        random = np.random.default_rng([self.seed, epoch])
        order = random.permutation(len(lengths))
        if self.order == "mixed" and self.batch_size:
            return self._cut(order, lengths)
        # By tokens, all rows are sorted, those of equal length in a random order: the cuts then
        # fall at the same lengths each epoch, and every epoch has as many batches.
        chunk = self.batch_size * _BATCHES_A_CHUNK if self.batch_size else max(len(order), 1)
        batches = []
        for start in range(0, len(order), chunk):
            part = order[start : start + chunk]
            batches += self._cut(part[np.argsort(-lengths[part], kind="stable")], lengths)
        return [batches[index] for index in random.permutation(len(batches))]

    def row_lengths(self, epoch: int) -> np.ndarray:
        """Real tokens of each row, the same in every epoch: int (n,)."""
        return self.rows.lengths

    def _cut(self, order: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
        if self.batch_size:
            return [
                order[start : start + self.batch_size]
                for start in range(0, len(order), self.batch_size)
            ]
        batches, start, longest = [], 0, 0
        for end, row in enumerate(order):
            grown = max(longest, int(lengths[row]))
            if end > start and grown * (end - start + 1) > self.batch_tokens:
                batches.append(order[start:end])
                start, grown = end, int(lengths[row])
            longest = grown
        if len(order):
            batches.append(order[start:])
        return batches

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self._count

    @property
    def padding_share(self) -> float:
        """Share of padding among an epoch's tokens, in [0, 1)."""
        lengths = self.rows.lengths
        padded = sum(len(batch) * int(lengths[batch].max()) for batch in self.plan(0))
        return 1 - float(lengths.sum()) / max(padded, 1)

    @property
    def fingerprint(self) -> str:
        """A hash of the rows and of their order in every epoch."""
        found = hashlib.sha256()
        for array in (self.rows.ids, self.rows.splits, self.targets, self.weights):
            if isinstance(array, TokenValues):
                array = array.values
            found.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
        order = (self.batch_size, self.batch_tokens, self.order, self.seed)
        found.update(repr(order).encode())
        return found.hexdigest()

    def batch(
        self, epoch: int, index: int
    ) -> tuple[dict[str, np.ndarray], np.ndarray | None, np.ndarray | None]:
        """Make one batch of an epoch: inputs, targets and weights, each None where there are none.

        Args:
            epoch: from 0.
            index: which batch of it, from 0.
        """
        return self._parts(self.plan(epoch)[index])

    def _parts(self, rows: np.ndarray) -> tuple:
        others = [None if each is None else each[rows] for each in (self.targets, self.weights)]
        return self.rows.batch(rows), *others

    def __iter__(self) -> Iterator[tuple]:
        plan = self.plan(self.epoch)[self.skip :]
        self.epoch, self.skip = self.epoch + 1, 0
        for rows in plan:
            parts = tuple(part for part in self._parts(rows) if part is not None)
            yield parts if len(parts) > 1 else parts[0]

    def dataset(self) -> tf.data.Dataset:
        """A dataset whose every iteration is the next epoch.

        The shapes are (None, None) throughout: one trace of the step serves every length.
        """
        batch = tf.TensorSpec((None, None), tf.int32)
        signature = [dict.fromkeys(("token_ids", "segment_ids", "padding_mask"), batch)]
        for values in (self.targets, self.weights):
            if values is not None:
                signature.append(tf.TensorSpec((None, *values.shape[1:]), values.dtype))
        signature = tuple(signature) if len(signature) > 1 else signature[0]
        dataset = tf.data.Dataset.from_generator(lambda: iter(self), output_signature=signature)
        dataset = dataset.prefetch(4)
        # Keras shows progress, and does not warn of the end, where the number is known. It takes
        # the number for that of all later epochs: after a `skip` make a new dataset.
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(self) - self.skip))
        dataset = without_tuning(dataset)
        dataset.batches = self
        return dataset


def batches_of(
    data: Batches | PretrainingBatches | tf.data.Dataset,
) -> Batches | PretrainingBatches:
    """The batches behind a dataset: its rows, and the order of every epoch.

    Args:
        data: `Batches` or `PretrainingBatches`, or the dataset made of them as it was returned.

    Raises:
        ValueError: another dataset, or one that was changed since, by `map` or `take`.
    """
    found = data if isinstance(data, Batches) else getattr(data, "batches", None)
    if not isinstance(found, (Batches, PretrainingBatches)):
        raise ValueError(
            "Expected the dataset that tm.batches returned, unchanged (no map or take after it). "
            f"Received: {type(data).__name__}."
        )
    return found


def without_tuning(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Leave the dataset's parallelism as it is written.

    TensorFlow's tuning thread sleeps 10 ms, 20 ms, 40 ms and so on, and an iterator that ends
    waits until it wakes: of a training of 11 s that is another 10 s.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def batches(
    texts: Sequence[str],
    targets: Sequence | np.ndarray | None = None,
    *,
    tokenizer: RowTokenizer,
    text_pairs: Sequence[str] | None = None,
    weights: Sequence[float] | None = None,
    batch_size: int | None = None,
    batch_tokens: int | None = None,
    max_length: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
) -> tf.data.Dataset:
    """Texts to a dataset for `model.fit`, `evaluate` or `predict`.

    Rows are tokenized once; where they are shuffled, rows of similar length come together, so
    that little is padded.

    Args:
        texts: n strings.
        targets: n targets (class ids for `classify`), or None.
        tokenizer: the tokenizer.
        text_pairs: n second texts, or None.
        weights: n row weights, or None.
        batch_size: rows a batch; 32 where neither it nor `batch_tokens` is given.
        batch_tokens: tokens a batch at most, in place of `batch_size`.
        max_length: tokens a row at most; the tokenizer's own by default.
        shuffle: draw a new order each epoch; otherwise the order of `texts` is kept.
        seed: of the order.

    Returns:
        A dataset of `(batch, targets, weights)`, as far as given; `batch` holds `token_ids`,
        `segment_ids` and `padding_mask`, int32 (B, T).

    Example:
        >>> train = tm.batches(texts, labels, tokenizer=tokenizer, batch_size=32, shuffle=True)
        >>> model.fit(train, epochs=2)
    """
    if batch_size is None and batch_tokens is None:
        batch_size = 32
    rows = TokenRows.from_texts(tokenizer, texts, text_pairs, max_length=max_length)
    return Batches(
        rows,
        None if targets is None else np.asarray(targets),
        weights=None if weights is None else np.asarray(weights, np.float32),
        batch_size=batch_size,
        batch_tokens=batch_tokens,
        order="random" if shuffle else "given",
        seed=seed,
    ).dataset()
