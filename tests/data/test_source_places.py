"""From what a config names to the files that are read."""

import gzip
import json
import os

import pytest

from tfmodel.config import ConfigError
from tfmodel.data import DataSettings
from tfmodel.data.reading.places import find_place
from tfmodel.data.reading.readers import open_source
from tfmodel.data.rows import Reject


def test_a_star_reads_all_files_in_order_as_one(write, tmp_path):
    write("shards/b-1.csv", "text,label\nthree,x\n\nfour,y\n")
    write("shards/b-0.csv", "label;text\nx;one\ny;two\n")  # another order and delimiter
    write("shards/.b-2.csv", "hidden")
    write("shards/readme.txt", "no rows")
    place = find_place("shards/*.csv", tmp_path.joinpath)
    assert place.path == tmp_path / "shards" and len(place.files) == 2
    source = open_source(place, DataSettings(train="shards/*.csv"), role="train")
    assert [(row.text, row.origin) for row in source.rows] == [
        ("one", "b-0.csv:2"), ("two", "b-0.csv:3"), ("three", "b-1.csv:2"), ("four", "b-1.csv:4"),
    ]  # fmt: skip
    assert source.facts["files"] == 2 and source.facts["blank_lines"] == 1
    assert source.facts["name"] == "2 files of shards"


def test_two_stars_reach_into_folders(write, tmp_path):
    write("a/x/rows.csv", "text,label\none,x\n")
    write("a/y/rows.csv", "text,label\ntwo,y\n")
    place = find_place(f"{tmp_path}/a/**/rows.csv")
    rows = list(open_source(place, DataSettings(train="x"), role="train").rows)
    assert [row.origin for row in rows] == ["x/rows.csv:2", "y/rows.csv:2"]


def test_only_the_star_is_special(write, tmp_path):
    path = write("part[1]-a.csv", "text,label\none,x\n")
    write("part1-a.csv", "text,label\ntwo,y\n")
    assert find_place("part[1]*.csv", tmp_path.joinpath).path == path


def test_encodings_are_guessed_file_by_file_and_shown(write, tmp_path):
    write("a.csv", "text,label\nplain,x\n")
    write("b.csv", "text,label\nIt cost \u00a35 at the caf\u00e9,x\n".encode("cp1252"))
    place = find_place("*.csv", tmp_path.joinpath)
    source = open_source(place, DataSettings(train="*", encoding="detect"), role="train")
    assert [row.text for row in source.rows] == ["plain", "It cost \u00a35 at the caf\u00e9"]
    assert source.facts["encodings"] == {"cp1252": 1, "utf-8": 1}


def test_a_file_that_differs_is_named(write, tmp_path):
    write("a.csv", "text,label\none,x\n")
    write("b.csv", "body,label\ntwo,y\n")
    place = find_place("*.csv", tmp_path.joinpath)
    rows = open_source(place, DataSettings(train="*.csv"), role="train").rows
    assert not isinstance(next(rows), Reject)
    with pytest.raises(ConfigError, match=r"b.csv: expected a column text .*Received: body, label"):
        list(rows)


def test_a_star_that_stands_for_nothing(tmp_path):
    with pytest.raises(ConfigError, match=r"rows-\*.csv: expected files of that name.*none in "):
        find_place("rows-*.csv", tmp_path.joinpath)


def test_the_hash_of_a_source_goes_with_the_zip(write, tmp_path):
    path = write("set.zip", b"PK")
    asked = []

    def locate(source):
        asked.append(source)
        return path

    place = find_place("pypi:set==1/a/set.zip/train.csv#sha256=00", locate)
    assert asked == ["pypi:set==1/a/set.zip#sha256=00"]
    assert (place.path, place.member) == (path, "train.csv")


def test_what_locate_says_stands(tmp_path):
    def locate(source):
        raise ConfigError(f"{source}: expected something. Received: nothing.")

    with pytest.raises(ConfigError, match="gone.csv: expected something"):
        find_place("gone.csv", locate)
    assert find_place("tfds:x[train[:1]]", lambda source: tmp_path).split == "train[:1]"


def test_a_path_into_a_json_file_names_its_array(write, tmp_path):
    parts = {"train": [["one", "x"]], "more": {"dev": [["two", "y"], ["three", "x"]]}}
    path = write("all.json", json.dumps(parts, indent=1))
    packed = write("all.json.gz", gzip.compress(path.read_bytes()))
    settings = DataSettings(train="x", columns=["text", "label"])
    for source, texts in (
        (f"{path}/train", ["one"]),
        (f"{path}/more/dev", ["two", "three"]),
        (f"{packed}/more/dev", ["two", "three"]),
    ):
        rows = list(open_source(find_place(source), settings, role="train").rows)
        assert [row.text for row in rows] == texts
    assert rows[1].origin == "all.json.gz:more.dev[1]"
    with pytest.raises(ConfigError, match=r"the rows in the field trian .*Did you mean train\?"):
        list(open_source(find_place(f"{path}/trian"), settings, role="train").rows)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "rows")
    with pytest.raises(ConfigError, match="Received: a pipe or a device"):
        find_place(str(tmp_path / "rows"))
