"""Classifiers from few labels go the whole road: training, folder, artifacts, parity, answers.

Run: pytest tests/test_few_labels_road.py
"""

import json
from pathlib import Path

import needs
import numpy as np
import pytest
import small_families
import small_run
import tensorflow as tf
import yaml
from command import run_command

import tfmodel
from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.model import load_encoder
from tfmodel.tasks import fill
from tfmodel.tasks.readings import AtGap, Pooled, reading_of
from tfmodel.tokens import load_tokenizer

TOPICS = {"business": "market", "sport": "team", "weather": "rain"}
TEMPLATE = "it was on [MASK]. {text}"
METHODS = {
    "contrastive": {"name": "contrastive", "pairs": 6},
    "prompt": {"name": "prompt", "template": TEMPLATE, "words": TOPICS},
    "prompt of roberta": {"name": "prompt", "template": TEMPLATE, "words": TOPICS},
}
# Random weights have everything to learn.
TRAIN = {
    "contrastive": {"epochs": 2, "learning_rate": 0.003},
    "prompt": {"epochs": 12, "learning_rate": 0.003, "batch_size": 16, "max_length": 20},
}
TRAIN["prompt of roberta"] = {**TRAIN["prompt"], "epochs": 20}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=METHODS)
def road(request, tmp_path_factory):
    """A method, and the folder of its finished run; not to be changed."""
    folder = tmp_path_factory.mktemp(request.param)
    config = yaml.safe_load(small_run.CONFIG)
    del config["train"]["epochs"], config["train"]["learning_rate"], config["train"]["batch_size"]
    config["train"] |= {"few_labels": METHODS[request.param], **TRAIN[request.param]}
    config["export"] = {"tflite": ["float32", "int8"], "max_drop": 0.1}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        if request.param == "prompt of roberta":
            small_families.write_encoder(Path("encoder"), "roberta")
        else:
            small_run.write_encoder(Path("encoder"))
        encoder = load_encoder("encoder")
        tokenizer = load_tokenizer("encoder", max_length=48)
        fill.save(fill.build(encoder), "encoder", tokenizer=tokenizer)
        small_run.write_rows(Path("train.csv"), small_run.rows(120))
        Path("small.yaml").write_text(yaml.safe_dump(config))
        done = run_command("run", "small.yaml")
    assert done.code == 0, done.err
    return request.param, folder


@pytest.fixture(autouse=True)
def here(road, monkeypatch):
    monkeypatch.chdir(road[1])


def test_it_is_an_ordinary_classifier_everywhere(road):
    method, _ = road
    metrics = json.loads(Path("runs/small/metrics.json").read_text())
    assert metrics["test"]["accuracy"] > 0.7 and metrics["train"]["temperature"] > 0
    parity = json.loads(Path("runs/small/export/parity.json").read_text())
    assert parity["passed"]
    for name in ("savedmodel", "tflite/float32"):
        assert parity["artifacts"][name]["largest_score_difference"] < 1e-5
    assert set(parity["artifacts"]["savedmodel"]["signatures"]) == {"vector"}
    texts = ["the storm was on monday", "the bank", ""]
    first, *others = [
        tfmodel.load(f"runs/small{where}").predict(texts)
        for where in ("", "/export/savedmodel", "/export/tflite/float32.tflite")
    ]
    for answers in others:
        for one, other in zip(first, answers, strict=True):
            assert set(one) == {"text", "label", "score", "scores"}
            assert other["scores"] == pytest.approx(one["scores"], abs=1e-5)
    assert first[0]["label"] == "weather" and first[1]["label"] == "business"
    page = Path("runs/small/report.html").read_text("utf-8")
    assert ">Classes</h2>" in page and ">Calibration</h2>" in page
    card = json.loads(Path("runs/small/export/savedmodel/1/card.json").read_text())
    assert card["model"].get("template") == (None if method == "contrastive" else TEMPLATE)


def test_the_folder_says_what_the_head_reads(road):
    method, _ = road
    loaded = tasks.load_model("runs/small/model")
    reading = reading_of(loaded.model)
    rows = loaded.tokenizer(["the storm was on monday"])
    if method == "contrastive":
        assert reading == Pooled("mean", True)
        vectors = tasks.find("embed").build(loaded.model.get_layer("encoder"))(rows).numpy()
        config = json.loads(Path("runs/small/model/3_Dense/config.json").read_text())
        assert config["out_features"] == 3 and config["activation_function"].endswith("Identity")
        with pytest.raises(ConfigError, match="expected Transformer, Pooling and"):
            tasks.find("embed").load("runs/small/model")
    else:
        assert reading == AtGap(loaded.tokenizer.vocabulary.mask_id, TEMPLATE)
        filling = fill.load("runs/small/model")
        ids = rows["token_ids"].numpy()[0].tolist()
        places = [[ids.index(reading.mask_id)]]
        asked = {**rows, "masked_positions": tf.constant(places)}
        vectors = filling.model.to_vectors(asked).numpy()
    head = loaded.model.get_layer("head")
    by_hand = vectors @ head.kernel.numpy() + head.bias.numpy()
    np.testing.assert_allclose(loaded.model(rows), by_hand, atol=1e-4)


def test_onnx_has_what_the_head_reads_and_keras_hub_has_not(road):
    for package in ("onnx", "onnxruntime", "tokenizers"):
        needs.package(package)
    from tfmodel.export import ExportSettings, export_all
    from tfmodel.export.onnx import token_skew

    loaded = tasks.load_model("runs/small/model")
    texts = ["the storm was on monday", "the bank", "", "[MASK] rain [SEP]", "profit " * 30]
    asked = {
        "model": loaded.model,
        "tokenizer": loaded.tokenizer,
        "labels": loaded.labels,
        "max_length": loaded.max_length,
        "texts": texts,
        "folder": "other",
    }
    export_all(ExportSettings(onnx=True, tflite=[], savedmodel=False), **asked)
    found = tfmodel.load("other/onnx")
    wanted = tfmodel.load("runs/small").probabilities(texts)
    np.testing.assert_allclose(found.probabilities(texts), wanted, atol=1e-5)
    assert token_skew("other/onnx", texts) == 0
    with pytest.raises(ConfigError, match="export.keras_hub: expected a head on the encoder's own"):
        export_all(ExportSettings(keras_hub=True, tflite=[]), **asked)


def test_transformers_gives_the_same_from_the_same_folder(road):
    torch, transformers = needs.package("torch"), needs.package("transformers")
    from safetensors.numpy import load_file

    method, _ = road
    predictor = tfmodel.load("runs/small")
    text = "the storm was on monday"
    tokenizer = transformers.AutoTokenizer.from_pretrained("runs/small/model")
    if method == "contrastive":
        row = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            states = transformers.AutoModel.from_pretrained("runs/small/model").eval()(**row)[0]
        vector = states[0].mean(dim=0).numpy()
        vector = vector / np.linalg.norm(vector)
        head = load_file("runs/small/model/3_Dense/model.safetensors")
        logits = head["linear.weight"] @ vector + head["linear.bias"]
        library = needs.package("sentence_transformers")
        given = library.SentenceTransformer("runs/small/model", device="cpu").encode([text])
        np.testing.assert_allclose(given[0], logits, atol=1e-4)
    else:
        asked = TEMPLATE.replace("{text}", text).replace("[MASK]", tokenizer.mask_token)
        row = tokenizer(asked, return_tensors="pt")
        model, said = transformers.AutoModelForMaskedLM.from_pretrained(
            "runs/small/model", output_loading_info=True
        )
        assert not said["missing_keys"]
        place = int((row["input_ids"][0] == tokenizer.mask_token_id).nonzero()[0, 0])
        with torch.no_grad():
            states = model.eval().base_model(**row)[0]
            if method == "prompt":
                vector = model.cls.predictions.transform(states)[0, place].numpy()
            else:
                hidden = torch.nn.functional.gelu(model.lm_head.dense(states))
                vector = model.lm_head.layer_norm(hidden)[0, place].numpy()
        head = load_file("runs/small/model/model.safetensors")
        name = "classifier" if method == "prompt" else "classifier.out_proj"
        logits = head[f"{name}.weight"] @ vector + head[f"{name}.bias"]
    wanted = np.exp(logits - logits.max())
    np.testing.assert_allclose(predictor.probabilities([text])[0], wanted / wanted.sum(), atol=1e-5)
