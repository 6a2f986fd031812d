"""Hugging Face folders in and out, and what is said of a folder that is not one."""

import json
import logging

import ml_dtypes
import numpy as np
import numpy_bert
import pytest
from safetensors.numpy import load_file, save_file

from tfmodel.config import ConfigError
from tfmodel.model import BertConfig, build_encoder, encoder_config, load_encoder, save_encoder
from tfmodel.model.checkpoints import encoder_tensors, read_tensors
from tfmodel.tokens import Tokenizer, Vocabulary


@pytest.fixture(scope="module")
def batch():
    return numpy_bert.random_batch()


def same(encoder, batch, expected):
    np.testing.assert_allclose(encoder(batch)["pooled"], expected["pooled"], atol=2e-6)


@pytest.fixture(scope="module")
def expected(tensors, batch):
    return numpy_bert.run_bert(tensors, batch)


def test_a_folder_gives_its_numbers(folder, batch, expected):
    encoder = load_encoder(folder)
    same(encoder, batch, expected)
    assert encoder_config(encoder) == BertConfig.from_huggingface(numpy_bert.CONFIG)


def test_build_arguments_are_passed_on(folder, batch, expected):
    encoder = load_encoder(folder, sequence=False, dtype="mixed_bfloat16", name="other")
    assert encoder.name == "other"
    found = encoder(batch)
    assert set(found) == {"pooled"}
    np.testing.assert_allclose(
        np.asarray(found["pooled"], np.float32), expected["pooled"], atol=0.06
    )


@pytest.mark.parametrize("prefix", ["", "bert."])
@pytest.mark.parametrize("old_names", [False, True])
def test_older_and_longer_names_are_known(tmp_path, tensors, batch, expected, prefix, old_names):
    renamed = {}
    for name, value in tensors.items():
        if old_names and "LayerNorm" in name:
            name = name.replace(".weight", ".gamma").replace(".bias", ".beta")
        renamed[prefix + name] = value
    folder = numpy_bert.write_folder(tmp_path / "bert", tensors=renamed)
    same(load_encoder(folder), batch, expected)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_weights_of_other_types_become_float32(tmp_path, tensors, batch, dtype):
    cast = {name: value.astype(dtype) for name, value in tensors.items()}
    folder = numpy_bert.write_folder(tmp_path / "bert", tensors=cast)
    encoder = load_encoder(folder)
    assert {w.dtype for w in encoder.weights} == {"float32"}
    rounded = {name: value.astype(np.float32) for name, value in cast.items()}
    same(encoder, batch, numpy_bert.run_bert(rounded, batch))


def test_a_missing_pooler_is_said(tmp_path, tensors, batch, expected, caplog):
    bare = {name: value for name, value in tensors.items() if not name.startswith("pooler")}
    folder = numpy_bert.write_folder(tmp_path / "bert", tensors=bare)
    with caplog.at_level(logging.WARNING, "tfmodel"):
        encoder = load_encoder(folder)
    (record,) = caplog.records
    assert "no weights for the pooler; it starts from random ones" in record.getMessage()
    assert str(folder) in record.getMessage()
    found = encoder(batch)["sequence"].numpy()
    np.testing.assert_allclose(found[0], expected["sequence"][0], atol=1e-5)


def test_heads_are_left_out_and_strangers_named(tmp_path, tensors, caplog):
    more = {
        **tensors,
        "cls.predictions.bias": np.zeros(40, np.float32),
        "classifier.weight": np.zeros((2, 16), np.float32),
        "embeddings.position_ids": np.arange(12)[None],
        "lora.weight": np.zeros(1, np.float32),
    }
    folder = numpy_bert.write_folder(tmp_path / "bert", tensors=more)
    with caplog.at_level(logging.WARNING, "tfmodel"):
        load_encoder(folder)
    (record,) = caplog.records
    assert record.getMessage().endswith("not used: lora.weight (1,).")


# --- saving -------------------------------------------------------------------------------


def test_a_saved_folder_holds_the_same_tensors(tmp_path, folder, tensors, batch):
    encoder = load_encoder(folder)
    tokenizer = Tokenizer(Vocabulary(numpy_bert.PIECES), max_length=12)
    out = save_encoder(encoder, tmp_path / "out", tokenizer=tokenizer)
    written = load_file(out / "model.safetensors")
    assert set(written) == set(tensors)
    for name, value in tensors.items():
        np.testing.assert_array_equal(written[name], value)
    assert Tokenizer.from_folder(out).vocabulary.pieces == numpy_bert.PIECES
    config = json.loads((out / "config.json").read_text())
    kept = {k: v for k, v in numpy_bert.CONFIG.items() if k in config}
    assert kept == numpy_bert.CONFIG
    again = load_encoder(out)
    np.testing.assert_array_equal(again(batch)["pooled"], encoder(batch)["pooled"])


def test_a_mixed_precision_encoder_is_saved_in_float32(tmp_path, folder, tensors):
    encoder = load_encoder(folder, dtype="mixed_bfloat16")
    assert {value.dtype for value in encoder_tensors(encoder).values()} == {np.dtype(np.float32)}
    out = save_encoder(encoder, tmp_path / "out")
    name = "encoder.layer.1.attention.self.key.weight"
    np.testing.assert_array_equal(read_tensors(out)[name], tensors[name])


def test_saving_replaces_the_folder_as_a_whole(tmp_path, folder):
    out = tmp_path / "out"
    out.mkdir()
    (out / "stale.txt").write_text("of an older model")
    save_encoder(load_encoder(folder), out)
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "model.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bert", "out"]


def test_a_failed_save_leaves_the_old_folder(tmp_path, folder):
    class Full:
        vocabulary = Vocabulary(numpy_bert.PIECES)

        def save(self, folder):
            raise OSError(28, "No space left on device")

    out = save_encoder(load_encoder(folder), tmp_path / "out")
    before = (out / "model.safetensors").read_bytes()
    with pytest.raises(OSError, match="expected room on the disk to write out"):
        save_encoder(load_encoder(folder), out, tokenizer=Full())
    assert (out / "model.safetensors").read_bytes() == before


# --- mistakes -----------------------------------------------------------------------------


def test_no_such_folder(tmp_path):
    with pytest.raises(
        ConfigError, match=r"Expected a model folder .* Received: .*bert, which is not"
    ):
        load_encoder(tmp_path / "bert")


def test_a_file_is_no_folder(folder):
    with pytest.raises(ConfigError, match=r"config\.json, which is a file"):
        load_encoder(folder / "config.json")


def test_a_folder_without_a_config(folder):
    (folder / "config.json").unlink()
    with pytest.raises(
        ConfigError, match=r"Received: no config\.json; it holds model\.safetensors, vocab\.txt"
    ):
        load_encoder(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"config\.json: expected JSON. Received: Expecting"),
        ("[1]", r"config\.json: expected a JSON object. Received: list"),
        (b"\xff\xfe", r"config\.json: expected JSON. Received: 'utf-8' codec"),
    ],
)
def test_a_config_that_is_not_json(folder, text, message):
    (folder / "config.json").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError, match=message):
        load_encoder(folder)


@pytest.mark.parametrize("kept", [0, 5, 500, -1])
def test_truncated_weights(folder, kept):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(
        ConfigError,
        match=rf"expected a whole safetensors file. Received: {path.stat().st_size:,} b",
    ):
        load_encoder(folder)


def test_weights_of_another_size(folder):
    config = {**numpy_bert.CONFIG, "hidden_size": 8}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError) as caught:
        load_encoder(folder)
    message = str(caught.value)
    assert "expected the weights of a BERT of the size in config.json" in message
    assert "embeddings.word_embeddings.weight: (40, 16) where (40, 8) is expected" in message
    assert "Use the config.json that was saved with these weights" in message


def test_three_products_of_wrong_sizes_do_not_pass_for_one(tmp_path, tensors):
    # Together query and key have the right size for the fused product.
    wrong = dict(tensors)
    layer = "encoder.layer.0.attention.self"
    wrong[f"{layer}.query.weight"] = np.zeros((8, 16), np.float32)
    wrong[f"{layer}.key.weight"] = np.zeros((24, 16), np.float32)
    folder = numpy_bert.write_folder(tmp_path / "bert", tensors=wrong)
    with pytest.raises(ConfigError, match=r"2 tensors of another size and 0 missing"):
        load_encoder(folder)


def test_more_layers_than_weights(folder):
    config = {**numpy_bert.CONFIG, "num_hidden_layers": 3}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ConfigError,
        match=r"(?s)0 tensors of another size and 16 missing:.*encoder\.layer\.2\..*: miss",
    ):
        load_encoder(folder)


def test_nothing_is_assigned_where_something_is_wrong(config, tensors):
    from tfmodel.model.checkpoints import assign_encoder

    encoder = build_encoder(config)
    before = [weight.numpy() for weight in encoder.weights]
    wrong = {**tensors, "pooler.dense.bias": np.zeros(3, np.float32)}
    with pytest.raises(ConfigError, match=r"pooler\.dense\.bias: \(3,\) where \(16,\)"):
        assign_encoder(encoder, wrong)
    for weight, value in zip(encoder.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_a_file_without_tensors(folder):
    save_file({}, folder / "model.safetensors")
    with pytest.raises(ConfigError, match="and 37 missing"):
        load_encoder(folder)
