"""`tokenizer.json`: our tokenizer in the format of Hugging Face's `tokenizers`."""

from __future__ import annotations

from typing import Any

from tfmodel.tokens.tokenizer import Tokenizer
from tfmodel.tokens.vocabulary import SPECIAL_PIECES

TOKENIZER_FILE = "tokenizer.json"


def tokenizer_json(tokenizer: Tokenizer, *, max_length: int) -> dict[str, Any]:
    """A tokenizer in the format of Hugging Face's `tokenizers`.

    Args:
        tokenizer: ours.
        max_length: tokens a row at most.

    Returns:
        What goes into `tokenizer.json`. Special tokens are not added ones: `[SEP]` in a user's
        text stays text, and cannot end a row.
    """
    vocabulary = tokenizer.vocabulary
    start, end = SPECIAL_PIECES["start"], SPECIAL_PIECES["end"]

    def token(piece: str, segment: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": piece, "type_id": segment}}

    def text(name: str, segment: int) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": segment}}

    single = [token(start, 0), text("A", 0), token(end, 0)]
    return {
        "version": "1.0",
        "truncation": {
            "direction": "Right",
            "max_length": max_length,
            "strategy": "LongestFirst",
            "stride": 0,
        },
        "padding": {
            "strategy": "BatchLongest",
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": vocabulary.padding_id,
            "pad_type_id": 0,
            "pad_token": SPECIAL_PIECES["padding"],
        },
        "added_tokens": [],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,  # as lowercase
            "lowercase": tokenizer.lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": [*single, text("B", 1), token(end, 1)],
            "special_tokens": {
                piece: {"id": piece, "ids": [vocabulary.ids[piece]], "tokens": [piece]}
                for piece in (start, end)
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": SPECIAL_PIECES["unknown"],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocabulary.ids,
        },
    }
