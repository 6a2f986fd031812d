"""Strings to token batches: vocabulary, WordPiece in the graph, length buckets."""

from tfmodel.tokens.vocabulary import Vocabulary

__all__ = ["Batches", "Tokenizer", "Vocabulary"]

_LAZY = {
    "Tokenizer": "tfmodel.tokens.tokenizer",
    "Batches": "tfmodel.tokens.batches",
}


def __getattr__(name: str):
    """Import TensorFlow only when a name that needs it is used."""
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
