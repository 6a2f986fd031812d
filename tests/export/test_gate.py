"""Sabotage of what an artifact says: each is caught in the process that asks it."""

import dataclasses
import re
import shutil
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from tfmodel.export import check_parity, export_savedmodel, export_tflite
from tfmodel.export.manifest import LABELS_FILE, MANIFEST_FILE
from tfmodel.export.parity import ParityError
from tfmodel.export.parity.description import read_tensors
from tfmodel.export.parity.measure import ClientError, Told
from tfmodel.export.tflite.metadata import read_associated_files


def _check(tiny, path, *, measure=True, **kwargs):
    """Figures of one artifact, asked in a process of its own and in no runtime of phones."""
    try:
        parity = check_parity(tiny.reference, {"x": path}, tiny.texts, measure=measure, **kwargs)
    except ParityError as error:
        parity = error.parity
    return parity["artifacts"]["x"]


@pytest.fixture(autouse=True)
def _no_phones(monkeypatch):
    monkeypatch.setattr("tfmodel.export.parity.gate.phones", dict)


@pytest.fixture
def copied(exported, tmp_path):
    """A TFLite file that a test may spoil."""
    return shutil.copy(exported / "tflite/float32.tflite", tmp_path / "x.tflite")


def _replace_bytes(path, old, new):
    """Put others of the same length in the place of some bytes, all of them."""
    content = path.read_bytes()
    assert len(old) == len(new) and old in content
    path.write_bytes(content.replace(old, new))


def test_an_honest_file_tells_what_it_takes(exported, tiny):
    right = tiny.scores.argmax(axis=1)
    figures = _check(tiny, exported / "tflite/float32.tflite", targets=right)
    assert figures["passed"] and figures["runtimes"]["litert"]["passed"]
    assert figures["largest_score_difference"] < 1e-5
    assert figures["accuracy_interval"] == [pytest.approx(0.94, abs=0.01), 1.0]
    assert figures["runtime_memory_mb"] < figures["peak_memory_mb"]
    assert figures["threads"] == 1 and figures["latency_ms"]["rows"] == 60


def test_pairs_are_asked_as_pairs(tiny_pairs, tmp_path):
    path = export_tflite(
        tiny_pairs.model, tiny_pairs.tokenizer, tmp_path / "x.tflite", **tiny_pairs.described
    )
    parity = check_parity(
        tiny_pairs.reference, {"x": path}, tiny_pairs.texts, tiny_pairs.text_pairs, measure=True
    )
    assert parity["artifacts"]["x"]["largest_score_difference"] < 1e-5


@pytest.mark.slow
def test_vectors_are_compared_with_the_models(tiny, another, tmp_path):
    path = tmp_path / "x.tflite"
    for model, verdict in ((tiny.model, True), (another(seed=3).model, False)):
        export_tflite(model, tiny.tokenizer, path, output="vector", **tiny.described)
        figures = _check(tiny, path)
        assert figures["passed"] is verdict and figures["output"] == "vector"
    assert "a vector is off by" in figures["failures"][0]
    assert figures["cosine"] < 0.9


def test_a_renamed_output_of_the_model(copied, tiny):
    _replace_bytes(copied, b"probability\0", b"probabilitx\0")
    (failure,) = _check(tiny, copied)["failures"]
    assert "received inputs" in failure and "outputs probabilitx" in failure


def test_a_renamed_output_of_the_metadata_alone(copied, tiny):
    content = copied.read_bytes()
    assert read_tensors(copied).described_outputs == ["probability"]
    place = content.index(b"probability\0", content.index(b"M001"))
    copied.write_bytes(content[:place] + b"probabilitx" + content[place + 11 :])
    assert read_tensors(copied).outputs == ["probability"]
    (failure,) = _check(tiny, copied)["failures"]
    assert "metadata names the outputs probabilitx, the model probability" in failure


def _with_files(path, change):
    """Write the files inside a `.tflite` anew, behind the same model."""
    files = read_associated_files(path)
    with zipfile.ZipFile(path) as archive:
        start = min(entry.header_offset for entry in archive.infolist())
    path.write_bytes(path.read_bytes()[:start])
    with zipfile.ZipFile(path, "a") as archive:
        for name, content in change(files).items():
            archive.writestr(name, content)


@pytest.mark.parametrize("measure", [True, False])
def test_labels_that_only_phones_would_show(copied, tiny, measure):
    _with_files(copied, lambda files: files | {LABELS_FILE: b"good\nso-so\nbad\n"})
    (failure,) = _check(tiny, copied, measure=measure)["failures"]
    assert "labels.txt says ['good', 'so-so', 'bad'], its tfmodel.json ['bad'" in failure


def test_a_tokenizer_inside_that_keeps_capitals(copied, tiny):
    def flip(files):
        manifest = files[MANIFEST_FILE].replace(b'"lowercase": true', b'"lowercase": false')
        assert manifest != files[MANIFEST_FILE]
        return files | {MANIFEST_FILE: manifest}

    _with_files(copied, flip)
    shouted = dataclasses.replace(tiny, texts=[text.upper() for text in tiny.texts])
    assert "a score is off by" in _check(shouted, copied)["failures"][0]


@pytest.mark.parametrize("part", [0.3, 0.7])
def test_a_model_cut_off_behind_its_head(copied, tiny, part):
    """The files inside are whole: only the model is not."""

    files = read_associated_files(copied)
    content = copied.read_bytes()
    copied.write_bytes(content[: int(part * len(content))])
    with zipfile.ZipFile(copied, "a") as archive:
        for name, inside in files.items():
            archive.writestr(name, inside)
    assert not _check(tiny, copied)["passed"]


def test_a_file_that_ends_its_process_fails_alone(exported, tiny, monkeypatch):
    def crash(client, request, **kwargs):
        raise ClientError("its process was ended by SIGSEGV, while loading it")

    monkeypatch.setattr("tfmodel.export.parity.runtimes.run_client", crash)
    figures = _check(tiny, exported / "tflite/float32.tflite")
    assert figures["failures"] == ["its process was ended by SIGSEGV, while loading it"]


# --- SavedModels: what TensorFlow would answer, without its five seconds ----------------------


@pytest.fixture
def answering(exported, tiny, monkeypatch):
    """A SavedModel that gives the right answers, but for what a test spoils."""

    def check(spoil):
        labels = tiny.described["labels"]

        def row(scores):
            best = int(np.argmax(scores))
            return {"label": [labels[best]], "score": [scores[best]], "scores": [scores]}

        def answer(client, request, **kwargs):
            few = tiny.scores[order(request)].tolist()
            vectors = tiny.reference.vectors([tiny.texts[i] for i in order(request)[:20]])
            names = [check["signature"] for check in request["checks"]]
            checks = {name: {"scores": few[:20]} for name in names}
            checks["vector"] = {"vector": vectors.tolist()}
            told = {"answers": [row(scores) for scores in few], "checks": checks}
            error = spoil(told)
            errors = {} if error is None else {names.index("ids"): error}
            return Told(told["answers"], {}, [*checks.values()], errors, {"latency_ms": None})

        def order(request):
            return [tiny.texts.index(row["inputs"]["text"][0]) for row in request["rows"]]

        monkeypatch.setattr("tfmodel.export.parity.runtimes.run_client", answer)
        return _check(tiny, exported / "savedmodel/1")

    return check


def test_a_savedmodel_tells_each_signature(answering):
    figures = answering(lambda told: None)
    assert figures["passed"], figures["failures"]
    assert list(figures["signatures"]) == ["serving_default", "max_length", "ids", "vector"]


def _rename_output(told):
    for answer in told["answers"]:
        answer["probabilities"] = answer.pop("scores")


def _shift_labels(told):
    shifted = {"bad": "so-so", "so-so": "good", "good": "bad"}
    for answer in told["answers"]:
        answer["label"] = [shifted[answer["label"][0]]]


def _permute_ids(told):
    ids = told["checks"]["ids"]
    ids["scores"] = [scores[::-1] for scores in ids["scores"]]


def _shuffle_vectors(told):
    vector = told["checks"]["vector"]
    vector["vector"] = vector["vector"][::-1]


def _lose_ids(told):
    told["checks"]["ids"] = None
    return "no signature ids; it has serving_default"


def _rename_vector(told):
    told["checks"]["vector"] = {"embedding": told["checks"]["vector"]["vector"]}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_rename_output, "gives label, probabilities, score, not scores"),
        (_shift_labels, "its label is '.*' with score .* where its scores say"),
        (_permute_ids, "signature ids: a score is off by"),
        (_shuffle_vectors, "signature vector: a vector is off by"),
        (_lose_ids, "signature ids: no signature ids; it has serving_default"),
        (_rename_vector, "signature vector gives embedding, not vector"),
    ],
)
def test_sabotage_of_a_signature_is_caught(answering, spoil, message):
    figures = answering(spoil)
    assert not figures["passed"]
    assert any(re.search(message, text) for text in figures["failures"]), figures["failures"]


# --- the same in TensorFlow itself ------------------------------------------------------------


def _saved_again(source, target, change):
    """Save a SavedModel anew, with its signatures changed."""
    loaded = tf.saved_model.load(str(source))
    module = tf.Module()
    module.loaded = loaded
    signatures = {
        name: tf.function(
            lambda _signature=signature, **inputs: _signature(**inputs),
        ).get_concrete_function(**signature.structured_input_signature[1])
        for name, signature in loaded.signatures.items()
    }
    tf.saved_model.save(module, str(target), signatures=change(loaded, signatures))
    shutil.copytree(source / "assets", target / "assets", dirs_exist_ok=True)
    return target


def _other_output(loaded, signatures):
    old = loaded.signatures["serving_default"]

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="text")])
    def renamed(text):
        outputs = old(text=text)
        return {"label": outputs["label"], "score": outputs["score"], "odds": outputs["scores"]}

    return signatures | {"serving_default": renamed}


def _other_name(loaded, signatures):
    return {("ID" if name == "ids" else name): each for name, each in signatures.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_other_output, "gives label, odds, score, not scores"),
        (_other_name, "signature ids: no signature ids; it has ID"),
    ],
)
def test_a_renamed_output_or_signature_of_a_savedmodel(exported, tiny, tmp_path, change, message):
    path = _saved_again(exported / "savedmodel/1", tmp_path / "1", change)
    assert any(message in text for text in _check(tiny, path)["failures"])


@pytest.mark.slow
def test_a_savedmodel_tells_what_it_takes(exported, tiny):
    figures = _check(tiny, exported / "savedmodel/1", targets=tiny.scores.argmax(axis=1))
    assert figures["passed"], figures["failures"]
    assert figures["largest_score_difference"] < 1e-5
    assert figures["signatures"]["ids"]["largest_score_difference"] < 1e-5
    assert 200 < figures["runtime_memory_mb"] < figures["peak_memory_mb"]


@pytest.mark.slow
@pytest.mark.parametrize("file", ["saved_model.pb", "variables/variables.data-00000-of-00001"])
def test_a_truncated_savedmodel(exported, tiny, tmp_path, file):
    shutil.copytree(exported / "savedmodel/1", tmp_path / "1")
    path = tmp_path / "1" / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    figures = _check(tiny, tmp_path / "1")
    assert not figures["passed"] and "it is refused" in figures["failures"][0]


@pytest.mark.slow
def test_another_models_weights_and_vocabulary_in_a_savedmodel(another, tiny, tmp_path):
    other = another(seed=3)
    path = export_savedmodel(other.model, other.tokenizer, tmp_path / "base", **tiny.described)
    found = " ".join(_check(tiny, path)["failures"])
    assert "a score is off by" in found and "signature ids: a score is off by" in found
    pieces = tiny.tokenizer.vocabulary.pieces
    shuffled = type(tiny.tokenizer)(
        type(tiny.tokenizer.vocabulary)(pieces[:5] + pieces[:4:-1]), max_length=16
    )
    path = export_savedmodel(tiny.model, shuffled, tmp_path / "base", **tiny.described)
    assert "a score is off by" in _check(tiny, path)["failures"][0]


@pytest.mark.slow
def test_mixed_precision_is_judged_by_its_labels(another, tiny, tmp_path):
    right = tiny.scores.argmax(axis=1)
    other = another(seed=3).model
    for model, verdict in ((tiny.model, True), (other, False)):
        path = export_savedmodel(
            model,
            tiny.tokenizer,
            tmp_path / "base",
            precision="mixed_bfloat16",
            **tiny.described,
        )
        figures = _check(tiny, path, targets=right, max_drop=0.1)
        assert figures["passed"] is verdict, figures["failures"]
        assert figures["precision"] == "mixed_bfloat16"
    found = " ".join(figures["failures"])
    assert "rows lost (max_drop 10.0%)" in found
    assert "signature vector: the mean cosine with the Keras model's vectors is" in found
