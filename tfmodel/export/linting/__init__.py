"""Whether a TF Serving release can serve a SavedModel: `tfmodel lint`.

Anybody's SavedModel is read as it lies on disk; nothing of it is loaded or run. Not checked:
whether an operation has a kernel for its types, whether an attribute is newer than the release, and
whether the answers are right.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from tfmodel.export.linting import serving_ops
from tfmodel.export.linting.findings import Finding
from tfmodel.export.linting.saved_graph import (
    OperationUse,
    operation_uses,
    read_saved_graph,
    signatures_of,
)
from tfmodel.export.linting.servable import servable_findings

DEFAULT_TARGET = "2.12"
_SHOWN_FUNCTIONS = 2


@dataclasses.dataclass(frozen=True)
class LintReport:
    """What a TF Serving release makes of a SavedModel.

    Attributes:
        path: the version folder that was looked at.
        target: the TF Serving release, such as `2.12`.
        written_by: the TensorFlow that wrote it.
        signatures: that clients can ask.
        ops: every operation, by name.
        problems: for which the release refuses it, in words.
        warnings: what works, but not as one might wish.
    """

    path: Path
    target: str
    written_by: str
    signatures: tuple[str, ...]
    ops: tuple[OperationUse, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the release takes it."""
        return not self.problems

    @property
    def needs(self) -> str | None:
        """The first release from which on every one has all operations; None: none has."""
        found = [use.since for use in self.ops]
        return None if None in found else serving_ops.newest(serving_ops.releases()[0], *found)

    @property
    def verdict(self) -> str:
        """The outcome in a line."""
        counts = ", ".join(
            f"{len(found)} {kind}{'s' * (len(found) != 1)}"
            for kind, found in (("problem", self.problems), ("warning", self.warnings))
            if found
        )
        needs = "no release has all of its operations"
        if self.needs:
            needs = f"its operations need {self.needs} or newer"
        outcome = "can serve" if self.passed else "cannot serve"
        return (
            f"TF Serving {self.target} {outcome} {self.path}: {counts or 'nothing found'}; {needs}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Everything in types that JSON has, each operation with its release."""
        return {
            "passed": self.passed,
            "needs": self.needs,
            **dataclasses.asdict(self),
            "path": str(self.path),
            "ops": [{"since": use.since, **dataclasses.asdict(use)} for use in self.ops],
        }

    def lines(self, *, every: bool = False) -> list[str]:
        """The report to read, but for the verdict.

        Args:
            every: show every operation; otherwise those that some releases of the table lack.

        Returns:
            Lines without ends.
        """
        oldest = serving_ops.releases()[0]
        shown = [use for use in self.ops if every or not serving_ops.is_in_all(use.name)]
        lines = []
        if shown:
            width = max(9, *(len(use.name) for use in shown))
            lines.append(f"{'operation':<{width}}  TF Serving  nodes  where")
        for use in shown:
            lines.append(
                f"{use.name:<{width}}  {_span(use.name):<10}  {use.nodes:>5}  {_where(use)}"
            )
        if rest := len(self.ops) - len(shown):
            others = "other operations are" if shown else "operations are"
            lines.append(f"{rest} {others} in every TF Serving since {oldest}")
        lines += [f"problem: {words}" for words in self.problems]
        lines += [f"warning: {words}" for words in self.warnings]
        return lines


def lint(where: str | Path, *, target: str = DEFAULT_TARGET) -> LintReport:
    """Say whether a TF Serving release can serve a SavedModel, and what to mend.

    Args:
        where: a version folder, or the folder above, of which the highest version is taken.
        target: the TF Serving release, such as `2.12`.

    Returns:
        The operations with their releases, the problems and the warnings.

    Raises:
        ConfigError: no SavedModel there, a damaged one, or no such release.

    Example:
        >>> lint("runs/news/export/savedmodel", target="2.11").passed
        False
    """
    release = serving_ops.check_release(target)
    graph = read_saved_graph(where)
    uses = operation_uses(graph.meta_graphs)
    found = [_lack(use, release) for use in uses if not serving_ops.is_in(use.name, release)]
    found += servable_findings(graph)
    served = graph.served or graph.meta_graphs[0]
    return LintReport(
        path=graph.folder,
        target=release,
        written_by=served.meta_info_def.tensorflow_version or "unknown",
        signatures=tuple(signatures_of(served)),
        ops=tuple(uses),
        problems=tuple(finding.words for finding in found if finding.refuses),
        warnings=tuple(finding.words for finding in found if not finding.refuses),
    )


def _lack(use: OperationUse, release: str) -> Finding:
    """An operation that the release has not."""
    last = serving_ops.until(use.name)
    if use.since is None:
        lack = "is in no stock TF Serving"
    elif last and serving_ops.newest(use.since, release) == release:
        lack = f"is in TF Serving up to {last}, not in {release}"
    else:
        lack = f"is in TF Serving since {use.since}, not in {release}"
    remedy = serving_ops.remedy(use.name)
    return Finding(f"{use.name} {lack}; it is in {_where(use)}. {remedy}", refuses=True)


def _span(operation: str) -> str:
    first, last = serving_ops.since(operation), serving_ops.until(operation)
    return "none" if first is None else f"{first} to {last}" if last else f"since {first}"


def _where(use: OperationUse) -> str:
    """`signature ids, serving_default (function __inference_f_12)`."""
    functions = [name for name in use.functions if name != "graph"]
    shown = ", ".join(functions[:_SHOWN_FUNCTIONS])
    if len(functions) > _SHOWN_FUNCTIONS:
        shown += f" and {len(functions) - _SHOWN_FUNCTIONS} more"
    inside = f"function {shown}" if shown else "the graph itself"
    if not use.signatures:
        return f"{inside}, which no signature comes to"
    return f"signature {', '.join(use.signatures)} ({inside})"
