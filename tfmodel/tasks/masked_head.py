"""The head that says which token is hidden: hidden states to logits over the vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfmodel.config import ConfigError
from tfmodel.model.attention import ACTIVATIONS
from tfmodel.model.encoder import encoder_config
from tfmodel.model.layer_norm import LayerNorm
from tfmodel.model.sizes import BertConfig
from tfmodel.tasks.tied_cross_entropy import draw_tied, tied_cross_entropy, times_transposed

TRANSFORM, _LOGITS = "masked_transform", "masked_logits"


class HeadNames(NamedTuple):
    """What the parts of the head are called in a family's files.

    `activation` is that of the head, where it is another than the encoder's.
    """

    dense: str
    normalize: str
    bias: str
    decoder: str
    activation: str | None = None


_ROBERTA = HeadNames(
    "lm_head.dense", "lm_head.layer_norm", "lm_head.bias", "lm_head.decoder", activation="gelu"
)
NAMES = {
    "bert": HeadNames(
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
        "cls.predictions.bias",
        "cls.predictions.decoder",
    ),
    "distilbert": HeadNames(
        "vocab_transform", "vocab_layer_norm", "vocab_projector.bias", "vocab_projector"
    ),
    "electra": HeadNames(
        "generator_predictions.dense",
        "generator_predictions.LayerNorm",
        "generator_lm_head.bias",
        "generator_lm_head",
        activation="gelu",
    ),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "albert": HeadNames(
        "predictions.dense",
        "predictions.LayerNorm",
        "predictions.bias",
        "predictions.decoder",
    ),
}
"""By `model_type`: of every family the head is read and written."""


@keras.saving.register_keras_serializable("tfmodel")
class MaskedTransform(keras.layers.Layer):
    """A dense layer, the encoder's activation and layer normalization: (M, D) to (M, E).

    Args:
        width: E, the width of the token table.
        activation: as for the encoder.
        epsilon: of the normalization.

    Source: Devlin et al. 2018, their code's `get_masked_lm_output`.
    """

    def __init__(self, width: int, *, activation: str = "gelu", epsilon: float = 1e-12, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.activation = activation
        self.epsilon = epsilon
        self.dense = keras.layers.Dense(
            width,
            name="dense",
            dtype=self.dtype_policy,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )
        self.normalize = LayerNorm(epsilon=epsilon, dtype=self.dtype_policy, name="normalize")

    def build(self, hidden_shape):
        """Build both."""
        self.dense.build((None, hidden_shape[-1]))
        self.normalize.build((None, self.width))

    def call(self, hidden, training: bool = False):
        """Map (M, D) to (M, E)."""
        activated = ACTIVATIONS[self.activation](self.dense(hidden))
        return self.normalize(activated, training=training)

    def compute_output_shape(self, hidden_shape):
        """(M, E)."""
        return (*hidden_shape[:-1], self.width)

    def get_config(self) -> dict:
        """Arguments of `__init__`."""
        own = {"width": self.width, "activation": self.activation, "epsilon": self.epsilon}
        return {**super().get_config(), **own}


class TiedLogits(keras.layers.Layer):
    """Logits over the vocabulary by the encoder's own token table, and a bias.

    Args:
        embeddings: the encoder's layer of embeddings.

    Source: Press and Wolf 2017, section 3.
    """

    def __init__(self, embeddings: keras.layers.Layer, **kwargs):
        super().__init__(**kwargs)
        self.embeddings = embeddings

    def build(self, vectors_shape, positions_shape=None):
        """Create the bias."""
        self.bias = self.add_weight(
            shape=(self.embeddings.vocabulary_size,),
            initializer="zeros",
            name="bias",
            autocast=False,
        )

    def call(self, vectors, positions):
        """All logits.

        Args:
            vectors: float (B * P, D).
            positions: int32 (B, P).

        Returns:
            float32 (B, P, V).
        """
        logits = ops.cast(times_transposed(vectors, self._table(vectors)), "float32") + self.bias
        return ops.reshape(logits, (*ops.shape(positions), self.embeddings.vocabulary_size))

    def loss(self, vectors, target_ids, weights):
        """The weighted sums of loss and right answers, without keeping the logits.

        Args:
            vectors: float (B * P, D).
            target_ids: int32 (B, P).
            weights: float32 (B, P).

        Returns:
            float32 (2,).
        """
        # Reshaped, a variable is a tensor: the gradient is then asked for it, not for a variable.
        return tied_cross_entropy(
            vectors,
            self._table(vectors),
            ops.reshape(self.bias, (-1,)),
            ops.reshape(target_ids, (-1,)),
            ops.reshape(ops.cast(weights, "float32"), (-1,)),
        )

    def draw(self, vectors, uniforms):
        """Draw an id for each vector from its softmax.

        Args:
            vectors: float (B * P, D).
            uniforms: float32 (B * P,), in [0, 1).

        Returns:
            int32 (B * P,).
        """
        return draw_tied(vectors, self._table(vectors), ops.reshape(self.bias, (-1,)), uniforms)

    def _table(self, vectors):
        return ops.cast(
            ops.reshape(self.embeddings.token_table, (-1, vectors.shape[-1])), vectors.dtype
        )

    def compute_output_shape(self, vectors_shape, positions_shape):
        """(B, P, V)."""
        return (*positions_shape, self.embeddings.vocabulary_size)

    def compute_output_spec(self, vectors, positions):
        """float32, whatever the layer's compute type."""
        shape = self.compute_output_shape(vectors.shape, positions.shape)
        return keras.KerasTensor(shape, dtype="float32")


def masked_inputs(encoder: keras.Model) -> dict[str, keras.KerasTensor]:
    """The encoder's batch and `masked_positions`, int32 (B, P)."""
    names = (*encoder.input, "masked_positions")
    return {name: keras.Input((None,), dtype="int32", name=name) for name in names}


def masked_vectors(encoder: keras.Model, hidden):
    """What logits are made of: symbolic (B * P, E).

    Args:
        encoder: whose token table, (V, E), makes the logits.
        hidden: hidden states at the masked positions, symbolic (B * P, D).
    """
    config = encoder_config(encoder)
    dtype = encoder.get_layer("embeddings").dtype_policy
    return MaskedTransform(
        config.embedding_size or config.hidden_size,
        activation=NAMES[config.family].activation or config.activation,
        epsilon=config.layer_norm_epsilon,
        name=TRANSFORM,
        dtype=dtype,
    )(hidden)


def masked_logits(encoder: keras.Model, vectors, positions):
    """Logits of vectors: symbolic float32 (B, P, V)."""
    embeddings = encoder.get_layer("embeddings")
    return TiedLogits(embeddings, name=_LOGITS, dtype=embeddings.dtype_policy)(vectors, positions)


def masked_loss(model: keras.Model, vectors, target_ids, weights):
    """The weighted sums of loss and right answers by a model's head: float32 (2,)."""
    return model.get_layer(_LOGITS).loss(vectors, target_ids, weights)


def head_tensors(model: keras.Model) -> dict[str, np.ndarray]:
    """The head's weights by Hugging Face name."""
    names = NAMES[encoder_config(model.encoder).family]
    bias = ops.convert_to_numpy(model.get_layer(_LOGITS).bias)
    return {**transform_tensors(model.get_layer(TRANSFORM), names), names.bias: bias}


def transform_tensors(
    transform: MaskedTransform, names: HeadNames = NAMES["bert"]
) -> dict[str, np.ndarray]:
    """The weights before the logits by Hugging Face name."""
    kernel = ops.convert_to_numpy(transform.dense.kernel)
    return {
        f"{names.dense}.weight": np.ascontiguousarray(kernel.T),
        f"{names.dense}.bias": ops.convert_to_numpy(transform.dense.bias),
        f"{names.normalize}.weight": ops.convert_to_numpy(transform.normalize.gamma),
        f"{names.normalize}.bias": ops.convert_to_numpy(transform.normalize.beta),
    }


def transform_variables(
    transform: MaskedTransform, names: HeadNames = NAMES["bert"]
) -> dict[str, tuple[keras.Variable, Any]]:
    """Hugging Face name to the variable that it is, and the way from theirs to ours."""
    return {
        f"{names.dense}.weight": (transform.dense.kernel, np.transpose),
        f"{names.dense}.bias": (transform.dense.bias, np.asarray),
        f"{names.normalize}.weight": (transform.normalize.gamma, np.asarray),
        f"{names.normalize}.bias": (transform.normalize.beta, np.asarray),
    }


def find_head(
    tensors: Mapping[str, np.ndarray], config: BertConfig, *, name: str
) -> dict[str, np.ndarray] | None:
    """A checkpoint's weights of the head by Hugging Face name; None where it has none.

    Args:
        tensors: as `read_tensors` gives them.
        config: sizes of the encoder.
        name: what messages call the checkpoint.

    Raises:
        ConfigError: some are missing, of another shape, or make logits by another table than the
            encoder's.
    """
    names = NAMES[config.family]
    width = config.embedding_size or config.hidden_size
    wanted = {
        f"{names.dense}.weight": (width, config.hidden_size),
        f"{names.dense}.bias": (width,),
        f"{names.normalize}.weight": (width,),
        f"{names.normalize}.bias": (width,),
        names.bias: (config.vocabulary_size,),
    }
    # Older folders name the bias twice, or by the decoder alone.
    known = {**tensors}
    known.setdefault(names.bias, tensors.get(f"{names.decoder}.bias"))
    found = {key: known[key] for key in wanted if known.get(key) is not None}
    if not found:
        return None
    wrong = [
        f"  {key}: missing" if key not in found
        else f"  {key}: {found[key].shape} where {shape} is expected"
        for key, shape in wanted.items()
        if key not in found or found[key].shape != shape
    ]  # fmt: skip
    decoder = tensors.get(f"{names.decoder}.weight")
    table = tensors.get("embeddings.word_embeddings.weight")
    if decoder is not None and table is not None and not np.array_equal(decoder, table):
        wrong.append(f"  {names.decoder}.weight: another than the token table")
    if wrong:
        raise ConfigError(
            f"{name}: expected a masked language model's head, tied to the token table. "
            "Received:\n" + "\n".join(wrong)
        )
    return found


def assign_head(model: keras.Model, tensors: Mapping[str, np.ndarray], *, name: str) -> bool:
    """Give the head a checkpoint's weights.

    Args:
        model: with the head.
        tensors: as `read_tensors` gives them.
        name: what messages call the checkpoint.

    Returns:
        Whether it has them; where it has none the head stays as it is.

    Raises:
        ConfigError: as `find_head`.
    """
    config = encoder_config(model.encoder)
    found = find_head(tensors, config, name=name)
    if found is None:
        return False
    transform, logits = model.get_layer(TRANSFORM), model.get_layer(_LOGITS)
    names = NAMES[config.family]
    variables = {**transform_variables(transform, names), names.bias: (logits.bias, np.asarray)}
    for key, (variable, to_ours) in variables.items():
        variable.assign(to_ours(found[key]))
    return True
