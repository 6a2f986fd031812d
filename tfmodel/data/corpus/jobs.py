"""What workers do for a corpus: parts of documents, first cleaned, then without shared lines."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import numpy as np

from tfmodel.data.cleaning.row_cleaning import Cleaned
from tfmodel.data.corpus.cleaning import DocumentCleaner, judge
from tfmodel.data.corpus.lines import LINES_FILE, LineVerdicts, digests_of_lines, without_lines
from tfmodel.data.corpus.settings import CorpusSettings
from tfmodel.data.corpus.similarity import bands_of, compare_documents
from tfmodel.data.parts import DROPPED_FILE, Parts, RowReader
from tfmodel.data.parts.fates import REASONS
from tfmodel.data.parts.making import PartMaker
from tfmodel.data.rows import Reject, Row
from tfmodel.data.targets import TARGETS
from tfmodel.run_folder import write_aside

__all__ = ["compare_documents", "finish_document_part", "make_document_part"]


def make_document_part(
    raw: str, folder: str, role: str, target: str, settings: dict, seed: int
) -> None:
    """Make a part of raw documents: as `make_part`, with the digests of their lines.

    Args:
        raw: the file, from `write_raw`.
        folder: where the part goes.
        role: train or dev.
        target: `none`.
        settings: the `corpus:` section as JSON.
        seed: of the ranks.
    """
    chosen = CorpusSettings.model_validate(settings)
    maker = _CleanedPartMaker(role, chosen, seed)
    clean = DocumentCleaner(chosen)
    maker.further["private"] = clean.private
    maker.make_of_file(Path(raw), Path(folder), clean)


def finish_document_part(
    source: str, number: int, verdicts: str, folder: str, settings: dict, seed: int
) -> None:
    """Make a part anew without the documents and lines that others have: a worker's job.

    Args:
        source: folder of the parts that `make_document_part` made.
        number: of the part.
        verdicts: file of `LineVerdicts`.
        folder: where the part goes.
        settings: the `corpus:` section as JSON.
        seed: of the ranks.
    """
    chosen = CorpusSettings.model_validate(settings)
    parts = Parts(Path(source))
    reader = RowReader(parts)
    finish = _Finisher(LineVerdicts.read(Path(verdicts)), chosen, lambda row: reader(row).origin)
    maker = _FinishedPartMaker(parts, number, chosen, seed)
    maker.further["lines"] = finish.removed
    with write_aside(Path(folder), replace=True) as aside:
        aside.mkdir()
        maker.make(parts.rows(number), aside, finish)
    reader.close()


class _CleanedPartMaker(PartMaker):
    def __init__(self, role: str, settings: CorpusSettings, seed: int):
        super().__init__(role, TARGETS["none"], settings.as_rows(), seed, bands_of)
        self._lines: list[np.ndarray] = []

    def make(self, raw: Any, folder: Path, clean: Any) -> None:
        super().make(raw, folder, clean)
        lines = self._lines or [digests_of_lines("", 0)[:0]]
        np.save(folder / LINES_FILE, np.concatenate(lines))

    def _keep(self, row: Row, rows: Any) -> None:
        self._lines.append(digests_of_lines(row.text, len(self.index)))
        super()._keep(row, rows)


class _FinishedPartMaker(PartMaker):
    """Makes a part of another; what that had left out is left out here as well."""

    def __init__(self, parts: Parts, number: int, settings: CorpusSettings, seed: int):
        before = parts.summary(number)
        rows = settings.as_rows().model_copy(update={"near_duplicates": None})
        super().__init__(before["role"], TARGETS["none"], rows, seed)
        self.dropped.update(before["dropped"])
        self.raw = sum(before["dropped"].values())
        self.cleaned = before["cleaning"]
        self.further["private"] = before["private"]
        self._left_out = parts.path(number) / DROPPED_FILE

    def make(self, raw: Any, folder: Path, clean: Any) -> None:
        super().make(raw, folder, clean)
        path = folder / DROPPED_FILE
        path.write_bytes(self._left_out.read_bytes() + path.read_bytes())


class _Finisher:
    """Judges the documents of a part, one after another; takes lines out of those that stay."""

    def __init__(self, verdicts: LineVerdicts, settings: CorpusSettings, origin_of: Any):
        self._verdicts = verdicts
        self._settings = settings.cleaning
        self._origin_of = origin_of
        self._place = -1
        self.removed: collections.Counter[str] = collections.Counter()

    def __call__(self, row: Row | Reject) -> Cleaned:
        self._place += 1
        reason = REASONS[self._verdicts.reasons[self._place]]
        if reason:
            return Cleaned(reason, self._origin_of(self._verdicts.others[self._place]))
        lines = self._verdicts.of_document(self._place)
        if lines:
            row.text, removed = without_lines(row.text, lines)
            self.removed.update(removed)
        return judge_what_is_left(row.text, self._settings) if lines else Cleaned("")


def judge_what_is_left(text: str, settings: Any) -> Cleaned:
    """Judge a document from which lines were taken."""
    reason, detail = judge(text, settings)
    after = "once the lines were taken out that other documents have"
    return Cleaned(reason, f"{detail}, {after}" if detail else after) if reason else Cleaned("")
