"""Each family of encoders goes the whole road by a config: training, folder, artifacts, answers.

A new family is an entry of `small_families.SHAPES`. Some tests need the extras `parity` or `onnx`.
Run: pytest -m slow tests/test_families_contract.py
"""

from __future__ import annotations

import json
from pathlib import Path

import needs
import numpy as np
import pytest
import small_families
import small_run
import yaml
from command import run_command

from tfmodel import tasks
from tfmodel.export import load, read_associated_files

CLASSES = {
    "distilbert": "DistilBert",
    "electra": "Electra",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
    "albert": "Albert",
}
pytestmark = pytest.mark.slow
SPLITTERS = {
    "roberta": {"vocab.json", "merges.txt", "tokenizer_config.json"},
    "xlm-roberta": {"tokenizer.json", "tokenizer_config.json"},
    "albert": {"tokenizer.json", "tokenizer_config.json"},
}
"""Files of tokenizers that no phone has; the others' is `vocab.txt`."""
TRAINED = {
    "xlm-roberta": {"learning_rate": 0.001},
    "albert": {"learning_rate": 0.001, "epochs": 40},
}
TOKENIZERS = {
    "distilbert": "DistilBertTokenizer",
    "electra": "BertTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "albert": "AlbertTokenizer",
}


def read(path):
    return json.loads(Path(path).read_text("utf-8"))


@pytest.fixture(scope="module", params=small_families.SHAPES)
def road(request, tmp_path_factory):
    """A run of a family with its exports; not to be changed."""
    family = request.param
    folder = tmp_path_factory.mktemp(family)
    config = yaml.safe_load(small_run.CONFIG)
    longer = {"epochs": 15, "patience": None, "learning_rate": 0.003, "warmup_share": 0.1}
    config["train"] |= {**longer, **TRAINED.get(family, {})}
    config["export"] = {"tflite": ["float32", "int8"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        small_families.write_encoder(folder / "encoder", family)
        small_run.write_rows(folder / "train.csv", small_run.rows())
        (folder / "small.yaml").write_text(yaml.safe_dump(config))
        done = run_command("run", "small.yaml")
        assert done.code == 0, done.err
        yield family, [text for text, _ in small_run.rows()[:20]]


@pytest.fixture(scope="module")
def predictor(road):
    """What answers with the run: loaded once."""
    return load("runs/small")


def test_it_learns_and_its_folder_is_the_familys_own(road, predictor):
    family, texts = road
    # The small random ALBERT, all of whose layers are one, tells two of the three topics apart.
    if family != "albert":
        assert read("runs/small/metrics.json")["test"]["accuracy"] >= 0.8
    config = read("runs/small/model/config.json")
    assert config["model_type"] == family
    assert config["architectures"] == [f"{CLASSES[family]}ForSequenceClassification"]
    loaded = tasks.load_model("runs/small/model")
    values = tasks.classify.values(loaded.model(loaded.tokenizer(texts), training=False).numpy())
    np.testing.assert_allclose(predictor.values(texts), values, atol=1e-5)


def test_every_artifact_answers_alike(road, predictor):
    _, texts = road
    parity = read("runs/small/export/parity.json")
    assert parity["passed"]
    assert [*parity["artifacts"]] == ["savedmodel", "tflite/float32", "tflite/int8"]
    wanted = predictor.values([*texts, "", "x" * 300, "Café 电影"])
    for path, tolerance in (
        ("savedmodel", 1e-5),
        ("tflite/float32.tflite", 1e-5),
        ("tflite/int8.tflite", 0.3),
    ):
        given = load(f"runs/small/export/{path}").values([*texts, "", "x" * 300, "Café 电影"])
        np.testing.assert_allclose(given, wanted, atol=tolerance)


def test_a_server_can_run_it(road):
    (found,) = [
        figures["serving"]
        for name, figures in read("runs/small/export/parity.json")["artifacts"].items()
        if name == "savedmodel"
    ]
    # Other pieces are of core operations, which are older than those of WordPiece.
    assert found["needs"] == ("2.10" if road[0] in SPLITTERS else "2.12")
    assert not found["warnings"]
    card = Path("runs/small/export/savedmodel/1/README.md").read_text("utf-8")
    assert f"{CLASSES[road[0]]}, " in card


def test_answers_by_the_command_line(road):
    if road[0] == "albert":
        pytest.skip("the small random ALBERT tells two of the three topics apart")
    for place in ("runs/small", "runs/small/export/tflite/int8.tflite"):
        done = run_command("predict", place, "the storm was on monday", "bank profit")
        assert done.code == 0, done.err
        answers = [json.loads(line) for line in done.out.splitlines()]
        assert [answer["label"] for answer in answers] == ["weather", "business"]


def test_every_artifact_answers_alike_in_processes_of_their_own(road):
    """MediaPipe, too, where it is installed and has such a tokenizer."""
    from tfmodel.export import check_parity, predictor_of

    family, texts = road
    loaded = tasks.load_model("runs/small/model")
    described = {"labels": loaded.labels, "max_length": loaded.max_length}
    reference = predictor_of(loaded.model, loaded.tokenizer, **described)
    artifacts = {
        path: f"runs/small/export/{path}" for path in ("savedmodel/1", "tflite/float32.tflite")
    }
    runtime = "litert" if family in SPLITTERS else "mediapipe"
    parity = check_parity(reference, artifacts, texts, measure=True, runtime=runtime)
    assert parity["passed"] and [*parity["artifacts"]] == [*artifacts]
    phones = parity["artifacts"]["tflite/float32.tflite"]["runtimes"]
    if family in SPLITTERS:
        kind = loaded.tokenizer.kind
        assert phones["mediapipe"] == {"not_run": f"it has no tokenizer {kind}"}


def test_keys_of_training_mean_the_same(road):
    asked = {
        "regularize": {
            "layer_decay": 0.9,
            "reinitialize_layers": 1,
            "unfreeze_epochs": 1,
            "dropout": {"words": 0.1, "hidden": 0.2},
            "weight_decay": {"embeddings": 0.0},
        },
        "adversarial": {"name": "fgm"},
        "epochs": 2,
        "recompute": True,
    }
    config = yaml.safe_load(Path("small.yaml").read_text())
    config = {**config, "run": "runs/other", "train": {**config["train"], **asked}}
    Path("other.yaml").write_text(yaml.safe_dump(config))
    done = run_command("run", "other.yaml", "export.tflite=[]")
    assert done.code == 0, done.err
    assert read("runs/other/metrics.json")["train"]["epochs"] == 2


def test_transformers_gives_the_same_outputs(road):
    _, texts = road
    transformers, torch = needs.package("transformers"), needs.package("torch")
    loaded = tasks.load_model("runs/small/model")
    batch = loaded.tokenizer(texts)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained("runs/small/model")
    splitter = transformers.AutoTokenizer.from_pretrained("runs/small/model")
    asked = splitter(texts, padding=True, return_tensors="pt")
    np.testing.assert_array_equal(asked["input_ids"], batch["token_ids"])
    with torch.no_grad():
        wanted = theirs(**asked).logits.numpy()
    np.testing.assert_allclose(loaded.model(batch, training=False), wanted, atol=1e-5)


def test_onnx_answers_alike(road):
    from tfmodel.export import export_onnx
    from tfmodel.export.onnx import token_skew

    family, texts = road
    onnx, _ = needs.package("onnx"), needs.package("onnxruntime")
    loaded = tasks.load_model("runs/small/model")
    folder = export_onnx(
        loaded.model, loaded.tokenizer, "onnx", labels=loaded.labels, max_length=12
    )
    wanted = load("runs/small").values(texts)
    np.testing.assert_allclose(load(folder).values(texts), wanted, atol=1e-5)
    odd = ["", "[SEP] </s> <s>a [MASK]", "Café 电影 ½ ﬁ", "new " * 30]
    assert token_skew(folder, [*texts, *odd]) == 0
    inputs = [each.name for each in onnx.load(folder / "model.onnx").graph.input]
    assert read(folder / "tokenizer_config.json")["model_max_length"] == 12
    named = read(folder / "tokenizer_config.json")["tokenizer_class"]
    assert named == TOKENIZERS[family]
    segments = ["token_type_ids"] if family in ("electra", "albert") else []
    assert inputs == ["input_ids", "attention_mask", *segments]


def test_a_phones_file_has_what_a_runtime_needs(road):
    family, _ = road
    files = read_associated_files("runs/small/export/tflite/float32.tflite")
    # Of those that no runtime can read the metadata names no tokenizer.
    splitter = SPLITTERS.get(family, {"vocab.txt"})
    assert set(files) == {*splitter, "labels.txt", "tfmodel.json"}
