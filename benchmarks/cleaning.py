"""Cleaning: microseconds of processor time a row, and how many rows of real sets each step changes.

Run: TFMODEL_DATA=... python benchmarks/cleaning.py
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tfmodel.data.cleaning import chosen_steps, clean_and_tell, clean_with_spans
from tfmodel.data.cleaning.filters import reason_to_drop
from tfmodel.data.cleaning.settings import CleaningSettings
from tfmodel.data.cleaning.steps import STEPS

ROWS = 5000
REPEATS = 7


def real_sets() -> dict[str, list[str]]:
    """Draw rows of sets whose texts differ in length, script and dirt."""
    data = Path(os.environ["TFMODEL_DATA"])
    sets = {
        "sst2": column(data / "sst2/train.tsv", 0),
        "sms_spam": column(data / "sms_spam/SMSSpamCollection", 1),
        "sentences": column(next((data / "uci_sentiment_sentences").glob("*imdb*")), 0),
        "wiki_en": wiki_lines(data / "wiki_en"),
        "wiki_zh": wiki_lines(data / "wiki_zh"),
    }
    draw = random.Random(7)
    return {name: draw.sample(rows, min(ROWS, len(rows))) for name, rows in sets.items()}


def column(path: Path, number: int) -> list[str]:
    lines = path.read_text("utf-8").split("\n")
    return [line.split("\t")[number] for line in lines[1:] if line.count("\t") >= number and line]


def wiki_lines(folder: Path) -> list[str]:
    files = sorted(folder.iterdir())[:4]
    lines = [line for file in files for line in file.read_text("utf-8").split("\n")]
    return [line for line in lines if line.strip() and not line.startswith("<")]


def microseconds(function: Callable[[str], object], rows: list[str]) -> str:
    """Median and range over the repeats, a row."""
    taken = []
    for _ in range(REPEATS):
        started = time.process_time()
        for row in rows:
            function(row)
        taken.append((time.process_time() - started) / len(rows) * 1e6)
    return f"{statistics.median(taken):.1f} ({min(taken):.1f}-{max(taken):.1f})"


def clean_half(row: str, steps: Sequence[str]) -> object:
    return clean_with_spans(row, [(0, len(row) // 2)], steps)


def main() -> None:
    ways = {
        "default": CleaningSettings(),
        "default + mojibake": CleaningSettings(mojibake=True),
        "default + html": CleaningSettings(html=True),
        "all, NFKC": CleaningSettings(mojibake=True, html=True, unicode="NFKC"),
    }
    for name, rows in real_sets().items():
        length = statistics.median(map(len, rows))
        print(f"{name}: {len(rows)} rows, median {length:.0f} characters; microseconds a row")
        for way, settings in ways.items():
            steps = chosen_steps(settings)
            print(f"  {way}: {microseconds(partial(clean_and_tell, steps=steps), rows)}")
        steps = chosen_steps(CleaningSettings())
        print(f"  default, one span: {microseconds(partial(clean_half, steps=steps), rows)}")
        for what, settings in {
            "script filter": CleaningSettings(scripts=["Latin"]),
            "language filter": CleaningSettings(languages=["en"]),
        }.items():
            print(f"  {what}: {microseconds(partial(reason_to_drop, settings=settings), rows)}")
        changed = Counter(step for row in rows for step in clean_and_tell(row, list(STEPS))[1])
        print(f"  rows changed: {dict(changed)}")


if __name__ == "__main__":
    main()
