"""Google's checkpoints, written here by TensorFlow itself under Google's names."""

import json
import shutil

import numpy as np
import numpy_bert
import pytest
import small_run
from small_google import googles, write_checkpoint

from tfmodel.config import ConfigError
from tfmodel.model import encoder_config, load_encoder
from tfmodel.model.checkpoints import read_config, read_tensors
from tfmodel.tokens import Tokenizer, Vocabulary

CASED = [*numpy_bert.PIECES, "The"]


@pytest.fixture
def google(tmp_path, tensors):
    folder = tmp_path / "uncased_L-2_H-16_A-4"
    folder.mkdir()
    config = {k: v for k, v in numpy_bert.CONFIG.items() if k not in ("model_type", "pad_token_id")}
    del config["architectures"], config["layer_norm_eps"]
    (folder / "bert_config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(numpy_bert.PIECES) + "\n")
    theirs = dict(googles(name, value) for name, value in tensors.items())
    theirs |= {
        "bert/embeddings/word_embeddings/adam_m": np.zeros((40, 16), np.float32),
        "bert/pooler/dense/kernel/adam_v": np.zeros((16, 16), np.float32),
        "global_step": np.array(3, np.int64),
        "cls/predictions/output_bias": np.arange(40, dtype=np.float32),
        "cls/predictions/transform/dense/kernel": np.arange(256, dtype=np.float32).reshape(16, 16),
        "cls/seq_relationship/output_weights": np.ones((2, 16), np.float32),
        "cls/seq_relationship/output_bias": np.ones(2, np.float32),
    }
    write_checkpoint(folder, theirs)
    return folder


def test_a_checkpoint_gives_its_numbers(google, tensors, caplog):
    batch = numpy_bert.random_batch()
    encoder = load_encoder(google)
    expected = numpy_bert.run_bert(tensors, batch)["pooled"]
    np.testing.assert_allclose(encoder(batch)["pooled"], expected, atol=2e-6)
    assert encoder_config(encoder).layer_norm_epsilon == 1e-12
    assert not caplog.records


def test_heads_have_hugging_faces_names(google, tensors):
    found = read_tensors(google)
    heads = {name for name in found if name.startswith("cls.")}
    assert set(found) - heads == set(tensors)
    assert heads == {
        "cls.predictions.bias",
        "cls.predictions.transform.dense.weight",
        "cls.seq_relationship.weight",
        "cls.seq_relationship.bias",
    }
    turned = found["cls.predictions.transform.dense.weight"]
    np.testing.assert_array_equal(turned, np.arange(256).reshape(16, 16).T)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("output_weights", "classifier.weight"),
        ("output_bias", "classifier.bias"),
        ("cls/squad/output_weights", "qa_outputs.weight"),
        ("cls/squad/output_bias", "qa_outputs.bias"),
    ],
)
def test_fine_tuned_heads_too(tmp_path, theirs, ours):
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    held = {"bert/pooler/dense/bias": np.zeros(3, np.float32), theirs: value}
    write_checkpoint(tmp_path, held, name="model.ckpt-20")
    np.testing.assert_array_equal(read_tensors(tmp_path)[ours], value)


@pytest.mark.parametrize(("pieces", "lowercase"), [(numpy_bert.PIECES, True), (CASED, False)])
def test_the_vocabulary_says_whether_texts_are_lower_cased(google, pieces, lowercase):
    Vocabulary(pieces).save(google / "vocab.txt")
    assert Tokenizer.from_folder(google).lowercase is lowercase


def test_the_usual_name_goes_before_others(google, tensors):
    write_checkpoint(google, {"other": np.zeros(1, np.float32)}, name="model.ckpt-7")
    assert set(tensors) <= set(read_tensors(google))


@pytest.mark.slow
def test_a_config_trains_it(tmp_path, tfmodel, monkeypatch):
    monkeypatch.chdir(tmp_path)
    theirs = small_run.write_encoder(tmp_path / "theirs")
    folder = tmp_path / "encoder"
    folder.mkdir()
    shutil.copy(theirs / "vocab.txt", folder)
    shutil.copy(theirs / "config.json", folder / "bert_config.json")
    tensors = read_tensors(theirs)
    write_checkpoint(folder, dict(googles(name, value) for name, value in tensors.items()))
    small_run.write_rows(tmp_path / "train.csv", small_run.rows())
    (tmp_path / "small.yaml").write_text(small_run.CONFIG)
    for stage in ("data", "finetune"):
        done = tfmodel(stage, "small.yaml")
        assert done.code == 0, done.err
    model = read_config("runs/small/model")
    assert (model["model_type"], model["num_hidden_layers"]) == ("bert", 2)
    assert Tokenizer.from_folder("runs/small/model").lowercase


# --- mistakes -----------------------------------------------------------------------------


def test_several_checkpoints(tmp_path):
    for step in (10, 20):
        write_checkpoint(tmp_path, {"a": np.zeros(1, np.float32)}, name=f"model.ckpt-{step}")
    with pytest.raises(
        ConfigError, match=r"expected one checkpoint. Received: model\.ckpt-10, model\.ckpt-20"
    ):
        read_tensors(tmp_path)


def test_missing_data(google):
    (google / "bert_model.ckpt.data-00000-of-00001").unlink()
    with pytest.raises(ConfigError, match=r"bert_model\.ckpt: expected a whole checkpoint"):
        load_encoder(google)


@pytest.mark.parametrize("file", ["bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"])
def test_truncated_files(google, file):
    path = google / file
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ConfigError, match=r"bert_model\.ckpt: expected a whole checkpoint"):
        load_encoder(google)


def test_a_checkpoint_of_other_names(google):
    write_checkpoint(google, {"encoder/layer_with_weights-0/x": np.zeros(1, np.float32)})
    with pytest.raises(
        ConfigError, match="names begin with bert/. Received: encoder/layer_with_weights-0/x"
    ):
        load_encoder(google)


def test_another_size_than_the_config_says(google):
    config = json.loads((google / "bert_config.json").read_text())
    (google / "bert_config.json").write_text(json.dumps({**config, "hidden_size": 8}))
    with pytest.raises(ConfigError, match=r"\(40, 16\) where \(40, 8\) is expected"):
        load_encoder(google)
