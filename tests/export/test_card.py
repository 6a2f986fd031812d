"""The model card: all that is known, nothing that is not, and no row of the data.

Run: pytest tests/export/test_card.py
"""

import dataclasses
import json

import keras
import pytest
import yaml

from tfmodel.evaluate import classification, labelling, regression
from tfmodel.export.card import card_files, signatures_of
from tfmodel.export.trained import Trained

SIGNATURES = {
    "serving_default": {
        "inputs": {"text": "string (rows)"},
        "outputs": {"label": "string (rows)", "scores": "float32 (rows, 3)"},
    }
}
SECRET = "a row that nobody may read"


def facts(**changes):
    """What a run would tell; `mistakes` and `correct` hold texts, as in evaluation.json."""
    evaluation = classification(
        [0, 1, 2, 2],
        keras.utils.to_categorical([0, 1, 2, 0], 3) * 0.7 + 0.1,
        ["bad", "so-so", "good"],
        texts=[SECRET] * 4,
    )
    assert SECRET in json.dumps(evaluation)
    return {
        "name": "film reviews",
        "date": "2026-11-25",
        "encoder": "hf:google/bert_uncased_L-2_H-128_A-2@abc",
        "seed": 7,
        "license": "apache-2.0",
        "language": ["en"],
        "data": {
            "raw": 24,
            "kept": 20,
            "dropped": {"duplicate": 3, "empty_text": 1},
            "parts": {
                "train": {"rows": 16, "labels": {"bad": 8, "good": 8}},
                "test": {"rows": 4, "labels": {"bad": 1, "so-so": 1, "good": 2}},
            },
            "cleaning": {"whitespace": 5, "unicode": 0},
            "source": {"train": "reviews.csv"},
        },
        "training": {"settings": {"epochs": 2, "learning_rate": 3e-5}, "figures": {"seconds": 9.0}},
        "evaluation": {"test": evaluation},
        "environment": {"tfmodel": "1.2", "tensorflow": "2.21.0", "keras": "3.15.1"},
        **changes,
    }


def written(tiny, card_facts, **changes):
    trained = Trained(tiny.model, tiny.tokenizer, facts=card_facts, **tiny.described)
    trained = dataclasses.replace(trained, **changes)
    files = card_files(trained, precision="float32", signatures=SIGNATURES)
    assert sorted(files) == ["README.md", "card.json"]
    return files["README.md"].decode(), json.loads(files["card.json"])


def test_both_files_say_what_the_run_told(tiny):
    text, card = written(tiny, facts())
    for said in (
        "# film reviews",
        "24 raw rows: 20 kept, 4 left out",
        "| `duplicate` | 3 |",
        "| `good` | 8 | 2 |",
        "| test | Accuracy | 75.00% | 30.06% to 95.44% |",
        "| seed | 7 |",
        "| `learning_rate` | 3e-05 |",
        "| tensorflow | 2.21.0 |",
        "at most 16 tokens; text is lower-cased",
        "Labels, in the order of the scores: `bad`, `so-so`, `good`.",
        "do not read them as probabilities",
        "`scores`: float32 (rows, 3)",
        "/v1/models/film_reviews:predict",
    ):
        assert said in text
    assert "`unicode`" not in text  # it changed no row
    assert card["evaluation"]["test"]["accuracy_interval"][1] == pytest.approx(0.9544, abs=1e-4)
    assert card["model"]["labels"] == ["bad", "so-so", "good"]
    assert card["model"]["encoder_shape"]["layers"] == 2
    assert card["seed"] == 7 and card["versions"]["tensorflow"] == "2.21.0"


def test_no_row_of_the_data_is_in_it(tiny):
    assert all(SECRET not in str(file) for file in written(tiny, facts()))


def test_the_same_facts_give_the_same_bytes(tiny):
    assert written(tiny, facts()) == written(tiny, facts())


def test_hugging_face_reads_its_header(tiny):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    text, _ = written(tiny, facts())
    data = huggingface_hub.ModelCard(text).data
    assert data.license == "apache-2.0" and data.language == ["en"]
    assert data.base_model == "google/bert_uncased_L-2_H-128_A-2"
    accuracy = next(each for each in data.eval_results if each.metric_type == "accuracy")
    assert accuracy.metric_value == 0.75 and accuracy.dataset_split == "test"


def test_without_facts_it_says_what_is_not_known(tiny):
    text, card = written(tiny, {})
    for part in ("How good it is", "Data", "Training"):
        assert f"## {part}\n\nNot known: whoever exported this did not say." in text
    assert "Measure it on rows of your own before you rely on it." in text
    assert card["data"] is None and card["evaluation"] is None and card["seed"] is None
    header = yaml.safe_load(text.split("---")[1])
    assert not header.keys() & {"license", "language", "base_model", "model-index", "metrics"}
    # What it was written with is known all the same.
    assert card["versions"]["keras"] == keras.__version__


def test_pairs_and_other_formats_have_limits_of_their_own(tiny, tiny_pairs):
    text, _ = written(tiny_pairs, facts())
    assert '"text_pair": "another"' in text
    assert "Phone runtimes (MediaPipe, tflite-support) cannot be asked pairs." in text
    trained = Trained(tiny.model, tiny.tokenizer, facts=facts(), **tiny.described)
    files = card_files(trained, precision="mixed_bfloat16", signatures={})
    assert "Computed in mixed\\_bfloat16" in files["README.md"].decode()


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"language": None}, "The languages of the training rows were not recorded"),
        ({"skew": {"runtimes": {"phone": {"rows": 200, "differ": 3, "share": 0.015}}}}, "3 of 200"),
        ({"skew": {"runtimes": {"phone": {"not_measured": "why"}}}}, "was not counted"),
        ({"evaluation": {}}, "no figures were given"),
    ],
)
def test_limits_follow_the_facts(tiny, changes, limit):
    assert any(limit in each for each in written(tiny, facts(**changes))[1]["limits"])


def test_dev_alone_is_said_to_flatter(tiny):
    figures = facts()["evaluation"]["test"]
    _, card = written(tiny, facts(evaluation={"dev": figures}))
    assert any("dev also chose the epoch" in limit for limit in card["limits"])


def test_labels_cannot_break_the_page(tiny):
    labels = ["a|b", "<script>", "two\nlines"]
    text, card = written(tiny, {}, labels=labels)
    assert "a\\|b" in text and "<script>" not in text.replace("`<script>`", "")
    assert "`two lines`" in text and card["model"]["labels"] == labels


def test_signatures_are_read_off_functions(tiny):
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int32, name="token_ids")])
    def serve(token_ids):
        return {"scores": tf.zeros((tf.shape(token_ids)[0], 3))}

    described = signatures_of({"ids": serve.get_concrete_function()})["ids"]
    assert described["outputs"] == {"scores": "float32 (rows, 3)"}


# --- other tasks ----------------------------------------------------------------------------


def other_card(tiny, task, evaluation, labels, decoding=None):
    trained = Trained(
        tiny.model,
        tiny.tokenizer,
        labels=labels,
        max_length=16,
        task=task,
        decoding=decoding or {},
        facts=facts(evaluation={"test": evaluation}),
    )
    files = card_files(trained, precision="float32", signatures={})
    return files["README.md"].decode(), json.loads(files["card.json"])


def test_a_card_of_numbers(tiny):
    evaluation = regression([1.0, 2.0, 3.0, 4.0, 5.0], [1.5, 2, 3, 5, 4], texts=[SECRET] * 5)
    text, card = other_card(tiny, "regress", evaluation, ["score"])
    for said in (
        "| Answers | a number for a text |",
        "| test | Spearman's correlation | 0.900 |",
        "Root mean squared error",
        '{"predictions": [1.25]}',
        "nothing keeps it inside their range",
    ):
        assert said in text, said
    assert SECRET not in text and "Labels, in the order" not in text
    assert "probabilities" not in " ".join(card["limits"])
    assert card["model"]["task"] == "regress"
    header = yaml.safe_load(text.split("---")[1])
    assert header["metrics"] == ["pearsonr", "spearmanr"]


def test_a_card_of_several_labels(tiny):
    targets = [[1, 0, 1], [0, 1, 0]]
    evaluation = labelling(targets, [[0.9, 0.1, 0.4], [0.2, 0.8, 0.1]], ["a", "b", "c"])
    text, card = other_card(
        tiny, "multilabel", evaluation, ["a", "b", "c"], {"thresholds": [0.5] * 3}
    )
    for said in (
        "| Answers | any of 3 labels for a text |",
        "| test | Micro F1 | 80.00% |",
        "each where its score reaches its threshold",
        '"labels": ["a", "", ""]',
        "Labels, in the order of the scores: `a`, `b`, `c`.",
    ):
        assert said in text, said
    assert any("Fewer than 30 test rows" in limit for limit in card["limits"])
