"""Tasks that answer tokens, or give vectors, in ONNX: as the Keras model, by way of its tokenizer.

Run: pytest -m "slow or not slow" tests/export/test_onnx_tasks.py
"""

import json
import string

import keras
import needs
import numpy as np
import pytest

from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.export import ExportSettings, export_all, load, predictor_of
from tfmodel.export.onnx import token_skew
from tfmodel.model.encoder import build_encoder
from tfmodel.model.sizes import BertConfig
from tfmodel.tokens import Tokenizer, Vocabulary

TEXTS = [
    "the good movie was very bad",
    "good",
    "",
    "Café zoo kite 电影很好",
    "e\u0301 [SEP] a\tb",
    "kite " * 30,
    "the zoo was good, the movie was bad " * 4,
    "very very bad kite",
]
QUESTIONS = ["was the movie good", "bad", "very very good kite zoo", "?"] * 2
MAX_LENGTH = 16
LETTERS = string.ascii_lowercase
PIECES = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *LETTERS,
    *("##" + letter for letter in LETTERS),
    *("good", "bad", "movie", "the", "was", "very", "电", "影", "好", "坏", ".", ","),
]
# task: how its model is built, labels, decoding
BUILT = {
    "tag": (
        lambda encoder: tasks.tag.build(encoder, tags=5),
        ["O", "B-x", "I-x", "B-y", "I-y"],
        {},
    ),
    "span": (
        tasks.span.build,
        ["start", "end"],
        {"doc_stride": 4, "max_query_length": 6, "max_answer_length": 5, "null_threshold": 0.0},
    ),
    "embed": (tasks.embed.build, [], {}),
    "embed_cls": (lambda e: tasks.embed.build(e, pooling="cls", normalize=False), [], {}),
}


@pytest.fixture(scope="module", params=BUILT)
def exported(request, tmp_path_factory):
    """Task, Keras predictor, and what `export_all` published of it."""
    for package in ("onnx", "onnxruntime", "tokenizers"):
        needs.package(package)
    build, labels, decoding = BUILT[request.param]
    task = request.param.partition("_")[0]
    keras.utils.set_random_seed(1)
    shape = BertConfig(
        vocabulary_size=len(PIECES),
        hidden_size=32,
        layers=2,
        heads=2,
        intermediate_size=64,
        max_positions=MAX_LENGTH,
    )
    model = build(build_encoder(shape))
    generator = np.random.default_rng(2)
    for weight in model.trainable_weights:
        weight.assign(weight + 0.2 * generator.normal(size=weight.shape))
    tokenizer = Tokenizer(Vocabulary(PIECES), max_length=MAX_LENGTH)
    described = {"labels": labels, "max_length": MAX_LENGTH, "task": task}
    folder = tmp_path_factory.mktemp(request.param)
    parity = export_all(
        ExportSettings(savedmodel=False, tflite=[], onnx=True),
        model=model,
        tokenizer=tokenizer,
        decoding=decoding,
        texts=QUESTIONS if task == "span" else TEXTS,
        text_pairs=TEXTS if task == "span" else None,
        folder=folder,
        **described,
    )
    reference = predictor_of(
        model, tokenizer, has_pairs=task == "span", decoding=decoding, **described
    )
    return task, reference, folder / "onnx", parity


@pytest.mark.slow
def test_it_answers_as_the_model(exported):
    task, reference, folder, parity = exported
    assert parity["artifacts"]["onnx"]["passed"]
    artifact = load(folder)
    assert (artifact.kind, artifact.task) == ("onnx", task)
    columns = (QUESTIONS, TEXTS) if task == "span" else (TEXTS,)
    given, wanted = (each.predict(*columns) for each in (artifact, reference))
    for one, other in zip(given, wanted, strict=True):
        if task == "tag":
            places = [
                [(e["start"], e["end"], e["label"]) for e in a["entities"]] for a in (one, other)
            ]
            assert places[0] == places[1]
        elif task == "span":
            assert one["answer"] == other["answer"] and one["start"] == other["start"]
            assert one["score"] == pytest.approx(other["score"], abs=1e-5)
        else:
            assert np.allclose(one["vector"], other["vector"], atol=1e-5)
    assert token_skew(folder, *columns) == 0


@pytest.mark.slow
def test_hugging_face_tools_read_it(exported, monkeypatch):
    """`tokenizers` and ONNX Runtime alone, by the lines of the card."""
    onnx = needs.package("onnx")
    task, reference, folder, _ = exported
    proto = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(proto, full_check=True)
    assert {node.domain for node in proto.graph.node} == {""}
    config = json.loads((folder / "config.json").read_text())
    architecture = tasks.find(task).ARCHITECTURE if task != "embed" else "BertModel"
    assert config["architectures"] == [architecture]
    monkeypatch.chdir(folder)
    found = {}
    call = (
        (folder / "README.md").read_text("utf-8").partition("## How to call it\n\n```python\n")[2]
    )
    exec(call.partition("```")[0], found)
    if task == "tag":
        assert [*config["id2label"].values()] == reference.labels
        scores = tasks.tag.values(found["logits"])[0, 1:-1]
        (words,) = reference.values(["some text"])
        begins = [0, found["rows"][0].word_ids.index(1) - 1]
        assert np.abs(scores[begins] - words.scores).max() < 1e-5
    elif task == "span":
        sizes = (len(found["rows"]), len(found["rows"][0]))
        assert found["start_logits"].shape == found["end_logits"].shape == sizes
    else:
        assert np.abs(found["sentence_embedding"] - reference.vectors(["some text"])).max() < 1e-5


@pytest.mark.slow
def test_its_tokenizer_cuts_long_texts_into_windows_without_a_gap(exported):
    task, reference, folder, _ = exported
    if task not in ("tag", "span"):
        pytest.skip("one row a text")
    theirs = needs.package("tokenizers").Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = TEXTS[6]
    row = theirs.encode(text) if task == "tag" else theirs.encode(QUESTIONS[0], text)
    rows = [row, *row.overflowing]
    covered = {
        place
        for each in rows
        for (start, end), sequence in zip(each.offsets, each.sequence_ids, strict=True)
        if sequence == (task == "span")
        for place in range(start, end)
    }
    assert len(rows) > 2 and all(len(each) <= MAX_LENGTH for each in rows)
    assert covered == {place for place, letter in enumerate(text) if letter != " "}


def test_a_preset_of_keras_hub_has_no_place_for_tokens(tmp_path):
    for task in ("tag", "span"):
        with pytest.raises(ConfigError, match=f"a task that KerasHub has. Received: {task}"):
            export_all(
                ExportSettings(keras_hub=True),
                model=None,
                tokenizer=None,
                labels=[],
                max_length=16,
                texts=["a"],
                folder=tmp_path,
                task=task,
            )
