"""The account of every raw row: kept, or dropped for a reason and kept in a file."""

from __future__ import annotations

import collections
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from tfmodel.data.rows import Reject, Row

DROPPED_FILE = "dropped.jsonl"
ACCOUNT_FILE = "account.json"
_DROPPED_CHARACTERS = 2_000
_EXAMPLES_PER_STEP = 3
_EXAMPLE_CHARACTERS = 200


class Account:
    """Counts rows by file and reason while they go through, and writes down those dropped.

    A context: the file of dropped rows is open inside it.
    """

    def __init__(self, dropped_path: Path):
        self._dropped_path = dropped_path
        self._file: TextIO | None = None
        self._facts: dict[str, dict] = {}
        self._raw: collections.Counter[str] = collections.Counter()
        self._dropped: dict[str, collections.Counter[str]] = {}
        self._cleaned: dict[str, dict[str, Any]] = {}
        self.notes: list[str] = []

    def __enter__(self) -> Account:
        self._file = open(self._dropped_path, "w", encoding="utf-8", newline="\n")
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._file.close()

    def add_file(self, role: str, facts: dict, steps: Sequence[str]) -> None:
        """Begin the account of the file that plays a role."""
        self._facts[role] = facts
        self._dropped[role] = collections.Counter()
        for step in steps:
            self._cleaned.setdefault(step, {"rows": 0, "examples": []})

    def count_raw(self, role: str) -> None:
        """Count one raw row."""
        self._raw[role] += 1

    def drop(self, role: str, reason: str, row: Row | Reject, detail: str = "") -> None:
        """Count and write down a row that is left out."""
        self._dropped[role][reason] += 1
        entry: dict[str, Any] = {"reason": reason, "origin": row.origin, "from": role}
        entry["text"] = row.text[:_DROPPED_CHARACTERS]
        if isinstance(row, Row):
            if row.text_pair is not None:
                entry["text_pair"] = row.text_pair[:_DROPPED_CHARACTERS]
            entry["label"] = (row.label or "")[:_DROPPED_CHARACTERS]
        else:
            entry["label"] = None
        if detail:
            entry["detail"] = detail
        if self._file is not None:
            self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def cleaned(self, steps: Sequence[str], before: str, after: str, origin: str) -> None:
        """Count a row that these steps changed; the first few are kept as examples."""
        for step in steps:
            entry = self._cleaned[step]
            entry["rows"] += 1
            if len(entry["examples"]) < _EXAMPLES_PER_STEP:
                entry["examples"].append(_example(before, after, origin))

    def raw(self, role: str) -> int:
        """Tell how many raw rows the role's file had so far."""
        return self._raw[role]

    def dropped(self, role: str) -> dict[str, int]:
        """Tell how many of them were left out so far, by reason, the most frequent first."""
        return dict(self._dropped[role].most_common())

    def to_dict(self, splits: Mapping[str, Sequence[Row]], labels: Sequence[str]) -> dict:
        """Sum up, once all rows have found their place.

        Raises:
            RuntimeError: raw rows are not those kept and those dropped: a mistake of ours.
        """
        files = []
        total: collections.Counter[str] = collections.Counter()
        for role, facts in self._facts.items():
            dropped = self.dropped(role)
            kept = self._raw[role] - sum(dropped.values())
            files.append({**facts, "raw": self._raw[role], "kept": kept, "dropped": dropped})
            total.update(dropped)
        kept = sum(entry["kept"] for entry in files)
        if kept != sum(len(rows) for rows in splits.values()):
            sizes = {name: len(rows) for name, rows in splits.items()}
            raise RuntimeError(f"expected {kept:,} rows kept in the splits. Received: {sizes}")
        return {
            "raw": sum(self._raw.values()),
            "kept": kept,
            "dropped": dict(total.most_common()),
            "files": files,
            "splits": {name: _describe(rows, labels) for name, rows in splits.items()},
            "cleaning": self._cleaned,
            "notes": self.notes,
        }


def _describe(rows: Sequence[Row], labels: Sequence[str]) -> dict:
    counts = collections.Counter(row.label for row in rows)
    return {"rows": len(rows), "labels": {label: counts[label] for label in labels}}


def _example(before: str, after: str, origin: str) -> dict[str, str]:
    """Show the part where the two begin to differ."""
    same = next(
        (i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b),
        min(len(before), len(after)),
    )
    start = max(0, same - _EXAMPLE_CHARACTERS // 4)
    end = start + _EXAMPLE_CHARACTERS
    return {"origin": origin, "before": before[start:end], "after": after[start:end]}
