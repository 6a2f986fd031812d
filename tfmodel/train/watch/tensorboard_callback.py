"""TensorBoard as the place where a training is watched."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfmodel.train.watch import answers
from tfmodel.train.watch.event_files import EventFiles
from tfmodel.train.watch.projector import write_projector
from tfmodel.train.watch.settings import check_profile_steps
from tfmodel.train.watch.tracker import Tracker
from tfmodel.train.watch.vectors import Embed
from tfmodel.train.watch.watching import Watch

_log = logging.getLogger(__name__)


class TensorBoard(Watch):
    """`Watch` with TensorBoard: its projector and the profile of chosen steps too.

    Args:
        folder: what `tensorboard --logdir` is given. It holds the settings and the figures kept,
            the folders `train` and `dev` under it the curves.
        trackers: other places to watch from.
        profile_steps: the first and the last step to profile, counted from 1; None: none. The
            dashboard needs the extra `profile`.
        embed: texts and second texts to vectors, for the projector of dev rows (see
            `sentence_vectors`); None: no projector.
        projector_rows: dev rows in it, spread evenly over all.
        **watch: what else `Watch` takes.

    Example:
        >>> board = tm.callbacks.TensorBoard("logs", config={"learning_rate": 2e-4})
        >>> tm.TrainingModel(model).fit(batches, epochs=3, callbacks=[board])
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        trackers: Sequence[Tracker] = (),
        profile_steps: tuple[int, int] | None = None,
        embed: Embed | None = None,
        projector_rows: int = 200,
        **watch,
    ):
        super().__init__([EventFiles(folder), *trackers], **watch)
        if profile_steps is not None:
            check_profile_steps(profile_steps)
        self.folder = Path(folder)
        self.profile_steps = profile_steps
        self.embed = embed
        self.projector_rows = projector_rows
        self._profiling = False
        self._trace: tf.profiler.experimental.Trace | None = None

    def on_train_batch_begin(self, batch, logs=None):
        """Begin the profile where it is asked for."""
        if self.profile_steps is not None:
            first, last = self.profile_steps
            if self._step + 1 == first:
                self._begin_profile()
            if self._profiling:
                self._trace = tf.profiler.experimental.Trace("train", step_num=self._step + 1, _r=1)
                self._trace.__enter__()
        super().on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        """End the profile after its last step."""
        super().on_train_batch_end(batch, logs)
        if self._profiling:
            self._trace.__exit__(None, None, None)
            if self._step >= self.profile_steps[1]:
                self._end_profile()

    def close(self) -> None:
        """Write everything, the profile too."""
        if self._profiling:
            self._end_profile()
        super().close()

    def _begin_profile(self) -> None:
        try:
            tf.profiler.experimental.start(str(self.folder / "train"))
            self._profiling = True
        except tf.errors.AlreadyExistsError:
            _log.warning(
                "no profile of steps %d to %d: another is being taken", *self.profile_steps
            )

    def _end_profile(self) -> None:
        self._profiling = False
        tf.profiler.experimental.stop()
        self._last_end = None  # writing it is no part of a step

    def _finish(self) -> None:
        dev = self.dev
        if self.embed is None or not self.projector_rows or dev is None or dev.texts is None:
            return
        rows = np.unique(np.linspace(0, len(dev) - 1, self.projector_rows).round().astype(int))
        texts = [dev.texts[row] for row in rows]
        pairs = None if dev.text_pairs is None else [dev.text_pairs[row] for row in rows]
        columns = answers.described(dev, self._kept_answers)
        metadata = {name: [words[row] for row in rows] for name, words in columns.items()}
        metadata["text"] = texts
        if pairs is not None:
            metadata["text_pair"] = pairs
        write_projector(self.folder / "dev", "sentences", self.embed(texts, pairs), metadata)
