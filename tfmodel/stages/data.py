"""The stage `data`: raw text to the prepared dataset."""

from __future__ import annotations

from typing import Any

from tfmodel import sources
from tfmodel.stages.context import Context, Stage

PAGE_FILE = "data_report.html"
# What later stages read, and what changes no result.
_NO_INPUTS = {"label_noise", "augment", "workers"}


def _data_inputs(context: Context) -> dict:
    settings = context.settings.data
    files = {
        part: identity_of_rows(source)
        for part in ("train", "dev", "test")
        if (source := getattr(settings, part)) is not None
    }
    return {
        "seed": context.settings.seed,
        **{
            f"data.{key}": value
            for key, value in settings.model_dump(mode="json", exclude=_NO_INPUTS).items()
        },
        **{f"the content of data.{part}": value for part, value in files.items()},
    }


def identity_of_rows(source: str) -> str:
    """What changes when a file, files or a folder of rows do."""
    from tfmodel.data.reading.places import find_place

    # A pinned source cannot change; fetching it only to look would cost a download.
    if sources.is_remote(source):
        return source
    return find_place(source, sources.fetch).fingerprint()


def _prepare_data(context: Context) -> None:
    from tfmodel.data import prepare

    context.__dict__.pop("dataset", None)
    settings, folder = context.settings, context.run.data
    chosen: dict[str, Any] = {"seed": settings.seed, "locate": sources.fetch}
    if context.beam is None:
        prepare(settings.data, folder, **chosen)
    else:
        from tfmodel.data.beam import prepare_with_beam

        prepare_with_beam(settings.data, folder, flags=context.beam, **chosen)
    write_page(context)


def write_page(context: Context) -> None:
    """Write the page about the data that is prepared."""
    from tfmodel.report import write_data_report

    run = context.run
    write_data_report(run.data, run.folder / PAGE_FILE, title=run.folder.name)


DATA = Stage("data", _data_inputs, _prepare_data, lambda run: run.data.exists())
