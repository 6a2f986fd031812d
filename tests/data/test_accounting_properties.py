"""Whatever stands in a file: no crash, and no row unaccounted for."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from labelled_rows import as_csv

from tfmodel.config import ConfigError
from tfmodel.data import DataSettings, prepare
from tfmodel.data.cleaning import clean
from tfmodel.data.readers import open_source

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
    {"format": "csv", "quoting": False, "delimiter": ","},
    {"format": "jsonl"},
    {"format": "regex", "pattern": "(?P<label>[^,]*),(?P<text>.*)"},
    {"format": "auto", "encoding": "detect"},
]


@pytest.mark.parametrize("reader", READERS, ids=str)
@given(st.one_of(st.binary(max_size=200), texts.map(str.encode)), st.booleans())
@settings(max_examples=60, deadline=None)
def test_arbitrary_bytes_give_rows_or_a_message(reader, content, headed):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        path.write_bytes((b"text,label\n" if headed else b"") + content)
        try:
            source = open_source(path, DataSettings(train="file", **reader), role="train")
            for row in source.rows:
                assert row.origin and row.text is not None
        except ConfigError as error:
            assert "xpected" in str(error)


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
