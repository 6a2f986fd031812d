"""`load`: four kinds of artifact, one way to ask, and a message for anything else."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tfmodel.config import ConfigError
from tfmodel.export import load
from tfmodel.export.tflite.metadata import read_associated_files
from tfmodel.tasks import classify

ODD_TEXTS = ["", "  ", "好 \U0001f600 \u0000", "half of a pair: \ud800", "GOOD Café"]


@pytest.fixture(scope="module")
def run_folder(tiny, exported, tmp_path_factory):
    """A run folder as `tfmodel run` leaves it, as far as `load` looks."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "config.yaml").write_text("run: x\n")
    described = tiny.described
    classify.save(
        tiny.model,
        folder / "model",
        tokenizer=tiny.tokenizer,
        labels=described["labels"],
        max_length=described["max_length"],
    )
    shutil.copytree(exported, folder / "export")
    return folder


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        ("", "model"),
        ("model", "model"),
        ("export/savedmodel", "savedmodel"),
        ("export/savedmodel/1", "savedmodel"),
        ("export/tflite/float32.tflite", "tflite"),
    ],
)
def test_all_kinds_answer_alike(run_folder, tiny, where, kind):
    predictor = load(run_folder / where)
    assert predictor.kind == kind
    assert predictor.labels == tiny.described["labels"]
    assert (predictor.has_pairs, predictor.max_length) == (False, 16)
    np.testing.assert_allclose(predictor.probabilities(tiny.texts), tiny.scores, atol=1e-4)
    odd = [answer["score"] for answer in predictor.predict(ODD_TEXTS)]
    wanted = tiny.reference.probabilities(ODD_TEXTS).max(axis=1)
    np.testing.assert_allclose(odd, wanted, atol=1e-4)
    assert predictor.predict([]) == []


def test_the_highest_version_is_taken(run_folder, tmp_path):
    base = tmp_path / "base"
    for version in ("9", "10"):
        shutil.copytree(run_folder / "export/savedmodel/1", base / version)
    (base / "11").mkdir()  # being copied: nothing in it yet
    assert load(base).where == str(base / "10")


def test_a_path_where_nothing_is(tmp_path):
    with pytest.raises(ConfigError, match="expected a run folder .* Received: a path where noth"):
        load(tmp_path / "none")


def test_a_folder_that_is_none_of_these_says_what_was_found(tmp_path):
    with pytest.raises(ConfigError, match="Received: a folder with nothing"):
        load(tmp_path)
    (tmp_path / "train.csv").write_text("")
    with pytest.raises(ConfigError, match=r"(?s)saved_model.pb.*\.tflite.*a folder with train.csv"):
        load(tmp_path)


def test_a_run_without_a_model_yet(tmp_path):
    (tmp_path / "config.yaml").write_text("run: x\n")
    with pytest.raises(ConfigError, match="a run that has none yet. Finish it"):
        load(tmp_path)


def test_a_file_that_is_no_tflite(tmp_path):
    (tmp_path / "notes.txt").write_text("hello there")
    with pytest.raises(ConfigError, match=r"notes.txt: expected a TFLite model"):
        load(tmp_path / "notes.txt")


@pytest.mark.parametrize("share", [0.999, 0.5, 0.01])
def test_a_truncated_tflite(exported, tmp_path, share):
    content = (exported / "tflite/float32.tflite").read_bytes()
    path = tmp_path / "cut.tflite"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ConfigError, match="cut.tflite: expected"):
        load(path)


def test_a_tflite_with_its_files_but_without_its_model(exported, tmp_path):
    content = (exported / "tflite/float32.tflite").read_bytes()
    path = tmp_path / "hole.tflite"
    files = content.index(b"PK\x03\x04")
    path.write_bytes(content[:100] + content[files:])
    with pytest.raises(ConfigError, match="hole.tflite: expected"):
        load(path)


def test_a_tflite_of_somebody_else(exported, tmp_path):
    content = (exported / "tflite/float32.tflite").read_bytes()
    path = tmp_path / "foreign.tflite"
    path.write_bytes(content[: content.index(b"PK\x03\x04")])
    assert read_associated_files(path) == {}
    with pytest.raises(ConfigError, match="exported by tfmodel.*without tfmodel.json"):
        load(path)


def test_a_savedmodel_of_somebody_else_names_the_missing_signature(tmp_path):
    module = tf.Module()
    module.double = tf.function(
        lambda x: {"y": 2 * x}, input_signature=[tf.TensorSpec((None,), tf.float32, name="x")]
    )
    tf.saved_model.save(module, str(tmp_path / "a"), signatures={"double": module.double})
    with pytest.raises(ConfigError, match="signature serving_default.*Received: signatures double"):
        load(tmp_path / "a")
    tf.saved_model.save(module, str(tmp_path / "b"), signatures={"serving_default": module.double})
    with pytest.raises(ConfigError, match="takes x and gives y"):
        load(tmp_path / "b")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("saved_model.pb", "a saved_model.pb that cannot be read"),
        ("variables/variables.data-00000-of-00001", "expected a SavedModel that TensorFlow"),
        ("variables/variables.index", "expected a SavedModel that TensorFlow"),
    ],
)
def test_a_truncated_savedmodel(exported, tmp_path, file, message):
    folder = tmp_path / "1"
    shutil.copytree(exported / "savedmodel/1", folder)
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(ConfigError, match=message):
        load(folder)


def test_a_savedmodel_without_its_assets(exported, tmp_path):
    folder = tmp_path / "1"
    shutil.copytree(exported / "savedmodel/1", folder)
    (folder / "assets/tfmodel.json").unlink()
    with pytest.raises(ConfigError, match="without tfmodel.json"):
        load(folder)


def test_an_artifact_of_a_newer_tfmodel(exported, tmp_path):
    folder = tmp_path / "1"
    shutil.copytree(exported / "savedmodel/1", folder)
    manifest = folder / "assets/tfmodel.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 99}))
    with pytest.raises(ConfigError, match="Update tfmodel"):
        load(folder)
