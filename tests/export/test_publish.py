"""Export as a whole: everything is published, or nothing."""

import dataclasses
import json

import pytest

from tfmodel.config import ConfigError, load_config
from tfmodel.export import ExportSettings, ParityError, export_all, load, publish


def _export(tiny, folder, settings=None, **changes):
    arguments = {
        "model": tiny.model,
        "tokenizer": tiny.tokenizer,
        "labels": tiny.described["labels"],
        "max_length": 16,
        "texts": tiny.texts,
        "text_pairs": tiny.text_pairs,
        "targets": tiny.scores.argmax(axis=1),
        "folder": folder,
    }
    return export_all(settings or ExportSettings(max_drop=0.1), **(arguments | changes))


def _files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
def test_everything_is_published_with_its_figures(tiny, tmp_path):
    said = []
    parity = _export(tiny, tmp_path, progress=said.append)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "parity.json",
        "savedmodel",
        "tflite",
    ]
    assert json.loads((tmp_path / "parity.json").read_text()) == parity
    for figures in parity["artifacts"].values():
        assert load(tmp_path / figures["path"]).predict(["good"])
    assert parity["artifacts"]["savedmodel"]["path"] == "savedmodel/1"
    assert said[0] == "writing savedmodel" and said[-1] == "checking tflite/int8"
    warm_up = tmp_path / "savedmodel/1/assets.extra/tf_serving_warmup_requests"
    # Somebody's test rows are not for whoever gets the artifact.
    assert tiny.texts[0].encode() not in warm_up.read_bytes()
    assert b"so-so" in warm_up.read_bytes()


@pytest.mark.slow
def test_an_older_savedmodel_that_stays_is_named(tiny, tmp_path, caplog):
    _export(tiny, tmp_path, ExportSettings(tflite=[]))
    _export(tiny, tmp_path, ExportSettings(savedmodel=False, tflite=["float32"]))
    assert "savedmodel/1 holds older weights" in caplog.text
    assert "float32 in export.savedmodel_precision" in caplog.text


@pytest.mark.slow
def test_pairs_are_published(tiny_pairs, tmp_path):
    settings = ExportSettings(tflite=["float32"])
    parity = _export(tiny_pairs, tmp_path, settings)
    assert set(parity["artifacts"]) == {"savedmodel", "tflite/float32"}
    assert load(tmp_path / "savedmodel").has_pairs


@pytest.mark.slow
def test_a_second_export_adds_a_version_and_replaces_the_files(tiny, tmp_path):
    _export(tiny, tmp_path)
    older = (tmp_path / "tflite/float32.tflite").stat().st_ino
    settings = ExportSettings(tflite=["float32"], max_length=12)
    parity = _export(tiny, tmp_path, settings)
    assert parity["artifacts"]["savedmodel"]["path"] == "savedmodel/2"
    assert sorted(path.name for path in (tmp_path / "savedmodel").iterdir()) == ["1", "2"]
    # int8 and float16 of the older weights would pass for the new ones.
    assert [path.name for path in (tmp_path / "tflite").iterdir()] == ["float32.tflite"]
    assert (tmp_path / "tflite/float32.tflite").stat().st_ino != older
    assert load(tmp_path / "savedmodel").max_length == 12
    assert load(tmp_path / "tflite/float32.tflite").max_length == 12


@pytest.mark.slow
def test_nothing_of_a_failed_export_is_served(tiny, another, tmp_path, monkeypatch):
    _export(tiny, tmp_path)
    before = {path: (tmp_path / path).read_bytes() for path in _files(tmp_path)}
    other = another(seed=3)
    write = publish._write

    def spoil(settings, trained, *rest):
        return write(settings, dataclasses.replace(trained, model=other.model), *rest)

    monkeypatch.setattr(publish, "_write", spoil)
    with pytest.raises(ParityError, match="4 of 4 artifacts .* none was published"):
        _export(tiny, tmp_path)
    failed = json.loads((tmp_path / "parity_failed.json").read_text())
    assert not failed["passed"] and not failed["artifacts"]["tflite/int8"]["passed"]
    (tmp_path / "parity_failed.json").unlink()
    assert {path: (tmp_path / path).read_bytes() for path in _files(tmp_path)} == before
    assert sorted(path.name for path in (tmp_path / "savedmodel").iterdir()) == ["1"]


def test_a_success_clears_the_record_of_the_failure(tiny, tmp_path):
    (tmp_path / "parity_failed.json").write_text("{}")
    _export(tiny, tmp_path, ExportSettings(tflite=[]))
    assert not (tmp_path / "parity_failed.json").exists()
    assert not (tmp_path / "tflite").exists()


def test_a_length_beyond_the_encoder_fails_before_any_work(tiny, tmp_path):
    with pytest.raises(ConfigError, match=r"export.max_length must be in \[4, 24\]"):
        _export(tiny, tmp_path, ExportSettings(max_length=64))
    assert list(tmp_path.iterdir()) == []


def test_a_phone_that_takes_no_pairs_is_refused_before_any_work(tiny_pairs, tmp_path):
    said = []
    with pytest.raises(ConfigError, match="export.runtime=mediapipe: expected a model of single"):
        _export(tiny_pairs, tmp_path, ExportSettings(runtime="mediapipe"), progress=said.append)
    assert said == [] and list(tmp_path.iterdir()) == []


def test_a_graph_that_no_server_takes_is_not_published(tiny, tmp_path, monkeypatch):
    # As of a TensorFlow that writes an operation which the oldest servers do not have.
    monkeypatch.setattr("tfmodel.export.linting.DEFAULT_TARGET", "2.11")
    with pytest.raises(
        ParityError, match="FastBertNormalize is in TF Serving since 2.12"
    ) as caught:
        _export(tiny, tmp_path, ExportSettings(tflite=[]))
    assert str(caught.value).startswith("1 of 1 artifacts are not fit for TF Serving, so none was")
    assert not (tmp_path / "savedmodel").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tflite": ["int4"]}, "one of float32, float16, int8"),
        ({"max_drop": 1.5}, "max_drop.*at most 1"),
        ({"max_length": 2}, "max_length.*at least 4"),
        ({"savedmodels": True}, "Did you mean savedmodel"),
    ],
)
def test_settings_name_their_mistakes(values, message):
    with pytest.raises(ConfigError, match=message):
        load_config(values, ExportSettings)


def test_a_variant_named_twice_is_written_once():
    assert load_config({"tflite": ["int8", "int8"]}, ExportSettings).tflite == ["int8"]
