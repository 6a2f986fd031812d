"""The task `tag`: which token learns which tag, how windows are read, spans to the character."""

import json
import subprocess
from types import SimpleNamespace

import keras
import needs
import numpy as np
import pytest

import tfmodel
from tfmodel import ConfigError, tasks
from tfmodel.evaluate.tagging import tagging
from tfmodel.export import check_parity, export_savedmodel, export_tflite, load, predictor_of
from tfmodel.model import BertConfig, build_encoder
from tfmodel.tasks import tag
from tfmodel.tasks.tag_words import Words, places_of_words
from tfmodel.tokens import Tokenizer, Vocabulary
from tfmodel.tokens.batches import Batches, TokenValues
from tfmodel.tokens.windows import WindowRows

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", *".-,"]
PIECES += [
    *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"),
    *"北京大学她在",
    "zoe",
    "paris",
]
LABELS = ["LOC", "PER"]
TAGS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
# Accents, characters of two UTF-16 units, marks that compose, Chinese, and a text without words.
TEXTS = [
    "Zoë 😀 in Paris.",
    "她在北京大学,Zoe\u0308 在Paris",
    "",
    "👩‍👩‍👧 paris—zoe",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z " * 2,
    "�" * 3,
]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(Vocabulary(PIECES), max_length=16)


@pytest.fixture(scope="module")
def model(tokenizer):
    keras.utils.set_random_seed(0)
    shape = BertConfig(
        vocabulary_size=len(tokenizer.vocabulary),
        hidden_size=32,
        layers=2,
        heads=2,
        intermediate_size=48,
        max_positions=24,
    )
    built = tag.build(build_encoder(shape), tags=len(TAGS))
    head = built.get_layer("head")
    head.kernel.assign(head.kernel * 100)  # decided, so that every kind of tag is given
    return built


@pytest.fixture(scope="module")
def described():
    return {"labels": TAGS, "max_length": 16, "task": "tag"}


def spans_of(text, *found):
    return [(text.index(part), text.index(part) + len(part), label) for part, label in found]


def tags_of(tokenizer, text, spans):
    """What the words of a text, by their own characters, learn; None: nothing."""
    windows = WindowRows.from_texts(tokenizer, [text])
    targets = np.empty(1, object)
    targets[0] = spans
    ids, weights = tag.learned(windows, tokenizer, targets, LABELS)
    return [
        (text[windows.starts[piece] : windows.ends[piece]], TAGS[ids[token]])
        for token, piece in enumerate(windows.pieces)
        if weights[token]
    ]


def test_the_first_piece_of_each_word_learns_its_tag(tokenizer):
    text = "Zoë lives in new-york."
    spans = spans_of(text, ("Zoë", "PER"), ("new-york", "LOC"))
    assert tags_of(tokenizer, text, spans) == [
        ("Zoë", "B-PER"),
        ("l", "O"),
        ("i", "O"),
        ("n", "B-LOC"),
        ("-", "I-LOC"),
        ("y", "I-LOC"),
        (".", "O"),
    ]


def test_chinese_characters_are_words(tokenizer):
    text = "她在北京大学"
    assert tags_of(tokenizer, text, spans_of(text, ("北京大学", "LOC"))) == [
        *[("她", "O"), ("在", "O"), ("北", "B-LOC")],
        *[("京", "I-LOC"), ("大", "I-LOC"), ("学", "I-LOC")],
    ]


def test_a_span_inside_a_word_takes_all_of_it_and_is_told_of(tokenizer, caplog):
    assert tags_of(tokenizer, "unhappy a", [(2, 7, "PER")]) == [("u", "B-PER"), ("a", "O")]
    assert "1 of 1 entities overlap a longer one, begin or end inside a word" in caplog.text
    two = tags_of(tokenizer, "ab", [(0, 1, "PER"), (1, 2, "LOC")])
    assert two == [("a", "B-PER")]


def test_of_spans_that_overlap_the_longest_is_learned(tokenizer, caplog):
    spans = [(0, 1, "PER"), (0, 3, "LOC"), (2, 5, "PER"), (6, 7, "PER")]
    tags = [tag for _, tag in tags_of(tokenizer, "a b c d", spans)]
    assert tags == ["B-LOC", "I-LOC", "O", "B-PER"]
    assert "2 of 4 entities overlap a longer one" in caplog.text


def test_special_tokens_padding_and_what_another_window_reads_have_no_weight(tokenizer):
    windows = WindowRows.from_texts(tokenizer, [TEXTS[4], "a"])
    targets = tag.targets([[{"start": 0, "end": 1, "label": "PER"}]] * 2, LABELS)
    ids, weights = tag.learned(windows, tokenizer, targets, LABELS)
    assert weights.sum() == 52 + 1 and ids.max() == TAGS.index("B-PER") and (ids > 0).sum() == 2
    batches = Batches(
        windows.tokens,
        TokenValues(ids, windows.tokens.splits),
        weights=TokenValues(weights, windows.tokens.splits),
        batch_size=3,
        order="length",
    )
    total = 0
    for batch, wanted, given in batches:
        assert batch["token_ids"].shape == wanted.shape == given.shape
        assert not given[batch["padding_mask"] == 0].any()
        total += given.sum()
    assert total == 53
    spec = batches.dataset().element_spec
    assert spec[1].shape.rank == spec[2].shape.rank == 2


def test_the_loss_is_the_mean_over_the_words():
    logits = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    ids = np.array([[0, 1, 2], [3, 0, 0]])
    weights = np.array([[0, 1, 1], [1, 0, 0]], np.float32)
    given = tag.loss()(ids, logits, sample_weight=weights)
    chances = np.log(tag.values(logits))
    wanted = -(chances[0, 1, 1] + chances[0, 2, 2] + chances[1, 0, 3]) / 3
    assert float(given) == pytest.approx(float(wanted), rel=1e-5)


def test_spans_are_exact_to_the_character_whatever_answers(model, tokenizer, described, tmp_path):
    answers = {"model": predictor_of(model, tokenizer, **described)}
    answers["savedmodel"] = load(export_savedmodel(model, tokenizer, tmp_path / "s", **described))
    for length in ("fixed", "dynamic"):
        path = tmp_path / f"{length}.tflite"
        answers[length] = load(export_tflite(model, tokenizer, path, length=length, **described))
    wanted = answers["model"].values(TEXTS)
    assert [len(words.starts) for words in wanted][2:5] == [0, 4, 52]
    for name, predictor in answers.items():
        given = predictor.values(TEXTS)
        for ours, theirs in zip(wanted, given, strict=True):
            np.testing.assert_array_equal(ours.starts, theirs.starts, err_msg=name)
            np.testing.assert_array_equal(ours.ends, theirs.ends, err_msg=name)
            np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-5, err_msg=name)
        found = predictor.predict(TEXTS)
        assert sum(len(answer["entities"]) for answer in found) > 5
        for text, answer in zip(TEXTS, found, strict=True):
            assert answer["text"] == text
            for entity in answer["entities"]:
                assert text[entity["start"] : entity["end"]] == entity["text"]
                assert entity["text"].strip() == entity["text"] and entity["label"] in LABELS
                assert 0 < entity["score"] <= 1
        assert predictor.predict([]) == [] and predictor.values([]) == []
    parity = check_parity(
        answers["model"],
        {"savedmodel": tmp_path / "s", "fixed": tmp_path / "fixed.tflite"},
        TEXTS,
        measure=False,
    )
    assert parity["passed"]
    with pytest.raises(ConfigError, match="expected a model that scores labels"):
        answers["model"].probabilities(TEXTS)
    assert not answers["savedmodel"].gives_vectors


def test_a_long_text_is_answered_as_its_windows_are(model, tokenizer, described):
    (words,) = predictor_of(model, tokenizer, **described).values([TEXTS[4]])
    windows = WindowRows.from_texts(tokenizer, [TEXTS[4]], max_length=16)
    assert len(windows.tokens) > 3
    for row in range(len(windows.tokens)):
        here = slice(windows.tokens.splits[row], windows.tokens.splits[row + 1])
        batch = windows.tokens.batch(np.array([row]))
        scores = tag.values(model(batch, training=False)[0])
        for token in np.flatnonzero(windows.is_read[here]):
            piece = windows.pieces[here][token]
            np.testing.assert_allclose(words.scores[piece], scores[token], atol=1e-5)


def test_the_other_signatures_of_a_savedmodel(model, tokenizer, described, tmp_path):
    import tensorflow as tf
    import tensorflow_text  # noqa: F401

    folder = export_savedmodel(model, tokenizer, tmp_path / "s", **described)
    signatures = tf.saved_model.load(str(folder)).signatures
    assert set(signatures) == {"serving_default", "max_length", "ids"}
    limits = tf.constant([8] * len(TEXTS))
    limited = signatures["max_length"](text=tf.constant(TEXTS), max_length=limits)
    wanted = predictor_of(model, tokenizer, **{**described, "max_length": 8}).values(TEXTS)
    for row, words in enumerate(wanted):
        given = limited["scores"][row][: len(words.starts)].numpy()
        np.testing.assert_allclose(given, words.scores, atol=1e-5)
    batch = tokenizer(TEXTS)
    given = signatures["ids"](**batch)["scores"].numpy()
    expected = tag.values(model(batch, training=False))
    real = batch["padding_mask"].numpy() > 0
    np.testing.assert_allclose(given[real], expected[real], atol=1e-5)
    assert not given[~real].any()
    assert signatures["serving_default"](text=tf.constant([""]))["tags"].shape == (1, 0)
    empty = signatures["serving_default"](text=tf.constant([], tf.string))
    assert empty["scores"].shape == (0, 0, 5)


def test_a_folder_of_another_scheme_becomes_ours(model, tokenizer, tmp_path):
    others = ["O", "B-PER", "I-PER", "E-PER", "S-PER"]
    tag.save(model, tmp_path / "bioes", tokenizer=tokenizer, labels=others)
    config = json.loads((tmp_path / "bioes" / "config.json").read_text())
    assert config["architectures"] == ["BertForTokenClassification"]
    assert config["id2label"]["3"] == "E-PER" and "problem_type" not in config
    loaded = tasks.load_model(tmp_path / "bioes")
    assert (loaded.task, loaded.labels, loaded.max_length) == ("tag", others, 16)
    found = load(tmp_path / "bioes").predict(TEXTS)
    assert {e["label"] for answer in found for e in answer["entities"]} == {"PER"}
    batch = tokenizer(TEXTS)
    np.testing.assert_allclose(loaded.model(batch), model(batch), atol=1e-6)


def test_folders_that_are_none_are_refused(model, tokenizer, tmp_path):
    with pytest.raises(ValueError, match="Expected 5 tags. Received: 2"):
        tag.save(model, tmp_path / "x", tokenizer=tokenizer, labels=["O", "B-x"])
    with pytest.raises(ValueError, match="tags must be 2 or more"):
        tag.build(model.get_layer("encoder"), tags=1)
    shape = BertConfig(vocabulary_size=9, hidden_size=8, layers=1, heads=1, intermediate_size=8)
    pooled = build_encoder(shape, sequence=False)
    with pytest.raises(ValueError, match="Make it with sequence=True"):
        tag.build(pooled, tags=3)
    with pytest.raises(ConfigError, match="training rows with entities. Received: none with any"):
        tag.head_arguments([])


def test_a_head_of_tokens_that_does_not_fit_is_refused(model, tokenizer, tmp_path):
    from safetensors.numpy import load_file, save_file

    tag.save(model, tmp_path / "m", tokenizer=tokenizer, labels=TAGS)
    path = tmp_path / "m" / "model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "classifier.weight": tensors["classifier.bias"]}, path)
    with pytest.raises(ConfigError, match=r"Received: classifier.weight \(5,\)"):
        tasks.load_model(tmp_path / "m")


def test_decoding_by_hand():
    scores = np.full((5, 5), 0.05, np.float32)
    for word, best in enumerate([1, 2, 0, 4, 3]):  # I-PER out of turn
        scores[word, best] = 0.8
    scores[2, 0] = 0.9  # surer than the word behind it, which then is none
    scores[3, 0] = 0.06
    words = Words(np.arange(0, 10, 2), np.arange(1, 11, 2), scores)
    (answer,) = tag.decode([words], TAGS, texts=["a b c d e"])
    assert [(e["text"], e["label"]) for e in answer["entities"]] == [("a b", "LOC"), ("e", "PER")]
    assert answer["entities"][0]["score"] == pytest.approx(0.8)


# --- figures --------------------------------------------------------------------------------


def test_figures_by_hand():
    targets = [[(0, 3, "PER"), (4, 8, "LOC")], [], [(0, 2, "PER")]]
    given = [[(0, 3, "PER"), (4, 7, "LOC")], [(1, 2, "ORG")], [(0, 2, "PER")]]
    texts = ["Zoe Rome.", "abc", "Al"]
    found = tagging(targets, given, ["LOC", "PER"], texts=texts, origins=["a:1", "a:2", "a:3"])
    assert (found["examples"], found["entities"]) == (3, 3)
    assert (found["precision"], found["recall"], found["f1"]) == (0.5, 2 / 3, 4 / 7)
    assert found["per_class"]["PER"] == {"precision": 1, "recall": 1, "f1": 1, "support": 2}
    assert found["per_class"]["ORG"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}
    assert found["macro_f1"] == 1 / 3 and found["exact_match"] == 1 / 3
    low, high = found["f1_interval"]
    assert 0 <= low < 4 / 7 < high <= 1
    first, second = found["mistakes"]
    assert first["missing"] == ["Rome (LOC)"] and first["wrong"] == ["Rom (LOC)"]
    assert second["entities"] == [] and second["predicted"] == ["b (ORG)"]
    assert found["correct"][0]["origin"] == "a:3"
    json.dumps(found)
    with pytest.raises(ValueError, match="as many rows, at least one. Received: 1 and 0"):
        tagging([[]], [], [])
    assert tagging([[]], [[]], ["x"])["f1"] == 0.0


@pytest.mark.slow
def test_figures_are_those_of_seqeval(tmp_path):
    from tfmodel.data.targets.tagged_words import spans_of_tags

    python = needs.environment("seqeval", "seqeval==1.2.2")
    generator = np.random.default_rng(0)
    tags = ["O", "O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG"]
    right = [generator.choice(tags, generator.integers(1, 12)).tolist() for _ in range(300)]
    given = [
        [t if generator.random() < 0.7 else str(generator.choice(tags)) for t in row]
        for row in right
    ]
    script = (
        "import json, sys\n"
        "from seqeval.metrics import classification_report\n"
        "right, given = json.load(sys.stdin)\n"
        "found = classification_report(right, given, output_dict=True, zero_division=0)\n"
        "print(json.dumps(found, default=float))\n"
    )
    done = subprocess.run(
        [python, "-W", "ignore", "-c", script],
        input=json.dumps([right, given]),
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = json.loads(done.stdout)
    found = tagging([*map(spans_of_tags, right)], [*map(spans_of_tags, given)], [])
    for key in ("precision", "recall"):
        assert found[key] == pytest.approx(theirs["micro avg"][key])
    assert found["f1"] == pytest.approx(theirs["micro avg"]["f1-score"])
    assert found["macro_f1"] == pytest.approx(theirs["macro avg"]["f1-score"])
    for label, figures in found["per_class"].items():
        assert figures["f1"] == pytest.approx(theirs[label]["f1-score"])
        assert figures["precision"] == pytest.approx(theirs[label]["precision"])
        assert figures["support"] == theirs[label]["support"]


def test_what_training_shows_of_dev():
    words = Words(np.array([0, 4]), np.array([3, 8]), np.eye(5, dtype=np.float32)[[3, 1]])
    targets = tag.targets([[{"start": 0, "end": 3, "label": "PER"}]], LABELS)
    assert tag.dev_figures(targets, [words], LABELS) == {"f1": pytest.approx(2 / 3)}
    assert tag.described(targets, [words], LABELS) == {
        "labels": ["PER"],
        "predicted": ["PER, LOC"],
        "right": ["no"],
    }
    assert tag.described(targets, None, LABELS) == {"labels": ["PER"]}
    broken = words._replace(scores=np.full((2, 5), np.nan, np.float32))
    assert np.isnan(tag.dev_figures(targets, [broken], LABELS)["f1"])
    assert tfmodel.tasks.tag is tag


def test_a_text_that_begins_with_a_blank_piece_leaves_the_word_before_it_whole():
    # "ab cd", then a blank and "ef" in two pieces.
    windows = SimpleNamespace(
        starts=np.array([0, 3, 0, 0, 1]),
        ends=np.array([2, 5, 0, 1, 2]),
        splits=np.array([0, 2, 5]),
    )
    starts, ends, splits = places_of_words(windows, np.array([1, 1, 0, 1, 0], bool))
    assert (starts.tolist(), ends.tolist(), splits.tolist()) == ([0, 3, 0], [2, 5, 2], [0, 2, 3])
