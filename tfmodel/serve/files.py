"""Answer texts from a stream of lines, or from a JSONL or CSV file."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from tfmodel.config import ConfigError
from tfmodel.data.reading.dialect import DELIMITERS, find_quoting, head_of
from tfmodel.data.reading.encoding import guess_encoding, read_lines
from tfmodel.data.reading.jsonlines import flatten, parse_line
from tfmodel.data.reading.records import cut, plain_records, quoted_records
from tfmodel.export.places import make_folder
from tfmodel.run_folder import write_aside

_ROWS_AT_ONCE = 256
_BYTES_AT_ONCE = 2**16
_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv"}


def answer_lines(predictor, stream: BinaryIO) -> Iterator[dict[str, Any]]:
    """Answer one text a line, as they come.

    What has arrived is answered before more is waited for: one line from a person who types, a
    batch from a file.

    Args:
        predictor: from `tfmodel.load`, of single texts.
        stream: UTF-8 bytes with a `read1`, such as `sys.stdin.buffer`; a blank line is answered
            too, and only a newline ends a line.

    Yields:
        One answer a line, in order.

    Raises:
        ConfigError: the model takes pairs, or a line is not UTF-8; those before it are answered.
    """
    answered, begun = 0, b""
    while block := stream.read1(_BYTES_AT_ONCE):
        *lines, begun = (begun + block).split(b"\n")
        yield from _answer_block(predictor, lines, answered)
        answered += len(lines)
    if begun:
        yield from _answer_block(predictor, [begun], answered)


def _answer_block(predictor, lines: Sequence[bytes], answered: int) -> Iterator[dict[str, Any]]:
    texts, mistake = [], None
    for number, line in enumerate(lines, answered + 1):
        try:
            texts.append(line.decode("utf-8").removesuffix("\r"))
        except UnicodeDecodeError as error:
            mistake = ConfigError(
                f"Expected UTF-8 on standard input. Received: byte 0x{line[error.start]:02x} on "
                f"line {number:,}. Convert it first, such as: iconv -f latin-1 -t utf-8"
            )
            break
    if texts:
        yield from predictor.predict(texts)
    if mistake is not None:
        raise mistake


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
        path: `.jsonl` (an object a line), `.csv` or `.tsv` (with a header), UTF-8; delimiter and
            quotes are found by a look, as in training.
        output: `.jsonl`, `.csv` or `.tsv`; the input's other fields are kept in it, as
            `input_NAME` where the answer has a field of that name (such as `label`, and in a
            table `score_LABEL`); as `input_input_NAME` where the input has that one too.
        text: the field with the text.
        text_pair: the field with the second text, where the model takes pairs.

    Returns:
        How many rows were answered.

    Raises:
        ConfigError: no such file, another format, a field that is missing, not UTF-8, or an
            output that cannot be written.
    """
    path, output = Path(path), Path(output)
    read, written = _READERS[_format(path, "--input")], _format(output, "--output")
    if not path.is_file():
        what = "a folder" if path.is_dir() else "a path where nothing is"
        raise ConfigError(f"{path}: expected a file for --input. Received: {what}.")
    if output.is_dir() or (output.exists() and output.samefile(path)):
        what = "a folder" if output.is_dir() else "the input itself"
        raise ConfigError(f"{output}: expected a file of its own for --output. Received: {what}.")
    make_folder(output.parent)
    _require_utf8(path)
    wanted = [text, text_pair] if predictor.has_pairs else [text]
    with write_aside(output) as aside:
        answers = _answers(predictor, read(path, wanted), wanted, path, table=written != "jsonl")
        return _WRITERS[written](aside, answers)


def read_rows(path: str | Path, wanted: list[str]) -> Iterator[tuple[str, ...]]:
    """Read fields with texts.

    Args:
        path: `.jsonl`, `.csv` or `.tsv`, as `answer_file` takes them.
        wanted: names of the fields.

    Yields:
        The texts of each row, in the order of `wanted`.

    Raises:
        ConfigError: as `answer_file`.
    """
    path = Path(path)
    read = _READERS[_format(path, "The file of texts")]
    if not path.is_file():
        raise ConfigError(f"{path}: expected a file of texts. Received: none. Check the path.")
    _require_utf8(path)
    for number, row in read(path, wanted):
        yield tuple(_text(row, name, f"{path}:{number}") for name in wanted)


def _answers(
    predictor, rows: Iterator[tuple[int, dict]], wanted: list[str], path: Path, *, table: bool
) -> Iterator[dict]:
    # The answer's texts under the names they had are no loss; a right label would be.
    same = {name for name, own in zip(wanted, ("text", "text_pair"), strict=False) if name == own}
    while chunk := list(itertools.islice(rows, _ROWS_AT_ONCE)):
        columns = [
            [_text(row, name, f"{path}:{number}") for number, row in chunk] for name in wanted
        ]
        for (_, row), answer in zip(chunk, predictor.predict(*columns), strict=True):
            if table:
                scores = answer.pop("scores", {})
                answer |= {f"score_{label}": score for label, score in scores.items()}
                for name in {"entities", "gaps"} & {*answer}:
                    answer[name] = json.dumps(answer[name], ensure_ascii=False)
                if "labels" in answer:
                    answer["labels"] = ", ".join(answer["labels"])
            yield _renamed(row, {*answer} - same) | answer


def _renamed(row: dict, taken: set[str]) -> dict:
    """The row with other names for the fields whose names are taken; it loses none."""
    renamed = {}
    for name, value in row.items():
        free = name
        while free in taken or (free != name and (free in row or free in renamed)):
            free = f"input_{free}"
        renamed[free] = value
    return renamed


def _text(row: dict, name: str, origin: str) -> str:
    fields = row if name in row else flatten(row)
    if isinstance(fields.get(name), str):
        return fields[name]
    received = repr(fields[name]) if name in fields else "no such field"
    raise ConfigError(
        f"{origin}: expected a text in the field {name}. Received: {received}; the fields are "
        f"{', '.join(fields) or 'none'}. Name yours with --text (for pairs also --text-pair)."
    )


def _format(path: Path, option: str) -> str:
    try:
        return _SUFFIXES[path.suffix.lower()]
    except KeyError:
        raise ConfigError(
            f"{option} must end in {', '.join(_SUFFIXES)}. Received: {path}."
        ) from None


# --- reading ------------------------------------------------------------------------------


def _require_utf8(path: Path) -> None:
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                likely = guess_encoding(path)
                raise ConfigError(
                    f"{path}:{number}: expected UTF-8. Received: byte 0x{line[error.start]:02x}; "
                    f"the file is likely in {likely}. Convert it: iconv -f {likely} -t utf-8"
                ) from None


def _read_jsonl(path: Path, wanted: list[str]) -> Iterator[tuple[int, dict]]:
    for number, line in enumerate(read_lines(path, "utf-8"), 1):
        if not line.strip():
            continue
        row, problem = parse_line(line)
        if problem:
            raise ConfigError(
                f'{path}:{number}: expected an object such as {{"text": "…"}}. Received: {problem}.'
            )
        yield number, row


def _read_delimited(path: Path, wanted: list[str]) -> Iterator[tuple[int, dict]]:
    head = head_of(path, "utf-8")
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    cuts = (each for each in (usual, *DELIMITERS) if {*wanted} <= {*cut(head[0], each)})
    delimiter = next(cuts, usual)
    columns = cut(head[0], delimiter)
    if _is_rfc4180(path, delimiter, len(columns)) or find_quoting(head, delimiter, len(columns)):
        records = quoted_records(read_lines(path, "utf-8"), delimiter, len(columns))
    else:
        records = plain_records(read_lines(path, "utf-8"), delimiter, 0)
    header_next = True
    for number, fields, _ in records:
        if fields is not None and not any(field.strip() for field in fields):
            continue
        if header_next:
            header_next = False
            continue
        if fields is None or len(fields) != len(columns):
            received = "a quote astray" if fields is None else f"{len(fields)} fields"
            raise ConfigError(
                f"{path}:{number}: expected {len(columns)} fields ({', '.join(columns)}). "
                f"Received: {received}. Put texts with the delimiter or newlines in quotes."
            )
        yield number, dict(zip(columns, fields, strict=True))


def _is_rfc4180(path: Path, delimiter: str, count: int) -> bool:
    """Whether quotes quote by the standard to the end: a few rows are too few to guess by."""
    csv.field_size_limit(2**31 - 1)
    rows = csv.reader(read_lines(path, "utf-8"), delimiter=delimiter, strict=True)
    try:
        return delimiter != "\t" and all(len(fields) in (0, count) for fields in rows)
    except csv.Error:
        return False


# --- writing ------------------------------------------------------------------------------


def _write_jsonl(path: Path, rows: Iterable[dict]) -> int:
    count = 0
    # Half of a surrogate pair, which JSON can hold and UTF-8 cannot, stays JSON's escape.
    with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def _write_delimited(delimiter: str) -> Callable[[Path, Iterable[dict]], int]:
    def write(path: Path, rows: Iterable[dict]) -> int:
        count = 0
        with open(path, "w", encoding="utf-8", newline="", errors="replace") as file:
            writer = None
            for row in rows:
                if writer is None:
                    # Fields that only later rows have find no column.
                    writer = csv.DictWriter(
                        file, list(row), delimiter=delimiter, extrasaction="ignore"
                    )
                    writer.writeheader()
                writer.writerow(row)
                count += 1
        return count

    return write


_READERS = {"jsonl": _read_jsonl, "csv": _read_delimited, "tsv": _read_delimited}
_WRITERS = {"jsonl": _write_jsonl, "csv": _write_delimited(","), "tsv": _write_delimited("\t")}
