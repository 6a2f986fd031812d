"""`batching_params.pbtxt`: the batches that a version brings along, as TF Serving reads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.serve.errors import ServingError
from tfmodel.serve.settings import ServeSettings

BATCHING_FILE = "batching_params.pbtxt"
"""Beside `saved_model.pb`, where TF Serving looks for it."""


@dataclasses.dataclass(frozen=True)
class VersionBatching:
    """What a version says of its batches; None: nothing.

    Attributes:
        max_batch_size: rows computed at once.
        batch_timeout_micros: how long a batch that is not full waits for more rows.
        max_enqueued_batches: full batches that may wait.
    """

    max_batch_size: int | None = None
    batch_timeout_micros: int | None = None
    max_enqueued_batches: int | None = None

    def over(self, settings: ServeSettings) -> dict[str, Any]:
        """What `Batcher` takes: options that were given win, then the version, then defaults.

        Sizes that TF Serving fills batches up to are not read: here they are not filled up.
        """
        given = settings.model_fields_set
        rows, queue = settings.max_batch_size, settings.max_queue
        wait = settings.batch_timeout_ms / 1000
        if self.max_batch_size is not None and "max_batch_size" not in given:
            rows = self.max_batch_size
        if self.batch_timeout_micros is not None and "batch_timeout_ms" not in given:
            wait = self.batch_timeout_micros / 1e6
        if self.max_enqueued_batches is not None and "max_queue" not in given:
            queue = self.max_enqueued_batches * rows
        return {
            "batch_rows": rows,
            "queue_rows": queue,
            "wait_seconds": wait,
            "threads": settings.threads,
        }


def read_batching(folder: Path) -> VersionBatching:
    """Read what a version says of its batches.

    Args:
        folder: the version folder.

    Raises:
        ServingError: FAILED_PRECONDITION, the file is none that TF Serving reads.
    """
    try:
        text = (folder / BATCHING_FILE).read_text("utf-8")
    except FileNotFoundError:
        return VersionBatching()
    except (OSError, UnicodeDecodeError):
        raise _refusal() from None
    from tfmodel.serve.kit import protos

    try:
        message = protos.read("BatchingParameters", text, where=BATCHING_FILE)
    except ConfigError:
        raise _refusal() from None
    found = {
        field.name: getattr(message, field.name).value
        for field in dataclasses.fields(VersionBatching)
        if message.HasField(field.name)
    }
    least = {"batch_timeout_micros": 0}
    if any(value < least.get(name, 1) for name, value in found.items()):
        raise _refusal()
    return VersionBatching(**found)


def _refusal() -> ServingError:
    return ServingError(
        "FAILED_PRECONDITION", f"Its {BATCHING_FILE} is none that TF Serving reads."
    )


def batching_changes(old: Path, new: Path) -> Iterator[str]:
    """What becomes of the batches of a model when a version takes another's place, in sentences.

    Args:
        old: the version folder of the one in service.
        new: that of the one to come.

    Raises:
        ServingError: as `read_batching`, of the new one.
    """
    had, has = ((folder / BATCHING_FILE).is_file() for folder in (old, new))
    number = new.name
    if had and not has:
        yield (
            f"version {number} has no {BATCHING_FILE}, which version {old.name} has: a TF Serving "
            "with --enable_per_model_batching_parameters will not batch it. Roll back, make a kit "
            f"of it (tfmodel kit), copy the file into its folder, and start again."
        )
    if not has:
        return
    after = read_batching(new)
    try:
        before = read_batching(old)
    except ServingError:
        before = VersionBatching()
    changed = [
        f"{field.name} {_word(one)} -> {_word(other)}"
        for field in dataclasses.fields(VersionBatching)
        if (one := getattr(before, field.name)) != (other := getattr(after, field.name))
    ]
    if changed:
        yield f"version {number} brings its own batches: {', '.join(changed)}"


def _word(value: int | None) -> str:
    return "default" if value is None else f"{value:,}"
