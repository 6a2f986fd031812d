"""One step on several replicas: what Keras 3 does not do, or does wrong, under a strategy.

A replica is a device with a copy of the weights; each sees its share of the rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from tfmodel.train.gradients import ABSENT, kind_of, merged, of_no_rows, with_int32_rows

# Odd, so that no two steps or replicas of a run have the same; below 2**31, so that products stay
# within int64.
_STEP_STRIDE, _REPLICA_STRIDE = 0x2545F491, 0x1B873593
_LARGEST_SEED = 2**31 - 1


def replica_count() -> int:
    """Replicas that share the steps: 1 outside of a strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def summed(values: Any) -> Any:
    """The sum over all replicas, of each tensor and `tf.IndexedSlices` of a nest.

    Slices come back as the slices of all replicas, one after the other: rows may repeat. Call it
    in a replica, outside of conditions and loops.
    """
    if replica_count() == 1:
        return values
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


def summed_share(
    compute: Callable, variables: Sequence[keras.Variable], *, has_rows: tf.Tensor
) -> tuple[tf.Tensor, list]:
    """The loss and gradients of the rows of all replicas, of which this one may have none.

    Args:
        compute: the loss, a scalar, and the gradient of each variable or None, for this replica's
            rows, each as their share of the whole.
        variables: what the gradients are taken of.
        has_rows: whether there are any, bool scalar.
    """
    kinds = []

    def some():
        loss, gradients = compute()
        kinds[:] = [kind_of(g, v) for g, v in zip(gradients, variables, strict=True)]
        # Rows that repeat here are summed first: fewer are sent.
        found = [merged(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
        return tf.cast(loss, tf.float32), [with_int32_rows(gradient) for gradient in found]

    def none():
        present = [(k, v) for k, v in zip(kinds, variables, strict=True) if k != ABSENT]
        return tf.constant(0.0), [of_no_rows(kind, variable) for kind, variable in present]

    loss, present = summed(tf.cond(has_rows, some, none))
    left = iter(present)
    return loss, [None if kind == ABSENT else next(left) for kind in kinds]


@contextmanager
def already_summed(optimizer: keras.optimizers.Optimizer):
    """Within it `optimizer.apply` takes gradients for those of all replicas together.

    Keras has no public way to say so, and would add them up again.
    """
    optimizer._all_reduce_sum_gradients = lambda gradients_and_variables: gradients_and_variables
    try:
        yield
    finally:
        del optimizer._all_reduce_sum_gradients


# --- dropout ------------------------------------------------------------------------------


def separate_seeds(states: Sequence[keras.Variable], strategy: tf.distribute.Strategy) -> None:
    """Let each replica have its own random numbers.

    Keras gives all the same state, and they would drop the same values of their rows.

    Args:
        states: of the model's seed generators, before anything is traced.
        strategy: that the model was made under.
    """
    for state in states:
        with strategy.scope():
            state._value = tf.Variable(  # a Keras variable cannot be made another kind afterwards
                tf.identity(state.value),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
                name="seed_generator_state",
            )


def renew_seeds(states: Sequence[keras.Variable], step: tf.Tensor) -> None:
    """Set a replica's seeds to what they are at the beginning of a step.

    Replicas draw more or less often, by their rows; what a run continues from is the state of one.
    So a step's numbers follow from the seed, the step and the replica alone.

    Args:
        states: of the model's seed generators, separated; int (2,) each: a seed and a count.
        step: number of the step.
    """
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    for state in states:
        value = state.value
        step_now = tf.cast(step, value.dtype) + 1
        shift = tf.cast(replica, value.dtype) * _REPLICA_STRIDE
        count = (step_now * _STEP_STRIDE + shift) % _LARGEST_SEED
        state.assign(tf.stack([value[0], count]))


# --- what `fit` and `evaluate` call -------------------------------------------------------


def build_symbolically(model: keras.Model, iterator, data_batch) -> None:
    """Make the variables of metrics from the shapes of the data, of which no batch is taken.

    Keras takes the mean of a batch over the replicas: that fails in several workers, and where
    replicas have different numbers of rows.
    """
    strategy = model.distribute_strategy
    if iterator is not None:
        data_batch = iterator._distributed_dataset.element_spec

    def symbol(spec):
        if spec is None:
            return None
        spec = getattr(spec, "_value_specs", (spec,))[0]  # of the first replica
        return keras.KerasTensor(spec.shape, keras.backend.standardize_dtype(spec.dtype))

    with strategy.scope():
        model._symbolic_build(data_batch=tf.nest.map_structure(symbol, data_batch))


def train_function(model: keras.Model) -> Callable:
    """What `fit` calls a step: the logs of the next batch of an iterator.

    The parts of a step are `model.step_gradients(data)`, in each replica, and
    `model.update(gradients, norm)`, in each replica, where all numbers are finite.
    """
    strategy = model.distribute_strategy

    def step(data):
        loss, norm, gradients, figures = strategy.run(model.step_gradients, args=(data,))
        loss, norm = _first(strategy, loss), _first(strategy, norm)
        # The condition stands around the replicas: within one, a sum over all cannot be waited for.
        tf.cond(
            tf.math.is_finite(loss + norm),
            lambda: _update(strategy, model, gradients, norm),
            lambda: None,
        )
        figures = {name: _first(strategy, value) for name, value in figures.items()}
        metrics = model.get_metrics_result()  # outside of the replicas: those of all together
        return {**metrics, "step_loss": loss, "gradient_norm": norm, **figures}

    return _on_iterator(model, step)


def test_function(model: keras.Model) -> Callable:
    """What `evaluate` calls a step."""
    strategy = model.distribute_strategy

    def step(data):
        outputs = strategy.run(model.evaluate_rows, args=(data,))
        found = dict(model.get_metrics_result())
        if model.watched or model.answers:
            found["outputs"] = tf.nest.map_structure(
                lambda value: strategy.gather(value, axis=0), outputs
            )
        return found

    return _on_iterator(model, step)


def _update(strategy, model, gradients, norm) -> None:
    with already_summed(model.optimizer):
        strategy.run(model.update, args=(gradients, norm))


def _first(strategy, value):
    """The value of this process's first replica; of all, where they are summed."""
    return strategy.experimental_local_results(value)[0]


def _on_iterator(model: keras.Model, step: Callable) -> Callable:
    if model.steps_per_execution > 1 or model.jit_compile:
        received = [
            f"{name} {getattr(model, name)}"
            for name in ("steps_per_execution", "jit_compile")
            if getattr(model, name) not in (1, False)
        ]
        raise ValueError(
            "On several devices expected compile(steps_per_execution=1, jit_compile=False). "
            f"Received: {', '.join(received)}."
        )

    def of_next(iterator):
        return step(iterator.get_next())

    if not model.run_eagerly:
        of_next = tf.function(of_next, reduce_retracing=True, autograph=False)

    def function(iterator):
        if isinstance(iterator, tf.data.Iterator | tf.distribute.DistributedIterator):
            return of_next(iterator)
        raise ValueError(
            "On several devices expected fit or evaluate with a dataset. Received: a single batch, "
            "as train_on_batch takes. Make a dataset of it."
        )

    return function
