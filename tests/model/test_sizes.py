import pytest

from tfmodel.config import ConfigError
from tfmodel.model import SIZES, BertConfig

HUGGINGFACE = {
    "model_type": "bert",
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}


def test_googles_sizes():
    # Turc et al. 2019, table 1: layers, width.
    found = {name: (size.layers, size.hidden_size) for name, size in SIZES.items()}
    assert found == {
        "tiny": (2, 128),
        "mini": (4, 256),
        "small": (4, 512),
        "medium": (8, 512),
        "base": (12, 768),
    }
    assert all(size.hidden_size // size.heads == 64 for size in SIZES.values())
    assert all(size.intermediate_size == 4 * size.hidden_size for size in SIZES.values())


@pytest.mark.parametrize("size", [*SIZES.values(), BertConfig(dropout=0.3, activation="relu")])
def test_huggingface_keys_and_back(size):
    assert BertConfig.from_huggingface(size.to_huggingface()) == size


def test_what_a_config_leaves_out_has_berts_defaults():
    config = BertConfig.from_huggingface(HUGGINGFACE)
    assert (config.layers, config.max_positions, config.segments) == (3, 512, 2)
    assert (config.dropout, config.layer_norm_epsilon, config.activation) == (0.1, 1e-12, "gelu")


def test_newer_names_of_the_same_activation_are_known():
    values = {**HUGGINGFACE, "hidden_act": "gelu_pytorch_tanh"}
    assert BertConfig.from_huggingface(values).activation == "gelu_new"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, r"expected a BERT .* Received: model_type 'gpt2'"),
        ({"is_decoder": True}, "expected an encoder. Received: is_decoder true"),
        ({"position_embedding_type": "relative_key"}, "absolute positions. Received: .*relative"),
        ({"hidden_act": "silu"}, "gelu, gelu_new, relu. Received: 'silu'"),
        ({"hidden_size": 30}, "multiple of heads. Received: hidden_size 30, heads 4"),
        ({"num_hidden_layers": 0}, "layers must be a whole number above 0. Received: 0"),
        ({"vocab_size": "100"}, "vocabulary_size must be a whole number above 0. Received: '100'"),
        ({"hidden_dropout_prob": 1.0}, r"dropout must be in \[0, 1\). Received: 1.0"),
        ({"hidden_dropout_prob": "a"}, "models/x/config.json: "),
    ],
)
def test_a_config_we_cannot_build_is_refused_by_name(change, message):
    with pytest.raises(ConfigError, match=f"^models/x/config.json: .*{message}|^{message}"):
        BertConfig.from_huggingface({**HUGGINGFACE, **change}, name="models/x/config.json")


def test_missing_keys_are_named():
    values = {"model_type": "bert", "hidden_size": 32, "intermediate_size": 64}
    with pytest.raises(ConfigError, match="no vocab_size, num_hidden_layers, num_attention_heads"):
        BertConfig.from_huggingface(values)
