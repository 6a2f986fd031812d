"""A vector for a text: what texts of like meaning are near each other by.

The texts of a row go through one encoder each for itself: in training they lie packed in one row
(`tfmodel.tokens.packed_texts`), afterwards a text is a row. What a row's label is decides what is
learned and measured: none, a partner to be found among all; a text, a partner and what it must be
told apart from; a number, how alike both texts are.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from tfmodel.config import ConfigError
from tfmodel.evaluate.vectors import nearest
from tfmodel.model.checkpoints import load_encoder, save_encoder
from tfmodel.model.pooling import SentencePooling
from tfmodel.model.sentence_folders import (
    SentenceSettings,
    read_sentence_settings,
    sentence_files,
)
from tfmodel.tasks.sequence_head import LoadedModel
from tfmodel.tasks.vector_losses import ContrastiveLoss, CosineLoss, TripletLoss

ARCHITECTURE = "BertModel"
PROBLEM_TYPE = "sentence_vector"
ANSWERS = "vectors"
VALUES = "vector"
SERVED = ("vector",)
MISTAKE = ("rank", "score", "cosine", "found")
TITLE = "text embedder"
GIVES = "a vector"
SAYS = "The sentence vector."

NEEDS_SEQUENCE = True
_POOLING = "pooling"

__all__ = ["nearest"]


def build(
    encoder: keras.Model,
    *,
    pooling: str = "mean",
    normalize: bool = True,
    texts: int = 1,
    dropout: float | None = None,
    name: str = "embedder",
) -> keras.Model:
    """Make vectors of an encoder's hidden states.

    Args:
        encoder: from `build_encoder` or `load_encoder`, with its `sequence` output.
        pooling: `mean` of all tokens, or `cls`, the first token's state (without the pooler).
        normalize: whether vectors are brought to length 1.
        texts: K, texts packed in a row: 1 to answer, 2 or 3 to train.
        dropout: None: there is no head to drop values before.
        name: the model's name.

    Returns:
        A functional model from the encoder's batch to float32 vectors (B, D), or (B, K, D) where K
        is above 1.

    Raises:
        ValueError: another pooling, a `dropout`, an encoder of another name than `encoder`, by
            which the exports find it, or one that does not give `sequence`.

    Example:
        >>> model = embed.build(load_encoder("model/"), pooling="mean")
    """
    if encoder.name != "encoder":
        raise ValueError(
            f"Expected an encoder named encoder. Received: one named {encoder.name!r}."
        )
    if "sequence" not in encoder.output:
        raise ValueError(
            "Expected an encoder that gives all hidden states. Received: one built with "
            "sequence=False. Load it with sequence=True."
        )
    if dropout is not None:
        raise ValueError(f"dropout must be None: there is no head. Received: {dropout}.")
    inputs = {key: keras.Input((None,), dtype="int32", name=key) for key in encoder.input}
    sequence = encoder(inputs)["sequence"]
    layer = SentencePooling(pooling, normalize, texts, name=_POOLING)
    return keras.Model(inputs, layer(sequence, inputs["padding_mask"]), name=name)


def answering(model: keras.Model) -> keras.Model:
    """The model of single texts that a model of `build` trains; both share their weights."""
    pooling = pooling_of(model)
    if pooling.texts == 1:
        return model
    return build(model.get_layer("encoder"), pooling=pooling.pooling, normalize=pooling.normalize)


def pooling_of(model: keras.Model) -> SentencePooling:
    """How a model of `build` makes its vectors.

    Raises:
        ValueError: another model.
    """
    try:
        return model.get_layer(_POOLING)
    except ValueError:
        raise ValueError(
            f"Expected a model of embed.build. Received: {model.name!r}, which has no layer "
            f"named {_POOLING}."
        ) from None


# --- training -------------------------------------------------------------------------------


def head_arguments(labels: Sequence[str], targets: Any) -> dict[str, Any]:
    """What `build` takes of a data set: the texts of a row.

    Args:
        labels: none.
        targets: the training rows' labels, as a `Split` has them.
    """
    return {"texts": 3 if _are_texts(targets) else 2}


def own_head(options: Mapping[str, Any], folder: str | Path) -> dict[str, Any]:
    """What `build` takes of a config: what it says, else what the encoder's folder asks for.

    Args:
        options: `pooling` and `normalize`, each a value or `auto`.
        folder: the encoder's; sentence-transformers' says how its vectors are made. Without such
            word they are the mean, of length 1.
    """
    found = {"pooling": "mean", "normalize": True}
    if "auto" in (options["pooling"], options["normalize"]):
        asked = read_sentence_settings(folder)
        if asked is not None:
            found = {"pooling": asked.pooling, "normalize": asked.normalize}
    return {name: found[name] if options[name] == "auto" else options[name] for name in found}


def output_labels(labels: Sequence[str]) -> list[str]:
    """None: the numbers of a vector have no names."""
    return []


def targets_of(split: Any) -> np.ndarray:
    """What `loss` and `evaluate` take of a part.

    Args:
        split: rows with two texts each.

    Returns:
        float32 (n,), the scores; or, where pairs have none, int32 (n, K): the number of each text
        of a row, its label among them where that is one. Equal texts have equal numbers.

    Raises:
        ConfigError: rows of one text.
    """
    columns = _columns(split)
    if isinstance(split.labels, np.ndarray):
        return split.labels.astype(np.float32)
    # NumPy's own texts would each take as much memory as the longest.
    texts = sorted({text for column in columns for text in column})
    number = {text: index for index, text in enumerate(texts)}
    return np.array([[number[text] for text in column] for column in columns], np.int32).T


def token_rows(tokenizer, split: Any, *, max_length: int) -> Any:
    """The texts of each row, packed one behind the other, each of `max_length` tokens at most."""
    from tfmodel.tokens.packed_texts import PackedTexts

    return PackedTexts.from_columns(tokenizer, _columns(split), max_length=max_length)


def _columns(split: Any) -> list[list[str]]:
    """The first texts, the second ones and, where labels are texts, these."""
    if split.text_pairs is None:
        raise ConfigError(
            "embed: expected rows of two texts. Received: single texts. Name the column with the "
            "second by data.text_pair."
        )
    more = [list(split.labels)] if _are_texts(split.labels) else []
    return [split.texts, split.text_pairs, *more]


def _are_texts(labels: Any) -> bool:
    return not isinstance(labels, np.ndarray) and len(labels) > 0 and isinstance(labels[0], str)


def loss(
    name: str = "contrastive",
    *,
    temperature: float = 0.05,
    margin: float = 0.2,
    low: float = 0.0,
    high: float = 1.0,
) -> keras.losses.Loss:
    """The loss of vectors (B, K, D) against what `targets_of` gives.

    Args:
        name: `contrastive`, of pairs and triplets; `triplet`; or `cosine`, of scored pairs.
        temperature: of contrastive, what cosines are divided by.
        margin: of triplet, by how much of a cosine the partner should be nearer.
        low: of cosine, the score that means a cosine of 0.
        high: of cosine, the score that means a cosine of 1.

    Raises:
        ValueError: another name, or a number out of range.
    """
    if name == "contrastive":
        return ContrastiveLoss(temperature=temperature)
    if name == "triplet":
        return TripletLoss(margin=margin)
    if name == "cosine":
        return CosineLoss(low=low, high=high)
    raise ValueError(f"loss must be contrastive, triplet or cosine. Received: {name!r}.")


def loss_arguments(options: Mapping[str, Any], targets: np.ndarray) -> dict[str, Any]:
    """What `loss` takes of a config and of the training rows.

    Args:
        options: `loss`, `auto` or a name, `temperature` and `margin`.
        targets: what `targets_of` gives of the rows.

    Raises:
        ConfigError: scores that are all the same.
    """
    targets, name = np.asarray(targets), options["loss"]
    if name == "auto":
        name = "cosine" if targets.ndim == 1 else "contrastive"
    if name != "cosine":
        return {"name": name, "temperature": options["temperature"], "margin": options["margin"]}
    low, high = float(targets.min()), float(targets.max())
    if low == high:
        raise ConfigError(
            f"embed: expected pairs with different scores. Received: {len(targets):,} training "
            f"rows that all have {low:g}. Name the column with the scores by data.label."
        )
    return {"name": name, "low": low, "high": high}


def metrics() -> list[keras.metrics.Metric]:
    """What `fit` shows while it trains: nothing beside the loss."""
    return []


def dev_figures(targets: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    """Figures of a whole part, which no sum over batches gives.

    Args:
        targets: what `targets_of` gives.
        outputs: the vectors, float (n, K, D).

    Returns:
        `spearman` and `pearson` of scored pairs; else `recall_at_10`, `recall_at_1` and `mrr`.
    """
    names = ("spearman", "pearson")
    if np.ndim(targets) == 2:
        names = ("recall_at_10", "recall_at_1", "mrr")
    if not np.isfinite(outputs).all():
        return dict.fromkeys(names, float("nan"))
    found = evaluate(targets, outputs, [])
    return {name: float("nan") if found[name] is None else found[name] for name in names}


# --- answers --------------------------------------------------------------------------------


def activate(outputs):
    """Outputs to what every artifact gives: the vector, float32 (B, D)."""
    return ops.cast(outputs, "float32")


def values(outputs: np.ndarray) -> np.ndarray:
    """`activate` outside of a graph."""
    return np.asarray(outputs, np.float32)


def served(values, labels: Sequence[str] = ()) -> dict[str, Any]:
    """The named outputs of a SavedModel: `vector` (B, D)."""
    return {"vector": values}


def decode(values: np.ndarray, labels: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Turn vectors (n, D) into answers: for each row `{"vector": [number, …]}`."""
    return [{"vector": vector.tolist()} for vector in np.asarray(values, np.float32)]


def answers_of(predictor: Any, split: Any) -> np.ndarray:
    """Ask for the vectors of all texts of a part, each text once: float32 (n, K, D).

    Args:
        predictor: of this task.
        split: rows with two texts each.
    """
    columns = _columns(split)
    texts = list(dict.fromkeys(text for column in columns for text in column))
    row = {text: number for number, text in enumerate(texts)}
    vectors = predictor.vectors(texts)
    return np.stack([vectors[[row[text] for text in column]] for column in columns], axis=1)


def asked(split: Any) -> Any:
    """The rows that an artifact is asked: every text of a part, once, by itself."""
    texts = list(dict.fromkeys(text for column in _columns(split) for text in column))
    return dataclasses.replace(
        split, texts=texts, text_pairs=None, labels=[None] * len(texts), origins=[""] * len(texts)
    )


def evaluate(
    targets: np.ndarray, values: np.ndarray, labels: Sequence[str] = (), **rows: Any
) -> dict[str, Any]:
    """Measure vectors (n, K, D): see `tfmodel.evaluate.vectors`.

    Returns:
        Of scored pairs what `scored_pairs` gives, else what `retrieval` gives.
    """
    from tfmodel.evaluate.vectors import retrieval, scored_pairs

    return (scored_pairs if np.ndim(targets) == 1 else retrieval)(targets, values, **rows)


def pictures(targets: np.ndarray, values: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """Cosine by score, or recall by how many are looked at: name to figure.

    Call it inside `tfmodel.evaluate.drawing.drawing_style`.
    """
    found = evaluate(targets, values)
    if np.ndim(targets) == 1:
        from tfmodel.evaluate.scatter import scatter_figure

        return {"scatter": scatter_figure(found["points"], labels=("score", "cosine"))}
    from tfmodel.evaluate.recall import recall_figure

    return {"recall": recall_figure(found["recall_curve"])}


def described(
    targets: np.ndarray, values: np.ndarray | None, labels: Sequence[str]
) -> dict[str, list[str]]:
    """What is shown of each row beside its texts: column to n words.

    Args:
        targets: what `targets_of` gives.
        values: vectors, float (n, K, D), or None where the rows were not answered.
        labels: not read.
    """
    from tfmodel.evaluate.vectors import cosines, ranks_of_partners

    scored = np.ndim(targets) == 1
    found = {"score": [f"{target:g}" for target in targets]} if scored else {}
    if values is not None:
        found["cosine"] = [f"{value:.3f}" for value in cosines(values)]
        if not scored:
            found["rank"] = [f"{rank:g}" for rank in ranks_of_partners(targets, values)[0]]
    return found or {"row": [str(row) for row in range(1, len(targets) + 1)]}


# --- folders --------------------------------------------------------------------------------


def save(
    model: keras.Model,
    folder: str | Path,
    *,
    tokenizer,
    labels: Sequence[str] = (),
    has_pairs: bool = False,
    max_length: int | None = None,
) -> Path:
    """Write a folder that sentence-transformers loads, and `transformers`' `BertModel`.

    Args:
        model: from `build`, for however many texts a row.
        folder: replaced as a whole, once everything is written.
        tokenizer: the `Tokenizer` the model was trained with.
        labels: none.
        has_pairs: not written: the model answers single texts.
        max_length: tokens a text was cut to in training; the tokenizer's by default.

    Returns:
        The folder.
    """
    pooling, encoder = pooling_of(model), model.get_layer("encoder")
    length = max_length or tokenizer.max_length
    settings = SentenceSettings(Path(folder), pooling.pooling, pooling.normalize, length)
    width = encoder.output["sequence"].shape[-1]
    files = {
        name: json.dumps(content, indent=2) + "\n"
        for name, content in sentence_files(settings, width=width).items()
    }
    return save_encoder(encoder, folder, tokenizer=tokenizer, files=files)


def load(
    folder: str | Path,
    *,
    pooling: str | None = None,
    normalize: bool | None = None,
    max_length: int | None = None,
    dtype: str = "float32",
) -> LoadedModel:
    """Load an encoder as a model of vectors: what `save` wrote, or sentence-transformers.

    Args:
        folder: with `modules.json`, or an encoder's alone.
        pooling: `mean` or `cls`; by default what the folder asks for, else mean.
        normalize: whether vectors are brought to length 1; by default what the folder asks for,
            else yes.
        max_length: tokens a text at most; by default what the folder says.
        dtype: Keras dtype policy to build with.

    Returns:
        The model and its tokenizer.

    Raises:
        ConfigError: no encoder there, or the folder asks for what cannot be had; see
            `read_sentence_settings`; or its vocabulary is larger than the encoder's.

    Example:
        >>> loaded = embed.load("all-MiniLM-L6-v2")
    """
    from tfmodel.tokens.folders import load_tokenizer

    folder = Path(folder)
    asked = read_sentence_settings(folder) or SentenceSettings(folder, "mean", True)
    if asked.prompt:
        raise ConfigError(
            f"{folder}: expected a model of texts as they are. Received: one that puts "
            f"{asked.prompt!r} before every text. Remove default_prompt_name from its "
            "config_sentence_transformers.json, and put it there yourself."
        )
    encoder = load_encoder(asked.encoder_folder, dtype=dtype)
    model = build(
        encoder,
        pooling=pooling or asked.pooling,
        normalize=asked.normalize if normalize is None else normalize,
    )
    tokenizer = load_tokenizer(asked.encoder_folder)
    positions = encoder.get_layer("embeddings").max_positions
    if len(tokenizer.vocabulary) > encoder.get_layer("embeddings").vocabulary_size:
        raise ConfigError(
            f"{folder}: expected a vocabulary of at most "
            f"{encoder.get_layer('embeddings').vocabulary_size} pieces, as config.json says. "
            f"Received: {len(tokenizer.vocabulary)}."
        )
    length = min(max_length or asked.max_length or tokenizer.max_length, positions)
    tokenizer = load_tokenizer(asked.encoder_folder, max_length=length)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        labels=[],
        has_pairs=False,
        max_length=length,
        task="embed",
    )
