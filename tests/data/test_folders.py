"""One folder per class: what is read, what is counted, and how encodings are dealt with."""

import logging

import pytest

from tfmodel.config import ConfigError
from tfmodel.data import DataSettings
from tfmodel.data.reading.readers import open_source


def test_folder_per_class(write, tmp_path):
    write("news/sport/002.txt", "second")
    write("news/sport/001.txt", "\ufefffirst\nline")
    write("news/sport/.hidden.txt", "no")
    write("news/sport/notes.md", "no")
    write("news/.git/x.txt", "no")
    write("news/art/1.TXT", "paint")
    write("news/README", "no")
    source = open_source(tmp_path / "news", DataSettings(train="news"), role="train")
    rows = list(source.rows)
    assert [(row.origin, row.text, row.label) for row in rows] == [
        ("art/1.TXT", "paint", "art"),
        ("sport/001.txt", "first\nline", "sport"),
        ("sport/002.txt", "second", "sport"),
    ]
    assert source.facts["ignored_files"] == {".md": 1, "no suffix": 1}


def test_detect_looks_at_each_file_of_a_folder_by_itself(write, tmp_path, caplog):
    write("n/a/1.txt", "£1")
    write("n/b/2.txt", "It cost £2".encode("latin-1"))
    settings = DataSettings(train="n", encoding="detect")
    source = open_source(tmp_path / "n", settings, role="train")
    with caplog.at_level(logging.INFO):
        assert [row.text for row in source.rows] == ["£1", "It cost £2"]
    assert source.facts["encodings"] == {"cp1252": 1, "utf-8": 1}
    assert "2.txt: encoding taken to be cp1252" in caplog.text


def test_wrong_bytes_in_a_folder_suggest_to_detect(write, tmp_path):
    write("n/a/1.txt", "£1")
    path = write("n/b/2.txt", "It cost £2".encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        list(open_source(tmp_path / "n", DataSettings(train="n"), role="train").rows)
    assert str(caught.value).startswith(f"{path}: expected text in utf-8")
    assert "`encoding: detect` under `data:`" in str(caught.value)


def test_folder_mistakes(write, tmp_path):
    write("flat/a.txt", "text")
    with pytest.raises(ConfigError, match=r"0 folders, 1 .txt, no .txt file inside a class"):
        open_source(tmp_path / "flat", DataSettings(train="flat"), role="train")
    with pytest.raises(ConfigError, match="expected a csv file. Received: a folder"):
        open_source(tmp_path / "flat", DataSettings(train="flat", format="csv"), role="train")
    with pytest.raises(ConfigError, match="expected a TFDS builder folder"):
        open_source(tmp_path / "flat", DataSettings(train="flat", format="tfds"), role="train")
