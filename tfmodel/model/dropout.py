"""Dropout that draws one random byte a value: random numbers are a large part of a step."""

from __future__ import annotations

import keras
from keras import ops

# Below this rate a byte is too coarse: 1/256 of resolution would be off by more than 6%.
_SMALLEST_BYTE_RATE = 8 / 256


@keras.saving.register_keras_serializable("tfmodel")
class Dropout(keras.layers.Layer):
    """Zero a share of the values in training and scale up the rest; identity otherwise.

    Args:
        rate: share of values set to zero, in [0, 1).
        seed: integer seed of this layer's own random state, or None to draw one.

    Source: Srivastava et al. 2014. Deviation: the share is rounded to the nearest 1/256 (0.1
    becomes 26/256), and kept values are scaled by that share, so expectations are exact (in
    bfloat16, to its precision).
    """

    def __init__(self, rate: float, *, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = None
        self.set_rate(rate)
        self.built = True

    def set_rate(self, rate: float) -> None:
        """Drop another share from now on; a step that is traced already keeps the old one."""
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be in [0, 1). Received: {rate}.")
        self.rate = rate
        if rate and self.seed_generator is None:
            self.seed_generator = keras.random.SeedGenerator(self.seed)

    def call(self, values, training: bool = False):
        """Drop values.

        Args:
            values: float tensor of any shape.
            training: whether to drop at all.

        Returns:
            A tensor of the same shape and type.
        """
        if not training or self.rate == 0:
            return values
        return self.times(values, self.kept(ops.shape(values)))

    def kept(self, shape):
        """Draw which values of a tensor are kept: bool of `shape`."""
        if self._threshold is None:
            return keras.random.uniform(shape, seed=self.seed_generator) >= self.rate
        return _random_bytes(shape, self.seed_generator) >= self._threshold

    def times(self, values, kept):
        """Zero values that are not kept, and scale up the others to make up for them."""
        share = 1 - self.rate if self._threshold is None else 1 - self._threshold / 256
        factor = ops.cast(1 / share, values.dtype)
        return _times(values, ops.where(kept, factor, ops.zeros((), values.dtype)))

    @property
    def _threshold(self) -> int | None:
        """The smallest byte that is kept; None where bytes are too coarse."""
        return None if self.rate < _SMALLEST_BYTE_RATE else min(round(self.rate * 256), 255)

    def compute_output_shape(self, input_shape):
        """The input's shape."""
        return input_shape

    def get_config(self) -> dict:
        """Arguments of `__init__`."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


def _times(values, factors):
    """values * factors, with a gradient for the values alone."""
    if keras.backend.backend() != "tensorflow":
        return values * factors
    # Its own gradient would ask, in each step, whether one of the two was broadcast: of a BERT's
    # graph a fifth is dropout, and the first step waits until it is traced.
    import tensorflow as tf

    @tf.custom_gradient
    def times(values):
        return values * factors, lambda upstream: upstream * factors

    return times(values)


def _random_bytes(shape, seed_generator):
    """Uniform uint8 of `shape`."""
    if keras.backend.backend() != "tensorflow":
        return keras.random.randint(shape, 0, 256, dtype="uint8", seed=seed_generator)
    # keras.random has no way to use all bits of a word; taking four values from each of
    # TensorFlow's is about three times as fast as one word a value.
    import tensorflow as tf

    shape = tf.convert_to_tensor(shape)
    size = tf.reduce_prod(shape)
    words = tf.random.stateless_uniform(
        [(size + 3) // 4], seed_generator.next(), minval=None, maxval=None, dtype=tf.uint32
    )
    return tf.reshape(tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:size], shape)
