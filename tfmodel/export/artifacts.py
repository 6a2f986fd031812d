"""Load whatever tfmodel wrote, to ask it something."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.export.manifest import (
    MANIFEST_FILE,
    Manifest,
    output_of,
    read_files,
    read_tokenizer,
)
from tfmodel.export.places import versions
from tfmodel.export.predictor import Answer, Predictor
from tfmodel.model.google_heads import is_googles
from tfmodel.model.sentence_folders import MODULES_FILE

_LOOKED_FOR = (
    "a run folder (config.yaml and model/), a model folder (config.json and model.safetensors, or "
    "modules.json of sentence-transformers, or bert_config.json and Google's checkpoint), "
    "a SavedModel (saved_model.pb, or version folders 1, 2, … with one), a KerasHub preset "
    "(task.json), an ONNX folder (model.onnx) or a .tflite file"
)


def load(where: str | Path, *, threads: int | None = None) -> Predictor:
    """Load a run folder, a model folder or whatever was exported, to ask it.

    Args:
        where: the path. Of a SavedModel's base folder the highest version is taken, as TF
            Serving does.
        threads: processor threads of a `.tflite` and of ONNX; all by default.

    Returns:
        A predictor; `kind` says what was found.

    Raises:
        ConfigError: nothing there, none of these, not whole, or not made by tfmodel.

    Example:
        >>> load("runs/news").predict(["Stocks fell sharply."])[0]["label"]
        'business'
    """
    path = Path(where)
    if not path.exists():
        raise ConfigError(
            f"{path}: expected {_LOOKED_FOR}. Received: a path where nothing is. Check the path."
        )
    if path.is_file():
        return _load_tflite(path, threads)
    if (path / "saved_model.pb").is_file():
        return _load_savedmodel(path)
    if (path / "model.onnx").is_file():
        from tfmodel.export.onnx import load_onnx

        return load_onnx(path, threads=threads)
    if (path / "task.json").is_file():
        from tfmodel.export.keras_hub.loader import load_keras_hub

        return load_keras_hub(path)
    if (path / "config.json").is_file() or (path / MODULES_FILE).is_file() or is_googles(path):
        return _load_model_folder(path, path)
    if (path / "config.yaml").is_file():
        return _load_run(path)
    for version in reversed(versions(path)):
        if (path / str(version) / "saved_model.pb").is_file():
            return _load_savedmodel(path / str(version))
    names = sorted(entry.name for entry in path.iterdir())
    received = ", ".join(names[:8]) + (", …" if len(names) > 8 else "") if names else "nothing"
    raise ConfigError(f"{path}: expected {_LOOKED_FOR}. Received: a folder with {received}.")


def predictor_of(
    model: Any,
    tokenizer: Any,
    *,
    labels: Sequence[str],
    max_length: int,
    has_pairs: bool = False,
    task: str = "classify",
    decoding: Mapping[str, Any] | None = None,
    where: str = "model",
) -> Predictor:
    """Ask a Keras model of a task that is in memory.

    Args:
        model: token batch to outputs (B, C).
        tokenizer: the one it was trained with.
        labels: the name of each output: of `classify` the classes, in the order of the logits.
        max_length: tokens a row at most.
        has_pairs: whether a row is two texts.
        task: one of `tasks.TASKS`.
        decoding: what answers are decoded by beside the labels.
        where: what messages call it.

    Returns:
        A predictor of kind `model`.
    """
    import tensorflow as tf

    from tfmodel.export import graph

    positions = graph.positions_of(model)
    graph.check_exportable(
        model,
        labels=labels,
        max_length=max_length,
        positions=positions,
        task=task,
        decoding=decoding,
    )
    manifest = Manifest(
        labels=tuple(labels),
        max_length=max_length,
        lowercase=tokenizer.lowercase,
        tokenizer=tokenizer.kind,
        has_pairs=has_pairs,
        task=task,
        decoding=tasks.decoding_of(task, tokenizer, decoding),
        template=tokenizer.template,
        output=output_of(task),
    )
    if tasks.find(task).ANSWERS in _ANSWERS_OF_MODEL:
        answer = _ANSWERS_OF_MODEL[tasks.find(task).ANSWERS](model, tokenizer, manifest)
        return Predictor(answer, manifest, kind="model", where=where)
    batch = graph.batch_function(tokenizer, max_length=max_length, has_pairs=has_pairs)
    tokenize = batch.get_concrete_function()
    scores = graph.scores_function(model, task).get_concrete_function()

    def answer(texts: list[str], text_pairs: list[str] | None) -> np.ndarray:
        return scores(**tokenize(*_utf8(texts, text_pairs))).numpy()

    if tasks.gives_lists(task):
        from tfmodel.export.windows import windows_answer

        def ask(rows: Mapping[str, np.ndarray]) -> np.ndarray:
            return scores(**{name: tf.constant(values) for name, values in rows.items()}).numpy()

        answer = windows_answer(ask, tokenizer, manifest)
    answer.model = model  # a traced function does not keep its weights alive
    trace_vector = functools.cache(lambda: graph.vector_function(model).get_concrete_function())

    def vector(texts: list[str], text_pairs: list[str] | None) -> np.ndarray:
        return trace_vector()(**tokenize(*_utf8(texts, text_pairs))).numpy()

    # Another model has no encoder to ask, and of a model of tokens no vector was learned.
    has_vector = positions is not None and not tasks.reads_tokens(task)
    return Predictor(
        answer, manifest, kind="model", where=where, vector=vector if has_vector else None
    )


def _span_answer(model: Any, tokenizer: Any, manifest: Manifest) -> Answer:
    """Ask a Keras model of the answer in a text."""
    import tensorflow as tf

    from tfmodel.export import graph
    from tfmodel.export.spans import Spans

    logits = graph.scores_function(model, manifest.task).get_concrete_function()
    spans = Spans(tokenizer, max_length=manifest.max_length, decoding=manifest.decoding)
    text = tf.TensorSpec((None,), tf.string)
    ask = tf.function(
        spans.function(logits), input_signature=[text, text], autograph=False
    ).get_concrete_function()

    def answer(texts: list[str], text_pairs: list[str] | None) -> np.ndarray:
        return ask(*_utf8(texts, text_pairs)).numpy()

    answer.model = model  # a traced function does not keep its weights alive
    return answer


def _gaps_answer(model: Any, tokenizer: Any, manifest: Manifest) -> Answer:
    """Ask a Keras model of what stands in the gaps of texts."""
    import tensorflow as tf

    from tfmodel.export.gaps import Filler

    filler = Filler(tokenizer, max_length=manifest.max_length, decoding=manifest.decoding)
    fill = filler.function(model)
    served = tasks.find(manifest.task).served

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)], autograph=False)
    def ask(text):
        return served({"text": text, **fill(filler.rows(text))}, **manifest.decoding)

    function = ask.get_concrete_function()

    def answer(texts: list[str], text_pairs: list[str] | None) -> list:
        found = function(*_utf8(texts))
        return tasks.find(manifest.task).values_of_served(
            {name: values.numpy() for name, values in found.items()}
        )

    answer.model = model  # a traced function does not keep its weights alive
    return answer


_ANSWERS_OF_MODEL = {"span": _span_answer, "gaps": _gaps_answer}


def _utf8(*columns: list[str] | None) -> list[Any]:
    """Texts, and second texts where there are any, as TensorFlow takes them.

    Half of a surrogate pair, which UTF-8 has no bytes for, becomes `?`.
    """
    import tensorflow as tf

    return [
        tf.constant([text.encode("utf-8", "replace") for text in column])
        for column in columns
        if column is not None
    ]


def _load_run(path: Path) -> Predictor:
    folder = path / "model"
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"{path}: expected a run folder with a trained model in model/. Received: a run that "
            "has none yet. Finish it: tfmodel run CONFIG."
        )
    return _load_model_folder(folder, path)


def _load_model_folder(folder: Path, where: Path) -> Predictor:
    loaded = tasks.load_model(folder, dtype="float32")
    return predictor_of(
        loaded.model,
        loaded.tokenizer,
        labels=loaded.labels,
        max_length=loaded.max_length,
        has_pairs=loaded.has_pairs,
        task=loaded.task,
        decoding=loaded.decoding,
        where=str(where),
    )


# --- SavedModel -----------------------------------------------------------------------------


def _load_savedmodel(path: Path) -> Predictor:
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  registers the tokenizer's operations

    from tfmodel.export.quiet import quiet
    from tfmodel.export.savedmodel import TEXT_SIGNATURE

    outputs = _outputs(path, TEXT_SIGNATURE)
    assets = path / "assets"
    files = {file.name: file.read_bytes() for file in assets.iterdir()} if assets.is_dir() else {}
    manifest = read_files(files, name=str(path))
    values = tasks.find(manifest.task).VALUES
    if values not in outputs:
        raise ConfigError(
            f"{path}: expected the signature {TEXT_SIGNATURE} to take text and give {values}. "
            f"Received: it gives {', '.join(outputs) or 'nothing'}. Export the model with `tfmodel "
            "export`."
        )
    try:
        with quiet():
            loaded = tf.saved_model.load(str(path))
    except MemoryError:
        raise
    except Exception as error:  # TensorFlow reports damage with errors of any type
        raise ConfigError(
            f"{path}: expected a SavedModel that TensorFlow {tf.__version__} loads. Received: "
            f"{str(error)[:300]}. Copy or export it again."
        ) from None

    def ask(signature: str, output: str) -> Answer:
        def answer_tokens(texts: list[str], text_pairs: list[str] | None) -> list:
            found = loaded.signatures[signature](text=_utf8(texts)[0])
            given = {name: values.numpy() for name, values in found.items()}
            return tasks.find(manifest.task).values_of_served(given)

        if tasks.gives_lists(manifest.task):
            return answer_tokens

        def answer(texts: list[str], text_pairs: list[str] | None) -> np.ndarray:
            inputs = dict(zip(("text", "text_pair"), _utf8(texts, text_pairs), strict=False))
            # By way of `loaded`, since a signature alone does not keep its weights alive.
            found = loaded.signatures[signature](**inputs)[output].numpy()
            return found.reshape(len(found), -1)  # a single number a row has no columns there

        return answer

    return Predictor(
        ask(TEXT_SIGNATURE, values),
        manifest,
        kind="savedmodel",
        where=str(path),
        vector=ask("vector", "vector") if "vector" in loaded.signatures else None,
    )


def _outputs(path: Path, wanted: str) -> list[str]:
    """What a signature that takes texts gives, read without loading the graph: its operations may
    not be known here.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
        signatures = dict(model.meta_graphs[0].signature_def)
    except (DecodeError, IndexError) as error:
        raise ConfigError(
            f"{path}: expected a SavedModel. Received: a saved_model.pb that cannot be read "
            f"({error or 'empty'}). Copy or export it again."
        ) from None
    shown = ", ".join(sorted(name for name in signatures if not name.startswith("__"))) or "none"
    if wanted not in signatures:
        raise ConfigError(
            f"{path}: expected the signature {wanted}, which takes texts. Received: signatures "
            f"{shown}. Export the model with `tfmodel export`."
        )
    inputs, outputs = signatures[wanted].inputs, signatures[wanted].outputs
    if "text" not in inputs:
        raise ConfigError(
            f"{path}: expected the signature {wanted} to take text. Received: it takes "
            f"{', '.join(sorted(inputs)) or 'nothing'} and gives "
            f"{', '.join(sorted(outputs)) or 'nothing'}. Export the model with `tfmodel export`."
        )
    return sorted(outputs)


# --- TFLite ---------------------------------------------------------------------------------


def _load_tflite(path: Path, threads: int | None) -> Predictor:
    from tfmodel.export.tflite.metadata import read_associated_files

    files = read_associated_files(path)
    manifest = read_files(files, name=str(path))
    return Predictor(
        _tflite_answer(path, manifest, read_tokenizer(files, manifest, name=str(path)), threads),
        manifest,
        kind="tflite",
        where=str(path),
    )


def _tflite_answer(path: Path, manifest: Manifest, tokenizer: Any, threads: int | None) -> Answer:
    from tfmodel.export import graph
    from tfmodel.export.tflite.litert import LiteRT

    run = LiteRT(path, threads=threads)
    if run.length not in (None, manifest.max_length) or run.output != manifest.output:
        raise ConfigError(
            f"{path}: expected {manifest.output} of rows of {manifest.max_length} tokens, as "
            f"{MANIFEST_FILE} inside says. Received: a model that gives {run.output} of rows of "
            f"{run.length or 'any number'}. Export it again."
        )

    if tasks.find(manifest.task).ANSWERS == "span":
        from tfmodel.export.spans import Spans

        spans = Spans(tokenizer, max_length=manifest.max_length, decoding=manifest.decoding)
        ask = spans.ask(run, run.length)
        return lambda texts, text_pairs: ask(*_utf8(texts, text_pairs))
    if tasks.fills_gaps(manifest.task):
        from tfmodel.export.gaps import Filler

        filler = Filler(tokenizer, max_length=manifest.max_length, decoding=manifest.decoding)
        fill = filler.ask(run, run.length)
        return lambda texts, text_pairs: fill(*_utf8(texts))
    if tasks.gives_lists(manifest.task):
        from tfmodel.export.windows import windows_answer

        return windows_answer(run, tokenizer, manifest, length=run.length)
    tokenize = graph.batch_function(
        tokenizer, max_length=manifest.max_length, has_pairs=manifest.has_pairs, length=run.length
    ).get_concrete_function()

    def answer(texts: list[str], text_pairs: list[str] | None) -> np.ndarray:
        batch = tokenize(*_utf8(texts, text_pairs))
        return run({name: values.numpy() for name, values in batch.items()})

    return answer
