"""SavedModel for TF Serving: strings in, labels out, versions that appear whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfmodel import tasks
from tfmodel.export import graph
from tfmodel.export.card import card_files, signatures_of
from tfmodel.export.manifest import Manifest, files_of
from tfmodel.export.places import make_folder, next_version
from tfmodel.export.quiet import quiet
from tfmodel.export.savedmodel.gaps import gaps_module
from tfmodel.export.savedmodel.mixed_precision import freeze, in_bfloat16
from tfmodel.export.savedmodel.tokens import token_functions
from tfmodel.export.savedmodel.unpadded import answer_function, flatten, flatten_batch
from tfmodel.export.savedmodel.warmup import write_warmup
from tfmodel.export.settings import ExportSettings
from tfmodel.export.spans import Spans
from tfmodel.export.trained import Trained
from tfmodel.run_folder import write_aside
from tfmodel.tokens.gaps import GAP
from tfmodel.tokens.row_tokenizer import SHORTEST_LIMIT, RowTokenizer

TEXT_SIGNATURE = "serving_default"
IDS_SIGNATURE = "ids"
VECTOR_SIGNATURE = "vector"
MAX_LENGTH_SIGNATURE = "max_length"


def export_savedmodel(
    model: keras.Model,
    tokenizer: RowTokenizer,
    base: str | Path,
    *,
    labels: Sequence[str],
    max_length: int,
    has_pairs: bool = False,
    task: str = "classify",
    decoding: Mapping[str, Any] | None = None,
    precision: str = "float32",
    warmup_texts: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Export a model as the next version under a folder that TF Serving watches.

    Args:
        model: float32 model from a token batch to outputs (B, C).
        tokenizer: the tokenizer the model was trained with.
        base: the served folder; made where missing.
        labels: the name of each output: of `classify` the classes, in the order of the logits.
        max_length: tokens a row at most; longer texts are cut, or answered in windows of so many
            by a task that reads tokens.
        has_pairs: whether a row is two texts.
        task: one of `tasks.TASKS`.
        decoding: what the task's answers are decoded by beside the labels.
        precision: `float32`, or `mixed_bfloat16`: half the size, and up to twice as fast where
            the server's processor multiplies bfloat16 (AVX512-BF16, AMX).
        warmup_texts: texts for the records that TF Serving answers before it takes traffic;
            by default the labels, or where there are none, a few words.
        facts: what the model card says of data, metrics, seeds and limits; see `card_files`.

    Returns:
        The new version's folder: the highest number so far plus one. It appears whole, and no
        older version is touched. Signatures, for batches of any size and any length up to
        `max_length`: `serving_default` takes strings `text` (B,), and `text_pair` (B,) for pairs;
        `max_length` takes int32 `max_length` (B,) too, a limit for each row; `ids` takes int32
        `token_ids`, `segment_ids` and `padding_mask` (B, T). Of `classify` they give `label` (B,)
        string, `score` (B,) and `scores` (B, C), of `multilabel` `labels` (B, C), filled up with
        "", and `scores` (B, C), of `regress` `score` (B,), of `embed` `vector` (B, D), of `tag`
        `tags` (B, N) for each word, filled up with "", its `starts` and `ends` (B, N) in characters
        and `scores` (B, N, C), with a CRF `emissions` (B, N, C) too; `ids` then gives `scores`
        (B, T, C) of the tokens. Of `span` it is
        `answer`, `start`, `end`, `score` (B,) and `span` (B, 4); `ids` gives `start_logits` and
        `end_logits` (B, T), and there is no `max_length`. `vector` takes what
        `serving_default` takes and gives `vector` (B, D), what the answers are read from (BERT's
        pooled output). A model that is not made of `build_encoder` and a task's `build`, or reads
        tokens, has no `vector`.

    Raises:
        ConfigError: labels or `max_length` do not fit the model, it cannot be had in this
            precision, or `base` cannot be written.
        ValueError: the model computes in half precision.
        OSError: the disk is full.

    Example:
        >>> export_savedmodel(model, tokenizer, "served", labels=["no", "yes"], max_length=128)
        PosixPath('served/1')
    """
    graph.check_exportable(
        model,
        labels=labels,
        max_length=max_length,
        positions=graph.positions_of(model),
        task=task,
        decoding=decoding,
    )
    trained = Trained(
        model,
        tokenizer,
        labels,
        max_length,
        has_pairs,
        facts=facts or {},
        task=task,
        decoding=decoding or {},
    )
    manifest = trained.manifest(precision=precision)
    base = make_folder(base)
    version = base / str(next_version(base))
    # Its name is no integer until it is whole, and TF Serving looks at integers alone.
    with write_aside(version) as folder, quiet():
        own = {"span": _span_module, "gaps": gaps_module}.get(tasks.find(task).ANSWERS)
        module = (
            _module(_answer(trained, precision), tokenizer, manifest)
            if own is None
            else own(trained, manifest)
        )
        _save(module, folder, files_of(manifest, tokenizer))
        signatures = signatures_of(module.signatures_by_name)
        for name, content in card_files(
            trained, precision=precision, signatures=signatures
        ).items():
            (folder / name).write_bytes(content)
        few = ["a text", manifest.decoding.get("gap", GAP)][: 1 + tasks.fills_gaps(task)]
        texts = list(warmup_texts) or list(labels) or few
        write_warmup(folder, texts, manifest, [*signatures])
    return version


def write_artifacts(
    settings: ExportSettings, trained: Trained, aside: Path, tell: Callable[[str], None]
) -> dict[str, Path]:
    """The SavedModels that the settings ask for: name to version folder below `aside`."""
    written = {}
    for precision in settings.savedmodel_precision if settings.savedmodel else ():
        name = "savedmodel" if precision == "float32" else f"savedmodel_{precision}"
        tell(f"writing {name}")
        written[name] = export_savedmodel(
            trained.model,
            trained.tokenizer,
            aside / name,
            precision=precision,
            facts=trained.facts,
            **trained.described,
        )
    return written


def _span_module(trained: Trained, manifest: Manifest) -> tf.Module:
    """As `_module`, of a task whose answers are spans of the second text, read in windows."""
    task = tasks.find(manifest.task)
    answer = graph.scores_function(trained.model, manifest.task).get_concrete_function()
    graph.check_float32(answer)
    spans = Spans(trained.tokenizer, max_length=manifest.max_length, decoding=manifest.decoding)
    best = spans.flat_function(_answer(trained, "float32"))
    columns = ("text", "text_pair")
    texts = {name: tf.TensorSpec((None,), tf.string, name=name) for name in columns}
    batch = {name: tf.TensorSpec((None, None), tf.int32, name=name) for name in graph.BATCH_NAMES}

    def from_texts(text, text_pair):
        # Stacking refuses as many questions as there are no contexts.
        text, text_pair = tf.unstack(tf.stack([text, text_pair]))
        values = best(text, text_pair)
        return task.served(values, manifest.labels, contexts=text_pair, **manifest.decoding)

    def from_ids(**ids):
        start, end = tf.unstack(answer(**ids), axis=-1)
        return {"start_logits": start, "end_logits": end}

    functions = {TEXT_SIGNATURE: (from_texts, texts), IDS_SIGNATURE: (from_ids, batch)}
    module = tf.Module()
    module.weights = list(answer.variables)
    module.signatures_by_name = {
        name: tf.function(function, autograph=False).get_concrete_function(**specs)
        for name, (function, specs) in functions.items()
    }
    return module


def _answer(trained: Trained, precision: str) -> tf.types.experimental.ConcreteFunction:
    """The graph of a model in a precision, with nothing in it that only training needs."""
    if precision == "float32":
        function = answer_function(trained.model, trained.task).get_concrete_function()
        graph.check_float32(function)
        return function
    model = in_bfloat16(trained.model)
    return answer_function(model, trained.task, freeze=freeze).get_concrete_function()


def _module(
    answer: tf.types.experimental.ConcreteFunction, tokenizer: RowTokenizer, manifest: Manifest
) -> tf.Module:
    """Everything a version serves, as an object that `tf.saved_model.save` takes."""
    served, labels = tasks.find(manifest.task).served, list(manifest.labels)
    columns = ("text", "text_pair") if manifest.has_pairs else ("text",)
    texts = {name: tf.TensorSpec((None,), tf.string, name=name) for name in columns}
    limits = {"max_length": tf.TensorSpec((None,), tf.int32, name="max_length")}
    batch = {name: tf.TensorSpec((None, None), tf.int32, name=name) for name in graph.BATCH_NAMES}

    def tokens(text, text_pair=None, max_length=manifest.max_length):
        return flatten(tokenizer, text, text_pair, max_length=max_length)

    def decode(values):
        return served(values, labels, **manifest.decoding)

    def from_texts(**columns):
        return decode(answer(*tokens(**columns))["scores"])

    def from_limited_texts(max_length, **columns):
        limit = tf.clip_by_value(max_length, SHORTEST_LIMIT, manifest.max_length)
        return decode(answer(*tokens(**columns, max_length=limit))["scores"])

    def from_ids(**ids):
        return decode(answer(*flatten_batch(**ids))["scores"])

    def vector(**columns):
        return {"vector": answer(*tokens(**columns))["vector"]}

    if tasks.gives_lists(manifest.task):
        from_texts, from_limited_texts, from_ids = token_functions(
            answer, tokenizer, manifest
        ).values()
    functions = {
        TEXT_SIGNATURE: (from_texts, texts),
        MAX_LENGTH_SIGNATURE: (from_limited_texts, texts | limits),
        IDS_SIGNATURE: (from_ids, batch),
    }
    if "vector" in answer.structured_outputs:
        functions[VECTOR_SIGNATURE] = (vector, texts)
    module = tf.Module()
    # Only what the graph reads: no state of dropout, no optimizer.
    module.weights = list(answer.variables)
    module.signatures_by_name = {
        name: tf.function(function, autograph=False).get_concrete_function(**specs)
        for name, (function, specs) in functions.items()
    }
    return module


def _save(module: tf.Module, folder: Path, files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as staging:
        assets = []
        for name, content in files.items():
            path = Path(staging, name)
            path.write_bytes(content)
            assets.append(tf.saved_model.Asset(str(path)))
        module.files = assets
        tf.saved_model.save(module, str(folder), signatures=module.signatures_by_name)
