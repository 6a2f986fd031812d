"""`tokenizer.json`: our tokenizer in the format of Hugging Face's `tokenizers`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tfmodel.config import ConfigError
from tfmodel.tokens.row_tokenizer import RowTokenizer

if TYPE_CHECKING:
    from tfmodel.tokens.byte_pairs import BytePairTokenizer
    from tfmodel.tokens.prompts import PromptTokenizer
    from tfmodel.tokens.tokenizer import Tokenizer
    from tfmodel.tokens.unigram import UnigramTokenizer

TOKENIZER_FILE = "tokenizer.json"
OWN_FILE = "unigrams.json"
"""What stands in a model folder's `tokenizer.json`, where the tokenizer is one of SentencePiece."""


def tokenizer_json(
    tokenizer: RowTokenizer,
    *,
    max_length: int,
    overlap: int = 0,
    only_second: bool = False,
) -> dict[str, Any]:
    """A tokenizer in the format of Hugging Face's `tokenizers`.

    Args:
        tokenizer: ours.
        max_length: tokens a row at most.
        overlap: tokens that the rows of a longer text share with the next one, where the rest is
            not left away: its encodings have them as `overflowing`.
        only_second: whether the second of two texts alone is cut.

    Returns:
        What goes into `tokenizer.json`. Special tokens are not added ones: `[SEP]` in a user's
        text stays text, and cannot end a row. The template of a `PromptTokenizer` is one of it.

    Raises:
        ConfigError: a special piece of SentencePiece that a text could write.
    """
    vocabulary = tokenizer.vocabulary
    splitter = tokenizer.splitter if tokenizer.template else tokenizer
    splitting = _SPLITTING[splitter.kind](splitter)
    if tokenizer.template and tokenizer.text_prefix:
        before = {"type": "Prepend", "prepend": tokenizer.text_prefix}
        after = splitting["normalizer"]
        steps = [before, after] if after else [before]
        splitting["normalizer"] = {"type": "Sequence", "normalizers": steps}
    return {
        "version": "1.0",
        "truncation": {
            "direction": "Right",
            "max_length": max_length,
            "strategy": "OnlySecond" if only_second else "LongestFirst",
            "stride": overlap,
        },
        "padding": {
            "strategy": "BatchLongest",
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": vocabulary.padding_id,
            "pad_type_id": 0,
            "pad_token": vocabulary.special["padding"],
        },
        "added_tokens": [],
        "post_processor": _prompt(tokenizer) if tokenizer.template else _row(tokenizer),
        **splitting,
    }


def _token(name: str, segment: int = 0) -> dict[str, Any]:
    return {"SpecialToken": {"id": name, "type_id": segment}}


def _text(name: str, segment: int = 0) -> dict[str, Any]:
    return {"Sequence": {"id": name, "type_id": segment}}


def _row(tokenizer: RowTokenizer) -> dict[str, Any]:
    """How a row is made of one text, or of two."""
    vocabulary, second = tokenizer.vocabulary, int(tokenizer.has_segments)
    start, end = vocabulary.special["start"], vocabulary.special["end"]
    single = [_token(start), _text("A"), _token(end)]
    between = [_token(end)] * (tokenizer.ends_between - 1)
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, *between, _text("B", second), _token(end, second)],
        "special_tokens": {
            piece: {"id": piece, "ids": [vocabulary.ids[piece]], "tokens": [piece]}
            for piece in (start, end)
        },
    }


def _prompt(tokenizer: PromptTokenizer) -> dict[str, Any]:
    """How a row is made of texts in a template: its own words are tokens beside them."""
    vocabulary, texts = tokenizer.vocabulary, {"{text}": "A", "{text_pair}": "B"}
    parts = [[vocabulary.start_id], *tokenizer.parts, [vocabulary.end_id]]
    special, row = {}, []
    for place, part in enumerate(parts):
        if isinstance(part, str):
            row.append(_text(texts[part]))
        elif part:
            name = f"template {place}"
            words = [vocabulary.pieces[index] for index in part]
            special[name] = {"id": name, "ids": part, "tokens": words}
            row.append(_token(name))
    single = [each for each in row if each != _text("B")]
    # A pair must have a place, though a template of single texts is asked for none.
    pair = row if row != single else [*row, _text("B")]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}


def _word_pieces(tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,  # as lowercase
            "lowercase": tokenizer.lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": tokenizer.vocabulary.special["unknown"],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": tokenizer.vocabulary.ids,
        },
    }


def _byte_pairs(tokenizer: BytePairTokenizer) -> dict[str, Any]:
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": tokenizer.add_prefix_space,
        "trim_offsets": True,
        "use_regex": True,
    }
    return {
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": tokenizer.vocabulary.ids,
            "merges": [" ".join(pair) for pair in tokenizer.merges],
        },
    }


def _unigrams(tokenizer: UnigramTokenizer) -> dict[str, Any]:
    vocabulary, splitting = tokenizer.vocabulary, tokenizer.splitting
    values = splitting.fast_values(vocabulary, tokenizer.scores)
    short = [piece for piece in splitting.never_text if len(piece) < 2]
    if short:
        raise ConfigError(
            f"ONNX: expected special pieces of at least two characters. Received: {short[0]!r}, "
            f"which {TOKENIZER_FILE} could not keep out of texts. Export the model as a SavedModel."
        )
    # Its model would find a special piece in a text: one that a text writes is cut in two.
    written = "|".join(
        f"(?<={re.escape(piece[:-1])}){re.escape(piece[-1])}"
        for piece in sorted(splitting.never_text, key=vocabulary.ids.get)
    )
    cut = {"type": "Split", "pattern": {"Regex": written}, "behavior": "Isolated", "invert": False}
    splitters = [*values["pre_tokenizer"]["pretokenizers"], cut]
    return {
        "normalizer": values["normalizer"],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": splitters},
        "decoder": values["decoder"],
        "model": values["model"],
    }


_SPLITTING = {"wordpiece": _word_pieces, "byte_pairs": _byte_pairs, "unigram": _unigrams}
