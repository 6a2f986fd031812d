"""The labels that are disputed, on the page and on the terminal.

Run: pytest tests/report/test_label_noise_section.py
"""

import html
import re

import pytest

from tfmodel.report import Results, summary_text, write_report


def noise(**changes):
    first = {
        "text": "<b>Shares</b> fell.",
        "label": "card_not_working",
        "suggested": "sport",
        "score": -0.95,
        "label_probability": 0.02,
        "suggested_probability": 0.97,
        "origin": "train.csv:7",
    }
    return {
        "rows": 1200,
        "disputed": 30,
        "estimated_wrong_share": 0.031,
        "labels": ["card_not_working", "sport"],
        "rows_by_label": [700, 500],
        "disputed_by_label": [28, 2],
        "noise": [[0.99, 0.05], [0.01, 0.95]],
        "estimated_rows": [[670, 30], [7, 493]],
        "first": [first, *({**first, "text": f"text {row}"} for row in range(20))],
        **changes,
    }


def words_of(tmp_path, **results):
    page = write_report(tmp_path / "report.html", Results(title="x", **results)).read_text("utf-8")
    assert "<b>Shares" not in page
    body = page.partition("<body>")[2]
    text = re.sub(r"<[^>]+>", " ", body.replace("<wbr>", ""))
    return " ".join(html.unescape(text).split())


def test_the_page_shows_what_is_disputed(tmp_path):
    words = words_of(tmp_path, label_noise=noise())
    assert "dispute the labels of 30 of 1,200 train rows. About 3.1% of all labels" in words
    assert "<b>Shares</b> fell. labelled card_not_working 2.0% · rather sport 97.0%" in words
    assert "train.csv:7" in words and "13 more disputed labels" in words
    # The largest mix-up first, and of each class how many.
    assert "card_not_working sport 30 5.0% sport card_not_working 7 1.0%" in words
    assert "card_not_working 4.0% (28) 700 sport 0.4% (2) 500" in words


@pytest.mark.parametrize(
    ("training", "told"),
    [
        ({"rows_dropped": 1, "rows_relabelled": 0}, "1 row left out of training."),
        ({"rows_dropped": 0, "rows_relabelled": 4}, "4 rows trained on with the label suggested."),
        ({"examples": 3600}, "Training was on the labels as they are."),
        ({}, "All are in data_review/label_issues.jsonl."),
    ],
)
def test_the_page_says_what_became_of_them(tmp_path, training, told):
    assert told in words_of(tmp_path, label_noise=noise(), training=training)


def test_labels_that_nobody_disputes_take_a_sentence(tmp_path):
    clean = noise(
        disputed=0, disputed_by_label=[0, 0], first=[], estimated_rows=[[700, 0], [0, 500]]
    )
    words = words_of(tmp_path, label_noise=clean)
    assert "Of 1,200 train rows no label is disputed." in words
    assert "Disputed of each class" not in words and "What is taken for what" not in words
    assert "Labels" not in words_of(tmp_path)


def test_the_terminal_names_the_file():
    line = summary_text(Results(title="x", label_noise=noise())).splitlines()[0]
    assert line.split()[:2] == ["disputed", "30"]
    assert line.endswith("of 1,200 train rows: data_review/label_issues.jsonl")
    assert len(line) <= 80
