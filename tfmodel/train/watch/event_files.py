"""TensorBoard's event files, written without TensorFlow's summary operations."""

from __future__ import annotations

import itertools
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tfmodel.train.watch.tracker import Value

MARKDOWN = re.compile(r"[\\`*_{}\[\]()#+\-.!|~<>&\"']")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]+")
_OVERLAID = ("train", "dev")
_FLUSH_SECONDS = 5


class EventFiles:
    """A `Tracker` that writes what TensorBoard reads.

    `train/NAME` and `dev/NAME` become `metrics/NAME` of the runs `train` and `dev`, so that both
    are drawn over each other; pictures of theirs become `pictures/NAME`, tables `texts/NAME`; all
    else keeps its name in the run `train`. The settings, and the figures of the weights kept, are
    in the folder itself, where the HParams dashboard finds them.

    Args:
        folder: what `tensorboard --logdir` is given.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._writers: dict[str, object] = {}

    def start(self, config: Mapping[str, Value], *, step: int) -> None:
        """Open the files, take back what came after `step`, and write the settings."""
        from tensorboard.plugins.hparams import api

        self._begun_at = step
        for run in ("", *_OVERLAID):
            if (self.folder / run).is_dir() and any((self.folder / run).glob("*tfevents*")):
                self._writer(run)
        place = self.folder.resolve()
        trial = place.parent.name if place.name == "logs" else place.name
        settings = api.hparams_pb(dict(config), trial_id=trial)
        self._add("", step, settings)
        self._writer("").flush()

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures of a step."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        by_run: dict[str, Summary] = {}
        for name, value in figures.items():
            part, _, rest = name.partition("/")
            overlaid = part in _OVERLAID
            run, tag = (part, f"metrics/{rest}") if overlaid else ("train", name)
            by_run.setdefault(run, Summary()).MergeFrom(scalar_pb(tag, value))
        for run, summary in by_run.items():
            self._add(run, step, summary)
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()

    def image(self, step: int, name: str, png: bytes) -> None:
        """Write a picture."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.image import metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        run, tag = _place(name, "pictures")
        width, height = (str(int.from_bytes(png[at : at + 4], "big")) for at in (16, 20))
        value = Summary.Value(
            tag=tag,
            metadata=metadata.create_summary_metadata(
                display_name=None, description="", converted_to_tensor=True
            ),
            tensor=make_tensor_proto([width.encode(), height.encode(), png]),
        )
        self._add(run, step, Summary(value=[value]))

    def table(self, step: int, name: str, rows: Sequence[Mapping[str, Value]]) -> None:
        """Write rows as a list in Markdown."""
        from tensorboard.plugins.text.summary_v2 import text_pb

        run, tag = _place(name, "texts")
        self._add(run, step, text_pb(tag, markdown_list(rows)))

    def flush(self) -> None:
        """Hand everything to the operating system."""
        for writer in self._writers.values():
            writer.flush()
        self._flushed = time.monotonic()

    def finish(self, figures: Mapping[str, float]) -> None:
        """Write the figures of the HParams dashboard, and close the files."""
        from tensorboard.plugins.hparams import summary
        from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        for name, value in figures.items():
            self._add("", self._last_step, scalar_pb(f"weights_kept/{name}", value))
        self._add("", self._last_step, summary.session_end_pb(STATUS_SUCCESS))
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _add(self, run: str, step: int, summary) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        # Its classes may come from another module of the same message.
        summary = Summary.FromString(summary.SerializeToString())
        self._writer(run).add_event(Event(wall_time=time.time(), step=step, summary=summary))
        self._last_step = step

    def _writer(self, run: str):
        if run not in self._writers:
            from tensorboard.compat.proto.event_pb2 import Event, SessionLog

            self._flushed = time.monotonic()
            writer = _EventFile(self.folder / run)
            # Of two such marks TensorBoard takes the second for a restart at its step, and
            # forgets what was written of that step and later ones.
            mark = SessionLog(status=SessionLog.START)
            event = Event(wall_time=time.time(), step=self._begun_at + 1, session_log=mark)
            writer.add_event(event)
            self._writers[run] = writer
        return self._writers[run]


class _EventFile:
    """A file of events that are written where they are added.

    TensorBoard's own writer has a thread of its own, whose failures nobody can catch.

    Args:
        folder: made where there is none.
    """

    _count = itertools.count()

    def __init__(self, folder: Path):
        import tensorflow as tf
        from tensorboard.compat.proto.event_pb2 import Event

        folder.mkdir(parents=True, exist_ok=True)
        name = f"{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(self._count)}"
        self._file = tf.io.TFRecordWriter(str(folder / f"events.out.tfevents.{name}"))
        self.add_event(Event(wall_time=time.time(), file_version="brain.Event:2"))
        self.flush()

    def add_event(self, event) -> None:
        self._file.write(event.SerializeToString())

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _place(name: str, group: str) -> tuple[str, str]:
    """The run, and the name in it, of what is no curve."""
    part, _, rest = name.partition("/")
    return (part, f"{group}/{rest}") if part in _OVERLAID else ("train", name)


def one_line(text: str, *, characters: int) -> str:
    """A text as one line without control characters, cut to `characters`."""
    line = " ".join(_CONTROL.sub(" ", str(text)).split())
    return line if len(line) <= characters else line[: characters - 1].rstrip() + "…"


def markdown_list(rows: Sequence[Mapping[str, Value]], *, characters: int = 300) -> str:
    """Rows as a list in Markdown in which texts stay what they are.

    A table it is not: beside long texts TensorBoard breaks short columns letter by letter.

    Args:
        rows: values by name; those whose name begins with `text` get a paragraph each.
        characters: of a text shown.
    """
    if not rows:
        return "none"

    def escaped(value: Value) -> str:
        if isinstance(value, float):
            value = f"{value:.3f}"
        line = one_line(str(value), characters=characters)
        return MARKDOWN.sub(lambda found: f"&#{ord(found[0])};", line) or "&nbsp;"

    items = []
    for row in rows:
        short = [f"{n} **{escaped(v)}**" for n, v in row.items() if not n.startswith("text")]
        texts = [escaped(value) for name, value in row.items() if name.startswith("text")]
        items.append("- " + "\n\n    ".join([", ".join(short), *texts]))
    return "\n\n".join(items)
