"""Packed files: read as they are, within limits, and every damage told."""

import gzip
import io
import zipfile

import pytest
import zstandard

from tfmodel.config import ConfigError
from tfmodel.data import DataSettings
from tfmodel.data.reading import archives
from tfmodel.data.reading.archives import DataFile, open_bytes
from tfmodel.data.reading.places import find_place
from tfmodel.data.reading.readers import open_source

CSV = "text,label\ngood film,pos\nbad film,neg\n"
GZIPPED = gzip.compress(CSV.encode(), mtime=0)  # without the time, which would be in a test's name
PACKERS = {
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    # Some tools leave out the size of what they packed, or write one frame after another.
    "zstd frames": lambda raw: b"".join(_frame(part) for part in (raw[:9], raw[9:], b"")),
}


def _frame(raw: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(raw)


def zip_of(members: dict[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def texts(source, **settings):
    place = find_place(str(source))
    opened = open_source(place, DataSettings(train=str(source), **settings), role="train")
    return [(row.text, row.label) for row in opened.rows]


FILM = [("good film", "pos"), ("bad film", "neg")]


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "data", "a.csv.zst"])
def test_packing_is_seen_by_the_bytes_whatever_the_name(write, packer, name):
    path = write(name, PACKERS[packer](CSV.encode()))
    assert texts(path) == FILM


@pytest.mark.parametrize(
    "name, content",
    [
        ("rows.tsv", CSV.replace(",", "\t")),
        ("rows.jsonl", '{"text": "good film", "label": "pos"}\n{"text":"bad film","label":"neg"}'),
        (
            "rows.json",
            '[{"text": "good film", "label": "pos"},\n{"text":"bad film","label":"neg"}]',
        ),
    ],
)
def test_the_format_is_found_below_the_packing(write, name, content):
    assert texts(write(f"{name}.gz", gzip.compress(content.encode()))) == FILM
    assert texts(write("one.zip", zip_of({f"deep/{name}": content, "README": "about"}))) == FILM
    packed = zip_of({f"{name}.zst": zstandard.compress(content.encode())})
    assert texts(write("two.zip", packed)) == FILM


def test_a_path_into_a_zip_names_one_of_its_files(write):
    path = write("sets.zip", zip_of({"a/train.csv": CSV, "a/test.csv": "text,label\nso so,pos\n"}))
    assert texts(f"{path}/a/test.csv") == [("so so", "pos")]
    source = open_source(find_place(f"{path}/a/train.csv"), DataSettings(train="x"), role="train")
    assert [row.origin for row in source.rows] == ["train.csv:2", "train.csv:3"]
    assert source.facts["path"] == f"{path}/a/train.csv"


def test_a_folder_called_zip_is_a_folder(write):
    path = write("folder.zip/a.csv", CSV)
    assert texts(path) == FILM


def test_a_zip_of_class_folders(write):
    members = {"pos/1.txt": "good film", "neg/1.txt": "bad film", "neg/.hidden.txt": "x"}
    path = write("reviews.zip", zip_of({f"reviews/{k}": v for k, v in members.items()}))
    assert sorted(texts(path)) == sorted(FILM)
    price = "It cost \u00a315.8m"
    path = write("cp.zip", zip_of({"pos/1.txt": "good", "neg/1.txt": price.encode("cp1252")}))
    assert texts(path, encoding="detect") == [(price, "neg"), ("good", "pos")]
    with pytest.raises(ConfigError, match="1.txt: expected text in utf-8.*encoding: detect"):
        texts(path)


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("cut.gz", GZIPPED[:-9], "a complete archive.*Received: Compressed"),
        ("cut.zst", zstandard.compress(CSV.encode())[:-3], "complete archive.*middle of a frame"),
        ("bad.gz", GZIPPED[:-8] + b"12345678", "complete archive.*CRC"),
        ("bad.zst", zstandard.compress(CSV.encode())[:9] + b"\xff" * 30, "expected a complete arc"),
        ("bad.zip", zip_of({"a.csv": CSV})[:-9], "expected a complete archive.*not a zip"),
        ("two.zip", zip_of({"a.csv": CSV, "b.csv": CSV}), "zip of one file.*2 files: a.csv, b.csv.*"
         "Name one of them: .*two.zip/a.csv"),
        ("none.zip", zip_of({".hidden": "x"}), "a zip of one file. Received: 0 files"),
        ("book.xlsx", zip_of({"[Content_Types].xml": "", "xl/a.xml": ""}), "a spreadsheet.*as CSV"),
        ("out.zip", zip_of({"../../etc/a.csv": CSV}), "inside the archive.*'../../etc/a.csv'"),
        ("root.zip", zip_of({"/etc/a.csv": CSV}), "a path that leads outside"),
        ("drive.zip", zip_of({"C:\\a.csv": CSV}), "a path that leads outside"),
    ],
)  # fmt: skip
def test_archives_that_cannot_be_read(write, name, content, words):
    path = write(name, content)
    with pytest.raises(ConfigError, match=words) as caught:
        texts(path)
    assert str(caught.value).startswith(f"{path}: expected ")


def test_a_missing_member_names_the_nearest(write):
    path = write("sets.zip", zip_of({"a/train.csv": CSV, "a/test.csv": CSV}))
    with pytest.raises(
        ConfigError, match=r"it holds a/test.csv, a/train.csv. Did you mean .*/a/tr"
    ):
        texts(f"{path}/a/trian.csv")


def test_an_encrypted_zip_is_told(write):
    raw = bytearray(zip_of({"a.csv": CSV}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(signature) + offset] |= 1  # the flag "encrypted"
    path = write("secret.zip", bytes(raw))
    with pytest.raises(ConfigError, match="without a password. Received: an encrypted one"):
        texts(path)


@pytest.mark.parametrize("kind", ["gzip", "zstd", "zip", "zip in zip"])
def test_a_bomb_is_stopped_on_the_way(write, monkeypatch, kind):
    monkeypatch.setattr(archives, "RATIO_COUNTS_FROM_BYTES", 1_000_000)
    raw = b"a,b\n" * 2_000_000
    packed = {
        "gzip": lambda: gzip.compress(raw),
        "zstd": lambda: zstandard.compress(raw),
        "zip": lambda: zip_of({"a.csv": raw}),
        "zip in zip": lambda: zip_of({"a.csv.gz": gzip.compress(raw)}),
    }[kind]()
    path = write("bomb", packed)
    unpacked = 0
    with pytest.raises(ConfigError, match="at most 200 times its size.* as a zip bomb would give"):
        with open_bytes(path) as opened:
            while block := opened.read(100_000):
                unpacked += len(block)
    assert unpacked <= max(1_000_000, 200 * len(packed)) < len(raw)


def test_honest_data_that_repeats_itself_is_none(write):
    raw = b"the same row,label\n" * 100_000  # packs 400 to 1, but is small
    path = write("a.gz", gzip.compress(raw))
    with open_bytes(path) as opened:
        assert opened.read() == raw


def test_names_and_suffixes():
    file = DataFile(archives.Path("/d/a.zip"), "x/rows.JSONL.GZ")
    assert (file.name, file.suffix, str(file)) == (
        "rows.JSONL.GZ",
        ".jsonl",
        "/d/a.zip/x/rows.JSONL.GZ",
    )
    assert DataFile(archives.Path("/d/rows.zst")).suffix == ""


def test_without_zstandard_the_message_names_it(write, monkeypatch):
    import sys

    path = write("a.zst", zstandard.compress(b"x"))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(ConfigError, match="expected the package zstandard.*pip install zstandard"):
        open_bytes(path)
