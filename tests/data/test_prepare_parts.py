"""More rows than a part holds: the same dataset however it is made, and after a kill."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from labelled_rows import as_csv

from tfmodel.config import ConfigError
from tfmodel.data import DataSettings, prepare
from tfmodel.data import prepare as prepare_function
from tfmodel.data.parts import PART_ROWS

ROWS = PART_ROWS + 400


def table(count=ROWS):
    """Distinct texts, then copies of the first, with another label or none."""
    labels = ("neg", "pos", "so so")
    rows = [(f"text  number {i}", labels[i % 3]) for i in range(count - 300)]
    rows += rows[:100] + [(text, "pos") for text, _ in rows[100:200]] + [("no label", "")] * 100
    return rows


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "train.csv"
    path.write_text(as_csv(table()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def whole(file, tmp_path_factory):
    """What one process gives that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    return prepare(DataSettings(train=str(file), workers=0), folder, seed=1)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_rows_of_all_parts_are_accounted(whole):
    account = whole.account
    assert (account["raw"], account["kept"]) == (ROWS, ROWS - 300)
    assert account["dropped"] == {
        "duplicate": 134,
        "empty_label": 100,
        "conflicting_label": 66,
    }
    assert account["conflicts"]["rows"] == 66
    assert account["conflicts"]["examples"][0] == {
        "text": "text number 101",
        "kept": ["so so", "train.csv:103"],
        "dropped": ["pos", "train.csv:20203"],
    }
    assert account["cleaning"]["whitespace"]["rows"] == ROWS - 100
    assert list(whole.counts) == ["train", "dev", "test"]


def test_several_processes_give_the_same_bytes(file, whole, tmp_path):
    prepare(DataSettings(train=str(file), workers=2), tmp_path / "out", seed=1)
    assert contents(tmp_path / "out") == contents(whole.folder)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_interrupted_while_writing_it_goes_on_from_the_parts(
    file, whole, tmp_path, monkeypatch, caplog
):
    module = sys.modules[prepare_function.__module__]
    settings = DataSettings(train=str(file), workers=0)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, "write_parts", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare(settings, tmp_path / "out", seed=1)
    assert [entry.name for entry in tmp_path.iterdir()] == [".out.work"]
    monkeypatch.setattr("tfmodel.data.parts.reading.write_raw", None)  # no part is made again
    with caplog.at_level("INFO", "tfmodel"):
        prepare(settings, tmp_path / "out", seed=1)
    assert "going on: 20,400 rows were read and cleaned before" in caplog.text
    assert contents(tmp_path / "out") == contents(whole.folder)


def test_killed_in_the_middle_it_goes_on(file, whole, tmp_path):
    script = f"""
from tfmodel.data import DataSettings, prepare
prepare(DataSettings(train={str(file)!r}, workers=1), {str(tmp_path / "out")!r}, seed=1)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    part = tmp_path / ".out.work/parts/part-000000"
    deadline = time.monotonic() + 60
    while not part.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert part.exists() and not (tmp_path / "out").exists()
    made = part.stat().st_ino
    stopped = tmp_path / ".out.work/parts/key.json"
    assert json.loads(stopped.read_text())
    prepared = prepare(DataSettings(train=str(file), workers=0), tmp_path / "out", seed=1)
    assert contents(prepared.folder) == contents(whole.folder)
    assert made and not part.exists()


def test_what_a_killed_process_was_sent_is_neither_read_nor_missed(
    file, whole, tmp_path, monkeypatch
):
    from tfmodel.data.parts import making

    left = tmp_path / ".out.work" / "parts" / "raw-000000"
    read_raw = making._read_raw

    def read_while_another_removes(path):
        assert path != left
        yield from read_raw(path)
        path.unlink()  # as the worker of a killed process may

    settings = DataSettings(train=str(file), workers=0)
    with monkeypatch.context() as patched:
        patched.setattr(making, "write_json", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare(settings, tmp_path / "out", seed=1)
    left.write_text("half a li")
    monkeypatch.setattr(making, "_read_raw", read_while_another_removes)
    prepare(settings, tmp_path / "out", seed=1)
    assert contents(tmp_path / "out") == contents(whole.folder)


def _interrupt(*_, **__):
    raise KeyboardInterrupt


def test_two_at_once_do_not_mix(file, whole, tmp_path, monkeypatch):
    from tfmodel.data.parts import making

    settings = DataSettings(train=str(file), workers=0)
    write_json, refused = making.write_json, []

    def prepare_again(*arguments):
        with pytest.raises(ConfigError, match="that nobody else is preparing"):
            prepare(settings, tmp_path / "out", seed=2)
        refused.append(arguments)
        write_json(*arguments)

    monkeypatch.setattr(making, "write_json", prepare_again)
    prepare(settings, tmp_path / "out", seed=1)
    assert len(refused) == 2 and contents(tmp_path / "out") == contents(whole.folder)


def test_other_settings_or_rows_begin_anew(file, tmp_path, monkeypatch):
    module = sys.modules[prepare_function.__module__]
    path = tmp_path / "train.csv"
    path.write_bytes(file.read_bytes())
    with monkeypatch.context() as patched:
        patched.setattr(module, "write_parts", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare(DataSettings(train=str(path), workers=0), tmp_path / "out", seed=1)
    path.write_text(as_csv([(f"other {i}", "ab"[i % 2]) for i in range(50)]), encoding="utf-8")
    dataset = prepare(DataSettings(train=str(path), workers=0), tmp_path / "out", seed=1)
    assert dataset.account["raw"] == 50 and dataset.labels == ["a", "b"]


def test_a_mistake_leaves_nothing_behind(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text(as_csv([(f"text {i}", "same") for i in range(30)]), encoding="utf-8")
    with pytest.raises(ConfigError, match="at least two classes"):
        prepare(DataSettings(train=str(path)), tmp_path / "out", seed=1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["train.csv"]


def test_a_full_disk_is_said_with_what_to_do(file, tmp_path):
    """A limit on the size of files fails writing as a full disk does."""
    script = f"""
import resource, sys
from tfmodel.data import DataSettings, prepare
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    prepare(DataSettings(train={str(file)!r}, workers=int(sys.argv[1])),
            {str(tmp_path / "out")!r}, seed=1)
except OSError as error:
    print(error)
"""
    for workers in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", script, workers], capture_output=True, text=True, check=True
        )
        assert "expected room on the disk to write out" in done.stdout, done.stderr
        assert "then run the same command again" in done.stdout
    assert not (tmp_path / "out").exists()


def test_a_worker_that_is_killed_is_said(file, tmp_path, monkeypatch):
    from tfmodel.data.parts import workers

    start = workers._start

    def start_and_kill():
        process = start()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return process

    monkeypatch.setattr(workers, "_start", start_and_kill)
    with pytest.raises(RuntimeError, match=r"exit code -9.*set data.workers to 1"):
        prepare(DataSettings(train=str(file), workers=1), tmp_path / "out", seed=1)


def test_what_goes_wrong_in_a_worker_is_told_here(tmp_path):
    from tfmodel.data.parts.workers import Workers

    with Workers(1) as pool:
        pool.submit("compare_pairs", str(tmp_path), str(tmp_path / "none.npy"), 0.8)
        with pytest.raises(FileNotFoundError, match=r"none\.npy"):
            pool.finish()
        pool.submit("compare_pairs", str(tmp_path))
        with pytest.raises(RuntimeError, match="compare_pairs.*missing 2 required"):
            pool.finish()
