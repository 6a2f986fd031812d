"""Entities of a text: a tag for each word, decoded to spans of the text as it was given."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from tfmodel.config import ConfigError
from tfmodel.data.targets.tagged_words import OUTSIDE, spans_of_tags
from tfmodel.tasks import token_head
from tfmodel.tasks.sequence_head import LoadedModel, label_names
from tfmodel.tasks.tag_chain import (
    ChainLoss,
    Transitions,
    chained,
    read_transitions,
    transition_tensors,
)
from tfmodel.tasks.tag_marginals import tag_chances, tag_chances_in_graph
from tfmodel.tasks.tag_rules import best_sequences, best_sequences_in_graph
from tfmodel.tasks.tag_words import Words, learned_tags, read_words

ARCHITECTURE = "BertForTokenClassification"
PROBLEM_TYPE = None
"""Hugging Face has no name for it: the architecture says all."""
READS_TOKENS = True
ORDER = "mixed"
"""Batches of short texts alone have hardly an entity. CLUENER, 2,000 rows, 2 epochs, two seeds: F1
30.7 and 31.7% with rows of similar length together, 34.1 and 33.5% with mixed ones."""
ANSWERS = "spans"
VALUES = "scores"
SERVED = ("tags", "starts", "ends", "scores")
MISTAKE = ("entities", "predicted")
TITLE = "entity tagger"
GIVES = "{} tags for each token"
SAYS = "Probability of each tag of each token, in the order of labels.txt."


def build(
    encoder: keras.Model,
    *,
    tags: int | Sequence[str],
    crf: bool = False,
    dropout: float | None = None,
    name: str = "tagger",
) -> keras.Model:
    """Put a tagging head on an encoder.

    Args:
        encoder: from `build_encoder` or `load_encoder`, with its `sequence`.
        tags: the C tags, 2 or more, from `output_labels`; or their number.
        crf: whether it learns, too, how likely each tag follows another; `loss` then takes
            `chain_of(model)`, and `learned` gives what that loss takes.
        dropout: share of hidden values dropped in training; the encoder's own by default.
        name: the model's name.

    Returns:
        A functional model from the encoder's batch to float32 logits (B, T, C).

    Raises:
        ValueError: fewer than two tags, an encoder without `sequence`, or a CRF of tags without
            names, by which it knows what may follow what.

    Example:
        >>> model = tag.build(load_encoder("model/"), tags=tag.output_labels(["PER", "LOC"]))
    """
    count = tags if isinstance(tags, int) else len(tags)
    if count < 2:
        raise ValueError(f"tags must be 2 or more. Received: {count}.")
    if crf and isinstance(tags, int):
        raise ValueError(
            "Expected the names of the tags, by which a CRF knows what may follow what. Received: "
            f"their number, {tags}. Pass tags=tag.output_labels(labels)."
        )
    above = Transitions(tags) if crf else None
    return token_head.build(encoder, count, dropout=dropout, above=above, name=name)


def chain_of(model: keras.Model) -> Transitions | None:
    """The CRF of a model: what its training learns beside the head, and its answers are read by.

    Returns:
        None of a model that was built without.
    """
    return next((each for each in model.layers if isinstance(each, Transitions)), None)


def head_arguments(labels: Sequence[str], targets: Any = None) -> dict[str, Any]:
    """What `build` takes of a data set: an output for each tag.

    Raises:
        ConfigError: there is no label: no row has an entity.
    """
    if not labels:
        raise ConfigError(
            "task tag: expected training rows with entities. Received: none with any. Check that "
            "data.label, and data.spans or the last column, hold them."
        )
    return {"tags": output_labels(labels)}


def own_head(options: Mapping[str, Any], folder: str | Path) -> dict[str, Any]:
    """What `build` takes of a config: `crf`."""
    return {"crf": options["crf"]}


def output_labels(labels: Sequence[str]) -> list[str]:
    """The tags: `O`, and `B-` and `I-` of each label of spans."""
    return [OUTSIDE, *(f"{prefix}-{label}" for label in labels for prefix in "BI")]


def targets(rows: Sequence[Sequence[Mapping]] | np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """The right spans of each row: object (n,), each a list of (start, end, label).

    Args:
        rows: spans as a data set has them, with `start`, `end` and `label`; or what this gives.
        labels: not read.
    """
    if isinstance(rows, np.ndarray):
        return rows
    found = np.empty(len(rows), object)
    for row, spans in enumerate(rows):
        found[row] = [(span["start"], span["end"], span["label"]) for span in spans]
    return found


def learned(
    windows: Any,
    tokenizer: Any,
    targets: np.ndarray,
    labels: Sequence[str],
    *,
    crf: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """What the loss takes of the tokens of windows: their targets and weights.

    Args:
        windows: `tfmodel.tokens.windows.WindowRows` of n texts, R tokens.
        tokenizer: the tokenizer that they were made with.
        targets: the right spans, from `targets`.
        labels: the labels of spans.
        crf: whether a CRF learns them.

    Returns:
        int32 (R,) ids of tags, of a CRF its own codes of them; and float32 (R,): 1 for the first
        piece of a word where it is read, 0 for all else.
    """
    tags, weights = learned_tags(windows, windows.begins, targets, labels)
    if not crf:
        return tags, weights
    rows = np.repeat(np.arange(len(windows.tokens)), windows.tokens.lengths)
    count = len(output_labels(labels))
    return chained(tags, weights > 0, rows, windows.texts[rows], count=count), weights


def loss(*, chain: Transitions | None = None) -> keras.losses.Loss:
    """What is lost on logits (B, T, C), the mean of what has weight.

    Args:
        chain: the model's `chain_of`. Without one it is cross-entropy against ids of tags (B, T);
            with one the negative log-likelihood of the words' tags against its codes of them.
    """
    if chain is not None:
        return ChainLoss(chain)
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )


def metrics() -> list[keras.metrics.Metric]:
    """Nothing beside the loss: what counts are whole spans, which `dev_figures` measures."""
    return []


def dev_figures(
    targets: np.ndarray,
    values: Sequence[Words],
    labels: Sequence[str],
    *,
    transitions: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """Figures of a whole part: `f1` of its spans.

    Args:
        targets: the right spans, from `targets`.
        values: from `read`.
        labels: the labels of spans.
        transitions: what a CRF learned.
    """
    from tfmodel.evaluate.tagging import entity_f1

    if not all(np.isfinite(words.scores).all() for words in values):
        return {"f1": float("nan")}
    return {"f1": entity_f1(targets, spans(values, output_labels(labels), transitions=transitions))}


def activate(logits):
    """Logits (…, C) to what every artifact gives: probabilities of tags, float32.

    With a CRF they are what each token says by itself; the transitions are added where tags of
    words are chosen.
    """
    return ops.softmax(ops.cast(logits, "float32"), axis=-1)


def values(logits: np.ndarray) -> np.ndarray:
    """`activate` outside of a graph."""
    logits = np.asarray(logits, np.float32)
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def read(windows: Any, tokenizer: Any, scores: np.ndarray) -> list[Words]:
    """What a model says of texts, out of what it says of their windows.

    Args:
        windows: `tfmodel.tokens.windows.WindowRows` of n texts, R tokens.
        tokenizer: the tokenizer that they were made with.
        scores: float32 (R, C), probabilities of each token.

    Returns:
        The words of each text.
    """
    return read_words(windows, windows.begins, scores)


def served(
    words: Mapping[str, Any],
    labels: Sequence[str],
    *,
    transitions: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The named outputs of a SavedModel, inside its graph.

    Args:
        words: `starts` and `ends`, int32 (B, N), `scores`, float32 (B, N, C), and `lengths`, int32
            (B,), how many words each text has.
        labels: the C tags.
        transitions: what a CRF learned.

    Returns:
        `tags` (B, N) string, a sequence that keeps to the rules, "" behind a text's last word;
        `starts` and `ends` (B, N) in characters, and `scores` (B, N, C). With a CRF `scores` are
        the probabilities of tags among all sequences, and `emissions` (B, N, C) what each word
        says by itself.
    """
    import tensorflow as tf

    lengths = words["lengths"]
    best = best_sequences_in_graph(words["scores"], lengths, labels, transitions)
    is_word = tf.range(tf.shape(best)[1])[tf.newaxis] < lengths[:, tf.newaxis]
    tags = tf.where(is_word, tf.gather(tf.constant(list(labels)), best), "")
    found = {"tags": tags} | {name: words[name] for name in ("starts", "ends", "scores")}
    if transitions is not None:
        found["emissions"] = words["scores"]
        found["scores"] = tag_chances_in_graph(words["scores"], lengths, labels, transitions)
    return found


def values_of_served(outputs: Mapping[str, np.ndarray]) -> list[Words]:
    """The words of each text, out of what a SavedModel gives."""
    counts = np.count_nonzero(np.asarray(outputs["tags"]) != b"", axis=1)
    given = {**outputs, "scores": outputs.get("emissions", outputs["scores"])}
    return [
        Words(*(np.asarray(given[name])[row, :count] for name in Words._fields))
        for row, count in enumerate(counts)
    ]


def decode(
    values: Sequence[Words],
    labels: Sequence[str],
    *,
    texts: Sequence[str],
    transitions: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Turn probabilities of tags into answers.

    Args:
        values: the words of n texts.
        labels: the C tags.
        texts: the texts.
        transitions: what a CRF learned.

    Returns:
        For each `{"entities": [{"text", "label", "start", "end", "score"}, …]}` in the order of the
        text: `text` is `texts[i][start:end]`, and the score the mean of what its words' tags have;
        with a CRF, of their probabilities among all sequences of tags.
    """
    return [
        {
            "entities": [
                {
                    "text": text[start:end],
                    "label": label,
                    "start": int(start),
                    "end": int(end),
                    "score": score,
                }
                for start, end, label, score in spans
            ]
        }
        for text, spans in zip(texts, _scored_spans(values, labels, transitions), strict=True)
    ]


def _scored_spans(
    values: Sequence[Words], tags: Sequence[str], transitions: Mapping[str, Any] | None
) -> list[list[tuple]]:
    """(start, end, label, score) of the entities of each text."""
    scores = [words.scores for words in values]
    chances = scores if transitions is None else tag_chances(scores, tags, transitions)
    found = []
    for words, chance, path in zip(
        values, chances, best_sequences(scores, tags, transitions), strict=True
    ):
        given = chance[np.arange(len(path)), path]
        found.append(
            [
                (
                    int(words.starts[first]),
                    int(words.ends[end - 1]),
                    label,
                    float(given[first:end].mean()),
                )
                for first, end, label in spans_of_tags([tags[index] for index in path])
            ]
        )
    return found


def spans(
    values: Sequence[Words],
    labels: Sequence[str],
    *,
    transitions: Mapping[str, Any] | None = None,
) -> list[list[tuple[int, int, str]]]:
    """The spans that values say: (start, end, label) of the entities of each text.

    Args:
        values: the words of n texts.
        labels: the C tags.
        transitions: what a CRF learned.
    """
    paths = best_sequences([words.scores for words in values], labels, transitions)
    return [
        [
            (int(words.starts[first]), int(words.ends[end - 1]), label)
            for first, end, label in spans_of_tags([labels[index] for index in path])
        ]
        for words, path in zip(values, paths, strict=True)
    ]


def evaluate(
    targets: np.ndarray,
    values: Sequence[Words],
    labels: Sequence[str],
    *,
    transitions: Mapping[str, Any] | None = None,
    **rows: Any,
) -> dict[str, Any]:
    """Measure answers; see `tfmodel.evaluate.tagging`, which takes the same but spans.

    Args:
        targets: the right spans, from `targets`.
        values: the words of n texts.
        labels: the labels of spans.
        transitions: what a CRF learned.
        **rows: `texts`, `text_pairs` and `origins`.
    """
    from tfmodel.evaluate.tagging import tagging

    given = spans(values, output_labels(labels), transitions=transitions)
    return tagging(targets, given, labels, **rows)


def pictures(
    targets: np.ndarray,
    values: Sequence[Words],
    labels: Sequence[str],
    *,
    transitions: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Words by their right and their given label: name to figure.

    Call it inside `tfmodel.evaluate.drawing.drawing_style`.
    """
    from tfmodel.evaluate import plots

    names = [OUTSIDE, *labels]
    place = {name: index for index, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)), np.int64)
    answered = spans(values, output_labels(labels), transitions=transitions)
    for right, given, words in zip(targets, answered, values, strict=True):
        one, other = (_of_words(words, each, place) for each in (right, given))
        np.add.at(counts, (one, other), 1)
    return {"confusion_matrix": plots.confusion_figure(counts.tolist(), names)}


def _of_words(words: Words, spans: Sequence[tuple], place: Mapping[str, int]) -> np.ndarray:
    found = np.zeros(len(words.starts), np.int64)
    for start, end, label in spans:
        found[(words.starts < end) & (words.ends > start)] = place[label]
    return found


def described(
    targets: np.ndarray,
    values: Sequence[Words] | None,
    labels: Sequence[str],
    *,
    transitions: Mapping[str, Any] | None = None,
) -> dict[str, list[str]]:
    """What is shown of each row beside its texts: column to n words.

    Args:
        targets: the right spans, from `targets`.
        values: the words of n texts, or None where they were not answered.
        labels: the labels of spans.
        transitions: what a CRF learned.
    """
    found = {"labels": [_labels_of(row) for row in targets]}
    if values is not None:
        given = spans(values, output_labels(labels), transitions=transitions)
        found["predicted"] = [_labels_of(row) for row in given]
        found["right"] = [
            "yes" if set(one) == set(other) else "no"
            for one, other in zip(targets, given, strict=True)
        ]
    return found


def _labels_of(spans: Sequence[tuple]) -> str:
    return ", ".join(dict.fromkeys(span[2] for span in spans)) or "none"


def save(
    model: keras.Model,
    folder: str | Path,
    *,
    tokenizer,
    labels: Sequence[str],
    has_pairs: bool = False,
    max_length: int | None = None,
) -> Path:
    """Write a folder that `transformers`' `BertForTokenClassification` loads.

    A CRF's numbers stand in it as `crf.start_transitions`, `crf.transitions` and
    `crf.end_transitions`, which `transformers` has no place for: it tells of them, and answers each
    token by itself.

    Args:
        model: from `build`.
        folder: replaced as a whole, once everything is written.
        tokenizer: the `Tokenizer` the model was trained with.
        labels: the C tags, from `output_labels`.
        has_pairs: not read: it tags single texts.
        max_length: tokens a window at most in training; the tokenizer's by default.

    Returns:
        The folder.

    Raises:
        ValueError: not as many tags as outputs, or others than a CRF was built with.
    """
    outputs = model.output_shape[-1]
    if len(labels) != outputs:
        raise ValueError(f"Expected {outputs} tags. Received: {len(labels)}.")
    chain = chain_of(model)
    if chain is not None and chain.tags != list(labels):
        raise ValueError(f"Expected the tags of the CRF, {chain.tags}. Received: {list(labels)}.")
    return token_head.save(
        model,
        folder,
        tokenizer=tokenizer,
        head=token_head.CLASSIFIER,
        architecture=ARCHITECTURE,
        config=token_head.id_labels(labels),
        above=transition_tensors(chain),
        max_length=max_length,
    )


def load(folder: str | Path, *, dtype: str = "float32") -> LoadedModel:
    """Load what `save`, or `transformers`' `save_pretrained`, wrote, whatever scheme its tags have.

    Args:
        folder: a `BertForTokenClassification` folder.
        dtype: Keras dtype policy to build with.

    Returns:
        The model, its tokenizer and tags; what a CRF of it learned is its `decoding`.

    Raises:
        ConfigError: no weights, no head or another kind of head, half a CRF, weights or a
            vocabulary of another size.
    """
    loaded = token_head.load(
        folder,
        task="tag",
        head=token_head.CLASSIFIER,
        labels_of=label_names,
        above_of=read_transitions,
        dtype=dtype,
    )
    chain = chain_of(loaded.model)
    return dataclasses.replace(loaded, decoding={} if chain is None else chain.decoding())
