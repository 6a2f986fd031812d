"""What TFLite files are converted from, traced once for all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from tfmodel import tasks
from tfmodel.export import graph
from tfmodel.export.gaps import gap_logits
from tfmodel.export.quiet import quiet
from tfmodel.export.tflite.litert import BATCH_OF_INPUTS
from tfmodel.export.tflite.phone_graph import phone_module
from tfmodel.export.tflite.variants import CalibrationRows
from tfmodel.export.trained import Trained


class Traced:
    """A model's graphs, each traced and saved once: several files are made of one.

    Args:
        trained: the model.
        folder: where SavedModels may be put meanwhile.
    """

    def __init__(self, trained: Trained, folder: Path):
        self.trained = trained
        self._folder = folder
        self._saved: dict[tuple, tuple[str, tf.Module]] = {}
        self._answers: dict[str, tf.types.experimental.ConcreteFunction] = {}
        graph.check_float32(self.answer("scores"))

    def answer(self, output: str) -> tf.types.experimental.ConcreteFunction:
        """What the model says to a batch."""
        if output not in self._answers:
            model, task = self.trained.model, self.trained.task
            if output == "vector":
                function = graph.vector_function(model)
            elif tasks.fills_gaps(task):
                function = gap_logits(model)
            else:
                function = graph.scores_function(model, task)
            self._answers[output] = function.get_concrete_function()
        return self._answers[output]

    def saved(self, *, is_dynamic: bool, output: str, small_tables: bool) -> tuple[str, tf.Module]:
        """The SavedModel that files are converted from, and what was saved.

        Converting the function itself drops the weights of a Keras 3 model without a word; by
        way of a SavedModel they stay.
        """
        key = (is_dynamic, output, small_tables)
        if key not in self._saved:
            module = phone_module(
                self.trained.model,
                max_length=self.trained.max_length,
                is_dynamic=is_dynamic,
                output=output,
                task=self.trained.task,
                small_tables=small_tables,
            )
            place = str(self._folder / str(len(self._saved)))
            with quiet():
                tf.saved_model.save(module, place, signatures={"serving_default": module.serve})
            self._saved[key] = (place, module)
        return self._saved[key]

    def calibration(self) -> CalibrationRows:
        """Real rows, filled up with themselves: what padding gives must not set a range."""
        trained, length = self.trained, self.trained.max_length
        tokenize = graph.batch_function(
            trained.tokenizer, max_length=length, has_pairs=trained.has_pairs, length=length
        )
        columns = [trained.calibration_texts, trained.calibration_pairs]
        batch = tokenize(*(tf.constant(list(column)) for column in columns if column is not None))
        mask = batch["padding_mask"].numpy()
        rows = {name: batch[key].numpy() for name, key in BATCH_OF_INPUTS.items()}
        return [
            {
                name: np.resize(values[row, : max(np.count_nonzero(mask[row]), 1)], (1, length))
                for name, values in rows.items()
            }
            | {"mask": mask[row : row + 1]}
            for row in range(len(mask))
        ]
