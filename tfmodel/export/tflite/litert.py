"""Run a `.tflite` on this machine, as a phone would: one row at a time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tfmodel.config import ConfigError
from tfmodel.export.quiet import quiet
from tfmodel.export.tflite.metadata import (
    GAP_INPUT,
    GAP_OUTPUT,
    INPUT_NAMES,
    LOGIT_NAMES,
    OUTPUT_NAMES,
    inputs_beside,
)

BATCH_OF_INPUTS = dict(zip(INPUT_NAMES, ("token_ids", "padding_mask", "segment_ids"), strict=True))
"""What the phone runtimes call each part of a batch, to what it is called elsewhere."""


class LiteRT:
    """A loaded `.tflite` classifier or embedder.

    Args:
        path: a file that `export_tflite` wrote.
        threads: processor threads; all by default.

    Attributes:
        length: tokens a row, always; None where rows are as long as their texts.
        output: `scores` or `vector`.
        takes_gap: whether it is asked for one gap of a row.

    Raises:
        ConfigError: the file is no model, is cut off, or has other inputs and outputs.
    """

    def __init__(self, path: str | Path, *, threads: int | None = None):
        from ai_edge_litert.interpreter import Interpreter

        try:
            with quiet():
                self._interpreter = Interpreter(
                    model_path=str(path), num_threads=threads or os.cpu_count() or 1
                )
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ConfigError(
                f"{path}: expected a TFLite model that LiteRT loads. Received: "
                f"{str(error)[:200]}. Copy or export the file again."
            ) from None
        inputs = {tensor["name"]: tensor for tensor in self._interpreter.get_input_details()}
        outputs = {tensor["name"]: tensor for tensor in self._interpreter.get_output_details()}
        meanings = [meaning for meaning, name in OUTPUT_NAMES.items() if {name} == set(outputs)]
        names = list(outputs)
        if set(outputs) == set(LOGIT_NAMES):
            meanings, names = ["scores"], list(LOGIT_NAMES)
        if set(outputs) == {GAP_OUTPUT}:
            meanings = ["scores"]
        if set(inputs) != set(inputs_beside(outputs)) or not meanings:
            raise ConfigError(
                f"{path}: expected inputs {', '.join(INPUT_NAMES)} and one output of "
                f"{', '.join(OUTPUT_NAMES.values())} (or {', '.join(LOGIT_NAMES)}), as "
                "`tfmodel export` writes them. Received: "
                f"inputs {', '.join(inputs)} and outputs {', '.join(outputs)}."
            )
        self._inputs = {
            BATCH_OF_INPUTS[name]: inputs[name]["index"] for name in inputs if name != GAP_INPUT
        }
        self.takes_gap = GAP_INPUT in inputs
        self._gap = inputs[GAP_INPUT]["index"] if self.takes_gap else None
        (self.output,) = meanings
        self._outputs = [outputs[name]["index"] for name in names]
        ids = inputs[INPUT_NAMES[0]]
        self._allocated = int(ids["shape"][1])
        self.length = None if ids["shape_signature"][1] == -1 else self._allocated

    def __call__(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """Answer a batch.

        Args:
            batch: `token_ids`, `segment_ids` and `padding_mask`, int32 (B, T); T is `length`
                where that is given. Else each row runs at the length of its own text. Of one that
                fills gaps `masked_positions` too, int32 (B, 1).

        Returns:
            Probabilities, float32 (B, C), or vectors, float32 (B, D); of a task that reads tokens
            probabilities (B, T, C), or logits (B, T, 2), those of padding included; of one that
            fills gaps logits (B, V).
        """
        answers = []
        for row in range(len(batch["token_ids"])):
            length = self.length or max(int(np.count_nonzero(batch["padding_mask"][row])), 1)
            self._allocate(length)
            for name, index in self._inputs.items():
                self._interpreter.set_tensor(index, batch[name][row : row + 1, :length])
            if self.takes_gap:
                self._interpreter.set_tensor(self._gap, batch["masked_positions"][row : row + 1])
            self._interpreter.invoke()
            found = [self._interpreter.get_tensor(output)[0] for output in self._outputs]
            answers.append(found[0] if len(found) == 1 else np.stack(found, axis=-1))
        if answers[0].ndim == 2:  # rows at the length of their own text
            longest = max(map(len, answers))
            answers = [np.pad(each, [(0, longest - len(each)), (0, 0)]) for each in answers]
        return np.stack(answers)

    def _allocate(self, length: int) -> None:
        """Plan for rows of another length; what XNNPACK made of the weights stays."""
        if length != self._allocated:
            for index in self._inputs.values():
                self._interpreter.resize_tensor_input(index, (1, length))
            self._interpreter.allocate_tensors()
            self._allocated = length
