import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file, save_file
from sklearn.utils.class_weight import compute_class_weight

from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.model import BertConfig, build_encoder, encoder_config, save_encoder
from tfmodel.tasks import classify
from tfmodel.tokens import Tokenizer, Vocabulary

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"]
CONFIG = BertConfig(
    vocabulary_size=len(PIECES), hidden_size=16, layers=2, heads=2, intermediate_size=32,
    max_positions=10, dropout=0.2,
)  # fmt: skip
LABELS = ["no", "ja, 是", "maybe"]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(Vocabulary(PIECES), max_length=8)


@pytest.fixture(scope="module")
def model():
    """A classifier whose weights are large enough to tell texts apart; not to be changed."""
    return new_model()


def new_model(**arguments):
    keras.utils.set_random_seed(0)
    model = classify.build(build_encoder(CONFIG, sequence=False), classes=len(LABELS), **arguments)
    random = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign_add(random.normal(size=weight.shape, scale=0.2).astype(np.float32))
    return model


@pytest.fixture(scope="module")
def batch(tokenizer):
    return tokenizer(["a b c", "d", "e f g h i j a b"], ["b", "c d", ""])


@pytest.fixture
def folder(tmp_path, model, tokenizer):
    """A saved classifier that a test may spoil."""
    return classify.save(model, tmp_path / "model", tokenizer=tokenizer, labels=LABELS)


def change(folder, **values):
    """Change `config.json`; None takes a key out."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text("utf-8")), **values}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def change_tensors(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


# --- the model ----------------------------------------------------------------------------


def test_logits_are_float32_one_a_class(model, batch):
    logits = model(batch)
    assert logits.shape == (3, 3) and logits.dtype == tf.float32
    assert np.abs(logits[0] - logits[1]).max() > 0.01
    mixed = classify.build(build_encoder(CONFIG, sequence=False, dtype="mixed_bfloat16"), classes=2)
    assert mixed(batch).dtype == tf.float32


def test_the_encoder_is_its_layer_and_may_have_a_sequence(batch):
    encoder = build_encoder(CONFIG)
    model = classify.build(encoder, classes=2, name="topics")
    assert model.name == "topics"
    assert model.get_layer("encoder") is encoder
    assert model(batch).shape == (3, 2)


def test_dropout_before_the_head_is_the_encoders_or_ones_own():
    assert new_model().get_layer("pooled_dropout").rate == 0.2
    assert new_model(dropout=0.0).get_layer("pooled_dropout").rate == 0.0


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="classes must be 2 or more. Received: 1"):
        classify.build(build_encoder(CONFIG), classes=1)


def test_an_encoder_of_another_name_could_not_be_saved():
    with pytest.raises(ValueError, match="named encoder. Received: one named 'minilm'"):
        classify.build(build_encoder(CONFIG, name="minilm"), classes=2)


def test_loss_is_cross_entropy_of_logits():
    logits = np.array([[2.0, 0.5, -1.0], [0.0, 0.0, 0.0]], np.float32)
    targets = classify.targets(np.array([0, 2], np.int64))
    assert targets.dtype == np.int32
    probabilities = classify.probabilities(logits)
    expected = -np.log(probabilities[[0, 1], targets]).mean()
    assert float(classify.loss()(targets, logits)) == pytest.approx(expected, rel=1e-6)


def test_it_trains_through_plain_keras(batch):
    model = new_model(dropout=0.0)
    model.compile("adam", loss=classify.loss(), metrics=classify.metrics(), jit_compile=False)
    history = model.fit(
        tf.data.Dataset.from_tensors((batch, [0, 1, 2])), epochs=2, verbose=0, shuffle=False
    )
    assert set(history.history) == {"loss", "accuracy"}


def test_none_of_these_has_one_logit_whatever_the_text(tokenizer, batch, tmp_path):
    model = new_model(none=1, dropout=0.0)
    model.compile("adam", loss=classify.loss(), jit_compile=False)
    model.fit(tf.data.Dataset.from_tensors((batch, [0, 1, 2])), epochs=2, verbose=0, shuffle=False)
    logits = np.asarray(model(batch))
    assert (logits[:, 1] == 0).all() and (logits[:, [0, 2]] != 0).all()
    folder = classify.save(model, tmp_path / "model", tokenizer=tokenizer, labels=LABELS)
    loaded = classify.load(folder)  # no scale there: it is in the weights
    assert np.abs(np.asarray(loaded.model(batch)) - logits).max() < 1e-6


@pytest.mark.parametrize("none", [None, 2])
def test_calibrated_scores_are_those_of_the_heads_own_weights(none, folder, batch):
    loaded = classify.load(folder)
    logits = np.array(loaded.model(batch))
    scores = classify.probabilities(np.repeat(logits, 20, axis=0))
    targets = np.random.default_rng(0).integers(0, 3, 60)
    found = classify.calibrate(loaded.model, targets, scores, none=none)
    logits[:, 2] += found.get("none_bias", 0.0)
    wanted = classify.probabilities(logits / found["temperature"])
    assert classify.values(np.asarray(loaded.model(batch))) == pytest.approx(wanted, abs=1e-6)
    assert found["temperature"] > 1.2  # targets at random deserve no sure answer
    assert ("none_bias" in found) == (none is not None)
    if none is None:
        assert found["log_loss_after"] < found["log_loss_before"]


# --- numbers ------------------------------------------------------------------------------


def test_balanced_weights_are_scikit_learns():
    random = np.random.default_rng(0)
    labels = random.choice(4, 500, p=[0.7, 0.2, 0.07, 0.03])
    expected = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    weights = classify.class_weights(labels, 4)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert weights[labels].mean() == pytest.approx(1, rel=1e-5)


def test_a_class_without_rows_weighs_nothing():
    weights = classify.class_weights(np.array([0, 0, 0, 2]), 3)
    np.testing.assert_allclose(weights, [4 / 6, 0, 2])


def test_probabilities_are_a_softmax_that_does_not_overflow():
    found = classify.probabilities([[1e4, 0.0], [0.0, 0.0], [-1e4, -1e4 + 1]])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[1, 0], [0.5, 0.5], [0.26894142, 0.7310586]], atol=1e-6)


def test_decode_names_the_best_label_and_all_scores():
    answers = classify.decode(np.array([[0.25, 0.5, 0.25], [0.75, 0.125, 0.125]]), LABELS)
    assert answers == [
        {"label": "ja, 是", "score": 0.5, "scores": {"no": 0.25, "ja, 是": 0.5, "maybe": 0.25}},
        {"label": "no", "score": 0.75, "scores": {"no": 0.75, "ja, 是": 0.125, "maybe": 0.125}},
    ]
    json.dumps(answers)  # no NumPy numbers
    assert classify.decode(np.zeros((0, 3)), LABELS) == []


# --- folders ------------------------------------------------------------------------------


def test_a_saved_classifier_answers_the_same(model, tokenizer, batch, tmp_path):
    out = classify.save(
        model, tmp_path / "model", tokenizer=tokenizer, labels=LABELS, has_pairs=True, max_length=7
    )
    loaded = tasks.load_model(out)
    np.testing.assert_array_equal(loaded.model(batch), model(batch))
    assert loaded.labels == LABELS
    assert (loaded.task, loaded.has_pairs, loaded.max_length) == ("classify", True, 7)
    assert loaded.tokenizer.vocabulary == tokenizer.vocabulary
    assert loaded.tokenizer.max_length == 7
    assert loaded.model.get_layer("pooled_dropout").rate == pytest.approx(0.2)
    assert encoder_config(loaded.model.get_layer("encoder")) == CONFIG


def test_defaults_of_a_saved_classifier(folder):
    loaded = classify.load(folder, dtype="mixed_bfloat16")
    assert (loaded.has_pairs, loaded.max_length) == (False, 8)
    embeddings = loaded.model.get_layer("encoder").get_layer("embeddings")
    assert embeddings.compute_dtype == "bfloat16"


def test_the_folder_is_one_of_transformers(folder):
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["problem_type"] == "single_label_classification"
    assert config["id2label"] == {"0": "no", "1": "ja, 是", "2": "maybe"}
    assert config["label2id"] == {"no": 0, "ja, 是": 1, "maybe": 2}
    names = load_file(folder / "model.safetensors")
    assert names["classifier.weight"].shape == (3, 16)
    assert "bert.embeddings.word_embeddings.weight" in names
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt",
    ]  # fmt: skip


def test_a_folder_without_our_own_keys(folder, model, batch):
    # As transformers writes it: no keys of ours, and where labels have no names, none.
    change(folder, tfmodel=None, problem_type=None, id2label=None, label2id=None)
    loaded = tasks.load_model(folder)
    assert loaded.labels == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert (loaded.has_pairs, loaded.max_length) == (False, 10)  # all the positions it has
    np.testing.assert_array_equal(loaded.model(batch), model(batch))


def test_labels_must_match_the_head(model, tokenizer, tmp_path):
    with pytest.raises(ValueError, match="Expected 3 labels. Received: 2"):
        classify.save(model, tmp_path / "model", tokenizer=tokenizer, labels=["a", "b"])
    assert not (tmp_path / "model").exists()


def test_an_encoder_is_not_a_classifier(model, tokenizer, tmp_path):
    out = save_encoder(model.get_layer("encoder"), tmp_path / "encoder", tokenizer=tokenizer)
    with pytest.raises(
        ConfigError,
        match=r"\(BertForSequenceClassification, .*\)\. Received: BertModel\. An encoder wi",
    ):
        tasks.load_model(out)
    with pytest.raises(ConfigError, match="a classification head. Received: no classifier.weight"):
        classify.load(out)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"problem_type": "regression"}, "problem_type regression, 3 outputs"),
        ({"problem_type": "several_labels"}, "problem_type several_labels, 3 outputs"),
        ({"id2label": {"0": "a", "1": "b"}}, "name the 3 classes .* Received: 2 labels"),
        ({"id2label": {"0": "a", "1": "b", "x": "c"}}, "name the 3 classes"),
        ({"vocab_size": 14}, r"\(15, 16\) where \(14, 16\) is expected"),
        ({"hidden_size": 8}, r"a head on 8 values. Received: classifier.weight \(3, 16\)"),
        ({"model_type": "gpt2"}, "model_type 'gpt2'"),
        ({"tfmodel": {"max_length": "16"}}, "under tfmodel .* max_length, a whole number"),
        ({"tfmodel": {"has_pairs": "false"}}, 'Received: {"has_pairs": "false"}'),
        ({"tfmodel": True}, "Received: true"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(folder, config, message):
    change(folder, **config)
    with pytest.raises(ConfigError, match=message):
        tasks.load_model(folder)


def test_a_head_that_is_no_matrix_is_refused(folder):
    change_tensors(folder, lambda all: all.update({"classifier.weight": np.zeros(3, np.float32)}))
    with pytest.raises(ConfigError, match=r"on 16 values. Received: classifier.weight \(3,\)"):
        tasks.load_model(folder)


def test_labels_that_are_numbers_are_texts(folder):
    change(folder, id2label={"0": 5, "1": 7, "2": 9})
    assert tasks.load_model(folder).labels == ["5", "7", "9"]


def test_a_head_of_one_output_gives_a_number_not_a_label(folder):
    def cut(tensors):
        tensors["classifier.weight"] = tensors["classifier.weight"][:1].copy()
        tensors["classifier.bias"] = tensors["classifier.bias"][:1].copy()

    change_tensors(folder, cut)
    change(folder, problem_type=None, id2label={"0": "LABEL_0"})
    with pytest.raises(ConfigError, match="one of several labels .* 1 outputs"):
        classify.load(folder)
    assert tasks.load_model(folder).task == "regress"  # as transformers takes it


def test_a_classifier_without_its_pooler_would_answer_at_random(folder):
    def cut(tensors):
        del tensors["bert.pooler.dense.weight"], tensors["bert.pooler.dense.bias"]

    change_tensors(folder, cut)
    with pytest.raises(ConfigError, match="the pooler that the head was trained on. Received: no"):
        tasks.load_model(folder)


def test_a_larger_vocabulary_than_the_table_is_refused(folder):
    Tokenizer(Vocabulary([*PIECES, "k"])).save(folder)
    with pytest.raises(ConfigError, match="at most 15 pieces, as config.json says. Received: 16"):
        tasks.load_model(folder)


# --- the room -----------------------------------------------------------------------------


def test_tasks_are_found_by_name():
    assert tasks.find("classify") is tasks.classify is classify
    with pytest.raises(
        ConfigError, match=r"must be one of classify, regress, .*\. Received: 'rank'"
    ):
        tasks.find("rank")
    with pytest.raises(AttributeError, match="no attribute 'rank'"):
        tasks.rank  # noqa: B018


def test_a_folder_that_names_no_architecture(folder):
    change(folder, architectures=None)
    with pytest.raises(ConfigError, match="Received: none named"):
        tasks.load_model(folder)
