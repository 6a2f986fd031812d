"""A run's folder survives kills, full disks and second processes.

Run: pytest tests/test_run_folder.py
"""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tfmodel.run_folder
from tfmodel.config import ConfigError, Settings, load_config
from tfmodel.run_folder import (
    Run,
    environment,
    fingerprint,
    read_json,
    seed_everything,
    write_aside,
    write_json,
)

ROOT = Path(tfmodel.run_folder.__file__).parents[1]


def start_python(code, *arguments):
    """Start a Python process that can import this checkout; it prints `ready` when it is."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout.readline().strip() == "ready", process.communicate()
    return process


@pytest.fixture
def start():
    processes = []

    def start_and_keep(code, *arguments):
        processes.append(start_python(code, *arguments))
        return processes[-1]

    yield start_and_keep
    for process in processes:
        process.kill()
        process.communicate()


# --- write_aside --------------------------------------------------------------------------


def test_a_file_appears_whole_and_takes_the_place_of_the_old(tmp_path):
    target = tmp_path / "deep" / "model.bin"
    for content in ("old", "new"):
        with write_aside(target) as aside:
            assert aside.parent == target.parent
            assert aside.name == f".model.bin.partial-{os.getpid()}"
            aside.write_text(content)
            assert not target.exists() or target.read_text() == "old"
    assert target.read_text() == "new"
    assert os.listdir(target.parent) == ["model.bin"]


def test_a_failure_leaves_what_was_there(tmp_path):
    target = tmp_path / "metrics.json"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), write_aside(target) as aside:
        aside.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["metrics.json"]


def write_folder(path, content, **options):
    with write_aside(path, **options) as aside:
        (aside / "inner").mkdir(parents=True)
        (aside / "inner" / "weights").write_text(content)


def test_a_folder_is_replaced_only_when_asked(tmp_path):
    target = tmp_path / "model"
    write_folder(target, "old")
    with pytest.raises(FileExistsError, match="expected no folder of this name yet"):
        write_folder(target, "new")
    assert (target / "inner" / "weights").read_text() == "old"
    write_folder(target, "new", replace=True)
    assert (target / "inner" / "weights").read_text() == "new"
    assert os.listdir(tmp_path) == ["model"]


def test_the_old_folder_comes_back_when_the_swap_fails(tmp_path, monkeypatch):
    target = tmp_path / "model"
    write_folder(target, "old")
    rename = Path.rename

    def failing_rename(self, other):
        if "partial" in self.name:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", failing_rename)
    with pytest.raises(OSError, match="Input/output"):
        write_folder(target, "new", replace=True)
    assert (target / "inner" / "weights").read_text() == "old"
    assert os.listdir(tmp_path) == ["model"]


def test_writing_nothing_is_noticed(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing was written"), write_aside(tmp_path / "a"):
        pass


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_a_full_disk_names_the_folder_the_free_bytes_and_the_way_out(tmp_path):
    target = tmp_path / "weights"
    target.write_text("old")
    with pytest.raises(OSError) as caught, write_aside(target) as aside:
        aside.symlink_to("/dev/full")  # the kernel's own ENOSPC
        aside.write_text("new")
    assert caught.value.errno == errno.ENOSPC
    assert not isinstance(caught.value, ConfigError)
    message = str(caught.value)
    assert f"{tmp_path}: expected room on the disk to write weights. Received: No space" in message
    assert "bytes free. Free some space or choose another folder" in message
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["weights"]


def test_a_limit_on_file_size_ends_like_a_full_disk(tmp_path, start):
    code = """
import resource, sys
from tfmodel.run_folder import write_aside
print("ready", flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    with write_aside(sys.argv[1]) as aside:
        aside.mkdir()
        (aside / "shard-0").write_bytes(b"x" * 9_000)
        (aside / "shard-1").write_bytes(b"x" * 90_000)
except OSError as error:
    print(error)
"""
    process = start(code, tmp_path / "data")
    printed = process.stdout.read()
    assert process.stderr.read() == ""
    assert "expected room on the disk to write data. Received: File too large" in printed
    assert os.listdir(tmp_path) == []


def test_a_full_disk_reported_by_tensorflow_is_known_by_its_words(tmp_path):
    class ResourceExhaustedError(Exception):
        pass

    with pytest.raises(OSError, match="expected room on the disk") as caught:
        with write_aside(tmp_path / "events"):
            raise ResourceExhaustedError("/x/events.tmp; No space left on device")
    assert caught.value.errno == errno.ENOSPC


def test_a_killed_writer_leaves_the_old_file_and_the_next_run_clears_up(tmp_path, start):
    write_json(tmp_path / "metrics.json", {"accuracy": 1})
    code = """
import sys, time
from pathlib import Path
from tfmodel.run_folder import Run, write_aside
run = Run.open(sys.argv[1])
with write_aside(run.metrics_path) as file, write_aside(run.export / "savedmodel" / "1") as folder:
    file.write_text("half")
    folder.mkdir()
    (folder / "saved_model.pb").write_text("half")
    print("ready", flush=True)
    time.sleep(600)
"""
    process = start(code, tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(tmp_path.rglob(".*.partial-*"))
    with Run.open(tmp_path) as run:
        assert not list(tmp_path.rglob(".*.partial-*"))
        assert run.metrics() == {"accuracy": 1}
        assert list((run.export / "savedmodel").iterdir()) == []


def test_what_live_processes_write_is_left_alone(tmp_path):
    theirs = tmp_path / f".data.partial-{os.getppid()}"
    theirs.write_text("")
    with Run.open(tmp_path):
        assert theirs.exists()


def test_a_kill_between_the_two_renames_of_a_swap_is_mended(tmp_path):
    finished = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                              capture_output=True, text=True, check=True)  # fmt: skip
    dead = finished.stdout.strip()
    (tmp_path / f".model.replaced-{dead}").mkdir()
    (tmp_path / f".model.replaced-{dead}" / "weights").write_text("old")
    (tmp_path / f".model.partial-{dead}").mkdir()
    (tmp_path / f".data.replaced-{dead}").mkdir()
    (tmp_path / "data").mkdir()
    with Run.open(tmp_path) as run:
        assert (run.model / "weights").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == [".lock", "data", "model"]


# --- JSON ---------------------------------------------------------------------------------


class Example(Settings):
    epochs: int = 3
    file: Path = Path("train.csv")


def test_json_is_valid_whatever_the_figures_are(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(
        path,
        {
            "loss": float("nan"),
            "worst": float("-inf"),
            "accuracy": np.float32(0.5),
            "confusion": np.array([[1, 2], [3, 4]]),
            "calibration": np.array([np.nan, 1.0]),
            3: (Path("a/b"), {"y", "x"}),
            "settings": Example(),
            "text": "naïve \ud800",
        },
    )

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    read = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert read == {
        "loss": None,
        "worst": None,
        "accuracy": 0.5,
        "confusion": [[1, 2], [3, 4]],
        "calibration": [None, 1.0],
        "3": ["a/b", ["x", "y"]],
        "settings": {"epochs": 3, "file": "train.csv"},
        "text": "naïve \ud800",
    }
    assert read_json(path) == read


def test_what_json_cannot_hold_leaves_the_file_alone(tmp_path):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", object())
    assert read_json(tmp_path / "a.json") == 1


def test_a_broken_json_file_is_named(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text('{"a": ')
    with pytest.raises(ConfigError, match="metrics.json: expected a JSON file that tfmodel wrote. "
                                          "Received: Expecting value: line 1"):  # fmt: skip
        read_json(path)
    with pytest.raises(ConfigError, match="Received: No such file or directory. Restore it"):
        read_json(tmp_path / "other.json")


# --- fingerprints -------------------------------------------------------------------------


def test_equal_inputs_have_equal_fingerprints():
    assert fingerprint({"a": 1, "b": (1, 2)}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert fingerprint({"a": float("nan")}) != fingerprint({"a": None})
    assert fingerprint(Example()) == fingerprint({"epochs": 3, "file": "train.csv"})
    assert len(fingerprint(None)) == 64


def test_a_file_counts_by_its_content_not_by_its_age(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("a")
    before = fingerprint({"train": path})
    os.utime(path, (1, 1))
    assert fingerprint({"train": path}) == before
    path.write_text("b")
    assert fingerprint({"train": path}) != before
    path.unlink()
    assert fingerprint({"train": path}) != before


def test_a_large_file_counts_by_size_and_time_of_change(tmp_path, monkeypatch):
    monkeypatch.setattr(tfmodel.run_folder, "_LARGEST_HASHED_FILE_BYTES", 10)
    path = tmp_path / "model.safetensors"
    path.write_text("x" * 11)
    before = fingerprint(path)
    assert fingerprint(path) == before
    os.utime(path, (1, 1))
    assert fingerprint(path) != before


def test_a_folder_counts_by_all_its_files_wherever_it_stands(tmp_path):
    for name in ("here", "there"):
        (tmp_path / name / "sport").mkdir(parents=True)
        (tmp_path / name / "sport" / "1.txt").write_text("goal")
        (tmp_path / name / "loop").symlink_to("..", target_is_directory=True)
    before = fingerprint(tmp_path / "here" / "sport")
    assert fingerprint(tmp_path / "there" / "sport") == before
    (tmp_path / "here" / "sport" / "1.txt").rename(tmp_path / "here" / "sport" / "2.txt")
    assert fingerprint(tmp_path / "here" / "sport") != before
    assert fingerprint(tmp_path / "here")  # the link back up ends


# --- Run ----------------------------------------------------------------------------------


def test_a_run_knows_its_places(tmp_path):
    with Run.open(tmp_path / "new" / "run") as run:
        assert run.folder == tmp_path / "new" / "run"
        places = (run.data, run.model, run.checkpoints, run.logs, run.export, run.report)
        assert [place.relative_to(run.folder).name for place in (*places, run.metrics_path)] == [
            "data",
            "model",
            "checkpoints",
            "logs",
            "export",
            "report.html",
            "metrics.json",
        ]


def test_metrics_gather_by_section(tmp_path):
    with Run.open(tmp_path) as run:
        assert run.metrics() == {}
        run.update_metrics("dev", {"accuracy": 0.5})
        run.update_metrics("dev", {"macro_f1": 0.4})
        run.update_metrics("train", {"seconds": 3})
    with Run.open(tmp_path) as run:
        assert run.metrics() == {
            "dev": {"accuracy": 0.5, "macro_f1": 0.4},
            "train": {"seconds": 3},
        }


def test_stages_remember_what_they_ran_on(tmp_path):
    with Run.open(tmp_path) as run:
        assert run.stage_fingerprint("data") is None
        assert run.stage_inputs("data") is None
        run.record_stage("data", "abc", {"seed": 7})
        run.record_stage("data", "abd", {"seed": 8})
        run.record_stage("finetune", "xyz", {})
    with Run.open(tmp_path) as run:
        assert run.stage_fingerprint("data") == "abd"
        assert run.stage_inputs("data") == {"seed": 8}
        assert run.stage_fingerprint("finetune") == "xyz"


def test_the_resolved_config_can_be_run_again(tmp_path):
    with Run.open(tmp_path) as run:
        run.save_config(Example(epochs=5))
    assert load_config(tmp_path / "config.yaml", Example) == Example(epochs=5)


def test_a_second_process_is_told_who_has_the_run(tmp_path, start):
    code = """
import sys, time
from tfmodel.run_folder import Run
run = Run.open(sys.argv[1])
print("ready", flush=True)
time.sleep(600)
"""
    process = start(code, tmp_path)
    with pytest.raises(ConfigError) as caught:
        Run.open(tmp_path)
    assert f"in use by process {process.pid} on " in str(caught.value)
    assert "Wait until it ends or stop it, or set run: to another folder." in str(caught.value)
    process.send_signal(signal.SIGKILL)
    process.wait()
    Run.open(tmp_path).close()


def test_the_same_process_cannot_open_a_run_twice_but_again(tmp_path):
    run = Run.open(tmp_path)
    with pytest.raises(ConfigError, match="nobody else is using"):
        Run.open(tmp_path)
    run.close()
    run.close()
    run = Run.open(tmp_path)
    del run  # forgotten without close()
    Run.open(tmp_path).close()


def test_a_forked_worker_does_not_keep_the_run_of_its_killed_parent(tmp_path, start):
    code = """
import os, sys, time
from tfmodel.run_folder import Run
run = Run.open(sys.argv[1])
child = os.fork()
if child == 0:
    time.sleep(600)
(run.folder / "child").write_text(str(child))
print("ready", flush=True)
time.sleep(600)
"""
    process = start(code, tmp_path)
    child = int((tmp_path / "child").read_text())
    time.sleep(0.2)  # the child drops the lock as its first act
    try:
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.kill(child, 0)  # alive
        Run.open(tmp_path).close()
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("place", ["a file", "below a file", "/proc"])
def test_a_folder_that_cannot_be_written_is_the_callers_mistake(tmp_path, place):
    (tmp_path / "file").write_text("")
    folder = {
        "a file": tmp_path / "file",
        "below a file": tmp_path / "file" / "run",
        "/proc": Path("/proc/run"),  # refuses even root
    }[place]
    with pytest.raises(ConfigError) as caught:
        Run.open(folder)
    message = str(caught.value)
    assert message.startswith(f"{folder}: expected a run folder that can be written. Received: ")
    assert message.endswith("Set run: to a folder of yours, or change its permissions.")


def test_a_read_only_folder_is_the_callers_mistake(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(ConfigError, match="can be written. Received: Permission denied. Set run:"):
        Run.open(tmp_path)


def test_a_file_system_without_locks_is_warned_about(tmp_path, monkeypatch, caplog):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with Run.open(tmp_path):
        assert "this file system has no locks (No locks available)" in caplog.text


# --- machine and seeds --------------------------------------------------------------------


def test_the_environment_is_recorded_without_tensorflow(tmp_path, start):
    code = """
import json, sys
from tfmodel.run_folder import Run
print("ready", flush=True)
Run.open(sys.argv[1]).environment()
print([name for name in ("tensorflow", "keras", "numpy") if name in sys.modules])
"""
    assert start(code, tmp_path).stdout.read().strip() == "[]"
    found = read_json(tmp_path / "environment.json")
    assert found["python"].startswith("3.")
    assert found["numpy"] == np.__version__
    assert found["cpu_cores"] >= 1
    assert {"tensorflow", "tensorflow-text", "keras", "tfmodel", "cpu", "platform"} <= set(found)


def test_a_package_that_is_not_installed_is_none(monkeypatch):
    monkeypatch.setattr(tfmodel.run_folder, "_PACKAGES", ("no-such-package",))
    assert environment()["no-such-package"] is None


def test_a_seed_gives_the_same_numbers_again():
    def draw():
        seed_everything(7)
        return random.random(), np.random.rand(), keras_draw()

    def keras_draw():
        keras = pytest.importorskip("keras")
        return float(keras.random.uniform((), seed=keras.random.SeedGenerator()))

    assert draw() == draw()


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(ConfigError, match=f"from 0 to 4294967295. Received: {seed}. Choose one"):
        seed_everything(seed)
