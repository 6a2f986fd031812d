"""ONNX: the graph in one file, and beside it the tokenizer as Hugging Face's tools read it.

The graph is written from the layers, in standard operators: the converters that exist trace
TensorFlow, and what they give does not load (docs/LOG.md).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.export.card import card_files
from tfmodel.export.graph import batch_function, check_exportable, positions_of
from tfmodel.export.manifest import (
    MANIFEST_FILE,
    TOKENIZER_FILES,
    Manifest,
    files_of,
    read_files,
    read_tokenizer,
)
from tfmodel.export.onnx.graph import (
    ENDS,
    INPUTS,
    OUTPUT,
    VECTOR,
    classifier_graph,
    tokens_graph,
    vector_graph,
)
from tfmodel.export.onnx.tokenizer import OWN_FILE, TOKENIZER_FILE, tokenizer_json
from tfmodel.export.places import make_folder
from tfmodel.export.predictor import Predictor
from tfmodel.export.settings import ExportSettings
from tfmodel.export.spans import Spans, filled
from tfmodel.export.trained import Trained
from tfmodel.export.weights import read_classifier, read_tokens_model, read_vector_model
from tfmodel.export.windows import windows_answer
from tfmodel.model.checkpoints import CONFIG_FILE
from tfmodel.model.encoder import encoder_config
from tfmodel.model.families import FAMILIES
from tfmodel.run_folder import write_aside
from tfmodel.tasks.readings import reading_of
from tfmodel.tasks.sequence_head import huggingface_head
from tfmodel.tasks.span_windows import DOC_STRIDE, MAX_QUERY_LENGTH
from tfmodel.tasks.token_head import id_labels
from tfmodel.tokens.row_tokenizer import RowTokenizer
from tfmodel.tokens.windows import overlap_of

NAME = "onnx"
MODEL_FILE = "model.onnx"

_LARGEST_BYTES = 2**31 - 2**20  # of a protobuf, less what is not weights
_EXTRA = "pip install 'tfmodel[onnx]'"
_BATCH_OF_INPUTS = dict(
    zip(INPUTS, ("token_ids", "padding_mask", "segment_ids"), strict=True),
)


def export_onnx(
    model: keras.Model,
    tokenizer: RowTokenizer,
    folder: str | Path,
    *,
    labels: Sequence[str],
    max_length: int,
    has_pairs: bool = False,
    task: str = "classify",
    decoding: Mapping[str, Any] | None = None,
) -> Path:
    """Write a model as `model.onnx`, in a folder as Hugging Face's tools expect it.

    Args:
        model: float32 model of a task on an encoder from `build_encoder`.
        tokenizer: the tokenizer the model was trained with.
        folder: replaced as a whole, once everything is written.
        labels: the name of each output: of `classify` the classes, in the order of the logits.
        max_length: tokens a row at most; `tokenizer.json` cuts to it.
        has_pairs: whether a row is two texts.
        task: one of `tasks.TASKS`.
        decoding: what the task's answers are decoded by beside the labels.

    Returns:
        `folder`: `model.onnx` takes `input_ids`, `attention_mask` and, of an encoder with
        segments, `token_type_ids`, int64 (B, T), and gives `logits`, float32 (B, C): of `regress`
        the number, of `tag` (B, T, C); of `span` `start_logits` and `end_logits` (B, T), of
        `embed` `sentence_embedding` (B, D). `tokenizer.json` makes the inputs with
        `tokenizers.Tokenizer.from_file`, of `tag` and `span` in windows, the further ones as
        `overflowing`; `config.json` names the labels.

    Raises:
        ConfigError: the package onnx is missing, labels or `max_length` do not fit the model, it
            is not one of ours, or it is larger than 2 GB.
        OSError: the disk is full.

    Example:
        >>> export_onnx(model, tokenizer, "served", labels=["no", "yes"], max_length=128)
        PosixPath('served')
    """
    import_extra("onnx")
    check_exportable(
        model,
        labels=labels,
        max_length=max_length,
        positions=positions_of(model),
        task=task,
        decoding=decoding,
    )
    manifest = Trained(
        model,
        tokenizer,
        labels,
        max_length,
        has_pairs,
        task=task,
        decoding=decoding or {},
    ).manifest()
    proto, config = _written(model, manifest)
    folder = Path(folder)
    make_folder(folder.parent)
    with write_aside(folder, replace=True) as aside:
        aside.mkdir(parents=True, exist_ok=True)
        of_its_length = copy.copy(tokenizer)
        of_its_length.max_length = max_length
        of_its_length.save(aside)
        for name, content in files_of(manifest, of_its_length).items():
            (aside / name).write_bytes(content)
        if manifest.tokenizer == "unigram":
            (aside / TOKENIZER_FILE).rename(aside / OWN_FILE)
        for name, values in (
            (CONFIG_FILE, config),
            (TOKENIZER_FILE, tokenizer_json(tokenizer, **_cut(tokenizer, manifest))),
        ):
            text = json.dumps(values, ensure_ascii=False, indent=2)
            (aside / name).write_text(text + "\n", "utf-8")
        (aside / MODEL_FILE).write_bytes(proto.SerializeToString())
    return folder


def _written(model: keras.Model, manifest: Manifest) -> tuple[Any, dict[str, Any]]:
    """The ONNX model, and what `config.json` says of it."""
    task, labels = tasks.find(manifest.task), manifest.labels
    known = {"door": "ONNX", "families": tuple(FAMILIES)}
    made: dict[str, Any] = {"producer": manifest.version}
    if task.ANSWERS == "vectors":
        shape, tensors, pooling = read_vector_model(model, **known)
        write = vector_graph
        made |= {"pooling": pooling.pooling, "normalize": pooling.normalize}
    elif tasks.reads_tokens(manifest.task):
        shape, tensors = read_tokens_model(model, **known)
        write = tokens_graph
        made |= {"classes": len(labels), "apart": ENDS if task.ANSWERS == "span" else ()}
    else:
        shape, tensors = read_classifier(model, takes_readings=True, **known)
        write = classifier_graph
        made |= {"classes": len(labels), "reading": reading_of(model)}
    if (size := sum(value.nbytes for value in tensors.values())) > _LARGEST_BYTES:
        raise ConfigError(
            "ONNX: expected a model of at most 2 GB, which is what one file can hold. Received: "
            f"one of {size:,} bytes. Export it as a SavedModel."
        )
    architecture = "BertModel" if task.ANSWERS == "vectors" else task.ARCHITECTURE
    head = {"architectures": [FAMILIES[shape.family].named(architecture)]}
    if task.ANSWERS == "spans":
        head |= id_labels(labels)
    elif write is classifier_graph:
        head = huggingface_head(labels, task.PROBLEM_TYPE, family=shape.family)
    return write(shape, tensors, **made), {**shape.to_huggingface(), **head}


def _cut(tokenizer: RowTokenizer, manifest: Manifest) -> dict[str, Any]:
    """How `tokenizer.json` cuts longer texts."""
    limit, answers = manifest.max_length, tasks.find(manifest.task).ANSWERS
    if answers == "spans":
        return {"max_length": limit, "overlap": overlap_of(limit)}
    if answers == "span":
        room = limit - 2 - tokenizer.ends_between - _longest_question(tokenizer, manifest)
        overlap = max(room - manifest.decoding.get("doc_stride", DOC_STRIDE), 0)
        return {"max_length": limit, "overlap": overlap, "only_second": True}
    return {"max_length": limit}


def _longest_question(tokenizer: RowTokenizer, manifest: Manifest) -> int:
    """Tokens that a question is cut to before its context; here no question is cut."""
    room = manifest.max_length - 3 - tokenizer.ends_between
    return max(min(manifest.decoding.get("max_query_length", MAX_QUERY_LENGTH), room), 0)


def write_artifacts(
    settings: ExportSettings, trained: Trained, aside: Path, tell: Callable[[str], None]
) -> dict[str, Path]:
    """The ONNX folder, where the settings ask for it: name to folder below `aside`.

    Raises:
        ConfigError: as `export_onnx` and `require_extra`: what was not asked in ONNX Runtime is
            not published.
        RuntimeError: `tokenizer.json` gives other ids than the tokenizer it was made from.
    """
    if not settings.onnx:
        return {}
    require_extra(settings)
    tell("writing ONNX")
    folder = export_onnx(trained.model, trained.tokenizer, aside / NAME, **trained.described)
    texts, pairs = list(trained.calibration_texts), trained.calibration_pairs
    differ = token_skew(folder, texts, pairs) if texts else 0
    if differ > max(1, len(texts) // 100):  # as many may name a special token
        raise RuntimeError(
            f"ONNX: expected {TOKENIZER_FILE} to give the ids of training. Received: others on "
            f"{differ} of {len(texts)} texts. This is a fault of tfmodel's; report it with the "
            "tokenizer's vocabulary."
        )
    for name, content in card_files(
        trained, precision="float32", signatures={}, call=_call(trained)
    ).items():
        (folder / name).write_bytes(content)
    return {NAME: folder}


def _call(trained: Trained) -> str:
    """How the folder is asked, in Markdown."""
    row = '("some text", "another")' if trained.has_pairs else '"some text"'
    answers = tasks.find(trained.task).ANSWERS
    outputs, reads = _outputs(trained.task), _READS[answers]
    if "transitions" in trained.decoding:
        reads += f"; words get their tags together, with the transitions in {MANIFEST_FILE}"
    segments = ""
    if encoder_config(trained.model.get_layer("encoder")).segments > 1:
        segments = '    "token_type_ids": numpy.array([row.type_ids for row in rows]),\n'
    windows, width = "", f"(rows, {len(trained.labels)})"
    if answers == "vectors":
        width = "(rows, numbers)"
    elif tasks.reads_tokens(trained.task):
        windows = "rows = [each for row in rows for each in (row, *row.overflowing)]  # windows\n"
        width = "(rows, tokens)" if len(outputs) > 1 else f"(rows, tokens, {len(trained.labels)})"
    names, asked = ", ".join(outputs), ", ".join(f'"{name}"' for name in outputs)
    only = "[0]" if len(outputs) == 1 else ""
    return f"""
```python
import numpy, onnxruntime, tokenizers

rows = tokenizers.Tokenizer.from_file("{TOKENIZER_FILE}").encode_batch([{row}])
{windows}session = onnxruntime.InferenceSession("{MODEL_FILE}")
{names} = session.run([{asked}], {{
    "input_ids": numpy.array([row.ids for row in rows]),
    "attention_mask": numpy.array([row.attention_mask for row in rows]),
{segments}}}){only}  # {reads}
```

Inputs are int64 (rows, tokens), {"the output is" if only else "outputs are"} float32 {width}; any \
number of rows and tokens.
"""


_READS = {
    "classes": "softmax gives the scores, in the order of labels.txt",
    "number": "the number",
    "sets": "a sigmoid gives the scores, in the order of labels.txt",
    "spans": "softmax gives the scores of each token, in the order of labels.txt",
    "span": "the answer is where the sum of both is highest, from row.offsets of both tokens",
    "vectors": "a vector a row",
}


def _outputs(task: str) -> list[str]:
    """What `model.onnx` gives."""
    own = {"span": [*ENDS], "vectors": [VECTOR]}
    return own.get(tasks.find(task).ANSWERS, [OUTPUT])


def require_extra(settings: ExportSettings) -> None:
    """Refuse to begin an export that could not be checked.

    Raises:
        ConfigError: ONNX is asked for, and a package of the extra is not installed.
    """
    for package in ("onnx", "onnxruntime", "tokenizers") if settings.onnx else ():
        import_extra(package)


def import_extra(package: str) -> Any:
    """Import a package of the extra.

    Raises:
        ConfigError: it is not installed.
    """
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"ONNX: expected the package {package}. Received: none ({error}). Install it: "
            f"{_EXTRA}; or leave it out: export.onnx=false."
        ) from None


# --- reading it back ----------------------------------------------------------------------


def load_onnx(folder: Path, *, threads: int | None = None) -> Predictor:
    """Load a folder that `export_onnx` wrote, in ONNX Runtime.

    The predictor feeds it the ids of the training's tokenizer, as `load` does with a `.tflite`:
    `token_skew` counts the texts to which `tokenizer.json` gives others.

    Args:
        folder: the folder.
        threads: processor threads; all by default.

    Raises:
        ConfigError: ONNX Runtime is missing or refuses the file, or the folder is not ours.
    """
    from tfmodel.export.artifacts import _utf8

    manifest, tokenizer = _read(folder)
    task, outputs = tasks.find(manifest.task), _outputs(manifest.task)
    session = _session(folder / MODEL_FILE, threads, outputs)

    def run(batch: Mapping[str, np.ndarray]) -> np.ndarray:
        feed = {
            each.name: np.asarray(batch[_BATCH_OF_INPUTS[each.name]], np.int64)
            for each in session.get_inputs()
        }
        found = session.run(outputs, feed)
        return found[0] if len(found) == 1 else np.stack(found, axis=-1)

    if task.ANSWERS == "span":
        spans = Spans(tokenizer, max_length=manifest.max_length, decoding=manifest.decoding)
        ask = spans.ask(run, None)

        def answer(texts: list[str], text_pairs: list[str] | None) -> np.ndarray:
            return ask(*_utf8(texts, text_pairs))
    elif tasks.gives_lists(manifest.task):
        answer = windows_answer(lambda batch: task.values(run(batch)), tokenizer, manifest)
    else:
        tokenize = batch_function(
            tokenizer, max_length=manifest.max_length, has_pairs=manifest.has_pairs
        ).get_concrete_function()

        def answer(texts: list[str], text_pairs: list[str] | None) -> np.ndarray:
            return task.values(run(tokenize(*_utf8(texts, text_pairs))))

    return Predictor(answer, manifest, kind=NAME, where=str(folder))


def token_skew(
    folder: str | Path, texts: Sequence[str], text_pairs: Sequence[str] | None = None
) -> int:
    """How many rows `tokenizer.json` gives other ids than the training's tokenizer.

    Args:
        folder: a folder that `export_onnx` wrote.
        texts: n texts.
        text_pairs: n second texts, for a model of pairs.

    Returns:
        A number from 0 to n. Of `span` the first window of each is compared, where its question is
        not cut.

    Raises:
        ConfigError: `tokenizers` is missing, or the folder is not ours.
    """
    folder = Path(folder)
    manifest, tokenizer = _read(folder)
    theirs = import_extra("tokenizers").Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    if tasks.find(manifest.task).ANSWERS == "span":
        ours, texts, text_pairs = _first_windows(tokenizer, manifest, texts, text_pairs)
    else:
        ours = {name: values.numpy() for name, values in tokenizer(texts, text_pairs).items()}
    rows = list(texts) if text_pairs is None else list(zip(texts, text_pairs, strict=True))
    encoded = theirs.encode_batch(rows)
    ours = {name: values.tolist() for name, values in ours.items()}
    return sum(
        row.ids != ids or row.attention_mask != mask or row.type_ids != segments
        for row, ids, mask, segments in zip(
            encoded, ours["token_ids"], ours["padding_mask"], ours["segment_ids"], strict=True
        )
    )


def _first_windows(
    tokenizer: RowTokenizer,
    manifest: Manifest,
    questions: Sequence[str],
    contexts: Sequence[str],
) -> tuple[dict[str, np.ndarray], list[str], list[str]]:
    """The first window of each question that is not cut, as training reads it; and those rows."""
    from tfmodel.export.artifacts import _utf8

    most = _longest_question(tokenizer, manifest)
    (texts,) = _utf8(list(questions))
    kept = np.flatnonzero(tokenizer.tokenize(texts).row_lengths().numpy() <= most)
    questions, contexts = [questions[row] for row in kept], [contexts[row] for row in kept]
    spans = Spans(tokenizer, max_length=manifest.max_length, decoding=manifest.decoding)
    windows = spans.windows(*_utf8(questions, contexts))
    batch = {name: values.numpy() for name, values in windows.batch().items()}
    first = np.flatnonzero(np.diff(windows.rows.numpy(), prepend=-1))
    batch = {
        name: values[first]
        for name, values in filled(batch, None, tokenizer.vocabulary.padding_id).items()
    }
    return batch, questions, contexts


def _read(folder: Path) -> tuple[Manifest, RowTokenizer]:
    files = {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.is_file() and path.name != MODEL_FILE
    }
    manifest = read_files(files, name=str(folder))
    own = files
    if manifest.tokenizer == "unigram":
        own = {**files, TOKENIZER_FILE: files.get(OWN_FILE, files[TOKENIZER_FILE])}
    tokenizer = read_tokenizer(own, manifest, name=str(folder))
    try:
        found = json.loads(files[TOKENIZER_FILE])
    except (KeyError, ValueError) as error:
        found = f"none that can be read ({error!r})"
    if found != tokenizer_json(tokenizer, **_cut(tokenizer, manifest)):
        told = f"{MANIFEST_FILE} and {TOKENIZER_FILES[manifest.tokenizer][0]}"
        raise ConfigError(
            f"{folder / TOKENIZER_FILE}: expected the tokenizer that {told} tell of. Received: "
            f"{found if isinstance(found, str) else 'another'}. Export it again."
        )
    return manifest, tokenizer


def _session(path: Path, threads: int | None, expected: Sequence[str]) -> Any:
    runtime = import_extra("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except MemoryError:
        raise
    except Exception as error:  # of types that ONNX Runtime does not export
        raise ConfigError(
            f"{path}: expected a model that ONNX Runtime {runtime.__version__} loads. Received: "
            f"{' '.join(str(error).split())[:300]}. Copy or export it again."
        ) from None
    inputs = [each.name for each in session.get_inputs()]
    outputs = [each.name for each in session.get_outputs()]
    if not {*INPUTS[:2]} <= {*inputs} <= {*INPUTS} or outputs != [*expected]:
        raise ConfigError(
            f"{path}: expected inputs {', '.join(INPUTS)} and the output "
            f"{', '.join(expected)}. Received: inputs {', '.join(inputs)} and outputs "
            f"{', '.join(outputs)}. Export it again."
        )
    return session
