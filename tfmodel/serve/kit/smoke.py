"""What the smoke script asks, and what it must be answered."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfmodel import tasks
from tfmodel.config import ConfigError
from tfmodel.export.manifest import Manifest
from tfmodel.serve.kit.measuring import Columns
from tfmodel.serve.kit.models import KitModel
from tfmodel.tasks.fill import GAP

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
    """Columns to ask a model: of a file, or where there is none its labels, or made-up gaps.

    Rows of a run's data are not taken unasked: a kit goes where the data perhaps may not.

    Args:
        manifest: of the model.
        path: lines of text, or JSON Lines with `text` (and `text_pair` for a model of pairs), of
            which the first megabyte is read.

    Raises:
        ConfigError: the file cannot be read, is empty or lacks the second texts, or, of a model
            that fills gaps, a text has none.
    """
    if path is None:
        texts = [*manifest.labels][:_MOST_ROWS] or ["a text"]
        if tasks.fills_gaps(manifest.task):
            texts = [f"a text {GAP}", f"{GAP} text"]
        columns = {"text": texts}
        if manifest.has_pairs:
            columns["text_pair"] = texts
        return columns
    return _read_texts(Path(path), manifest)


def _read_texts(path: Path, manifest: Manifest) -> Columns:
    wanted = "a UTF-8 file with a text a line, or JSON Lines with text (and text_pair, for pairs)"
    is_filler = tasks.fills_gaps(manifest.task)
    try:
        with open(path, "rb") as file:
            content = file.read(_BYTES + 1)
        if len(content) > _BYTES:  # what follows the last whole line is a part of one
            content = content[: content.rfind(b"\n") + 1]
            if not content:
                raise ValueError(f"a first line of more than {_BYTES:,} bytes")
        # By line feeds alone: JSON may have other separators as they are.
        lines = [line.rstrip("\r") for line in content.decode("utf-8-sig").split("\n")]
        lines = [line for line in lines if line.strip()][:_MOST_ROWS]
        rows = [json.loads(line) for line in lines] if path.suffix == ".jsonl" else lines
        names = ("text", "text_pair") if manifest.has_pairs else ("text",)
        if rows and isinstance(rows[0], str):
            rows = [dict.fromkeys(names[:1], line) for line in rows]
        columns = {name: [row[name] for row in rows] for name in names}
        texts = [text for column in columns.values() for text in column]
        are_texts = all(isinstance(text, str) for text in texts)
        if are_texts:
            "".join(texts).encode()  # JSON can name halves of characters, which no file can hold
    except OSError as error:
        received = error.strerror
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        received = f"{type(error).__name__}: {error}"[:200]
    else:
        received = "a file without texts"
        if rows and are_texts:
            without = [text for text in columns["text"] if is_filler and GAP not in text]
            if not without:
                return columns
            wanted = f"a {GAP} in every text, for a model that fills gaps"
            received = repr(without[0][:80])
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
    if tasks.fills_gaps(model.manifest.task):
        # Of a row the scores of its first gap; the tokens behind the best one may change places.
        skipped, deepest = skipped | {"tokens"}, deepest + (deepest > 1)
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
    """Labels, and words in gaps, that another processor's rounding may change."""
    scores = outputs.get("scores")
    if "filled" in outputs and scores is not None:
        gaps = [gap[:2] for row in scores for gap in row if len(gap) > 1]
        # Of a whole vocabulary even the best one may have a small score.
        near = any(best - second < _NEAR_TIE * best for best, second in gaps)
        return {"filled"} if near else set()
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
