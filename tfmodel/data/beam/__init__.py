"""The stage `data` as an Apache Beam pipeline: the same rows, for clusters.

The rules are those of `prepare`, by the same functions; here rows are grouped by the runner where
`prepare` sorts on disk. What decides over all rows (counts by class, bounds of splits, names) is
counted, and goes to the workers as one small value each.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfmodel.config import ConfigError
from tfmodel.data.account import DROPPED_FILE, log_account, make_account
from tfmodel.data.cleaning import chosen_steps
from tfmodel.data.cleaning.filters import check_filters
from tfmodel.data.dataset import Dataset, load_dataset
from tfmodel.data.dataset_writer import write_metadata
from tfmodel.data.labels import about_tiny_classes
from tfmodel.data.reading.inputs import check_may_be_replaced, locate_all, only_target
from tfmodel.data.reading.readers import find_format
from tfmodel.data.settings import DataSettings
from tfmodel.data.similarity import require_datasketch
from tfmodel.data.split_counts import shares_to_split_off
from tfmodel.data.targets import find_target
from tfmodel.run_folder import read_json, write_aside

if TYPE_CHECKING:
    from tfmodel.data.beam.pipeline import Job

_log = logging.getLogger(__name__)
_MISTAKE = re.compile(r"ConfigError: (.+?)(?: \[while running|\n|$)", re.DOTALL)


def prepare_with_beam(
    settings: DataSettings,
    folder: Path,
    *,
    seed: int,
    locate: Callable[[str], Path] = Path,
    flags: Sequence[str] = (),
) -> Dataset:
    """Do what `prepare` does, by a Beam runner.

    Args:
        settings: the `data:` section; `workers` is the runner's matter.
        folder: where the dataset goes. All workers must see it, and the files of the rows, at
            the same path.
        seed: of the splits and of `max_rows`.
        locate: turns a source as the config names it into a path.
        flags: of Beam, as on its command line: `--runner=FlinkRunner`; default the DirectRunner.

    Returns:
        The dataset, read back.

    Raises:
        ConfigError: a file or setting does not fit, or Beam is not installed.
    """
    pipeline = open_pipeline(flags)
    from tfmodel.data.beam.pipeline import Job, build

    folder = Path(folder)
    places = locate_all(settings, locate)
    check_may_be_replaced(folder, places.values())
    check_filters(settings.cleaning)
    if settings.near_duplicates is not None:
        require_datasketch()
    formats = {role: find_format(place, settings) for role, place in places.items()}
    target = only_target(find_target(settings, kind) for kind in formats.values())
    with write_aside(folder, replace=True) as aside:
        aside.mkdir(parents=True)
        job = Job(settings, places, formats, target, seed, str(aside))
        account = run(pipeline, job, lambda: build(pipeline, job), _further)
    log_account(account)
    return load_dataset(folder)


def run(
    pipeline: Any,
    job: Job,
    build_steps: Callable[[], None],
    further: Callable[[Job, Mapping[str, Any]], dict[str, Any]],
) -> dict:
    """Run a pipeline and finish the folder that its workers wrote to.

    Args:
        pipeline: an empty one.
        job: what is done.
        build_steps: puts the steps into the pipeline.
        further: (job, summary) -> what else the account says.

    Returns:
        The account.

    Raises:
        ConfigError: that a worker met.
    """
    try:
        with pipeline:
            build_steps()
    except Exception as error:
        _raise_mistake(error)
        raise
    return _finish(job, Path(job.folder), further)


def open_pipeline(flags: Sequence[str]) -> Any:
    """Make a pipeline by Beam's flags.

    Raises:
        ConfigError: Beam is not installed, or does not take the flags.
    """
    try:
        import apache_beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise ConfigError(
            "Expected the package apache-beam. Received: an installation without it. Install it: "
            "pip install 'tfmodel[beam]'."
        ) from None
    try:
        options = PipelineOptions(list(flags), save_main_session=False)
        options.get_all_options()  # which reads them all, not each when it is needed
        return apache_beam.Pipeline(options=options)
    except (ValueError, SystemExit) as error:
        raise ConfigError(
            f"Expected flags that Apache Beam takes. Received: {' '.join(flags)}. {error}"
        ) from error


def _raise_mistake(error: Exception) -> None:
    """Raise the ConfigError that a worker met, which runners tell in words of their own."""
    found = _MISTAKE.search(f"{type(error).__name__}: {error}")
    if found:
        raise ConfigError(found[1]) from error


def _finish(
    job: Job, folder: Path, further: Callable[[Job, Mapping[str, Any]], dict[str, Any]]
) -> dict:
    """Make one file of the pieces, and metadata and account of the summary; give the account."""
    from tfmodel.data.beam.reading import file_jobs
    from tfmodel.data.beam.writing import SUMMARY_FILE

    summary = read_json(folder / SUMMARY_FILE)
    (folder / SUMMARY_FILE).unlink()
    with open(folder / DROPPED_FILE, "wb") as whole:
        for name in summary["pieces"]:
            with open(folder / name, "rb") as piece:
                shutil.copyfileobj(piece, whole)
            (folder / name).unlink()
    for leftover in folder.glob(".*"):  # of a worker that was stopped, and its work done again
        leftover.unlink()
    _, whole_facts = file_jobs(job.places, job.formats)
    facts = {role: found | summary["facts"][role] for role, found in whole_facts.items()}
    account = make_account(facts, summary["raw"], summary["dropped"], summary["splits"])
    account |= further(job, summary)
    write_metadata(
        folder,
        summary["shards"],
        account,
        target=job.target,
        names=summary["names"],
        has_pairs=summary["has_pairs"],
    )
    return account


def _further(job: Job, summary: Mapping[str, Any]) -> dict[str, Any]:
    settings = job.settings
    shares = shares_to_split_off(settings, job.places)
    notes = []
    if shares and job.target.name == "class" and settings.split == "stratified":
        strata = summary["strata"]
        notes = about_tiny_classes(
            {name: strata.get(name, {}) for name in ("train", *shares)}, shares
        )
        for note in notes:
            _log.warning("%s", note)
    near = None
    if settings.near_duplicates is not None:
        near = summary["near_duplicates"] | {"threshold": settings.near_duplicates}
    nothing = {"rows": 0, "examples": []}
    return {
        "cleaning": {
            step: summary["cleaning"].get(step, nothing) for step in chosen_steps(settings.cleaning)
        },
        "notes": notes,
        "near_duplicates": near,
        "seed": job.seed,
        "settings": settings.model_dump(mode="json", exclude={"workers"}),
        "conflicts": summary["conflicts"],
    }
