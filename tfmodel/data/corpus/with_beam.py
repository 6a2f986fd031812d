"""The stage `corpus` as an Apache Beam pipeline: the same documents, for clusters.

The rules are those of `prepare_corpus`, by the same functions; reading, splitting and writing are
the steps that rows take. What is of documents alone stands in `beam_steps`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfmodel.data.account import log_account
from tfmodel.data.beam import open_pipeline, run
from tfmodel.data.cleaning.filters import check_filters
from tfmodel.data.corpus.cleaning import document_steps
from tfmodel.data.corpus.corpus import Corpus, load_corpus
from tfmodel.data.corpus.prepare import account_of_lines
from tfmodel.data.corpus.reading import in_words_of_corpus, places_of
from tfmodel.data.corpus.settings import CorpusSettings
from tfmodel.data.privacy import check_privacy
from tfmodel.data.reading.inputs import check_may_be_replaced
from tfmodel.data.reading.readers import find_format
from tfmodel.data.targets import TARGETS
from tfmodel.run_folder import write_aside

if TYPE_CHECKING:
    from tfmodel.data.beam.pipeline import Job


def prepare_corpus_with_beam(
    settings: CorpusSettings,
    folder: Path,
    *,
    seed: int,
    locate: Callable[[str], Path] = Path,
    flags: Sequence[str] = (),
) -> Corpus:
    """Do what `prepare_corpus` does, by a Beam runner.

    Args:
        settings: the `corpus:` section; `workers` is the runner's matter.
        folder: where the corpus goes. All workers must see it, and the files of the documents, at
            the same path.
        seed: of the split and of `max_documents`.
        locate: turns a source as the config names it into a path.
        flags: of Beam, as on its command line: `--runner=FlinkRunner`; default the DirectRunner.

    Returns:
        The corpus, opened.

    Raises:
        ConfigError: a file or setting does not fit, or Beam is not installed.
    """
    pipeline = open_pipeline(flags)
    from tfmodel.data.beam.pipeline import Job
    from tfmodel.data.corpus.beam_steps import build

    folder = Path(folder)
    rows = settings.as_rows()
    with in_words_of_corpus():
        places = places_of(rows, locate)
        check_may_be_replaced(folder, places.values())
        check_filters(settings.cleaning)
        if settings.privacy is not None:
            check_privacy(settings.privacy)
        formats = {role: find_format(place, rows) for role, place in places.items()}
        settings = settings.settled(formats["train"])
        with write_aside(folder, replace=True) as aside:
            aside.mkdir(parents=True)
            job = Job(rows, places, formats, TARGETS["none"], seed, str(aside))
            account = run(
                pipeline,
                job,
                lambda: build(pipeline, job, settings),
                lambda job, summary: _further(job, summary, settings),
            )
    log_account(account)
    return load_corpus(folder)


def _further(job: Job, summary: Mapping[str, Any], settings: CorpusSettings) -> dict[str, Any]:
    near = None
    if settings.near_duplicates is not None:
        near = summary["near_duplicates"] | {"threshold": settings.near_duplicates}
    nothing = {"rows": 0, "examples": []}
    steps = document_steps(settings.cleaning)
    return {
        "cleaning": {step: summary["cleaning"].get(step, nothing) for step in steps},
        "private": summary["private"],
        "lines": account_of_lines(summary["lines"], summary["line_examples"]),
        "near_duplicates": near,
        "notes": [],
        "seed": job.seed,
        "settings": settings.model_dump(mode="json", exclude={"workers"}),
        "conflicts": summary["conflicts"],
    }
