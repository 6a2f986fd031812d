"""CoNLL columns, SQuAD JSON, lines of text, WikiExtractor's documents, Parquet."""

import json

import pytest
from needs import package

from tfmodel.config import ConfigError
from tfmodel.data import DataSettings
from tfmodel.data.reading.readers import open_source
from tfmodel.data.rows import Reject


def read(path, **settings):
    source = open_source(path, DataSettings(train=str(path), **settings), role="train")
    rows = list(source.rows)
    good = [row for row in rows if not isinstance(row, Reject)]
    return good, [row for row in rows if isinstance(row, Reject)], source.facts


# --- CoNLL ----------------------------------------------------------------------------------

CONLL = "-DOCSTART- O\n\nAnna\tB-PER\nreads\tO\n\t\n\nNew\tB-LOC\nYork\tI-LOC\n.\tO"


@pytest.mark.parametrize("name", ["a.conll", "train.annotated"])
@pytest.mark.parametrize("content", [CONLL, CONLL.replace("\t", " "), CONLL.replace("\n", "\r\n")])
def test_conll(write, name, content):
    rows, rejects, facts = read(write(name, content))
    assert rejects == [] and facts["format"] == "conll" and facts["target"] == "tags"
    assert [(row.text, row.label["tags"]) for row in rows] == [
        ("Anna reads", ["B-PER", "O"]),
        ("New York .", ["B-LOC", "I-LOC", "O"]),
    ]
    assert [row.origin for row in rows] == [f"{name}:3", f"{name}:7"]
    assert facts["document_starts"] == 1 and facts["blank_lines"] == 2


def test_conll_with_more_columns_and_comments(write):
    content = "# id = 1\nAnna NNP x B-PER\nreads VB y O\n\n# id = 2\n# O x O\nyes UH y O\n"
    rows, _, facts = read(write("a.conll", content))
    assert [row.text for row in rows] == ["Anna reads", "# yes"]
    assert facts["comment_lines"] == 2
    names = ["text", "label", "x", "entity"]
    rows, _, _ = read(write("a.conll", content), columns=names)
    assert rows[0].label["tags"] == ["NNP", "VB"]


def test_a_damaged_sentence_costs_itself_alone(write):
    good = "Anna\tB-PER\n\n" * 3
    content = good + "no tag here\nAnna\tO\n\n" + "\tO\n\n" + "Anna\t\n\n" + good
    rows, rejects, _ = read(write("a.conll", content))
    assert len(rows) == 6
    assert [(r.reason, r.origin) for r in rejects] == [
        ("wrong_field_count", "a.conll:7"), ("malformed", "a.conll:10"), ("bad_tags", "a.conll:12"),
    ]  # fmt: skip
    assert rejects[0].text == "no tag here\nAnna\tO"


def test_what_is_no_conll_says_so(write):
    with pytest.raises(ConfigError, match="expected CoNLL columns.*begins 'one'.*`columns: "):
        read(write("a.conll", "one\ntwo\n\nthree\n"))
    with pytest.raises(
        ConfigError, match="data.target: expected tags.*conll have. Received: class"
    ):
        read(write("a.conll", CONLL), target="class")


def test_tables_are_not_taken_for_conll(write):
    content = "text\tlabel\n" + "Good film\tO\nBad film\tB-x\n" * 9
    assert read(write("a.tsv", content))[2]["format"] == "tsv"
    rows, _, facts = read(write("a", content.replace("Good", "Very good")), target="class")
    assert facts["format"] == "csv" and len(rows) == 18


# --- SQuAD ----------------------------------------------------------------------------------

CONTEXT = "Anna reads a book. The book is red."


def question(text, **more):
    return {"question": text, "id": text[:2], **more}


def squad(*questions):
    paragraphs = [{"context": CONTEXT, "qas": list(questions)}]
    return {"version": "v2.0", "data": [{"title": "t", "paragraphs": paragraphs}]}


@pytest.mark.parametrize("indent", [None, 1])
def test_squad(write, indent):
    content = squad(
        question("Who reads?", answers=[{"text": "Anna", "answer_start": 0}]),
        question("Which book?", answers=[{"text": "book", "answer_start": 23}, {"text": "red",
                                         "answer_start": 99}]),
        question("Where?", answers=[], is_impossible=True),
        question("Why?", is_impossible=True, plausible_answers=[{"text": "a", "answer_start": 3}]),
    )  # fmt: skip
    rows, rejects, facts = read(write("a.json", json.dumps(content, indent=indent)))
    assert rejects == [] and facts["format"] == "squad" and facts["target"] == "answers"
    assert [(row.text, row.text_pair) for row in rows][0] == ("Who reads?", CONTEXT)
    assert [row.label["answers"] for row in rows] == [
        [{"text": "Anna", "start": 0}],
        [{"text": "book", "start": 23}, {"text": "red", "start": 31}],
        [],
        [],
    ]
    assert rows[0].label["id"] == "Wh"
    assert rows[1].origin == "a.json:data[0].paragraphs[0].qas[1]"
    assert (facts["answers_placed"], facts["answers_moved"]) == (0, 1)


def test_contexts_with_answers_without_offsets(write):
    content = [{"context": CONTEXT, "qas": [{"question": "What?", "answer": "book"}]}] * 2
    rows, _, facts = read(write("a.json", json.dumps(content)))
    assert [row.label["answers"] for row in rows] == [[{"text": "book", "start": 13}]] * 2
    assert rows[1].label["id"] == rows[1].origin == "a.json:[1].qas[0]"
    assert facts["answers_placed"] == 2


def test_questions_that_cannot_be_rows(write):
    good = question("Who?", answers=[{"text": "Anna", "answer_start": 0}])
    content = squad(
        *[good] * 5,
        question("a?", answers=[{"text": "Bob", "answer_start": 0}]),
        {"id": "b"},
        question("c?"),
        question("d?", answers=[{"answer_start": 0}]),
    )
    content["data"] += [{"paragraphs": [{"qas": []}]}, {"paragraphs": 3}, 7]
    content["data"] += squad(*[good] * 5)["data"]
    rows, rejects, _ = read(write("a.json", json.dumps(content)))
    assert len(rows) == 10
    assert [r.reason for r in rejects] == [
        "answer_not_in_context", "malformed", "missing_field", "bad_answers",
        "malformed", "malformed", "malformed",
    ]  # fmt: skip


def test_what_is_no_squad_says_so(write):
    with pytest.raises(
        ConfigError, match=r"the field data \(data.records\). Received: the fields qa"
    ):
        read(write("a.json", '{"qas": 1}'), format="squad")
    with pytest.raises(ConfigError, match="expected SQuAD JSON.*`format:` and `records:`"):
        read(write("a.json", '[{"a": 1}]'), format="squad")


# --- documents ------------------------------------------------------------------------------


def test_a_text_a_line(write):
    path = write("a.txt", "One line, with; marks\t\n\n  two \u2028 lines\r\n \nthree")
    for settings in ({"format": "text"}, {"target": "none"}):
        rows, rejects, facts = read(path, **settings)
        assert [row.text for row in rows] == [
            "One line, with; marks\t",
            "  two \u2028 lines",
            "three",
        ]
        assert [row.origin for row in rows] == ["a.txt:1", "a.txt:3", "a.txt:5"]
        assert rejects == [] and facts["blank_lines"] == 2 and facts["target"] == "none"
        assert all(row.label is None for row in rows)


DOCUMENTS = """<doc id="1" url="?curid=1" title="Blue "x" > y">
Blue "x" > y

First line.
Second <b>line</b>.

</doc>

<doc id="2" url="?curid=2" title="Stub">
Stub

</doc>
"""


def test_wikiextractor(write):
    rows, rejects, facts = read(write("AA/wiki_00", DOCUMENTS))
    assert [row.text for row in rows] == ["First line.\nSecond <b>line</b>.", ""]
    assert [row.origin for row in rows] == ["wiki_00:1", "wiki_00:9"]
    assert rejects == [] and facts["format"] == "wikiextractor" and facts["blank_lines"] == 1


def test_a_folder_of_wikiextractor(write, tmp_path):
    for name in ("w/AB/wiki_00", "w/AA/wiki_01", "w/AA/wiki_00"):
        write(name, DOCUMENTS)
    rows, _, facts = read(tmp_path / "w")
    assert [row.origin for row in rows[::2]] == ["AA/wiki_00:1", "AA/wiki_01:1", "AB/wiki_00:1"]
    assert facts["files"] == 3 and facts["blank_lines"] == 3


def test_documents_that_do_not_close(write):
    start = '<doc id="3" url="" title="T">\n'
    content = DOCUMENTS * 2 + start + "cut short\n" + DOCUMENTS + "astray\n" + start + "the end"
    rows, rejects, _ = read(write("a", content))
    assert len(rows) == 6
    assert [(r.reason, r.text) for r in rejects] == [
        ("malformed", "cut short\n"), ("malformed", "astray"), ("malformed", "the end"),
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="expected WikiExtractor's documents.*`format: text`"):
        read(write("b", "just\nlines\n"), format="wikiextractor")


# --- Parquet --------------------------------------------------------------------------------


def write_parquet(path, columns, metadata=None):
    pyarrow = package("pyarrow")
    parquet = package("pyarrow.parquet")
    table = pyarrow.table(columns).replace_schema_metadata(metadata)
    parquet.write_table(table, path, row_group_size=7)


@pytest.mark.slow
def test_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    texts = [f"text {n}" for n in range(20)]
    bodies = [{"text": text, "tags": ["O"]} for text in texts]
    write_parquet(path, {"text": texts, "label": [n % 2 for n in range(20)], "body": bodies})
    rows, rejects, facts = read(path)
    assert [(row.text, row.label) for row in rows] == [(t, str(n % 2)) for n, t in enumerate(texts)]
    assert rejects == [] and rows[19].origin == "a.parquet:19"
    assert facts["format"] == "parquet" and facts["columns"] == ["text", "label", "body"]
    rows, _, _ = read(path, text="body.text", target="number")
    assert (rows[3].text, rows[3].label) == ("text 3", 1.0)


@pytest.mark.slow
def test_parquet_of_the_hub_names_its_classes(tmp_path):
    names = {"names": ["no", "yes"], "_type": "ClassLabel"}
    features = {"label": names, "tags": {"feature": names, "_type": "Sequence"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    path = tmp_path / "a.parquet"
    columns = {"text": ["a", "b", "c"], "label": [1, 0, -1], "tags": [[1], [0], [1]]}
    write_parquet(path, {**columns, "words": [["a"], ["b"], ["c"]]}, metadata)
    assert [row.label for row in read(path)[0]] == ["yes", "no", ""]
    rows, _, _ = read(path, text="words", label="tags", target="tags")
    assert rows[0].label == {"words": ["a"], "tags": ["yes"]}


@pytest.mark.slow
def test_parquet_mistakes(tmp_path, write):
    path = tmp_path / "a.parquet"
    write_parquet(path, {"text": ["a"], "category": ["x"]})
    with pytest.raises(ConfigError, match="expected a column label.*Received: text, category"):
        read(path)
    cut = write("cut.parquet", path.read_bytes()[:-20])
    with pytest.raises(ConfigError, match="expected a complete Parquet file"):
        read(cut)
    import gzip

    packed = write("a.parquet.gz", gzip.compress(path.read_bytes()))
    with pytest.raises(ConfigError, match="packed once more.*unpack it and name the file"):
        read(packed)
    with pytest.raises(ConfigError, match="Received: a Parquet file. Write `format: parquet`"):
        read(path, format="csv")


def test_parquet_without_pyarrow(write, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pyarrow, which reads Parquet.*'tfmodel\[parquet\]'"):
        read(write("a.parquet", b"PAR1...."))
    with pytest.raises(ConfigError, match="does not start as one. Download it again"):
        read(write("b.parquet", b"<html>"))
