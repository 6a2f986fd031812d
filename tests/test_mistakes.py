"""Every mistake of issue 2's list, typed at the command line: exit 2, one message, what to do.

And every failure of the work: exit 1 with one message. Run: pytest tests/test_mistakes.py
"""

import contextlib
import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import small_run

RUN = Path("runs/small")
HALF = "text,label\nrain,weather\n"


def told(done, *parts, code=2):
    """The command ended so, with one message that holds all parts and nothing like a traceback."""
    assert done.code == code, done.err
    kind = {1: "failed", 2: "mistake"}[code]
    assert done.err.count("tfmodel: ") == 1, done.err
    message = done.err.partition(f"tfmodel: {kind}: ")[2]
    assert message and "Traceback" not in done.err and not done.out
    for part in parts:
        assert part in message, f"{part!r} is not in {message!r}"


@pytest.fixture
def run_new(workspace, tfmodel):
    """A run of the small config in a folder of its own."""
    return lambda *overrides: tfmodel("run", "small.yaml", "run=runs/new", *overrides)


@contextlib.contextmanager
def small_disk(folder, kilobytes, mode="rw"):
    """A file system of a few kilobytes at a folder, where we may make one."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={kilobytes}k,{mode}", "tmpfs", str(folder)]
    try:
        subprocess.run(["mount", *options], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a small file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


# --- the file of rows ---------------------------------------------------------------------

FILES = {
    "empty file": (b"", ["expected rows of text", "Received: an empty file", "Check that"]),
    "header only": (
        b"text,label\n",
        ["expected rows below the header", "Received: a header alone", "columns: [...]"],
    ),
    "wrong delimiter": (
        b"text;label\nrain;weather\ngoal;sport\n",
        ["data.delimiter=,", "cut at ','", "The likely delimiter is ';'", 'delimiter: ";"'],
    ),
    "missing column": (
        b"texts,label\nrain,weather\ngoal,sport\n",
        ["expected a column text (data.text)", "Received: texts, label", "Did you mean texts?"],
    ),
    "not UTF-8": (
        "text,label\nfin de journée à Orléans,weather\nbut marqué,sport\n".encode("latin-1"),
        ["expected text in utf-8", "Received: byte 0xe9 on line 2", "encoding: "],
    ),
    "one class": (
        b"text,label\nrain,weather\nstorm,weather\n",
        ["at least two classes", "Received: 2 rows, all of the class 'weather'", "Check that"],
    ),
    "empty labels": (
        b"text,label\nrain,\ngoal,\n",
        ["rows with a text and a label", "2 empty_label", "The column label (data.label)"],
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_learned_from(name, workspace, run_new):
    content, parts = FILES[name]
    Path("bad.csv").write_bytes(content)
    extra = [part for part in parts if part.startswith("data.delimiter=")]
    done = run_new("data.train=bad.csv", *extra)
    told(done, "bad.csv" if name != "one class" else "data.train", *parts[len(extra) :])
    assert not Path("runs/new/data").exists()


def test_no_such_file(workspace, run_new):
    told(
        run_new("data.train=trian.csv"),
        "trian.csv: expected a file or folder",
        "Received: ",
        "Did you mean ",
        "train.csv?",
    )


def test_a_label_in_test_that_train_has_not(workspace, run_new):
    rows = [("rain at noon", "weather"), ("a goal", "sprot"), ("no goal", "sprot")]
    small_run.write_rows(Path("test.csv"), rows)
    told(
        run_new("data.test=test.csv"),
        "data.test: expected only labels that train has (business, sport, weather)",
        "Received: sprot (2 rows, first at test.csv:3)",
        "correct its spelling",
    )


def test_a_text_of_1_mb_is_left_out_and_counted(workspace, tfmodel):
    small_run.write_rows(Path("long.csv"), [*small_run.rows(), ("rain " * 200_000, "weather")])
    done = tfmodel("data", "small.yaml", "run=runs/new", "data.train=long.csv")
    assert done.code == 0
    assert "121 raw rows = 120 kept + 1 dropped (1 too_long)" in done.err
    assert json.loads(Path("runs/new/data/dropped.jsonl").read_text())["reason"] == "too_long"


# --- the config ---------------------------------------------------------------------------


def test_an_unknown_key_names_the_nearest(workspace, run_new):
    told(run_new("train.learning_rat=1e-4"), "unknown key train.learning_rat. Did you mean ",
         "train.learning_rate?")  # fmt: skip


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("train.epochs=-1", ["train.epochs: expected a value at least 0", "Received: -1"]),
        ("train.epochs=0", ["train.epochs must be at least 1 where task.name is classify", "0"]),
        ("train.learning_rate=7", ["learning_rate must be in (0, 1]", "7"]),
        ("seed=-1", ["seed: expected a value at least 0", "Received: -1"]),
        ("export.tflite=[int4]", ["export.tflite.0: expected one of float32, float16, int8"]),
        ("task.name=classfy", ["task.name: expected", "classify", 'Received: "classfy"']),
        ("train.epochs", ["expected KEY=VALUE", "Write for example train.epochs=3"]),
    ],
)
def test_a_value_out_of_range(override, parts, workspace, run_new):
    told(run_new(override), *parts)
    assert not Path("runs/new").exists()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("run: x\ndata: [train\n", ["bad.yaml:", "expected YAML", "Check the indentation"]),
        ("run: x\n\tdata: y\n", ["bad.yaml:2", "expected YAML", "spaces instead of tabs"]),
        ("", ["bad.yaml: expected keys such as run, seed", "an empty file", "tfmodel init FILE"]),
        ("seed: 1\n", ["missing key run", "missing key data", "Add data.train to the config"]),
    ],
)
def test_a_broken_config(text, parts, workspace, tfmodel):
    Path("bad.yaml").write_text(text)
    told(tfmodel("run", "bad.yaml"), *parts)


def test_a_config_that_is_not_there(workspace, tfmodel):
    told(tfmodel("run", "smal.yaml"), "smal.yaml: expected a YAML config", "or take small.yaml")


# --- the encoder --------------------------------------------------------------------------


def _without_weights(folder):
    (folder / "model.safetensors").unlink()


def _truncated(folder):
    os.truncate(folder / "model.safetensors", 20_000)


def _of_another_size(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 128}))


def _of_fewer_pieces(folder):
    with open(folder / "vocab.txt", "a") as file:
        file.write("one\ntwo\n")


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (_without_weights, ["expected weights in model.safetensors", "the folder holds", "Save"]),
        (_truncated, ["expected a whole safetensors file", "20,000 bytes", "Fetch or copy"]),
        (_of_another_size, ["of the size in config.json", "of another size", "Use the config"]),
        (_of_fewer_pieces, ["expected a vocabulary of at most", "as config.json says"]),
        (shutil.rmtree, ["expected a file or folder", "holds no encoder", "Check the path"]),
    ],
)
def test_an_encoder_that_is_not_whole(spoil, parts, workspace, run_new):
    spoil(Path("encoder"))
    told(run_new(), *parts)
    assert not Path("runs/new/model").exists()


def test_rows_longer_than_the_encoder_has_positions(workspace, run_new):
    told(run_new("train.max_length=64"), "train.max_length must be at most 48", "Received: 64")
    # Set right, the same run goes on: there was no training that could be lost.
    done = run_new("train.max_length=8", "train.epochs=1", "export=null")
    assert done.code == 0, done.err


# --- the run folder -----------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["train.csv/run", "/proc/new"])
def test_a_run_folder_that_cannot_be_written(folder, workspace, tfmodel):
    # Root may write to a folder of mode 0555; below a file and in /proc nobody may.
    done = tfmodel("run", "small.yaml", f"run={folder}")
    told(done, "expected a run folder that can be written", "Received: ", "Set run: to a folder")


def test_a_run_folder_on_a_read_only_file_system(workspace, tfmodel):
    with small_disk(Path("disk"), 100, "ro"):
        done = tfmodel("run", "small.yaml", "run=disk")
        told(done, "expected a run folder that can be written", "Received: ")


def test_a_run_folder_trained_with_another_config(workspace, tfmodel):
    done = tfmodel("run", "small.yaml", "train.max_length=10", "seed=4")
    told(
        done,
        "runs/small: expected the config and data that this run was trained with",
        "changed: seed was 3, is 4; train.max_length was 12, is 10",
        "Add --restart to train anew and replace them, or set run: to another folder",
    )


# --- failures of the work -----------------------------------------------------------------


@pytest.mark.parametrize(("kilobytes", "writing"), [(12, "data"), (200, "model")])
def test_a_full_disk(kilobytes, writing, workspace, tfmodel):
    with small_disk(Path("disk"), kilobytes):
        done = tfmodel("run", "small.yaml", "run=disk/run", "train.epochs=1")
        told(
            done,
            f"disk/run: expected room on the disk to write {writing}",
            "Received: No space left on device",
            "Free some space",
            "run the same command again",
            code=1,
        )
        assert not list(Path("disk").rglob(".*partial*"))


def test_a_disk_that_fills_in_the_export_leaves_what_is_served(workspace, tfmodel, monkeypatch):
    from tfmodel.export import savedmodel

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(savedmodel, "export_savedmodel", full)
        done = tfmodel("run", "small.yaml", "export.max_length=10")
    told(done, "No space left on device", code=1)
    assert os.listdir(RUN / "export/savedmodel") == ["1"]
    assert tfmodel("predict", RUN / "export/savedmodel", "rain").code == 0


def test_a_loss_that_is_no_number(workspace, tfmodel, run_new, monkeypatch):
    from tfmodel.tasks import classify

    class NotANumber(type(classify.loss())):
        def call(self, y_true, y_pred):
            return super().call(y_true, y_pred) * float("nan")

    with monkeypatch.context() as patch:
        patch.setattr(classify, "loss", lambda: NotANumber(from_logits=True))
        told(
            run_new(),
            "The loss is nan at step 1",
            "Lower train.learning_rate",
            "train.precision=float32",
            code=1,
        )
    assert not Path("runs/new/model").exists()
    # What the message says to do is done without --restart.
    done = run_new("train.learning_rate=1e-3", "train.epochs=1", "export=null")
    assert done.code == 0, done.err


def test_an_export_that_answers_otherwise(workspace, tfmodel, monkeypatch):
    from tfmodel.export.parity import verdicts

    shutil.rmtree(RUN / "export")
    with monkeypatch.context() as patch:
        patch.setattr(verdicts, "LARGEST_FLOAT32_DIFFERENCE", -1.0)
        done = tfmodel("run", "small.yaml", "export.tflite=[]")
    told(
        done,
        "do not answer as the Keras model does, so none was published",
        "savedmodel: a score is off by",
        code=1,
    )
    assert os.listdir(RUN / "export") == ["parity_failed.json"]
    assert "export" not in json.loads((RUN / "metrics.json").read_text())
    again = tfmodel("run", "small.yaml", "export.tflite=[]")
    assert again.code == 0, again.err
    assert sorted(os.listdir(RUN / "export")) == ["parity.json", "savedmodel"]


def test_a_mistake_of_ours_says_where_to_find_it(workspace, tfmodel, monkeypatch):
    from tfmodel import pipeline

    monkeypatch.setattr(pipeline, "_save_config", lambda _: {}["no such key"])
    done = tfmodel("run", "small.yaml")
    told(done, "KeyError: 'no such key'", "--verbose", code=1)
    with pytest.raises(KeyError):
        tfmodel("run", "small.yaml", "--verbose")
