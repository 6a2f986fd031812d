"""Served folders: version numbers, publishing, staging."""

import os

import pytest

from tfmodel.config import ConfigError
from tfmodel.export.places import make_folder, next_version, publish_version, staging, versions


def test_versions_are_integers_alone_and_sorted_as_numbers(tmp_path):
    for name in ("2", "10", "latest", ".11.partial-4", "²", "3a"):
        (tmp_path / name).mkdir()
    assert versions(tmp_path) == [2, 10]
    assert next_version(tmp_path) == 11
    assert next_version(tmp_path / "missing") == 1


def test_publishing_moves_a_folder_to_the_next_number(tmp_path):
    for wanted in ("1", "2"):
        (tmp_path / "aside").mkdir()
        (tmp_path / "aside" / "file").write_text(wanted)
        assert publish_version(tmp_path / "aside", tmp_path / "base") == tmp_path / "base" / wanted
    assert (tmp_path / "base/1/file").read_text() == "1"


def test_a_number_taken_meanwhile_is_passed_over(tmp_path, monkeypatch):
    (tmp_path / "base/1").mkdir(parents=True)
    (tmp_path / "base/1/theirs").write_text("")
    (tmp_path / "aside").mkdir()
    (tmp_path / "aside" / "ours").write_text("")
    answers = iter([1, 2])
    monkeypatch.setattr("tfmodel.export.places.next_version", lambda base: next(answers))
    assert publish_version(tmp_path / "aside", tmp_path / "base").name == "2"
    assert (tmp_path / "base/1/theirs").exists()


def test_staging_leaves_nothing_even_after_an_error(tmp_path):
    with pytest.raises(KeyError), staging(tmp_path / "export") as folder:
        assert str(os.getpid()) in folder.name
        (folder / "file").write_text("")
        raise KeyError
    assert list((tmp_path / "export").iterdir()) == []


def test_what_a_killed_export_left_is_cleared_when_the_run_is_opened_again(tmp_path):
    from tfmodel.run_folder import Run

    dead = tmp_path / "export/.staging.partial-999999999"
    dead.mkdir(parents=True)
    with Run.open(tmp_path):
        assert not dead.exists()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="can be written. Received: (Not a dir|File exists)"):
        make_folder(tmp_path / "file/deeper")
