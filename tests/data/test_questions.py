"""Questions about contexts: what becomes of good rows and of bad ones."""

import json
from pathlib import Path

import pytest

from tfmodel.config import ConfigError
from tfmodel.data import DataSettings, prepare
from tfmodel.run_folder import read_json

CONTEXT = "Zoë 😀 met Anna in 北京. Anna left."


def asked(question, *answers, context=CONTEXT):
    found = [{"text": text, "answer_start": start} for text, start in answers]
    return {"context": context, "qas": [{"question": question, "answers": found}]}


def prepared(folder: Path, rows, **settings):
    (folder / "asked.json").write_text(json.dumps({"data": [{"paragraphs": rows}]}))
    chosen = {"format": "squad", "workers": 0, "split": "hash", **settings}
    return prepare(
        DataSettings(train=str(folder / "asked.json"), **chosen), folder / "data", seed=0
    )


def test_each_mistake_is_counted_and_the_row_kept_with_its_reason(tmp_path):
    good = [asked(f"Who is it, number {n}?", ("Zoë", 0)) for n in range(40)]
    dataset = prepared(
        tmp_path,
        [
            *good,
            asked("Where?", ("北京", 18)),
            asked("Moved, where?", ("北京", 3)),  # it stands once
            asked("Two places, who?", ("Anna", 3)),
            asked("Nobody of this name?", ("Bob", 3)),
            asked("", ("Zoë", 0)),
            asked("Without a context?", context=" "),
            asked("Who left?", ("Anna", 22), ("Anna left", 22)),
            asked("Without an answer?"),
        ],
    )
    assert dataset.target == "answers" and dataset.has_pairs
    reasons = {"answer_start_differs": 1, "answer_not_in_context": 1, "empty_text": 2}
    assert dict(dataset.account["dropped"]) == reasons
    (file,) = dataset.account["files"]
    assert (file["answers_placed"], file["answers_moved"]) == (0, 1)
    dropped = tmp_path / "data/dropped.jsonl"
    kept = [json.loads(line) for line in dropped.read_text().splitlines()]
    assert len(kept) == 4 and all(row["origin"].startswith("asked.json:data") for row in kept)
    splits = [dataset.split(part) for part in dataset.counts]
    answers = {
        text: label["answers"]
        for split in splits
        for text, label in zip(split.texts, split.labels, strict=True)
    }
    assert answers["Moved, where?"] == answers["Where?"] == [{"text": "北京", "start": 18}]
    assert answers["Without an answer?"] == []
    assert [answer["text"] for answer in answers["Who left?"]] == ["Anna", "Anna left"]
    for split in splits:
        for label, context in zip(split.labels, split.text_pairs, strict=True):
            for answer in label["answers"]:
                end = answer["start"] + len(answer["text"])
                assert context[answer["start"] : end] == answer["text"]
    assert read_json(tmp_path / "data/account.json")["raw"] == 48


def test_lines_with_a_question_a_context_and_an_answer(tmp_path):
    rows = [
        {"question": f"Who, {n}?", "context": CONTEXT, "answer": "Anna", "start": 22 if n else 3}
        for n in range(30)
    ]
    rows += [{"question": f"No, {n}?", "context": CONTEXT, "answer": ""} for n in range(30)]
    (tmp_path / "asked.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = DataSettings(
        train=str(tmp_path / "asked.jsonl"),
        text="question",
        text_pair="context",
        label="answer",
        target="answers",
        split="hash",
        workers=0,
    )
    dataset = prepare(settings, tmp_path / "data", seed=0)
    assert dict(dataset.account["dropped"]) == {"answer_start_differs": 1}
    labels = [label["answers"] for part in dataset.counts for label in dataset.split(part).labels]
    assert labels.count([{"text": "Anna", "start": 22}]) == 29 and labels.count([]) == 30


def test_a_file_of_answers_that_stand_nowhere_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="answer_not_in_context: 'Bob' does not stand there"):
        prepared(tmp_path, [asked(f"Who, {n}?", ("Bob", 0)) for n in range(30)])


def test_answers_as_lists_of_texts_and_starts_are_read_in_articles_too(tmp_path):
    question = {"question": "Who?", "answers": {"text": ["Anna"], "answer_start": [9]}}
    none = {"question": "Who else?", "answers": {"text": [], "answer_start": []}}
    rows = [{"context": f"{n} is for Anna now", "qas": [question, none]} for n in range(10, 30)]
    (tmp_path / "a.json").write_text(json.dumps({"data": [{"paragraphs": rows}]}))
    settings = DataSettings(train=str(tmp_path / "a.json"), workers=0)
    account = prepare(settings, tmp_path / "data", seed=0).account
    assert account["kept"] == 40 and account["files"][0]["answers_moved"] == 20


def test_questions_are_pairs_with_their_contexts_where_answers_are_not_read(tmp_path):
    rows = [{"context": f"{n} is here", "qas": [{"question": f"{n}?"}]} for n in range(20)]
    rows[0]["qas"][0]["answers"] = [{"text": "nowhere", "answer_start": 7}]
    (tmp_path / "a.json").write_text(json.dumps({"data": [{"paragraphs": rows}]}))
    settings = DataSettings(
        train=str(tmp_path / "a.json"), format="squad", target="none", workers=0
    )
    dataset = prepare(settings, tmp_path / "data", seed=0)
    assert dataset.account["kept"] == 20 and "answers_moved" not in dataset.account["files"][0]
    split = dataset.split("train")
    assert all(b == f"{a[:-1]} is here" for a, b in zip(split.texts, split.text_pairs, strict=True))
