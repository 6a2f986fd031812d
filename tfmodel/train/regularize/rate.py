"""A learning rate that a callback may lower or hold while its schedule goes on."""

from __future__ import annotations

import keras
from keras import ops

Schedule = keras.optimizers.schedules.LearningRateSchedule


@keras.saving.register_keras_serializable("tfmodel")
class AdjustedSchedule(Schedule):
    """A schedule times a factor, or a rate that is held in its place.

    Args:
        schedule: a Keras schedule, or its config.

    Attributes:
        factor: variable, 1 at first.
        held: variable: the rate in place of the schedule's where it is above 0.
    """

    def __init__(self, schedule):
        if isinstance(schedule, dict):
            schedule = keras.saving.deserialize_keras_object(schedule)
        self.schedule = schedule
        self.factor = keras.Variable(1.0, trainable=False, name="rate_factor", dtype="float32")
        self.held = keras.Variable(0.0, trainable=False, name="held_rate", dtype="float32")

    def __call__(self, step):
        """The rate at a step counted from 0."""
        scheduled = ops.cast(self.schedule(step), "float32")
        return self.factor * ops.where(self.held > 0, self.held, scheduled)

    def get_config(self) -> dict:
        """The schedule."""
        return {"schedule": keras.saving.serialize_keras_object(self.schedule)}


class Rate:
    """The learning rate of a compiled model, to be lowered or held.

    Args:
        model: compiled with any Keras optimizer; where its rate is a schedule, an
            `AdjustedSchedule` takes the schedule's place.
    """

    def __init__(self, model: keras.Model):
        self._optimizer = model.optimizer
        rate = self._optimizer._learning_rate  # the property gives the present number
        if isinstance(rate, Schedule) and not isinstance(rate, AdjustedSchedule):
            with model.distribute_strategy.scope():
                rate = AdjustedSchedule(rate)
            self._optimizer.learning_rate = rate
            model.make_train_function(force=True)  # a traced step has the other one
        self._schedule = rate if isinstance(rate, AdjustedSchedule) else None

    def scale(self, factor: float, *, times: float) -> None:
        """Set the factor of the rate.

        Args:
            factor: of a schedule, against its own rate.
            times: of a constant rate, against its present value, which checkpoints hold.
        """
        if self._schedule is not None:
            self._schedule.factor.assign(factor)
        elif times != 1:
            self._optimizer.learning_rate = float(self._optimizer.learning_rate) * times

    def hold(self, rate: float) -> None:
        """Keep this rate from now on, whatever the schedule says."""
        if self._schedule is not None:
            self._schedule.held.assign(rate)
        else:
            self._optimizer.learning_rate = rate
