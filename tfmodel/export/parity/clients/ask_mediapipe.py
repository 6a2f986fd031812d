"""Ask a `.tflite` in MediaPipe Tasks, which tokenizes by itself; on one core.

A row is a text. The answer of a classifier (`output` is `scores`) is `[name, score]` of each label
in the file's order, that of an embedder (`vector`) a list of numbers.
"""

import os
import sys

from protocol import serve


def import_runtime():
    """Import MediaPipe's text tasks."""
    # Where TensorFlow is installed it imports that too, for documentation alone: no app does.
    sys.modules["tensorflow"] = None
    # It has no setting for threads.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    from mediapipe.tasks.python import BaseOptions, text

    return BaseOptions, text


def load(runtime, request):
    """Load a file; returns what answers a text."""
    base_options_class, text = runtime
    base_options = base_options_class(model_asset_path=request["path"])
    if request["output"] == "vector":
        embedder = text.TextEmbedder.create_from_options(
            text.TextEmbedderOptions(base_options=base_options)
        )
        return lambda row: embedder.embed(row).embeddings[0].embedding.tolist()
    classifier = text.TextClassifier.create_from_options(
        text.TextClassifierOptions(base_options=base_options)
    )

    def ask(row):
        categories = classifier.classify(row).classifications[0].categories
        ordered = sorted(categories, key=lambda category: category.index)
        return [[category.category_name, category.score] for category in ordered]

    return ask


if __name__ == "__main__":
    serve(import_runtime, load)
