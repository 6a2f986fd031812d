"""How far the work is, and how long it will take: on a terminal, and only where it takes long."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

_UNTIL_SHOWN_SECONDS = 2
_ROWS_BETWEEN_LOOKS = 2_000

Item = TypeVar("Item")


def bar(total: int, name: str, *, unit: str) -> Any:
    """Make a bar for a known number of things."""
    from tqdm import tqdm

    delay = _UNTIL_SHOWN_SECONDS
    return tqdm(total=total, desc=name, unit=unit, delay=delay, disable=None, leave=False)


def while_reading(rows: Iterable[Item], name: str, paths: Sequence[Path]) -> Iterator[Item]:
    """Give the rows that are read from files; show the share of the files' bytes and the rows.

    How many rows there are nobody knows before the end, but where in its file each descriptor of
    this process stands Linux tells, whatever library reads it, packed or not.
    """
    from tqdm import tqdm

    files = [path for each in paths for path in _files_of(each)]
    sizes = {os.path.realpath(path): path.stat().st_size for path in files}
    delay = _UNTIL_SHOWN_SECONDS
    with tqdm(
        total=sum(sizes.values()), desc=name, unit="B", unit_scale=True, delay=delay,
        disable=None, leave=False,
    ) as shown:  # fmt: skip
        if shown.disable:
            yield from rows
            return
        for count, row in enumerate(rows, start=1):
            yield row
            if count % _ROWS_BETWEEN_LOOKS == 0:
                shown.update(max(0, _bytes_read(sizes) - shown.n))
                shown.set_postfix_str(f"{count:,} rows")


def _files_of(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(each for each in path.rglob("*") if each.is_file())


def _bytes_read(sizes: dict[str, int]) -> int:
    """Sum up the files before the last one that is open, and its own position."""
    places = {path: number for number, path in enumerate(sizes)}
    found = (0, 0)
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            if path in places:
                information = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
                found = max(found, (places[path], int(information.split()[1])))
        except OSError:  # closed meanwhile
            continue
    before = sum(list(sizes.values())[: found[0]])
    return before + found[1]
