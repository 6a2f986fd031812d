"""KerasHub loads the preset and answers as the Keras model does, by its own formulas.

Run: pytest -m "slow or not slow" tests/export/test_keras_hub_preset.py
"""

import dataclasses
import json
import random
import sys
from pathlib import Path

import h5py
import keras
import needs
import numpy as np
import pytest

from tfmodel.config import ConfigError
from tfmodel.export import ExportSettings, ParityError, export_all, keras_hub, load, predictor_of
from tfmodel.export.keras_hub import APPROXIMATE, export_keras_hub, token_skew
from tfmodel.model.encoder import build_encoder
from tfmodel.model.sizes import BertConfig
from tfmodel.tasks import classify
from tfmodel.tokens import Tokenizer, Vocabulary


def _classifier(**changes):
    config = BertConfig(
        vocabulary_size=30, hidden_size=8, layers=1, heads=2, intermediate_size=8, max_positions=16
    )
    encoder = build_encoder(dataclasses.replace(config, **changes), sequence=False)
    return classify.build(encoder, classes=2)


def _pieces(*more):
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(20)), *more]


def _export(tiny, folder, **changes):
    return export_all(
        ExportSettings(savedmodel=False, tflite=[], keras_hub=True),
        model=tiny.model,
        tokenizer=tiny.tokenizer,
        labels=tiny.described["labels"],
        max_length=16,
        texts=tiny.texts,
        folder=folder,
        **changes,
    )


def test_without_the_extra_nothing_is_begun(tiny, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    said = []
    with pytest.raises(ConfigError, match=r"package keras-hub.*tfmodel\[keras-hub\].*keras_hub=fa"):
        _export(tiny, tmp_path, progress=said.append)
    assert said == [] and list(tmp_path.iterdir()) == []


def test_the_files_are_written_without_keras_hub(tiny, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    folder = export_keras_hub(tiny.model, tiny.tokenizer, tmp_path / "preset", **tiny.described)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())["config"]
    # An uncased BERT was trained without accents; KerasHub keeps them where nobody says so.
    assert tokenizer["lowercase"] and tokenizer["strip_accents"]
    assert json.loads((folder / "preprocessor.json").read_text())["config"]["sequence_length"] == 16
    assert json.loads((folder / "tfmodel.json").read_text())["labels"] == ["bad", "so-so", "good"]
    kernel = tiny.model.get_layer("head").kernel.numpy()
    with h5py.File(folder / "task.weights.h5") as file:
        np.testing.assert_array_equal(file["layers/dense/vars/0"], kernel)


def test_a_model_that_it_computes_as_we_do_is_held_to_float32(tmp_path):
    tokenizer = Tokenizer(Vocabulary(_pieces()))
    for activation, precision in (("gelu", APPROXIMATE), ("gelu_new", "float32")):
        folder = export_keras_hub(
            _classifier(activation=activation),
            tokenizer,
            tmp_path / activation,
            labels=["a", "b"],
            max_length=8,
        )
        assert json.loads((folder / "tfmodel.json").read_text())["precision"] == precision


@pytest.mark.parametrize(
    ("model", "pieces", "message"),
    [
        ({"activation": "relu"}, _pieces(), "with GELU .* activation relu"),
        ({"layer_norm_epsilon": 1e-3}, _pieces(), "epsilon of at most 1e-5.* 0.001"),
        ({}, _pieces("a\rb"), r"line breaks.*'a\\rb'"),
        ({}, [piece for piece in _pieces() if piece != "[MASK]"], r"with \[MASK\]"),
    ],
)
def test_what_its_bert_does_not_have_is_refused(tmp_path, model, pieces, message):
    with pytest.raises(ConfigError, match=message):
        export_keras_hub(
            _classifier(**model),
            Tokenizer(Vocabulary(pieces)),
            tmp_path / "preset",
            labels=["a", "b"],
            max_length=8,
        )
    assert not (tmp_path / "preset").exists()


# --- with the extra -----------------------------------------------------------------------


@pytest.mark.slow
def test_it_is_published_only_after_keras_hub_answered(tiny, another, tmp_path, monkeypatch):
    needs.package("keras_hub")
    parity = _export(tiny, tmp_path)
    figures = parity["artifacts"]["keras_hub"]
    assert figures["path"] == "keras_hub" and figures["precision"] == APPROXIMATE
    assert 1e-5 < figures["largest_score_difference"] < 0.01
    assert load(tmp_path / "keras_hub").labels == tiny.described["labels"]

    # Its weights are checked against KerasHub's own formulas, which no near-tie excuses.
    export = keras_hub.export_keras_hub

    def spoil(model, *rest, **described):
        folder = export(model, *rest, **described)
        with h5py.File(folder / "model.weights.h5", "r+") as file:
            bias = file["layers/transformer_encoder_1/_feedforward_output_dense/vars/1"]
            bias[:] = bias[:] + np.linspace(0, 0.05, len(bias))
        return folder

    monkeypatch.setattr(keras_hub, "export_keras_hub", spoil)
    with pytest.raises(RuntimeError, match="a preset whose scores differ by"):
        _export(tiny, tmp_path)
    monkeypatch.setattr(keras_hub, "export_keras_hub", export)

    other, write = another(seed=5), keras_hub.write_artifacts
    monkeypatch.setattr(
        keras_hub,
        "write_artifacts",
        lambda settings, trained, *rest: write(
            settings, dataclasses.replace(trained, model=other.model), *rest
        ),
    )
    with pytest.raises(ParityError, match="keras_hub: another label on"):
        _export(tiny, tmp_path)


@pytest.fixture
def preset(tiny, tmp_path):
    needs.package("keras_hub")
    return export_keras_hub(tiny.model, tiny.tokenizer, tmp_path / "preset", **tiny.described)


@pytest.mark.slow
def test_a_truncated_file_is_not_loaded(preset):
    path = preset / "model.weights.h5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ConfigError, match="KerasHub .* loads"):
        load(preset)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "other"), [("lowercase", "lower-casing"), ("strip_accents", "stripping of accents")]
)
def test_another_tokenizer_is_not_loaded(preset, key, other):
    for name in ("tokenizer.json", "preprocessor.json", "task.json"):
        content = (preset / name).read_text()
        assert f'"{key}": true' in content
        (preset / name).write_text(content.replace(f'"{key}": true', f'"{key}": false'))
    with pytest.raises(ConfigError, match=f"Received: another {other}"):
        load(preset)


@pytest.mark.slow
def test_another_vocabulary_shows_in_the_scores(tiny, preset):
    path = preset / "assets/tokenizer/vocabulary.txt"
    path.write_bytes(path.read_bytes().replace(b"good\nbad\n", b"bad\ngood\n"))
    assert np.abs(load(preset).probabilities(tiny.texts) - tiny.scores).max() > 0.01


@pytest.mark.slow
def test_pairs_are_answered_and_their_skew_is_counted(tiny_pairs, tmp_path):
    hub = needs.package("keras_hub")
    folder = export_keras_hub(
        tiny_pairs.model, tiny_pairs.tokenizer, tmp_path / "preset", **tiny_pairs.described
    )
    scores = load(folder).probabilities(tiny_pairs.texts, tiny_pairs.text_pairs)
    assert np.abs(scores - tiny_pairs.scores).max() < 0.01
    # Of two long texts it cuts another one than Hugging Face and we do.
    skew = token_skew(folder, tiny_pairs.texts, tiny_pairs.text_pairs)
    assert 0 < skew < len(tiny_pairs.texts) / 2
    assert token_skew(folder, ["good", "café"], ["bad movie", "zoo"]) == 0
    theirs = hub.models.BertTextClassifier.from_preset(str(folder), dtype="float32")
    logits = theirs.predict((["good", "zoo"], ["bad movie", "kite"]), verbose=0)
    wanted = tiny_pairs.reference.probabilities(["good", "zoo"], ["bad movie", "kite"])
    assert np.abs(classify.probabilities(logits) - wanted).max() < 0.01


@pytest.mark.slow
def test_real_weights_differ_by_the_formula_of_gelu_alone(tmp_path):
    hub = needs.package("keras_hub")
    from tfmodel.model import load_encoder
    from tfmodel.tasks import load_model

    source = needs.fetched(needs.MINILM)
    keras.utils.set_random_seed(0)
    model = classify.build(load_encoder(source, sequence=False), classes=3)
    head = model.get_layer("head")
    head.kernel.assign(head.kernel * 100)  # a new head's scores are all alike
    tokenizer = Tokenizer.from_folder(source, max_length=32)
    described = {"labels": ["a", "b", "c"], "max_length": 32}
    saved = classify.save(model, tmp_path / "exact", tokenizer=tokenizer, labels=["a", "b", "c"])
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "hidden_act": "gelu_new"}))
    words = [piece for piece in tokenizer.vocabulary.pieces[2000:9000] if piece.isalpha()]
    draw = random.Random(0)
    texts = [" ".join(draw.choices(words, k=draw.randint(1, 40))) for _ in range(100)]
    exact = predictor_of(model, tokenizer, **described).probabilities(texts)
    tanh = predictor_of(load_model(saved).model, tokenizer, **described).probabilities(texts)
    assert len(set(exact.argmax(axis=1))) > 1

    folder = export_keras_hub(model, tokenizer, tmp_path / "preset", **described)
    given = load(folder).probabilities(texts)
    assert np.abs(given - tanh).max() < 1e-4 < np.abs(given - exact).max() < 0.02
    assert np.mean(given.argmax(axis=1) == exact.argmax(axis=1)) >= 0.99
    assert token_skew(folder, [*texts, "Café ÉCOLE naïve Ångström"]) == 0
    theirs = hub.models.BertTextClassifier.from_preset(str(folder), dtype="float32")
    logits = theirs.predict(texts, verbose=0)
    assert np.abs(classify.probabilities(logits) - tanh).max() < 1e-4


@pytest.mark.slow
def test_the_lines_of_the_guide_and_of_the_card_answer(tiny, tmp_path, monkeypatch, capsys):
    needs.package("keras_hub")
    said = []
    export = tmp_path / "runs/reviews/export"
    _export(tiny, export, calibration_texts=["the\u00a0good", "good"], progress=said.append)
    monkeypatch.chdir(tmp_path)
    exec(_python(Path(__file__).parents[2] / "docs/export.md", "<!-- test of keras_hub -->\n"), {})
    scores = tiny.reference.probabilities(["The rice tasted fresh."])[0]
    label = tiny.described["labels"][scores.argmax()]
    assert capsys.readouterr().out.splitlines()[-1].split()[0] == label

    lines = _python(export / "keras_hub/README.md", "## How to call it\n\n")
    found = {}
    exec(lines.replace("this folder", str(export / "keras_hub")), found)
    scores = tiny.reference.probabilities(["some text"])
    assert np.abs(np.asarray(found["scores"]) - scores).max() < 0.01
    limits = json.loads((export / "keras_hub/card.json").read_text())["limits"]
    assert any("GELU by the tanh approximation" in limit for limit in limits)
    assert any("gives 1 of 2 training rows other tokens" in limit for limit in limits)
    assert any("gives 1 of 2 training rows" in line for line in said)


def _python(page, after):
    """The first block of Python behind a mark."""
    return page.read_text("utf-8").partition(f"{after}```python\n")[2].partition("```")[0]


@pytest.mark.slow
@pytest.mark.parametrize("pooling, normalize", [("mean", True), ("cls", False)])
def test_vectors_are_those_of_its_embedder(tiny, tmp_path, monkeypatch, pooling, normalize):
    hub = needs.package("keras_hub")
    from tfmodel.tasks import embed

    shape = BertConfig(
        vocabulary_size=len(tiny.tokenizer.vocabulary),
        hidden_size=32,
        layers=2,
        heads=2,
        intermediate_size=64,
        max_positions=24,
        activation="gelu_new",
    )
    keras.utils.set_random_seed(0)
    model = embed.build(build_encoder(shape), pooling=pooling, normalize=normalize)
    generator = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(weight + 0.2 * generator.normal(size=weight.shape))
    described = {"labels": [], "max_length": 16, "task": "embed"}
    parity = export_all(
        ExportSettings(savedmodel=False, tflite=[], keras_hub=True),
        model=model,
        tokenizer=tiny.tokenizer,
        texts=tiny.texts,
        folder=tmp_path,
        **described,
    )
    assert parity["artifacts"]["keras_hub"]["passed"]
    wanted = predictor_of(model, tiny.tokenizer, **described).vectors(tiny.texts)
    assert np.abs(load(tmp_path / "keras_hub").vectors(tiny.texts) - wanted).max() < 1e-5
    assert isinstance(
        hub.models.TextEmbedder.from_preset(str(tmp_path / "keras_hub")),
        hub.models.BertTextEmbedder,
    )
    monkeypatch.chdir(tmp_path / "keras_hub")
    found = {}
    lines = _python(Path("README.md"), "## How to call it\n\n").replace("this folder", ".")
    exec(lines, found)
    alone = predictor_of(model, tiny.tokenizer, **described).vectors(["some text"])
    assert np.abs(found["vectors"] - alone).max() < 1e-5
