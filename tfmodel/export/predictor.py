"""One way to ask, whatever answers: Keras model, SavedModel or TFLite file."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.export.manifest import Manifest
from tfmodel.tasks.span_search import COLUMNS

_log = logging.getLogger(__name__)

Answer = Callable[[list[str], list[str] | None], np.ndarray | list]
"""Texts and, for pairs, as many second texts, at least one, to values (n, C) or vectors (n, D);
of a task that reads tokens to a list of values, one a text."""


class Predictor:
    """Texts in, answers out, or sentence vectors.

    Made by `tfmodel.load`; the attributes say what was loaded.

    Args:
        answer: gives the task's values of one batch; the vectors, where the manifest's `output`
            is `vector`.
        manifest: labels, length and task of what answers.
        kind: `model`, `savedmodel`, `tflite`, `keras_hub` or `onnx`.
        where: what messages call it, usually its path.
        vector: gives the sentence vectors of one batch, beside scores.

    Example:
        >>> predictor = tfmodel.load("runs/news")
        >>> predictor.predict(["Stocks fell sharply."])[0]["label"]
        'business'
    """

    def __init__(
        self,
        answer: Answer,
        manifest: Manifest,
        *,
        kind: str,
        where: str = "model",
        vector: Answer | None = None,
    ):
        gives_scores = manifest.output == "scores"
        self._scores = answer if gives_scores else None
        self._vector = vector if gives_scores else answer
        self.manifest = manifest
        self.kind = kind
        self.where = where
        self.labels = list(manifest.labels)
        self.has_pairs = manifest.has_pairs
        self.max_length = manifest.max_length
        self.task = manifest.task
        self.precision = manifest.precision

    def __repr__(self) -> str:
        return f"Predictor({self.where!r}, kind={self.kind!r}, labels={len(self.labels)})"

    def probabilities(
        self,
        texts: Sequence[str],
        text_pairs: Sequence[str] | None = None,
        *,
        batch_size: int = 32,
    ) -> np.ndarray:
        """Score texts with a classifier.

        Args:
            texts: n texts; an empty one is answered too.
            text_pairs: n second texts, for a model of pairs alone.
            batch_size: rows answered at once. Texts of like length go together, so that
                little is computed for padding.

        Returns:
            float32 (n, C), in the order of `texts` and `labels`.

        Raises:
            ConfigError: as `values`, or the task's answers are no labels.
        """
        if tasks.find(self.task).VALUES != "scores" or tasks.gives_lists(self.task):
            raise ConfigError(
                f"{self.where}: expected a model that scores labels. Received: one of the task "
                f"{self.task}. Ask it with predict() or values()."
            )
        return self.values(texts, text_pairs, batch_size=batch_size)

    def values(
        self,
        texts: Sequence[str],
        text_pairs: Sequence[str] | None = None,
        *,
        batch_size: int = 32,
    ) -> np.ndarray | list:
        """The numbers that answers are decoded from.

        Args:
            texts: n texts; an empty one is answered too.
            text_pairs: n second texts, for a model of pairs alone.
            batch_size: rows answered at once.

        Returns:
            float32 (n, C), in the order of `texts`: of `classify` the probability of each label,
            of `regress` the number, where C is 1, of `embed` the vector, of `span` start, end,
            score and margin of the best span. Of `tag` a list of n `Words`: where the words of a
            text are, and the probability of each tag; of `fill` a list of n `Gaps`: the likeliest
            tokens of each gap.

        Raises:
            ConfigError: not a list of strings, pairs where there should be none or the other way
                round, or what was loaded gives vectors alone.
        """
        if tasks.gives_vectors(self.task):
            return self.vectors(texts, text_pairs, batch_size=batch_size)
        if self._scores is None:
            raise ConfigError(
                f"{self.where}: expected an artifact that gives scores. Received: one that gives "
                "the sentence vector. Ask it with vectors(), or load the one with scores."
            )
        texts, text_pairs = self._checked(texts, text_pairs, batch_size)
        if not texts:
            columns = len(COLUMNS) if tasks.find(self.task).ANSWERS == "span" else len(self.labels)
            return [] if self.gives_lists else np.zeros((0, columns), np.float32)
        return _in_batches(self._scores, texts, text_pairs, batch_size)

    def vectors(
        self,
        texts: Sequence[str],
        text_pairs: Sequence[str] | None = None,
        *,
        batch_size: int = 32,
    ) -> np.ndarray:
        """Turn texts into sentence vectors: of `embed` its answers, else what it reads them from.

        Args:
            texts: n texts; an empty one has a vector too.
            text_pairs: n second texts, for a model of pairs alone.
            batch_size: rows answered at once.

        Returns:
            float32 (n, D), in the order of `texts`; (0, 0) for no texts.

        Raises:
            ConfigError: as `probabilities`, or what was loaded gives scores alone.
        """
        if self._vector is None:
            raise ConfigError(
                f"{self.where}: expected an artifact that gives sentence vectors. Received: one "
                "that gives scores alone. Load the run folder or its SavedModel, or export a "
                "TFLite file with export.tflite_vector=true."
            )
        texts, text_pairs = self._checked(texts, text_pairs, batch_size)
        if not texts:
            return np.zeros((0, 0), np.float32)
        return _in_batches(self._vector, texts, text_pairs, batch_size)

    def predict(
        self,
        texts: Sequence[str],
        text_pairs: Sequence[str] | None = None,
        *,
        batch_size: int = 32,
    ) -> list[dict[str, Any]]:
        """Answer texts.

        Args:
            texts: n texts.
            text_pairs: n second texts, for a model of pairs alone.
            batch_size: rows answered at once.

        Returns:
            For each row `{"text", "label", "score", "scores": {label: score}}`, where a row may
            have several labels `{"text", "labels": [label, …], "scores"}`, of `regress` `{"text",
            "score"}`, of `tag` `{"text", "entities": [{"text", "label", "start", "end", "score"},
            …]}` and of `span` `{"text", "answer", "start", "end", "score"}`, with places in
            characters (Unicode code points) of the text, of `fill` `{"text", "filled", "gaps":
            [[{"token", "score"}, …], …]}`, and `text_pair` for
            pairs; `vector`, a list of numbers, in place of the
            answer where what was loaded gives vectors alone.

        Raises:
            ConfigError: as `probabilities`.
        """
        if self._scores is None:
            vectors = self.vectors(texts, text_pairs, batch_size=batch_size)
            answers = [{"vector": vector.tolist()} for vector in vectors]
        else:
            values = self.values(texts, text_pairs, batch_size=batch_size)
            answers = self._decoded(values, texts, text_pairs)
        rows = [{"text": text} for text in texts]
        if text_pairs is not None:
            rows = [row | {"text_pair": pair} for row, pair in zip(rows, text_pairs, strict=True)]
        return [row | answer for row, answer in zip(rows, answers, strict=True)]

    def _decoded(
        self, values: np.ndarray | list, texts: Sequence[str], text_pairs: Sequence[str] | None
    ) -> list[dict[str, Any]]:
        task, beside = tasks.find(self.task), dict(self.manifest.decoding)
        # An answer that is part of a text is cut out of it.
        if task.ANSWERS == "span":
            beside["text_pairs"] = text_pairs
        if self.gives_lists:
            beside["texts"] = texts
        if hasattr(task, "notice") and (
            said := task.notice(values, texts, max_length=self.max_length, **self.manifest.decoding)
        ):
            _log.warning("%s: %s", self.where, said)
        return task.decode(values, self.labels, **beside)

    @property
    def gives_scores(self) -> bool:
        """Whether `values` answers."""
        return self._scores is not None

    @property
    def gives_lists(self) -> bool:
        """Whether `values` is a list, with one item a text."""
        return self.gives_scores and tasks.gives_lists(self.task)

    @property
    def gives_vectors(self) -> bool:
        """Whether `vectors` answers."""
        return self._vector is not None

    def _checked(
        self, texts: Sequence[str], text_pairs: Sequence[str] | None, batch_size: int
    ) -> tuple[list[str], list[str] | None]:
        if batch_size < 1:
            raise ConfigError(f"batch_size must be 1 or more. Received: {batch_size}.")
        texts = _strings(texts, "texts")
        if text_pairs is None:
            if self.has_pairs:
                raise ConfigError(
                    f"{self.where}: expected pairs, for it was trained on two texts a row. "
                    "Received: single texts. Pass text_pairs too (a text_pair field or column in "
                    "an input file)."
                )
            return texts, None
        if not self.has_pairs:
            raise ConfigError(
                f"{self.where}: expected single texts, for it was trained on one text a row. "
                "Received: pairs. Leave text_pairs out."
            )
        text_pairs = _strings(text_pairs, "text_pairs")
        if len(texts) != len(text_pairs):
            raise ConfigError(
                "Expected as many text_pairs as texts. "
                f"Received: {len(texts)} texts and {len(text_pairs)} text_pairs."
            )
        return texts, text_pairs


def _in_batches(
    answer: Answer, texts: list[str], text_pairs: list[str] | None, batch_size: int
) -> np.ndarray | list:
    """Ask texts of like length together; one answer a text, in their order."""
    seconds = text_pairs or [""] * len(texts)
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]) + len(seconds[row]))
    answers = []
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        pairs = None if text_pairs is None else [text_pairs[row] for row in rows]
        answers.append(answer([texts[row] for row in rows], pairs))
    if isinstance(answers[0], list):
        given = zip(order, itertools.chain.from_iterable(answers), strict=True)
        return [value for _, value in sorted(given, key=lambda pair: pair[0])]
    return np.concatenate(answers).astype(np.float32)[np.argsort(order)]


def _strings(values: Sequence[str], name: str) -> list[str]:
    if isinstance(values, str | bytes):
        raise ConfigError(
            f"Expected {name} to be a list of strings. Received: one {type(values).__name__}. "
            "Put it in a list: [text]."
        )
    values = list(values)
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise ConfigError(
                f"Expected {name} to be strings. Received: {value!r} "
                f"({type(value).__name__}) at position {row}."
            )
    return values
