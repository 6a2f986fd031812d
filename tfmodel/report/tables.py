"""Tables as the page's template takes them: columns, and rows of cells as they are shown."""

from typing import Any

FOLDED_AFTER = 20
"""Lines; a longer table of classes shows its first ones and folds the others away."""


def column(
    name: str, *, numeric: bool = False, bar: bool = False, verdict: bool = False
) -> dict[str, Any]:
    """Describe a column: right-aligned numbers, cells made by `bar`, or True, False and None."""
    return {"name": name, "numeric": numeric, "bar": bar, "verdict": verdict}


def bar(share: float, text: str) -> dict[str, str]:
    """Make a cell with a bar of `share` of the full length, and a text beside."""
    return {"width": f"{100 * share:.2f}", "text": text}
