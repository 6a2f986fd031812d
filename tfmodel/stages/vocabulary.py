"""The stage `vocabulary`: pieces trained from the corpus, or those that are given."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tfmodel import sources
from tfmodel.run_folder import write_aside, write_json
from tfmodel.stages.context import Context, Stage, identity_of_source
from tfmodel.tokens.vocabulary import Vocabulary
from tfmodel.tokens.vocabulary_training import VocabularySettings

if TYPE_CHECKING:
    from tfmodel.tokens.tokenizer import Tokenizer

_log = logging.getLogger(__name__)

VOCABULARY_FIGURES = "vocabulary.json"
# Enough for three digits of a rate, and read in seconds.
_MEASURED_DOCUMENTS = 2_000
_AT_ONCE = 64


def _vocabulary_inputs(context: Context) -> dict:
    settings = context.settings
    if settings.encoder is not None:
        return {"the content of encoder": identity_of_source(settings.encoder)}
    if isinstance(settings.vocabulary, str):
        identity = identity_of_source(settings.vocabulary)
        return {"the content of vocabulary": identity}
    chosen = (settings.vocabulary or VocabularySettings()).model_dump(mode="json")
    return {f"vocabulary.{key}": value for key, value in chosen.items()}


def _make_vocabulary(context: Context) -> None:
    from tfmodel.data.corpus import load_corpus

    corpus = load_corpus(context.run.folder / "corpus")
    tokenizer, origin = _tokenizer(context, corpus)
    figures = {
        "origin": origin,
        "pieces": len(tokenizer.vocabulary),
        "lowercase": tokenizer.lowercase,
        **_measured(tokenizer, itertools.islice(corpus.texts("dev"), _MEASURED_DOCUMENTS)),
    }
    with write_aside(context.run.folder / VOCABULARY.name, replace=True) as aside:
        tokenizer.save(aside)
        write_json(aside / VOCABULARY_FIGURES, figures)
    context.run.update_metrics("vocabulary", figures)
    _log.info(
        "vocabulary: %s pieces (%s); %.2f bytes a token and %.3f%% unknown on dev",
        f"{figures['pieces']:,}",
        origin,
        figures["bytes_per_token"],
        100 * figures["unknown_rate"],
    )


def _tokenizer(context: Context, corpus) -> tuple[Tokenizer, str]:
    from tfmodel.tokens.tokenizer import Tokenizer
    from tfmodel.tokens.vocabulary_training import train_vocabulary

    settings = context.settings
    if settings.encoder is not None:
        return given_tokenizer(settings.encoder), "the encoder's"
    if isinstance(settings.vocabulary, str):
        return given_tokenizer(settings.vocabulary), "given"
    chosen = settings.vocabulary or VocabularySettings()
    vocabulary = train_vocabulary(corpus.texts("train"), **chosen.model_dump())
    return Tokenizer(vocabulary, lowercase=chosen.lowercase), "trained"


def given_tokenizer(source: str) -> Tokenizer:
    """The tokenizer of a model folder or a `vocab.txt`.

    Raises:
        ConfigError: there is none, or it is no WordPiece vocabulary.
    """
    from tfmodel.tokens.tokenizer import Tokenizer

    place = sources.fetch(source)
    if place.is_dir():
        return Tokenizer.from_folder(place)
    vocabulary = Vocabulary.from_file(place)
    # A file says not whether it is of lower-cased text, but what it holds does.
    return Tokenizer(vocabulary, lowercase=not vocabulary.is_cased)


def _measured(tokenizer: Tokenizer, texts: Iterator[str]) -> dict[str, float]:
    """How well the pieces fit text that they were not trained on."""
    size = tokens = unknown = 0
    while chunk := list(itertools.islice(texts, _AT_ONCE)):
        ids = tokenizer.tokenize(chunk).flat_values.numpy()
        size += sum(len(text.encode("utf-8", "replace")) for text in chunk)
        tokens += len(ids)
        unknown += int((ids == tokenizer.vocabulary.unknown_id).sum())
    return {
        "bytes_per_token": size / max(tokens, 1),
        "unknown_rate": unknown / max(tokens, 1),
    }


def tokenizer_of(folder: Path, *, max_length: int | None = None) -> Tokenizer:
    """The tokenizer that the stage left in a run's folder."""
    from tfmodel.tokens.tokenizer import Tokenizer

    return Tokenizer.from_folder(folder / VOCABULARY.name, max_length=max_length)


VOCABULARY = Stage(
    "vocabulary",
    _vocabulary_inputs,
    _make_vocabulary,
    lambda run: (run.folder / "vocabulary" / VOCABULARY_FIGURES).exists(),
    after=lambda settings: "corpus",
    metrics=("vocabulary",),
    part_of="pretrain",
)
