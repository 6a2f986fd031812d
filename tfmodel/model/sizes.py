"""What determines a BERT's shape, and the sizes that have names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.model.families import FAMILIES, family_of

_ACTIVATIONS = ("gelu", "gelu_new", "relu")
_NEEDED = ("vocabulary_size", "hidden_size", "layers", "heads", "intermediate_size")


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
        segments: number of segment ids; 0 for a family without them.
        dropout: share of hidden values dropped in training, in [0, 1).
        attention_dropout: share of attention weights dropped in training, in [0, 1).
        layer_norm_epsilon: added to the variance in layer normalization.
        activation: `gelu` (exact), `gelu_new` (tanh approximation) or `relu`.
        family: which kind of BERT it is, of `FAMILIES`: what its files are called, and what
            comes after the layer of `pooled`.
        embedding_size: width of the tables, where a projection leads from them to `hidden_size`;
            None: they have that width themselves.
        layer_groups: how many layers have weights of their own, which those after them share;
            None: all.

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
    family: str = "bert"
    embedding_size: int | None = None
    layer_groups: int | None = None

    def __post_init__(self):
        if self.family not in FAMILIES:
            raise ConfigError(
                f"family must be one of {', '.join(FAMILIES)}. Received: {self.family!r}."
            )
        family = FAMILIES[self.family]
        without_segments = "segments" not in family.keys
        for name in (*_NEEDED, "max_positions", "segments", "embedding_size", "layer_groups"):
            value = getattr(self, name)
            if value is None and name in ("embedding_size", "layer_groups"):
                continue
            least = 0 if name == "segments" and without_segments else 1
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError(f"{name} must be a whole number above 0. Received: {value!r}.")
        if without_segments and self.segments:
            raise ConfigError(
                f"segments must be 0: {self.family} has none. Received: {self.segments}."
            )
        if (self.layer_groups or 1) > self.layers:
            raise ConfigError(
                "layer_groups must be at most layers. "
                f"Received: layer_groups {self.layer_groups}, layers {self.layers}."
            )
        for name in ("embedding_size", "layer_groups"):
            if getattr(self, name) is not None and name not in family.keys:
                raise ConfigError(
                    f"{name} must be None: no {self.family} has it. "
                    f"Received: {getattr(self, name)}."
                )
        if self.embedding_size is None and family.always_projects:
            raise ConfigError(f"embedding_size must be a number: every {self.family} has one.")
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

    def shares_with(self, index: int) -> int:
        """The first layer that has the weights of layer `index`: itself, where none are shared."""
        if self.layer_groups is None:
            return index
        # As transformers counts, rounding included.
        share = self.layers / self.layer_groups
        return next(first for first in range(index + 1) if int(first / share) == int(index / share))

    @classmethod
    def from_huggingface(
        cls, values: Mapping[str, Any], *, name: str = "config.json"
    ) -> BertConfig:
        """Read the keys of a Hugging Face `config.json` of a BERT or one of its family.

        Raises:
            ConfigError: another architecture, relative positions, a missing key or a value out
                of range.
        """
        kind = family_of(values, name=name)
        family = FAMILIES[kind]
        if values.get("is_decoder"):
            raise ConfigError(f"{name}: expected an encoder. Received: is_decoder true.")
        if values.get("position_embedding_type", "absolute") != "absolute":
            raise ConfigError(
                f"{name}: expected absolute positions. Received: position_embedding_type "
                f"{values['position_embedding_type']!r}."
            )
        for key in family.essential:
            if values.get(key, family.fixed[key]) != family.fixed[key]:
                raise ConfigError(
                    f"{name}: expected {key} {family.fixed[key]}, as {kind} has it. "
                    f"Received: {values[key]!r}."
                )
        missing = [family.keys[n] for n in _NEEDED if family.keys[n] not in values]
        if missing:
            raise ConfigError(
                f"{name}: expected a {family.architecture.upper()} config. "
                f"Received: no {', '.join(missing)}."
            )
        known = {**family.defaults, "family": kind}
        known |= {
            ours: values[theirs]
            for ours, theirs in family.keys.items()
            if values.get(theirs) is not None
        }
        if known.get("activation") == "gelu_pytorch_tanh":
            known["activation"] = "gelu_new"
        width = known.get("hidden_size")
        if not family.always_projects and known.get("embedding_size") == width:
            known["embedding_size"] = None
        if known.get("layer_groups") == known.get("layers"):
            known["layer_groups"] = None
        if isinstance(rows := known.get("max_positions", cls.max_positions), int):
            known["max_positions"] = rows - family.first_position
        try:
            return cls(**known)
        except (ConfigError, TypeError) as error:
            raise ConfigError(f"{name}: {error}") from None

    def to_huggingface(self) -> dict[str, Any]:
        """The keys of a Hugging Face `config.json` of the family."""
        family = FAMILIES[self.family]
        values = {
            **dataclasses.asdict(self),
            "max_positions": self.max_positions + family.first_position,
            "embedding_size": self.embedding_size or self.hidden_size,
            "layer_groups": self.layer_groups or self.layers,
        }
        return {
            "model_type": self.family,
            **family.fixed,
            **{theirs: values[ours] for ours, theirs in family.keys.items()},
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
