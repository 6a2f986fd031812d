"""The kinds of BERT that are read and written, and what their owners' files call their parts.

One entry of `FAMILIES` is all that a family has of its own: the graph is one for all of them, and
what varies in it stands in `BertConfig`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from tfmodel.config import ConfigError

_KEYS = {
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
_EMBEDDINGS = {
    "token_table": "embeddings.word_embeddings",
    "position_table": "embeddings.position_embeddings",
    "segment_table": "embeddings.token_type_embeddings",
    "normalize": "embeddings.LayerNorm",
}
_LAYER = {
    "query": "encoder.layer.{}.attention.self.query",
    "key": "encoder.layer.{}.attention.self.key",
    "value": "encoder.layer.{}.attention.self.value",
    "output": "encoder.layer.{}.attention.output.dense",
    "attention_norm": "encoder.layer.{}.attention.output.LayerNorm",
    "widen": "encoder.layer.{}.intermediate.dense",
    "narrow": "encoder.layer.{}.output.dense",
    "feed_forward_norm": "encoder.layer.{}.output.LayerNorm",
}
_DISTILBERT_LAYER = {
    "query": "transformer.layer.{}.attention.q_lin",
    "key": "transformer.layer.{}.attention.k_lin",
    "value": "transformer.layer.{}.attention.v_lin",
    "output": "transformer.layer.{}.attention.out_lin",
    "attention_norm": "transformer.layer.{}.sa_layer_norm",
    "widen": "transformer.layer.{}.ffn.lin1",
    "narrow": "transformer.layer.{}.ffn.lin2",
    "feed_forward_norm": "transformer.layer.{}.output_layer_norm",
}
_SHARED = "encoder.albert_layer_groups.{}.albert_layers.0"
_ALBERT_LAYER = {
    "query": f"{_SHARED}.attention.query",
    "key": f"{_SHARED}.attention.key",
    "value": f"{_SHARED}.attention.value",
    "output": f"{_SHARED}.attention.dense",
    "attention_norm": f"{_SHARED}.attention.LayerNorm",
    "widen": f"{_SHARED}.ffn",
    "narrow": f"{_SHARED}.ffn_output",
    "feed_forward_norm": f"{_SHARED}.full_layer_layer_norm",
}


def _token_dropout(classifier="classifier_dropout", answerer="classifier_dropout") -> Mapping:
    return {"classifier": classifier, "qa_outputs": answerer}


def _usually(value: Mapping) -> Any:
    return dataclasses.field(default_factory=lambda: value)


@dataclasses.dataclass(frozen=True)
class Family:
    """What a kind of BERT has of its own.

    Attributes:
        architecture: how the names of its classes in transformers begin: `Bert` of `BertModel`.
            `named` gives the names.
        prefix: before the names of the encoder's tensors where a head stands on it.
        keys: names in `config.json` of the fields of `BertConfig`; those left out have no name.
        defaults: fields of `BertConfig` where `config.json` says nothing, or cannot.
        fixed: keys of `config.json` that are always written so.
        essential: those of them of which another value is refused: the graph depends on it.
        embeddings: names of the tables and of their normalization.
        projection: name of what leads from the tables' width to the encoder's.
        always_projects: whether that is there even where both widths are equal.
        layer: names of a layer's parts, its number left open.
        first_position: rows of the position table before the one of a text's first token.
        pooler: names of the layer of `pooled`: of the base model, or where that has none, of the
            family's own classification head, which then also is what a head here stands on.
        pooler_activation: what comes after it.
        classifier: name of the last layer of the family's classification head.
        head_dropout: key in `config.json` of the share of `pooled` that is dropped before it.
        token_dropout: keys of the share of hidden states that is dropped, by the name of the head
            that stands on them.
        heads: how the names of tensors begin that an encoder has no place for.
    """

    architecture: str
    prefix: str
    keys: Mapping[str, str] = _usually(_KEYS)
    defaults: Mapping[str, Any] = _usually({})
    fixed: Mapping[str, Any] = _usually({"pad_token_id": 0})
    essential: tuple[str, ...] = ()
    embeddings: Mapping[str, str] = _usually(_EMBEDDINGS)
    projection: str | None = None
    always_projects: bool = False
    layer: Mapping[str, str] = _usually(_LAYER)
    first_position: int = 0
    pooler: tuple[str, ...] = ("pooler.dense",)
    pooler_activation: str = "tanh"
    classifier: str = "classifier"
    head_dropout: str = "classifier_dropout"
    token_dropout: Mapping[str, str] = _usually(_token_dropout())
    heads: tuple[str, ...] = ("classifier.", "qa_outputs.")

    def named(self, architecture: str) -> str:
        """What a class of transformers is called for this family: `BertModel`, `DistilBertModel`.

        Args:
            architecture: what it is called for BERT.
        """
        return self.architecture + architecture.removeprefix("Bert")

    def name_under_head(self, name: str) -> str:
        """What a tensor of an encoder is called where a head stands on it."""
        base = name.startswith("pooler") or not name.startswith(self.pooler)
        return self.prefix + name if base else name


_ROBERTA = Family(
    "Roberta",
    "roberta.",
    fixed={"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2},
    essential=("pad_token_id",),
    first_position=2,
    pooler=("pooler.dense", "classifier.dense"),
    classifier="classifier.out_proj",
    heads=("lm_head.", "classifier.", "qa_outputs."),
)

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "bert": Family(
            "Bert",
            "bert.",
            fixed={"position_embedding_type": "absolute", "pad_token_id": 0},
            heads=("cls.", "classifier.", "qa_outputs."),
        ),
        "distilbert": Family(
            "DistilBert",
            "distilbert.",
            keys={
                "vocabulary_size": "vocab_size",
                "hidden_size": "dim",
                "layers": "n_layers",
                "heads": "n_heads",
                "intermediate_size": "hidden_dim",
                "max_positions": "max_position_embeddings",
                "dropout": "dropout",
                "attention_dropout": "attention_dropout",
                "activation": "activation",
            },
            defaults={"segments": 0},
            embeddings={
                part: name for part, name in _EMBEDDINGS.items() if part != "segment_table"
            },
            layer=_DISTILBERT_LAYER,
            pooler=("pre_classifier",),
            pooler_activation="relu",
            head_dropout="seq_classif_dropout",
            token_dropout=_token_dropout(answerer="qa_dropout"),
            heads=(
                *("vocab_transform.", "vocab_layer_norm.", "vocab_projector."),
                *("classifier.", "qa_outputs."),
            ),
        ),
        "electra": Family(
            "Electra",
            "electra.",
            keys={**_KEYS, "embedding_size": "embedding_size"},
            defaults={"embedding_size": 128},
            projection="embeddings_project",
            pooler=("classifier.dense",),
            pooler_activation="gelu",
            classifier="classifier.out_proj",
            heads=(
                *("discriminator_predictions.", "generator_predictions.", "generator_lm_head."),
                *("classifier.", "qa_outputs.", "sequence_summary."),
            ),
        ),
        "roberta": _ROBERTA,
        "xlm-roberta": dataclasses.replace(_ROBERTA, architecture="XLMRoberta"),
        "albert": Family(
            "Albert",
            "albert.",
            keys={
                **_KEYS,
                "embedding_size": "embedding_size",
                "layer_groups": "num_hidden_groups",
            },
            defaults={
                "embedding_size": 128,
                "layer_groups": 1,
                "dropout": 0.0,
                "attention_dropout": 0.0,
                "activation": "gelu_new",
            },
            fixed={
                **{"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3},
                "inner_group_num": 1,
            },
            essential=("inner_group_num",),
            projection="encoder.embedding_hidden_mapping_in",
            always_projects=True,
            layer=_ALBERT_LAYER,
            pooler=("pooler",),
            head_dropout="classifier_dropout_prob",
            token_dropout=_token_dropout("classifier_dropout_prob", "classifier_dropout_prob"),
            heads=("predictions.", "sop_classifier.", "classifier.", "qa_outputs."),
        ),
    }
)
"""By `model_type` of `config.json`."""

# What people have, and why it is none of these.
_OTHERS = {
    "bart": "an encoder and a decoder",
    "big_bird": "attention to chosen blocks of tokens",
    "convbert": "convolutions beside attention",
    "deberta": "attention by relative positions",
    "deberta-v2": "attention by relative positions",
    "funnel": "layers that shorten the row",
    "gpt2": "a decoder, whose tokens see only those before them",
    "gpt_neox": "a decoder, whose tokens see only those before them",
    "llama": "a decoder, whose tokens see only those before them",
    "longformer": "attention in sliding windows",
    "mobilebert": "bottlenecks in every layer",
    "modernbert": "rotary positions and attention in windows",
    "mpnet": "relative positions added to attention",
    "nomic_bert": "rotary positions",
    "t5": "an encoder and a decoder with relative positions",
    "xlnet": "attention by relative positions, to permuted rows",
}


def family_of(values: Mapping[str, Any], *, name: str) -> str:
    """Which family a `config.json` is of.

    Args:
        values: what stands in it.
        name: what messages call it.

    Returns:
        A key of `FAMILIES`; `bert` where the file does not say.

    Raises:
        ConfigError: it is of none, with the reason where it is known.
    """
    kind = values.get("model_type", "bert")
    if isinstance(kind, str) and kind in FAMILIES:
        return kind
    reason = _OTHERS.get(str(kind))
    raise ConfigError(
        f"{name}: expected a BERT or one of its family (model_type {', '.join(sorted(FAMILIES))}). "
        f"Received: model_type {kind!r}{f' ({reason})' if reason else ''}. "
        "tfmodel cannot compute what it does: choose an encoder of one of these."
    )
