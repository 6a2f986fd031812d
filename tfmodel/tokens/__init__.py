"""Strings to token batches: vocabulary, WordPiece in the graph, length buckets, packed rows."""

from tfmodel.tokens.vocabulary import Vocabulary

__all__ = [
    "Batches",
    "PretrainingBatches",
    "TokenDocuments",
    "Tokenizer",
    "Vocabulary",
    "load_tokenizer",
    "write_token_documents",
]

_LAZY = {
    "Tokenizer": "tfmodel.tokens.tokenizer",
    "load_tokenizer": "tfmodel.tokens.folders",
    "Batches": "tfmodel.tokens.batches",
    "PretrainingBatches": "tfmodel.tokens.pretraining_batches",
    "TokenDocuments": "tfmodel.tokens.token_documents",
    "write_token_documents": "tfmodel.tokens.token_documents",
}


def __getattr__(name: str):
    """Import TensorFlow only when a name that needs it is used."""
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
