"""What the smoke script asks, and what it must be answered."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.export.manifest import Manifest
from tfmodel.serve.kit.measuring import Columns
from tfmodel.serve.kit.models import KitModel

_MOST_ROWS = 16
_NEAR_TIE = 0.01
_BYTES = 1_000_000
# Another processor rounds otherwise; half precision more so.
_TOLERANCES, _LARGEST_TOLERANCE = {"float32": 0.001}, 0.05


@dataclasses.dataclass(frozen=True)
class Check:
    """A request to a model, and what one of its outputs must be.

    Attributes:
        title: what the script says of it.
        model: its name.
        body: JSON of the request, by column.
        output: the JSON key whose list is looked at.
        expected: the list's values with commas between, without blanks, up to the first `]`.
        tolerance: how far numbers may be off.
    """

    title: str
    model: str
    body: str
    output: str
    expected: str
    tolerance: float


def rows_to_ask(manifest: Manifest, path: str | Path | None) -> Columns:
    """Columns to ask a model: of a file, or where there is none its labels.

    Rows of a run's data are not taken unasked: a kit goes where the data perhaps may not.

    Args:
        manifest: of the model.
        path: lines of text, or JSON Lines with `text` (and `text_pair` for a model of pairs).

    Raises:
        ConfigError: the file cannot be read, is empty or lacks the second texts.
    """
    if path is None:
        texts = [*manifest.labels][:_MOST_ROWS] or ["a text"]
        columns = {"text": texts}
        if manifest.has_pairs:
            columns["text_pair"] = texts
        return columns
    return _read_texts(Path(path), manifest)


def _read_texts(path: Path, manifest: Manifest) -> Columns:
    wanted = "a UTF-8 file with a text a line, or JSON Lines with text (and text_pair, for pairs)"
    try:
        with open(path, "rb") as file:
            lines = file.read(_BYTES).decode("utf-8").splitlines()
        lines = [line for line in lines if line.strip()][:_MOST_ROWS]
        rows = [json.loads(line) for line in lines] if path.suffix == ".jsonl" else lines
        names = ("text", "text_pair") if manifest.has_pairs else ("text",)
        if rows and isinstance(rows[0], str):
            rows = [dict.fromkeys(names[:1], line) for line in rows]
        columns = {name: [row[name] for row in rows] for name in names}
    except OSError as error:
        received = error.strerror
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        received = f"{type(error).__name__}: {error}"[:200]
    else:
        received = "a file without texts"
        if rows and all(isinstance(text, str) for column in columns.values() for text in column):
            return columns
    raise ConfigError(
        f"{path}: expected {wanted}. Received: {received}. Change it, or leave out --texts."
    )


def checks_of(
    model: KitModel,
    asked: Mapping[str, Sequence[str]],
    answers: Sequence[Mapping[str, Any]],
    together: Mapping[str, Any],
    count: int,
) -> list[Check]:
    """What to ask a server, and to compare.

    Args:
        model: the model.
        asked: columns.
        answers: of each row by itself, output to its values.
        together: of the first rows, in one request.
        count: how many these are.
    """
    found = []
    for row, outputs in enumerate(answers):
        columns = {name: [column[row]] for name, column in asked.items()}
        found += _checks(model, columns, outputs, title=f"row {row + 1}", deepest=2)
    if count > 1:
        columns = {name: column[:count] for name, column in asked.items()}
        found += _checks(model, columns, together, title=f"{count} rows at once", deepest=1)
    return found


def _checks(
    model: KitModel,
    columns: Mapping[str, Sequence[str]],
    outputs: Mapping[str, Any],
    *,
    title: str,
    deepest: int,
) -> list[Check]:
    body = json.dumps({"inputs": dict(columns)}, ensure_ascii=False)
    skipped = _words_of_near_ties(outputs)
    found = []
    for name, values in outputs.items():
        # The lists are told apart by their brackets: one row's, or one value a row.
        if _depth(values) <= deepest and name not in skipped:
            key = "outputs" if len(outputs) == 1 else name
            expected = _first_list(json.dumps(values, ensure_ascii=False))
            found.append(
                Check(
                    f"{title}: {name}",
                    model.name,
                    body,
                    key,
                    expected,
                    _TOLERANCES.get(model.manifest.precision, _LARGEST_TOLERANCE),
                )
            )
    return found


def _words_of_near_ties(outputs: Mapping[str, Any]) -> set[str]:
    """Labels that another processor's rounding may change."""
    scores = outputs.get("scores")
    if "label" not in outputs or scores is None:
        return set()
    best = [sorted(row)[-2:] for row in scores]
    near = any(len(pair) > 1 and pair[1] - pair[0] < _NEAR_TIE for pair in best)
    return {"label"} if near else set()


def _depth(values: Any) -> int:
    depth = 0
    while isinstance(values, list):
        depth += 1
        values = values[0] if values else None
    return depth


def _first_list(text: str) -> str:
    """As the script cuts it out of an answer."""
    return re.sub(r"[ \t\r\n]", "", text).lstrip("[").partition("]")[0]
