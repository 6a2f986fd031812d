"""Parts and fates to the dataset folder: shards, dropped rows and the account."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfmodel.data.account import DROPPED_FILE, dropped_line, make_account
from tfmodel.data.dataset_writer import DatasetWriter
from tfmodel.data.figures import SplitFigures
from tfmodel.data.parts import PART_ROWS, Parts, RowReader
from tfmodel.data.parts.fates import NOT_DRAWN, REASONS, SPLITS, Fates
from tfmodel.data.parts.tallies import raw_and_dropped, rows_and_bytes
from tfmodel.data.progress import bar
from tfmodel.data.rows import Row
from tfmodel.data.targets import Target

_CONFLICTS_SHOWN = 20


def write_parts(
    folder: Path,
    parts: Parts,
    fates: Fates,
    *,
    facts: Mapping[str, dict],
    target: Target,
    names: Sequence[str],
    further: Mapping[str, Any],
) -> dict:
    """Write the rows of all parts to where their fates say, and the account.

    Args:
        folder: an existing folder.
        parts: all parts.
        fates: what becomes of their rows.
        facts: how each file was read, by role.
        target: what a label is.
        names: of the classes, in the order of their indices.
        further: what else the account says.

    Returns:
        The account.
    """
    sizes = rows_and_bytes(parts, fates)
    has_pairs = any(parts.summary(number)["has_pairs"] for number in parts.numbers())
    labels = {name: collections.Counter() for name in sizes}
    figures = {name: SplitFigures() for name in sizes}
    raw, dropped = {}, {}
    for role in facts:
        raw[role], dropped[role] = raw_and_dropped(parts, role)
    reader = RowReader(parts)
    writer = DatasetWriter(folder, sizes, target=target, names=names, has_pairs=has_pairs)
    with writer, open(folder / DROPPED_FILE, "w", encoding="utf-8", newline="\n") as left_out:
        for role, row, split, reason, other in _walk(parts, fates, left_out):
            if reason:
                dropped[role][reason] += 1
                detail = "" if reason in NOT_DRAWN else reader(other).origin
                left_out.write(dropped_line(row, role, reason, detail))
            else:
                writer.write(split, row)
                labels[split].update(target.names(row.label))
                figures[split].add(row)
    splits = {
        name: {
            "rows": rows,
            "labels": {label: labels[name][label] for label in names},
            **figures[name].summary(),
        }
        for name, (rows, _) in sizes.items()
    }
    account = make_account(facts, raw, dropped, splits) | dict(further)
    account["conflicts"] = _conflicts(parts, fates, reader)
    reader.close()
    writer.finish(account)
    return account


def _walk(parts: Parts, fates: Fates, left_out: Any) -> Iterator[tuple[str, Row, str, str, int]]:
    """Give every row with its fate, train's files first; copy what parts have left out."""
    numbers = [number for role in SPLITS for number in parts.numbers_of(role)]
    total = sum(len(parts.index(number)) for number in numbers)
    with bar(total, "writing", unit=" rows") as shown:
        for number in numbers:
            left_out.writelines(parts.dropped(number))
            rows = len(parts.index(number))
            reasons, splits, others = (each.tolist() for each in fates.of_part(number, rows))
            each_row = zip(parts.rows(number), splits, reasons, others, strict=True)
            for row, split, reason, other in each_row:
                yield fates.roles[number], row, SPLITS[split - 1], REASONS[reason], other
            shown.update(rows)


def _conflicts(parts: Parts, fates: Fates, reader: RowReader) -> dict[str, Any]:
    """Texts that stand in the data with different labels: how many rows, and the first."""
    code = REASONS.index("conflicting_label")
    found: dict[str, Any] = {"rows": 0, "examples": []}
    for number in parts.numbers():
        reasons, _, others = fates.of_part(number, len(parts.index(number)))
        places = np.flatnonzero(reasons == code)
        found["rows"] += len(places)
        for place in places[: _CONFLICTS_SHOWN - len(found["examples"])]:
            kept, gone = reader(others[place]), reader(number * PART_ROWS + int(place))
            found["examples"].append(
                {
                    "text": kept.text[:200],
                    "kept": [kept.label, kept.origin],
                    "dropped": [gone.label, gone.origin],
                }
            )
    return found
