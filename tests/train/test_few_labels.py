"""The parts of learning from few labels: pairs, the regression, words, what a config may say.

Run: pytest tests/train/test_few_labels.py
"""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tfmodel.config import ConfigError
from tfmodel.data import Split
from tfmodel.kinds import load_run_config
from tfmodel.model import BertConfig, build_encoder
from tfmodel.tasks import fill
from tfmodel.tokens import Tokenizer, Vocabulary
from tfmodel.train.few_labels import logistic, prompt
from tfmodel.train.few_labels.logistic import fit_logistic
from tfmodel.train.few_labels.pairs import labelled_pairs
from tfmodel.train.few_labels.prompt import word_ids
from tfmodel.train.few_labels.settings import PromptSettings
from tfmodel.train.settings import FinetuneSettings

CONTRASTIVE = {"name": "contrastive"}
PROMPT = {"name": "prompt", "template": "{text} It was [MASK]."}


def rows(labels):
    return Split(
        [f"text {number}" for number in range(len(labels))],
        None,
        np.array(labels, np.int32),
        [f"train.csv:{number}" for number in range(len(labels))],
    )


def test_pairs_are_of_one_class_and_of_two():
    split = rows([0, 0, 0, 1, 1, 2])
    pairs = labelled_pairs(split, pairs=5, seed=1)
    label = dict(zip(split.texts, split.labels.tolist(), strict=True))
    assert len(pairs.texts) == 2 * 5 * 6 and pairs.labels.mean() == 0.5
    for one, other, number in zip(pairs.texts, pairs.text_pairs, pairs.labels, strict=True):
        assert (label[one] == label[other]) == bool(number)
        assert one != other or one == "text 5"  # alone in its class
    again = labelled_pairs(split, pairs=5, seed=1)
    assert again.text_pairs == pairs.text_pairs
    assert labelled_pairs(split, pairs=5, seed=2).text_pairs != pairs.text_pairs
    with pytest.raises(ConfigError, match="two classes or more, to tell them apart. Received: 3"):
        labelled_pairs(rows([1, 1, 1]), pairs=2, seed=0)


def test_pairs_are_drawn_as_from_lists_of_rows():
    """No such list is made for each row, and what is drawn is the same."""
    labels = np.random.default_rng(3).integers(0, 4, 40)
    labels[7] = 4  # alone in its class
    pairs = labelled_pairs(rows(labels), pairs=3, seed=5)
    generator, expected = np.random.default_rng(5), []
    for row, label in enumerate(labels):
        alike = [other for other in np.flatnonzero(labels == label) if other != row] or [row]
        expected += generator.choice(alike, 3).tolist()
        expected += generator.choice(np.flatnonzero(labels != label), 3).tolist()
    assert pairs.text_pairs == [f"text {row}" for row in expected]
    assert pairs.texts == [f"text {row}" for row in np.repeat(np.arange(40), 6)]
    assert pairs.labels.tolist() == [1, 1, 1, 0, 0, 0] * 40


def objective(vectors, labels, weights, biases, penalty):
    logits = vectors @ weights + biases
    logits = logits - logits.max(axis=1, keepdims=True)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -logs[np.arange(len(labels)), labels].sum() + penalty / 2 * (weights**2).sum()


@pytest.mark.parametrize(("classes", "penalty"), [(2, 1.0), (5, 0.1)])
def test_a_regression_is_at_its_minimum(classes, penalty):
    random = np.random.default_rng(0)
    vectors = random.normal(size=(40, 6))
    labels = random.integers(0, classes, 40)
    weights, biases = fit_logistic(vectors, labels, classes=classes, penalty=penalty)
    least = objective(vectors, labels, weights, biases, penalty)
    for _ in range(20):
        step = random.normal(size=(7, classes)) * 1e-2
        other = objective(vectors, labels, weights + step[:-1], biases + step[-1], penalty)
        assert other > least
    minimize = pytest.importorskip("scipy.optimize", reason="compares with scipy").minimize

    def at(flat):
        flat = flat.reshape(7, classes)
        return objective(vectors, labels, flat[:-1], flat[-1], penalty)

    found = minimize(at, np.zeros(7 * classes), method="L-BFGS-B", tol=1e-12)
    assert least == pytest.approx(found.fun, rel=1e-6)
    np.testing.assert_allclose(weights, found.x.reshape(7, classes)[:-1], atol=2e-3)


def test_a_class_without_rows_is_never_the_answer():
    random = np.random.default_rng(0)
    vectors, labels = random.normal(size=(30, 4)), np.repeat([0, 3], 15)
    weights, biases = fit_logistic(vectors, labels, classes=5)
    two, their_biases = fit_logistic(vectors, labels // 3, classes=2)
    np.testing.assert_array_equal(weights[:, [0, 3]], two)
    np.testing.assert_array_equal(biases[[0, 3]], their_biases)
    assert not weights[:, [1, 2, 4]].any()
    logits = 1000 * random.normal(size=(200, 4)) @ weights + biases  # far from all that was seen
    assert {*logits.argmax(axis=1)} == {0, 3}
    assert (logits[:, [0, 3]].max(axis=1) - logits[:, 1] > 19).all()


def test_a_regression_says_where_its_steps_were_too_few(monkeypatch, caplog):
    vectors, labels = np.random.default_rng(0).normal(size=(30, 4)), np.repeat([0, 1, 2], 10)
    fit_logistic(vectors, labels, classes=4)
    assert not caplog.records  # the class without rows takes no steps
    monkeypatch.setattr(logistic, "_STEPS", 3)
    fit_logistic(vectors, labels, classes=3)
    assert "expected the regression to reach its minimum in 3 steps" in caplog.text


def test_each_label_has_a_word_that_is_one_piece():
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "awful", "##ly"]
    tokenizer = Tokenizer(Vocabulary(pieces), max_length=8)
    assert word_ids(tokenizer, ["good", "bad"], None).tolist() == [5, 6]
    assert word_ids(tokenizer, ["0", "1"], {"1": "Good", "0": "awful"}).tolist() == [7, 5]
    for labels, words, message in (
        (
            ["0", "1"],
            {"0": "good"},
            r"a word for each label of the data \(0, 1\). Received: none for",
        ),
        (["0"], {"0": "good", "2": "bad"}, "Received: one for 2"),
        (["0"], {"0": "awfully"}, "Received: 'awfully' for 0, which is awful ##ly. Choose"),
        (["0"], {"0": "fine"}, r"Received: 'fine' for 0, which is \[UNK\]"),
        (["0", "1"], {"0": "good", "1": "GOOD"}, "that are the piece 'good' twice"),
    ):
        with pytest.raises(ConfigError, match=message):
            word_ids(tokenizer, labels, words)


def test_a_prompt_wants_a_head_that_is_tied(tmp_path):
    """Its words are rows of the token table: another decoder would be passed over unsaid."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"]
    shape = {"hidden_size": 8, "layers": 1, "heads": 1, "intermediate_size": 8}
    encoder = build_encoder(BertConfig(vocabulary_size=7, **shape))
    tokenizer = Tokenizer(Vocabulary(pieces), max_length=16)
    fill.save(fill.build(encoder), tmp_path / "m", tokenizer=tokenizer)
    path = tmp_path / "m" / "model.safetensors"
    more = {"cls.predictions.decoder.weight": np.ones((7, 8), np.float32)}
    save_file({**load_file(path), **more}, path)
    method = PromptSettings(name="prompt", template="{text} [MASK]")
    with pytest.raises(ConfigError, match="decoder.weight: another than the token table"):
        prompt.train(
            encoder,
            tokenizer,
            rows([0, 1]),
            method=method,
            labels=["good", "bad"],
            settings=FinetuneSettings(epochs=0),
            seed=0,
            checkpoints=tmp_path,
            folder=tmp_path / "m",
        )


def config(few_labels, **sections):
    train = {"few_labels": few_labels, **sections.pop("train", {})}
    return {"run": "runs/few", "data": {"train": "t.csv"}, "train": train, **sections}


def test_a_method_says_how_long_and_how_fast():
    _, settings = load_run_config(config(CONTRASTIVE))
    assert (settings.train.epochs, settings.train.batch_size) == (1, 16)
    assert settings.train.learning_rate == 2e-5 and settings.train.few_labels.pairs == 20
    _, settings = load_run_config(config(CONTRASTIVE, train={"batch_tokens": 512, "epochs": 3}))
    assert (settings.train.epochs, settings.train.batch_size) == (3, None)
    _, settings = load_run_config(config(PROMPT))
    assert (settings.train.epochs, settings.train.patience) == (30, None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (config({"name": "contrast"}), "train.few_labels"),
        (config({"name": "prompt", "template": "It was [MASK]."}), r"expected \{text\} once"),
        (config({**CONTRASTIVE, "template": "x"}), "template"),
        (config({**PROMPT, "words": {"a": "x", "b": "x"}}), "a word of its own for each label"),
        (
            config(CONTRASTIVE, train={"class_weights": "balanced"}),
            "train.class_weights: expected a training that has it. Received: train.few_labels",
        ),
        (
            config(PROMPT, export={"keras_hub": True}),
            "export.keras_hub: expected a head on the encoder's own pooled output, .* "
            "BertTextClassifier has. Received: train.few_labels prompt, whose head reads a gap",
        ),
        (
            config(CONTRASTIVE, data={"train": "t.csv", "text_pair": "b"}),
            "data.text_pair: expected single texts where train.few_labels is contrastive",
        ),
        (
            config(PROMPT, data={"train": "t.csv", "text_pair": "b"}),
            r"must have \{text_pair\} where rows are pairs",
        ),
        (
            config(CONTRASTIVE, task={"name": "regress"}),
            "train.few_labels: expected rows with one class each. Received: task.name regress",
        ),
    ],
)
def test_mistakes_in_a_config_are_told(given, message):
    with pytest.raises(ConfigError, match=message):
        load_run_config(given)
