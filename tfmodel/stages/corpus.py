"""The stage `corpus`: raw text to clean documents, each once."""

from __future__ import annotations

from tfmodel import sources
from tfmodel.stages.context import Context, Stage
from tfmodel.stages.data import identity_of_rows

_PARTS = ("train", "dev")


def _corpus_inputs(context: Context) -> dict:
    settings = context.settings.corpus
    named = {part: getattr(settings, part) for part in _PARTS}
    chosen = settings.model_dump(mode="json", exclude={"workers"})
    return {
        "seed": context.settings.seed,
        **{f"corpus.{key}": value for key, value in chosen.items()},
        **{
            f"the content of corpus.{part}": identity_of_rows(source)
            for part, source in named.items()
            if source is not None
        },
    }


def _prepare_corpus(context: Context) -> None:
    settings, folder = context.settings, context.run.folder / CORPUS.name
    if context.beam is None:
        from tfmodel.data.corpus import prepare_corpus

        corpus = prepare_corpus(settings.corpus, folder, seed=settings.seed, locate=sources.fetch)
    else:
        from tfmodel.data.corpus.with_beam import prepare_corpus_with_beam

        corpus = prepare_corpus_with_beam(
            settings.corpus, folder, flags=context.beam, seed=settings.seed, locate=sources.fetch
        )
    account = corpus.account
    context.run.update_metrics(
        "corpus",
        {
            "raw": account["raw"],
            "kept": account["kept"],
            "dropped": sum(account["dropped"].values()),
            **corpus.counts,
        },
    )


CORPUS = Stage(
    "corpus",
    _corpus_inputs,
    _prepare_corpus,
    lambda run: (run.folder / "corpus").exists(),
    metrics=("corpus",),
    part_of="pretrain",
)
