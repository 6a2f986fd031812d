"""Readers: every format gives the rows that stand in the file, and counts what it cannot read."""

import json
import logging

import pytest

from tfmodel.config import ConfigError
from tfmodel.data import DataSettings
from tfmodel.data.reading.readers import open_source
from tfmodel.data.rows import Reject, Row


def read(path, **settings):
    """Read all of a file: (text, label) of each row, rejects, and the facts."""
    source = open_source(path, DataSettings(train=str(path), **settings), role="train")
    rows = list(source.rows)
    good = [row for row in rows if isinstance(row, Row)]
    return (
        [(row.text, row.label) for row in good],
        [row for row in rows if isinstance(row, Reject)],
        source.facts,
    )


# --- delimited ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, content",
    [
        ("plain.csv", "text,label\ngood film,pos\nbad film,neg\n"),
        ("crlf.csv", "text,label\r\ngood film,pos\r\nbad film,neg\r\n"),
        ("bom.csv", "\ufefftext,label\ngood film,pos\nbad film,neg"),
        ("semicolon.csv", "id;text;label\n1;good film;pos\n2;bad film;neg\n"),
        ("tab.csv", "label\ttext\npos\tgood film\nneg\tbad film\n"),
        ("pipe.txt", "label|text\npos|good film\nneg|bad film\n"),
        ("tab.tsv", "text\tlabel\ngood film\tpos\nbad film\tneg\n"),
        ("quoted.tsv", '"text"\t"label"\n"good film"\t"pos"\n"bad film"\t"neg"\n'),
        ("blank.csv", "\ntext,label\n\ngood film,pos\n   \nbad film,neg\n,\n\n"),
        ("cells.csv", "text,label\ngood film,pos,,\nbad film,neg,,\n"),
        (
            "rows.jsonl",
            '{"text": "good film", "label": "pos"}\n\n{"label":"neg","text":"bad film"}',
        ),
        ("rows.txt", '{"text": "good film", "label": "pos"}\n{"text":"bad film","label":"neg"}\n'),
    ],
)
def test_formats_found_by_a_look(write, name, content):
    rows, rejects, _ = read(write(name, content))
    assert rows == [("good film", "pos"), ("bad film", "neg")]
    assert rejects == []


def test_quoted_fields_hold_delimiters_quotes_and_newlines(write):
    content = 'text,label\n"a, b",x\n"say ""hi""",y\n"two\nlines\r\nthree",x\nplain,y\n'
    path = write("a.csv", content)
    rows, rejects, facts = read(path)
    assert rows == [("a, b", "x"), ('say "hi"', "y"), ("two\nlines\r\nthree", "x"), ("plain", "y")]
    assert rejects == [] and facts["quoting"] is True


def test_origins_name_the_line_where_a_row_starts(write):
    path = write("a.csv", 'text,label\n"two\nlines",x\n\nplain,y\n')
    source = open_source(path, DataSettings(train=str(path)), role="train")
    assert [row.origin for row in source.rows] == ["a.csv:2", "a.csv:5"]


def test_unbalanced_quotes_in_a_tsv_are_text(write):
    content = 'text\tlabel\n"Unclosed he said\tx\nplain\ty\n5" disk\tx\n"He" left\ty\n'
    rows, rejects, facts = read(write("a.tsv", content))
    assert [text for text, _ in rows] == ['"Unclosed he said', "plain", '5" disk', '"He" left']
    assert rejects == [] and facts["quoting"] is False


def test_quotes_around_whole_texts_of_a_tsv_are_text_unless_they_quote(write):
    plain = "".join(f"row {i}\tx\n" for i in range(20))
    rows, _, facts = read(write("a.tsv", f'text\tlabel\n{plain}"Hi!"\ty\n'))
    assert rows[-1] == ('"Hi!"', "y") and facts["quoting"] is False
    rows, _, facts = read(write("b.tsv", f'text\tlabel\n{plain}"say ""Hi!"""\ty\n'))
    assert rows[-1] == ('say "Hi!"', "y") and facts["quoting"] is True


def test_a_stray_quote_costs_its_own_line_alone(write):
    good = "".join(f'"row {i}, quoted",x\n' for i in range(50))
    content = f'text,label\n{good}"never closed,y\n{good}last,y\n'
    rows, rejects, _ = read(write("a.csv", content))
    assert len(rows) == 101 and rows[-1] == ("last", "y")
    assert [(r.reason, r.origin, r.text) for r in rejects] == [
        ("malformed", "a.csv:52", '"never closed,y')
    ]


def test_a_stray_quote_at_the_end_of_the_file(write):
    content = 'text,label\n"a, b",x\nc,y\n"open,x\nd,y\ne,x\n'
    rows, rejects, _ = read(write("a.csv", content))
    assert [text for text, _ in rows] == ["a, b", "c", "d", "e"]
    assert [r.origin for r in rejects] == ["a.csv:4"]


def test_rows_of_another_width_are_counted_and_kept(write):
    content = "text,label\na,x\nb\nc,y\nd,x,extra\ne,y\n"
    rows, rejects, _ = read(write("a.csv", content))
    assert [text for text, _ in rows] == ["a", "c", "e"]
    assert [(r.reason, r.origin, r.text) for r in rejects] == [
        ("wrong_field_count", "a.csv:3", "b"),
        ("wrong_field_count", "a.csv:5", "d,x,extra"),
    ]
    assert rejects[0].detail == "1 fields where 2 were expected"


def test_file_without_header(write):
    path = write("SMS", "ham\tHi, you\r\nspam\tWIN \x85 now\r\n")
    rows, _, facts = read(path, columns=["label", "text"])
    assert rows == [("Hi, you", "ham"), ("WIN \x85 now", "spam")]
    assert facts["delimiter"] == "tab" and facts["header"] is False


def test_columns_given_for_a_file_that_has_them_as_header(write):
    rows, _, _ = read(write("a.csv", "label,text\nx,a\ny,b\n"), columns=["label", "text"])
    assert rows == [("a", "x"), ("b", "y")]


def test_last_column_keeps_the_rest(write):
    path = write("TREC", '0 How did "serfdom" develop ?\n4 What is it ?\n')
    rows, _, facts = read(path, columns=["label", "text"], delimiter="space")
    assert rows == [('How did "serfdom" develop ?', "0"), ("What is it ?", "4")]
    assert facts["quoting"] is False


def test_a_field_of_a_megabyte_is_read(write):
    text = "word " * 200_000
    rows, _, _ = read(write("a.csv", f'text,label\n"{text}",x\nb,y\n'))
    assert rows[0] == (text, "x")


def test_null_and_lone_carriage_return_do_not_break_a_csv(write):
    rows, rejects, _ = read(write("a.csv", "text,label\na\x00b\rc,x\nd,y\n"))
    assert rows == [("ab c", "x"), ("d", "y")] and rejects == []


def test_pairs(write):
    path = write("a.tsv", "id\ts1\ts2\tlabel\n0\tone\ttwo\tyes\n1\tthree\tfour\tno\n")
    settings = DataSettings(train=str(path), text="s1", text_pair="s2")
    rows = list(open_source(path, settings, role="train").rows)
    assert [(r.text, r.text_pair, r.label) for r in rows] == [
        ("one", "two", "yes"),
        ("three", "four", "no"),
    ]


# --- JSON Lines and patterns ----------------------------------------------------------------


def test_json_fields_by_path(write):
    lines = [
        {"review": {"text": "a"}, "stars": 5, "x.y": "literal"},
        {"review": {"text": "b"}, "stars": 1.5},
        {"review": {"text": "c"}, "stars": True},
        {"review": {"text": "d"}, "stars": None},
    ]
    path = write("a.jsonl", "\n".join(map(json.dumps, lines)))
    rows, _, _ = read(path, text="review.text", label="stars")
    assert rows == [("a", "5"), ("b", "1.5"), ("c", "true"), ("d", "")]


def test_json_lines_that_cannot_be_rows(write):
    good = '{"text": "a", "label": "x"}'
    bad = ["{broken", "[1]", '{"text": "no label"}', '{"text": ["a"], "label": "x"}']
    path = write("a.jsonl", "\n".join([good] * 6 + bad))
    rows, rejects, _ = read(path)
    assert len(rows) == 6
    reasons = [(r.reason, r.origin) for r in rejects]
    assert reasons == [
        ("malformed", "a.jsonl:7"),
        ("malformed", "a.jsonl:8"),
        ("missing_field", "a.jsonl:9"),
        ("not_text", "a.jsonl:10"),
    ]


def test_pattern(write):
    path = write("q.txt", "DESC:manner How ?\nnot a row\n\nLOC:city Where ?\nNUM:x When\n")
    rows, rejects, facts = read(path, pattern=r"(?P<label>\w+):\w+ (?P<text>.+)")
    assert rows == [("How ?", "DESC"), ("Where ?", "LOC"), ("When", "NUM")]
    assert [(r.reason, r.origin) for r in rejects] == [("malformed", "q.txt:2")]
    assert facts["format"] == "regex" and facts["blank_lines"] == 1


def test_detect_is_logged_and_in_the_facts(write, caplog):
    path = write("a.csv", "text,label\ncafé,x\nthé,y\n".encode("latin-1"))
    with caplog.at_level(logging.INFO):
        rows, _, facts = read(path, encoding="detect")
    assert rows == [("café", "x"), ("thé", "y")]
    assert facts["encoding"] == "cp1252"
    assert "encoding taken to be cp1252" in caplog.text


# --- mistakes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, content, settings, words",
    [
        ("empty.csv", "", {}, ["expected rows of text", "an empty file"]),
        ("blank.jsonl", "\n \n", {}, ["an empty file"]),
        (
            "a.csv",
            "texts,category\na,x\n",
            {},
            ["expected a column text (data.text)", "Received: texts, category",
             "Did you mean texts?", "`text: COLUMN` under `data:`", "`columns: [...]`"],
        ),
        ("a.csv", "text,category\na,x\n", {}, ["expected a column label (data.label)"]),
        ("a.csv", "text,text,label\na,b,x\n", {}, ["one column 'text'. Received: 2 of them"]),
        (
            "a.csv",
            "text;label\na;x\n",
            {"delimiter": ","},
            ["cut at ','", "The likely delimiter is ';'", '`delimiter: ";"`'],
        ),
        (
            "a.tsv",
            "text,label\na,x\n",
            {},
            ["cut at 'tab'", "The likely delimiter is ','", '`delimiter: ","`'],
        ),
        (
            "a.csv",
            "good\tx\nbad\ty\nugly\tx\n",
            {"columns": ["text", "label"], "delimiter": ","},
            ["expected 2 fields a row (text, label)", "most rows differ, the first at a.csv:1",
             "(1 fields where 2 were expected)", "likely delimiter is 'tab'", "`delimiter: tab`"],
        ),
        (
            "a.csv",
            "text,label\n" + "a,b,c,x\n" * 1500,
            {},
            ["expected 2 fields a row", "4 fields where 2 were expected"],
        ),
        ("a.csv", "text,label\ra,x\rb,y\r", {}, ["Received: lines that end in CR alone"]),
        ("a.jsonl", "text,label\n", {}, ["JSON Lines, one object a line", "on line 1", "not JSON"]),
        ("a.jsonl", '[{"text": "a"}]', {}, ["a list", "are `format: json` under `data:`"]),
        ("a.jsonl", '{\n"text": "a"}', {}, ["objects over several lines, are `format: json`"]),
        (
            "a.jsonl",
            '{"body": {"txt": "a"}, "label": "x"}\n',
            {"text": "body.text"},
            ["expected a column body.text", "Received: body.txt, label", "mean body.txt?"],
        ),
        (
            "a.jsonl",
            '{"text": "a", "label": "x"}\n' + "broken\n" * 3,
            {},
            ["most rows are not, the first at a.jsonl:2 (malformed: not JSON"],
        ),
        (
            "a.txt",
            "one\ntwo\n",
            {"pattern": "(?P<label>x) (?P<text>.*)"},
            ["lines that data.pattern matches", "the first at a.txt:1: 'one'"],
        ),
        ("a.zip", b"PK\x03\x04rest", {}, ["expected a complete archive", "Download or pack"]),
        ("a.csv", b"\x1f\x8b\x08", {}, ["expected a complete archive", "Compressed file ended"]),
        ("a.bz2", b"BZh91AY", {}, ["Received: a bzip2 file", "Unpack it: bunzip2"]),
        ("a.pdf", b"%PDF-1.7", {}, ["Received: a PDF", "Save its texts as CSV"]),
        ("a.tar", b"a" * 257 + b"ustar" + b"\0" * 300, {}, ["a tar archive", "Unpack it: tar"]),
        ("a.csv", "text,label\na,x\n", {"format": "folder"}, ["expected a folder", "a file"]),
    ],
)  # fmt: skip
def test_mistakes_are_told(write, name, content, settings, words):
    path = write(name, content)
    with pytest.raises(ConfigError) as caught:
        read(path, **settings)
    assert str(caught.value).startswith(f"{path}: expected ")
    for word in words:
        assert word in str(caught.value)


def test_no_such_file_names_the_nearest(write):
    path = write("train.csv", "text,label\n")
    with pytest.raises(ConfigError) as caught:
        read(path.with_name("trian.csv"))
    assert "trian.csv: expected a file or folder of labelled rows" in str(caught.value)
    assert f"Did you mean {path}?" in str(caught.value)
    with pytest.raises(ConfigError, match=r"The folder .*nowhere is not there either"):
        read(path.parent / "nowhere" / "train.csv")
