"""A stream of JSON values out of a file of any size: one value at a time is in memory.

The values of an array, or values one after another. A broken value costs itself: a string ends at
the end of its line at the latest, and a value that does not close ends where a line begins as its
own did.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.data.mistakes import column_names, may_be_shown, quoted
from tfmodel.data.reading.archives import DataFile
from tfmodel.data.reading.encoding import open_text, unreadable, wrong_encoding
from tfmodel.data.reading.json_values import MISSING
from tfmodel.data.settings import DataSettings

_CHUNK_CHARACTERS = 2**18
_LONGEST_VALUE = 2**26
_LONGEST_INDENT = 1_000
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n\ufeff]*")
# A string, closed or ended by its line, or what opens and closes.
_TOKEN = re.compile(r'"[^"\\\n]*(?:\\[^\n][^"\\\n]*)*(?P<end>["\n])?|[\[\]{}]')
_SCALAR = re.compile(r'[^\s,\[\]{}"]+|.', re.DOTALL)


class JsonStream:
    """Reads a file of JSON from front to end.

    Args:
        file: the file.
        encoding: its encoding.
        settings: say whether messages may show what stands in the file; None: they may.

    Raises:
        ConfigError: from any method: the file cannot be read or decoded, or ends too early.
    """

    def __init__(
        self,
        file: Path | DataFile,
        encoding: str,
        settings: DataSettings | None = None,
    ):
        self._file, self._encoding, self._settings = file, encoding, settings
        self._buffer, self._place, self._ended = "", 0, False
        self._line, self._counted = 1, 0
        self._depth = 0  # of the objects we are inside of, whose further fields may follow
        try:
            self._text = open_text(file, encoding)
        except OSError as error:
            raise unreadable(file, error) from None

    def close(self) -> None:
        """Close the file."""
        self._text.close()

    @property
    def line(self) -> int:
        """The number of the line where the next value starts."""
        self._line += self._buffer.count("\n", self._counted, self._place)
        self._counted = self._place
        return self._line

    def peek(self) -> str:
        """Give the next character that is not space; nothing at the end of the file."""
        while True:
            match = _SPACE.match(self._buffer, self._place)
            self._place = match.end() if match else self._place
            if self._place < len(self._buffer) or self._ended:
                return self._buffer[self._place : self._place + 1]
            self._fill()

    def enter(self, path: str) -> None:
        """Go to the value at a path of fields from here.

        Raises:
            ConfigError: there is no such field.
        """
        rest = path.split(".")
        while rest:
            seen: list[str] = []
            if self.peek() != "{":
                raise self._no_field(path, seen)
            self._place += 1
            while (key := self._read_key()) not in (rest[0], ".".join(rest)):
                if key is None:
                    raise self._no_field(path, seen)
                seen.append(key)
                self._pass_value(keep=False)
            rest = [] if key == ".".join(rest) else rest[1:]
            self._depth += 1

    def values(self) -> Iterator[tuple[int, Any, str, str]]:
        """Give (line, value, raw text, problem) a value; the value of a problem is `MISSING`.

        They are the elements of the array that begins here, and of those that follow it at the
        top of the file; or, where no array begins, all values that follow one another.
        """
        has_arrays = in_array = self.peek() == "["
        self._place += in_array
        while True:
            found = self.peek()
            if not found and in_array:
                raise self._cut_short(self.line, "the array")
            if in_array and found == "]" and self._depth:
                self._place += 1
                yield from self._after_objects()
                return
            if not found:
                return
            if in_array and found == "]":
                in_array = False
            elif has_arrays and not in_array and found == "[":
                in_array = True
            elif found != ",":
                yield (self.line, *self._read_value())
                continue
            self._place += 1

    def _after_objects(self) -> Iterator[tuple[int, Any, str, str]]:
        """Leave the objects we are inside of; what stands behind them is no row, and is told."""
        while self._depth:
            if self._read_key() is not None:
                self._pass_value(keep=False)
                continue
            if self.peek() != "}":
                break
            self._place += 1
            self._depth -= 1
        if self.peek():
            raw = self._buffer[self._place : self._place + 200]
            problem = "it stands behind the object that holds the rows; the rest is not read"
            yield self.line, MISSING, raw, problem

    def _read_key(self) -> str | None:
        """Give the name of an object's next field, and stand before its value; None at its end."""
        while (found := self.peek()) == ",":
            self._place += 1
        if found != '"':
            return None
        key, raw, problem = self._read_value()
        if problem or self.peek() != ":":
            raise ConfigError(
                f"{self._file}: expected a field's name in quotes and a colon on line "
                f"{self.line:,}. Received: {quoted(raw, self._settings)}. Correct the JSON."
            )
        self._place += 1
        self.peek()
        return key

    def _read_value(self) -> tuple[Any, str, str]:
        try:
            value, end = _DECODER.raw_decode(self._buffer, self._place)
            if end < len(self._buffer) or self._ended:
                raw, self._place = self._buffer[self._place : end], end
                return value, raw, ""
        except (ValueError, RecursionError):
            pass  # incomplete as yet, or broken: that is told once its end is found
        line = self.line
        indent = self._buffer[self._buffer.rfind("\n", 0, self._place) + 1 : self._place]
        raw, is_closed = self._pass_value(keep=True)
        try:
            return _DECODER.decode(raw), raw, ""
        except (ValueError, RecursionError) as error:
            problem = f"not JSON, line {line:,}: {error}"
        next_one = f"\n{indent if not indent.strip() else ''}{raw[0]}"
        if raw[0] in "{[" and (end := raw.find(next_one)) >= 0:
            self._place -= len(raw) - end - 1
            raw = raw[:end]
        elif not is_closed:
            raise self._cut_short(line, "a value")
        return MISSING, raw, problem

    def _pass_value(self, *, keep: bool) -> tuple[str, bool]:
        """Go past a value; give its text, if it is kept, and whether it closes."""
        line = self.line
        if self.peek() not in ("{", "[", '"'):
            return self._pass_scalar(), True
        extent, at = _Extent(), self._place
        while True:
            at, is_closed = extent.follow(self._buffer, at, is_last=self._ended)
            if is_closed or self._ended or at - self._place > _LONGEST_VALUE:
                break
            if not keep:
                self._place = at
            at -= self._fill()
        if not is_closed and not keep:
            raise self._cut_short(line, "a value")
        raw, self._place = self._buffer[self._place : at], at
        return raw, is_closed

    def _pass_scalar(self) -> str:
        while True:
            match = _SCALAR.match(self._buffer, self._place)
            end = match.end() if match else self._place
            if end < len(self._buffer) or self._ended or end - self._place > _LONGEST_VALUE:
                raw, self._place = self._buffer[self._place : end], end
                return raw
            self._fill()

    def _fill(self) -> int:
        """Read on; give by how much places in the buffer moved to the front."""
        line_start = self._buffer.rfind("\n", 0, self._place) + 1
        drop = line_start if self._place - line_start < _LONGEST_INDENT else self._place
        _ = self.line  # counts what is dropped
        try:
            # As much again as is held, so that a long value is gone through twice, not often.
            piece = self._text.read(max(_CHUNK_CHARACTERS, len(self._buffer) - drop))
        except UnicodeError as error:
            raise wrong_encoding(self._file, self._encoding, error) from None
        except OSError as error:
            raise unreadable(self._file, error) from None
        self._ended = not piece
        self._buffer = self._buffer[drop:] + piece
        self._place -= drop
        self._counted -= drop
        return drop

    def _no_field(self, path: str, seen: list[str]) -> ConfigError:
        import difflib

        near = difflib.get_close_matches(path, seen, n=1)
        hint = f" Did you mean {near[0]}?" if near and may_be_shown(near[0], self._settings) else ""
        fields = (
            f"the fields {column_names(seen, self._settings)}" if seen else "no object with fields"
        )
        return ConfigError(
            f"{self._file}: expected the rows in the field {path} (data.records). Received: "
            f"{fields}.{hint} Name the field that holds the array of rows by `records:` under "
            f"`data:`."
        )

    def _cut_short(self, line: int, what: str) -> ConfigError:
        return ConfigError(
            f"{self._file}: expected complete JSON. Received: {what} that begins on line "
            f"{line:,} and does not end within {_LONGEST_VALUE:,} characters or the file. Check "
            f"that the file was written to the end; an object around an array of rows needs "
            f"`records: FIELD` under `data:`."
        )


class _Extent:
    """Follows a value through pieces of text to where it closes."""

    def __init__(self) -> None:
        self._depth = 0

    def follow(self, text: str, start: int, *, is_last: bool) -> tuple[int, bool]:
        """Give how far the text was gone through, and whether the value ends there."""
        for token in _TOKEN.finditer(text, start):
            if token[0][0] == '"':
                if token["end"] is None and not is_last and token.end() >= len(text) - 1:
                    return token.start(), False  # the string goes on in the next piece
            else:
                self._depth += 1 if token[0] in "{[" else -1
            if self._depth <= 0:
                return token.end(), True
        return len(text), False
