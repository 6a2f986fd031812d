"""A pretraining run: text files to an encoder, from random weights or from another's."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from tfmodel.config import Settings, load_config
from tfmodel.data.corpus.settings import CorpusSettings
from tfmodel.export.publish import PARITY_FILE
from tfmodel.export.settings import FillExportSettings
from tfmodel.kinds.kind import Kind, unfinished_command
from tfmodel.stages import (
    CORPUS,
    EVALUATE_FILLING,
    EVALUATION_FILE,
    EXPORT_FILLING,
    HISTORY_FILE,
    PRETRAIN,
    TOKENS,
    VOCABULARY,
    VOCABULARY_FIGURES,
    Context,
    check_beginning,
    pretrain_along,
    read_if_there,
)
from tfmodel.tokens.objectives import FILLING, MlmSettings, ObjectiveSettings
from tfmodel.tokens.vocabulary_training import VocabularySettings
from tfmodel.train.pretrain_settings import PretrainSettings


class PretrainingSettings(Settings):
    """The config of a pretraining run."""

    run: str = Field(
        min_length=1, description="Folder for everything the run makes.", examples=["runs/wiki"]
    )
    seed: int = Field(
        0, ge=0, lt=2**31, description="Of splits, order, masks, dropout and new weights."
    )
    corpus: CorpusSettings = Field(description="The text: where it is, how it is cleaned.")
    vocabulary: VocabularySettings | str | None = Field(
        None,
        description="How a vocabulary is trained from the corpus, or a source of one: a vocab.txt "
        "or a model folder; by default one is trained.",
        examples=[{"size": 8000}],
    )
    model: Literal["tiny", "mini", "small", "medium", "base"] | None = Field(
        None, description="Size of a new encoder, as Google's BERTs; in place of encoder."
    )
    encoder: str | None = Field(
        None,
        min_length=1,
        description="Encoder to train on, with its vocabulary: a Hugging Face model folder or a "
        "source; in place of model.",
    )
    objective: ObjectiveSettings = Field(
        default_factory=MlmSettings, description="What the encoder is asked while it trains."
    )
    train: PretrainSettings = Field(
        default_factory=PretrainSettings, description="How the encoder is trained."
    )
    export: FillExportSettings | None = Field(
        None,
        description="What to export of the model, which fills gaps; without this key `tfmodel run` "
        "exports nothing.",
    )

    @model_validator(mode="after")
    def _something_to_fill_with(self) -> PretrainingSettings:
        if self.export is not None and self.objective.name not in FILLING:
            raise ValueError(
                f"export: expected an objective that learns to fill gaps ({', '.join(FILLING)}). "
                f"Received: {self.objective.name}, whose run keeps an encoder without a head. "
                "Leave export out"
            )
        return self

    @model_validator(mode="after")
    def _something_to_tell_apart(self) -> PretrainingSettings:
        if self.objective.name != "simcse":
            return self
        rows = self.train.batch_size // self.train.accumulation_steps
        if rows < 2:
            raise ValueError(
                "objective simcse tells the rows of a part of the batch apart: expected at least 2 "
                f"of them. Received: train.batch_size {self.train.batch_size} in "
                f"{self.train.accumulation_steps} parts. Lower train.accumulation_steps"
            )
        if self.train.dropout == 0:
            raise ValueError(
                "objective simcse compares a sentence with itself under another dropout: expected "
                "some. Received: train.dropout 0. Leave it out, or set it to 0.1"
            )
        return self

    @model_validator(mode="after")
    def _one_beginning(self) -> PretrainingSettings:
        if self.model is not None and self.encoder is not None:
            raise ValueError(
                "expected model, for a new encoder, or encoder, to train one on. Received: both, "
                f"model {self.model} and encoder {self.encoder}. Remove one of them"
            )
        if self.model is None and self.encoder is None:
            raise ValueError(
                "expected model, for a new encoder, or encoder, to train one on. Received: "
                "neither. Add for example model: mini"
            )
        if self.encoder is not None and self.vocabulary is not None:
            raise ValueError(
                "expected no vocabulary beside encoder, whose own is taken: its pieces are what "
                "it has vectors for. Received: both. Remove vocabulary"
            )
        return self


def _sources(settings: PretrainingSettings) -> dict[str, str | None]:
    vocabulary = settings.vocabulary if isinstance(settings.vocabulary, str) else None
    return {
        "encoder": settings.encoder,
        "vocabulary": vocabulary,
        "corpus.train": settings.corpus.train,
        "corpus.dev": settings.corpus.dev,
    }


def _tell(context: Context, only: str | None) -> str:
    from tfmodel.report import (
        PretrainingResults,
        pretraining_summary,
        write_pretraining_report,
    )

    run, settings, figures = context.run, context.settings, context.run.metrics()
    done = {name for name in context.stages if context.up_to_date(name)}
    results = PretrainingResults(
        title=run.folder.name,
        run_folder=settings.run,
        command=f"tfmodel {only or 'run'} {context.config}",
        next_command=_next_command(context),
        config=load_config(run.folder / "config.yaml", PretrainingSettings).model_dump(mode="json"),
        environment=read_if_there(run.folder / "environment.json"),
        account=read_if_there(run.folder / CORPUS.name / "account.json"),
        vocabulary=read_if_there(run.folder / VOCABULARY.name / VOCABULARY_FIGURES)
        if VOCABULARY.name in done
        else {},
        tokens=figures.get("tokens", {}) if TOKENS.name in done else {},
        history=read_if_there(run.folder / HISTORY_FILE) if PRETRAIN.name in done else {},
        training=figures.get("train", {}) if PRETRAIN.name in done else {},
        dev=figures.get("dev", {}) if PRETRAIN.name in done else {},
        parity=read_if_there(run.export / PARITY_FILE) if EXPORT_FILLING.name in done else {},
        timings=context.timings(),
    )
    write_pretraining_report(run.report, results)
    return pretraining_summary(results, report=str(Path(settings.run) / run.report.name))


def _next_command(context: Context) -> str:
    if unfinished := unfinished_command(context):
        return unfinished
    model = shlex.quote(f"encoder={Path(context.settings.run) / 'model'}")
    return f"tfmodel run CONFIG {model}"


PRETRAINING = Kind(
    name="pretraining",
    settings=PretrainingSettings,
    stages=(CORPUS, VOCABULARY, TOKENS, PRETRAIN, EVALUATE_FILLING, EXPORT_FILLING),
    places=(CORPUS.name, VOCABULARY.name, TOKENS.name, EXPORT_FILLING.name, EVALUATION_FILE),
    sources=_sources,
    tell=_tell,
    train_along=pretrain_along,
    check=check_beginning,
)
