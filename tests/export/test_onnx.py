"""ONNX answers as the Keras model does, and its tokenizer.json as the training's tokenizer.

Run: pytest -m "slow or not slow" tests/export/test_onnx.py
"""

import dataclasses
import importlib
import json
import random
from pathlib import Path

import keras
import needs
import numpy as np
import pytest

from tfmodel.config import ConfigError
from tfmodel.export import ExportSettings, ParityError, export_all, load
from tfmodel.export import onnx as onnx_model
from tfmodel.export.onnx import export_onnx, token_skew, tokenizer_json
from tfmodel.export.trained import Trained
from tfmodel.export.weights import read_classifier
from tfmodel.model.sizes import BertConfig
from tfmodel.tasks import classify
from tfmodel.tokens import Tokenizer, Vocabulary

AWKWARD = [
    "",
    "Café ÉCOLE naïve",
    "[SEP] a [MASK]",
    "电影 很好",
    "a\tb\nc\u00a0d",
    "x" * 120,
    "½ … ﬁ",
]


@pytest.fixture
def without(monkeypatch):
    """Only a package of the extra is missing, whatever is installed."""

    def hide(missing):
        def find(name):
            if name == missing:
                raise ImportError(f"No module named {name!r}")

        monkeypatch.setattr(importlib, "import_module", find)

    return hide


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "tokenizers"])
def test_a_missing_package_is_named_with_its_extra(without, package):
    without(package)
    with pytest.raises(ConfigError, match=rf"package {package}\..*tfmodel\[onnx\].*export.onnx"):
        onnx_model.require_extra(ExportSettings(onnx=True))
    onnx_model.require_extra(ExportSettings())


def test_without_the_extra_nothing_is_begun(tiny, monkeypatch, tmp_path):
    def refuse(package):
        raise ConfigError(f"{package} is missing")

    monkeypatch.setattr(onnx_model, "import_extra", refuse)
    said = []
    with pytest.raises(ConfigError, match="onnx is missing"):
        _export(tiny, tmp_path, progress=said.append)
    assert said == [] and list(tmp_path.iterdir()) == []


def _export(tiny, folder, **changes):
    return export_all(
        ExportSettings(savedmodel=False, tflite=[], onnx=True),
        model=tiny.model,
        tokenizer=tiny.tokenizer,
        labels=tiny.described["labels"],
        max_length=16,
        texts=tiny.texts,
        folder=folder,
        **changes,
    )


def test_without_the_key_nothing_is_written(tiny, tmp_path):
    trained = Trained(tiny.model, tiny.tokenizer, **tiny.described)
    assert onnx_model.write_artifacts(ExportSettings(), trained, tmp_path, print) == {}


def test_another_model_is_refused_in_words():
    inputs = keras.Input((None,), dtype="int32", name="token_ids")
    with pytest.raises(ConfigError, match="made by tfmodel.*layers token_ids, embed.*SavedModel"):
        read_classifier(
            keras.Model(inputs, keras.layers.Embedding(9, 2, name="embed")(inputs)), door="ONNX"
        )


def test_the_tokenizer_file_has_the_length_and_the_case(tiny):
    written = tokenizer_json(tiny.tokenizer, max_length=12)
    assert written["truncation"]["max_length"] == 12
    assert written["normalizer"]["lowercase"] is True
    assert written["model"]["vocab"]["good"] == tiny.tokenizer.vocabulary.ids["good"]


# --- with the extra -----------------------------------------------------------------------


@pytest.fixture
def written(tiny, tmp_path):
    needs.package("onnx"), needs.package("onnxruntime"), needs.package("tokenizers")
    return export_onnx(tiny.model, tiny.tokenizer, tmp_path / "onnx", **tiny.described)


@pytest.mark.slow
def test_it_answers_as_the_model(tiny, written):
    predictor = load(written)
    assert predictor.kind == "onnx" and predictor.labels == tiny.described["labels"]
    scores = predictor.probabilities(tiny.texts)
    assert np.abs(scores - tiny.scores).max() < 1e-5
    assert predictor.predict(["good"])[0]["label"] in predictor.labels
    assert sorted(path.name for path in written.iterdir()) == [
        "config.json", "labels.txt", "model.onnx", "tfmodel.json", "tokenizer.json",
        "tokenizer_config.json", "vocab.txt",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_every_activation_and_any_shape_of_batch(activation, tmp_path):
    onnx, runtime = needs.package("onnx"), needs.package("onnxruntime")
    from tfmodel.model.encoder import build_encoder

    config = BertConfig(
        vocabulary_size=50,
        hidden_size=32,
        layers=3,
        heads=4,
        intermediate_size=48,
        max_positions=20,
        activation=activation,
        layer_norm_epsilon=1e-5,
    )
    keras.utils.set_random_seed(1)
    model = classify.build(build_encoder(config), classes=4)
    for weight in model.trainable_weights:
        weight.assign(weight + 0.2 * np.random.default_rng(2).normal(size=weight.shape))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(45))]
    folder = export_onnx(
        model, Tokenizer(Vocabulary(pieces)), tmp_path / "m", labels=list("abcd"), max_length=20
    )
    proto = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(proto, full_check=True)
    assert {node.domain for node in proto.graph.node} == {""}  # standard operators alone
    session = runtime.InferenceSession(folder / "model.onnx")
    generator = np.random.default_rng(0)
    for rows, length in ((1, 2), (1, 20), (5, 7)):
        ids = generator.integers(0, 50, (rows, length))
        mask = (np.arange(length) < generator.integers(1, length + 1, (rows, 1))).astype(np.int64)
        segments = generator.integers(0, 2, (rows, length))
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments}
        (given,) = session.run(["logits"], feed)
        batch = {"token_ids": ids, "padding_mask": mask, "segment_ids": segments}
        wanted = model({k: v.astype(np.int32) for k, v in batch.items()}, training=False)
        assert np.abs(given - np.asarray(wanted)).max() < 1e-4


@pytest.mark.slow
def test_the_tokenizer_file_gives_the_ids_of_training(tiny, tiny_pairs, written, tmp_path):
    assert token_skew(written, tiny.texts + AWKWARD) == 0
    pairs = export_onnx(
        tiny_pairs.model, tiny_pairs.tokenizer, tmp_path / "p", **tiny_pairs.described
    )
    assert token_skew(pairs, tiny_pairs.texts, tiny_pairs.text_pairs) == 0
    assert np.abs(_scores(pairs, tiny_pairs) - tiny_pairs.scores).max() < 1e-5


def _scores(folder, tiny):
    return load(folder).probabilities(tiny.texts, tiny.text_pairs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "before", "after", "message"),
    [
        ("model.onnx", b"", None, "ONNX Runtime .* loads"),
        ("tokenizer.json", b'"lowercase": true', b'"lowercase": false', "Received: another"),
        ("vocab.txt", b"good\nbad\n", b"bad\ngood\n", "Received: another"),
        ("tokenizer.json", b"", None, "none that can be read"),
    ],
    ids=["truncated", "case", "vocabulary", "damaged"],
)
def test_what_was_spoiled_is_not_loaded(written, file, before, after, message):
    content = (written / file).read_bytes()
    spoiled = content[: len(content) // 2] if after is None else content.replace(before, after)
    assert spoiled != content
    (written / file).write_bytes(spoiled)
    with pytest.raises(ConfigError, match=message):
        load(written)


@pytest.mark.slow
def test_other_weights_do_not_pass_the_gate(tiny, another, tmp_path, monkeypatch):
    needs.package("onnx"), needs.package("onnxruntime"), needs.package("tokenizers")
    parity = _export(tiny, tmp_path)
    assert parity["artifacts"]["onnx"]["path"] == "onnx"
    assert parity["artifacts"]["onnx"]["largest_score_difference"] < 1e-5
    assert load(tmp_path / "onnx").kind == "onnx"

    other, write = another(seed=5), onnx_model.write_artifacts
    monkeypatch.setattr(
        onnx_model,
        "write_artifacts",
        lambda settings, trained, *rest: write(
            settings, dataclasses.replace(trained, model=other.model), *rest
        ),
    )
    before = (tmp_path / "onnx/model.onnx").read_bytes()
    with pytest.raises(ParityError, match="onnx: a score is off"):
        _export(tiny, tmp_path)
    assert (tmp_path / "onnx/model.onnx").read_bytes() == before


@pytest.mark.slow
def test_real_weights_answer_the_same_without_tensorflow(tmp_path):
    """MiniLM with a head, asked with `tokenizers` and ONNX Runtime as a user would."""
    runtime, tokenizers = needs.package("onnxruntime"), needs.package("tokenizers")
    needs.package("onnx")
    from tfmodel.export import predictor_of
    from tfmodel.model import load_encoder

    folder = needs.fetched(needs.MINILM)
    keras.utils.set_random_seed(0)
    model = classify.build(load_encoder(folder, sequence=False), classes=3)
    head = model.get_layer("head")
    head.kernel.assign(head.kernel * 100)  # a new head's scores are all alike
    tokenizer = Tokenizer.from_folder(folder, max_length=64)
    described = {"labels": ["a", "b", "c"], "max_length": 64, "has_pairs": True}
    served = export_onnx(model, tokenizer, tmp_path / "served", **described)
    words = [piece for piece in tokenizer.vocabulary.pieces[2000:9000] if piece.isalpha()]
    draw = random.Random(0)
    firsts, seconds = (
        [" ".join(draw.choices(words, k=draw.randint(1, 60))) for _ in range(100)] for _ in "ab"
    )
    wanted = predictor_of(model, tokenizer, **described).probabilities(firsts, seconds)
    assert len(set(wanted.argmax(axis=1))) > 1

    ours = tokenizers.Tokenizer.from_file(str(served / "tokenizer.json"))
    encoded = ours.encode_batch(list(zip(firsts, seconds, strict=True)))
    session = runtime.InferenceSession(served / "model.onnx")
    feed = {
        "input_ids": [row.ids for row in encoded],
        "attention_mask": [row.attention_mask for row in encoded],
        "token_type_ids": [row.type_ids for row in encoded],
    }
    (logits,) = session.run(["logits"], {name: np.array(rows) for name, rows in feed.items()})
    assert np.abs(classify.probabilities(logits) - wanted).max() < 1e-5
    names = json.loads((served / "config.json").read_text())["id2label"]
    assert [names[str(index)] for index in range(3)] == ["a", "b", "c"]


@pytest.mark.slow
def test_the_lines_of_the_guide_and_of_the_card_answer(tiny, tmp_path, monkeypatch, capsys):
    needs.package("onnx"), needs.package("onnxruntime"), needs.package("tokenizers")
    _export(tiny, tmp_path / "runs/reviews/export")
    monkeypatch.chdir(tmp_path)
    exec(_python(Path(__file__).parents[2] / "docs/export.md", "<!-- test of onnx -->\n"), {})
    scores = tiny.reference.probabilities(["The rice tasted fresh."])[0]
    assert capsys.readouterr().out.split()[0] == tiny.described["labels"][scores.argmax()]

    monkeypatch.chdir("runs/reviews/export/onnx")
    found = {}
    exec(_python(Path("README.md"), "## How to call it\n\n"), found)
    scores = tiny.reference.probabilities(["some text"])
    assert np.abs(classify.probabilities(found["logits"]) - scores).max() < 1e-5
    assert json.loads(Path("card.json").read_text())["model"]["labels"] == ["bad", "so-so", "good"]


def _python(page, after):
    """The first block of Python behind a mark."""
    return page.read_text("utf-8").partition(f"{after}```python\n")[2].partition("```")[0]
