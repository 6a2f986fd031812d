"""Tasks that read tokens, and vectors, on other encoders than BERT: by a config, whole.

Which task goes with which family is chosen so that each way to split texts is tagged and answered
in. Run: pytest -m slow tests/test_family_tasks.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import small_families
import small_run
import tensorflow as tf
import yaml
from command import run_command
from test_task_contract import CASES, numbers, texts_of

from tfmodel import tasks
from tfmodel.export import load

pytestmark = pytest.mark.slow

FAMILIES = {"tag": "roberta", "span": "xlm-roberta", "embed": "distilbert"}
ARCHITECTURES = {
    "tag": "RobertaForTokenClassification",
    "span": "XLMRobertaForQuestionAnswering",
    "embed": "DistilBertModel",
}
ODD = "Zoe\u0308 😀 the  coach team，北京 é-market bank"


def read(path):
    return json.loads(Path(path).read_text("utf-8"))


@pytest.fixture(scope="module", params=FAMILIES)
def road(request, tmp_path_factory):
    """A task, its case and its finished run; not to be changed."""
    case = CASES[request.param]
    config = yaml.safe_load(small_run.CONFIG)
    config["export"] = {"tflite": ["float32"]}
    for section, values in case.config.items():
        config[section] = {**config.get(section, {}), **values}
    config["train"] |= {"learning_rate": 0.002, "epochs": 12, "warmup_share": 0.1}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp(request.param))
        small_families.write_encoder(Path("encoder"), FAMILIES[request.param])
        case.write(Path(config["data"]["train"]), case.rows)
        Path("small.yaml").write_text(yaml.safe_dump(config))
        done = run_command("run", "small.yaml")
        assert done.code == 0, done.err
        yield request.param, case


def test_it_learns_and_its_folder_is_the_familys_own(road):
    name, case = road
    figure, least = case.figure
    assert read("runs/small/metrics.json")["test"][figure] >= least
    config = read("runs/small/model/config.json")
    assert (config["model_type"], config["architectures"]) == (
        FAMILIES[name],
        [ARCHITECTURES[name]],
    )
    assert tasks.load_model("runs/small/model").task == name


def test_every_artifact_answers_alike(road):
    _, case = road
    parity = read("runs/small/export/parity.json")
    assert parity["passed"] and [*parity["artifacts"]] == ["savedmodel", "tflite/float32"]
    wanted = numbers(load("runs/small").values(*texts_of(case)))
    for path in ("savedmodel", "tflite/float32.tflite"):
        given = numbers(load(f"runs/small/export/{path}").values(*texts_of(case)))
        np.testing.assert_allclose(given, wanted, atol=1e-5 * max(1, np.abs(wanted).max()))


def test_answers_are_spans_of_the_users_own_text(road):
    name, _ = road
    if name == "embed":
        pytest.skip("a vector is no span")
    served = load("runs/small/export/savedmodel")
    if name == "span":
        (answer,) = served.predict(["said on 1"], [ODD])
        found = [(answer["answer"], answer["start"], answer["end"])]
        assert answer["answer"] in ("coach", "team", "market", "bank")
    else:
        (answer,) = served.predict([ODD])
        found = [(each["text"], each["start"], each["end"]) for each in answer["entities"]]
        words = tf.saved_model.load("runs/small/export/savedmodel/1").signatures["serving_default"](
            text=tf.constant([ODD])
        )
        places = zip(words["starts"].numpy()[0], words["ends"].numpy()[0], strict=True)
        assert [ODD[start:end] for start, end in places] == [
            *(
                "Zoe\u0308",
                "😀",
                "the",
                "coach",
                "team",
                "，",
                "北",
                "京",
                "é",
                "-",
                "market",
                "bank",
            )
        ]
    assert all(ODD[start:end] == text for text, start, end in found)
