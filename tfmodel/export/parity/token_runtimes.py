"""Files of tasks that read tokens, asked in the runtimes they are made for, in a fresh process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmodel import tasks
from tfmodel.export.parity.description import Description
from tfmodel.export.parity.measure import Told, run_client
from tfmodel.export.parity.runtimes import CHECK_ROWS, Asked, padded, refused
from tfmodel.export.tflite.metadata import OUTPUT_NAMES
from tfmodel.tokens.windows import WindowRows


def ask_litert_windows(
    description: Description, texts: Sequence[str], *, timeout_seconds: float
) -> Asked:
    """Ask a TFLite file in LiteRT alone, window by window: latency is that of a window.

    Raises:
        ClientError: it crashes, hangs or cannot be loaded.
    """
    windows, rows = _windows(description, texts)
    request = {
        "path": str(description.path),
        "output": OUTPUT_NAMES[description.manifest.output],
        "padding_id": description.tokenizer().vocabulary.padding_id,
        "rows": rows,
    }
    told = run_client("ask_litert", request, timeout_seconds=timeout_seconds)
    if told.errors:
        return Asked(None, told.figures, [refused(told)])
    return Asked(_read(description, windows, told.answers), told.figures)


def ask_tensorflow_tokens(
    description: Description, texts: Sequence[str], *, timeout_seconds: float
) -> Asked:
    """Ask a SavedModel in TensorFlow: strings one by one, then each signature a batch.

    Raises:
        ClientError: it crashes, hangs or cannot be loaded.
    """
    few = list(texts[:CHECK_ROWS])
    limits = {"max_length": [description.manifest.max_length] * len(few)}
    windows, rows = _windows(description, few)
    checks = {
        "serving_default": {"signature": "serving_default", "inputs": {"text": few}},
        "max_length": {"signature": "max_length", "inputs": {"text": few} | limits},
        "ids": {"signature": "ids", "inputs": padded(rows)},
    }
    asked = [{"signature": "serving_default", "inputs": {"text": [text]}} for text in texts]
    request = {"path": str(description.path), "rows": asked, "checks": list(checks.values())}
    told = run_client("ask_tensorflow", request, timeout_seconds=timeout_seconds)
    if told.errors:
        return Asked(None, told.figures, [refused(told)])
    if failures := _missing(told, checks, description):
        return Asked(None, told.figures, failures)
    task = tasks.find(description.manifest.task)
    found = dict(zip(checks, told.checks, strict=True))
    others = {name: _words(found[name], task) for name in ("serving_default", "max_length")}
    others["ids"] = _read(description, windows, found["ids"][task.VALUES])
    values = [words for answer in told.answers for words in _words(answer, task)]
    return Asked(values, told.figures, _inconsistent(told, values, description), others)


def _windows(
    description: Description, texts: Sequence[str]
) -> tuple[WindowRows, list[dict[str, list[int]]]]:
    """The windows of texts by the tokenizer inside an artifact, and each as a row of ids."""
    windows = WindowRows.from_texts(
        description.tokenizer(), texts, max_length=description.manifest.max_length
    )
    tokens = windows.tokens
    rows = [
        {"ids": tokens.ids[start:end].tolist(), "segment_ids": [0] * int(end - start)}
        for start, end in zip(tokens.splits[:-1], tokens.splits[1:], strict=True)
    ]
    return windows, rows


def _read(description: Description, windows: WindowRows, answers: Sequence[Any]) -> list[Any]:
    """The task's values, out of what is said of the tokens of windows, padded or not."""
    flat = np.concatenate(
        [
            np.asarray(each, np.float32)[:length]
            for each, length in zip(answers, windows.tokens.lengths, strict=True)
        ]
    )
    return tasks.find(description.manifest.task).read(windows, description.tokenizer(), flat)


def _words(outputs: Mapping[str, Any], task: Any) -> list[Any]:
    """The task's values, out of a client's named outputs; texts there are no bytes."""
    count = len(outputs["tags"])
    arrays = {
        "tags": np.array([[tag.encode() for tag in row] for row in outputs["tags"]], "S").reshape(
            count, -1
        ),
        "starts": np.asarray(outputs["starts"], np.int32).reshape(count, -1),
        "ends": np.asarray(outputs["ends"], np.int32).reshape(count, -1),
        **{
            name: np.asarray(outputs[name], np.float32)
            for name in ("scores", "emissions")
            if name in outputs
        },
    }
    return task.values_of_served(arrays)


def _missing(told: Told, checks: Mapping[str, Any], description: Description) -> list[str]:
    """In words, which signatures and outputs are not there."""
    task, failures = tasks.find(description.manifest.task), []
    for number, name in enumerate(checks):
        found = told.checks[number]
        wanted = [task.VALUES] if name == "ids" else list(task.SERVED)
        if found is None:
            failures.append(f"signature {name}: {told.check_errors[number]}")
        elif absent := [output for output in wanted if output not in found]:
            failures.append(
                f"signature {name} gives {', '.join(sorted(found))}, not {', '.join(absent)}"
            )
    return failures


def _inconsistent(told: Told, values: Sequence[Any], description: Description) -> list[str]:
    """Whether the tags are the best of their scores that keep to the rules, and where not."""
    from tfmodel.tasks.tag_rules import best_sequences, worth

    tags, decoding = list(description.manifest.labels), description.manifest.decoding
    if any(words.scores.shape[-1:] not in ((0,), (len(tags),)) for words in values):
        return []  # the comparison with the Keras model says so
    place = {tag: index for index, tag in enumerate(tags)}
    best = best_sequences([words.scores for words in values], tags, **decoding)
    for answer, words, path in zip(told.answers, values, best, strict=True):
        given = [tag for tag in answer["tags"][0] if tag]
        if not set(given) <= set(tags):
            return [f"its tags are {given[:5]}, not of {tags[:5]}"]
        chosen = np.array([place[tag] for tag in given], np.int32)
        # Of two as good ones either may be given.
        given, due = (worth(words.scores, each, tags, **decoding) for each in (chosen, path))
        if given < due - 1e-3:
            given, due = ([tags[index] for index in each] for each in (chosen, path))
            return [f"its tags are {given[:8]} where its scores say {due[:8]}"]
    return []
