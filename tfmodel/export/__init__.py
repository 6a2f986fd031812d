"""A trained model to files that answer without the code that trained it, and the proof."""

import importlib

_LAZY = {
    "ExportSettings": "tfmodel.export.settings",
    "LintReport": "tfmodel.export.linting",
    "Manifest": "tfmodel.export.manifest",
    "ParityError": "tfmodel.export.parity",
    "Predictor": "tfmodel.export.predictor",
    "check_parity": "tfmodel.export.parity",
    "export_all": "tfmodel.export.publish",
    "export_keras_hub": "tfmodel.export.keras_hub",
    "export_onnx": "tfmodel.export.onnx",
    "export_savedmodel": "tfmodel.export.savedmodel",
    "export_tflite": "tfmodel.export.tflite",
    "export_tflite_variants": "tfmodel.export.tflite",
    "lint": "tfmodel.export.linting",
    "load": "tfmodel.export.artifacts",
    "predictor_of": "tfmodel.export.artifacts",
    "read_associated_files": "tfmodel.export.tflite.metadata",
}

__all__ = sorted(_LAZY)


def __getattr__(name: str):
    """Import TensorFlow only when a name that needs it is used."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
