"""`tokenizer.json`: our tokenizer in the format of Hugging Face's `tokenizers`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tfmodel.tokens.row_tokenizer import RowTokenizer

if TYPE_CHECKING:
    from tfmodel.tokens.byte_pairs import BytePairTokenizer
    from tfmodel.tokens.tokenizer import Tokenizer

TOKENIZER_FILE = "tokenizer.json"


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
        text stays text, and cannot end a row.
    """
    vocabulary = tokenizer.vocabulary
    start, end = vocabulary.special["start"], vocabulary.special["end"]
    second = int(tokenizer.has_segments)

    def token(piece: str, segment: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": piece, "type_id": segment}}

    def text(name: str, segment: int) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": segment}}

    single = [token(start, 0), text("A", 0), token(end, 0)]
    between = [token(end, 0)] * (tokenizer.ends_between - 1)
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
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": [*single, *between, text("B", second), token(end, second)],
            "special_tokens": {
                piece: {"id": piece, "ids": [vocabulary.ids[piece]], "tokens": [piece]}
                for piece in (start, end)
            },
        },
        **_SPLITTING[tokenizer.kind](tokenizer),
    }


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


_SPLITTING = {"wordpiece": _word_pieces, "byte_pairs": _byte_pairs}
