"""BERT's family: each kind's names and config give the numbers of the BERT that it amounts to."""

import json

import keras
import numpy as np
import numpy_bert
import numpy_family
import pytest
from safetensors.numpy import load_file, save_file

from tfmodel.config import ConfigError
from tfmodel.model import BertConfig, build_encoder, encoder_config, load_encoder, save_encoder
from tfmodel.model.at_positions import encode_at
from tfmodel.model.checkpoints import encoder_tensors
from tfmodel.model.encoder import projections
from tfmodel.model.families import FAMILIES

NAMES = list(numpy_family.CONFIGS)


@pytest.fixture
def batch():
    return numpy_bert.random_batch()


def write(tmp_path, name, *, prefix=""):
    """A folder, the tensors in it, and what must be said of a batch."""
    tensors, same, bert = numpy_family.make(name)
    family = FAMILIES[numpy_family.CONFIGS[name]["model_type"]]
    if prefix:
        tensors = {family.name_under_head(n): v for n, v in tensors.items()}
    folder = numpy_bert.write_folder(
        tmp_path / "theirs", tensors=tensors, config=numpy_family.CONFIGS[name]
    )
    return folder, tensors, lambda batch: numpy_family.run(name, same, bert, batch)


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_gives_its_numbers(tmp_path, name, batch):
    folder, tensors, expected = write(tmp_path, name)
    encoder = load_encoder(folder)
    if encoder_config(encoder).segments == 1:
        batch["segment_ids"][:] = 0
    expected = expected(batch)
    found = encoder(batch)
    np.testing.assert_allclose(found["pooled"], expected["pooled"], atol=5e-6)
    for row, states in enumerate(expected["sequence"]):
        np.testing.assert_allclose(found["sequence"][row, : len(states)], states, atol=2e-5)
    short = load_encoder(folder, sequence=False)
    np.testing.assert_allclose(short(batch)["pooled"], expected["pooled"], atol=5e-6)


@pytest.mark.parametrize("name", NAMES)
def test_packed_texts_do_not_see_each_other(tmp_path, name):
    encoder = load_encoder(write(tmp_path, name)[0])
    ids = np.array([[2, 7, 9, 3, 8, 6, 11, 0]], np.int32)
    mask = np.array([[1, 1, 1, 2, 2, 2, 2, 0]], np.int32)
    zeros = np.zeros_like(ids)
    packed = encoder({"token_ids": ids, "segment_ids": zeros, "padding_mask": mask})["sequence"]
    for text, places in ((1, slice(0, 3)), (2, slice(3, 7))):
        alone = {"token_ids": ids[:, places], "segment_ids": zeros[:, places]}
        alone["padding_mask"] = (mask[:, places] == text).astype(np.int32)
        expected = encoder(alone)["sequence"]
        np.testing.assert_allclose(packed[:, places], expected, atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_positions_alone_say_what_the_whole_row_says(tmp_path, name, batch):
    encoder = load_encoder(write(tmp_path, name)[0])
    batch["segment_ids"][:] = 0
    inputs = {key: keras.Input((None,), dtype="int32", name=key) for key in batch}
    positions = keras.Input((None,), dtype="int32", name="positions")
    model = keras.Model([inputs, positions], encode_at(encoder, inputs, positions))
    asked = np.array([[3, 1], [4, 0], [0, 0], [6, 5]], np.int32)
    expected = np.take_along_axis(encoder(batch)["sequence"].numpy(), asked[:, :, None], axis=1)
    np.testing.assert_allclose(model([batch, asked]), expected.reshape(8, -1), atol=5e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_folder_holds_the_same_tensors_and_config(tmp_path, name, batch):
    folder, tensors, _ = write(tmp_path, name)
    encoder = load_encoder(folder)
    out = save_encoder(encoder, tmp_path / "out")
    written = load_file(out / "model.safetensors")
    assert set(written) == set(tensors)
    for each, value in tensors.items():
        first = FAMILIES[encoder_config(encoder).family].first_position
        kept = slice(first, None) if "position_embeddings" in each else slice(None)
        np.testing.assert_array_equal(written[each][kept], value[kept])
    config = json.loads((out / "config.json").read_text())
    theirs = numpy_family.CONFIGS[name]
    assert {key: config[key] for key in theirs if key != "architectures"} == {
        key: value for key, value in theirs.items() if key != "architectures"
    }
    assert config["architectures"] == [f"{FAMILIES[theirs['model_type']].architecture}Model"]
    again = load_encoder(out)
    assert encoder_config(again) == encoder_config(encoder)
    np.testing.assert_array_equal(again(batch)["pooled"], encoder(batch)["pooled"])


@pytest.mark.parametrize("name", NAMES)
def test_a_keras_file_holds_the_family_too(tmp_path, name, batch):
    encoder = load_encoder(write(tmp_path, name)[0])
    encoder.save(tmp_path / "encoder.keras")
    again = keras.models.load_model(tmp_path / "encoder.keras")
    assert encoder_config(again) == encoder_config(encoder)
    assert again.count_params() == encoder.count_params()
    np.testing.assert_array_equal(again(batch)["pooled"], encoder(batch)["pooled"])


@pytest.mark.parametrize("name", NAMES)
def test_names_under_a_head_are_known_and_given(tmp_path, name, batch):
    folder, tensors, _ = write(tmp_path, name, prefix=True)
    encoder = load_encoder(folder)
    prefix = FAMILIES[encoder_config(encoder).family].prefix
    found = set(encoder_tensors(encoder, prefix=prefix))
    if "roberta" in name:  # whose classification head has the layer itself
        tensors = {n.replace(f"{prefix}pooler", "classifier"): v for n, v in tensors.items()}
    assert found == set(tensors)
    with pytest.raises(ValueError, match="prefix of the encoder's family"):
        encoder_tensors(encoder, prefix="gpt.")


def test_a_classifier_of_roberta_gives_the_layer_of_pooled(tmp_path, batch):
    tensors, same, bert = numpy_family.make("roberta")
    renamed = {n.replace("pooler.", "classifier."): v for n, v in tensors.items()}
    renamed["classifier.out_proj.weight"] = np.zeros((3, 16), np.float32)
    folder = numpy_bert.write_folder(
        tmp_path / "theirs", tensors=renamed, config=numpy_family.CONFIGS["roberta"]
    )
    batch["segment_ids"][:] = 0
    expected = numpy_family.run("roberta", same, bert, batch)
    np.testing.assert_allclose(load_encoder(folder)(batch)["pooled"], expected["pooled"], atol=5e-6)


def test_one_segment_makes_segment_ids_no_difference(tmp_path, batch):
    encoder = load_encoder(write(tmp_path, "roberta")[0])
    other = {**batch, "segment_ids": np.ones_like(batch["segment_ids"])}
    np.testing.assert_array_equal(encoder(batch)["pooled"], encoder(other)["pooled"])


def test_shared_layers_are_trained_once(tmp_path):
    encoder = load_encoder(write(tmp_path, "albert")[0])
    assert len(projections(encoder)) == 2 * 4
    own = {id(weight) for weight in encoder.trainable_weights}
    assert len(own) == len(encoder.trainable_weights) == 3 + 2 + 2 + 2 * 12 + 2


def test_a_family_keeps_its_defaults_where_a_config_is_silent():
    values = {**numpy_family.CONFIGS["albert"]}
    for key in ("embedding_size", "num_hidden_groups", "hidden_act", "hidden_dropout_prob"):
        del values[key]
    shape = BertConfig.from_huggingface(values)
    assert (shape.embedding_size, shape.layer_groups) == (128, 1)
    assert (shape.activation, shape.dropout) == ("gelu_new", 0.0)


@pytest.mark.parametrize("name", NAMES)
def test_huggingface_keys_and_back(name):
    shape = BertConfig.from_huggingface(numpy_family.CONFIGS[name])
    assert BertConfig.from_huggingface(shape.to_huggingface()) == shape
    assert encoder_config(build_encoder(shape)) == shape


# --- mistakes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("roberta", {"pad_token_id": 0}, "expected pad_token_id 1, as roberta has it. Received: 0"),
        ("albert", {"inner_group_num": 2}, "expected inner_group_num 1, .* Received: 2"),
        ("albert", {"num_hidden_groups": 9}, "layer_groups must be at most layers"),
        ("roberta", {"max_position_embeddings": 2}, "max_positions must be .* Received: 0"),
        ("electra", {"embedding_size": 0}, "embedding_size must be .* Received: 0"),
        ("distilbert", {"dim": None}, "config.json"),
    ],
)
def test_a_config_we_cannot_build(name, change, message):
    values = {**numpy_family.CONFIGS[name], **change}
    if values.get("dim", 1) is None:
        del values["dim"]
        message = "expected a DISTILBERT config. Received: no dim"
    with pytest.raises(ConfigError, match=message):
        BertConfig.from_huggingface(values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"family": "gpt2"}, "family must be one of bert, distilbert.* Received: 'gpt2'"),
        ({"embedding_size": 8}, "embedding_size must be None: no bert has it. Received: 8"),
        ({"layer_groups": 1}, "layer_groups must be None: no bert has it. Received: 1"),
        ({"family": "albert"}, "embedding_size must be a number: every albert has one"),
        ({"family": "distilbert"}, "segments must be 0: distilbert has none. Received: 2"),
    ],
)
def test_a_shape_that_its_family_cannot_have(arguments, message):
    with pytest.raises(ConfigError, match=message):
        BertConfig(**arguments)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("gpt2", r"model_type 'gpt2' \(a decoder, whose tokens see only those before them\)"),
        ("t5", r"model_type 't5' \(an encoder and a decoder with relative positions\)"),
        ("deberta-v2", r"model_type 'deberta-v2' \(attention by relative positions\)"),
        ("something", r"model_type 'something'\."),
        (["bert"], r"model_type \['bert'\]"),
    ],
)
def test_another_architecture_is_refused_with_the_reason(folder, kind, reason):
    config = {**numpy_bert.CONFIG, "model_type": kind}
    (folder / "config.json").write_text(json.dumps(config))
    known = "albert, bert, distilbert, electra, roberta, xlm-roberta"
    with pytest.raises(
        ConfigError, match=rf"config\.json: expected a BERT .*{known}\)\. Received: {reason}"
    ):
        load_encoder(folder)


def test_what_does_not_fit_is_named_with_its_shape(tmp_path):
    tensors, _, _ = numpy_family.make("distilbert")
    tensors["transformer.layer.1.ffn.lin1.weight"] = np.zeros((8, 16), np.float32)
    del tensors["transformer.layer.0.attention.v_lin.bias"]
    tensors["transformer.layer.0.rotary"] = np.zeros((4, 2), np.float32)
    folder = numpy_bert.write_folder(
        tmp_path / "theirs", tensors=tensors, config=numpy_family.CONFIGS["distilbert"]
    )
    with pytest.raises(ConfigError) as caught:
        load_encoder(folder)
    message = str(caught.value)
    assert "expected the weights of a DISTILBERT of the size in config.json" in message
    assert "1 tensors of another size and 1 missing" in message
    for line in (
        "  transformer.layer.1.ffn.lin1.weight: (8, 16) where (24, 16) is expected\n",
        "  transformer.layer.0.attention.v_lin.bias: missing, (16,) is expected\n",
        "  transformer.layer.0.rotary: (4, 2), not known\n",
    ):
        assert line in message


def test_weights_of_another_family_are_refused(tmp_path):
    tensors, _, _ = numpy_family.make("distilbert")
    folder = numpy_bert.write_folder(tmp_path / "theirs", tensors=tensors)
    with pytest.raises(
        ConfigError, match=r"(?s)0 tensors of another size and 33 missing.*not known"
    ):
        load_encoder(folder)


def test_only_numbers_that_are_no_weights_go_unmentioned(tmp_path, caplog):
    tensors, _, _ = numpy_family.make("electra")
    tensors |= {
        "discriminator_predictions.dense.bias": np.zeros(3, np.float32),
        "embeddings.position_ids": np.arange(12)[None],
        "strange.weight": np.zeros((2, 3), np.float32),
    }
    folder = tmp_path / "theirs"
    numpy_bert.write_folder(folder, tensors={}, config=numpy_family.CONFIGS["electra"])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    load_encoder(folder)
    (record,) = caplog.records
    assert record.getMessage().endswith("not used: strange.weight (2, 3).")
