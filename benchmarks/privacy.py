"""Private data in texts: precision and recall by kind, findings in Wikipedia, megabytes a second.

Run: TFMODEL_DATA=... python benchmarks/privacy.py
Needs the extra `privacy`. --show prints what is found in Wikipedia and what is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tfmodel.data.privacy import DEFAULT_REGIONS, KINDS, find_private

# The set's own types; the others are names, places, times and such, which no form tells.
TYPES = {
    "EMAIL_ADDRESS": "email",
    "IBAN_CODE": "iban",
    "US_SSN": "identity",
    "CREDIT_CARD": "card",
    "IP_ADDRESS": "ip",
    "PHONE_NUMBER": "phone",
}
REGIONS = {
    "the regions by default": DEFAULT_REGIONS,
    "the countries of the set": (
        *("US", "GB", "CA", "AU", "FR", "DE", "AT", "CH", "BE", "NL", "DK", "SE", "NO", "FI", "IS"),
        *("PL", "CZ", "SK", "SI", "HR", "HU", "EE", "ES", "PT", "IT", "CY", "BR", "UY", "ZA", "TN"),
    ),
}
REPEATS = 5


def accuracy(rows: list[dict], regions: tuple[str, ...], *, show: bool) -> None:
    """Of each kind: how many stand there, were found in full, in part, and were found elsewhere."""
    right, partly, missed, extra = Counter(), Counter(), Counter(), Counter()
    other = Counter()
    for row in rows:
        text = row["full_text"]
        found = find_private(text, regions=regions)
        taken = set()
        for span in row["spans"]:
            kind = TYPES.get(span["entity_type"])
            start, end = span["start_position"], span["end_position"]
            meets = [f for f in found if f.start < end and start < f.end]
            if kind is None:
                other.update((span["entity_type"], f.kind) for f in meets)
                continue
            alike = [f for f in meets if f.kind == kind]
            taken.update(alike)
            if any(f.start <= start and end <= f.end for f in alike):
                right[kind] += 1
            elif alike:
                partly[kind] += 1
            else:
                missed[kind] += 1
                if show:
                    print("missed", kind, repr(text[max(0, start - 20) : end + 10]), meets)
        for f in found:
            if f not in taken:
                extra[f.kind] += 1
                if show:
                    print("extra", f.kind, repr(text[max(0, f.start - 20) : f.end + 10]))
    for kind in KINDS:
        there = right[kind] + partly[kind] + missed[kind]
        hits = right[kind] + partly[kind]
        if there:
            print(
                f"  {kind}: {there} there, recall {right[kind] / there:.1%} in full"
                f" ({partly[kind]} more in part), precision {hits / max(1, hits + extra[kind]):.1%}"
                f" ({extra[kind]} elsewhere)"
            )
        elif extra[kind]:
            print(f"  {kind}: none there, {extra[kind]} found")
    print(f"  of those elsewhere, in spans of other types: {dict(other)}")


def wiki(folder: Path, files: int) -> Iterator[str]:
    for path in sorted(folder.iterdir())[:files]:
        yield path.read_text("utf-8")


def megabytes_a_second(texts: list[str], kinds: tuple[str, ...] | None) -> str:
    size = sum(len(text.encode()) for text in texts) / 1e6
    taken = []
    for _ in range(REPEATS):
        started = time.process_time()
        for text in texts:
            find_private(text, kinds)
        taken.append(size / (time.process_time() - started))
    return f"{statistics.median(taken):.1f} ({min(taken):.1f} to {max(taken):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--show", action="store_true")
    show = parser.parse_args().show
    data = Path(os.environ["TFMODEL_DATA"])
    rows = json.loads((data / "pii_presidio_synth/synth_dataset_v2.json").read_text("utf-8"))
    for name, regions in REGIONS.items():
        print(f"{len(rows)} made texts, {name}:")
        accuracy(rows, regions, show=show)
    for name in ("wiki_en", "wiki_zh"):
        texts = [
            document
            for file in wiki(data / name, 40)
            for document in file.split("</doc>\n")
            if document.strip()
        ]
        counts: Counter[str] = Counter()
        for text in texts:
            for f in find_private(text):
                counts[f.kind] += 1
                if show:
                    print(f.kind, repr(text[max(0, f.start - 30) : f.end + 15]))
        size = sum(map(len, texts)) / 1e6
        print(f"{name}: {len(texts)} documents, {size:.1f} M characters, found {dict(counts)}")
        some = texts[:3000]
        lines = [line for text in some for line in text.split("\n") if line.strip()]
        print(f"  MB/s of processor time, all kinds: documents {megabytes_a_second(some, None)}")
        print(f"    lines {megabytes_a_second(lines, None)}")
        for kind in KINDS:
            print(f"    {kind} alone: {megabytes_a_second(some, (kind,))}")


if __name__ == "__main__":
    main()
