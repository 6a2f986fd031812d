"""A tagger with a CRF goes the whole road: training, folder, artifacts, parity, answers.

Run: pytest -m slow tests/test_crf_road.py
"""

import importlib.util
import json
import random
import re
import signal
from pathlib import Path

import needs
import numpy as np
import pytest
import small_run
import yaml
from command import run_command

from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.export import load
from tfmodel.tasks import tag
from tfmodel.tasks.tag_rules import rules_of

pytestmark = pytest.mark.slow
GUIDE = Path(__file__).parents[1] / "docs" / "tasks.md"
TAGS = ["O", "B-group", "I-group", "B-place", "I-place"]


ENTITIES = {"group": ["coach", "team"], "place": ["market", "bank"]}


def tagged_rows(count=200, *, seed=0):
    """Sentences with an entity of each label; some are longer than a window."""
    generator = random.Random(seed)
    found = {}
    while len(found) < count:
        words, tags = [], []
        for label in generator.sample([*ENTITIES], 2):
            entity = ENTITIES[label][: generator.randint(1, 2)]
            outside = generator.choices(small_run._FILLERS, k=generator.choice([1, 3, 8]))
            words += [*outside, *entity]
            tags += ["O"] * len(outside) + [f"B-{label}", f"I-{label}"][: len(entity)]
        found.setdefault(" ".join(words), tags)
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with rows, an encoder and a config."""
    folder = tmp_path_factory.mktemp("crf")
    config = yaml.safe_load(small_run.CONFIG)
    config["task"] = {"name": "tag", "crf": True}
    config["data"]["train"] = "train.conll"
    config["train"] |= {
        "epochs": 10,
        "learning_rate": 0.003,
        "warmup_share": 0.1,
        "regularize": {"moving_average": {"decay": 0.9}, "layer_decay": 0.95},
    }
    config["export"] = {"tflite": ["float32", "int8"], "max_drop": 0.05}
    config["export"]["onnx"] = all(map(importlib.util.find_spec, ("onnx", "onnxruntime")))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        small_run.write_encoder(Path("encoder"))
        sentences = [
            "\n".join(f"{word}\t{tag}" for word, tag in zip(text.split(), tags, strict=True))
            for text, tags in tagged_rows().items()
        ]
        Path("train.conll").write_text("\n\n".join(sentences) + "\n")
        Path("small.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture(autouse=True)
def here(place, monkeypatch):
    monkeypatch.chdir(place)


@pytest.fixture(scope="module")
def road(place):
    """The finished run of it, `runs/small`; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        done = run_command("run", "small.yaml")
    assert done.code == 0, done.err


def places(rows):
    return [[(e["start"], e["end"], e["label"]) for e in row["entities"]] for row in rows]


def texts():
    return [*tagged_rows(12, seed=5), "", "☔", "said team coach on bank"]


def test_it_learns_and_is_kept(road):
    metrics = json.loads(Path("runs/small/metrics.json").read_text())
    assert metrics["test"]["f1"] > 0.8 and metrics["dev"]["f1"] > 0.8
    loaded = tasks.load_model("runs/small/model")
    assert (loaded.task, loaded.labels) == ("tag", TAGS)
    learned = loaded.decoding["transitions"]
    free = np.array(learned["following"])[rules_of(TAGS).following]
    assert np.abs(free).max() > 0.1  # at the encoder's own rate they would hardly move
    assert np.array(learned["following"])[0, 2] == learned["first"][2] == -1e6
    tag.save(loaded.model, "again", tokenizer=loaded.tokenizer, labels=loaded.labels)
    assert tag.load("again").decoding == loaded.decoding
    # Weights of the folder and what `predict` answers go together.
    asked = load("runs/small").predict(texts())
    assert places(asked) == places(load("again").predict(texts()))
    for row in asked:
        for entity in row["entities"]:
            assert row["text"][entity["start"] : entity["end"]] == entity["text"]
            assert 0 < entity["score"] <= 1


def test_every_artifact_answers_alike(road):
    import tensorflow as tf
    import tensorflow_text  # noqa: F401

    export = Path("runs/small/export")
    parity = json.loads((export / "parity.json").read_text())
    assert parity["passed"] and {"savedmodel", "tflite/float32", "tflite/int8"} <= {
        *parity["artifacts"]
    }
    model = load("runs/small")
    wanted = model.predict(texts())
    assert sum(map(len, places(wanted))) > 15
    names = ["savedmodel", "tflite/float32.tflite", "tflite/int8.tflite"]
    for name in [*names, *(["onnx"] if "onnx" in parity["artifacts"] else [])]:
        asked = load(export / name)
        assert dict(asked.manifest.decoding) == dict(model.manifest.decoding), name
        assert asked.manifest.format == 4
        given = asked.predict(texts())
        assert places(given) == places(wanted), name
        if "int8" not in name:
            for one, other in zip(given, wanted, strict=True):
                scores = [[e["score"] for e in row["entities"]] for row in (one, other)]
                np.testing.assert_allclose(*scores, atol=1e-4)
    saved = tf.saved_model.load(str(export / "savedmodel" / "1"))
    found = saved.signatures["serving_default"](text=tf.constant(texts()))
    scores, tags = found["scores"].numpy(), found["tags"].numpy()
    assert {*found} == {*tag.SERVED, "emissions"}
    of_words = tags != b""
    np.testing.assert_allclose(scores[of_words].sum(-1), 1, atol=1e-4)
    assert not scores[~of_words].any()
    first = wanted[0]["entities"][0]  # its score is the mean of what the graph gives
    words = (found["starts"][0].numpy() < first["end"]) & (
        found["ends"][0].numpy() > first["start"]
    )
    given = [scores[0, word, TAGS.index(tags[0, word].decode())] for word in np.flatnonzero(words)]
    assert np.mean(given) == pytest.approx(first["score"], abs=1e-4)


def test_an_artifact_with_other_transitions_does_not_pass(road):
    from tfmodel.export import check_parity, export_savedmodel
    from tfmodel.export.parity import ParityError

    loaded = tasks.load_model("runs/small/model")
    described = {"labels": loaded.labels, "max_length": loaded.max_length, "task": "tag"}
    with pytest.raises(ConfigError, match="what the model's CRF learned.*Received: decoding {}"):
        export_savedmodel(loaded.model, loaded.tokenizer, "without", **described)
    other = {**loaded.decoding["transitions"], "first": [0.0] * len(TAGS)}
    described["decoding"] = {"transitions": other}
    path = export_savedmodel(loaded.model, loaded.tokenizer, "other", **described)
    with pytest.raises(ParityError, match="decoded otherwise than the Keras model"):
        check_parity(load("runs/small"), {"x": path}, texts(), measure=False)


def test_the_guides_decoding_on_a_phone_is_ours(road):
    block = next(
        each
        for each in re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text("utf-8"), re.S | re.M)
        if "Interpreter" in each
    )
    text = next(text for text in tagged_rows(30, seed=7) if len(text.split()) < 9)
    names = {}
    block = block.replace("runs/trips", "runs/small").replace("Mei Lin flew to Lima.", text)
    exec(compile(block, "tasks.md", "exec"), names)
    assert "transitions" in names["told"]["decoding"]
    (wanted,) = load("runs/small/export/tflite/float32.tflite").predict([text])
    begun = [word for word, tag in names["words"] if tag.startswith("B-")]
    assert begun == [entity["text"].split()[0] for entity in wanted["entities"]] != []


def test_a_training_that_was_cut_off_is_the_same_training(monkeypatch):
    """Transitions, their moments and their average go on where they were."""
    from safetensors.numpy import load_file

    from tfmodel.train.callbacks import StepRecorder

    record, short = StepRecorder.on_train_batch_end, ["small.yaml", "train.epochs=2"]

    def record_and_signal(self, batch, logs=None):
        record(self, batch, logs)
        if self.history[-1]["step"] == 13:
            signal.raise_signal(signal.SIGINT)

    for run in ("whole", "cut"):
        assert run_command("data", *short, f"run=runs/{run}").code == 0
    done = run_command("finetune", *short, "run=runs/whole")
    assert done.code == 0, done.err
    with monkeypatch.context() as patch:
        patch.setattr(StepRecorder, "on_train_batch_end", record_and_signal)
        assert run_command("finetune", *short, "run=runs/cut").code == 130
    done = run_command("finetune", *short, "run=runs/cut")
    assert done.code == 0, done.err
    metrics = json.loads(Path("runs/cut/metrics.json").read_text())
    assert metrics["train"]["resumed_at_steps"] == [13]
    whole, cut = (load_file(f"runs/{run}/model/model.safetensors") for run in ("whole", "cut"))
    assert {*whole} == {*cut} and np.abs(whole["crf.transitions"][0, 1]) > 0
    for name, values in whole.items():
        np.testing.assert_array_equal(cut[name], values, err_msg=name)


def test_transformers_loads_it_without_the_transitions(road):
    transformers, torch = needs.package("transformers"), needs.package("torch")
    loaded = tasks.load_model("runs/small/model")
    theirs, told = transformers.AutoModelForTokenClassification.from_pretrained(
        "runs/small/model", output_loading_info=True
    )
    unexpected = {"crf.start_transitions", "crf.transitions", "crf.end_transitions"}
    assert {*told["unexpected_keys"]} == unexpected and not told["missing_keys"]
    batch = loaded.tokenizer(texts()[:4])
    with torch.no_grad():
        wanted = theirs(
            input_ids=torch.tensor(batch["token_ids"].numpy().astype(np.int64)),
            attention_mask=torch.tensor(batch["padding_mask"].numpy().astype(np.int64)),
        ).logits.numpy()
    real = batch["padding_mask"].numpy() > 0
    np.testing.assert_allclose(loaded.model(batch).numpy()[real], wanted[real], atol=1e-5)
