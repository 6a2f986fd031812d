"""What a finding is, and which one stays where two overlap."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from typing import NamedTuple

KINDS = ("secret", "email", "iban", "identity", "card", "ip", "phone")
"""What is looked for; where two findings overlap, the kind that stands first here wins."""

PLACEHOLDERS = {
    "secret": "PRIVATESECRET",
    "email": "PRIVATEEMAIL",
    "iban": "PRIVATEIBAN",
    "identity": "PRIVATEIDENTITY",
    "card": "PRIVATECARD",
    "ip": "PRIVATEIP",
    "phone": "PRIVATEPHONE",
}
"""What stands in a text in place of a finding.

Letters alone, as BERT's tokenizers cut a text at brackets and underscores: such a word is one piece
of a vocabulary that holds it, which `[EMAIL]` never is.
"""


class Finding(NamedTuple):
    """Where something private stands: text[start:end]. The text itself is never kept."""

    kind: str
    start: int
    end: int


def without_overlaps(findings: Iterable[Finding]) -> list[Finding]:
    """Keep, of findings that overlap, the kind first in `KINDS`; of one kind the longer one.

    Args:
        findings: in any order.

    Returns:
        What is kept, in the order of the text.
    """
    # In the order of the text; a place is free if neither neighbour reaches into it.
    kept: list[Finding] = []
    for finding in sorted(findings, key=_rank):
        at = bisect.bisect_left(kept, finding.start, key=_start)
        if at and kept[at - 1].end > finding.start:
            continue
        if at < len(kept) and kept[at].start < finding.end:
            continue
        kept.insert(at, finding)
    return kept


def _rank(finding: Finding) -> tuple[int, int, int]:
    return KINDS.index(finding.kind), finding.start - finding.end, finding.start


def _start(finding: Finding) -> int:
    return finding.start
