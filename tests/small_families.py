"""Small random encoders of BERT's family, with the vocabulary of `small_run`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import small_run

SHAPES = {
    "distilbert": {"segments": 0},
    "electra": {"embedding_size": 16},
    "roberta": {"segments": 1, "layer_norm_epsilon": 1e-5},
    "xlm-roberta": {"segments": 1, "layer_norm_epsilon": 1e-5},
    "albert": {"embedding_size": 32, "layer_groups": 1},
}


def write_encoder(folder: Path, family: str, *, seed: int = 0) -> Path:
    """Write a Hugging Face folder with a random encoder of 2 layers, D 32, 48 positions."""
    import keras

    from tfmodel.model import build_encoder, save_encoder

    keras.utils.set_random_seed(seed)
    tokenizer = tokenizer_of(family)
    shape = shape_of(family, len(tokenizer.vocabulary))
    return save_encoder(build_encoder(shape), folder, tokenizer=tokenizer)


def shape_of(family: str, pieces: int):
    """The shape of the encoder, with so many pieces."""
    from tfmodel.model import BertConfig

    return BertConfig(
        family=family,
        vocabulary_size=pieces,
        hidden_size=32,
        layers=2,
        heads=2,
        intermediate_size=64,
        max_positions=48,
        **SHAPES[family],
    )


def tokenizer_of(family: str):
    """Word pieces as in `small_run.write_encoder`, or other pieces of the same words."""
    from tfmodel.tokens import Tokenizer, Vocabulary

    if family == "roberta":
        return _byte_pairs()
    if family in ("xlm-roberta", "albert"):
        return _unigrams(family)
    name = "DistilBertTokenizer" if family == "distilbert" else "BertTokenizer"
    return Tokenizer(Vocabulary(small_run.vocabulary()), max_length=48, class_name=name)


def _byte_pairs():
    """Byte-level BPE that joins each word of the topics, letter by letter."""
    from tfmodel.tokens.byte_pairs import SPECIAL_PIECES, BytePairTokenizer, byte_letters
    from tfmodel.tokens.vocabulary import Vocabulary

    words = [*small_run._FILLERS, *(word for each in small_run.TOPICS.values() for word in each)]
    merges = {}
    for word in words:
        begun = "Ġ"
        for letter in word:
            merges[begun, letter] = None
            begun += letter
    start, padding, end, unknown, mask = (
        SPECIAL_PIECES[role] for role in ("start", "padding", "end", "unknown", "mask")
    )
    joined = dict.fromkeys(first + second for first, second in merges)
    pieces = [start, padding, end, unknown, *byte_letters(), *joined, mask]
    return BytePairTokenizer(
        Vocabulary(pieces, special=SPECIAL_PIECES),
        list(merges),
        add_prefix_space=True,
        max_length=48,
    )


def _unigrams(family: str):
    """Unigrams of letters and of the words of the topics, normalized as the family does."""
    import string

    from tfmodel.tokens.unigram import UnigramTokenizer
    from tfmodel.tokens.unigram_files import Splitting
    from tfmodel.tokens.vocabulary import Vocabulary

    words = [*small_run._FILLERS, *(word for each in small_run.TOPICS.values() for word in each)]
    common = {"padding": "<pad>", "unknown": "<unk>"}
    if family == "albert":
        special = {**common, "start": "[CLS]", "end": "[SEP]", "mask": "[MASK]"}
        kinds = ["NFKD", "StripAccents", "Lowercase"]
        splitting = Splitting(
            tuple({"type": kind} for kind in kinds), ends_between=1, has_segments=True
        )
        first = [special[role] for role in ("padding", "unknown", "start", "end", "mask")]
    else:
        special = {**common, "start": "<s>", "end": "</s>", "mask": "<mask>"}
        splitting = Splitting()
        first = [special[role] for role in ("start", "padding", "end", "unknown", "mask")]
    pieces = [*first, "▁", *string.ascii_letters, *".,", *(f"▁{word}" for word in words)]
    scores = [*[0.0] * len(first), *[-8.0] * (len(pieces) - len(first) - len(words))]
    scores += [-3.0 - 0.01 * place for place in range(len(words))]
    return UnigramTokenizer(
        Vocabulary(pieces, special=special),
        scores,
        dataclasses.replace(splitting, never_text=tuple(first)),
        max_length=48,
    )
