"""A run that trains on new versions of its rows: dev, test and the prepared data stay as they are.

Run: pytest tests/stages/test_augmentation_stage.py
"""

import json
import shutil
from pathlib import Path

import pytest

from tfmodel.data import load_dataset

RUN = Path("runs/small")
AUGMENT = "data.augment.methods=[swap, deletion]"


@pytest.fixture
def workspace(finished, tmp_path, monkeypatch):
    """A finished run of small rows, and the folder it is in."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def figures():
    return json.loads((RUN / "metrics.json").read_text("utf-8"))["train"]


@pytest.mark.slow
def test_training_alone_sees_new_versions(workspace, tfmodel):
    rows = load_dataset(RUN / "data").counts
    files = {path: path.read_bytes() for path in (RUN / "data").iterdir()}
    before = figures()
    assert "new_rows" not in before and before["examples"] == 4 * rows["train"]

    refused = tfmodel("run", "small.yaml", AUGMENT)
    assert refused.code == 2 and "data.augment.methods" in refused.err
    assert figures() == before

    done = tfmodel("run", "small.yaml", AUGMENT, "--restart")
    assert done.code == 0, done.err
    assert "data: up to date" in done.err
    assert "augmentation: " in done.err
    after = figures()
    assert rows["train"] < after["new_rows"] <= 2 * rows["train"]
    assert after["examples"] == 4 * (rows["train"] + after["new_rows"])
    assert {path: path.read_bytes() for path in (RUN / "data").iterdir()} == files

    again = tfmodel("run", "small.yaml", AUGMENT)
    assert again.code == 0 and "finetune: up to date" in again.err


def test_another_list_of_synonyms_is_another_training(workspace, tfmodel):
    Path("words.txt").write_text("goal, point\nrain, drizzle\n")
    wanted = ("data.augment.methods=[synonyms]", "data.augment.synonyms=words.txt")
    done = tfmodel("finetune", "small.yaml", *wanted, "train.epochs=1", "--restart")
    assert done.code == 0, done.err
    assert 0 < figures()["new_rows"] < load_dataset(RUN / "data").counts["train"]
    Path("words.txt").write_text("goal, point\n")
    refused = tfmodel("finetune", "small.yaml", *wanted, "train.epochs=1")
    assert refused.code == 2
    assert "the content of data.augment.synonyms" in refused.err


def test_a_masked_language_model_proposes_words(workspace, tfmodel):
    from tfmodel.model import load_encoder
    from tfmodel.tasks import fill
    from tfmodel.tokens import Tokenizer

    model = fill.build(load_encoder("encoder"))
    fill.save(model, "masked", tokenizer=Tokenizer.from_folder("encoder", max_length=48))
    wanted = ("data.augment.methods=[replacement]", "data.augment.model=masked")
    done = tfmodel("finetune", "small.yaml", *wanted, "train.epochs=1", "--restart")
    assert done.code == 0, done.err
    assert 0 < figures()["new_rows"] <= load_dataset(RUN / "data").counts["train"]
    refused = tfmodel("finetune", "small.yaml", *wanted, "data.augment.model=encoder", "--restart")
    assert refused.code == 2
    assert "expected a masked language model's head. Received: none" in refused.err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.augment.methods=[translation]"], "data.augment.methods"),
        (["data.augment.methods=[back_translation]"], "only Python can give"),
        (["data.augment.methods=[replacement]"], "or name a masked language model by model"),
        (["data.augment={methods: [swap], model: encoder}"], "a model that no method uses"),
        (["data.augment.methods=[synonyms]"], "name its file by synonyms: FILE"),
        (["data.augment.copies=2"], "data.augment.methods"),
        (["data.augment.methods=[swap]", "data.target=tags"], "labels name places in the text"),
        (
            ["data.augment.methods=[synonyms]", "data.augment.synonyms=none.tsv"],
            "none.tsv",
        ),
    ],
)
def test_mistakes_end_before_any_work(workspace, tfmodel, overrides, message):
    done = tfmodel("run", "small.yaml", *overrides)
    assert done.code == 2 and message in done.err, done.err
    assert "Traceback" not in done.err
