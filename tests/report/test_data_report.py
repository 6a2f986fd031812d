"""A dataset's page: true to the account, with examples, safe, and whole for every kind of label.

Run: pytest tests/report/test_data_report.py
"""

import html
import json
import re
import shlex
import subprocess

import pytest
from parsed_page import Page, check_asks_nothing_of_the_network

from tfmodel.config import ConfigError
from tfmodel.data import DataSettings, prepare
from tfmodel.report import write_data_report
from tfmodel.report.label_words import label_in_words

EVIL = "<script>alert('x')</script><img src=http://evil.example/a.png onerror=alert(1)>"


def _pages(tmp_path, folder):
    path = write_data_report(folder, tmp_path / "data_report.html")
    source = path.read_text("utf-8")
    page = Page(source)
    check_asks_nothing_of_the_network(page, source)
    return page, source


@pytest.fixture(scope="module")
def messy(tmp_path_factory):
    """A dataset of two files in which much had to be left out."""
    folder = tmp_path_factory.mktemp("messy")
    rows = [f"the {food} was {taste},{'good' if taste == 'fine' else 'bad'}"
            for food in ("soup", "rice", "fish", "bread", "tea", "cake")
            for taste in ("fine", "stale")]  # fmt: skip
    train = ["review,verdict", *rows, "the soup was fine,good", "the soup was fine,bad", ",good",
             "the pie was cold, and late,bad", "x" * 90 + ",good", "what   a\u200b caf\u00e9,good",
             "the test knows this,bad"]  # fmt: skip
    (folder / "train.csv").write_text("\n".join(train) + "\n", "utf-8")
    test = "review,verdict\nthe test knows this,bad\nun tr\u00e8s bon caf\u00e9,good\n"
    (folder / "test.csv").write_bytes(test.encode("cp1252"))
    settings = DataSettings(
        train=str(folder / "train.csv"), test=str(folder / "test.csv"), text="review",
        label="verdict", encoding="detect", max_characters=80, dev_share=0.25,
    )  # fmt: skip
    prepare(settings, folder / "data", seed=7)
    return folder / "data"


@pytest.fixture
def write_dataset(tmp_path):
    """Write a folder with an account and dropped rows: all of a dataset that the page reads."""

    def write(account, dropped=()):
        folder = tmp_path / "dataset"
        folder.mkdir(exist_ok=True)
        (folder / "account.json").write_text(json.dumps(account), "utf-8")
        lines = "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in dropped)
        (folder / "dropped.jsonl").write_text(lines, "utf-8")
        return folder

    return write


def _account(*, target="class", train=(("a", 6), ("b", 2)), dropped=(), **changes):
    labels = dict(train)
    rows = sum(labels.values())
    dropped = dict(dropped)
    raw = rows + sum(dropped.values())
    file = {"path": "/home/rows/train.csv", "name": "train.csv", "as": "train", "format": "csv"}
    file |= {"raw": raw, "kept": rows, "dropped": dropped}
    return {
        "raw": raw,
        "kept": rows,
        "dropped": dropped,
        "files": [file],
        "splits": {"train": {"rows": rows, "labels": labels}},
        "cleaning": {},
        "notes": [],
        "target": target,
        "labels": list(labels),
        **changes,
    }


def test_the_page_tells_what_became_of_every_raw_row(tmp_path, messy):
    page, source = _pages(tmp_path, messy)
    for words in [
        "21 raw rows = 15 kept + 6 left out",
        "Every raw row is accounted for, file by file.",
        "19 in train.csv 2 in test.csv",
        "10 train 3 dev 2 test",
        "Same text as an earlier row, other label 1 conflicting_ label",
        # the first rows of a reason, with where they stood and why
        "the pie was cold, and late,bad 3 fields where 2 were expected train.csv:17",
        "the test knows this bad stayed: test. csv:2 train.csv:20",
        # how each file was read
        "the encoding of train. csv and test. csv was guessed",
        "Encoding utf-8 (guessed) cp1252 (guessed)",
        "Delimiter comma comma",
        "Taken from text: review, label: verdict",
        # both labels of a text that has two
        "the soup was fine good stayed · train.csv:2 bad left out · train.csv:15",
        "Nothing to do for: Characters composed (Unicode NFC).",
        "Class Train Dev Test bad 5 1 1 good 5 2 1",
        "the longest has 18.",
        "seed 7",
    ]:
        assert words in page.text, words
    assert '<mark class="before">‹U+200B›</mark>' in source
    headings = re.findall(r"<h2[^>]*>([^<]+)<", source)
    assert headings == [
        "Rows", "Left out", "Files", "Cleaning", "Conflicts", "Labels", "Lengths", "Settings",
    ]  # fmt: skip
    assert str(messy / "dropped.jsonl") in source


def test_the_command_for_all_rows_of_a_reason_finds_them(tmp_path, messy):
    _, source = _pages(tmp_path, messy)
    commands = re.findall(r"All of them: <code>(.*?)</code>", source)
    found = [
        subprocess.run(shlex.split(html.unescape(command)), capture_output=True, check=True).stdout
        for command in commands
    ]
    lines = [json.loads(line) for text in found for line in text.splitlines()]
    assert [line["reason"] for line in lines] == [
        "empty_text", "wrong_field_count", "too_long", "duplicate", "conflicting_label",
        "also_in_test",
    ]  # fmt: skip


def test_texts_labels_and_names_are_never_markup(tmp_path, write_dataset):
    file = {"path": EVIL, "name": EVIL, "as": EVIL, "format": "csv", "encoding": EVIL}
    file |= {"delimiter": EVIL, "columns": [EVIL], "raw": 12, "kept": 10, "dropped": {EVIL: 2}}
    row = {"text": EVIL, "label": EVIL, "origin": EVIL}
    account = _account(
        train=((EVIL, 6), ("{{ 7 * 7 }}", 4)),
        dropped=((EVIL, 2),),
        files=[file, file | {"encodings": {EVIL: 2}}],
        notes=[EVIL],
        cleaning={EVIL: {"rows": 1, "examples": [{"before": EVIL, "after": "", "origin": EVIL}]}},
        conflicts={
            "rows": 1,
            "examples": [{"text": EVIL, "kept": [EVIL, EVIL], "dropped": [[EVIL], EVIL]}],
        },
        near_duplicates={
            "pairs": 3, "conflicts": 1, "threshold": 0.8, "examples": [[row, row]],
            "same_label_examples": [[row, row]],
        },
        settings={"text": EVIL},
        seed=EVIL,
        target=EVIL,
    )  # fmt: skip
    dropped = [{"reason": EVIL, "origin": EVIL, "text": EVIL * 9, "label": EVIL, "detail": EVIL}]
    page, _ = _pages(tmp_path, write_dataset(account, dropped))
    assert "<script>alert('x')</script>" in page.text and "{{ 7 * 7 }}" in page.text


@pytest.mark.parametrize(
    ("target", "train", "more", "words"),
    [
        ("class", (("ham", 30), ("spam", 2)), {}, "(“ham”). Always answering “ham” would be right"),
        ("class", tuple((f"intent_{i}", 200 - i) for i in range(150)), {}, "142 more"),
        ("classes", (("joy", 3), ("love", 2)), {"unlabelled": 4}, "no class: 4 in train."),
        ("tags", (("O", 900), ("B-PER", 9)), {}, "Tag Train O 900 B-PER 9"),
        ("spans", (("PERSON", 5),), {}, "Kind of span"),
        (
            "number",
            (),
            {"numbers": {"least": 0, "mean": 2.5, "most": 5, "bins": [[0, 2.5, 3], [2.5, 5, 1]]}},
            "From 0 to 5, 2.5 on average. Train Rows 0 to 2.5 3 2.5 to 5 1",
        ),
        ("none", (), {}, "no labels"),
        ("answers", (), {"unlabelled": 2}, "answers in the second text"),
    ],
)
def test_every_kind_of_label_has_its_page(tmp_path, write_dataset, target, train, more, words):
    account = _account(target=target, train=train)
    account["splits"]["train"] |= more
    page, _ = _pages(tmp_path, write_dataset(account))
    assert words in page.text


def test_near_duplicates_stand_side_by_side_with_what_differs_marked(tmp_path, write_dataset):
    one = {"text": "How do I top up?", "label": "top_up", "origin": "a.csv:2"}
    other = {"text": "How can I top up?", "label": "limits", "origin": "a.csv:9"}
    near = {"pairs": 40, "conflicts": 7, "threshold": 0.8, "examples": [[one, other]]}
    near["same_label_examples"] = [[one, {**other, "label": "top_up"}]]
    account = _account(dropped=(("near_duplicate", 3),), near_duplicates=near)
    row = {"reason": "near_duplicate", "text": "x", "origin": "a.csv:9", "detail": "a.csv:2"}
    page, source = _pages(tmp_path, write_dataset(account, [row] * 3))
    assert "3 rows left out for sharing 80% or more" in page.text
    assert "7 of those as near have different labels" in page.text
    assert 'How <mark class="after">do</mark> I top up?' in source
    assert 'How <mark class="before">can</mark> I top up?' in source
    assert "left out · a.csv:9" in page.text  # of those with one label
    assert "stayed: a. csv:2" in page.text


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("good", "good"),
        (4.5, "4.5"),
        (None, ""),
        (["joy", "love"], "joy, love"),
        ([], "none"),
        ([{"start": 0, "end": 5, "label": "PER"}], "PER 0–5"),
        ([{"text": "in 1912", "start": 4}], "in 1912"),
        ({"words": ["Ann", "sang"], "tags": ["B-PER", "O"]}, "Ann B-PER"),
        ({"words": ["hm"], "tags": ["O"]}, "none"),
        ({"other": 1}, '{"other": 1}'),
        ("x" * 500, "x" * 119 + "…"),
    ],
)
def test_a_label_of_any_kind_is_a_few_words(label, words):
    assert label_in_words(label) == words


def test_sums_that_do_not_hold_are_said(tmp_path, write_dataset):
    account = _account(dropped=(("too_long", 2),))
    folder = write_dataset(account, [{"reason": "too_long", "text": "x"}])
    page, _ = _pages(tmp_path, folder)
    assert "dropped. jsonl holds 1 row, not those that account. json counts" in page.text
    assert "Every raw row is accounted for" not in page.text

    (folder / "dropped.jsonl").unlink()
    page, _ = _pages(tmp_path, folder)
    assert "dropped. jsonl is not there" in page.text

    page, _ = _pages(tmp_path, write_dataset({**account, "raw": 12, "kept": 9}))
    assert "12 raw rows ≠ 9 kept + 2 left out" in page.text
    assert "all files: 12 raw rows are not 9 kept and 2 left out." in page.text
    assert "The parts hold 8 rows, not the 9 that were kept." in page.text


def test_three_rows_of_a_reason_are_shown_and_lines_end_at_newlines_alone(tmp_path, write_dataset):
    texts = [f"text\u2028{number}\x85" for number in range(5)]
    dropped = [{"reason": "too_long", "origin": "a.csv:1", "text": text} for text in texts]
    account = _account(dropped=(("too_long", 5),))
    page, _ = _pages(tmp_path, write_dataset(account, dropped))
    assert "Every raw row is accounted for" in page.text
    assert [f"text {number} " in page.text for number in range(5)] == [True] * 3 + [False] * 2


def test_a_damaged_file_of_dropped_rows_costs_no_page(tmp_path, write_dataset):
    folder = write_dataset(_account(dropped=(("too_long", 1),)))
    (folder / "dropped.jsonl").write_bytes(b'{"reason": "too_long", \xff\n[]\n{"reason": "\n')
    page, _ = _pages(tmp_path, folder)
    assert "dropped. jsonl holds 3 rows" in page.text


def test_the_same_dataset_gives_the_same_bytes(tmp_path, messy):
    first = write_data_report(messy, tmp_path / "a.html").read_bytes()
    assert write_data_report(messy, tmp_path / "b.html").read_bytes() == first
    assert write_data_report(messy, tmp_path / "c.html", title="Reviews").read_bytes() != first


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_what_is_no_dataset_is_said(tmp_path, content):
    if content is not None:
        (tmp_path / "account.json").write_text(content)
    with pytest.raises(ConfigError, match="expected a dataset that tfmodel wrote, with account"):
        write_data_report(tmp_path, tmp_path / "a.html")
