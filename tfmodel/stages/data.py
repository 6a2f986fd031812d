"""The stage `data`: raw text to the prepared dataset."""

from __future__ import annotations

from tfmodel import sources
from tfmodel.stages.context import Context, Stage, identity_of_source

_OF_LATER_STAGES = {"label_noise", "augment"}


def _data_inputs(context: Context) -> dict:
    settings = context.settings.data
    files = {
        part: identity_of_source(source)
        for part in ("train", "dev", "test")
        if (source := getattr(settings, part)) is not None
    }
    return {
        "seed": context.settings.seed,
        **{
            f"data.{key}": value
            for key, value in settings.model_dump(mode="json", exclude=_OF_LATER_STAGES).items()
        },
        **{f"the content of data.{part}": value for part, value in files.items()},
    }


def _prepare_data(context: Context) -> None:
    from tfmodel.data import prepare

    context.__dict__.pop("dataset", None)
    prepare(
        context.settings.data, context.run.data, seed=context.settings.seed, locate=sources.fetch
    )


DATA = Stage("data", _data_inputs, _prepare_data, lambda run: run.data.exists())
