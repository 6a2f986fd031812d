"""Random folders of BERT's family, each with the BERT whose numbers it must give.

The names are written down here anew, and the numbers are those of `numpy_bert`: neither uses any
code of tfmodel.
"""

from __future__ import annotations

import re

import numpy as np
import numpy_bert

_COMMON = {
    **numpy_bert.CONFIG,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
_ROBERTA = {
    **_COMMON,
    "model_type": "roberta",
    "max_position_embeddings": 14,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
}
CONFIGS = {
    "distilbert": {
        "model_type": "distilbert",
        "vocab_size": 40,
        "dim": 16,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 24,
        "max_position_embeddings": 12,
        "activation": "gelu",
        "dropout": 0.0,
        "attention_dropout": 0.0,
    },
    "electra": {**_COMMON, "model_type": "electra", "embedding_size": 6},
    "electra of one width": {**_COMMON, "model_type": "electra", "embedding_size": 16},
    "roberta": _ROBERTA,
    "xlm-roberta": {**_ROBERTA, "model_type": "xlm-roberta"},
    "albert": {
        **{**_COMMON, "model_type": "albert", "embedding_size": 6, "hidden_act": "gelu"},
        **{"num_hidden_layers": 4, "num_hidden_groups": 2},
    },
}
ACTIVATIONS = {
    "distilbert": lambda x: np.maximum(x, 0),
    "electra": numpy_bert.gelu,
    "electra of one width": numpy_bert.gelu,
}


def make(name: str) -> tuple[dict, dict, dict]:
    """A family's tensors by its own names, those of the same BERT, and the BERT's config."""
    config = CONFIGS[name]
    bert = {**_COMMON, "layer_norm_eps": config.get("layer_norm_eps", 1e-12)}
    bert["num_hidden_layers"] = config.get("num_hidden_layers", 2)
    bert["type_vocab_size"] = config.get("type_vocab_size", 2)
    tensors = numpy_bert.make_tensors(bert)
    theirs, same = {
        "distilbert": _distilbert,
        "electra": _electra,
        "electra of one width": _electra,
        "roberta": _roberta,
        "xlm-roberta": _roberta,
        "albert": _albert,
    }[name](tensors, config)
    return theirs, same, bert


def run(name: str, same: dict, bert: dict, batch: dict) -> dict:
    """What the encoder must say, `pooled` with the activation of the family's head."""
    activation = ACTIVATIONS.get(name, np.tanh)
    return numpy_bert.run_bert(same, batch, bert, pool=activation)


def _distilbert(tensors, config):
    same = {n: np.zeros_like(v) if "token_type" in n else v for n, v in tensors.items()}
    layer = r"encoder\.layer\.(\d)"
    names = {
        rf"{layer}\.attention\.self\.(.)\w+": r"transformer.layer.\1.attention.\2_lin",
        rf"{layer}\.attention\.output\.dense": r"transformer.layer.\1.attention.out_lin",
        rf"{layer}\.attention\.output\.LayerNorm": r"transformer.layer.\1.sa_layer_norm",
        rf"{layer}\.intermediate\.dense": r"transformer.layer.\1.ffn.lin1",
        rf"{layer}\.output\.dense": r"transformer.layer.\1.ffn.lin2",
        rf"{layer}\.output\.LayerNorm": r"transformer.layer.\1.output_layer_norm",
        r"pooler\.dense": "pre_classifier",
    }
    theirs = {n: v for n, v in _renamed(same, names).items() if "token_type" not in n}
    return theirs, same


def _roberta(tensors, config):
    theirs = dict(tensors)
    name = "embeddings.position_embeddings.weight"
    theirs[name] = np.pad(tensors[name], [(2, 0), (0, 0)], constant_values=np.float32(7))
    return theirs, tensors


def _electra(tensors, config):
    theirs = _renamed(tensors, {r"pooler\.dense": "classifier.dense"})
    if config["embedding_size"] == config["hidden_size"]:
        return theirs, tensors
    narrow = _narrow(tensors, config["embedding_size"])
    return theirs | narrow, tensors | narrow


def _albert(tensors, config):
    same = {}
    for name, value in (tensors | _narrow(tensors, config["embedding_size"])).items():
        # Four layers of two groups: 0 and 1 are alike, 2 and 3 are.
        number = re.match(r"encoder\.layer\.(\d)", name)
        if number:
            alike = 2 * (int(number[1]) // 2)
            value = tensors[name.replace(number[0], f"encoder.layer.{alike}")]
        same[name] = value
    first = {n: v for n, v in same.items() if not re.match(r"encoder\.layer\.[13]", n)}
    group = "encoder.albert_layer_groups.{}.albert_layers.0"
    names = {}
    for layer, number in ((0, 0), (2, 1)):
        before, after = rf"encoder\.layer\.{layer}", group.format(number)
        names |= {
            rf"{before}\.attention\.self": f"{after}.attention",
            rf"{before}\.attention\.output": f"{after}.attention",
            rf"{before}\.intermediate\.dense": f"{after}.ffn",
            rf"{before}\.output\.dense": f"{after}.ffn_output",
            rf"{before}\.output\.LayerNorm": f"{after}.full_layer_layer_norm",
        }
    names |= {
        r"pooler\.dense": "pooler",
        "embeddings_project": "encoder.embedding_hidden_mapping_in",
    }
    return _renamed(first, names), same


def _narrow(tensors: dict, width: int) -> dict:
    """Tables of this width, and what widens them: a projection, as `numpy_bert` calls it."""
    random = np.random.default_rng(9)
    narrow = {n: v[..., :width] for n, v in tensors.items() if n.startswith("embeddings.")}
    hidden = tensors["pooler.dense.bias"].size
    for name, shape in (("weight", (hidden, width)), ("bias", (hidden,))):
        value = random.normal(size=shape, scale=0.3).astype(np.float32)
        narrow[f"embeddings_project.{name}"] = value
    return {name: np.ascontiguousarray(value) for name, value in narrow.items()}


def _renamed(tensors: dict, names: dict) -> dict:
    found = {}
    for name, value in tensors.items():
        for pattern, new in names.items():
            name, times = re.subn(f"^{pattern}", new, name)
            if times:
                break
        found[name] = np.ascontiguousarray(value)
    return found
