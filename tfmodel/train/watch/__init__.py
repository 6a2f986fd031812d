"""Where a training is watched: TensorBoard, Weights & Biases, MLflow, or a tracker of your own."""

__all__ = [
    "EventFiles",
    "MLflow",
    "TensorBoard",
    "Tracker",
    "Watch",
    "WatchSettings",
    "WeightsAndBiases",
    "sentence_vectors",
    "write_projector",
]

_LAZY = {
    "EventFiles": "tfmodel.train.watch.event_files",
    "MLflow": "tfmodel.train.watch.mlflow_runs",
    "TensorBoard": "tfmodel.train.watch.tensorboard_callback",
    "Tracker": "tfmodel.train.watch.tracker",
    "Watch": "tfmodel.train.watch.watching",
    "WatchSettings": "tfmodel.train.watch.settings",
    "WeightsAndBiases": "tfmodel.train.watch.weights_and_biases",
    "sentence_vectors": "tfmodel.train.watch.vectors",
    "write_projector": "tfmodel.train.watch.projector",
}


def __getattr__(name: str):
    """Import TensorFlow only when a name that needs it is used."""
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
