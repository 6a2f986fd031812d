"""The stage `data`: labelled files in, one clean, split dataset folder out."""

from __future__ import annotations

import collections
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from tfmodel.config import ConfigError
from tfmodel.data.account import ACCOUNT_FILE, DROPPED_FILE, Account
from tfmodel.data.cleaning import chosen_steps, clean_and_tell, clean_label
from tfmodel.data.dataset import Dataset, load_dataset, write_dataset
from tfmodel.data.dedupe import drop_duplicates
from tfmodel.data.folders import open_tfds, tfds_split
from tfmodel.data.labels import check_labels_known, check_several_classes, first_few, sort_labels
from tfmodel.data.mistakes import all_stand_elsewhere, no_row_left
from tfmodel.data.readers import find_format, open_source
from tfmodel.data.rows import Reject, Row, encodable
from tfmodel.data.settings import DataSettings
from tfmodel.data.splits import sample, split_off
from tfmodel.run_folder import write_aside

_log = logging.getLogger(__name__)

_SPLITS = ("train", "dev", "test")


def prepare(
    settings: DataSettings,
    folder: Path,
    *,
    seed: int,
    locate: Callable[[str], Path] = Path,
) -> Dataset:
    """Read, clean, deduplicate and split labelled rows into a TFDS builder folder.

    Every raw row ends in a split or, with the reason, in `dropped.jsonl`. The folder appears
    whole or not at all; one that is there is replaced.

    Args:
        settings: the `data:` section.
        folder: where the dataset goes.
        seed: of the splits and of `max_rows`; equal seeds give equal folders.
        locate: turns a source as the config names it into a local path.

    Returns:
        The dataset, read back.

    Raises:
        ConfigError: a file or setting does not fit; the message says which and what to do.
    """
    folder = Path(folder)
    paths = _locate_all(settings, locate)
    _check_may_be_replaced(folder, paths.values())
    with write_aside(folder, replace=True) as temporary:
        temporary.mkdir(parents=True, exist_ok=True)
        with Account(temporary / DROPPED_FILE) as account:
            rows = _read_all(paths, settings, account)
            splits, labels = _arrange(rows, settings, account, seed=seed)
            totals = account.to_dict(splits, labels)
        write_dataset(temporary, splits, labels=labels, account=totals | {"seed": seed})
    _log_account(totals)
    return load_dataset(folder)


def _locate_all(settings: DataSettings, locate: Callable[[str], Path]) -> dict[str, Path]:
    """Find every source before any is read; a TFDS folder also gives the splits not named."""
    sources = {name: getattr(settings, name) for name in _SPLITS}
    paths = {name: Path(locate(source)) for name, source in sources.items() if source is not None}
    formats = {name: find_format(path, settings) for name, path in paths.items()}
    for name, path in paths.items():
        for other in _SPLITS[: _SPLITS.index(name)]:
            if other in paths and path.samefile(paths[other]) and formats[name] != "tfds":
                raise ConfigError(
                    f"data.{name}: expected other rows than those of data.{other}. Received: "
                    f"{path} for both. Remove `{name}:` to have it split off train."
                )
    if formats["train"] == "tfds":
        builder = open_tfds(paths["train"])
        for name in ("dev", "test"):
            if name not in paths and tfds_split(builder, name):
                paths[name] = paths["train"]
                _log.info("%s: its own %s split is used", paths["train"], name)
    return {name: paths[name] for name in _SPLITS if name in paths}


def _check_may_be_replaced(folder: Path, sources: Iterable[Path]) -> None:
    """Refuse to replace what is not a dataset of ours, or what is about to be read."""
    if folder.exists() and not (folder / ACCOUNT_FILE).exists():
        if not folder.is_dir() or any(folder.iterdir()):
            raise ConfigError(
                f"{folder}: expected a new folder, or a dataset that tfmodel wrote, to put the "
                f"dataset in. Received: something else, which would be lost. Name another folder."
            )
    for source in sources:
        if source.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(
                f"{folder}: expected a folder apart from the files that are read. Received: "
                f"{source} inside it, which would be lost. Name another folder."
            )


def _read_all(
    paths: Mapping[str, Path], settings: DataSettings, account: Account
) -> dict[str, list[Row]]:
    names = {role: path.name for role, path in paths.items()}
    for role, path in paths.items():
        if sum(other.name == path.name for other in set(paths.values())) > 1:
            names[role] = f"{path.parent.name}/{path.name}"
    rows = {}
    for role, path in paths.items():
        rows[role] = _read(path, names[role], settings, account, role=role)
        if not rows[role]:
            raise no_row_left(path, account.raw(role), account.dropped(role), settings)
    return rows


def _read(
    path: Path, name: str, settings: DataSettings, account: Account, *, role: str
) -> list[Row]:
    source = open_source(path, settings, role=role, name=name)
    steps = chosen_steps(settings.cleaning)
    account.add_file(role, source.facts, steps)
    kept = []
    for row in _with_progress(source.rows, name):
        account.count_raw(role)
        row.text = encodable(row.text)
        if isinstance(row, Reject):
            account.drop(role, row.reason, row, row.detail)
            continue
        reason = _clean_row(row, steps, settings.max_characters, account)
        if reason:
            account.drop(role, reason, row)
        else:
            kept.append(row)
    return kept


def _clean_row(row: Row, steps: Sequence[str], max_characters: int, account: Account) -> str:
    """Clean a row in place; give the reason for which it cannot be kept, if there is one."""
    row.label = clean_label(encodable(row.label or ""))
    before = row.text
    row.text, changed = clean_and_tell(before, steps)
    if row.text_pair is not None:
        pair_before = encodable(row.text_pair)
        row.text_pair, pair_changed = clean_and_tell(pair_before, steps)
        if pair_changed:
            if not changed:
                account.cleaned(pair_changed, pair_before, row.text_pair, row.origin)
            else:
                changed = tuple(dict.fromkeys(changed + pair_changed))
    if changed:
        account.cleaned(changed, before, row.text, row.origin)
    texts = [row.text] if row.text_pair is None else [row.text, row.text_pair]
    if not all(texts):
        return "empty_text"
    if not row.label:
        return "empty_label"
    return "too_long" if max(map(len, texts)) > max_characters else ""


def _arrange(
    rows: Mapping[str, list[Row]], settings: DataSettings, account: Account, *, seed: int
) -> tuple[dict[str, list[Row]], list[str]]:
    """Deduplicate and split; give the rows by split and the names of the labels in order."""
    check_several_classes(rows["train"], settings)
    splits = drop_duplicates(rows, account.drop)
    for name, kept in splits.items():
        if not kept:
            raise all_stand_elsewhere(name, account.dropped(name))
    missing = {"test": settings.test_share} if "dev" not in rows and "test" not in rows else {}
    if "dev" not in rows:
        missing["dev"] = settings.dev_share
    shares = {name: share for name, share in missing.items() if share > 0}
    if shares:
        splits |= split_off(splits["train"], shares, seed=seed)
        _note_tiny_classes(splits, shares, account)
    check_labels_known(splits, rows["train"])
    if settings.max_rows is not None:
        splits["train"], left = sample(splits["train"], settings.max_rows, seed=seed)
        for row in left:
            account.drop("train", "max_rows", row)
    labels = sort_labels({row.label or "" for row in splits["train"]})
    return {name: splits[name] for name in _SPLITS if name in splits}, labels


def _note_tiny_classes(
    splits: Mapping[str, list[Row]], shares: Mapping[str, float], account: Account
) -> None:
    everywhere = collections.Counter(row.label or "" for part in splits.values() for row in part)
    single = sort_labels(label for label, count in everywhere.items() if count == 1)
    if single:
        account.notes.append(
            f"{len(single)} of {len(everywhere)} classes have a single row, which stays in train: "
            f"{first_few(single)}."
        )
    for name in shares:
        present = {row.label for row in splits[name]}
        absent = sort_labels(set(everywhere) - present - set(single))
        if absent:
            account.notes.append(
                f"{len(absent)} of {len(everywhere)} classes have too few rows to stand in "
                f"{name}: {first_few(absent)}."
            )
    for note in account.notes:
        _log.warning("%s", note)


def _with_progress(rows: Iterable[Row | Reject], name: str) -> Iterable[Row | Reject]:
    from tqdm import tqdm

    # Only a terminal shows it, and only where reading takes longer than `delay` seconds.
    return tqdm(rows, desc=name, unit=" rows", delay=2, disable=None, leave=False)


def _log_account(totals: Mapping) -> None:
    for file in totals["files"]:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in file["dropped"].items())
        _log.info(
            "%s: %s raw rows = %s kept + %s dropped%s",
            file["name"],
            f"{file['raw']:,}",
            f"{file['kept']:,}",
            f"{sum(file['dropped'].values()):,}",
            f" ({reasons})" if reasons else "",
        )
    sizes = ", ".join(f"{name} {part['rows']:,}" for name, part in totals["splits"].items())
    _log.info("splits: %s", sizes)
