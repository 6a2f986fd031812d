"""Self-attention and feed-forward on (M, D); both receive their projections as arguments."""

from __future__ import annotations

import math

import keras
from keras import ops

from tfmodel.model.dropout import Dropout
from tfmodel.model.layer_norm import LayerNorm


@keras.saving.register_keras_serializable("tfmodel")
class SelfAttention(keras.layers.Layer):
    """Every token looks at the tokens of its own text.

    Args:
        heads: N.
        query_key_value: layer (M, D) -> (M, 3D): one product for all three.
        output: layer (M, D) -> (M, D).
        dropout: share of attention weights dropped in training.
        first_only: answer for the first token of each row alone, (B, D).
        recompute: keep no attention weights for the way back, but compute them again.

    Source: Vaswani et al. 2017, section 3.2. Softmax is taken in float32 whatever the
    compute type.
    """

    def __init__(
        self,
        heads: int,
        *,
        query_key_value: keras.layers.Layer,
        output: keras.layers.Layer,
        dropout: float = 0.0,
        first_only: bool = False,
        recompute: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.heads = heads
        self.query_key_value = query_key_value
        self.output_projection = output
        self.dropout = dropout
        self.first_only = first_only
        self.recompute = recompute
        self.drop = Dropout(dropout, dtype=self.dtype_policy, name="drop")

    def build(self, hidden_shape, same_text_shape=None, positions_shape=None):
        """Build both projections."""
        hidden_size = hidden_shape[-1]
        if hidden_size % self.heads:
            raise ValueError(
                "The hidden size must be a multiple of heads. "
                f"Received: hidden size {hidden_size}, heads {self.heads}."
            )
        _build(self.query_key_value, hidden_size)
        _build(self.output_projection, hidden_size)

    def call(self, hidden, same_text, positions=None, training: bool = False):
        """Attend.

        Args:
            hidden: float (M, D).
            same_text: bool (B, T, T).
            positions: int32 (B, P), of the tokens of each row to answer for; None: all.
            training: whether dropout is on.

        Returns:
            float (M, D), (B * P, D) with `positions`, or (B, D) where `first_only`.
        """
        kept = None
        if training and self.drop.rate:
            batch, length = ops.shape(same_text)[0], ops.shape(same_text)[1]
            asking = 1 if self.first_only else length
            if positions is not None:
                asking = ops.shape(positions)[1]
            # Drawn out here: computed again, the weights must be dropped as they were.
            kept = self.drop.kept((batch, self.heads, asking, length))

        def attend(projected):
            return self._attend(projected, same_text, positions, kept)

        if training and self.recompute:
            attend = keras.remat(attend)
        return self.output_projection(attend(self.query_key_value(hidden)))

    def _attend(self, projected, same_text, positions, kept):
        """Queries, keys and values (M, 3D) to what is seen (M, D), (B * P, D) or (B, D)."""
        batch, length = ops.shape(same_text)[0], ops.shape(same_text)[1]
        hidden_size = projected.shape[-1] // 3
        width = hidden_size // self.heads
        projected = ops.reshape(projected, (batch, length, 3, self.heads, width))
        query, key, value = ops.unstack(ops.transpose(projected, (2, 0, 3, 1, 4)), 3)  # (B,N,T,H)
        if self.first_only:
            query, same_text = query[:, :, :1], same_text[:, :1]
        elif positions is not None:
            # Picked by a product with zeros and ones, which is exact, and quick on the way back.
            chosen = ops.one_hot(positions, length, dtype=query.dtype)  # (B, P, T)
            query = ops.matmul(chosen[:, None], query)
            same_text = ops.take_along_axis(same_text, positions[:, :, None], axis=1)
        query = query * ops.cast(1 / math.sqrt(width), query.dtype)
        scores = ops.cast(ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))), "float32")
        apart = ops.cast(ops.logical_not(same_text), "float32") * -1e9
        weights = ops.cast(ops.softmax(scores + apart[:, None], axis=-1), value.dtype)
        if kept is not None:
            weights = self.drop.times(weights, kept)
        mixed = ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3))  # (B, T, N, H)
        return ops.reshape(mixed, (-1, hidden_size))

    def compute_output_shape(self, hidden_shape, same_text_shape=None, positions_shape=None):
        """(M, D), (B * P, D) or (B, D)."""
        return (None, hidden_shape[-1])

    def get_config(self) -> dict:
        """Arguments of `__init__`."""
        return {
            **super().get_config(),
            "heads": self.heads,
            "query_key_value": _serialized(self.query_key_value),
            "output": _serialized(self.output_projection),
            "dropout": self.dropout,
            "first_only": self.first_only,
            "recompute": self.recompute,
        }

    @classmethod
    def from_config(cls, config: dict) -> SelfAttention:
        """Restore, projections included."""
        return cls(**_with_layers(config, "query_key_value", "output"))


@keras.saving.register_keras_serializable("tfmodel")
class FeedForward(keras.layers.Layer):
    """Widen, activate, narrow.

    Args:
        widen: layer (M, D) -> (M, intermediate size).
        narrow: layer (M, intermediate size) -> (M, D).
        activation: `gelu` (exact), `gelu_new` (tanh approximation) or `relu`.
        recompute: keep only what the activation is of for the way back.
    """

    def __init__(
        self,
        *,
        widen: keras.layers.Layer,
        narrow: keras.layers.Layer,
        activation: str = "gelu",
        recompute: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"activation must be one of {', '.join(ACTIVATIONS)}. Received: {activation!r}."
            )
        self.widen = widen
        self.narrow = narrow
        self.activation = activation
        self.recompute = recompute

    def build(self, hidden_shape):
        """Build both projections."""
        _build(self.widen, hidden_shape[-1])
        _build(self.narrow, self.widen.compute_output_shape((None, hidden_shape[-1]))[-1])

    def call(self, hidden, training: bool = False):
        """Map (M, D) to (M, D)."""
        activate = ACTIVATIONS[self.activation]
        if training and self.activation == "gelu":
            activate = _gelu_for_training

        def narrow(widened):
            return self.narrow(activate(widened))

        if training and self.recompute:
            narrow = keras.remat(narrow)
        return narrow(self.widen(hidden))

    def compute_output_shape(self, hidden_shape):
        """The input's shape."""
        return hidden_shape

    def get_config(self) -> dict:
        """Arguments of `__init__`."""
        return {
            **super().get_config(),
            "widen": _serialized(self.widen),
            "narrow": _serialized(self.narrow),
            "activation": self.activation,
            "recompute": self.recompute,
        }

    @classmethod
    def from_config(cls, config: dict) -> FeedForward:
        """Restore, projections included."""
        return cls(**_with_layers(config, "widen", "narrow"))


@keras.saving.register_keras_serializable("tfmodel")
class AddAndNormalize(keras.layers.Layer):
    """Dropout on what a sublayer says, added to what went in, normalized.

    Args:
        dropout: share of values dropped in training.
        epsilon: added to the variance; statistics are float32.
        normalize: the normalization, where several such layers share one.

    Source: Devlin et al. 2018 (post-norm, as in Vaswani et al. 2017, section 3.1).
    """

    def __init__(
        self,
        *,
        dropout: float = 0.0,
        epsilon: float = 1e-12,
        normalize: LayerNorm | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.dropout = dropout
        self.epsilon = epsilon
        self.drop = Dropout(dropout, dtype=self.dtype_policy, name="drop")
        self.normalize = normalize or LayerNorm(
            epsilon=epsilon, dtype=self.dtype_policy, name="normalize"
        )

    def build(self, update_shape, hidden_shape=None):
        """Build the normalization."""
        _build(self.normalize, update_shape[-1])

    def call(self, update, hidden, training: bool = False):
        """Map two (M, D) to one."""
        hidden = hidden + self.drop(update, training=training)
        return self.normalize(hidden, training=training)

    def compute_output_shape(self, update_shape, hidden_shape=None):
        """The input's shape."""
        return update_shape

    def get_config(self) -> dict:
        """Arguments of `__init__`."""
        config = {**super().get_config(), "dropout": self.dropout, "epsilon": self.epsilon}
        if getattr(self.normalize, _SHARED, False):
            config["normalize"] = _serialized(self.normalize)
        return config

    @classmethod
    def from_config(cls, config: dict) -> AddAndNormalize:
        """Restore, a shared normalization included."""
        return cls(**_with_layers(config, *({"normalize"} & config.keys())))


def _gelu_new(values):
    return ops.gelu(values, approximate=True)


def _gelu(values):
    return ops.gelu(values, approximate=False)


ACTIVATIONS = {"gelu": _gelu, "gelu_new": _gelu_new, "relu": ops.relu}


@ops.custom_gradient
def _gelu_for_training(values):
    """Exact GELU that keeps its cumulative density for the way back.

    The derivative written by hand takes half the passes over (M, 4D) that automatic
    differentiation takes, and does the sums in float32.
    """
    wide = ops.cast(values, "float32")
    share = 0.5 + 0.5 * ops.erf(wide * (1 / math.sqrt(2)))

    def gradient(*args, upstream=None):
        if upstream is None:
            (upstream,) = args
        slope = share + wide * ops.exp(-0.5 * wide * wide) * (1 / math.sqrt(2 * math.pi))
        return ops.cast(ops.cast(upstream, "float32") * slope, values.dtype)

    return ops.cast(wide * share, values.dtype), gradient


def _build(layer: keras.layers.Layer, width: int) -> None:
    # A layer read from a .keras file is built before the layer that holds it.
    if not layer.built:
        layer.build((None, width))


_SHARED, _SHARED_ID = "is_shared", "shared_object_id"


def share(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Mark a layer that several layers hold: read from a .keras file, they hold one again."""
    setattr(layer, _SHARED, True)
    return layer


def _serialized(layer: keras.layers.Layer) -> dict:
    config = keras.saving.serialize_keras_object(layer)
    # Keras notes such a number by itself, but not in what it copies, as the holder's config.
    return {**config, _SHARED_ID: id(layer)} if getattr(layer, _SHARED, False) else config


def _with_layers(config: dict, *names: str) -> dict:
    restored = {}
    for name in names:
        layer = keras.saving.deserialize_keras_object(config[name])
        restored[name] = share(layer) if _SHARED_ID in config[name] else layer
    return {**config, **restored}
