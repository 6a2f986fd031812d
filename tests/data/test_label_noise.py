"""Disputed rows: shown, summed up, left out or labelled anew.

Run: pytest tests/data/test_label_noise.py
"""

import json

import numpy as np
import pytest

from tfmodel.config import ConfigError, load_config
from tfmodel.data import Split
from tfmodel.data.confident_learning import LabelIssues, find_label_issues
from tfmodel.data.label_noise import corrected, describe_issues, summarize_issues, write_issues
from tfmodel.data.settings import DataSettings

NAMES = ["bad", "good"]
LABELS = np.array([0, 0, 0, 1, 1, 1, 1], np.int32)
PROBABILITIES = np.array(
    [[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.3, 0.7], [0.1, 0.9], [0.4, 0.6], [0.95, 0.05]],
    np.float32,
)


def split(*, pairs=False):
    rows = range(len(LABELS))
    return Split(
        texts=[f"text {row} ‰" for row in rows],
        text_pairs=[f"pair {row}" for row in rows] if pairs else None,
        labels=LABELS,
        origins=[f"train.csv:{row + 2}" for row in rows],
    )


@pytest.fixture
def issues():
    return find_label_issues(LABELS, PROBABILITIES)


def test_the_file_to_review_has_what_a_reader_judges_by(issues, tmp_path):
    path = tmp_path / "review" / "label_issues.jsonl"
    write_issues(path, describe_issues(issues, split(), PROBABILITIES, NAMES))
    first, second = map(json.loads, path.read_text("utf-8").splitlines())
    assert first == {
        "text": "text 6 ‰",
        "label": "good",
        "suggested": "bad",
        "score": 0.05,
        "label_probability": 0.05,
        "suggested_probability": 0.95,
        "origin": "train.csv:8",
    }
    assert second["origin"] == "train.csv:4" and first["score"] < second["score"]
    pair = describe_issues(issues, split(pairs=True), PROBABILITIES, NAMES)[0]
    assert pair["text_pair"] == "pair 6"


def test_the_summary_adds_up(issues):
    summary = summarize_issues(issues, LABELS, PROBABILITIES, NAMES)
    assert summary["rows"] == summary["rows_by_label"].sum() == summary["estimated_rows"].sum() == 7
    assert summary["disputed"] == summary["disputed_by_label"].sum() == 2
    assert summary["estimated_wrong_share"] == pytest.approx(2 / 7)
    assert summary["agreement"] == pytest.approx(5 / 7)
    assert summary["estimated_rows"].tolist() == [[2, 1], [1, 3]]
    assert summary["noise"].sum(axis=0) == pytest.approx([1, 1])


def test_rows_are_left_out_or_labelled_anew(issues):
    rows, labels = corrected(LABELS, issues, "report")
    assert rows.tolist() == list(range(7)) and labels.tolist() == LABELS.tolist()
    rows, labels = corrected(LABELS, issues, "drop")
    assert rows.tolist() == [0, 1, 3, 4, 5] and labels.tolist() == [0, 0, 1, 1, 1]
    rows, labels = corrected(LABELS, issues, "relabel")
    assert rows.tolist() == list(range(7)) and labels.tolist() == [0, 0, 1, 1, 1, 1, 0]
    assert LABELS.tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_a_label_that_is_still_the_likeliest_stays():
    issues = LabelIssues(
        rows=np.array([0, 1]),
        scores=np.array([0.3, 0.5]),
        margins=np.array([-0.2, 0.1]),
        suggested=np.array([1, 1]),
        joint=np.full((2, 2), 0.25),
    )
    labels = np.array([0, 0, 0, 1])
    assert corrected(labels, issues, "relabel")[1].tolist() == [1, 0, 0, 1]
    assert corrected(labels, issues, "drop")[0].tolist() == [2, 3]


@pytest.mark.parametrize("action", ["drop", "relabel"])
def test_a_class_keeps_its_least_doubtful_row(action):
    issues = LabelIssues(
        rows=np.array([2, 0, 1]),
        scores=np.array([0.02, 0.05, 0.1]),
        margins=np.array([-0.9, -0.8, -0.7]),
        suggested=np.array([1, 1, 1]),
        joint=np.full((3, 3), 1 / 9),
    )
    rows, labels = corrected(np.array([0, 0, 0, 1]), issues, action)
    kept = dict(zip(rows.tolist(), labels.tolist(), strict=True))
    assert kept[1] == 0  # the others of class 0 are gone or of class 1
    assert kept == ({1: 0, 3: 1} if action == "drop" else {0: 1, 1: 0, 2: 1, 3: 1})


def test_the_settings_say_what_changes_training():
    def settings(**noise):
        return load_config({"train": "a.csv", "label_noise": noise}, DataSettings)

    assert not DataSettings(train="a.csv").changes_labels()
    assert settings().label_noise.folds == 5 and not settings().changes_labels()
    assert settings(action="drop").changes_labels()
    with pytest.raises(ConfigError, match="label_noise.folds"):
        settings(folds=1)
    with pytest.raises(ConfigError, match="Did you mean label_noise.action"):
        settings(actoin="drop")
