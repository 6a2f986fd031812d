"""`tfmodel init FILE` writes a config that needs no editing.

Run: pytest tests/test_starter.py
"""

import json
import shlex
from pathlib import Path

import pytest
import small_run

from tfmodel.config import ConfigError, load_config
from tfmodel.pipeline import RunSettings
from tfmodel.starter import write_starter

WORDS = [f"{first}{second}ay" for first in "BDFHJLMNPRSTW" for second in "laoie"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)


def start(file, output=None):
    """Write a config and load it."""
    told = write_starter(file, output)
    return told, load_config(output or f"{Path(file).resolve().stem}.yaml", RunSettings)


def test_a_csv():
    small_run.write_rows(Path("train.csv"), small_run.rows())
    told, settings = start("train.csv")
    assert "120 rows, 3 classes" in told[0]
    assert told[1] == "Labels: business 40, sport 40, weather 40."
    assert told[-1] == "Written: train.yaml. Now type: tfmodel run train.yaml"
    assert settings.run == "runs/train"
    assert (settings.data.train, settings.data.text) == ("train.csv", "text")
    assert settings.train.epochs == 3 and settings.train.max_length == 32
    assert settings.export.tflite == ["float32", "float16", "int8"]
    lines = Path("train.yaml").read_text().splitlines()
    assert "# Run: tfmodel run train.yaml" in lines
    assert sum("120 rows" in line for line in lines) == 1


def test_names_that_yaml_or_the_shell_would_take_for_something_else():
    table = [(text, label, n) for n, (text, label) in enumerate(small_run.rows())]
    small_run.write_rows(Path("on: #1's.csv"), table, ("on", "yes: no", "# no"))
    told, settings = start("on: #1's.csv")
    assert settings.data.train == "on: #1's.csv"
    assert (settings.data.text, settings.data.label) == ("on", "yes: no")
    assert settings.run == "runs/on: #1's"
    assert shlex.split(told[-1].partition("type: ")[2])[-1] == "on: #1's.yaml"


def test_words_with_tags():
    sentence = "Anna\tB-PER\nreads\tO\n\n"
    Path("train.conll").write_text(sentence * 40)
    told, settings = start("train.conll")
    assert told[1] == "Labels: PER 40."
    assert (settings.task.name, settings.data.target) == ("tag", "spans")
    text = Path("train.yaml").read_text()
    assert "# tokens; 95% of the texts fit; longer ones are read in windows" in text
    assert "target" not in text and "label_noise" not in text


def test_pairs_in_json_lines():
    rows = [
        {"premise": text, "hypothesis": f"{text} again", "gold": "yes" if n % 2 else "no"}
        for n, (text, _) in enumerate(small_run.rows(60))
    ]
    Path("nli.jsonl").write_text("\n".join(map(json.dumps, rows)))
    _, settings = start("nli.jsonl", "configs/mine.yaml")
    assert settings.data.wanted() == ["premise", "hypothesis", "gold"]
    assert settings.run == "runs/mine"


def test_a_folder_per_class_by_a_dot():
    for label in ("rain", "sun"):
        Path(label).mkdir()
        for number in range(12):
            Path(label, f"{number}.txt").write_text(f"{label} number {number}")
    _, settings = start(".", "weather.yaml")
    assert settings.data.train == "."


def test_many_classes_and_rare_ones():
    rows = [(f"text {n} of class {n % 30}", f"class {n % 30}") for n in range(600)]
    rows += [(f"more of it {n}", "class 0") for n in range(200)]
    small_run.write_rows(Path("many.csv"), rows)
    told, settings = start("many.csv")
    assert settings.train.epochs > 3
    assert "class_weights: balanced" in Path("many.yaml").read_text()
    assert told[1].endswith("...")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("no.csv", None, "expected a file or folder"),
        ("empty.csv", "", "Received: an empty file"),
        ("header.csv", "text,label\n", "Received: a header alone"),
        (
            "prose.txt",
            "".join(f"{word} was a day of its own.\n" for word in WORDS),
            "expected a CSV",
        ),
    ],
)
def test_files_that_cannot_be_learned_from(file, content, words, tfmodel, tmp_path):
    if content is not None:
        Path(file).write_text(content)
    done = tfmodel("init", file)
    assert done.code == 2 and words in done.err and not done.out
    assert {path.name for path in tmp_path.iterdir()} <= {file}


def test_a_config_that_is_there_is_not_replaced(tfmodel):
    small_run.write_rows(Path("train.csv"), small_run.rows())
    Path("train.yaml").write_text("run: mine\n")
    done = tfmodel("init", "train.csv")
    assert done.code == 2
    assert "Expected a new file for the config. Received: train.yaml, which is there" in done.err
    assert "--output" in done.err
    assert Path("train.yaml").read_text() == "run: mine\n"
    with pytest.raises(ConfigError, match="a folder that can be written"):
        write_starter("train.csv", "train.csv/x.yaml")


def test_numbers_are_learned_as_numbers():
    table = [(text, f"{n / 40:.2f}") for n, (text, _) in enumerate(small_run.rows(100))]
    small_run.write_rows(Path("scores.csv"), table, ("text", "score"))
    told, settings = start("scores.csv")
    assert settings.task.name == "regress" and settings.data.target == "number"
    assert told[1] == "Labels: numbers, 1.24 in the mean."
    written = Path("scores.yaml").read_text()
    assert "label_noise" not in written and "class_weights" not in written


def test_questions_about_contexts():
    question = {"question": "Who reads?", "answers": [{"text": "Anna", "answer_start": 0}]}
    rows = [{"context": f"Anna reads page {page}.", "qas": [question]} for page in range(9)]
    Path("asked.json").write_text(json.dumps({"data": [{"paragraphs": rows}]}))
    told, settings = start("asked.json")
    assert told[1] == "Answers: spans of the contexts; every question has one."
    assert (settings.task.name, settings.data.target) == ("span", "answers")
    assert (settings.data.format, settings.train.max_length) == ("squad", 384)
    assert "label_noise" not in Path("asked.yaml").read_text()
