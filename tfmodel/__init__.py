"""Raw text to a BERT that answers in production and on a phone.

The first names a user needs are here; everything heavy is imported when it is first used.

Example:
    >>> import tfmodel as tm
    >>> tm.run("configs/quickstart.yaml")
    >>> tm.load("runs/quickstart").predict(["Stocks fell sharply."])
"""

import importlib

__version__ = "0.1.0"

_LAZY = {
    "AdamW": "tfmodel.train",
    "BertConfig": "tfmodel.model",
    "ConfigError": "tfmodel.config",
    "DEFAULT_ENCODER": "tfmodel.sources",
    "SIZES": "tfmodel.model",
    "SeveralModel": "tfmodel.train.several_step",
    "TrainingModel": "tfmodel.train.step",
    "Tokenizer": "tfmodel.tokens",
    "Vocabulary": "tfmodel.tokens",
    "adamw": "tfmodel.train",
    "batches": "tfmodel.tokens.batches",
    "build_encoder": "tfmodel.model",
    "export_keras_hub": "tfmodel.export",
    "export_onnx": "tfmodel.export",
    "export_savedmodel": "tfmodel.export",
    "export_tflite": "tfmodel.export",
    "fetch": "tfmodel.sources",
    "lint": "tfmodel.export",
    "load": "tfmodel.export",
    "load_dataset": "tfmodel.data",
    "load_encoder": "tfmodel.model",
    "load_tokenizer": "tfmodel.tokens",
    "mixed_batches": "tfmodel.tokens.mixing",
    "run": "tfmodel.pipeline",
    "save_encoder": "tfmodel.model",
    "write_data_report": "tfmodel.report",
}
_MODULES = ("adversarial", "callbacks", "distribute", "regularize", "tasks", "watch")

__all__ = sorted([*_LAZY, *_MODULES])


def __getattr__(name: str):
    """Import a name when it is first used."""
    if name in ("adversarial", "callbacks", "distribute", "regularize", "watch"):
        return importlib.import_module(f"tfmodel.train.{name}")
    if name == "tasks":
        return importlib.import_module("tfmodel.tasks")
    if name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
