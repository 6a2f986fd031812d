"""A pretraining run's model as one that fills gaps: predict, evaluate, every artifact.

Run: pytest tests/test_fill_road.py
"""

import csv
import json
import shutil
import subprocess
import types
from pathlib import Path

import needs
import numpy as np
import pytest
import small_pretraining
import small_run
import yaml
from command import run_command

import tfmodel
from tfmodel.config import ConfigError
from tfmodel.kinds import load_run_config
from tfmodel.stages.fill import EVALUATE_FILLING, EXPORT_FILLING, _texts_with_gaps
from tfmodel.tasks import fill

TEXTS = ["the red fox [MASK] the river.", "[MASK] small [MASK] likes my sister.", "no gap here"]


def config(**more):
    return {**yaml.safe_load(small_pretraining.CONFIG), **more}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"export": {}, "objective": {"name": "simcse"}},
            r"export: expected an objective that learns to fill gaps \(mlm, nsp, sop\). Received: "
            "simcse",
        ),
        ({"export": {"onnx": True}}, "unknown key export.onnx"),
        ({"export": {"top": 0}}, "export.top: expected a value at least 1 and at most 1000"),
        ({"export": {"tflite": ["int8_full"]}}, "export.tflite"),
    ],
)
def test_mistakes_in_a_config_are_told(more, message):
    with pytest.raises(ConfigError, match=message):
        load_run_config(config(**more))


def context_of(**settings):
    """What the stages read of a run."""
    run = types.SimpleNamespace(folder=Path("runs/x"))
    return types.SimpleNamespace(run=run, settings=types.SimpleNamespace(**settings))


def test_an_objective_without_the_head_is_refused_by_both_commands():
    objective = types.SimpleNamespace(name="electra")
    context = context_of(objective=objective, run="runs/x")
    for stage in (EVALUATE_FILLING, EXPORT_FILLING):
        context.settings.export = None
        with pytest.raises(
            ConfigError, match=r"learns to fill gaps \(mlm, nsp, sop\). Received: elec"
        ):
            stage.work(context)


def test_one_whole_word_of_each_text_is_hidden(monkeypatch):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "fox", "the", "sings", "##s", "."]
    tokenizer = tfmodel.Tokenizer(tfmodel.Vocabulary(pieces), max_length=16)

    def hidden(*texts):
        corpus = types.SimpleNamespace(texts=lambda part: iter(texts))
        monkeypatch.setattr("tfmodel.data.corpus.load_corpus", lambda folder: corpus)
        return [*_texts_with_gaps(context_of(seed=0), tokenizer, 12)]

    found = hidden("The foxs sings.", "...", "a [MASK] fox .", "sings the", "")
    assert ("[MASK] foxs sings.", "the") in found or ("The foxs [MASK].", "sings") in found
    assert found[1] == ("[MASK] the", "sings") and len(found) == 2
    with pytest.raises(
        ConfigError, match="dev documents with a word that is one piece, to compare"
    ):
        hidden("...", "zebra")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a finished run that was exported; not to be changed."""
    folder = tmp_path_factory.mktemp("filled")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        small_pretraining.write_corpus(Path("texts.jsonl"), small_pretraining.documents())
        small_pretraining.write_vocabulary(Path("vocab.txt"))
        export = {"tflite": ["float32", "int8"], "top": 3, "max_drop": 0.5}
        Path("words.yaml").write_text(yaml.safe_dump(config(export=export)))
        done = run_command("run", "words.yaml")
    assert done.code == 0, done.err
    (folder / "said.txt").write_text(done.out)
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)


def read(path):
    return json.loads(Path(path).read_text("utf-8"))


@pytest.mark.slow
def test_everything_answers_alike(here):
    wanted = None
    for where in (
        "runs/words",
        "runs/words/export/savedmodel",
        "runs/words/export/tflite/float32.tflite",
    ):
        done = run_command("predict", where, *TEXTS)
        assert done.code == 0, done.err
        assert "1 of 3 texts have no [MASK]: nothing is filled there" in done.err
        answers = [json.loads(line) for line in done.out.splitlines()]
        assert [set(answer) for answer in answers] == [{"text", "filled", "gaps"}] * 3
        assert [len(answer["gaps"]) for answer in answers] == [1, 2, 0]
        assert answers[2]["filled"] == TEXTS[2] and "[MASK]" not in answers[1]["filled"]
        scores = [gap[0]["score"] for answer in answers for gap in answer["gaps"]]
        wanted = wanted or scores
        assert scores == pytest.approx(wanted, abs=1e-5)
    parity = read("runs/words/export/parity.json")
    assert parity["passed"] and parity["task"] == "fill" and parity["rows"] == 12
    assert parity["artifacts"]["savedmodel"]["gaps"] == 12
    card = read("runs/words/export/savedmodel/1/card.json")
    assert card["model"]["task"] == "fill" and card["model"]["encoder_shape"]["layers"] == 2


@pytest.mark.slow
def test_a_file_of_rows_is_answered(here, tmp_path):
    small_run.write_rows(tmp_path / "asked.csv", [(text, "1") for text in TEXTS], ("text", "id"))
    done = run_command(
        "predict", "runs/words", "--input", f"{tmp_path}/asked.csv", "--output", f"{tmp_path}/a.csv"
    )
    assert done.code == 0, done.err
    with open(tmp_path / "a.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [len(json.loads(row["gaps"])) for row in rows] == [1, 2, 0]
    assert set(rows[0]) == {"text", "id", "filled", "gaps"} and rows[2]["filled"] == TEXTS[2]


@pytest.mark.slow
def test_processes_of_their_own_answer_alike(here):
    from tfmodel.export.artifacts import predictor_of
    from tfmodel.export.parity import check_parity

    export = Path("runs/words/export")
    files = {"savedmodel": export / "savedmodel", "tflite": export / "tflite/float32.tflite"}
    loaded = fill.load("runs/words/model")
    reference = predictor_of(
        loaded.model,
        loaded.tokenizer,
        labels=[],
        max_length=16,
        task="fill",
        decoding={"top": 3},
    )
    parity = check_parity(reference, files, TEXTS, measure=True)
    saved, phone = (parity["artifacts"][name] for name in files)
    assert set(saved["signatures"]) == {"serving_default", "ids"}
    assert saved["gaps"] == phone["gaps"] == 3 and phone["token_agreement"] == 1
    assert phone["runtimes"]["mediapipe"] == {"not_run": "it has no task that fills gaps"}


@pytest.mark.slow
def test_a_kit_measures_and_asks_with_gaps(here, tmp_path):
    from tfmodel.serve import Server, serve_settings

    if shutil.which("curl") is None:
        needs.give_up("there is no curl")
    kit = tmp_path / "kit"
    done = run_command("kit", "runs/words", "--output", kit, "--seconds", "0.3", "--cores", "1")
    assert done.code == 0, done.err
    assert "made-up rows" in read(kit / "measured.json")["models"]["words"]["rows"]
    config = (kit / "config/models.config").read_text()
    (tmp_path / "models.config").write_text(config.replace('"/models', f'"{kit}/models'))
    settings = serve_settings(rest_port=0, grpc_port=0)
    with Server(config_file=tmp_path / "models.config", settings=settings) as server:
        command = [str(kit / "smoke.sh"), f"http://{server.rest_address}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    script = (kit / "smoke.sh").read_text()
    for row in (1, 2):
        assert f"passed: words: row {row}: scores" in done.stdout
        (check,) = [line for line in script.splitlines() if f"'row {row}: scores'" in line]
        asked, scores = check.split(" scores ")
        assert "[MASK]" in asked and len(scores.split()[0].split(",")) == 3


@pytest.mark.slow
def test_a_run_is_measured_and_told_of(here):
    page = Path("runs/words/report.html").read_text("utf-8")
    assert ">Artifacts</h2>" in page and "savedmodel/1" in Path("said.txt").read_text()
    before = read("runs/words/metrics.json")["dev"]
    done = run_command("evaluate", "words.yaml")
    assert done.code == 0, done.err
    assert read("runs/words/evaluation.json")["dev"]["perplexity"] == pytest.approx(
        before["perplexity"], rel=1e-4
    )
    again = run_command("run", "words.yaml")
    assert again.code == 0 and "export: up to date" in again.err


@pytest.mark.slow
def test_a_file_is_decoded_on_the_host_as_the_guide_says(here):
    litert = needs.package("ai_edge_litert.interpreter")
    tokenizer = tfmodel.Tokenizer.from_folder("runs/words/model")
    interpreter = litert.Interpreter("runs/words/export/tflite/float32.tflite")
    interpreter.allocate_tensors()
    inputs = {each["name"]: each for each in interpreter.get_input_details()}
    assert set(inputs) == {"ids", "mask", "segment_ids", "position"}
    (output,) = interpreter.get_output_details()
    assert output["name"] == "logits" and output["shape"].tolist() == [1, 100]
    length = int(inputs["ids"]["shape"][1])
    vocabulary = tokenizer.vocabulary
    parts = tokenizer.tokenize(TEXTS[0].split("[MASK]")).to_list()
    ids = [vocabulary.start_id, *parts[0], vocabulary.mask_id, *parts[1], vocabulary.end_id]
    row = {
        "ids": ids + [vocabulary.padding_id] * (length - len(ids)),
        "mask": [1] * len(ids) + [0] * (length - len(ids)),
        "segment_ids": [0] * length,
        "position": [ids.index(vocabulary.mask_id)],
    }
    for name, values in row.items():
        interpreter.set_tensor(inputs[name]["index"], np.array([values], np.int32))
    interpreter.invoke()
    logits = interpreter.get_tensor(output["index"])
    decoded = fill.likeliest(logits, vocabulary.pieces, top=3)
    (answer,) = tfmodel.load("runs/words").predict(TEXTS[:1])
    assert decoded.tokens[0] == [each["token"] for each in answer["gaps"][0][:3]]
    np.testing.assert_allclose(
        decoded.scores[0], [each["score"] for each in answer["gaps"][0][:3]], atol=1e-5
    )


@pytest.mark.slow
def test_transformers_fills_the_same(here):
    transformers = needs.package("transformers")
    theirs = transformers.pipeline("fill-mask", model="runs/words/model", top_k=3)
    found = theirs(TEXTS[0])
    (answer,) = tfmodel.load("runs/words").predict(TEXTS[:1])
    assert [each["token_str"] for each in found] == [a["token"] for a in answer["gaps"][0][:3]]
    np.testing.assert_allclose(
        [each["score"] for each in found],
        [each["score"] for each in answer["gaps"][0][:3]],
        atol=1e-5,
    )


@pytest.mark.slow
def test_other_models_are_refused(here):
    from tfmodel.export import export_savedmodel

    loaded = fill.load("runs/words/model")
    with pytest.raises(ConfigError, match="Expected no labels, for the answers of fill are pieces"):
        export_savedmodel(
            loaded.model, loaded.tokenizer, "x", labels=["a"], max_length=16, task="fill"
        )
    with pytest.raises(ConfigError, match=r"a model that fills gaps, of tm.tasks.fill.build"):
        export_savedmodel(
            loaded.model.encoder, loaded.tokenizer, "x", labels=[], max_length=16, task="fill"
        )
    with pytest.raises(ConfigError, match="precision must be float32 of the task fill"):
        export_savedmodel(
            loaded.model,
            loaded.tokenizer,
            "x",
            labels=[],
            max_length=16,
            task="fill",
            precision="mixed_bfloat16",
        )
    with pytest.raises(ConfigError, match="length fixed, output scores and no int8_full of fill"):
        tfmodel.export_tflite(
            loaded.model,
            loaded.tokenizer,
            "x.tflite",
            labels=[],
            max_length=16,
            task="fill",
            length="dynamic",
        )
