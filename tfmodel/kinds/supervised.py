"""A supervised run: labelled rows to a model that answers, measured and exported."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from tfmodel import sources, tasks
from tfmodel.config import Settings, load_config
from tfmodel.data.settings import DataSettings
from tfmodel.export.publish import PARITY_FILE
from tfmodel.export.settings import ExportSettings
from tfmodel.kinds.kind import Kind, unfinished_command
from tfmodel.stages import (
    EVALUATION_FILE,
    HISTORY_FILE,
    LABEL_NOISE_FILE,
    PAGE_FILE,
    STAGES_OF_A_TASK,
    Context,
    check_task,
    read_if_there,
    train_along,
    write_page,
)
from tfmodel.tasks import span_windows
from tfmodel.train.few_labels import METHODS
from tfmodel.train.settings import FinetuneSettings

_OF_ONE_TASK = {
    "embed": ("loss", "temperature", "margin", "pooling", "normalize"),
    "tag": ("crf",),
}
_TARGET_OF_LOSS = {"cosine": "number", "triplet": "text"}


class TaskSettings(Settings):
    """What the model answers."""

    name: Literal["classify", "regress", "tag", "span", "embed"] = Field(
        "classify",
        description="classify: one label of several for a text or a pair of texts (with "
        "data.target classes any number of them); regress: a number; tag: entities of a text; "
        "span: the answer to a question in a text; embed: a vector.",
    )
    doc_stride: int = Field(
        span_windows.DOC_STRIDE,
        ge=1,
        description="span: tokens from one window of a long text to the next.",
    )
    max_query_length: int = Field(
        span_windows.MAX_QUERY_LENGTH, ge=1, description="span: tokens a question is cut to."
    )
    max_answer_length: int = Field(
        span_windows.MAX_ANSWER_LENGTH, ge=1, description="span: tokens of an answer at most."
    )
    crf: bool = Field(
        False,
        description="tag: learn, too, how likely each tag follows another (a linear-chain CRF).",
    )
    loss: Literal["auto", "contrastive", "triplet", "cosine"] = Field(
        "auto",
        description="embed: contrastive (find a text's partner in the batch), triplet (nearer than "
        "a text that data.label names), cosine (as high as the number of data.label); auto: cosine "
        "of numbers, else contrastive.",
    )
    temperature: float = Field(
        0.05, gt=0, le=1, description="embed: what cosines are divided by in the contrastive loss."
    )
    margin: float = Field(
        0.2, gt=0, le=2, description="embed: by how much nearer the triplet loss wants the partner."
    )
    pooling: Literal["auto", "mean", "cls"] = Field(
        "auto",
        description="embed: a vector is the mean of the tokens, or the first; auto: as the "
        "encoder's sentence-transformers folder says, else mean.",
    )
    normalize: Literal["auto"] | bool = Field(
        "auto",
        description="embed: whether vectors have length 1; auto: as the encoder's folder says, "
        "else true.",
    )

    @model_validator(mode="after")
    def _keys_of_one_task(self) -> TaskSettings:
        for owner, keys in _OF_ONE_TASK.items():
            others = [key for key in self.chosen() if key in keys]
            if others and self.name != owner:
                raise ValueError(
                    f"{', '.join(others)}: expected task.name {owner}, of which these are. "
                    f"Received: {self.name}. Leave them out"
                )
        return self

    def chosen(self) -> dict[str, Any]:
        """The name, and what else is not as it is by default."""
        return {"name": self.name, **self.model_dump(exclude_defaults=True)}


class RunSettings(Settings):
    """The config of a supervised run."""

    run: str = Field(
        min_length=1, description="Folder for everything the run makes.", examples=["runs/news"]
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Of splits, order, dropout and new weights.")
    encoder: str = Field(
        sources.DEFAULT_ENCODER,
        min_length=1,
        description="Pretrained BERT, DistilBERT, ELECTRA or RoBERTa: a Hugging Face folder or a "
        "source; MiniLM by default.",
    )
    data: DataSettings = Field(description="Labelled rows: where they are, how they are read.")
    task: TaskSettings = Field(default_factory=TaskSettings, description="What to learn.")
    train: FinetuneSettings = Field(
        default_factory=FinetuneSettings, description="How the encoder is fine-tuned."
    )
    export: ExportSettings | None = Field(
        None, description="What to export; without this key `tfmodel run` exports nothing."
    )
    together: str | None = Field(
        None,
        min_length=1,
        description="Written by a run of several tasks into the config of each: of which training "
        "its weights are. Not for a config of one's own.",
    )

    @model_validator(mode="before")
    @classmethod
    def _labels_of_the_task(cls, values: Any) -> Any:
        """Where the config does not say what its labels are, the task does."""
        try:
            name, target = values["task"]["name"], values["data"].get("target", "auto")
            loss, label = values["task"].get("loss", "auto"), values["data"].get("label")
        except (KeyError, TypeError, AttributeError):
            return values
        if name == "embed" and target == "auto":
            if label is not None and loss not in _TARGET_OF_LOSS:
                raise ValueError(
                    f"data.target must say what data.label holds where task.name is embed. "
                    f"Received: label {label} alone. Set data.target: number for scores of pairs, "
                    "or text for texts that a row's text is to be told apart from"
                )
            target = _TARGET_OF_LOSS.get(loss, "none")
            return {**values, "data": {**values["data"], "target": target}}
        known = [task.target for task in tasks.TASKS.values() if task.name == name]
        if target != "auto" or not known or name == "classify":  # whose labels the format tells
            return values
        return {**values, "data": {**values["data"], "target": known[0]}}

    @model_validator(mode="before")
    @classmethod
    def _length_of_windows(cls, values: Any) -> Any:
        """Where the config does not say how long a window is, it is BERT's of the task."""
        try:
            name, train = values["task"]["name"], dict(values.get("train") or {})
        except (KeyError, TypeError, AttributeError, ValueError):
            return values
        if name != "span":
            return values
        return {**values, "train": {"max_length": span_windows.MAX_LENGTH, **train}}

    @model_validator(mode="after")
    def _keys_of_the_task(self) -> RunSettings:
        name, target = self.task.name, self.data.target
        key = tasks.learning(target, name=name)
        if key is None:
            if name != "classify":
                known = [task.target for task in tasks.TASKS.values() if task.name == name]
                raise ValueError(
                    f"data.target must be {' or '.join(known)} where task.name is {name}. "
                    f"Received: {target}. Leave data.target out, or change the task"
                )
            key = name  # the rows can be prepared all the same, for a script of one's own
        task = tasks.TASKS[key]
        self._check_vectors(task)
        if self.data.text_pair is not None and not task.pairs:
            raise ValueError(
                f"data.text_pair: expected single texts where task.name is {name}. Received: "
                f"{self.data.text_pair}. Leave it out"
            )
        foreign = [path for path in task.foreign if _is_set(self, path)]
        of_one_class = [path for path in foreign if path in tasks.OF_ONE_CLASS]
        if of_one_class:
            raise ValueError(
                f"{', '.join(of_one_class)}: expected rows with one class each. Received: "
                f"task.name {name} with data.target {task.target}. Leave it out"
            )
        if foreign:
            raise ValueError(
                f"{', '.join(foreign)}: expected a task that has it. Received: task.name {name}. "
                "Leave it out"
            )
        self._check_few_labels()
        if key == "span":
            span_windows.check_windows(
                max_length=self.train.max_length, max_query_length=self.task.max_query_length
            )
        for path in ("train.monitor", "train.regularize.plateau.monitor"):
            figure = _at(self, path)
            if figure not in (None, "auto", *task.figures):
                raise ValueError(
                    f"{path} must be one of {', '.join(task.figures)} where task.name is {name} "
                    f"and data.target {task.target}. Received: {figure}. Choose one of these, or "
                    "leave it out"
                )
        return self

    def _check_few_labels(self) -> None:
        if self.train.few_labels is None:
            return
        name = self.train.few_labels.name
        method = METHODS[name]
        foreign = [path for path in method.foreign if _is_set(self, path)]
        if foreign:
            raise ValueError(
                f"{', '.join(foreign)}: expected a training that has it. Received: "
                f"train.few_labels {name}. Leave it out"
            )
        if _is_set(self, "export.keras_hub"):
            raise ValueError(
                "export.keras_hub: expected a head on the encoder's own pooled output, which is "
                "all that KerasHub's BertTextClassifier has. Received: train.few_labels "
                f"{name}, whose head reads {method.reads}. Leave it out: SavedModel, TFLite and "
                "ONNX have it"
            )
        has_pairs = self.data.text_pair is not None
        if has_pairs and not method.pairs:
            raise ValueError(
                f"data.text_pair: expected single texts where train.few_labels is {name}. "
                f"Received: {self.data.text_pair}. Leave it out, or choose prompt"
            )
        if name == "prompt" and ("{text_pair}" in self.train.few_labels.template) != has_pairs:
            raise ValueError(
                "train.few_labels.template must have {text_pair} where rows are pairs "
                "(data.text_pair), and only there. Received: "
                f"{self.train.few_labels.template!r}, data.text_pair {self.data.text_pair}"
            )

    def _check_vectors(self, task: tasks.Task) -> None:
        name, target, loss = self.task.name, self.data.target, self.task.loss
        headless = [path for path in task.headless if _is_set(self, path)]
        if headless:
            raise ValueError(
                f"{', '.join(headless)}: expected a task with a head of labels or numbers. "
                f"Received: task.name {name}, whose answers are vectors. Leave it out"
            )
        taken_as_it_is = task.needs_pairs or self.train.few_labels is not None
        if self.train.epochs == 0 and not taken_as_it_is:
            raise ValueError(
                f"train.epochs must be at least 1 where task.name is {name}, whose head has to be "
                "learned. Received: 0"
            )
        has_pairs = self.data.text_pair is not None or self.data.format == "squad"
        if task.needs_pairs and not has_pairs:
            raise ValueError(
                f"data.text_pair must name the column with the second text where task.name is "
                f"{name}. Received: none. A row is two texts that belong together, or a pair with "
                "a score"
            )
        learned = loss if loss != "auto" else "cosine" if target == "number" else "contrastive"
        for key, owner in (("temperature", "contrastive"), ("margin", "triplet")):
            if key in self.task.chosen() and learned != owner:
                raise ValueError(
                    f"task.{key} goes with task.loss {owner}. Received: {learned}. Leave it out, "
                    "or name the loss"
                )
        wanted = _TARGET_OF_LOSS.get(loss, target)
        if target != wanted or (loss == "contrastive" and target == "number"):
            words = wanted if loss in _TARGET_OF_LOSS else "none or text"
            raise ValueError(
                f"data.target must be {words} where task.loss is {loss}. Received: {target}. Name "
                "the loss that fits the rows, or leave it out"
            )


def _at(settings: Settings, path: str) -> Any:
    """The value of a dotted key; None where a section above it is not there."""
    value: Any = settings
    for key in path.split("."):
        value = None if value is None else getattr(value, key)
    return value


def _is_set(settings: Settings, path: str) -> bool:
    """Whether a dotted key has another value than its default."""
    section, _, key = path.rpartition(".")
    found = _at(settings, section)
    if found is None:
        return False
    field = type(found).model_fields[key]
    return getattr(found, key) != field.get_default(call_default_factory=True)


def _sources(settings: RunSettings) -> dict[str, str | None]:
    data = {f"data.{part}": getattr(settings.data, part) for part in ("train", "dev", "test")}
    return {"encoder": settings.encoder, **data}


def _tell(context: Context, only: str | None) -> str:
    from tfmodel.report import Results, summary_text, write_report

    run, settings = context.run, context.settings
    trained, evaluated, exported = map(context.up_to_date, ("finetune", "evaluate", "export"))
    results = Results(
        title=run.folder.name,
        task=tasks.learning(settings.data.target, name=settings.task.name) or settings.task.name,
        run_folder=settings.run,
        command=f"tfmodel {only or 'run'} {context.config}",
        next_command=_next_command(context),
        config=load_config(run.folder / "config.yaml", RunSettings).model_dump(mode="json"),
        environment=read_if_there(run.folder / "environment.json"),
        account=read_if_there(run.data / "account.json"),
        label_noise=_label_noise(context),
        history=_records(read_if_there(run.folder / HISTORY_FILE)) if trained else [],
        training=run.metrics().get("train", {}) if trained else {},
        evaluation=read_if_there(run.folder / EVALUATION_FILE) if evaluated else {},
        parity=read_if_there(run.export / PARITY_FILE) if exported else {},
        timings=context.timings(),
    )
    write_report(run.report, results)
    if results.account and not (run.folder / PAGE_FILE).exists():
        write_page(context)  # it was removed, or the data prepared by a version that wrote none
    return summary_text(
        results,
        report=str(Path(settings.run) / run.report.name),
        data_report=str(Path(settings.run) / PAGE_FILE),
    )


def _label_noise(context: Context) -> dict:
    wanted = context.settings.data.label_noise is not None
    if not wanted or not context.up_to_date("label_noise"):
        return {}
    return read_if_there(context.run.data_review / LABEL_NOISE_FILE)


def _records(history: Mapping[str, list[dict]]) -> list[dict]:
    """Steps and dev figures as one list of records for the learning curves."""
    steps = [
        {key: step[key] for key in ("step", "loss", "learning_rate")}
        for step in history.get("steps", [])
    ]
    epochs = [
        {key: value for key, value in epoch.items() if key == "step" or key.startswith("dev_")}
        for epoch in history.get("epochs", [])
    ]
    return steps + epochs


def _next_command(context: Context) -> str:
    learned = functools.partial(tasks.learning, name=context.settings.task.name)
    if context.up_to_date("data") and learned(context.dataset.target) is None:
        # The task does not learn these labels; the rows are there for a script of one's own.
        where = str(Path(context.settings.run) / "data")
        return f"in Python: tfmodel.load_dataset({where!r}).split('train')"
    if unfinished := unfinished_command(context):
        return unfinished
    where = Path(context.settings.run)
    task = tasks.TASKS[learned(context.dataset.target)]
    if context.dataset.has_pairs and not task.needs_pairs:
        return f"tfmodel predict {shlex.quote(str(where))} --input FILE --output answers.jsonl"
    if "savedmodel" in context.run.metrics().get("export", {}):
        where = where / "export" / "savedmodel"
    return f"tfmodel predict {shlex.quote(str(where))} 'a text of yours'"


SUPERVISED = Kind(
    name="supervised",
    settings=RunSettings,
    stages=STAGES_OF_A_TASK,
    places=("data", "data_review", "export", PAGE_FILE, EVALUATION_FILE),
    sources=_sources,
    tell=_tell,
    check=check_task,
    train_along=train_along,
)
