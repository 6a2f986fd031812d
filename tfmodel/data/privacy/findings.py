"""What a finding is, and which one stays where two overlap."""

from __future__ import annotations

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
    ranked = sorted(findings, key=lambda f: (f.start, f.end))
    kept: list[Finding] = []
    for cluster in _clusters(ranked):
        taken: list[Finding] = []
        for each in sorted(cluster, key=_rank):
            if all(each.end <= other.start or other.end <= each.start for other in taken):
                taken.append(each)
        kept += sorted(taken, key=lambda f: f.start)
    return kept


def _rank(finding: Finding) -> tuple[int, int, int]:
    return KINDS.index(finding.kind), finding.start - finding.end, finding.start


def _clusters(ranked: list[Finding]) -> Iterable[list[Finding]]:
    """Findings that hang together by overlaps; most are alone."""
    cluster: list[Finding] = []
    end = 0
    for each in ranked:
        if cluster and each.start >= end:
            yield cluster
            cluster = []
        cluster.append(each)
        end = max(end, each.end) if len(cluster) > 1 else each.end
    if cluster:
        yield cluster
