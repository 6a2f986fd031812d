"""Batches of several tasks in one order: which task each step is of, drawn by a rule."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, WithJsonSchema, field_validator

from tfmodel.config import Settings

if TYPE_CHECKING:
    import tensorflow as tf

    from tfmodel.tokens.batches import Batches

_TASKS = 1  # what chance is drawn for, so that no draw is that of the order of rows
ANNEALED = "annealed"
# What an editor is told; `check_alpha` has the words for a user.
_Alpha = Annotated[float, WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1})]
_LAST_ALPHA = 0.2  # of annealed sampling


class MixingSettings(Settings):
    """The rule by which the steps of a training are given to its tasks."""

    alpha: Literal["annealed"] | _Alpha = Field(
        ANNEALED,
        description="A step is of a task with a probability that goes with its rows to this power: "
        "1 in proportion to them, 0 all tasks alike; annealed: from 1 in the first epoch to 0.2 in "
        "the last.",
        examples=[0.5],
    )
    cap: int | None = Field(
        None,
        ge=1,
        description="Rows of a task that count at most, so that a large one leaves room for the "
        "others; none: all.",
        examples=[10_000],
    )

    @field_validator("alpha")
    @classmethod
    def _in_range(cls, alpha: float | str) -> float | str:
        check_alpha(alpha)
        return alpha


def check_alpha(alpha: float | str) -> None:
    """Refuse a power that is out of range.

    Raises:
        ValueError: it is neither `annealed` nor a number from 0 to 1.
    """
    if alpha != ANNEALED and not (isinstance(alpha, int | float) and 0 <= alpha <= 1):
        raise ValueError(
            "alpha must be from 0, all tasks alike, to 1, in proportion to their rows, or "
            f"{ANNEALED}. Received: {alpha}. Change it, or leave it out"
        )


def rates(sizes: Mapping[str, int], alpha: float, *, cap: int | None = None) -> dict[str, float]:
    """The probability with which a step is of each task.

    Args:
        sizes: rows of each task, above 0.
        alpha: what rows are raised to, from 0 to 1.
        cap: rows of a task that count at most; None: all.

    Returns:
        Probabilities by task, whose sum is 1.

    Source: Raffel et al. 2020, section 3.5.2, examples-proportional mixing with a limit (`cap`) and
    a temperature T = 1 / alpha; Stickland and Murray 2019 call 0.5 square root sampling.
    """
    counted = np.array([rows if cap is None else min(rows, cap) for rows in sizes.values()])
    powers = counted.astype(np.float64) ** alpha
    return dict(zip(sizes, (powers / powers.sum()).tolist(), strict=True))


class _Drawn(NamedTuple):
    """A step: which task, and which rows of its own."""

    task: int
    rows: np.ndarray


class _Lengths(NamedTuple):
    """The rows of all tasks, one task after the other."""

    lengths: np.ndarray


class MixedBatches:
    """The steps of every epoch, each a batch of one task: a function of seed, epoch and position.

    Each task goes through its own batches in their own order, epoch after epoch of its own. An
    epoch of all has as many steps as the tasks have batches together (of a capped task those of
    so many rows), whatever the rule gives each of them.

    Args:
        tasks: the batches of each task.
        alpha: what the rows of a task are raised to, from 0 to 1, or `annealed`: from 1 in the
            first epoch to 0.2 in the last, evenly.
        cap: rows of a task that count at most; None: all.
        epochs: of the whole training, for `annealed`.
        seed: of which task a step is of.

    Attributes:
        rows: `rows.lengths`, the tokens of all rows, the first task's first.
        epoch: which epoch is given next.
        skip: steps of it that are left out.

    Raises:
        ValueError: fewer than two tasks, a task without rows, or a value out of range.

    Source: `rates`; annealed sampling is Stickland and Murray 2019, section 4: alpha is
    1 - 0.8 (e - 1) / (E - 1) in epoch e of E.
    """

    def __init__(
        self,
        tasks: Mapping[str, Batches],
        *,
        alpha: float | str = ANNEALED,
        cap: int | None = None,
        epochs: int = 1,
        seed: int = 0,
    ):
        check_alpha(alpha)
        empty = [name for name, batches in tasks.items() if not len(batches)]
        if len(tasks) < 2 or empty or epochs < 1 or (cap is not None and cap < 1):
            raise ValueError(
                "Expected two tasks or more with rows each, 1 epoch or more, and no cap or one of "
                f"1 or more. Received: {', '.join(tasks) or 'none'} (without rows: "
                f"{', '.join(empty) or 'none'}), epochs {epochs}, cap {cap}."
            )
        self.tasks = dict(tasks)
        self.alpha = alpha
        self.cap = cap
        self.epochs = epochs
        self.seed = seed
        self.epoch = 0
        self.skip = 0
        self._drawn: dict[int, np.ndarray] = {}
        self.sizes = {name: len(batches.rows) for name, batches in tasks.items()}
        self.rows = _Lengths(np.concatenate([each.rows.lengths for each in tasks.values()]))
        self._first_rows = np.cumsum([0, *self.sizes.values()])
        self._count = sum(
            -(-len(batches) * min(rows, cap or rows) // rows)
            for batches, rows in zip(tasks.values(), self.sizes.values(), strict=True)
        )

    def rates(self, epoch: int) -> dict[str, float]:
        """The probability with which a step of an epoch is of each task."""
        alpha = self.alpha
        if alpha == ANNEALED:
            share = min(epoch, self.epochs - 1) / max(self.epochs - 1, 1)
            alpha = 1 - (1 - _LAST_ALPHA) * share
        return rates(self.sizes, alpha, cap=self.cap)

    def drawn(self, epoch: int) -> np.ndarray:
        """The task of each step of an epoch, int (steps,), by its number in `tasks`."""
        if epoch not in self._drawn:
            random = np.random.default_rng([self.seed, epoch, _TASKS])
            chances = [*self.rates(epoch).values()]
            self._drawn[epoch] = random.choice(len(self.tasks), size=len(self), p=chances)
        return self._drawn[epoch]

    def steps(self, epochs: int) -> dict[str, int]:
        """How many steps of the first epochs are of each task."""
        counts = np.zeros(len(self.tasks), np.int64)
        for epoch in range(epochs):
            counts += np.bincount(self.drawn(epoch), minlength=len(self.tasks))
        return dict(zip(self.tasks, counts.tolist(), strict=True))

    def _steps(self, epoch: int) -> list[_Drawn]:
        """The steps of an epoch, each task's from where the epoch before has left it."""
        own = [*self.tasks.values()]
        at, plans = [*self.steps(epoch).values()], {}
        found = []
        for task in self.drawn(epoch).tolist():
            round_, index = divmod(at[task], len(own[task]))
            if (task, round_) not in plans:
                plans[task, round_] = own[task].plan(round_)
            found.append(_Drawn(task, plans[task, round_][index]))
            at[task] += 1
        return found

    def plan(self, epoch: int) -> list[np.ndarray]:
        """The steps of an epoch, as arrays of row numbers, counted through all tasks."""
        return [self._first_rows[step.task] + step.rows for step in self._steps(epoch)]

    def row_lengths(self, epoch: int) -> np.ndarray:
        """Real tokens of each row, the same in every epoch: int (n,)."""
        return self.rows.lengths

    def __len__(self) -> int:
        """Steps of an epoch."""
        return self._count

    @property
    def padding_share(self) -> float:
        """Share of padding among the first epoch's tokens, in [0, 1)."""
        plan = self.plan(0)
        real = sum(int(self.rows.lengths[rows].sum()) for rows in plan)
        padded = sum(len(rows) * int(self.rows.lengths[rows].max()) for rows in plan)
        return 1 - real / max(padded, 1)

    @property
    def fingerprint(self) -> str:
        """A hash of the rows and of the order of all steps."""
        found = hashlib.sha256()
        for name, batches in self.tasks.items():
            found.update(f"{name}={batches.fingerprint};".encode())
        found.update(repr((self.alpha, self.cap, self.epochs, self.seed)).encode())
        return found.hexdigest()

    def row(self, number: int) -> dict[str, Any]:
        """What a row holds, in plain values, with its task; `row` is its number there."""
        task = int(np.searchsorted(self._first_rows, number, side="right")) - 1
        name = [*self.tasks][task]
        return {"task": name, **self.tasks[name].row(number - int(self._first_rows[task]))}

    def __iter__(self) -> Iterator[tuple]:
        steps = self._steps(self.epoch)[self.skip :]
        self.epoch, self.skip = self.epoch + 1, 0
        own = [*self.tasks.values()]
        nothing = [_nothing(batches.signature) for batches in own]
        for step in steps:
            given = list(nothing)
            given[step.task] = own[step.task].parts(step.rows)
            yield np.int32(step.task), tuple(given)

    def dataset(self) -> tf.data.Dataset:
        """A dataset whose every iteration is the next epoch.

        An element is the number of a task, and a batch for each task, which is empty for all but
        this one.
        """
        import tensorflow as tf

        from tfmodel.tokens.batches import as_epochs

        signature = (
            tf.TensorSpec((), tf.int32),
            tuple(batches.signature for batches in self.tasks.values()),
        )
        return as_epochs(self, signature)


def _nothing(signature: Any) -> Any:
    """A batch without rows, of that signature."""
    import tensorflow as tf

    return tf.nest.map_structure(
        lambda spec: np.zeros([size or 0 for size in spec.shape], spec.dtype.as_numpy_dtype),
        signature,
    )


def mixed_batches(
    tasks: Mapping[str, tf.data.Dataset | Batches],
    *,
    alpha: float | str = ANNEALED,
    cap: int | None = None,
    epochs: int = 1,
    seed: int = 0,
) -> tf.data.Dataset:
    """The batches of several tasks to one dataset, for the `fit` of a `SeveralModel`.

    Args:
        tasks: by name what `tm.batches` returned.
        alpha: as for `MixedBatches`.
        cap: as for `MixedBatches`.
        epochs: epochs that `fit` will be asked for.
        seed: of which task a step is of.

    Returns:
        A dataset of `(task, batches)`, as `MixedBatches.dataset` describes it.

    Raises:
        ValueError: as `MixedBatches`; or what is given for a task is not from `tm.batches`.

    Example:
        >>> mixed = tm.mixed_batches({"topics": topics, "stars": stars}, alpha=0.5, epochs=3)
        >>> model.fit(mixed, epochs=3, shuffle=False)
    """
    from tfmodel.tokens.batches import batches_of

    own = {name: batches_of(data) for name, data in tasks.items()}
    return MixedBatches(own, alpha=alpha, cap=cap, epochs=epochs, seed=seed).dataset()
