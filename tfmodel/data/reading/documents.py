"""Plain text for pretraining: a text a line, or WikiExtractor's documents."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tfmodel.config import ConfigError
from tfmodel.data.mistakes import quoted
from tfmodel.data.reading.archives import DataFile
from tfmodel.data.reading.encoding import read_lines
from tfmodel.data.rows import Reject, Row
from tfmodel.data.settings import DataSettings

_OPENING = re.compile(r'<doc id="[^"]*".*?title="(?P<title>.*)">\s*')
_CLOSING = "</doc>"
_LONGEST_DOCUMENT_CHARACTERS = 2**26
_LONGEST_BLOCK_CHARACTERS = 2**24
DOCUMENT_START = "<doc id="


def read_texts(file: DataFile, name: str, *, encoding: str, facts: dict) -> Iterator[Row]:
    """Read a text a line.

    Args:
        file: the file.
        name: what origins call it.
        encoding: its encoding.
        facts: receives `blank_lines`; they are no rows.
    """
    for number, line in enumerate(read_lines(file, encoding), start=1):
        if line.strip():
            yield Row(line.rstrip("\r\n"), None, None, f"{name}:{number}")
        else:
            facts["blank_lines"] += 1


def read_blocks(
    file: DataFile, name: str, *, encoding: str, facts: dict, whole: bool
) -> Iterator[Row]:
    """Read a text a block of lines, up to a blank one; or a text a file.

    A text of more than 16 million characters is given in pieces of one group, so that memory stays
    flat.

    Args:
        file: the file.
        name: what origins call it.
        encoding: its encoding.
        facts: receives `blank_lines`.
        whole: whether the file is one text, blank lines and all.
    """
    start, lines, characters, group = 0, [], 0, None
    for number, line in enumerate(read_lines(file, encoding), start=1):
        is_blank = not line.strip()
        facts["blank_lines"] += is_blank
        is_end = is_blank and not whole
        if lines and (is_end or characters > _LONGEST_BLOCK_CHARACTERS):
            group = group or (None if is_end else f"{name}:{start}")
            yield Row("".join(lines).strip(), None, None, f"{name}:{start}", group)
            lines, characters, group = [], 0, None if is_end else group
        if lines or not is_blank:
            start = start if lines else number
            lines.append(line)
            characters += len(line)
    if lines:
        yield Row("".join(lines).strip(), None, None, f"{name}:{start}", group)


def read_wikiextractor(
    file: DataFile, name: str, *, encoding: str, facts: dict
) -> Iterator[Row | Reject]:
    """Read `<doc id= url= title=>` ... `</doc>`: a row a document, blank ones too.

    The text is what stands between, without the first line where that is the title again: titles
    alone are no sentences.

    Args:
        file: the file.
        name: what origins call it.
        encoding: its encoding.
        facts: receives `blank_lines` between the documents.

    Raises:
        ConfigError: a document is longer than any text.
    """
    start, title, lines, characters = 0, "", [], 0
    for number, line in enumerate(read_lines(file, encoding), start=1):
        opening = _OPENING.fullmatch(line) if line.startswith(DOCUMENT_START) else None
        if start and (opening or line.rstrip() == _CLOSING):
            if opening:
                raw = "".join(lines)
                yield Reject("malformed", f"{name}:{start}", raw, f"no {_CLOSING} ends it")
            else:
                yield Row(_body(lines, title), None, None, f"{name}:{start}")
            start = 0
            if not opening:
                continue
        if opening:
            start, title, lines, characters = number, opening["title"], [], 0
        elif start:
            lines.append(line)
            characters += len(line)
            if characters > _LONGEST_DOCUMENT_CHARACTERS:
                raise ConfigError(
                    f"{file}: expected documents of less than {_LONGEST_DOCUMENT_CHARACTERS:,} "
                    f"characters. Received: a longer one, from line {start:,} on. Check that "
                    f"{_CLOSING} ends each."
                )
        elif line.strip():
            detail = f"stands outside {DOCUMENT_START}...> and {_CLOSING}"
            yield Reject("malformed", f"{name}:{number}", line.rstrip("\r\n"), detail)
        else:
            facts["blank_lines"] += 1
    if start:
        yield Reject("malformed", f"{name}:{start}", "".join(lines), f"no {_CLOSING} ends it")


def not_documents(file: DataFile, first: Reject, settings: DataSettings) -> ConfigError:
    """Word the error for a file most of which stands in no document."""
    return ConfigError(
        f"{file}: expected WikiExtractor's documents, {DOCUMENT_START}... title=...> to {_CLOSING}."
        f" Received: mostly something else, the first at {first.origin}: "
        f"{quoted(first.text, settings)}. Check `format:` under `data:`; a text a line is "
        f"`format: text`."
    )


def _body(lines: list[str], title: str) -> str:
    if lines and lines[0].strip() == title.strip():
        lines = lines[1:]
    return "".join(lines).strip()
