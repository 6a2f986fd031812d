"""The stages `evaluate` and `export` of a pretraining run: its model as one that fills gaps."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.export.settings import FillExportSettings
from tfmodel.run_folder import write_json
from tfmodel.stages.context import Context, Stage, read_if_there
from tfmodel.stages.evaluate import EVALUATION_FILE
from tfmodel.stages.export import is_exported
from tfmodel.stages.pretrain import PRETRAIN
from tfmodel.stages.token_documents import TOKENS
from tfmodel.tokens.objectives import FILLING

_log = logging.getLogger(__name__)

_ROWS = 1000
_DOCUMENTS = 5000
_FIGURES = ("steps", "examples", "tokens", "seconds", "epochs", "parameters")


def _evaluate_inputs(context: Context) -> dict:
    return {"parts": ["dev"]}


def _evaluate(context: Context) -> None:
    """The figures of the saved weights, in float32, on the dev part with its fixed masks."""
    from tfmodel.tokens.pretraining_batches import PretrainingBatches
    from tfmodel.tokens.token_documents import TokenDocuments
    from tfmodel.train.callbacks.dev_loss import DevLoss
    from tfmodel.train.pretrain_step import PretrainingModel

    run, settings = context.run, context.settings
    _require_filling(context)
    task = tasks.find_objective(settings.objective.name)
    loaded = task.load(run.model)
    batches = PretrainingBatches(
        TokenDocuments(run.folder / TOKENS.name / "dev"),
        objective=settings.objective,
        vocabulary=loaded.tokenizer.vocabulary,
        max_length=settings.train.max_length,
        batch_size=settings.train.batch_size,
        seed=settings.seed,
        fixed=True,
    )
    _log.info("evaluating dev: %d rows", len(batches.rows))
    measured = DevLoss(batches, every_steps=1, total_steps=1)
    measured.set_model(PretrainingModel(loaded.model, task=task))
    figures = measured.evaluate()
    write_json(run.folder / EVALUATION_FILE, {"dev": {"examples": len(batches.rows), **figures}})
    run.update_metrics("dev", figures)


def _export_inputs(context: Context) -> dict:
    settings = context.settings.export or FillExportSettings()
    return {f"export.{key}": value for key, value in settings.model_dump(mode="json").items()}


def _export(context: Context) -> None:
    from tfmodel.export import export_all

    run, settings = context.run, context.settings.export or FillExportSettings()
    _require_filling(context)
    loaded = tasks.find("fill").load(run.model)
    length = settings.max_length or loaded.max_length
    rows = list(_texts_with_gaps(context, loaded.tokenizer, length))
    parity = export_all(
        settings.written(),
        model=loaded.model,
        tokenizer=loaded.tokenizer,
        labels=[],
        max_length=length,
        task="fill",
        decoding={**loaded.decoding, "top": settings.top},
        texts=[text for text, _ in rows],
        targets=[token for _, token in rows],
        folder=run.export,
        facts=_facts(context),
        progress=_log.info,
    )
    run.update_metrics("export", parity["artifacts"])


def _require_filling(context: Context) -> None:
    name = context.settings.objective.name
    if name not in FILLING:
        raise ConfigError(
            f"Expected an objective that learns to fill gaps ({', '.join(FILLING)}). Received: "
            f"{name}, whose run keeps an encoder without a head: fine-tune it with "
            f"encoder={context.settings.run}/model."
        )


def _texts_with_gaps(context: Context, tokenizer: Any, length: int) -> Iterator[tuple[str, str]]:
    """Texts of dev, in each one whole word hidden, and the piece that stood there.

    Raises:
        ConfigError: no text has a word that is one piece.
    """
    import itertools

    from tfmodel.data.corpus import load_corpus
    from tfmodel.tokens.gaps import GAP

    generator, pieces = np.random.default_rng(context.settings.seed), tokenizer.vocabulary.pieces
    found = 0
    texts = load_corpus(context.run.folder / "corpus").texts("dev")
    for text in itertools.islice(texts, _DOCUMENTS):
        ids, starts, ends = (
            each[0, : length - 2].numpy() for each in tokenizer.tokenize_with_offsets([text])
        )
        begins = tokenizer.begins_word(ids).numpy() if len(ids) else np.zeros(0, bool)
        whole = begins[:-1] & begins[1:] & (ids[:-1] != tokenizer.vocabulary.unknown_id)
        words = [place for place in np.flatnonzero(whole) if text[starts[place]].isalnum()]
        if not words or GAP in text:
            continue
        place = int(generator.choice(words))
        found += 1
        yield text[: starts[place]] + GAP + text[ends[place] :], pieces[ids[place]]
        if found == _ROWS:
            return
    if not found:
        raise ConfigError(
            f"{context.run.folder}: expected dev documents with a word that is one piece, to "
            "compare the artifacts on. Received: none. Add text to corpus.dev."
        )


def _facts(context: Context) -> dict[str, Any]:
    """What the card says of a run's corpus, training and figures."""
    run, settings = context.run, context.settings
    metrics = run.metrics()
    figures = metrics.get("train", {})
    found = {
        "name": run.folder.name,
        "date": datetime.date.today().isoformat(),
        "seed": settings.seed,
        "encoder": settings.encoder or f"a new one of size {settings.model}",
        "language": settings.corpus.cleaning.languages,
        "training": {
            "settings": settings.train.model_dump(mode="json", exclude={"checkpoint_seconds"}),
            "figures": {key: figures[key] for key in _FIGURES if key in figures},
        },
        "environment": read_if_there(run.folder / "environment.json"),
    }
    if context.up_to_date("evaluate"):
        found["evaluation"] = read_if_there(run.folder / EVALUATION_FILE)
    return found


EVALUATE_FILLING = Stage(
    "evaluate",
    _evaluate_inputs,
    _evaluate,
    lambda run: (run.folder / EVALUATION_FILE).exists(),
    after=lambda settings: PRETRAIN.name,
    metrics=("dev",),
    is_wanted=lambda settings: False,  # training has measured it; the command does so again
)

EXPORT_FILLING = Stage(
    "export",
    _export_inputs,
    _export,
    is_exported,
    after=lambda settings: PRETRAIN.name,
    metrics=("export",),
    is_wanted=lambda settings: settings.export is not None,
)
