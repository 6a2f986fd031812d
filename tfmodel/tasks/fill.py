"""Which token is hidden: BERT's masked language model, to pretrain an encoder and to fill gaps."""

from __future__ import annotations

import dataclasses
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
from tfmodel.model.families import FAMILIES
from tfmodel.model.sizes import BertConfig
from tfmodel.tasks.masked_head import (
    assign_head,
    find_head,
    head_tensors,
    masked_inputs,
    masked_logits,
    masked_loss,
    masked_vectors,
)
from tfmodel.tasks.sequence_head import LoadedModel, own_settings
from tfmodel.tokens.gaps import GAP, filled, filled_in_graph, pieces_with_gaps, written_with

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
_TEXTS_AT_ONCE = 64


@dataclasses.dataclass(frozen=True)
class Gaps:
    """What may stand in the gaps of a text.

    Attributes:
        tokens: for each of G gaps its k likeliest pieces, the best first, as
            `RowTokenizer.written` has them.
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


def decoding_of(tokenizer) -> dict[str, Any]:
    """What answers are decoded by that a tokenizer decides, as `decode` takes it.

    Args:
        tokenizer: the model's.

    Raises:
        ConfigError: its vocabulary has no mask.
    """
    return written_with(tokenizer)


def batch(
    texts: Sequence[str], tokenizer, *, gap: str | None = None
) -> tuple[dict[str, np.ndarray], list[int]]:
    """Texts with gaps to the model's inputs.

    Args:
        texts: B texts, each with one gap or more.
        tokenizer: the model's.
        gap: what a gap is written as; by default the tokenizer's own mask: `[MASK]`, `<mask>`.

    Returns:
        The inputs, int32, and how many gaps each text has: places in `masked_positions` after them
        are unused.

    Raises:
        ConfigError: a text without a gap, or with one beyond the tokenizer's `max_length`, or a
            vocabulary without a mask.
    """
    own = tokenizer.vocabulary
    gap = gap or written_with(tokenizer).get("gap", GAP)
    pieces = pieces_with_gaps(tokenizer, _utf8(texts), gap=gap)
    joined, _ = tokenizer.join(pieces, None, max_length=tokenizer.max_length)
    rows = joined.to_list()
    gaps = [[place for place, piece in enumerate(row) if piece == own.mask_id] for row in rows]
    for text, places in zip(texts, gaps, strict=True):
        if not places or len(places) != text.count(gap):
            raise ConfigError(
                f"Expected a text with {gap} among its first {tokenizer.max_length} tokens. "
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
        pieces: the V pieces of the vocabulary, as `RowTokenizer.written` has them; an encoder's
            table may have more rows.
        top: answers for each gap.
    """
    logits = np.asarray(logits, np.float32)[:, : len(pieces)]
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scores = powers / powers.sum(axis=-1, keepdims=True)
    best = np.argsort(-scores, axis=-1, kind="stable")[:, :top]
    tokens = [[pieces[index] for index in row] for row in best]
    return Gaps(tokens, np.take_along_axis(scores, best, axis=-1))


def served(
    found: Mapping[str, Any],
    labels: Sequence[str] = (),
    *,
    gap: str = GAP,
    blanks: bool = False,
    **decoding: Any,
) -> dict[str, Any]:
    """The named outputs of a SavedModel, inside its graph.

    Args:
        found: `text`, strings (B,), where the answers are to texts; `tokens`, strings (B, G, k),
            and `scores`, float32 (B, G, k), both ragged in G.
        labels: none.
        gap: what a gap is written as.
        blanks: whether a piece that begins a word begins with a blank.
        **decoding: not read.

    Returns:
        `tokens` and `scores`, filled up with "" and 0 to the text with the most gaps, and, of
        texts, `filled` (B,): each text with the best token in every gap.
    """
    tokens, scores = found["tokens"], found["scores"]
    top = tokens.shape[-1]
    dense = {
        "tokens": tokens.to_tensor("", shape=[None, None, top]),
        "scores": scores.to_tensor(0.0, shape=[None, None, top]),
    }
    if "text" not in found:
        return dense
    best = tokens.with_values(tokens.values[:, 0])
    return {**dense, "filled": filled_in_graph(found["text"], best, gap=gap, blanks=blanks)}


def values_of_served(outputs: Mapping[str, np.ndarray]) -> list[Gaps]:
    """What a SavedModel gives, `tokens` and `scores`, to values: one a text."""
    found = []
    for tokens, scores in zip(outputs["tokens"], outputs["scores"], strict=True):
        rows = [[token.decode("utf-8") for token in row] for row in tokens.tolist() if row[0]]
        found.append(Gaps(rows, np.asarray(scores, np.float32)[: len(rows)]))
    return found


def decode(
    values: Sequence[Gaps],
    labels: Sequence[str] = (),
    *,
    texts: Sequence[str],
    gap: str = GAP,
    blanks: bool = False,
    **decoding: Any,
) -> list[dict[str, Any]]:
    """Turn values into answers.

    Args:
        values: of n texts.
        labels: none.
        texts: the n texts.
        gap: what a gap is written as.
        blanks: whether a piece that begins a word begins with a blank.
        **decoding: not read.

    Returns:
        For each text `{"filled": the text with the best token in every gap, "gaps": [[{"token",
        "score"}, …], …]}`.
    """
    return [
        {
            "filled": filled(text, [each[0] for each in gaps.tokens], gap=gap, blanks=blanks),
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


def notice(
    values: Sequence[Gaps],
    texts: Sequence[str],
    *,
    max_length: int,
    gap: str = GAP,
    **decoding: Any,
) -> str:
    """What whoever asked must know of texts that could not be answered; empty where all were.

    Args:
        values: of n texts.
        texts: the n texts.
        max_length: tokens of a text that are read.
        gap: what a gap is written as.
        **decoding: not read.
    """
    without = sum(gap not in text for text in texts)
    cut = [text.count(gap) - len(gaps.tokens) for text, gaps in zip(texts, values, strict=True)]
    said = []
    if without:
        said.append(
            f"{without:,} of {len(texts):,} texts have no {gap}: nothing is filled there. Write "
            f"{gap} where a word is wanted."
        )
    if any(cut):
        said.append(
            f"{sum(cut):,} {gap} in {sum(count > 0 for count in cut):,} texts stand behind the "
            f"first {max_length} tokens, which are all that is read, and were left as they are."
        )
    return " ".join(said)


def fill(model: keras.Model, tokenizer, texts: Sequence[str], *, top: int = TOP) -> list[list]:
    """What may stand in the gaps of texts.

    Args:
        model: from `build` or `load`.
        tokenizer: the model's.
        texts: with gaps, each written as the tokenizer's own mask: `[MASK]`, `<mask>`.
        top: answers for each gap.

    Returns:
        For each text, for each of its gaps: `[{"token": …, "score": …}, …]`.

    Example:
        >>> loaded = fill.load("runs/wiki/model")
        >>> fill.fill(loaded.model, loaded.tokenizer, ["the capital of france is [MASK] ."])
    """
    inputs, gaps = batch(texts, tokenizer)
    logits = ops.convert_to_numpy(model(inputs))
    pieces = tokenizer.written()
    values = [
        likeliest(row[:count], pieces, top=top) for row, count in zip(logits, gaps, strict=True)
    ]
    answers = decode(values, texts=texts, **decoding_of(tokenizer))
    return [answer["gaps"] for answer in answers]


def replacer(
    model: keras.Model, tokenizer, *, top: int = 5
) -> Callable[[Sequence[str], Sequence[str]], list[list[str]]]:
    """What `tfmodel.data.augmentation` asks for other words, by this model.

    Args:
        model: from `build` or `load`.
        tokenizer: the model's.
        top: candidates for each word at most.

    Returns:
        A function of texts with one gap each, written `[MASK]` for whatever model, and the words
        that stood there, to the likeliest other whole words: none where the gap is beyond the
        tokenizer's `max_length`, or the text had a gap of its own.
    """
    written = tokenizer.written()
    pieces = [piece.removeprefix(" ") for piece in written] if tokenizer.has_blanks else written
    whole = np.array(  # no part of a word, mark or number
        [
            piece.isalpha() and (not tokenizer.has_blanks or each.startswith(" "))
            for piece, each in zip(pieces, written, strict=True)
        ]
    )

    def replace(texts: Sequence[str], words: Sequence[str]) -> list[list[str]]:
        found: list[list[str]] = [[] for _ in texts]
        fitting = np.flatnonzero(_have_one_gap(texts, tokenizer)).tolist()
        fitting.sort(key=lambda row: len(texts[row]))
        for start in range(0, len(fitting), _TEXTS_AT_ONCE):
            rows = fitting[start : start + _TEXTS_AT_ONCE]
            inputs, _ = batch([texts[row] for row in rows], tokenizer, gap=GAP)
            logits = ops.convert_to_numpy(model(inputs))[:, 0, : len(pieces)]
            for row, scores in zip(rows, np.where(whole, logits, -np.inf), strict=True):
                likeliest = (pieces[i] for i in np.argsort(-scores, kind="stable")[: top + 1])
                others = (each for each in likeliest if each.lower() != words[row].lower())
                found[row] = list(others)[:top]
        return found

    return replace


def _have_one_gap(texts: Sequence[str], tokenizer) -> list[bool]:
    """Whether each text has one gap, `[MASK]`, among the tokens that the model reads."""
    before = tokenizer.tokenize([text.partition(GAP)[0] for text in texts]).row_lengths()
    return [
        text.count(GAP) == 1 and count + 2 < tokenizer.max_length
        for text, count in zip(texts, before.numpy().tolist(), strict=True)
    ]


def _utf8(texts: Sequence[str]) -> list[bytes]:
    """Texts as TensorFlow takes them; half of a surrogate pair becomes `?`."""
    return [text.encode("utf-8", "replace") for text in texts]


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
    family = FAMILIES[shape.family]
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
            `BertForMaskedLM` or `BertForPreTraining`; or of another of its family:
            `RobertaForMaskedLM`, `AlbertForMaskedLM`, or `ElectraForMaskedLM`, its generator.
        dtype: Keras dtype policy to build with.

    Returns:
        The model and its tokenizer.

    Raises:
        ConfigError: no weights, no such head, one of another size or not tied, or a vocabulary
            larger than the table.
    """
    from tfmodel.tokens.folders import load_tokenizer

    folder = Path(folder)
    config = read_config(folder)
    tensors = read_tensors(folder)
    shape = BertConfig.from_huggingface(config, name=str(folder / CONFIG_FILE))
    encoder = build_encoder(shape, dtype=dtype)
    assign_encoder(encoder, tensors, pooled=False, name=str(folder))
    model = build(encoder)
    if not assign_head(model, tensors, name=str(folder)):
        raise ConfigError(
            f"{folder}: expected a masked language model's head. Received: none; the folder is "
            f"of {', '.join(config.get('architectures') or ['no architecture named'])}."
        )
    own = own_settings(config, folder)
    max_length = min(own.get("max_length", shape.max_positions), shape.max_positions)
    tokenizer = load_tokenizer(folder, max_length=max_length)
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
