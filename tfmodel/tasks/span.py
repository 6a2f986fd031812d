"""The answer to a question in a text that may be long: the span that answers it, or none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from tfmodel.config import ConfigError
from tfmodel.evaluate.answering import Question, best_null_threshold, scored
from tfmodel.tasks import token_head
from tfmodel.tasks.sequence_head import LoadedModel
from tfmodel.tasks.span_search import best_spans, is_answered
from tfmodel.tasks.span_windows import (
    DOC_STRIDE,
    MAX_ANSWER_LENGTH,
    MAX_QUERY_LENGTH,
    check_windows,
)

ARCHITECTURE = "BertForQuestionAnswering"
PROBLEM_TYPE = "question_answering"
ANSWERS = "span"
VALUES = "span"
SERVED = ("answer", "start", "end", "score", "span")
MISTAKE = ("answers", "predicted")
TITLE = "question answerer"
GIVES = "the answer to a question, as a span of a text"
SAYS = "How likely each token is the first, or the last, of the answer: a logit."
READS_TOKENS = True
"""Its head reads the hidden states of all tokens, not the sentence vector."""

_OUTPUT_LABELS = ("start", "end")
_APART = -1e9


def build(encoder: keras.Model, *, dropout: float | None = None, name: str = "span") -> keras.Model:
    """Put a head on an encoder that says of each token how likely the answer begins or ends there.

    Args:
        encoder: from `build_encoder` or `load_encoder`, with its `sequence` output.
        dropout: share of the hidden states' values dropped in training; the encoder's own by
            default.
        name: the model's name.

    Returns:
        A functional model from the encoder's batch to float32 logits (B, T, 2): of the first and
        of the last token of the answer. [CLS] stands for no answer.

    Raises:
        ValueError: an encoder without `sequence`, or of another name than `encoder`, by which
            `save` and the exports find it.

    Source: Devlin et al. 2018, section 4.2.

    Example:
        >>> model = span.build(load_encoder("model/"))
    """
    return token_head.build(
        encoder, len(_OUTPUT_LABELS), dropout=dropout, initial_stddev=0.02, name=name
    )


def head_arguments(labels: Sequence[str], targets: Any) -> dict[str, Any]:
    """What `build` takes of a data set: nothing."""
    return {}


def output_labels(labels: Sequence[str]) -> list[str]:
    """The names of the outputs, whatever the data set."""
    return list(_OUTPUT_LABELS)


def targets(
    answers: Sequence[Mapping[str, Any]],
    labels: Sequence[str] = (),
    *,
    text_pairs: Sequence[str],
) -> np.ndarray:
    """Questions whose answers are known: what `dev_figures`, `tuned` and `evaluate` take.

    Args:
        answers: n labels of a data set: `{"answers": [{"text", "start"}], "id"}`.
        labels: none.
        text_pairs: n contexts.

    Returns:
        n `Question`s, an array of objects.
    """
    found = np.empty(len(answers), object)
    for row, (label, context) in enumerate(zip(answers, text_pairs, strict=True)):
        found[row] = Question(context, tuple(answer["text"] for answer in label["answers"]))
    return found


@dataclasses.dataclass(frozen=True)
class Examples:
    """What is trained on of n questions: W windows of their contexts.

    Attributes:
        rows: the tokens of each window, a `TokenRows`.
        targets: int32 (W, 3): first and last token of the answer, 0 and 0 where the window has
            none, and how many tokens the window has.
        of: int32 (W,), the question of each.
        values: logits of all windows, float (W, T or more, 2), to the best spans (n, 4).
        counts: `windows`, `windows_without_answer`, `questions_cut` and `answers_in_no_window`:
            of a question that is learned as one without.
    """

    rows: Any
    targets: np.ndarray
    of: np.ndarray
    values: Callable[[np.ndarray], np.ndarray]
    counts: dict[str, int]


def examples(
    tokenizer,
    split,
    *,
    max_length: int,
    doc_stride: int = DOC_STRIDE,
    max_query_length: int = MAX_QUERY_LENGTH,
    max_answer_length: int = MAX_ANSWER_LENGTH,
) -> Examples:
    """Cut a split into windows, and say where the answer is in each.

    Of several answers the first is learned, as in BERT; a window that does not hold all of it has
    none.

    Args:
        tokenizer: the encoder's.
        split: its texts are questions, its second texts contexts, its labels the data set's.
        max_length: tokens a window at most.
        doc_stride: tokens from one window to the next.
        max_query_length: tokens that a question is cut to.
        max_answer_length: tokens of an answer at most.

    Raises:
        ConfigError: a window has no room for a context.

    Example:
        >>> found = span.examples(tokenizer, dataset.split("train"), max_length=384)
        >>> batches = Batches(found.rows, found.targets, batch_size=32)
        >>> training.fit(batches.dataset(), epochs=2, shuffle=False)
    """
    from tfmodel.tokens.batches import TokenRows
    from tfmodel.tokens.question_windows import question_windows

    check_windows(
        max_length=max_length,
        max_query_length=max_query_length,
        special_tokens=2 + tokenizer.ends_between,
    )
    windows = question_windows(
        tokenizer,
        split.texts,
        split.text_pairs,
        max_length=max_length,
        doc_stride=doc_stride,
        max_query_length=max_query_length,
    )
    lengths, of = windows.lengths.numpy(), windows.rows.numpy()
    splits = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    first_lengths = lengths - np.add.reduceat(windows.segment_ids.numpy(), splits[:-1])
    rows = TokenRows(
        windows.token_ids.numpy(), splits, first_lengths, tokenizer.vocabulary.padding_id
    )
    spans = np.array(
        [
            (found[0]["start"], found[0]["start"] + len(found[0]["text"])) if found else (-1, -1)
            for found in (label["answers"] for label in split.labels)
        ],
        np.int64,
    ).reshape(-1, 2)
    found = _answer_tokens(windows, splits, spans[of])
    without = np.bincount(of, found[:, 1] > 0, minlength=len(spans)) == 0
    return Examples(
        rows=rows,
        targets=np.concatenate([found, lengths[:, np.newaxis]], axis=1).astype(np.int32),
        of=of,
        values=lambda logits: best_spans(
            logits, windows, rows=len(spans), max_answer_length=max_answer_length
        ).numpy(),
        counts={
            "windows": len(of),
            "windows_without_answer": int((found[:, 1] == 0).sum()),
            "questions_cut": int((windows.pieces.numpy() > max_query_length).sum()),
            "answers_in_no_window": int((without & (spans[:, 0] >= 0)).sum()),
        },
    )


def _answer_tokens(windows, splits: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """First and last token of each window's answer, (W, 2); 0 where it has not all of it.

    Args:
        windows: the windows.
        splits: where each begins among all tokens.
        spans: (W, 2), first character of the answer and the one after its last; -1 for none.
    """
    starts, ends = windows.starts.numpy(), windows.ends.numpy()
    lengths = np.diff(splits)
    begin, end = (np.repeat(spans[:, side], lengths) for side in range(2))
    place = np.arange(len(starts)) - np.repeat(splits[:-1], lengths)
    inside = (starts >= 0) & (ends > begin) & (starts < end) & (begin >= 0)
    far = np.int64(1 << 40)
    first = np.minimum.reduceat(np.where(inside, place, far), splits[:-1])
    last = np.maximum.reduceat(np.where(inside, place, -1), splits[:-1])
    found = last >= 0
    # The whole answer: the window's tokens of it reach to both of its ends.
    at_first, at_last = (np.where(found, splits[:-1] + each, 0) for each in (first, last))
    whole = (starts[at_first] <= spans[:, 0]) & (ends[at_last] >= spans[:, 1])
    return np.where((found & whole)[:, np.newaxis], np.stack([first, last], axis=1), 0)


@keras.saving.register_keras_serializable("tfmodel")
class SpanLoss(keras.losses.Loss):
    """Cross-entropy of first and last token, their mean; padding takes no part.

    Of logits (B, T, 2) against int (B, 3): first token, last token, tokens of the row.
    """

    def call(self, y_true, y_pred):
        """The loss of each row, (B,)."""
        y_true = ops.cast(y_true, "int32")
        logits = ops.transpose(ops.cast(y_pred, "float32"), (0, 2, 1))  # (B, 2, T)
        positions = ops.arange(ops.shape(logits)[2], dtype="int32")
        real = positions[None, None] < y_true[:, 2:, None]
        logs = ops.log_softmax(ops.where(real, logits, _APART), axis=-1)
        picked = ops.take_along_axis(logs, y_true[:, :2, None], axis=-1)[..., 0]
        return -ops.mean(picked, axis=-1)


def loss() -> keras.losses.Loss:
    """The loss of logits (B, T, 2) against the targets of `Examples`."""
    return SpanLoss(name="span_loss")


def metrics() -> list[keras.metrics.Metric]:
    """What `fit` shows while it trains: nothing but the loss."""
    return []


def dev_figures(
    targets: Sequence[Question], values: np.ndarray, labels: Sequence[str] = ()
) -> dict[str, float]:
    """Figures of a whole part, which no sum over batches gives: `exact_match` and `f1`.

    Where some questions have no answer, the threshold is the best for these very rows.

    Args:
        targets: n questions.
        values: (n, 4), the best spans.
        labels: not read.
    """
    decoding = tuned(targets, values)
    given = given_answers(targets, values, **decoding)
    exact, f1 = np.array([scored(q, each) for q, each in zip(targets, given, strict=True)]).T
    return {"f1": float(f1.mean()), "exact_match": float(exact.mean())}


def tuned(targets: Sequence[Question], values: np.ndarray) -> dict[str, float]:
    """The null threshold with the highest F1; none where every question has an answer.

    Args:
        targets: n questions.
        values: (n, 4), the best spans.
    """
    if all(question.answers for question in targets):
        return {}
    spans = given_answers(targets, values)
    return {"null_threshold": best_null_threshold(targets, spans, values[:, 3])}


def given_answers(
    targets: Sequence[Question], values: np.ndarray, *, null_threshold: float | None = None
) -> list[str]:
    """The words of each answer, empty for none."""
    answered = is_answered(np.asarray(values, np.float32), null_threshold)
    return [
        question.context[int(value[0]) : int(value[1])] if yes else ""
        for question, value, yes in zip(targets, values, answered, strict=True)
    ]


def activate(outputs):
    """Outputs (B, T, 2) to what files of token ids give: the logits, float32 (B, T, 2)."""
    return ops.cast(outputs, "float32")


def served(values, labels: Sequence[str], *, contexts, null_threshold=None, **decoding: Any):
    """The named outputs of a SavedModel, of values (B, 4), inside its graph.

    Args:
        values: the best spans.
        labels: not read.
        contexts: strings (B,).
        null_threshold: above which there is no answer.
        **decoding: not read.

    Returns:
        `answer` (B,) string, `start`, `end` (B,) int32, in characters of the context, 0 and 0
        where there is no answer; `score` (B,) in [0, 1]; `span` (B, 4): the best span in any case.
    """
    import tensorflow as tf

    answered = is_answered(values, null_threshold)
    start, end = (tf.where(answered, tf.cast(values[:, side], tf.int32), 0) for side in range(2))
    return {
        "answer": tf.strings.substr(contexts, start, end - start, unit="UTF8_CHAR"),
        "start": start,
        "end": end,
        "score": tf.where(answered, values[:, 2], 1 - values[:, 2]),
        "span": values,
    }


def decode(
    values: np.ndarray,
    labels: Sequence[str],
    *,
    text_pairs: Sequence[str],
    null_threshold: float | None = None,
    **decoding: Any,
) -> list[dict[str, Any]]:
    """Turn the best spans into answers.

    Args:
        values: (n, 4), the best spans.
        labels: not read.
        text_pairs: n contexts.
        null_threshold: above which there is no answer; without it there is one wherever a context
            has a word.
        **decoding: not read.

    Returns:
        For each row `{"answer", "start", "end", "score"}`: `context[start:end]` is the answer,
        empty for none. The score is the probability of the span in its window, and one less it
        where there is no answer.
    """
    values = np.asarray(values, np.float32)
    found = []
    for value, context, yes in zip(
        values, text_pairs, is_answered(values, null_threshold), strict=True
    ):
        start, end = (int(value[0]), int(value[1])) if yes else (0, 0)
        score = float(value[2]) if yes else 1 - float(value[2])
        found.append({"answer": context[start:end], "start": start, "end": end, "score": score})
    return found


def evaluate(
    targets: Sequence[Question],
    values: np.ndarray,
    labels: Sequence[str],
    *,
    null_threshold: float | None = None,
    texts: Sequence[str] | None = None,
    text_pairs: Sequence[str] | None = None,
    origins: Sequence[str] | None = None,
    **decoding: Any,
) -> dict[str, Any]:
    """Measure answers; see `tfmodel.evaluate.answering`, which takes the answers' words."""
    from tfmodel.evaluate.answering import answering

    contexts = [question.context for question in targets]
    answers = decode(values, labels, text_pairs=contexts, null_threshold=null_threshold)
    return answering(
        targets,
        [answer["answer"] for answer in answers],
        scores=[answer["score"] for answer in answers],
        texts=texts,
        text_pairs=text_pairs,
        origins=origins,
    )


def pictures(targets: Sequence[Question], values: np.ndarray, labels: Sequence[str]) -> dict:
    """How often answers of a score are right: name to figure.

    Call it inside `tfmodel.evaluate.drawing.drawing_style`.
    """
    from tfmodel.evaluate.plots import reliability_figure

    figures = evaluate(targets, values, labels, **tuned(targets, values))
    return {"reliability": reliability_figure(figures["calibration"])}


def described(
    targets: Sequence[Question], values: np.ndarray | None, labels: Sequence[str]
) -> dict[str, list[str]]:
    """What is shown of each row beside its texts: column to n words.

    Args:
        targets: n questions.
        values: (n, 4), the best spans, or None where the rows were not answered.
        labels: not read.
    """
    found = {"answers": [" | ".join(dict.fromkeys(q.answers)) or "none" for q in targets]}
    if values is not None:
        given = given_answers(targets, values, **tuned(targets, values))
        found["predicted"] = [answer or "none" for answer in given]
    return found


def save(
    model: keras.Model,
    folder: str | Path,
    *,
    tokenizer,
    labels: Sequence[str] = _OUTPUT_LABELS,
    has_pairs: bool = True,
    max_length: int | None = None,
    decoding: Mapping[str, Any] | None = None,
) -> Path:
    """Write a folder that `transformers`' `BertForQuestionAnswering` loads.

    Args:
        model: from `build`.
        folder: replaced as a whole, once everything is written.
        tokenizer: the `Tokenizer` the model was trained with.
        labels: the names of the outputs.
        has_pairs: a question has a context, always.
        max_length: tokens a window at most; the tokenizer's by default.
        decoding: `doc_stride`, `max_query_length`, `max_answer_length` and `null_threshold`, as
            far as they are not the defaults.

    Returns:
        The folder.
    """
    return token_head.save(
        model,
        folder,
        tokenizer=tokenizer,
        head=token_head.ANSWERER,
        architecture=ARCHITECTURE,
        max_length=max_length,
        has_pairs=True,
        decoding=dict(decoding or {}),
    )


def load(folder: str | Path, *, dtype: str = "float32") -> LoadedModel:
    """Load what `save`, or `transformers`' `save_pretrained`, wrote.

    Args:
        folder: a `BertForQuestionAnswering` folder.
        dtype: Keras dtype policy to build with.

    Returns:
        The model, its tokenizer, and in `decoding` how contexts are cut and answers found.

    Raises:
        ConfigError: no weights, no head or one of another size, or a vocabulary of another size.
    """
    loaded = token_head.load(
        folder, task="span", head=token_head.ANSWERER, labels_of=_labels, dtype=dtype
    )
    # A folder of somebody else's does not say that a question has a context.
    return dataclasses.replace(loaded, has_pairs=True)


def _labels(config: Mapping[str, Any], outputs: int, folder: Path) -> list[str]:
    if outputs != len(_OUTPUT_LABELS):
        raise ConfigError(
            f"{folder}: expected a head that gives the first and the last token of an answer, 2 "
            f"outputs. Received: {outputs} outputs."
        )
    return list(_OUTPUT_LABELS)
