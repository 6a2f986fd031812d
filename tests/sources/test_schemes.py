"""A source is a local path or of a known kind. Run: pytest tests/sources/test_schemes.py"""

import pytest
from fetching import received

from tfmodel.sources import cache_folder, fetch


def test_a_local_path_starts_from_the_current_folder_or_the_one_named(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("")
    (tmp_path / "odd:name.csv").write_text("")
    monkeypatch.chdir(tmp_path)
    assert fetch("a.csv") == tmp_path / "a.csv"
    assert fetch(tmp_path / "a.csv") == tmp_path / "a.csv"
    assert fetch("odd:name.csv") == tmp_path / "odd:name.csv"
    monkeypatch.chdir("/")
    assert fetch("a.csv", relative_to=tmp_path) == tmp_path / "a.csv"


def test_the_environment_and_home_are_expanded(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("")
    monkeypatch.setenv("MY_DATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fetch("${MY_DATA}/a.csv") == tmp_path / "a.csv"
    assert fetch("~/a.csv") == tmp_path / "a.csv"


@pytest.mark.parametrize("value", [None, ""])
def test_an_unset_variable_is_named(monkeypatch, value):
    monkeypatch.delenv("MY_DATA", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_DATA", value)
    assert received("${MY_DATA}/a.csv") == (
        "${MY_DATA}/a.csv: expected the environment variable MY_DATA to be set. "
        "Received: nothing. Set it: export MY_DATA=FOLDER"
    )


def test_a_missing_path_names_what_is_missing_and_what_is_near(tmp_path, monkeypatch):
    (tmp_path / "train.csv").write_text("")
    monkeypatch.chdir(tmp_path)
    assert received("trian.csv") == (
        f"trian.csv: expected a file or folder. Received: {tmp_path} holds no trian.csv. "
        f"Did you mean {tmp_path}/train.csv?"
    )
    assert received("nothing/like/this") == (
        f"nothing/like/this: expected a file or folder. Received: {tmp_path} holds no nothing. "
        "Check the path and the current folder."
    )
    assert "Received: nothing. Name a file or a folder." in received("")


@pytest.mark.parametrize("source", ["s3://bucket/a", "gs://bucket/a", "https://x.org/a"])
def test_an_unknown_kind_of_source_lists_the_known(source):
    kind = source.partition(":")[0]
    assert received(source) == (
        f"{source}: expected a local path or a source that starts with hf:, keras:, "
        f"pypi:, tfds:. Received: a source "
        f"of the unknown kind {kind}:. Download it yourself and name its path."
    )


def test_the_cache_is_in_the_home_folder_unless_told_otherwise(tmp_path, monkeypatch):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("TFMODEL_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "tfmodel"
