"""Small labelled rows for the tests beside this file."""

import csv
import io


def as_csv(rows, header=("text", "label"), **dialect) -> str:
    """Write rows as a CSV."""
    stream = io.StringIO()
    csv.writer(stream, **dialect).writerows([header, *rows])
    return stream.getvalue()


def numbered(count: int, labels=("neg", "pos")) -> list[tuple[str, str]]:
    """Give rows with distinct texts, labels in turn."""
    return [(f"text number {i}", labels[i % len(labels)]) for i in range(count)]
