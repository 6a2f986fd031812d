"""Mixout: a projection whose neurons fall back, now and then, to their pretrained weights."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable("tfmodel")
class MixoutDense(keras.layers.Layer):
    """A dense layer that is pulled toward the weights it was loaded with.

    In training each input neuron's weights are, with probability `rate`, the pretrained ones;
    the result is scaled so that its expectation is the present weights. In inference it is the
    dense layer, and `save` writes it as one.

    Args:
        units: outputs.
        rate: probability of a neuron to fall back, in [0, 1).
        kernel_initializer: of the kernel before weights are loaded.
        seed: integer seed of this layer's own random state, or None to draw one.

    Source: Lee et al. 2020, equation (5), one draw a neuron: kernel_now = pretrained +
    mask / (1 - rate) * (kernel - pretrained). Deviation: the bias is not mixed (as in the authors'
    code), nor are embeddings, norms, pooler and head; the mixture is made in float32.
    """

    def __init__(
        self,
        units: int,
        *,
        rate: float,
        kernel_initializer="glorot_uniform",
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be in [0, 1). Received: {rate}.")
        self.units = units
        self.rate = rate
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        """Create kernel, bias and what the kernel falls back to."""
        shape = (input_shape[-1], self.units)
        # In bfloat16 the small way a weight has gone from the pretrained one would be lost.
        self.kernel = self.add_weight(
            shape=shape, initializer=self.kernel_initializer, name="kernel", autocast=False
        )
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")
        self.pretrained = self.add_weight(
            shape=shape, initializer="zeros", name="pretrained", trainable=False, autocast=False
        )
        self.pretrained.assign(self.kernel)

    def remember_pretrained(self) -> None:
        """Fall back to the kernel's present value from now on."""
        self.pretrained.assign(self.kernel)

    def call(self, values, training: bool = False):
        """Project (M, inputs) to (M, units)."""
        kernel = ops.convert_to_tensor(self.kernel)
        if training and self.rate:
            kept = keras.random.uniform((kernel.shape[0], 1), seed=self.seed_generator)
            scale = ops.where(kept >= self.rate, 1 / (1 - self.rate), 0.0)
            pretrained = ops.convert_to_tensor(self.pretrained)
            kernel = pretrained + ops.cast(scale, kernel.dtype) * (kernel - pretrained)
        values = ops.matmul(values, ops.cast(kernel, self.compute_dtype))
        return ops.add(values, self.bias)

    def compute_output_shape(self, input_shape):
        """(M, units)."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict:
        """Arguments of `__init__`."""
        return {
            **super().get_config(),
            "units": self.units,
            "rate": self.rate,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "seed": self.seed,
        }


def mixout(rate: float):
    """Mixout for `build_encoder` and `load_encoder`, in place of hidden dropout.

    Args:
        rate: probability of a neuron to fall back to its pretrained weights, in [0, 1). The paper
            takes 0.7 to 0.9, without dropout in the encoder.

    Returns:
        What `projection` takes.

    Example:
        >>> encoder = tm.load_encoder("model/", projection=tm.regularize.mixout(0.7))
    """

    def projection(units: int, **kwargs) -> MixoutDense:
        return MixoutDense(units, rate=rate, **kwargs)

    return projection
