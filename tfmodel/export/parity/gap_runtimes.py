"""Files of tasks that fill gaps, asked in the runtimes they are made for, in a fresh process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmodel.export.gaps import Filler
from tfmodel.export.parity.description import Description
from tfmodel.export.parity.measure import run_client
from tfmodel.export.parity.runtimes import CHECK_ROWS, Asked, padded, refused
from tfmodel.export.tflite.metadata import GAP_INPUT, GAP_OUTPUT
from tfmodel.tasks import fill


def ask_litert_gaps(
    description: Description, texts: Sequence[str], *, timeout_seconds: float
) -> Asked:
    """Ask a TFLite file in LiteRT alone, gap by gap: latency is that of a gap.

    Raises:
        ClientError: it crashes, hangs or cannot be loaded.
    """
    filler, rows = _rows(description, texts)
    asked = [filler.asked(row) for row in rows]
    request = {
        "path": str(description.path),
        "output": GAP_OUTPUT,
        "padding_id": description.tokenizer().vocabulary.padding_id,
        "rows": [
            {
                "ids": each["token_ids"][0].tolist(),
                "segment_ids": each["segment_ids"][0].tolist(),
                GAP_INPUT: each["masked_positions"][0].tolist(),
            }
            for gaps in asked
            for each in gaps
        ],
    }
    told = run_client("ask_litert", request, timeout_seconds=timeout_seconds)
    if told.errors:
        return Asked(None, told.figures, [refused(told)])
    logits = iter(np.asarray(told.answers, np.float32))
    return Asked([filler.values([next(logits) for _ in gaps]) for gaps in asked], told.figures)


def ask_tensorflow_gaps(
    description: Description, texts: Sequence[str], *, timeout_seconds: float
) -> Asked:
    """Ask a SavedModel in TensorFlow: strings one by one, then each signature a batch.

    Raises:
        ClientError: it crashes, hangs or cannot be loaded.
    """
    few = list(texts[:CHECK_ROWS])
    _, rows = _rows(description, few)
    rows = [{"ids": row, "segment_ids": [0] * len(row)} for row in rows]
    checks = {
        "serving_default": {"signature": "serving_default", "inputs": {"text": few}},
        "ids": {"signature": "ids", "inputs": padded(rows)},
    }
    asked = [{"signature": "serving_default", "inputs": {"text": [text]}} for text in texts]
    request = {"path": str(description.path), "rows": asked, "checks": list(checks.values())}
    told = run_client("ask_tensorflow", request, timeout_seconds=timeout_seconds)
    if told.errors:
        return Asked(None, told.figures, [refused(told)])
    failures, others = [], {}
    for number, name in enumerate(checks):
        found = told.checks[number]
        wanted = [each for each in fill.SERVED if name != "ids" or each != "filled"]
        if found is None:
            failures.append(f"signature {name}: {told.check_errors[number]}")
        elif absent := [output for output in wanted if output not in found]:
            failures.append(
                f"signature {name} gives {', '.join(sorted(found))}, not {', '.join(absent)}"
            )
        else:
            others[name] = _values(found)
    if "serving_default" not in others:
        return Asked(None, told.figures, failures)
    values = [each for answer in told.answers for each in _values(answer)]
    for text, answer, gaps in zip(texts, told.answers, values, strict=True):
        (due,) = fill.decode([gaps], texts=[text], **description.manifest.decoding)
        due = due["filled"].encode("utf-8", "replace").decode("utf-8")
        if answer["filled"][0] != due:
            failures.append(f"its filled is {answer['filled'][0]!r} where its tokens say {due!r}")
            break
    return Asked(values, told.figures, failures, others)


def _rows(description: Description, texts: Sequence[str]) -> tuple[Filler, list[list[int]]]:
    """The rows of texts by the tokenizer inside an artifact."""
    manifest = description.manifest
    filler = Filler(
        description.tokenizer(), max_length=manifest.max_length, decoding=manifest.decoding
    )
    return filler, filler.rows([text.encode("utf-8", "replace") for text in texts]).to_list()


def _values(outputs: Mapping[str, Any]) -> list[fill.Gaps]:
    """The task's values, out of a client's named outputs; texts there are no bytes."""
    found = []
    for tokens, scores in zip(outputs["tokens"], outputs["scores"], strict=True):
        rows = [row for row in tokens if row[0]]
        found.append(fill.Gaps(rows, np.asarray(scores[: len(rows)], np.float32)))
    return found
