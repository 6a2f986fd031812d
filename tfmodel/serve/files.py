"""Answer texts from a stream of lines, or from a JSONL or CSV file."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.run_folder import write_aside

_ROWS_AT_ONCE = 256
_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv"}


def answer_lines(predictor, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Answer one text a line, as they come.

    Args:
        predictor: from `tfmodel.load`, of single texts.
        lines: texts, with or without a newline at the end; a blank one is answered too.

    Yields:
        One answer a line, in order.

    Raises:
        ConfigError: the model takes pairs.
    """
    # Lines of a terminal are answered one by one; those of a pipe in batches are a matter of
    # the reader's buffer, so small batches first keep the first answer near.
    texts = (line.rstrip("\r\n") for line in lines)
    size = 1
    while chunk := list(itertools.islice(texts, size)):
        yield from predictor.predict(chunk)
        size = min(size * 2, _ROWS_AT_ONCE)


def answer_file(
    predictor,
    path: str | Path,
    output: str | Path,
    *,
    text: str = "text",
    text_pair: str = "text_pair",
) -> int:
    """Answer every row of a file; the output appears whole or not at all.

    Args:
        predictor: from `tfmodel.load`.
        path: `.jsonl` (an object a line), `.csv` or `.tsv` (with a header), UTF-8.
        output: `.jsonl`, `.csv` or `.tsv`; the input's other fields are kept in it.
        text: the field with the text.
        text_pair: the field with the second text, where the model takes pairs.

    Returns:
        How many rows were answered.

    Raises:
        ConfigError: no such file, another format, a field that is missing, or not UTF-8.
    """
    path, output = Path(path), Path(output)
    read, write = _READERS[_format(path, "--input")], _WRITERS[_format(output, "--output")]
    if output.exists() and output.samefile(path):
        raise ConfigError(f"{output}: expected another file than the input. Name a new one.")
    wanted = [text, text_pair] if predictor.has_pairs else [text]
    try:
        with write_aside(output) as aside:
            return write(aside, _answers(predictor, read(path), wanted, path))
    except FileNotFoundError as error:
        raise ConfigError(
            f"Expected an input file and a folder for the output. Received: {error.filename}, "
            "which is not there."
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: expected UTF-8. Received: byte 0x{error.object[error.start]:02x}. "
            "Convert it first, such as: iconv -f latin-1 -t utf-8."
        ) from None


def _answers(predictor, rows, wanted: list[str], path: Path) -> Iterator[dict]:
    rows = iter(rows)
    while chunk := list(itertools.islice(rows, _ROWS_AT_ONCE)):
        columns = []
        for name in wanted:
            for number, row in chunk:
                if not isinstance(row.get(name), str):
                    raise ConfigError(
                        f"{path}:{number}: expected a text in the field {name}. Received: "
                        f"{'no such field' if name not in row else repr(row[name])}; it has "
                        f"{', '.join(map(str, row)) or 'none'}. Name yours with --text"
                        + (" and --text-pair." if len(wanted) > 1 else ".")
                    )
            columns.append([row[name] for _, row in chunk])
        for (_, row), answer in zip(chunk, predictor.predict(*columns), strict=True):
            yield {**row, **answer}


def _format(path: Path, option: str) -> str:
    try:
        return _SUFFIXES[path.suffix.lower()]
    except KeyError:
        raise ConfigError(
            f"{option} must end in {', '.join(_SUFFIXES)}. Received: {path}."
        ) from None


def _read_jsonl(path: Path) -> Iterator[tuple[int, dict]]:
    with open(path, encoding="utf-8-sig", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ConfigError(f"{path}:{number}: expected JSON. Received: {error}.") from None
            if not isinstance(row, dict):
                raise ConfigError(
                    f'{path}:{number}: expected an object such as {{"text": "…"}}. '
                    f"Received: {type(row).__name__}."
                )
            yield number, row


def _read_delimited(delimiter: str):
    def read(path: Path) -> Iterator[tuple[int, dict]]:
        csv.field_size_limit(2**31 - 1)
        with open(path, encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, delimiter=delimiter)
            try:
                for row in reader:
                    yield reader.line_num, {k: v for k, v in row.items() if k is not None}
            except csv.Error as error:
                raise ConfigError(
                    f"{path}:{reader.line_num}: expected CSV. Received: {error}."
                ) from None

    return read


def _write_jsonl(path: Path, rows: Iterable[dict]) -> int:
    count = 0
    with open(path, "w", encoding="utf-8") as file:
        for count, row in enumerate(rows, 1):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return count


def _write_delimited(delimiter: str):
    def write(path: Path, rows: Iterable[dict]) -> int:
        count = 0
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = None
            for count, row in enumerate(rows, 1):
                scores = row.pop("scores", {})
                row |= {f"score_{label}": value for label, value in scores.items()}
                if writer is None:
                    writer = csv.DictWriter(file, list(row), delimiter=delimiter)
                    writer.writeheader()
                writer.writerow({key: row.get(key) for key in writer.fieldnames})
        return count

    return write


_READERS = {"jsonl": _read_jsonl, "csv": _read_delimited(","), "tsv": _read_delimited("\t")}
_WRITERS = {"jsonl": _write_jsonl, "csv": _write_delimited(","), "tsv": _write_delimited("\t")}
