"""Personal data in raw texts: found by form and check digits, replaced by a word of its kind.

Nothing here logs, raises or returns the text of a finding: only kinds, places and counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence

from tfmodel.config import ConfigError
from tfmodel.data.privacy import accounts, addresses, cards, identities, phones, secret_keys
from tfmodel.data.privacy.findings import KINDS, PLACEHOLDERS, Finding, without_overlaps
from tfmodel.data.privacy.following import Round, moved
from tfmodel.data.privacy.full_width import narrowed
from tfmodel.data.privacy.reading import Reading
from tfmodel.data.privacy.settings import DEFAULT_REGIONS, PrivacySettings

__all__ = [
    "DEFAULT_REGIONS",
    "KINDS",
    "PLACEHOLDERS",
    "Finding",
    "PrivacySettings",
    "check_privacy",
    "Round",
    "find_private",
    "moved",
    "replace_and_follow",
    "replace_private",
]

_FINDERS: dict[str, Callable[[Reading], list[tuple[int, int]]]] = {
    "secret": secret_keys.find,
    "email": addresses.find_emails,
    "iban": accounts.find,
    "identity": identities.find,
    "card": cards.find,
    "ip": addresses.find_ips,
    "phone": phones.find,
}
# A place may show only when its neighbour is replaced; texts built for that end here.
_MOST_ROUNDS = 20


def find_private(
    text: str,
    kinds: Collection[str] | None = None,
    *,
    regions: Sequence[str] = DEFAULT_REGIONS,
) -> list[Finding]:
    """Find what is private in a text.

    Args:
        text: any string, of any length; the time is linear in it.
        kinds: of `KINDS`; all by default.
        regions: countries (ISO 3166) whose phone and identity numbers are known by themselves.

    Returns:
        Findings in the order of the text, none overlapping: the kind that stands first in `KINDS`
        wins, of one kind the longer.

    Raises:
        ConfigError: an unknown kind, or the extra `privacy` is not installed.
    """
    chosen = _chosen(kinds)
    reading = Reading(narrowed(text), regions)
    if not reading.may_hold_any and not secret_keys.has_mark(reading.text):
        return []
    found = [Finding(kind, *place) for kind in chosen for place in _FINDERS[kind](reading)]
    return without_overlaps(found) if len(found) > 1 else found


def replace_private(
    text: str,
    kinds: Collection[str] | None = None,
    *,
    regions: Sequence[str] = DEFAULT_REGIONS,
) -> tuple[str, Counter[str]]:
    """Replace what is private in a text by the placeholder of its kind; twice changes nothing more.

    Args:
        text: any string.
        kinds: of `KINDS`; all by default.
        regions: countries (ISO 3166) whose phone and identity numbers are known by themselves.

    Returns:
        The text with `PLACEHOLDERS`, set off by a space from letters and digits beside them, and
        how many of each kind were replaced.

    Raises:
        ConfigError: an unknown kind, or the extra `privacy` is not installed.

    Example:
        >>> replace_private("Mail ann@example.com or call +1 650-253-0000.")
        ('Mail PRIVATEEMAIL or call PRIVATEPHONE.', Counter({'email': 1, 'phone': 1}))
    """
    counts: Counter[str] = Counter()
    for _ in range(_MOST_ROUNDS):
        findings = find_private(text, kinds, regions=regions)
        if not findings:
            break
        counts.update(finding.kind for finding in findings)
        text = _replaced(text, findings)
    return text, counts


def replace_and_follow(
    text: str,
    kinds: Collection[str] | None = None,
    *,
    regions: Sequence[str] = DEFAULT_REGIONS,
) -> tuple[str, list[Round]]:
    """Replace as `replace_private` does, and tell where everything has gone.

    Args:
        text: any string.
        kinds: of `KINDS`; all by default.
        regions: countries (ISO 3166) whose phone and identity numbers are known by themselves.

    Returns:
        The text, and what each round changed, for `moved`; it holds nothing of the text.

    Raises:
        ConfigError: an unknown kind, or the extra `privacy` is not installed.

    Example:
        >>> text, rounds = replace_and_follow("ann@example.com wrote to Bob.")
        >>> start, end = moved(rounds, 25, 28)
        >>> text[start:end]
        'Bob'
    """
    rounds: list[Round] = []
    for _ in range(_MOST_ROUNDS):
        findings = find_private(text, kinds, regions=regions)
        if not findings:
            break
        rounds.append([(start, end, len(new)) for start, end, new in _edits(text, findings)])
        text = _replaced(text, findings)
    return text, rounds


def check_privacy(settings: PrivacySettings) -> None:
    """Meet what is not installed or not known before the first text rather than in a worker.

    Raises:
        ConfigError: the extra `privacy` is needed and not installed, or a region is unknown.
    """
    phones.check_regions(settings.regions)
    find_private("0 @", settings.kinds, regions=settings.regions)


def _chosen(kinds: Collection[str] | None) -> Collection[str]:
    if kinds is None:
        return KINDS
    for kind in kinds:
        if kind not in _FINDERS:
            raise ConfigError(
                f"expected kinds of private data. Received: {kind}. Known: {', '.join(KINDS)}."
            )
    return kinds


def _edits(text: str, findings: Sequence[Finding]) -> Iterator[tuple[int, int, str]]:
    """What takes the place of what, in the order of the text; a blank is a change of its own."""
    for kind, start, end in findings:
        if start and text[start - 1].isalnum():
            yield start, start, " "
        yield start, end, PLACEHOLDERS[kind]
        if end < len(text) and text[end].isalnum():
            yield end, end, " "


def _replaced(text: str, findings: Sequence[Finding]) -> str:
    parts, reached = [], 0
    for start, end, new in _edits(text, findings):
        parts += [text[reached:start], new]
        reached = end
    return "".join([*parts, text[reached:]])
