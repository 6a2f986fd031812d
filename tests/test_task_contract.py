"""Every task goes the whole road: rows, training, folder, transformers, artifacts, parity, answers.

A new task is a row in `CASES`. Run: pytest tests/test_task_contract.py
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import needs
import numpy as np
import pytest
import small_run
import yaml
from command import run_command

import tfmodel
from tfmodel import tasks
from tfmodel.export import load

STRENGTHS = {"storm": 9.5, "rain": 7.25, "wind": 4.0, "cloud": 2.5}


def numbered_rows(count: int = 240, *, seed: int = 0) -> list[tuple[str, str]]:
    """Distinct texts with one word of `STRENGTHS`, each with that word's number."""
    generator = random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < count:
        word = list(STRENGTHS)[len(found) % len(STRENGTHS)]
        words = [word, *generator.sample(small_run._FILLERS, 5)]
        generator.shuffle(words)
        found.setdefault(" ".join(words), str(STRENGTHS[word]))
    return list(found.items())


def mixed_rows(count: int = 240, *, seed: int = 0) -> list[tuple[str, str]]:
    """Distinct texts with words of one to three topics, each with all of their labels."""
    generator = random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < count:
        topics = sorted(generator.sample(list(small_run.TOPICS), 1 + len(found) % 3))
        words = [generator.choice(small_run.TOPICS[topic]) for topic in topics for _ in range(2)]
        words += generator.sample(small_run._FILLERS, 2)
        generator.shuffle(words)
        found.setdefault(" ".join(words), ",".join(topics))
    return list(found.items())


def paired_rows(count: int = 160, *, seed: int = 0) -> list[tuple[str, str]]:
    """Pairs of distinct texts with three words of the topics in common, other in each pair."""
    generator = random.Random(seed)
    words = [word for topic in small_run.TOPICS.values() for word in topic]
    keys = generator.sample(list(itertools.combinations(words, 3)), count)

    def text(key: tuple[str, ...]) -> str:
        chosen = [*key, *generator.sample(small_run._FILLERS, 3)]
        generator.shuffle(chosen)
        return " ".join(chosen)

    return [(text(key), text(key)) for key in keys]


def write_pairs(path: Path, rows: list[tuple[str, str]]) -> None:
    """Write both texts of each row as columns."""
    small_run.write_rows(path, rows, ("text", "text_pair"))


def turned(model) -> None:
    """Make other answers of a model with a head."""
    head = model.get_layer("head")
    head.kernel.assign(-head.kernel.numpy())


def mixed_up(model) -> None:
    """Give every word another one's embedding."""
    table = model.get_layer("encoder").get_layer("embeddings").token_table
    table.assign(np.roll(table.numpy(), 3, axis=0))


def asked_rows(count: int = 240, *, seed: int = 0) -> list[tuple[str, str, str]]:
    """Questions, contexts with one word of the topics among others, and that word.

    Half of the contexts are longer than a window; of every sixth the question has no answer.
    """
    generator = random.Random(seed)
    topics = [word for words in small_run.TOPICS.values() for word in words]
    found: dict[str, str] = {}
    while len(found) < count:
        answer = "" if len(found) % 6 == 5 else generator.choice(topics)
        words = generator.choices(small_run._FILLERS, k=generator.randint(4, 12)) + [answer]
        generator.shuffle(words)
        found.setdefault(" ".join(filter(None, words)), answer)
    return [
        (f"said on {n % 7}", context, answer) for n, (context, answer) in enumerate(found.items())
    ]


def write_asked(path: Path, rows: list[tuple[str, str, str]]) -> None:
    """Write a CSV of three columns."""
    small_run.write_rows(path, rows, ("question", "context", "answer"))


ENTITIES = {"person": ["coach", "team"], "place": ["market", "bank"]}


def tagged_rows(count: int = 240, *, seed: int = 0) -> list[tuple[str, str]]:
    """Distinct sentences with up to one entity of each kind, each with the tags of its words."""
    generator = random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < count:
        parts = [[(word, "O")] for word in generator.sample(small_run._FILLERS, 5)]
        for kind in generator.sample(list(ENTITIES), len(found) % 3):
            words = ENTITIES[kind][: generator.randint(1, 2)]
            tags = [f"B-{kind}", f"I-{kind}"]
            parts.append(list(zip(words, tags, strict=False)))
        generator.shuffle(parts)
        words = [pair for part in parts for pair in part]
        found.setdefault(" ".join(word for word, _ in words), " ".join(tag for _, tag in words))
    return list(found.items())


def write_tagged(path: Path, rows: list[tuple[str, str]]) -> None:
    """Write CoNLL columns."""
    sentences = [zip(text.split(), tags.split(), strict=True) for text, tags in rows]
    lines = ["\n".join(f"{word}\t{tag}" for word, tag in each) for each in sentences]
    path.write_text("\n\n".join(lines) + "\n")


@dataclasses.dataclass(frozen=True)
class Case:
    """A task, the small data it learns, and what is to be seen of it.

    Attributes:
        rows: texts, second texts where there are such, and labels.
        config: sections of the config beside those of `small_run.CONFIG`.
        problem_type: of the model folder.
        figure: dev figure that chooses the epoch, and the least that test reaches.
        answer: keys of an answer.
        served: named outputs of the SavedModel.
        pictures: what TensorBoard shows of dev.
        sections: headings of the report's page that only some tasks have.
        mistakes: overrides, and what is said of them.
        spoil: has a model give other answers.
        auto: the class of transformers that loads the folder.
        write: writes the rows.
    """

    rows: list[tuple]
    config: dict
    problem_type: str | None
    figure: tuple[str, float]
    answer: set[str]
    served: set[str]
    pictures: set[str]
    sections: set[str]
    mistakes: list[tuple[list[str], str]]
    spoil: Callable = turned
    auto: str = "AutoModelForSequenceClassification"
    write: Callable[[Path, list], Any] = small_run.write_rows

    @property
    def has_pairs(self) -> bool:
        return len(self.rows[0]) == 3


_LONGER = {"epochs": 15, "patience": None, "learning_rate": 0.003, "warmup_share": 0.1}
_ONE_CLASS = "expected rows with one class each. Received: task.name"

CASES = {
    "classify": Case(
        rows=small_run.rows(),
        config={},
        problem_type="single_label_classification",
        figure=("accuracy", 0.8),
        answer={"text", "label", "score", "scores"},
        served={"label", "score", "scores"},
        pictures={"confusion_matrix", "reliability", "precision_recall"},
        sections={"Mix-ups", "Classes", "Calibration"},
        mistakes=[
            (
                ["train.monitor=spearman"],
                "train.monitor must be one of accuracy, loss where task.name is classify and",
            ),
            (["data.target=number"], "bad_number: label holds 'business', not a finite number"),
        ],
    ),
    "multilabel": Case(
        rows=mixed_rows(),
        config={"data": {"target": "classes"}, "train": _LONGER},
        problem_type="multi_label_classification",
        figure=("micro_f1", 0.8),
        answer={"text", "labels", "scores"},
        served={"labels", "scores"},
        pictures={"precision_recall"},
        sections={"Classes"},
        mistakes=[
            (["train.class_weights=balanced"], f"train.class_weights: {_ONE_CLASS} classify"),
            (["data.label_noise={folds: 2}"], f"data.label_noise: {_ONE_CLASS} classify"),
            (
                ["train.monitor=accuracy"],
                "train.monitor must be one of micro_f1, macro_f1, loss where task.name is classify "
                "and data.target classes. Received: accuracy",
            ),
        ],
    ),
    "regress": Case(
        rows=numbered_rows(),
        config={"task": {"name": "regress"}, "train": _LONGER},
        problem_type="regression",
        figure=("spearman", 0.8),
        answer={"text", "score"},
        served={"score"},
        pictures={"scatter"},
        sections={"Numbers"},
        mistakes=[
            (
                ["train.class_weights=balanced", "train.regularize.label_smoothing=0.1"],
                f"train.class_weights, train.regularize.label_smoothing: {_ONE_CLASS} regress with",
            ),
            (["data.label_noise={folds: 2}"], f"data.label_noise: {_ONE_CLASS} regress"),
            (
                ["train.monitor=accuracy"],
                "train.monitor must be one of spearman, pearson, loss where task.name is regress "
                "and data.target number. Received: accuracy",
            ),
            (
                ["train.regularize.plateau={monitor: accuracy}"],
                "train.regularize.plateau.monitor must be one of spearman, pearson, loss",
            ),
            (
                ["data.target=class"],
                "data.target must be number where task.name is regress. Received: class",
            ),
            (
                ["data.label=text", "data.text=label"],
                "expected labels as data.target says. Received: most rows have others, the first",
            ),
        ],
    ),
    "embed": Case(
        rows=paired_rows(),
        config={"task": {"name": "embed"}, "data": {"text_pair": "text_pair"}},
        problem_type=None,
        figure=("recall_at_10", 0.8),
        answer={"text", "vector"},
        served={"vector"},
        pictures={"recall"},
        sections={"Retrieval"},
        write=write_pairs,
        spoil=mixed_up,
        mistakes=[
            (
                ["data.text_pair=null"],
                "data.text_pair must name the column with the second text where task.name is embed",
            ),
            (
                ["data.label=label"],
                "data.target must say what data.label holds where task.name is embed",
            ),
            (
                ["task.loss=cosine", "data.target=none"],
                "data.target must be number where task.loss is cosine. Received: none",
            ),
            (
                ["task.loss=contrastive", "data.target=number", "data.label=text_pairs"],
                "data.target must be none or text where task.loss is contrastive. Received: number",
            ),
            (
                ["task.loss=triplet"],
                "expected a column label (data.label). Received: text, text_pair.",
            ),
            (
                ["train.regularize.r_drop=1.0", "export.tflite_vector=true"],
                "train.regularize.r_drop, export.tflite_vector: expected a task with a head of",
            ),
            (["train.class_weights=balanced"], f"train.class_weights: {_ONE_CLASS} embed"),
            (
                ["train.monitor=spearman"],
                "train.monitor must be one of recall_at_10, recall_at_1, mrr, loss where task.name",
            ),
            (
                ["task.margin=0.3"],
                "task.margin goes with task.loss triplet. Received: contrastive. Leave it out",
            ),
            (
                ["task.name=classify", "task.temperature=0.1", "data.target=class"],
                "temperature: expected task.name embed, of which these are. Received: classify",
            ),
        ],
    ),
    "span": Case(
        rows=asked_rows(),
        config={
            "data": {"text": "question", "text_pair": "context", "label": "answer"},
            "task": {
                "name": "span",
                "doc_stride": 3,
                "max_query_length": 5,
                "max_answer_length": 4,
            },
            "train": {**_LONGER, "max_length": 16},
        },
        problem_type=None,
        figure=("f1", 0.8),
        answer={"text", "text_pair", "answer", "start", "end", "score"},
        served={"answer", "start", "end", "score", "span"},
        pictures={"reliability"},
        sections={"Calibration"},
        mistakes=[
            (
                ["train.class_weights=balanced"],
                f"train.class_weights: {_ONE_CLASS} span with data.target answers",
            ),
            (
                ["export.tflite_vector=true", "export.keras_hub=true"],
                "export.tflite_vector, export.keras_hub: expected a task that has it. Received: "
                "task.name span",
            ),
            (
                ["train.monitor=accuracy"],
                "train.monitor must be one of f1, exact_match, loss where task.name is span",
            ),
            (
                ["task.max_query_length=13"],
                "train.max_length must be at least task.max_query_length + 4",
            ),
            (["task.name=classify"], "task.doc_stride, task.max_query_length, "),
            (["data.label=question", "data.text=answer"], "(answer_not_in_context: "),
        ],
        auto="AutoModelForQuestionAnswering",
        write=write_asked,
    ),
}


CASES["tag"] = Case(
    rows=tagged_rows(),
    # Shorter windows than sentences: some are read in two.
    config={
        "data": {"train": "train.conll"},
        "task": {"name": "tag"},
        "train": {"max_length": 8, "epochs": 6},
    },
    problem_type=None,
    figure=("f1", 0.8),
    answer={"text", "entities"},
    served={"tags", "starts", "ends", "scores"},
    pictures={"confusion_matrix"},
    sections={"Classes"},
    mistakes=[
        (["train.class_weights=balanced"], f"train.class_weights: {_ONE_CLASS} tag"),
        (
            ["train.regularize.mixup=0.2"],
            "train.regularize.mixup: expected a task that has it. Received: task.name tag",
        ),
        (
            ["export.keras_hub=true"],
            "export.keras_hub: expected a task that has it. Received: task.name tag",
        ),
        (
            ["train.monitor=accuracy"],
            "train.monitor must be one of f1, loss where task.name is tag",
        ),
        (["data.target=tags"], "data.target must be spans where task.name is tag. Received: tags"),
        (["data.text_pair=other"], "data.text_pair: expected single texts where task.name is tag"),
    ],
    auto="AutoModelForTokenClassification",
    write=write_tagged,
)


SLOWER = {"multilabel", "regress", "tag"}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOWER else []) for name in CASES
    ],
)
def road(request, tmp_path_factory):
    """A case, and the folder of its finished run; not to be changed."""
    case = CASES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "classify":  # as `finished`, which is trained already
        shutil.copytree(request.getfixturevalue("finished"), folder, dirs_exist_ok=True)
    config = yaml.safe_load(small_run.CONFIG)
    config["export"]["tflite"] = ["float32", "int8"]
    config["export"]["max_drop"] = 0.05
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        if not Path("encoder").exists():
            small_run.write_encoder(Path("encoder"))
        for section, values in case.config.items():
            config[section] = {**config.get(section, {}), **values}
        case.write(Path(config["data"]["train"]), case.rows)
        Path("small.yaml").write_text(yaml.safe_dump(config))
        done = run_command("run", "small.yaml")
    assert done.code == 0, done.err
    (folder / "said.txt").write_text(done.out)
    return request.param, case, folder


@pytest.fixture(autouse=True)
def here(road, monkeypatch):
    """Work in the folder of the case."""
    monkeypatch.chdir(road[2])


@pytest.fixture(scope="module")
def predictor(road):
    """What answers with the run: loaded once."""
    return load(road[2] / "runs/small")


def read(path):
    return json.loads(Path(path).read_text("utf-8"))


def columns_of(case, count=None):
    """Texts, and second texts where there are such."""
    columns = [list(column) for column in zip(*case.rows[:count], strict=True)]
    return columns[:-1]


def texts_of(case):
    """As `columns_of` of a few rows, and of odd ones."""
    odd = ["", "nothing known here", "Café ☔"]
    first, *second = columns_of(case, 8)
    return [first + odd, *(each + odd[::-1] for each in second)]


def assert_alike(case, given, wanted, tolerance):
    """Values are those of another artifact; spans may lie elsewhere where numbers are rounded."""
    if case.auto == "AutoModelForQuestionAnswering" and tolerance > 0.01:
        assert np.mean((given[:, :2] == wanted[:, :2]).all(axis=1)) >= 0.8
    else:
        scale = max(1.0, np.abs(wanted).max())
        np.testing.assert_allclose(given, wanted, atol=tolerance * scale)


def numbers(values):
    """The values of a task as one array; of words one row each."""
    if isinstance(values, np.ndarray):
        return values
    return np.concatenate([words.scores for words in values])


def values_of(task, loaded, columns):
    """The task's values, without the predictor; None where windows of pairs give them."""
    if loaded.has_pairs:
        return None
    (texts,) = columns
    if not tasks.reads_tokens(loaded.task):
        return task.values(loaded.model(loaded.tokenizer(texts), training=False).numpy())
    from tfmodel.tokens.windows import WindowRows

    windows = WindowRows.from_texts(loaded.tokenizer, texts, max_length=loaded.max_length)
    batch = windows.tokens.batch(np.arange(len(windows.tokens)))
    outputs = loaded.model(batch, training=False).numpy()
    return task.read(windows, loaded.tokenizer, task.values(outputs[batch["padding_mask"] > 0]))


def test_it_learns_and_its_figure_chooses_the_epoch(road):
    name, case, _ = road
    figure, least = case.figure
    metrics = read("runs/small/metrics.json")
    assert metrics["test"][figure] >= least and metrics["dev"][figure] >= least
    assert tasks.TASKS[name].figures[0] == figure
    if name == "regress":  # the numbers themselves, not their order alone
        assert metrics["test"]["rmse"] < 0.6 * metrics["test"]["target_deviation"]
    config = yaml.safe_load(Path("runs/small/config.yaml").read_text())
    assert config["train"]["monitor"] == figure
    assert config["data"]["target"] in ("auto", tasks.TASKS[name].target)
    assert config["data"]["target"] == "none" or name != "embed"
    epochs = read("runs/small/history.json")["epochs"]
    best = max(
        range(len(epochs)), key=lambda n: (epochs[n][f"dev_{figure}"], -epochs[n]["dev_loss"])
    )
    assert metrics["train"]["best_epoch"] == best + 1
    if not hasattr(tasks.find(name), "tuned"):  # what is tuned is tuned after the choice
        kept = epochs[best][f"dev_{figure}"]
        assert metrics["dev"][figure] == pytest.approx(kept, abs=1e-4)


def test_the_folder_is_one_of_its_own(road, predictor):
    name, case, _ = road
    config = read("runs/small/model/config.json")
    assert config.get("problem_type") == case.problem_type
    loaded = tasks.load_model("runs/small/model")
    assert loaded.task == name
    task = tasks.find(name)
    values = values_of(task, loaded, texts_of(case))
    if values is not None:
        asked = predictor.values(*texts_of(case))
        np.testing.assert_allclose(numbers(asked), numbers(values), atol=1e-5)
    # Saved again, it is the same folder.
    own = {"decoding": loaded.decoding} if loaded.decoding else {}
    task.save(loaded.model, "again", tokenizer=loaded.tokenizer, labels=loaded.labels, **own)
    again = task.load("again")
    assert (again.labels, again.decoding) == (loaded.labels, loaded.decoding)
    assert bool(own) == hasattr(task, "tuned")


@pytest.mark.slow
def test_transformers_gives_the_same_outputs(road):
    _, case, _ = road
    transformers, torch = needs.package("transformers"), needs.package("torch")
    loaded = tasks.load_model("runs/small/model")
    batch = loaded.tokenizer(*texts_of(case))
    if tasks.gives_vectors(loaded.task):
        check_vectors_of_transformers(transformers, torch, loaded, batch)
        return
    theirs = getattr(transformers, case.auto).from_pretrained("runs/small/model")
    assert getattr(theirs.config, "problem_type", None) == case.problem_type
    with torch.no_grad():
        outputs = theirs(
            input_ids=torch.tensor(batch["token_ids"].numpy().astype(np.int64)),
            attention_mask=torch.tensor(batch["padding_mask"].numpy().astype(np.int64)),
            token_type_ids=torch.tensor(batch["segment_ids"].numpy().astype(np.int64)),
        )
    if case.auto == "AutoModelForQuestionAnswering":
        wanted = np.stack([outputs.start_logits, outputs.end_logits], axis=-1)
    else:
        wanted = outputs.logits.numpy()
    ours = loaded.model(batch, training=False).numpy()
    # Padding is nobody's to read.
    real = slice(None) if ours.ndim == 2 else batch["padding_mask"].numpy() > 0
    np.testing.assert_allclose(ours[real], wanted[real], atol=1e-5)
    # And what transformers saves of it is read back as the same task.
    theirs.save_pretrained("theirs")
    loaded.tokenizer.save("theirs")
    again = tasks.load_model("theirs")
    assert again.task == loaded.task
    given = again.model(batch, training=False).numpy()
    np.testing.assert_allclose(given[real], wanted[real], atol=1e-5)


def check_vectors_of_transformers(transformers, torch, loaded, batch):
    """Those of its BERT, their mean taken here."""
    theirs = transformers.AutoModel.from_pretrained("runs/small/model")
    mask = batch["padding_mask"].numpy().astype(np.int64)
    with torch.no_grad():
        hidden = theirs(
            input_ids=torch.tensor(batch["token_ids"].numpy().astype(np.int64)),
            attention_mask=torch.tensor(mask),
        ).last_hidden_state.numpy()
    wanted = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(loaded.model(batch, training=False), wanted, atol=1e-5)


def test_every_artifact_answers_alike(road, predictor):
    _, case, _ = road
    export = Path("runs/small/export")
    parity = read(export / "parity.json")
    assert parity["passed"]
    assert [*parity["artifacts"]] == ["savedmodel", "tflite/float32", "tflite/int8"]
    wanted = numbers(predictor.values(*texts_of(case)))
    for path, tolerance in (
        ("savedmodel", 1e-5),
        ("tflite/float32.tflite", 1e-5),
        ("tflite/int8.tflite", 0.3),
    ):
        given = numbers(load(export / path).values(*texts_of(case)))
        assert_alike(case, given, wanted, tolerance)


def test_the_savedmodel_names_its_outputs(road, predictor):
    _, case, _ = road
    import tensorflow as tf
    import tensorflow_text  # noqa: F401

    loaded = tf.saved_model.load("runs/small/export/savedmodel/1")
    columns = texts_of(case)
    names = ("text", "text_pair")
    inputs = {name: tf.constant(texts) for name, texts in zip(names, columns, strict=False)}
    answers = loaded.signatures["serving_default"](**inputs)
    assert set(answers) == case.served
    assert {len(values) for values in answers.values()} == {len(columns[0])}
    predicted = predictor.predict(*columns)
    if "tags" in case.served:
        (words,) = {answers[name].shape[1] for name in case.served}
        for row, answer in enumerate(predicted):
            starts = [
                int(start)
                for start, tag in zip(
                    answers["starts"][row].numpy(), answers["tags"][row].numpy(), strict=True
                )
                if tag.startswith(b"B-")
            ]
            assert starts == [entity["start"] for entity in answer["entities"]]
        given = predictor.values(*columns)
        assert words == max(map(len, (words.starts for words in given)))
    for name in case.served & {"score", "label", "labels", "answer", "start", "end", "vector"}:
        for given, answer in zip(answers[name].numpy().tolist(), predicted, strict=True):
            if name in ("score", "vector"):
                assert given == pytest.approx(answer[name], abs=1e-4)
            elif name in ("label", "answer"):
                assert given.decode() == answer[name]
            elif name in ("start", "end"):
                assert given == answer[name]
            else:
                assert [label.decode() for label in given if label] == answer[name]


@pytest.mark.slow
def test_every_artifact_answers_alike_in_a_process_of_its_own(road):
    from tfmodel.export import check_parity

    name, case, _ = road
    loaded = tasks.load_model("runs/small/model")
    reference = tfmodel.export.predictor_of(
        loaded.model,
        loaded.tokenizer,
        labels=loaded.labels,
        max_length=loaded.max_length,
        has_pairs=case.has_pairs,
        task=name,
        decoding=loaded.decoding,
    )
    artifacts = {
        path: f"runs/small/export/{path}" for path in ("savedmodel/1", "tflite/int8.tflite")
    }
    parity = check_parity(reference, artifacts, *columns_of(case), measure=True, max_drop=0.1)
    assert parity["passed"] and [*parity["artifacts"]] == [*artifacts]


@pytest.mark.slow
def test_a_version_is_compared_with_the_one_in_service(road, tmp_path):
    """Over both doors it answers as `predict` does; beside its own copy it agrees in all."""
    from tfmodel.serve import Client, Server, rollout, serve_settings

    name, case, _ = road
    base = tmp_path / "savedmodel"
    for number in ("1", "2"):
        shutil.copytree("runs/small/export/savedmodel/1", base / number)
    columns, wanted = texts_of(case), numbers(load(base / "1").values(*texts_of(case)))
    path = tmp_path / "models.config"
    rollout.write_first_config(path, "model", base, 1)
    settings = serve_settings(rest_port=0, grpc_port=0, poll_seconds=0.1)
    with Server(config_file=path, settings=settings) as server:
        manifest = rollout.manifest_of(base / "1")
        doors = f"http://{server.rest_address}", f"grpc://{server.grpc_address}"
        for address in doors:
            with Client(address) as client:
                served = rollout.served_predictor(client, manifest, where=address)
                assert_alike(case, numbers(served.values(*columns)), wanted, 1e-4)
        trial = rollout.Rollout(path, server=doors[1])
        assert trial.start(2).stage == "canary"
        rows = rollout.run_rows("runs/small", manifest)
        rule = rollout.Rule(max_latency_ratio=50, min_rows=1, min_agreement=1)
        found = rollout.compare(trial, rows, rule=rule, latency_rows=5)
        assert found.passed and not found.examples, found.figures
        figures = next(iter(found.figures["quality"].values()))
        assert figures["difference"] == 0 and figures["old"] is not None
        report = json.loads(Path("runs/small/metrics.json").read_text())["test"]
        first = next(iter(found.figures["quality"]))
        assert figures["new"] == pytest.approx(report[first], abs=0.02)
        rollout.write_page(tmp_path / "page.html", found)
        assert trial.promote().stage == "promoted"


@pytest.mark.slow
def test_a_wrong_artifact_does_not_pass(road):
    """The gate knows the task's answers: other weights are caught in every number format."""
    from tfmodel.export import check_parity, export_savedmodel, export_tflite
    from tfmodel.export.parity import ParityError

    name, case, _ = road
    loaded = tasks.load_model("runs/small/model")
    described = {
        "labels": loaded.labels,
        "max_length": loaded.max_length,
        "has_pairs": case.has_pairs,
        "task": name,
        "decoding": loaded.decoding,
    }
    reference = tfmodel.export.predictor_of(loaded.model, loaded.tokenizer, **described)
    spoiled = tasks.load_model("runs/small/model").model
    case.spoil(spoiled)
    saved = export_savedmodel(spoiled, loaded.tokenizer, "wrong", **described)
    phone = export_tflite(
        spoiled, loaded.tokenizer, "wrong.tflite", quantization="int8", **described
    )
    for path in (saved, phone):
        with pytest.raises(ParityError, match="1 of 1 artifacts do not answer"):
            check_parity(reference, {"x": path}, *columns_of(case))


@pytest.mark.slow
@pytest.mark.parametrize("door", ["onnx", "keras_hub"])
def test_the_other_doors_answer_alike(road, predictor, door):
    from tfmodel.export import export_keras_hub, export_onnx

    name, case, _ = road
    loaded = tasks.load_model("runs/small/model")
    if door == "keras_hub" and tasks.reads_tokens(name):
        pytest.skip("KerasHub has no class for it; it is refused with the config")
    for package in {"onnx": ("onnx", "onnxruntime"), "keras_hub": ("keras_hub",)}[door]:
        needs.package(package)
    export = {"onnx": export_onnx, "keras_hub": export_keras_hub}[door]
    folder = export(
        loaded.model,
        loaded.tokenizer,
        door,
        labels=loaded.labels,
        max_length=loaded.max_length,
        has_pairs=loaded.has_pairs,
        task=name,
        decoding=loaded.decoding,
    )
    asked, reference = load(folder), predictor
    answer = asked.predict(*texts_of(case))
    assert {*answer[0]} == case.answer
    if tasks.gives_lists(name):
        given, wanted = (
            [[(e["start"], e["end"], e["label"]) for e in row["entities"]] for row in rows]
            for rows in (answer, reference.predict(*texts_of(case)))
        )
        assert given == wanted
        return
    wanted = reference.values(*texts_of(case))
    scale = max(1.0, np.abs(wanted).max())
    tolerance = (1e-5 if asked.precision == "float32" else 5e-3) * scale
    np.testing.assert_allclose(asked.values(*texts_of(case)), wanted, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "client", "packages"),
    [
        ("mediapipe", "ask_mediapipe", ["mediapipe==1.2.2"]),
        (
            "task-library-0.4",
            "ask_task_library",
            ["tflite-support==0.4.4", "numpy<2", "protobuf<4"],
        ),
    ],
)
def test_runtimes_of_phones_take_the_files(road, name, client, packages):
    from tfmodel.export.parity.description import describe
    from tfmodel.export.parity.phones import Phone, ask_phone

    task, case, _ = road
    if case.has_pairs:
        pytest.skip("they take single texts; tests/export/test_question_answerer.py")
    if tasks.reads_tokens(task):
        done = run_command("export", "small.yaml", f"export.runtime={name}")
        assert done.code == 2 and "which answers each token. Set export.runtime=litert" in done.err
        return
    phone = Phone(client, needs.environment(name, *packages), "")
    texts = [text for text, _ in case.rows[:20]]
    for file in ("float32", "int8"):
        path = Path(f"runs/small/export/tflite/{file}.tflite")
        figures = ask_phone(
            phone,
            describe(path),
            texts,
            load(path).values(texts),
            None,
            max_drop=0.05,
            timeout_seconds=550,
        )
        assert figures["passed"], figures["failures"]
        assert figures["rows_with_our_ids"] == 20


def test_answers_have_the_keys_of_the_task(road):
    _, case, _ = road
    if case.has_pairs:
        small_run.write_rows(
            Path("asked.csv"), [("said", "the storm was"), ("on", "")], ("text", "text_pair")
        )
        done = run_command("predict", "runs/small", "--input", "asked.csv", "--output", "a.jsonl")
        assert done.code == 0, done.err
        answers = [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()]
        assert [set(answer) for answer in answers] == [case.answer] * 2
        for answer in answers:
            assert answer["text_pair"][answer["start"] : answer["end"]] == answer["answer"]
        return
    done = run_command("predict", "runs/small", "the storm was on monday", "the bank")
    assert done.code == 0, done.err
    answers = [json.loads(line) for line in done.out.splitlines()]
    assert [set(answer) for answer in answers] == [case.answer] * 2
    small_run.write_rows(Path("asked.csv"), [("rain", "1"), ("match", "2")], ("text", "id"))
    done = run_command("predict", "runs/small", "--input", "asked.csv", "--output", "answers.csv")
    assert done.code == 0, done.err
    header, *lines = Path("answers.csv").read_text().splitlines()
    expected = {"text", "id", *case.answer} - {"scores"}
    assert expected <= set(header.split(",")) and len(lines) == 2


def test_a_page_a_summary_and_tensorboard_tell_of_it(road):
    _, case, folder = road
    page = Path("runs/small/report.html").read_text("utf-8")
    headings = {
        section
        for each in CASES.values()
        for section in each.sections
        if f">{section}</h2>" in page
    }
    assert headings == case.sections
    said = (folder / "said.txt").read_text().lower()
    assert case.figure[0].replace("_", " ") in said
    events = needs.package("tensorboard.backend.event_processing.event_accumulator")
    board = events.EventAccumulator("runs/small/logs/dev")
    board.Reload()
    shown = {*board.Tags()["tensors"]}
    assert {f"pictures/{picture}" for picture in case.pictures} <= shown
    assert {f"metrics/{case.figure[0]}", "texts/mistakes"} <= shown


def test_a_card_travels_with_it(road):
    name, _, _ = road
    card = read("runs/small/export/savedmodel/1/card.json")
    assert card["model"]["task"] == name
    assert "README.md" in {path.name for path in Path("runs/small/export/savedmodel/1").iterdir()}


def test_mistakes_are_told(road):
    _, case, _ = road
    for overrides, message in case.mistakes:
        done = run_command("run", "small.yaml", "run=runs/wrong", *overrides)
        assert done.code == 2, overrides
        assert message in done.err
