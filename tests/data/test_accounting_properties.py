"""Whatever stands in a file: no crash, and no row unaccounted for."""

import gzip
import io
import json
import tempfile
import zipfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from labelled_rows import as_csv

from tfmodel.config import ConfigError
from tfmodel.data import DataSettings, prepare
from tfmodel.data.cleaning import clean
from tfmodel.data.reading.readers import open_source
from tfmodel.data.rows import Reject, Row


def zip_of_one(raw: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("file", raw)
    return buffer.getvalue()


texts = st.text(
    alphabet=st.one_of(
        st.sampled_from(list('abc ,;\t"\r\n\x85\u2028\ufeff\x00{}[]\\')),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=12,
)
rows = st.lists(st.tuples(texts, st.sampled_from(["x", "y", "", " x", "z\u200b"])), max_size=25)
READERS = [
    {"format": "csv"},
    {"format": "tsv"},
    {"format": "csv", "columns": ["text", "label"]},
    {"format": "csv", "columns": ["label", "text"], "delimiter": "space"},
    {"format": "csv", "quoting": True, "delimiter": ","},
    {"format": "csv", "quoting": False, "delimiter": ",", "extra_columns": True},
    {"format": "csv", "target": "number"},
    {"format": "csv", "target": "classes"},
    {"format": "jsonl"},
    {"format": "jsonl", "target": "spans"},
    {"format": "jsonl", "target": "answers", "text_pair": "context"},
    {"format": "json"},
    {"format": "json", "columns": ["text", "label"], "records": "rows"},
    {"format": "json", "target": "tags"},
    {"format": "conll"},
    {"format": "conll", "columns": ["text", "label"]},
    {"format": "squad"},
    {"format": "text"},
    {"format": "wikiextractor"},
    {"format": "regex", "pattern": "(?P<label>[^,]*),(?P<text>.*)"},
    {"format": "auto", "encoding": "detect"},
]
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["text", "label", "rows", "data", "qas", "context", "start", "a.b"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
contents = st.one_of(
    st.binary(max_size=200),
    texts.map(str.encode),
    st.lists(json_values, max_size=4).map(json.dumps).map(str.encode),
    json_values.map(lambda value: json.dumps(value, indent=1).encode()),
    st.lists(json_values, max_size=4).map(
        lambda items: "\n".join(map(json.dumps, items)).encode() + b"\n{"
    ),
)
PACKERS = {"plain": bytes, "gzip": gzip.compress, "zstd": zstandard.compress, "zip": zip_of_one}


@pytest.mark.parametrize("reader", READERS, ids=str)
@given(
    st.sampled_from([b"", b"text,label\n", b'{"text": "a", "label": "b"}\n', b"\xef\xbb\xbf"]),
    contents,
    st.sampled_from(sorted(PACKERS)),
)
@settings(max_examples=60, deadline=None)
def test_arbitrary_bytes_give_rows_or_a_message(reader, start, content, packer):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        path.write_bytes(PACKERS[packer](start + content))
        try:
            source = open_source(path, DataSettings(train="file", **reader), role="train")
            for row in source.rows:
                assert row.origin and isinstance(row.text, str)
                if isinstance(row, Row):
                    json.dumps([row.label, *source.target.names(row.label)])
                else:
                    assert row.reason
        except ConfigError as error:
            assert "xpected" in str(error)


@given(st.binary(max_size=300), st.integers(0, 400))
@example(b"\0" * 6, 91)  # a file without a name
@settings(max_examples=150, deadline=None)
def test_damaged_archives_give_rows_or_a_message(noise, place):
    for packer in ("gzip", "zstd", "zip"):
        packed = bytearray(PACKERS[packer](b"text,label\n" + b"a,b\n" * 99))
        packed[4 + place : 4 + place + len(noise) % 9] = noise[:9]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "file")
            path.write_bytes(packed)
            try:
                list(open_source(path, DataSettings(train="file"), role="train").rows)
            except ConfigError as error:
                assert "xpected" in str(error)


WRITERS = {
    "csv": lambda rows: as_csv(rows),
    "tsv": lambda rows: as_csv(rows, delimiter="\t"),
    "jsonl": lambda rows: "\n".join(json.dumps(as_object(row)) for row in rows),
    "json": lambda rows: json.dumps([as_object(row) for row in rows]),
    "json, indented": lambda rows: json.dumps([as_object(row) for row in rows], indent=1),
    "json, one after another": lambda rows: "\n".join(
        json.dumps(as_object(row), indent=1, ensure_ascii=False) for row in rows
    ),
    "squad": lambda rows: json.dumps(
        [{"context": text, "qas": [{"question": label, "answers": []}]} for text, label in rows]
    ),
}


def as_object(row):
    return {"text": row[0], "label": row[1]}


@pytest.mark.parametrize("writer", WRITERS)
@given(rows)
@settings(max_examples=40, deadline=None)
def test_every_row_that_was_written_comes_back(writer, rows):
    rows = [("first row", "x"), *rows]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        path.write_bytes(WRITERS[writer](rows).encode())
        kind = writer.partition(",")[0]
        source = open_source(path, DataSettings(train="file", format=kind), role="train")
        given_rows = list(source.rows)
    if kind in ("csv", "tsv"):  # a row without any character is a blank line, or a lone quote
        assert len(given_rows) + source.facts["blank_lines"] >= len(rows)
        return
    assert not any(isinstance(row, Reject) for row in given_rows)
    if kind == "squad":
        found = [(row.text_pair, row.text) for row in given_rows]
    else:
        found = [(row.text, row.label) for row in given_rows]
    assert found == rows


def render(kind: str, rows: list[tuple[str, str]]) -> bytes:
    if kind == "jsonl":
        items = (json.dumps({"text": text, "label": label}) for text, label in rows)
        return "\n".join(items).encode()
    delimiter = "\t" if kind == "tsv" else ","
    return as_csv(rows, delimiter=delimiter).encode()


@given(rows, rows, st.sampled_from(["csv", "tsv", "jsonl"]))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_raw_rows_are_kept_or_dropped(train, test, kind):
    train = [*train, *((f"base {i}", "xyz"[i % 3]) for i in range(12))]
    test = [*test, ("base test", "x")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for split, content in (("train", train), ("test", test)):
            (folder / f"{split}.{kind}").write_bytes(render(kind, content))
        chosen = DataSettings(train=f"train.{kind}", test=f"test.{kind}")
        try:
            dataset = prepare(chosen, folder / "out", seed=1, locate=lambda source: folder / source)
        except ConfigError as error:
            assert "expected" in str(error)
            return
        account = dataset.account
        for entry in [account, *account["files"]]:
            assert entry["raw"] == entry["kept"] + sum(entry["dropped"].values())
        # Rows without any character are blank lines, not rows.
        blank = sum(entry["blank_lines"] for entry in account["files"])
        assert account["raw"] + blank >= len(train) + len(test)
        assert account["kept"] == sum(dataset.counts.values())
        lines = (folder / "out/dropped.jsonl").read_text(encoding="utf-8").split("\n")
        assert len([line for line in lines if line]) == sum(account["dropped"].values())
        kept = [text for split in dataset.counts for text in dataset.split(split).texts]
        assert len(kept) == len(set(kept))
        assert all(text and clean(text) == text for text in kept)
