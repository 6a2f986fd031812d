"""The account of every raw row: kept, or dropped for a reason and kept in a file."""

from __future__ import annotations

import collections
import json
import logging
import os
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from tfmodel.data.cleaning import clean, trace
from tfmodel.data.cleaning.row_cleaning import Cleaned
from tfmodel.data.parts import Parts
from tfmodel.data.parts.fates import SPLITS
from tfmodel.data.rows import Reject, Row

_log = logging.getLogger(__name__)

DROPPED_FILE = "dropped.jsonl"
ACCOUNT_FILE = "account.json"
_DROPPED_CHARACTERS = 2_000
EXAMPLES_PER_STEP = 3
_EXAMPLE_CHARACTERS = 200


def dropped_line(row: Row | Reject, role: str, reason: str, detail: str = "") -> str:
    """Write the line of `dropped.jsonl` for a row that is left out."""
    entry: dict[str, Any] = {"reason": reason, "origin": row.origin, "from": role}
    entry["text"] = row.text[:_DROPPED_CHARACTERS]
    if isinstance(row, Row):
        if row.text_pair is not None:
            entry["text_pair"] = row.text_pair[:_DROPPED_CHARACTERS]
        label = row.label
        entry["label"] = label[:_DROPPED_CHARACTERS] if isinstance(label, str) else label
    else:
        entry["label"] = None
    if detail:
        entry["detail"] = detail
    line = json.dumps(entry, ensure_ascii=False)
    # Half a surrogate pair has no UTF-8; JSON's own escape for it is what this writes.
    return line.encode("utf-8", "backslashreplace").decode() + "\n"


def count_cleaned(
    counts: MutableMapping[str, dict[str, Any]], cleaned: Cleaned, origin: str
) -> None:
    """Count a row for the steps that changed it; the first few are kept as examples."""
    for step in cleaned.steps:
        entry = counts.setdefault(step, {"rows": 0, "examples": []})
        entry["rows"] += 1
        if len(entry["examples"]) < EXAMPLES_PER_STEP:
            example = cleaning_example(cleaned, step, origin)
            entry["examples"] += [] if example is None else [example]


def sum_cleaned(parts: Parts, steps: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Add up what the steps changed in all parts."""
    total: dict[str, dict[str, Any]] = {step: {"rows": 0, "examples": []} for step in steps}
    for number in parts.numbers():
        for step, found in parts.summary(number)["cleaning"].items():
            entry = total[step]
            entry["rows"] += found["rows"]
            room = EXAMPLES_PER_STEP - len(entry["examples"])
            entry["examples"] += found["examples"][:room]
    return total


def make_account(
    facts: Mapping[str, dict],
    raw: Mapping[str, int],
    dropped: Mapping[str, Mapping[str, int]],
    splits: Mapping[str, dict],
) -> dict[str, Any]:
    """Sum up, once all rows have found their place.

    Args:
        facts: how each file was read, by role.
        raw: raw rows by role.
        dropped: rows left out by role and reason.
        splits: `rows` and `labels` of each split.

    Raises:
        RuntimeError: raw rows are not those kept and those dropped: a mistake of ours.
    """
    files = []
    total: collections.Counter[str] = collections.Counter()
    for role in (name for name in SPLITS if name in facts):
        reasons = dict(collections.Counter(dropped[role]).most_common())
        kept = raw[role] - sum(reasons.values())
        files.append({**facts[role], "raw": raw[role], "kept": kept, "dropped": reasons})
        total.update(reasons)
    kept = sum(entry["kept"] for entry in files)
    sizes = {name: split["rows"] for name, split in splits.items()}
    if kept != sum(sizes.values()):
        raise RuntimeError(f"expected {kept:,} rows kept in the splits. Received: {sizes}")
    return {
        "raw": sum(raw.values()),
        "kept": kept,
        "dropped": dict(total.most_common()),
        "files": files,
        "splits": dict(splits),
    }


def log_account(totals: Mapping) -> None:
    """Log how many rows of each file were kept, and why the others were not."""
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


def cleaning_example(cleaned: Cleaned, step: str, origin: str) -> dict[str, str] | None:
    """Show what one step did to a text, from a little before the first difference.

    Returns:
        Where the text stands, and before and after; None where that would show, once cleaned to
        the end, what no account may show: `ann&#64;example.com` is no address yet.
    """
    before, after = cleaned.before, cleaned.after
    if cleaned.hide is not None:
        before, after = cleaned.hide(before), cleaned.hide(after)
    text = before
    for name, changed in trace(before, cleaned.steps):
        if name == step:
            before, after = text, changed
            break
        text = changed
    if cleaned.hide is not None:
        shown = [clean(each, cleaned.steps) for each in (before, after)]
        if [cleaned.hide(each) for each in (before, after, *shown)] != [before, after, *shown]:
            return None
    same = len(os.path.commonprefix([before, after]))
    start = max(0, same - _EXAMPLE_CHARACTERS // 4)
    end = start + _EXAMPLE_CHARACTERS
    return {"origin": origin, "before": before[start:end], "after": after[start:end]}
