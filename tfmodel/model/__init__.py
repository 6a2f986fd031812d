"""Token batches to hidden states: a BERT encoder in `keras.ops`, on any Keras backend.

Shape letters used throughout the package:
B batch, T tokens, N heads, H width of a head, D hidden width, V vocabulary, M = B*T,
C classes.
"""

from tfmodel.model.sizes import SIZES, BertConfig

__all__ = [
    "SIZES",
    "BertConfig",
    "build_encoder",
    "encoder_config",
    "load_encoder",
    "read_sentence_settings",
    "save_encoder",
]

_LAZY = {
    "build_encoder": "tfmodel.model.encoder",
    "encoder_config": "tfmodel.model.encoder",
    "load_encoder": "tfmodel.model.checkpoints",
    "read_sentence_settings": "tfmodel.model.sentence_folders",
    "save_encoder": "tfmodel.model.checkpoints",
}


def __getattr__(name: str):
    """Import Keras only when a name that needs it is used."""
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
