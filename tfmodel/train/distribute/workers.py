"""What workers tell each other while they train, each from the same place of its program."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfmodel.config import ConfigError
from tfmodel.train.checkpoint import Checkpoint, Variables
from tfmodel.train.checkpoint import _named as named

_LARGEST_PART_VALUES = 2**24


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes: the first worker, or the only process."""
    return _rank(strategy) == 0


def worker_count(strategy: tf.distribute.Strategy) -> int:
    """Processes that train together."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 1
    return strategy.extended._num_workers


def _rank(strategy) -> int:
    if worker_count(strategy) == 1:
        return 0
    return strategy.extended._id_in_cluster


def gather(strategy: tf.distribute.Strategy, value: Any) -> list:
    """Every worker's value, in their order.

    Args:
        strategy: of all of them.
        value: JSON-able.
    """
    if worker_count(strategy) == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8).astype(np.int32)
    lengths = np.zeros(worker_count(strategy), np.int32)
    lengths[_rank(strategy)] = len(text)
    lengths = _sums(strategy, [lengths])[0]
    table = np.zeros((len(lengths), max(lengths)), np.int32)
    table[_rank(strategy), : len(text)] = text
    (table,) = _sums(strategy, [table])
    return [
        json.loads(row[:length].astype(np.uint8).tobytes())
        for row, length in zip(table, lengths, strict=True)
    ]


def from_chief(strategy: tf.distribute.Strategy, value: Any = None) -> Any:
    """The chief's value; the others need give none."""
    return gather(strategy, value if is_chief(strategy) else None)[0]


def require_same(strategy: tf.distribute.Strategy, facts: Mapping[str, Any]) -> None:
    """Refuse workers that do not do the same.

    Args:
        strategy: of all of them.
        facts: JSON-able, by name.

    Raises:
        ConfigError: a fact is another one in some worker.
    """
    found = gather(strategy, dict(facts))
    unlike = [name for name in found[0] if any(each.get(name) != found[0][name] for each in found)]
    if unlike:
        shown = "; ".join(
            f"{name} is {', '.join(str(each.get(name)) for each in found)}" for name in unlike[:5]
        )
        raise ConfigError(
            f"Expected workers that do the same. Received, in their order: {shown}. Give all the "
            "same data and settings."
        )


def any_of(strategy: tf.distribute.Strategy, flags: Sequence[bool]) -> list[bool]:
    """Of each flag, whether it is set in any worker."""
    if worker_count(strategy) == 1:
        return list(flags)
    return [bool(count) for count in _sums(strategy, [np.array(flags, np.int32)])[0]]


def give_chiefs(strategy: tf.distribute.Strategy, variables: Sequence[keras.Variable]) -> None:
    """Give variables the values they have in the chief."""
    if worker_count(strategy) > 1:
        _assign_chiefs(strategy, variables, [keras.ops.convert_to_numpy(v) for v in variables])


def _assign_chiefs(strategy, variables, values) -> None:
    """Give variables of all workers the chief's values; the others' are not looked at.

    All workers take the same steps: reading or changing a metric's variable waits for all.
    """
    by_variable = {id(v): value for v, value in zip(variables, values, strict=True)}
    for some in _in_parts(variables):
        arrays = [
            np.asarray(by_variable[id(v)])
            if is_chief(strategy)
            else np.zeros(v.shape, tf.as_dtype(v.dtype).as_numpy_dtype)
            for v in some
        ]
        for variable, value in zip(some, _sums(strategy, arrays), strict=True):
            variable.assign(value)


def _in_parts(variables):
    """Variables of one type together, as many as fill a message."""
    parts: dict[str, list] = {}
    for variable in variables:
        part = parts.setdefault(variable.dtype, [])
        part.append(variable)
        if sum(math.prod(each.shape) for each in part) > _LARGEST_PART_VALUES:
            yield parts.pop(variable.dtype)
    yield from parts.values()


def _sums(strategy, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Over the workers."""
    kinds = tuple((array.shape, array.dtype.name) for array in arrays)
    found = _sum_function(strategy, kinds)(*[tf.constant(array) for array in arrays])
    return [strategy.experimental_local_results(value)[0].numpy() for value in found]


@functools.lru_cache(maxsize=8)
def _sum_function(strategy, kinds):
    def of_replica(*values):
        replica = tf.distribute.get_replica_context()
        # Of a worker's replicas only the first takes part.
        first = replica.replica_id_in_sync_group % strategy.extended._num_devices_per_worker == 0
        kept = [tf.where(first, value, tf.zeros_like(value)) for value in values]
        return replica.all_reduce(tf.distribute.ReduceOp.SUM, kept)

    def of_all(*values):
        return strategy.run(of_replica, args=values)

    signature = [tf.TensorSpec(shape, dtype) for shape, dtype in kinds]
    return tf.function(of_all, autograph=False).get_concrete_function(*signature)


def shared(checkpoint: Checkpoint, strategy: tf.distribute.Strategy) -> Checkpoint:
    """The checkpoint; where there are several workers, the one they share."""
    if worker_count(strategy) == 1 or isinstance(checkpoint, SharedCheckpoint):
        return checkpoint
    return SharedCheckpoint(checkpoint.folder, strategy)


class SharedCheckpoint(Checkpoint):
    """The chief's checkpoint, which all workers continue from; they need no folder.

    Call each method in all workers, in the same order.

    Args:
        folder: the chief's.
        strategy: of the workers.
    """

    def __init__(self, folder: str | Path, strategy: tf.distribute.Strategy):
        super().__init__(folder)
        self.strategy = strategy

    def exists(self) -> bool:
        """Whether the chief has something to continue from."""
        return from_chief(self.strategy, is_chief(self.strategy) and super().exists())

    def state(self) -> dict[str, Any]:
        """What the chief saved beside the variables."""
        return from_chief(self.strategy, super().state() if is_chief(self.strategy) else None)

    def restore(self, variables: Variables) -> dict[str, Any]:
        """Give the variables of all workers the values that the chief saved."""
        wanted = named(variables)
        state, values = None, dict.fromkeys(wanted)
        if is_chief(self.strategy):
            state, values = self._saved(variables)
        _assign_chiefs(self.strategy, list(wanted.values()), [values[name] for name in wanted])
        return from_chief(self.strategy, state)

    def agree(self, flags: Sequence[bool]) -> list[bool]:
        """Of each flag, whether any worker has set it."""
        return any_of(self.strategy, flags)

    def _write(self, arrays: dict[str, np.ndarray]) -> None:
        if is_chief(self.strategy):
            super()._write(arrays)
