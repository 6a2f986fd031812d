"""The tokenizer of a model folder, of whatever kind it is."""

from __future__ import annotations

from pathlib import Path

from tfmodel.config import ConfigError
from tfmodel.tokens import byte_pair_files
from tfmodel.tokens.byte_pairs import BytePairTokenizer
from tfmodel.tokens.row_tokenizer import RowTokenizer
from tfmodel.tokens.tokenizer import (
    FAST_FILE,
    TOKENIZER_CONFIG,
    VOCABULARY_FILE,
    Tokenizer,
    read_json,
    stated_length,
)

_SENTENCE_PIECE_FILES = ("spiece.model", "sentencepiece.bpe.model", "tokenizer.model")


def load_tokenizer(folder: str | Path, *, max_length: int | None = None) -> RowTokenizer:
    """Read the tokenizer of a model folder.

    Args:
        folder: a Hugging Face model folder: of WordPiece (BERT, DistilBERT, ELECTRA) with
            `vocab.txt` or `tokenizer.json`, of byte-level BPE (RoBERTa) with `tokenizer.json`, or
            `vocab.json` and `merges.txt`.
        max_length: tokens a row at most; by default what the folder says, else 512.

    Returns:
        A `Tokenizer` or a `BytePairTokenizer`.

    Raises:
        ConfigError: no vocabulary, one of SentencePiece (XLM-RoBERTa, ALBERT), or text is split
            in another way than BERT's or RoBERTa's.

    Example:
        >>> tokenizer = load_tokenizer("roberta-base/")
        >>> tokenizer(["How far is the moon?"])["token_ids"].shape
        TensorShape([1, 8])
    """
    folder = Path(folder)
    fast = {} if (folder / VOCABULARY_FILE).exists() else read_json(folder / FAST_FILE)
    kind = (fast.get("model") or {}).get("type")
    found = [name for name in _SENTENCE_PIECE_FILES if (folder / name).exists()]
    if kind == "Unigram" or (found and not fast):
        raise ConfigError(
            f"{folder}: expected a tokenizer of WordPiece or byte-level BPE. Received: "
            f"SentencePiece ({FAST_FILE if fast else found[0]}), whose normalizing and splitting "
            "tfmodel does not have yet. The encoder loads (tm.load_encoder): give it ids made by "
            "the tokenizer of transformers."
        )
    if kind == "BPE" or (not fast and (folder / byte_pair_files.VOCABULARY_FILE).exists()):
        settings = read_json(folder / TOKENIZER_CONFIG)
        length = stated_length(settings) if max_length is None else max_length
        return BytePairTokenizer.from_files(folder, fast, settings, max_length=length)
    return Tokenizer.from_folder(folder, max_length=max_length)
