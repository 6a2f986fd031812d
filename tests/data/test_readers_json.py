"""JSON in every arrangement: lines, arrays, one after another, inside an object; broken ones."""

import json
import tracemalloc

import pytest

from tfmodel.config import ConfigError
from tfmodel.data import DataSettings
from tfmodel.data.reading import json_stream
from tfmodel.data.reading.readers import open_source
from tfmodel.data.rows import Reject

ITEMS = [
    {"text": "plain", "label": "x"},
    {"text": 'quote " bracket ]}, back\\slash', "label": "y", "more": [{"deep": ["]", "}"]}, {}]},
    {"text": "zwei\nZeilen \u00fc \u4e2d", "label": "x", "n": 1.5e3, "t": None},
]
WANTED = [(item["text"], item["label"]) for item in ITEMS]


def read(path, **settings):
    source = open_source(path, DataSettings(train=str(path), **settings), role="train")
    rows = list(source.rows)
    good = [(row.text, row.label) for row in rows if not isinstance(row, Reject)]
    return good, [row for row in rows if isinstance(row, Reject)], source.facts


@pytest.fixture(params=[1, 7, 2**18], ids=lambda size: f"chunks of {size}")
def chunk(request, monkeypatch):
    """Whatever the pieces a file is read in, the rows are the same."""
    monkeypatch.setattr(json_stream, "_CHUNK_CHARACTERS", request.param)


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(ITEMS),
        json.dumps(ITEMS, indent=2, ensure_ascii=False),
        "\ufeff" + json.dumps(ITEMS, indent="\t"),
        "".join(json.dumps(item, indent=1) for item in ITEMS),
        "\r\n\r\n".join(json.dumps(item, indent=1) for item in ITEMS),
        "[" + ",\n".join(json.dumps(item) for item in ITEMS) + "]\n",
    ],
    ids=["array", "indented", "BOM and tabs", "run together", "one after another", "by lines"],
)
def test_arrangements_are_found_by_a_look(write, chunk, content):
    rows, rejects, facts = read(write("a.json", content))
    assert rows == WANTED and rejects == []
    assert facts["format"] == "json"


def test_what_stands_behind_the_object_with_the_rows_is_told(write, chunk):
    one = json.dumps({"rows": ITEMS, "about": {"rows": []}}, indent=1)
    path = write("a.json", f"{one}\n{one}")
    rows, rejects, _ = read(path, records="rows")
    assert rows == WANTED and len(rejects) == 1
    assert rejects[0].reason == "malformed" and "the rest is not read" in rejects[0].detail


def test_the_array_at_a_path(write, chunk):
    around = {"about": {"rows": [1, "]"]}, "n": 1, "part": {"x": "{", "rows": ITEMS}, "z": []}
    path = write("a.json", json.dumps(around))
    rows, _, _ = read(path, records="part.rows")
    assert rows == WANTED
    source = open_source(path, DataSettings(train="a", records="part.rows"), role="train")
    assert [row.origin for row in source.rows][2] == "a.json:part.rows[2]"
    path = write("b.json", json.dumps({"a.b": ITEMS}, indent=1))
    assert read(path, records="a.b")[0] == WANTED


def test_rows_that_are_lists_are_named_by_columns(write):
    pairs = [["one", "x", 1], ["two", "y", 2], ["three"]]
    for name, content in (
        ("a.json", json.dumps({"train": pairs, "test": []}, indent=4)),
        ("b.jsonl", "\n".join(map(json.dumps, pairs))),
    ):
        more = {"records": "train"} if name == "a.json" else {}
        path = write(name, content)
        rows, rejects, _ = read(path, columns=["text", "label", "n"], **more)
        assert rows == [("one", "x"), ("two", "y")]
        assert [r.detail for r in rejects] == ["a list of 1 values where 3 were expected"]
        rows, _, _ = read(path, columns=["text", "label"], extra_columns=True, **more)
        assert rows == [("one", "x"), ("two", "y")]


def test_origins_are_places_in_an_array_or_lines(write):
    path = write("a.json", json.dumps(ITEMS))
    rows = open_source(path, DataSettings(train="a"), role="train").rows
    assert [row.origin for row in rows] == ["a.json:[0]", "a.json:[1]", "a.json:[2]"]
    path = write("b.json", "".join(json.dumps(item, indent=1) + "\n" for item in ITEMS[:2]))
    rows = open_source(path, DataSettings(train="b"), role="train").rows
    assert [row.origin for row in rows] == ["b.json:1", "b.json:5"]


def test_a_broken_value_costs_itself_alone(write, chunk):
    lines = [
        "[",
        ' {"text": "one", "label": "x"},',
        ' {"text": "never closed, "label": "x"},',
        ' {"text": "two", "label": "y"},',
        ' {"text": "no brace", "label": "x",',
        ' {"text": "three", "label": "x"}, {"text" "no colon"}, nothing,',
        ' {"text": "four", "label": "y"}]',
    ]
    rows, rejects, _ = read(write("a.json", "\n".join(lines)))
    assert [text for text, _ in rows] == ["one", "two", "three", "four"]
    assert [(r.reason, r.origin) for r in rejects] == [
        ("malformed", f"a.json:[{place}]") for place in (1, 3, 5, 6)
    ]
    assert rejects[0].text.startswith('{"text": "never closed') and "line 3" in rejects[0].detail


def test_a_broken_value_among_others_one_after_another(write, chunk):
    items = [json.dumps(item, indent=2) for item in ITEMS]
    broken = items[0].removesuffix("}")
    rows, rejects, _ = read(write("a.json", "\n".join([items[0], broken, items[1], items[2]])))
    assert rows == [WANTED[0], WANTED[1], WANTED[2]] and len(rejects) == 1


def test_arrays_one_after_another_are_read_to_the_last(write, chunk):
    items = [json.dumps(item) for item in ITEMS]
    one, two = f"[{items[0]}, {items[1]}]", f"[\n{items[2]}\n]"
    rows, rejects, _ = read(write("a.json", f"{one}\n[]{two}"), format="json")
    assert rows == WANTED and not rejects


def test_what_follows_a_bracket_that_is_astray_is_no_row_less(write, chunk):
    items = [json.dumps(item) for item in ITEMS]
    rows, rejects, _ = read(
        write("a.json", f"[{items[0]}, {items[1]}], {items[2]}] rest"), format="json"
    )
    assert rows == WANTED
    assert [each.text for each in rejects] == ["]", "rest"]


def test_memory_does_not_grow_with_the_file(write):
    content = json.dumps([{"text": "word " * 100, "label": "x"}] * 20_000)  # 10 MB
    path = write("a.json", content)
    rows = open_source(path, DataSettings(train="a"), role="train").rows
    next(rows)
    tracemalloc.start()
    count = sum(1 for _ in rows)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 19_999 and peak_bytes < 4_000_000


@pytest.mark.parametrize(
    "content, settings, words",
    [
        ('[{"text": "a", "label": "x"}, {"text"', {}, ["begins on line 1 and does not end"]),
        ('[{"text": "a", "label": "x"},\n', {}, ["expected complete JSON. Received: the array"]),
        ('{"rows": [1], "rest": {"a": 1}}', {"records": "row"}, ["(data.records)", "mean rows?"]),
        ('{"rows": {"a": 1}}', {"records": "rows"}, ["an array of rows in the field rows"]),
        ("[1]", {"records": "rows"}, ["Received: no object with fields"]),
        ('{"rows": [{"text": "a"}]}', {}, ["a column text", "name it: `records: rows`"]),
        ('[["a", "x"],\n["b", "y"]]', {}, ["this is a list: name its places by `columns:`"]),
        ('[[["a"]]]', {"columns": ["text", "label"]}, ["a list of 1 values where 2 were"]),
        ("[1, 2]", {}, ["JSON objects", "this is a int", "Check `format:`, `records:`"]),
        ('{text: "a"}', {}, ["Received on line 1: '{text: \"a\"}'"]),
    ],
)
def test_mistakes(write, content, settings, words):
    path = write("a.json", content)
    with pytest.raises(ConfigError) as caught:
        read(path, **settings)
    assert str(caught.value).startswith(f"{path}: expected ")
    for word in words:
        assert word in str(caught.value)


def test_an_empty_array_has_no_row(write):
    assert read(write("a.json", "[\n\n]"))[:2] == ([], [])


def test_a_label_that_is_no_number_and_no_text_is_none(write):
    lines = '{"text": "one", "label": NaN}\n{"text": "two", "label": "NaN"}\n'
    rows, _, _ = read(write("a.jsonl", lines))
    assert rows == [("one", ""), ("two", "NaN")]


def test_labels_of_other_targets(write):
    items = [
        {"text": "good film", "n": 2.5, "labels": ["a", "b"], "spans": [[5, 9, "w"]]},
        {"text": "bad", "n": "x", "labels": [], "spans": [[0, 9, "w"]]},
        {"text": "fine", "n": 1, "labels": "a", "spans": []},
    ]
    path = write("a.jsonl", "\n".join(map(json.dumps, items)))
    rows, rejects, facts = read(path, target="number", label="n")
    assert rows == [("good film", 2.5), ("fine", 1.0)]
    assert [r.reason for r in rejects] == ["bad_number"] and facts["target"] == "number"
    rows, _, _ = read(path, target="classes", label="labels")
    assert [label for _, label in rows] == [["a", "b"], [], ["a"]]
    rows, rejects, _ = read(path, target="spans", label="spans")
    assert rows[0][1] == [{"start": 5, "end": 9, "label": "w"}] and rows[1] == ("fine", [])
    assert [r.reason for r in rejects] == ["bad_span"]
    rows, _, _ = read(path, target="none")
    assert rows == [("good film", None), ("bad", None), ("fine", None)]


def test_a_file_of_other_labels_says_so(write):
    path = write("a.csv", "text,label\n" + "a,positive\nb,negative\n" * 3)
    with pytest.raises(
        ConfigError, match="expected labels as data.target says.*bad_number.*`target:"
    ):
        read(path, target="number")
