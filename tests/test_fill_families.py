"""Models that fill gaps on other encoders than BERT: asked, and every artifact, by their folder.

Run: pytest -m slow tests/test_fill_families.py
"""

import json

import keras
import numpy as np
import pytest
import small_families
from command import run_command

import tfmodel
from tfmodel.config import ConfigError
from tfmodel.model import build_encoder
from tfmodel.tasks import fill, load_model

pytestmark = pytest.mark.slow

FAMILIES = ("roberta", "albert")
"""One for each way to cut texts beside WordPiece; ALBERT's layers are one."""


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    """A folder of a model with random weights that are large enough to tell tokens apart."""
    keras.utils.set_random_seed(0)
    tokenizer = small_families.tokenizer_of(request.param)
    shape = small_families.shape_of(request.param, len(tokenizer.vocabulary))
    model = fill.build(build_encoder(shape))
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign_add(random.normal(size=weight.shape, scale=0.2).astype(np.float32))
    place = tmp_path_factory.mktemp(request.param)
    return fill.save(model, place / "model", tokenizer=tokenizer)


def test_every_artifact_answers_alike(folder, tmp_path):
    loaded = load_model(folder)
    gap = loaded.tokenizer.vocabulary.special["mask"]
    texts = [f"the {gap} was on monday", f"{gap}{gap} bank, 😀 {gap}.", "no gap", "", f"é {gap}"]
    described = {"labels": [], "task": "fill", "max_length": 16, "decoding": {"top": 3}}
    files = {
        "savedmodel": tfmodel.export_savedmodel(
            loaded.model, loaded.tokenizer, tmp_path / "served", **described
        ),
        "tflite": tfmodel.export_tflite(
            loaded.model, loaded.tokenizer, tmp_path / "x.tflite", **described
        ),
    }
    due = [len(gaps) for gaps in fill.fill(loaded.model, loaded.tokenizer, texts[:2])]
    wanted = tfmodel.load(folder).predict(texts)
    assert [len(each["gaps"]) for each in wanted] == [*due, 0, 0, 1] == [1, 3, 0, 0, 1]
    assert [each["filled"] for each in wanted[2:4]] == texts[2:4]
    for name, path in files.items():
        given = tfmodel.load(path).predict(texts)
        assert [each["filled"] for each in given] == [each["filled"] for each in wanted], name
        for one, other in zip(given, wanted, strict=True):
            for answers, expected in zip(one["gaps"], other["gaps"], strict=True):
                assert [each["token"] for each in answers] == [a["token"] for a in expected[:3]]
                scores = [each["score"] for each in expected[:3]]
                assert [each["score"] for each in answers] == pytest.approx(scores, abs=1e-5)
    card = (files["savedmodel"] / "README.md").read_text("utf-8")
    assert f"of each `{gap}`" in card and f"some {gap} text" in card
    with pytest.raises(ConfigError, match=r"expected a task that MediaPipe has. Received: fill"):
        tfmodel.export_tflite(
            loaded.model, loaded.tokenizer, tmp_path / "y.tflite", runtime="mediapipe", **described
        )


def test_the_command_asks_by_the_tokenizers_own_mask(folder):
    gap = load_model(folder).tokenizer.vocabulary.special["mask"]
    other = {"[MASK]": "<mask>", "<mask>": "[MASK]"}[gap]
    done = run_command("predict", str(folder), f"the {gap} was on monday", f"the {other} was")
    assert done.code == 0, done.err
    one, none = (json.loads(line) for line in done.out.splitlines())
    assert gap not in one["filled"] and len(one["gaps"][0]) == 5
    assert none["gaps"] == [] and none["filled"] == f"the {other} was"
    assert f"1 of 2 texts have no {gap}: nothing is filled there. Write {gap}" in done.err
