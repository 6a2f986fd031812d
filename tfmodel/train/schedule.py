"""Learning rates over the steps of a run."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable("tfmodel")
class LinearSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Rise linearly from 0 to the peak, then fall linearly to 0.

    Args:
        peak: the highest learning rate, above 0.
        total_steps: steps of the whole run, 1 or more.
        warmup_steps: steps of the rise, in [0, total_steps].

    Source: Devlin et al. 2018, appendix A.2.
    """

    def __init__(self, peak: float, *, total_steps: int, warmup_steps: int):
        if peak <= 0:
            raise ValueError(f"peak must be above 0. Received: {peak}.")
        if total_steps < 1 or not 0 <= warmup_steps <= total_steps:
            raise ValueError(
                "warmup_steps must be in [0, total_steps]. "
                f"Received: warmup_steps {warmup_steps}, total_steps {total_steps}."
            )
        self.peak = peak
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps

    def __call__(self, step):
        """The rate at a step counted from 0."""
        step = ops.cast(step, "float32")
        rising = (step + 1) / max(self.warmup_steps, 1)
        falling = (self.total_steps - step) / max(self.total_steps - self.warmup_steps, 1)
        return self.peak * ops.maximum(ops.minimum(rising, falling), 0.0)

    def get_config(self) -> dict:
        """Arguments of `__init__`."""
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
        }


def linear_schedule(peak: float, *, total_steps: int, warmup_share: float = 0.1) -> LinearSchedule:
    """A schedule that warms up over a share of the run and decays to 0.

    Args:
        peak: the highest learning rate.
        total_steps: steps of the whole run.
        warmup_share: share of the steps spent rising, in [0, 1].

    Returns:
        A Keras learning-rate schedule.
    """
    if not 0 <= warmup_share <= 1:
        raise ValueError(f"warmup_share must be in [0, 1]. Received: {warmup_share}.")
    return LinearSchedule(
        peak, total_steps=total_steps, warmup_steps=round(warmup_share * total_steps)
    )
