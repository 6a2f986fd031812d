"""`dropped.jsonl` -> how many rows it holds of each reason, and the first of them."""

import collections
import dataclasses
import json
import re
import shlex
from pathlib import Path
from typing import Any

from tfmodel.report import wording
from tfmodel.report.data import reason_in_words
from tfmodel.report.label_words import label_in_words
from tfmodel.report.results import Figures
from tfmodel.report.sections import folded

_SHOWN = 3
_DETAIL_CHARACTERS = 300
_START = re.compile(r'\{"reason": "([^"\\]*)"')  # as the lines of the file are written
# Where the line's detail is the origin of the row that stayed.
_FOR_ANOTHER = {
    "duplicate", "conflicting_label", "also_in_test", "also_in_dev",
    "near_duplicate", "near_in_test", "near_in_dev",
}  # fmt: skip
_ADVICE = {
    "malformed": "Where quotes are plain text, data.quoting: false reads them so.",
    "wrong_field_count": "If they are many, check data.delimiter, data.quoting and data.columns; "
    "with data.extra_columns: true, fields too many are left out and the row stays.",
    "missing_field": "data.text and data.label name the fields; a.b reaches inside.",
    "not_text": "A list or an object stands where a text is expected; a.b reaches inside.",
    "duplicate": "The first one stayed.",
    "conflicting_label": "Nobody can tell which label is right; the first one stayed.",
    "also_in_test": "Nothing is measured on what was trained on, so test keeps the row.",
    "also_in_dev": "Dev steers training, so it keeps the row.",
    "near_duplicate": "The earlier one stayed. data.near_duplicates says how near.",
    "near_in_test": "Test alone keeps a text, and train none that nearly gives it away.",
    "near_in_dev": "Dev alone keeps a text, and train none that nearly gives it away.",
    "max_rows": "They are good rows that the sample did not draw.",
}


@dataclasses.dataclass
class LeftOut:
    """What a `dropped.jsonl` holds.

    Attributes:
        counts: lines by reason.
        examples: the first few of each reason.
    """

    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    examples: dict[str, list[Figures]] = dataclasses.field(default_factory=dict)


def read_left_out(path: Path) -> LeftOut | None:
    """Read the file once, line by line; None where there is none."""
    if not path.is_file():
        return None
    found = LeftOut()
    # A text may hold what other readers of lines take for a line's end.
    with open(path, encoding="utf-8", errors="replace", newline="\n") as lines:
        for line in lines:
            start = _START.match(line)
            reason = start[1] if start else str(_parse(line).get("reason", ""))
            found.counts[reason] += 1
            if found.counts[reason] <= _SHOWN:
                found.examples.setdefault(reason, []).append(_parse(line))
    return found


def groups(dropped: Figures, found: LeftOut | None, file: Path) -> list[dict[str, Any]]:
    """Prepare the first rows of each reason, and how to see all of them."""
    examples = found.examples if found else {}
    return [
        {
            "name": reason_in_words(reason),
            "rows": wording.plural(rows, "row"),
            "advice": _ADVICE.get(reason, ""),
            "examples": [_example(entry, reason) for entry in examples.get(reason, [])],
            "command": shlex.join(["grep", f'"reason": "{reason}"', str(file)]),
        }
        for reason, rows in dropped.items()
    ]


def _parse(line: str) -> Figures:
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    return entry if isinstance(entry, dict) else {"text": line}


def _example(entry: Figures, reason: str) -> dict[str, Any]:
    detail = str(entry.get("detail", ""))[:_DETAIL_CHARACTERS]
    texts = [str(entry[key]) for key in ("text", "text_pair") if entry.get(key) is not None]
    return {
        "texts": [folded(text) for text in texts if text.strip()],
        "label": label_in_words(entry.get("label")),
        "origin": str(entry.get("origin", "")),
        "detail": f"stayed: {detail}" if detail and reason in _FOR_ANOTHER else detail,
    }
