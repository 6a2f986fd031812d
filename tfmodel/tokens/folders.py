"""The tokenizer of a model folder, of whatever kind it is."""

from __future__ import annotations

from pathlib import Path

from tfmodel.tokens import byte_pair_files, sentence_piece_files
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
from tfmodel.tokens.unigram import UnigramTokenizer

_VOCABULARIES = (VOCABULARY_FILE, byte_pair_files.VOCABULARY_FILE)


def load_tokenizer(folder: str | Path, *, max_length: int | None = None) -> RowTokenizer:
    """Read the tokenizer of a model folder.

    Args:
        folder: a Hugging Face model folder: of WordPiece (BERT, DistilBERT, ELECTRA) with
            `vocab.txt` or `tokenizer.json`, of byte-level BPE (RoBERTa) with `tokenizer.json`, or
            `vocab.json` and `merges.txt`, of SentencePiece's unigrams (XLM-RoBERTa, ALBERT) with
            `tokenizer.json`, or `spiece.model` or `sentencepiece.bpe.model`.
        max_length: tokens a row at most; by default what the folder says, else 512.

    Returns:
        A `Tokenizer`, a `BytePairTokenizer` or a `UnigramTokenizer`.

    Raises:
        ConfigError: no vocabulary, or text is split in another way than by these.

    Example:
        >>> tokenizer = load_tokenizer("roberta-base/")
        >>> tokenizer(["How far is the moon?"])["token_ids"].shape
        TensorShape([1, 8])
    """
    folder = Path(folder)
    fast = {} if (folder / VOCABULARY_FILE).exists() else read_json(folder / FAST_FILE)
    kind = (fast.get("model") or {}).get("type")
    settings = read_json(folder / TOKENIZER_CONFIG)
    length = stated_length(settings) if max_length is None else max_length
    has_vocabulary = fast or any((folder / name).exists() for name in _VOCABULARIES)
    model = next((folder / n for n in sentence_piece_files.FILES if (folder / n).exists()), None)
    if not has_vocabulary and model is not None:
        fast = sentence_piece_files.read_model(
            model,
            lowercase=bool(settings.get("do_lower_case", True)),
            keep_accents=bool(settings.get("keep_accents", False)),
        )
        return UnigramTokenizer.from_values(fast, settings, name=str(model), max_length=length)
    if kind == "Unigram":
        name = str(folder / FAST_FILE)
        return UnigramTokenizer.from_values(fast, settings, name=name, max_length=length)
    if kind == "BPE" or (not fast and (folder / byte_pair_files.VOCABULARY_FILE).exists()):
        return BytePairTokenizer.from_files(folder, fast, settings, max_length=length)
    return Tokenizer.from_folder(folder, max_length=max_length)
