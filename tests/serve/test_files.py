"""Answers to streams and files, by a predictor that needs no model.

Run: pytest tests/serve/test_files.py
"""

import csv
import io
import json
from pathlib import Path

import pytest

from tfmodel.config import ConfigError
from tfmodel.serve import answer_file, answer_lines


class Lengths:
    """Answers `long` to texts of more than five characters, and remembers how it was asked."""

    def __init__(self, has_pairs=False):
        self.has_pairs = has_pairs
        self.asked = []

    def predict(self, texts, text_pairs=None):
        self.asked.append(len(texts))
        pairs = [{}] * len(texts) if text_pairs is None else [{"text_pair": p} for p in text_pairs]
        return [{"text": text, **pair, **self._answer(text)} for text, pair in zip(texts, pairs)]  # noqa: B905

    def _answer(self, text):
        long = float(len(text) > 5)
        label = "long" if long else "short"
        return {"label": label, "score": 1.0, "scores": {"short": 1 - long, "long": long}}


class Slow(io.BytesIO):
    """A stream from which a few bytes come at a time."""

    def read1(self, size=-1):
        return super().read1(3)


def texts_of(stream, predictor=None):
    return [answer["text"] for answer in answer_lines(predictor or Lengths(), stream)]


# --- lines --------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [io.BytesIO, Slow])
@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("", []),
        ("a", ["a"]),
        ("a\n", ["a"]),
        ("\n", [""]),
        ("a\n\nb\r\n\r\nc", ["a", "", "b", "", "c"]),
        ("a\u2028b\x85c\x0bd\re\n", ["a\u2028b\x85c\x0bd\re"]),
        ("ééé\n电影\n", ["ééé", "电影"]),
    ],
)
def test_every_line_is_answered_and_only_newlines_end_one(stream, content, texts):
    assert texts_of(stream(content.encode())) == texts


def test_what_has_come_is_answered_before_more_is_waited_for():
    predictor = Lengths()
    lines = answer_lines(predictor, io.BytesIO(b"a\nb\nc\n" * 100_000))
    next(lines)
    assert predictor.asked[0] > 1000  # a pipe's worth, not a line

    class Person(io.BytesIO):
        def read1(self, size=-1):
            return self.readline()

    predictor = Lengths()
    assert len(list(answer_lines(predictor, Person(b"a\nb\nc\n")))) == 3
    assert predictor.asked == [1, 1, 1]


def test_lines_before_one_that_is_not_utf8_are_answered():
    answers = answer_lines(Lengths(), io.BytesIO(b"a\nb\n\xff\nc\n"))
    assert [next(answers)["text"], next(answers)["text"]] == ["a", "b"]
    with pytest.raises(ConfigError, match="Expected UTF-8 .* Received: byte 0xff on line 3"):
        next(answers)


# --- files --------------------------------------------------------------------------------


@pytest.fixture
def answer(tmp_path):
    """Answer a file of this content; gives the rows that were written."""

    def answer_content(name, content, *, to="out.jsonl", predictor=None, **fields):
        path, output = tmp_path / name, tmp_path / to
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        count = answer_file(predictor or Lengths(), path, output, **fields)
        if output.suffix == ".jsonl":
            rows = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
        else:
            with open(output, encoding="utf-8", newline="") as file:
                delimiter = "\t" if output.suffix == ".tsv" else ","
                rows = list(csv.DictReader(file, delimiter=delimiter))
        assert count == len(rows)
        return rows

    return answer_content


def test_json_lines(answer):
    rows = answer("a.jsonl", '\ufeff{"text": "a\\nb", "id": 7}\n\n{"text": "long enough"}\n')
    assert rows == [
        {"text": "a\nb", "id": 7, "label": "short", "score": 1, "scores": {"short": 1, "long": 0}},
        {"text": "long enough", "label": "long", "score": 1, "scores": {"short": 0, "long": 1}},
    ]


def test_fields_that_the_answer_has_too_are_kept_under_another_name(answer):
    line = {"text": "other", "body": "long enough", "label": "short", "score": 3}
    (row,) = answer("a.jsonl", json.dumps(line), text="body")
    assert row["text"] == row["body"] == "long enough"
    assert (row["label"], row["input_label"]) == ("long", "short")
    assert (row["input_text"], row["input_score"]) == ("other", 3)


def test_no_column_is_lost_whatever_its_name(answer):
    content = "text,label,score_short,input_label,input_score_short\na,sport,7,long,8\n"
    for to in ("out.csv", "out.tsv", "out.jsonl"):
        (row,) = answer("a.csv", content, to=to)
        assert (row["label"], row["input_input_label"]) == ("short", "sport")
        assert (row["input_label"], row["input_score_short"]) == ("long", "8")
        if to == "out.jsonl":  # there the scores are one field, and no column is in its way
            assert (row["scores"]["short"], row["score_short"]) == (1.0, "7")
        else:
            assert (row["score_short"], row["input_input_score_short"]) == ("1.0", "7")


def test_a_field_has_one_name_in_all_rows(answer):
    """Also where the first row's two texts happen to be the same."""
    fields = {"text": "question", "text_pair": "text", "predictor": Lengths(has_pairs=True)}
    rows = answer("a.csv", "question,text\nwhy,why\nwhy,because\n", to="out.csv", **fields)
    assert [row["input_text"] for row in rows] == ["why", "because"]


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("a.csv", 'text,id\n"a, b\nc",1\n\nd,2\n', ["a, b\nc", "d"]),
        ("a.csv", "\ufeffid;text\r\n1;a, b\r\n2;c\r\n", ["a, b", "c"]),
        ("a.tsv", 'id\ttext\n1\t"so" it goes\n2\ta " b\n', ['"so" it goes', 'a " b']),
        ("a.tsv", 'id\ttext\n1\t"a ""b"""\n2\t"c"\n', ['a "b"', "c"]),
        ("a.csv", "text\na\nb\n", ["a", "b"]),
    ],
)
def test_delimiters_and_quotes_are_found_by_a_look(answer, name, content, texts):
    rows = answer(name, content)
    assert [row["text"] for row in rows] == texts
    assert all(row["label"] == "short" or len(row["text"]) > 5 for row in rows)


def test_tables_out(answer):
    content = '{"text": "a\\nb", "n": 1}\n{"text": "\\ud800", "more": 2}\n'
    for to in ("out.csv", "out.tsv"):
        first, second = answer("a.jsonl", content, to=to)
        assert [*first] == ["text", "n", "label", "score", "score_short", "score_long"]
        assert (first["text"], first["score_short"]) == ("a\nb", "1.0")
        assert (second["text"], second["n"]) == ("?", "")
    assert answer("b.csv", "text\n", to="none.jsonl") == []


def test_half_a_surrogate_pair_stays_what_it_was(answer):
    (row,) = answer("a.jsonl", '{"text": "\\ud800"}')
    assert row["text"] == "\ud800"


def test_pairs(answer):
    fields = {"text": "question", "text_pair": "answer"}
    content = "question,answer\nwhy,because\n"
    (row,) = answer("a.csv", content, predictor=Lengths(has_pairs=True), **fields)
    assert (row["text"], row["text_pair"]) == ("why", "because")
    # A model of single texts leaves such a field as it is.
    (row,) = answer("b.csv", "text,text_pair\nwhy,because\n")
    assert row["text_pair"] == "because"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", '{"text": "a"}\n{"text": 5}\n', "a.jsonl:2: expected a text in the field text."
         " Received: 5; the fields are text. Name yours with --text"),
        ("a.jsonl", '{"body": "a"}\n', "Received: no such field; the fields are body."),
        ("a.jsonl", '{"text": "a"}\n{text}\n', "a.jsonl:2: expected an object such as"),
        ("a.jsonl", '["a"]\n', "a JSON object {...} was expected, this is a list"),
        ("a.csv", "text,id\na,1\nb, c,2\n", "a.csv:3: expected 2 fields (text, id). Received: 3"),
        ("a.csv", "", "expected rows of text. Received: an empty file"),
        ("a.csv", b"text\na\nOrl\xe9ans\n", "a.csv:3: expected UTF-8. Received: byte 0xe9"),
        ("a.csv", "text\na\n".encode("utf-16"), "likely in utf-16. Convert it: iconv -f utf-16"),
    ],
)  # fmt: skip
def test_mistakes_leave_no_output(answer, tmp_path, name, content, words):
    (tmp_path / "out.jsonl").write_text("from before\n")
    with pytest.raises(ConfigError) as caught:
        answer(name, content)
    assert words in str(caught.value)
    assert (tmp_path / "out.jsonl").read_text() == "from before\n"
    assert {path.name for path in tmp_path.iterdir()} == {name, "out.jsonl"}


def test_outputs_that_cannot_be(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text\na\n")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "link.csv").symlink_to(path)
    for output, words in (
        ("folder.csv", "Received: a folder"),
        ("link.csv", "Received: the input itself"),
        ("a.csv/x.csv", "expected a folder that can be written"),
        ("a.txt", "--output must end in .jsonl, .ndjson, .csv, .tsv"),
    ):
        with pytest.raises(ConfigError) as caught:
            answer_file(Lengths(), path, tmp_path / output)
        assert words in str(caught.value)
    with pytest.raises(ConfigError, match="expected a file for --input. Received: a folder"):
        answer_file(Lengths(), tmp_path / "folder.csv", tmp_path / "o.csv")
    assert Path(path).read_text() == "text\na\n"
