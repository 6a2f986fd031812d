"""Lines that several documents have: found by digests that are sorted on disk, then taken out.

Source: CCNet (Wenzek et al. 2020, section 3.1) drops each paragraph that stood in a document
before, by a hash of it. We deviate: short lines, which are no copies of anything, go only where
many documents have them, and then from all of them.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfmodel.data.corpus.settings import LineSettings
from tfmodel.data.dedupe import first_of_runs
from tfmodel.data.near_duplicates import spread_over_keys
from tfmodel.data.parts import PART_ROWS, Parts, RowReader
from tfmodel.data.parts.buckets import Buckets
from tfmodel.data.parts.fates import Fates, ids_of

LINES_FILE = "lines.npy"
KINDS = ("shared", "repeated")
EXAMPLES = 20
_SHOWN_CHARACTERS = 200
_LINE = np.dtype([("digest", "<u8"), ("place", "<u4"), ("line", "<u4"), ("characters", "<u4")])
_RECORD = np.dtype([("key", "<u8"), ("id", "<u8"), ("line", "<u4"), ("characters", "<u4")])
_VERDICT = np.dtype([("key", "<u8"), ("id", "<u8"), ("line", "<u4"), ("kind", "<u4")])
_GAPS = re.compile(r"[\W_]+")


def digest_of_line(line: str) -> int:
    """Digest a line, 64 bits: without case, punctuation and spaces, but for lines of nothing else.

    Lines that differ in nothing else are the same to a reader; numbers make them differ.
    """
    plain = _GAPS.sub("", line.casefold()) or line
    return int.from_bytes(hashlib.blake2b(plain.encode(), digest_size=8).digest(), "little")


def digests_of_lines(text: str, place: int) -> np.ndarray:
    """Digest the lines of a document but blank ones, (lines,) of place, number, digest, length."""
    numbered = [(number, line) for number, line in enumerate(text.split("\n")) if line.strip()]
    lines = [line for _, line in numbered]
    found = np.empty(len(lines), _LINE)
    found["digest"] = np.fromiter(map(digest_of_line, lines), np.uint64, len(lines))
    found["place"], found["line"] = place, [number for number, _ in numbered]
    found["characters"] = np.fromiter(map(len, lines), np.uint32, len(lines))
    return found


def without_lines(text: str, numbers: Mapping[int, str]) -> tuple[str, collections.Counter[str]]:
    """Take lines out of a text.

    Args:
        text: any text.
        numbers: the lines, from 0, and why each goes: one of `KINDS`.

    Returns:
        The rest; how many lines went by kind, and how many characters: `shared characters` ...
    """
    kept, removed = [], collections.Counter()
    for number, line in enumerate(text.split("\n")):
        kind = numbers.get(number)
        if kind is None:
            kept.append(line)
            continue
        removed[kind] += 1
        removed[f"{kind} characters"] += len(line)
    return "\n".join(kept), removed


def shown_line(line: str) -> str:
    """Give as much of a line as the account shows."""
    return line[:_SHOWN_CHARACTERS]


@dataclasses.dataclass(frozen=True)
class LineVerdicts:
    """What becomes of the documents of a part and of their lines.

    Attributes:
        reasons: why each document is dropped, indices into `REASONS`; (documents,).
        others: ids of the documents for whose sake, (documents,).
        lines: `_VERDICT` of each line that goes, by document.
        first_id: of the part.
    """

    reasons: np.ndarray
    others: np.ndarray
    lines: np.ndarray
    first_id: int

    def of_document(self, place: int) -> dict[int, str]:
        """Give the lines of a document that go, by number, and why."""
        ids = self.lines["id"]
        start, end = np.searchsorted(
            ids, np.array([self.first_id + place, self.first_id + place + 1], np.uint64)
        )
        found = self.lines[start:end]
        kinds = (KINDS[kind] for kind in found["kind"])
        return dict(zip(found["line"].tolist(), kinds, strict=True))

    def write(self, path: Path) -> None:
        """Write them for a worker."""
        with open(path, "wb") as file:
            np.savez(
                file,
                reasons=self.reasons,
                others=self.others,
                lines=self.lines,
                first_id=self.first_id,
            )

    @classmethod
    def read(cls, path: Path) -> LineVerdicts:
        """Read what `write` wrote."""
        with np.load(path) as found:
            return cls(found["reasons"], found["others"], found["lines"], int(found["first_id"]))


def judge_lines(
    parts: Parts, fates: Fates, folder: Path, settings: LineSettings
) -> tuple[Iterator[tuple[int, LineVerdicts]], list[dict[str, Any]]]:
    """Find the lines that go.

    Args:
        parts: all parts, with digests of lines.
        fates: tells which documents are kept; lines of others do not count.
        folder: a folder of its own for sorting.
        settings: which lines go.

    Returns:
        (part, verdicts) of every part, in order; and the shared lines that most documents have.
    """
    verdicts = Buckets(folder / "verdicts", _VERDICT)
    top: list[tuple[int, int, int, int]] = []
    if settings.shared is not None or settings.repeated is not None:
        records = Buckets(folder / "records", _RECORD)
        for number in parts.numbers():
            records.add(_records_of(parts, fates, number))
        last = len(parts.numbers()) * 1.0
        before = _Last()
        for chunk in records:
            runs = _Runs.of(chunk, before)
            before = _Last(int(chunk["key"][-1]), int(runs.documents[-1]), int(runs.first_id[-1]))
            found = _judge_chunk(chunk, runs, settings)
            found["key"] = spread_over_keys(found["id"], last)
            verdicts.add(found)
            top = _with_top(top, chunk, runs, settings)
        records.close()
    reader = RowReader(parts)
    examples = []
    for documents, _, row_id, line in top:
        text = shown_line(reader(row_id).text.split("\n")[line])
        examples.append({"line": text, "documents": -documents})
    reader.close()
    return _by_part(parts, fates, verdicts), examples


def _records_of(parts: Parts, fates: Fates, number: int) -> np.ndarray:
    lines = np.load(parts.path(number) / LINES_FILE)
    rows = len(parts.index(number))
    lines = lines[fates.kept(number, rows)[lines["place"]]]
    records = np.empty(len(lines), _RECORD)
    records["key"], records["line"] = lines["digest"], lines["line"]
    records["id"] = ids_of(number, rows)[lines["place"]]
    records["characters"] = lines["characters"]
    return records


@dataclasses.dataclass
class _Runs:
    """Records sorted by digest, then document, in runs of equal lines.

    Attributes:
        starts: where each run begins.
        number: the run of each record.
        documents: how many documents have the line of each run.
        first_id: the first of them.
    """

    starts: np.ndarray
    number: np.ndarray
    documents: np.ndarray
    first_id: np.ndarray

    @classmethod
    def of(cls, chunk: np.ndarray, before: _Last) -> _Runs:
        starts = first_of_runs(chunk["key"])
        number = np.zeros(len(chunk), np.int64)
        number[starts[1:]] = 1
        number = np.cumsum(number)
        is_new = np.zeros(len(chunk), np.int64)
        is_new[first_of_runs(chunk["key"], chunk["id"])] = 1
        documents = np.bincount(number, weights=is_new, minlength=len(starts)).astype(np.int64)
        first_id = chunk["id"][starts]
        if before.key == chunk["key"][0]:  # more records of one line than a chunk holds
            documents[0] += before.documents
            first_id[0] = before.first_id
        return cls(starts, number, documents, first_id)


@dataclasses.dataclass
class _Last:
    """The line that a chunk ended with; the next may begin with it."""

    key: int = -1
    documents: int = 0
    first_id: int = 0


def _judge_chunk(chunk: np.ndarray, runs: _Runs, settings: LineSettings) -> np.ndarray:
    """Give the verdicts on records."""
    is_shared = np.zeros(len(chunk), bool)
    if settings.shared is not None:
        is_shared = runs.documents[runs.number] >= settings.shared
    goes = is_shared.copy()
    if settings.repeated is not None:
        is_later = chunk["id"] != runs.first_id[runs.number]
        goes |= is_later & (chunk["characters"] >= settings.repeated)
    verdicts = np.empty(int(goes.sum()), _VERDICT)
    verdicts["id"], verdicts["line"] = chunk["id"][goes], chunk["line"][goes]
    verdicts["kind"] = np.where(is_shared[goes], 0, 1)
    return verdicts


def _with_top(top: list, chunk: np.ndarray, runs: _Runs, settings: LineSettings) -> list:
    """Add a chunk's shared lines to the ones that most documents have, and keep the first."""
    if settings.shared is None:
        return top
    chosen = np.flatnonzero(runs.documents >= settings.shared)
    chosen = chosen[np.argsort(-runs.documents[chosen], kind="stable")][:EXAMPLES]
    firsts = chunk[runs.starts[chosen]]
    found = zip(
        (-runs.documents[chosen]).tolist(),
        *(firsts[name].tolist() for name in ("key", "id", "line")),
        strict=True,
    )
    by_key = {each[1]: each for each in sorted([*top, *found], reverse=True)}
    return sorted(by_key.values())[:EXAMPLES]


def _by_part(parts: Parts, fates: Fates, verdicts: Buckets) -> Iterator[tuple[int, LineVerdicts]]:
    chunks = iter(verdicts)
    held = np.empty(0, _VERDICT)
    for number in parts.numbers():
        end = np.uint64((number + 1) * PART_ROWS)
        pieces = [held]
        while (not len(held) or held["id"][-1] < end) and (more := next(chunks, None)) is not None:
            held = more[np.lexsort((more["line"], more["id"]))]
            pieces.append(held)
        found = np.concatenate(pieces)
        cut = int(np.searchsorted(found["id"], end))
        held = found[cut:]
        reasons, _, others = fates.of_part(number, len(parts.index(number)))
        yield number, LineVerdicts(reasons, others, found[:cut], number * PART_ROWS)
    verdicts.close()
