"""What determines a BERT's shape, and the sizes that have names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfmodel.config import ConfigError

_HUGGINGFACE_NAMES = {
    "vocabulary_size": "vocab_size",
    "hidden_size": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "segments": "type_vocab_size",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "layer_norm_epsilon": "layer_norm_eps",
    "activation": "hidden_act",
}
_ACTIVATIONS = ("gelu", "gelu_new", "relu")


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """The shape of a BERT encoder.

    Args:
        vocabulary_size: number of pieces V.
        hidden_size: width D; a multiple of `heads`.
        layers: transformer layers.
        heads: attention heads N.
        intermediate_size: width of the feed-forward part.
        max_positions: longest row T.
        segments: number of segment ids.
        dropout: share of hidden values dropped in training, in [0, 1).
        attention_dropout: share of attention weights dropped in training, in [0, 1).
        layer_norm_epsilon: added to the variance in layer normalization.
        activation: `gelu` (exact), `gelu_new` (tanh approximation) or `relu`.

    Raises:
        ConfigError: a number is out of range.
    """

    vocabulary_size: int = 30522
    hidden_size: int = 768
    layers: int = 12
    heads: int = 12
    intermediate_size: int = 3072
    max_positions: int = 512
    segments: int = 2
    dropout: float = 0.1
    attention_dropout: float = 0.1
    layer_norm_epsilon: float = 1e-12
    activation: str = "gelu"

    def __post_init__(self):
        for name in (
            "vocabulary_size",
            "hidden_size",
            "layers",
            "heads",
            "intermediate_size",
            "max_positions",
            "segments",
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"{name} must be a whole number above 0. Received: {value!r}.")
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be in [0, 1). Received: {getattr(self, name)!r}.")
        if self.hidden_size % self.heads:
            raise ConfigError(
                "hidden_size must be a multiple of heads. "
                f"Received: hidden_size {self.hidden_size}, heads {self.heads}."
            )
        if self.activation not in _ACTIVATIONS:
            raise ConfigError(
                f"activation must be one of {', '.join(_ACTIVATIONS)}. "
                f"Received: {self.activation!r}."
            )

    @classmethod
    def from_huggingface(
        cls, values: Mapping[str, Any], *, name: str = "config.json"
    ) -> BertConfig:
        """Read the keys of a Hugging Face BERT `config.json`.

        Raises:
            ConfigError: another architecture, relative positions, a missing key or a value out
                of range.
        """
        kind = values.get("model_type", "bert")
        if kind != "bert":
            raise ConfigError(
                f"{name}: expected a BERT (model_type bert). Received: model_type {kind!r}."
            )
        if values.get("is_decoder"):
            raise ConfigError(f"{name}: expected an encoder. Received: is_decoder true.")
        if values.get("position_embedding_type", "absolute") != "absolute":
            raise ConfigError(
                f"{name}: expected absolute positions. Received: position_embedding_type "
                f"{values['position_embedding_type']!r}."
            )
        needed = ("vocabulary_size", "hidden_size", "layers", "heads", "intermediate_size")
        missing = [_HUGGINGFACE_NAMES[n] for n in needed if _HUGGINGFACE_NAMES[n] not in values]
        if missing:
            raise ConfigError(f"{name}: expected a BERT config. Received: no {', '.join(missing)}.")
        known = {
            ours: values[theirs]
            for ours, theirs in _HUGGINGFACE_NAMES.items()
            if values.get(theirs) is not None
        }
        if known.get("activation") == "gelu_pytorch_tanh":
            known["activation"] = "gelu_new"
        try:
            return cls(**known)
        except (ConfigError, TypeError) as error:
            raise ConfigError(f"{name}: {error}") from None

    def to_huggingface(self) -> dict[str, Any]:
        """The keys of a Hugging Face BERT `config.json`."""
        values = {theirs: getattr(self, ours) for ours, theirs in _HUGGINGFACE_NAMES.items()}
        return {
            "model_type": "bert",
            "position_embedding_type": "absolute",
            "pad_token_id": 0,
            **values,
        }


def _size(layers: int, hidden_size: int, heads: int) -> BertConfig:
    return BertConfig(
        layers=layers, hidden_size=hidden_size, heads=heads, intermediate_size=4 * hidden_size
    )


SIZES = {
    "tiny": _size(2, 128, 2),
    "mini": _size(4, 256, 4),
    "small": _size(4, 512, 8),
    "medium": _size(8, 512, 8),
    "base": _size(12, 768, 12),
}
"""Google's sizes (Turc et al. 2019, table 1), with the uncased English vocabulary."""
