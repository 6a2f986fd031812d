"""Run a `.tflite` on this machine, as a phone would: one row at a time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tfmodel.config import ConfigError
from tfmodel.export.metadata import INPUT_NAMES, OUTPUT_NAME
from tfmodel.export.quiet import quiet

BATCH_OF_INPUTS = dict(zip(INPUT_NAMES, ("token_ids", "padding_mask", "segment_ids"), strict=True))


class LiteRT:
    """A loaded `.tflite` classifier.

    Args:
        path: a file that `export_tflite` wrote.
        threads: processor threads; all by default.

    Attributes:
        length: tokens a row, always.

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
        if set(inputs) != set(INPUT_NAMES) or set(outputs) != {OUTPUT_NAME}:
            raise ConfigError(
                f"{path}: expected inputs {', '.join(INPUT_NAMES)} and the output {OUTPUT_NAME}, "
                f"as `tfmodel export` writes them. Received: inputs {', '.join(inputs)} and "
                f"outputs {', '.join(outputs)}."
            )
        self._inputs = {BATCH_OF_INPUTS[name]: inputs[name]["index"] for name in inputs}
        self._output = outputs[OUTPUT_NAME]["index"]
        self.length = int(inputs[INPUT_NAMES[0]]["shape"][1])

    def __call__(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """Answer a batch.

        Args:
            batch: `token_ids`, `segment_ids` and `padding_mask`, int32 (B, length).

        Returns:
            Probabilities, float32 (B, C).
        """
        scores = []
        for row in range(len(batch["token_ids"])):
            for name, index in self._inputs.items():
                self._interpreter.set_tensor(index, batch[name][row : row + 1])
            self._interpreter.invoke()
            scores.append(self._interpreter.get_tensor(self._output)[0])
        return np.stack(scores)
