"""Every dialect of delimited text: what was written comes back, whatever way it was written."""

import csv
import io

import pytest

from tfmodel.data import DataSettings
from tfmodel.data.reading.readers import open_source
from tfmodel.data.rows import Reject

PLAIN = [(f"row {number} of plain words", "xy"[number % 2]) for number in range(20)]
RICH = [
    ('say "hi", she; said\tso | then', "x"),
    ("two\nlines,\nthen three", "y"),
    ('"quoted whole"', "x"),
    ('a lone quote 5" wide', "y"),
    ("  spaces kept  ", "x"),
    ("caf\u00e9 \u4e2d\u6587 \u2028 \x85 one line", "y"),
]


def render(rows, delimiter, *, quoting, header=("text", "label"), end="\n"):
    """Write rows; without quoting, delimiters and newlines cannot stand in a field."""
    table = [header, *rows] if header else rows
    if quoting:
        buffer = io.StringIO()
        csv.writer(buffer, delimiter=delimiter, lineterminator=end).writerows(table)
        return buffer.getvalue()
    return "".join(delimiter.join(row) + end for row in table)


def read(path, **settings):
    source = open_source(path, DataSettings(train=str(path), **settings), role="train")
    rows = list(source.rows)
    good = [(row.text, row.label) for row in rows if not isinstance(row, Reject)]
    return good, [row for row in rows if isinstance(row, Reject)], source.facts


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_quoted_tables_come_back_whole(write, delimiter, end, encoding):
    content = render(PLAIN + RICH, delimiter, quoting=True, end=end)
    path = write("table.txt", content.encode(encoding))
    more = {"encoding": "utf-16"} if encoding == "utf-16" else {}
    rows, rejects, facts = read(path, **more)
    assert rows == PLAIN + RICH and rejects == []
    assert facts["quoting"] is True and facts["header"] is True


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("quoting", ["auto", False])
def test_tables_without_quoting_keep_their_quotes(write, delimiter, end, quoting):
    quotes = [
        ('"Unclosed he said', "x"),
        ('5" disk', "y"),
        ('"He" left', "x"),
        ('so he" said', "y"),
    ]
    content = render(PLAIN + quotes, delimiter, quoting=False, end=end)
    rows, rejects, facts = read(write("table.txt", content), quoting=quoting)
    if delimiter in ",;" and quoting == "auto":
        # Quotes quote in a CSV that does not show otherwise: no row but those is in doubt.
        assert rows[:20] == PLAIN and len(rows) + len(rejects) == 24
        return
    assert rows == PLAIN + quotes and rejects == [] and facts["quoting"] is False


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("quoting", [True, False])
def test_tables_without_a_header(write, delimiter, quoting):
    rows = PLAIN + (RICH if quoting else [])
    path = write("table", render(rows, delimiter, quoting=quoting, header=None))
    found, rejects, facts = read(path, columns=["text", "label"], delimiter=delimiter)
    assert found == rows and rejects == [] and facts["header"] is False


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize(
    "broken",
    ['"never closed{d}x', '"closed too" early{d}x', '"doubled"" and open{d}x', '"{d}x', 'a{d}"x'],
)
def test_broken_quoting_never_swallows_the_rows_after_it(write, delimiter, broken):
    before = render(RICH + PLAIN, delimiter, quoting=True)
    after = render(PLAIN + RICH, delimiter, quoting=True, header=None)
    content = f"{before}{broken.format(d=delimiter)}\n{after}"
    rows, rejects, _ = read(write("table.txt", content), quoting=True, delimiter=delimiter)
    assert rows[: len(RICH + PLAIN)] == RICH + PLAIN
    assert rows[-len(PLAIN + RICH) :] == PLAIN + RICH
    assert len(rows) + len(rejects) == 2 * len(PLAIN + RICH) + 1


def test_extra_columns_are_left_out_where_that_is_said(write):
    path = write("a.tsv", "one\tx\ntwo\ty\tmore\tand more\nthree\n")
    settings = {"columns": ["text", "label"], "quoting": False}
    assert read(path, **settings)[0] == [("one", "x"), ("two", "y\tmore\tand more")]
    rows, rejects, _ = read(path, **settings, extra_columns=True)
    assert rows == [("one", "x"), ("two", "y")]
    assert [r.reason for r in rejects] == ["wrong_field_count"]


def test_the_column_that_orders_rows_is_read_with_them(write):
    path = write("a.csv", "text,label,user\na,x,7\nb,y,\n")
    settings = DataSettings(train="a", split="group", group="user")
    assert [row.group for row in open_source(path, settings, role="train").rows] == ["7", ""]
