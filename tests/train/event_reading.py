"""What TensorBoard finds in a folder: its own reading, as `tensorboard --load_fast=false` does."""

from __future__ import annotations

from pathlib import Path


def accumulator(folder: Path):
    """The events of one run."""
    from tensorboard.backend.event_processing import plugin_event_accumulator

    found = plugin_event_accumulator.EventAccumulator(
        str(folder), size_guidance={plugin_event_accumulator.TENSORS: 0}
    )
    found.Reload()
    return found


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag to steps and values, in the order in which they are shown."""
    from tensorboard.util.tensor_util import make_ndarray

    found = accumulator(folder)
    tags = {
        tag
        for tag in found.Tags()["tensors"]
        if found.SummaryMetadata(tag).plugin_data.plugin_name == "scalars"
    }
    return {
        tag: [(event.step, float(make_ndarray(event.tensor_proto))) for event in found.Tensors(tag)]
        for tag in tags
    }


def tensors(folder: Path, tag: str) -> list[tuple[int, list[bytes]]]:
    """Steps and strings of a text or a picture."""
    from tensorboard.util.tensor_util import make_ndarray

    return [
        (event.step, make_ndarray(event.tensor_proto).reshape(-1).tolist())
        for event in accumulator(folder).Tensors(tag)
    ]
