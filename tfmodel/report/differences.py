"""Two versions of a text side by side, with what differs marked."""

import difflib
import re
from typing import Any

from tfmodel.report.data import visible

# Words; but every character of a script that writes words without spaces between.
_PIECES = re.compile("[^\\W\u0e00-\u0eff\u2e80-\U0003ffff]+|.", re.DOTALL)
_SHOWN_CHARACTERS = 1_000


def marked(before: str, after: str, *, cut_at: int) -> dict[str, list[dict[str, Any]]]:
    """Mark what two texts do not have in common; invisible characters are made visible.

    Args:
        before: a text, or a part of one that was cut out where the two begin to differ.
        after: the other.
        cut_at: texts of at least this many characters are such parts: that one ends later than
            the other is no difference.

    Returns:
        `before` and `after`: pieces with `text` and whether it is `changed`.
    """
    one, other = (_PIECES.findall(text[:_SHOWN_CHARACTERS]) for text in (before, after))
    steps = difflib.SequenceMatcher(None, one, other, autojunk=False).get_opcodes()
    is_part = max(len(before), len(after)) >= cut_at
    if is_part and len(steps) > 1 and steps[-1][0] != "equal":
        steps.pop()
    pieces: dict[str, list[dict[str, Any]]] = {"before": [], "after": []}
    for kind, start, end, other_start, other_end in steps:
        sides = (("before", one[start:end]), ("after", other[other_start:other_end]))
        for side, words in sides:
            if words:
                text = visible("".join(words))
                pieces[side].append({"text": text, "changed": kind != "equal"})
    return pieces
