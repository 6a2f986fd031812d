"""Long texts asked in windows, whatever answers the windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfmodel import tasks
from tfmodel.export.manifest import Manifest
from tfmodel.export.predictor import Answer
from tfmodel.tokens.row_tokenizer import RowTokenizer
from tfmodel.tokens.windows import WindowRows

_WINDOWS_AT_ONCE = 32


def windows_answer(
    ask: Callable[[Mapping[str, np.ndarray]], np.ndarray],
    tokenizer: RowTokenizer,
    manifest: Manifest,
    *,
    length: int | None = None,
) -> Answer:
    """Answer texts by a model that answers the tokens of windows.

    Args:
        ask: a batch of windows, int32 (W, T) each, to what is said of each token, (W, T, C).
        tokenizer: the tokenizer the model was trained with.
        manifest: names the task, and the longest window.
        length: tokens that every window is padded to; by default the longest of its batch.

    Returns:
        A function of texts that gives the task's values, one a text.
    """
    task = tasks.find(manifest.task)

    def answer(texts: list[str], text_pairs: list[str] | None) -> list[Any]:
        windows = WindowRows.from_texts(tokenizer, texts, max_length=manifest.max_length)
        lengths = windows.tokens.lengths
        order = np.argsort(lengths, kind="stable")
        found: list[Any] = [None] * len(order)
        for start in range(0, len(order), _WINDOWS_AT_ONCE):
            rows = order[start : start + _WINDOWS_AT_ONCE]
            batch = windows.tokens.batch(rows)
            missing = 0 if length is None else length - batch["token_ids"].shape[1]
            if missing > 0:
                filling = {"token_ids": tokenizer.vocabulary.padding_id}
                batch = {
                    name: np.pad(
                        values, [(0, 0), (0, missing)], constant_values=filling.get(name, 0)
                    )
                    for name, values in batch.items()
                }
            for row, given in zip(rows, ask(batch), strict=True):
                found[row] = np.asarray(given)[: lengths[row]]
        return task.read(windows, tokenizer, np.concatenate(found))

    return answer
