"""Which token is hidden: BERT's masked language model, to pretrain an encoder and to fill gaps."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from tfmodel.config import ConfigError
from tfmodel.model.at_positions import encode_at
from tfmodel.model.checkpoints import (
    CONFIG_FILE,
    assign_encoder,
    encoder_tensors,
    read_config,
    read_tensors,
    write_model_folder,
)
from tfmodel.model.encoder import build_encoder, encoder_config
from tfmodel.model.families import FAMILIES as OF_FAMILIES
from tfmodel.model.sizes import BertConfig
from tfmodel.tasks.masked_head import (
    FAMILIES,
    assign_head,
    find_head,
    head_tensors,
    masked_inputs,
    masked_logits,
    masked_loss,
    masked_vectors,
)
from tfmodel.tasks.sequence_head import LoadedModel

ARCHITECTURE = "BertForMaskedLM"
ALSO = ("BertForPreTraining",)
"""Others that have this head, beside one more."""
PROBLEM_TYPE = "masked_lm"
ANSWERS = "gaps"
VALUES = "scores"
SERVED = ("tokens", "scores", "filled")
TITLE = "gap filler"
GIVES = "the logits of a gap"
SAYS = "A logit for each line of vocab.txt, of the token at `position`."
TOP = 5
"""Answers for each gap."""
TERMS = {"mlm": 1.0}
"""What the loss of pretraining is made of, and the factor of each."""

_OWN_KEY = "tfmodel"
GAP = "[MASK]"
_TEXTS_AT_ONCE = 64
_PART = "##"
_BLANKS = r"[\t\n\f\r ]+"


@dataclasses.dataclass(frozen=True)
class Gaps:
    """What may stand in the gaps of a text.

    Attributes:
        tokens: for each of G gaps its k likeliest pieces, the best first.
        scores: their probabilities, float32 (G, k).
    """

    tokens: list[list[str]]
    scores: np.ndarray


class MaskedLanguageModel(keras.Model):
    """The functional model of `build`; it remembers its `encoder`, and stops before the logits."""

    def __init__(self, *args, encoder: keras.Model, vectors, **kwargs):
        super().__init__(*args, **kwargs)
        self.encoder = encoder
        self.to_vectors = keras.Model(self.input, vectors, name="to_vectors")


def build(encoder: keras.Model, *, name: str = "fill") -> keras.Model:
    """Put a masked language model's head on an encoder.

    Args:
        encoder: from `build_encoder` or `load_encoder`, with `sequence`.
        name: the model's name.

    Returns:
        A functional model from the encoder's batch and `masked_positions`, int32 (B, P), each in
        [0, T), to float32 logits (B, P, V); `model.encoder` is the encoder, whose weights it
        shares. Logits are made by the token table itself. The last layer is computed at the
        masked positions alone.

    Raises:
        ValueError: the encoder gives no `sequence`.

    Source: Devlin et al. 2018, section 3.1.

    Example:
        >>> model = fill.build(build_encoder(SIZES["mini"]))
        >>> model.encoder.name
        'encoder'
    """
    inputs = masked_inputs(encoder)
    hidden = encode_at(encoder, inputs, inputs["masked_positions"])
    vectors = masked_vectors(encoder, hidden)
    logits = masked_logits(encoder, vectors, inputs["masked_positions"])
    return MaskedLanguageModel(inputs, logits, encoder=encoder, vectors=vectors, name=name)


# --- pretraining --------------------------------------------------------------------------


def counts(inputs: Mapping, targets: Any, weights: Any) -> list:
    """What each term of the loss is a mean over: one float32 scalar for each of `TERMS`."""
    return [ops.sum(ops.cast(weights, "float32"))]


def sums(model: keras.Model, inputs: Mapping, targets: Any, weights: Any, *, training: bool):
    """Each term of the loss, and what was answered right, summed over what `counts` counts.

    Args:
        model: from `build`.
        inputs: its inputs.
        targets: int32 (B, P), the ids that stood at the masked positions.
        weights: float32 (B, P); 0 for positions that are none.
        training: whether dropout is on.

    Returns:
        For each of `TERMS` a float32 (2,): loss and right answers.
    """
    vectors = model.to_vectors(inputs, training=training)
    return [masked_loss(model, vectors, targets, weights)]


# --- answers ------------------------------------------------------------------------------


def batch(texts: Sequence[str], tokenizer) -> tuple[dict[str, np.ndarray], list[int]]:
    """Texts with gaps to the model's inputs.

    Args:
        texts: B texts, each with one gap or more, written `[MASK]`.
        tokenizer: the model's `Tokenizer`.

    Returns:
        The inputs, int32, and how many gaps each text has: places in `masked_positions` after them
        are unused.

    Raises:
        ConfigError: a text without a gap, or with one beyond the tokenizer's `max_length`, or a
            vocabulary without `[MASK]`.
    """
    own = tokenizer.vocabulary
    if own.mask_id is None:
        raise ConfigError(f"Expected a vocabulary with {GAP}. Received: one without.")
    rows, gaps = [], []
    for text in texts:
        parts = tokenizer.tokenize(text.split(GAP)).to_list()
        ids = [own.start_id, *parts[0]]
        for part in parts[1:]:
            ids += [own.mask_id, *part]
        rows.append([*ids[: tokenizer.max_length - 1], own.end_id])
        gaps.append([index for index, piece in enumerate(rows[-1]) if piece == own.mask_id])
        if len(parts) == 1 or len(gaps[-1]) != len(parts) - 1:
            raise ConfigError(
                f"Expected a text with {GAP} among its first {tokenizer.max_length} tokens. "
                f"Received: {text[:80]!r}."
            )
    token_ids = _padded(rows, own.padding_id)
    return {
        "token_ids": token_ids,
        "segment_ids": np.zeros_like(token_ids),
        "padding_mask": _padded([[1] * len(row) for row in rows], 0),
        "masked_positions": _padded(gaps, 0),
    }, [len(places) for places in gaps]


def likeliest(logits: np.ndarray, pieces: Sequence[str], *, top: int = TOP) -> Gaps:
    """Turn logits into what they make likeliest.

    Args:
        logits: float (n, V), of n gaps.
        pieces: the V pieces of the vocabulary; an encoder's table may have more rows.
        top: answers for each gap.
    """
    logits = np.asarray(logits, np.float32)[:, : len(pieces)]
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scores = powers / powers.sum(axis=-1, keepdims=True)
    best = np.argsort(-scores, axis=-1, kind="stable")[:, :top]
    tokens = [[pieces[index] for index in row] for row in best]
    return Gaps(tokens, np.take_along_axis(scores, best, axis=-1))


def served(found: Mapping[str, Any], labels: Sequence[str] = (), **decoding: Any) -> dict[str, Any]:
    """The named outputs of a SavedModel, inside its graph.

    Args:
        found: `text`, strings (B,), where the answers are to texts; `tokens`, strings (B, G, k),
            and `scores`, float32 (B, G, k), both ragged in G.
        labels: none.
        **decoding: not read.

    Returns:
        `tokens` and `scores`, filled up with "" and 0 to the text with the most gaps, and, of
        texts, `filled` (B,): each text with the best token in every gap.
    """
    import tensorflow as tf

    tokens, scores = found["tokens"], found["scores"]
    top = tokens.shape[-1]
    dense = {
        "tokens": tokens.to_tensor("", shape=[None, None, top]),
        "scores": scores.to_tensor(0.0, shape=[None, None, top]),
    }
    if "text" not in found:
        return dense
    best = tokens.with_values(tokens.values[:, 0])
    parts = tf.strings.split(found["text"], GAP)
    place = tf.ragged.range(parts.row_lengths())
    # Behind the last part there is no gap; one that was not read stays one.
    closed = place < tf.cast(tf.expand_dims(parts.row_lengths() - 1, 1), place.dtype)
    missing = tf.cast(parts.row_lengths(), tf.int64) - tf.cast(best.row_lengths(), tf.int64)
    fill_up = tf.RaggedTensor.from_row_lengths(
        tf.fill([tf.reduce_sum(missing)], GAP), missing, validate=False
    )
    behind = tf.concat([best, fill_up], axis=1).flat_values
    continues = tf.strings.regex_full_match(behind, _PART + "(?s:.+)")
    before = tf.where(
        continues,
        tf.strings.regex_replace(parts.flat_values, _BLANKS + "$", ""),
        parts.flat_values,
    )
    behind = tf.where(continues, tf.strings.regex_replace(behind, "^" + _PART, ""), behind)
    behind = tf.where(closed.flat_values, behind, "")
    whole = tf.strings.reduce_join(parts.with_values(before + behind), axis=-1)
    return {**dense, "filled": whole}


def values_of_served(outputs: Mapping[str, np.ndarray]) -> list[Gaps]:
    """What a SavedModel gives, `tokens` and `scores`, to values: one a text."""
    found = []
    for tokens, scores in zip(outputs["tokens"], outputs["scores"], strict=True):
        rows = [[token.decode("utf-8") for token in row] for row in tokens.tolist() if row[0]]
        found.append(Gaps(rows, np.asarray(scores, np.float32)[: len(rows)]))
    return found


def decode(
    values: Sequence[Gaps], labels: Sequence[str] = (), *, texts: Sequence[str], **decoding: Any
) -> list[dict[str, Any]]:
    """Turn values into answers.

    Args:
        values: of n texts.
        labels: none.
        texts: the n texts.
        **decoding: not read.

    Returns:
        For each text `{"filled": the text with the best token in every gap, "gaps": [[{"token",
        "score"}, …], …]}`.
    """
    return [
        {
            "filled": filled(text, [tokens[0] for tokens in gaps.tokens]),
            "gaps": [
                [
                    {"token": token, "score": float(score)}
                    for token, score in zip(tokens, scores, strict=True)
                ]
                for tokens, scores in zip(gaps.tokens, gaps.scores, strict=True)
            ],
        }
        for text, gaps in zip(texts, values, strict=True)
    ]


def filled(text: str, tokens: Sequence[str]) -> str:
    """Put pieces into the gaps of a text, in their order; further gaps stay.

    A piece that continues a word (`##ly`) is written behind it.
    """
    first, *rest = text.split(GAP)
    for place, part in enumerate(rest):
        token = tokens[place] if place < len(tokens) else GAP
        if token.startswith(_PART) and token != _PART:
            first, token = re.sub(_BLANKS + r"\Z", "", first), token[len(_PART) :]
        first += token + part
    return first


def notice(values: Sequence[Gaps], texts: Sequence[str], *, max_length: int) -> str:
    """What whoever asked must know of texts that could not be answered; empty where all were.

    Args:
        values: of n texts.
        texts: the n texts.
        max_length: tokens of a text that are read.
    """
    without = sum(GAP not in text for text in texts)
    cut = [text.count(GAP) - len(gaps.tokens) for text, gaps in zip(texts, values, strict=True)]
    said = []
    if without:
        said.append(
            f"{without:,} of {len(texts):,} texts have no {GAP}: nothing is filled there. Write "
            f"{GAP} where a word is wanted."
        )
    if any(cut):
        said.append(
            f"{sum(cut):,} {GAP} in {sum(count > 0 for count in cut):,} texts stand behind the "
            f"first {max_length} tokens, which are all that is read, and were left as they are."
        )
    return " ".join(said)


def fill(model: keras.Model, tokenizer, texts: Sequence[str], *, top: int = TOP) -> list[list]:
    """What may stand in the gaps of texts.

    Args:
        model: from `build` or `load`.
        tokenizer: the model's.
        texts: with gaps written `[MASK]`.
        top: answers for each gap.

    Returns:
        For each text, for each of its gaps: `[{"token": …, "score": …}, …]`.

    Example:
        >>> loaded = fill.load("runs/wiki/model")
        >>> fill.fill(loaded.model, loaded.tokenizer, ["the capital of france is [MASK] ."])
    """
    inputs, gaps = batch(texts, tokenizer)
    logits = ops.convert_to_numpy(model(inputs))
    pieces = tokenizer.vocabulary.pieces
    values = [
        likeliest(row[:count], pieces, top=top) for row, count in zip(logits, gaps, strict=True)
    ]
    return [answer["gaps"] for answer in decode(values, texts=texts)]


def replacer(
    model: keras.Model, tokenizer, *, top: int = 5
) -> Callable[[Sequence[str], Sequence[str]], list[list[str]]]:
    """What `tfmodel.data.augmentation` asks for other words, by this model.

    Args:
        model: from `build` or `load`.
        tokenizer: the model's.
        top: candidates for each word at most.

    Returns:
        A function of texts with one gap each, and the words that stood there, to the likeliest
        other whole words: none where the gap is beyond the tokenizer's `max_length`, or the text
        had a gap of its own.
    """
    pieces = tokenizer.vocabulary.pieces
    whole = np.array([piece.isalpha() for piece in pieces])  # no part of a word, mark or number

    def replace(texts: Sequence[str], words: Sequence[str]) -> list[list[str]]:
        found: list[list[str]] = [[] for _ in texts]
        fitting = np.flatnonzero(_have_one_gap(texts, tokenizer)).tolist()
        fitting.sort(key=lambda row: len(texts[row]))
        for start in range(0, len(fitting), _TEXTS_AT_ONCE):
            rows = fitting[start : start + _TEXTS_AT_ONCE]
            inputs, _ = batch([texts[row] for row in rows], tokenizer)
            logits = ops.convert_to_numpy(model(inputs))[:, 0, : len(pieces)]
            for row, scores in zip(rows, np.where(whole, logits, -np.inf), strict=True):
                likeliest = (pieces[i] for i in np.argsort(-scores, kind="stable")[: top + 1])
                others = (each for each in likeliest if each.lower() != words[row].lower())
                found[row] = list(others)[:top]
        return found

    return replace


def _have_one_gap(texts: Sequence[str], tokenizer) -> list[bool]:
    """Whether each text has one gap, among the tokens that the model reads."""
    before = tokenizer.tokenize([text.partition(GAP)[0] for text in texts]).row_lengths()
    return [
        text.count(GAP) == 1 and count + 2 < tokenizer.max_length
        for text, count in zip(texts, before.numpy().tolist(), strict=True)
    ]


def _padded(rows: Sequence[Sequence[int]], padding: int) -> np.ndarray:
    longest = max(map(len, rows))
    return np.array([[*row, *[padding] * (longest - len(row))] for row in rows], np.int32)


# --- folders ------------------------------------------------------------------------------


def save(
    model: keras.Model, folder: str | Path, *, tokenizer, max_length: int | None = None
) -> Path:
    """Write a folder that `transformers`' `BertForMaskedLM` loads; `load_encoder` loads it too.

    With an encoder of another family it is that family's: `DistilBertForMaskedLM`.

    Args:
        model: from `build`.
        folder: replaced as a whole, once everything is written.
        tokenizer: the `Tokenizer` the model was trained with.
        max_length: tokens of a row in training; the tokenizer's by default.

    Returns:
        The folder.
    """
    shape = encoder_config(model.encoder)
    family = OF_FAMILIES[shape.family]
    config = {
        **shape.to_huggingface(),
        "architectures": [family.named(ARCHITECTURE)],
        "tie_word_embeddings": True,
        _OWN_KEY: {"max_length": max_length or tokenizer.max_length},
    }
    tensors = {
        **encoder_tensors(model.encoder, prefix=family.prefix),
        **head_tensors(model),
    }
    return write_model_folder(folder, config, tensors, tokenizer=tokenizer)


def load(folder: str | Path, *, dtype: str = "float32") -> LoadedModel:
    """Load what `save`, or `transformers`' `save_pretrained`, wrote.

    Args:
        folder: a folder of a BERT with a masked language model's head, such as
            `BertForMaskedLM` or `BertForPreTraining`; or `DistilBertForMaskedLM`, or
            `ElectraForMaskedLM`, ELECTRA's generator.
        dtype: Keras dtype policy to build with.

    Returns:
        The model and its tokenizer.

    Raises:
        ConfigError: a model of another family, no weights, no such head, one of another size or
            not tied, or a vocabulary larger than the table.
    """
    from tfmodel.tokens.tokenizer import Tokenizer

    folder = Path(folder)
    config = read_config(folder)
    tensors = read_tensors(folder)
    shape = BertConfig.from_huggingface(config, name=str(folder / CONFIG_FILE))
    if shape.family not in FAMILIES:
        raise ConfigError(
            f"{folder}: expected a masked language model of model_type {', '.join(FAMILIES)}, "
            f"whose heads are read. Received: model_type {shape.family}. Its encoder loads: "
            "tm.load_encoder."
        )
    encoder = build_encoder(shape, dtype=dtype)
    assign_encoder(encoder, tensors, pooled=False, name=str(folder))
    model = build(encoder)
    if not assign_head(model, tensors, name=str(folder)):
        raise ConfigError(
            f"{folder}: expected a masked language model's head. Received: none; the folder is "
            f"of {', '.join(config.get('architectures') or ['no architecture named'])}."
        )
    own = config.get(_OWN_KEY, {})
    max_length = min(own.get("max_length", shape.max_positions), shape.max_positions)
    tokenizer = Tokenizer.from_folder(folder, max_length=max_length)
    if len(tokenizer.vocabulary) > shape.vocabulary_size:
        raise ConfigError(
            f"{folder}: expected a vocabulary of at most {shape.vocabulary_size} pieces, as "
            f"{CONFIG_FILE} says. Received: {len(tokenizer.vocabulary)}."
        )
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        labels=[],
        has_pairs=False,
        max_length=max_length,
        task="fill",
        decoding=own.get("decoding", {}),
    )


def take_up_head(model: keras.Model, folder: str | Path) -> bool:
    """Give the head the weights that a folder has for it, to train on where it stopped.

    Args:
        model: from `build`, on the encoder of that folder.
        folder: a Hugging Face model folder.

    Returns:
        Whether it has them; an encoder alone has none, and the head begins from random ones.

    Raises:
        ConfigError: some are missing, of another size, or not tied.
    """
    return assign_head(model, read_tensors(folder), name=str(folder))


def check_head(folder: str | Path) -> None:
    """Refuse what `take_up_head` would, before a model is built.

    Args:
        folder: a Hugging Face model folder.

    Raises:
        ConfigError: some of the head's weights are missing, of another size, or not tied.
    """
    shape = BertConfig.from_huggingface(read_config(folder))
    find_head(read_tensors(folder), shape, name=str(folder))
