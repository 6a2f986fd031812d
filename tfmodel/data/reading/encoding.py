"""Bytes of a file -> lines of text, and what to say where the bytes are not UTF-8."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from tfmodel.config import ConfigError
from tfmodel.data.reading.archives import DataFile, open_bytes
from tfmodel.data.settings import DETECT

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it starts with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What files of text are found to be in, the likelier first. The detector knows 90 more, and on a
# few accented letters takes one of those (an old Mac's, a DOS code page) for latin-1.
_LIKELY_ENCODINGS = [
    "cp1252", "cp1254", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1255", "cp1256",
    "gb18030", "big5", "shift_jis", "euc_jp", "euc_kr",
]  # fmt: skip
_WESTERN_LETTERS = frozenset("ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜßàáâãäåæçèéêëìíîïñòóôõöøùúûüÿŒœŠšŽžŸ")
_SAMPLE_BYTES = 200_000
# A line is held in memory; no text is as long, a file of something else may be.
_LONGEST_LINE = 2**26


def read_lines(file: Path | DataFile, encoding: str) -> Iterator[str]:
    r"""Give the lines of a file, each with its line end.

    Lines end in `\n` or `\r\n` alone: U+0085 and U+2028 belong to the text. A byte order mark is
    left out.

    Raises:
        ConfigError: the bytes are not in this encoding, or a line is longer than any text.
    """
    try:
        with open_text(file, encoding) as lines:
            while line := lines.readline(_LONGEST_LINE):
                if len(line) == _LONGEST_LINE:
                    raise _endless_line(file)
                yield line
    except UnicodeError as error:
        raise wrong_encoding(file, encoding, error) from None
    except OSError as error:
        raise unreadable(file, error) from None


def open_text(file: Path | DataFile, encoding: str) -> io.TextIOWrapper:
    """Open a file for its text; errors are the caller's to word."""
    return io.TextIOWrapper(open_bytes(file), _codec(encoding), newline="\n")


def decode(file: Path | DataFile, raw: bytes, encoding: str) -> str:
    """Decode the bytes of one of many files."""
    try:
        return raw.decode(_codec(encoding))
    except UnicodeError as error:
        raise wrong_encoding(file, encoding, error, one_of_many=True) from None


def unreadable(path: Path | DataFile, error: OSError) -> ConfigError:
    """Word the error for a file that is there but cannot be read."""
    return ConfigError(
        f"{path}: expected a file that can be read. Received: {error.strerror or error}. "
        f"Check its permissions."
    )


def _endless_line(file: Path | DataFile) -> ConfigError:
    return ConfigError(
        f"{file}: expected lines of less than {_LONGEST_LINE:,} characters. Received: a longer "
        f"one. Check that it is a file of text; a JSON array in one line is `format: json`."
    )


def guess_encoding(path: Path | DataFile) -> str:
    """Guess the encoding of a file, from a sample of its lines that are not UTF-8.

    Returns:
        A name that Python knows: `utf-8` where all bytes are that.
    """
    try:
        with open_bytes(path) as file:
            if encoding := _encoding_by_start(file.read(_SAMPLE_BYTES)):
                return encoding
        with open_bytes(path) as file:
            return _guess_by_lines(iter(lambda: file.readline(_LONGEST_LINE), b""))
    except OSError as error:
        raise unreadable(path, error) from None


def guess_encoding_of(raw: bytes) -> str:
    """Guess the encoding of a text as `guess_encoding` does that of a file."""
    return _encoding_by_start(raw[:_SAMPLE_BYTES]) or _guess_by_lines(raw.splitlines())


def _guess_by_lines(lines: Iterable[bytes]) -> str:
    sample: list[bytes] = []
    size = 0
    for line in lines:
        if not line.isascii() and not _decodes(line, "utf-8"):
            sample.append(line)
            size += len(line)
            if size > _SAMPLE_BYTES:
                break
    return _guess_from_sample(b"".join(sample)) if sample else "utf-8"


def _encoding_by_start(start: bytes) -> str | None:
    for mark, name in _BYTE_ORDER_MARKS:
        if start.startswith(mark):
            return name
    # Text of mostly ASCII characters in UTF-16 without a mark has a zero in every other byte.
    half = max(len(start) // 2, 1)
    if start[1::2].count(0) > 0.4 * half:
        return "utf-16-le"
    if start[0::2].count(0) > 0.4 * half:
        return "utf-16-be"
    return None


def _guess_from_sample(sample: bytes) -> str:
    import charset_normalizer

    matches = charset_normalizer.from_bytes(sample, cp_isolation=_LIKELY_ENCODINGS)
    # Coherence says how much the letters look like those of a language. The detector breaks ties
    # by the alphabet (cp1250 before cp1252); here the likelier goes first.
    coherence = {match.encoding: round(match.coherence, 2) for match in matches}
    best = max(coherence.values(), default=0.0)
    western = _looks_western(sample)
    if western and coherence.get("cp1252", best) == best:
        return "cp1252"
    if not coherence or _is_mostly_ascii(sample):
        return "cp1252" if _decodes(sample, "cp1252") else "latin-1"  # latin-1 takes any bytes
    least_chaos = min(match.chaos for match in matches if round(match.coherence, 2) == best)
    equal = [
        match.encoding
        for match in matches
        if round(match.coherence, 2) == best and match.chaos == least_chaos
    ]
    if not western and len(equal) > 1 and "cp1252" in equal:
        equal.remove("cp1252")
    return min(equal, key=_LIKELY_ENCODINGS.index).replace("_", "-")


def _is_mostly_ascii(sample: bytes) -> bool:
    """Whether this is too little to tell by: damaged English, not Turkish, Polish or Russian."""
    special = sum(byte >= 0x80 for byte in sample)
    return special <= 0.05 * sum(chr(byte).isalpha() for byte in sample if byte < 0x80)


def _looks_western(sample: bytes) -> bool:
    """Whether these bytes make sense as cp1252: few special letters, no symbol inside a word."""
    try:
        text = sample.decode("cp1252")
    except UnicodeDecodeError:
        return False
    letters = special = foreign = 0
    for before, character, after in zip(" " + text, text, text[1:] + " ", strict=False):
        if character.isalpha():
            letters += 1
            special += not character.isascii()
            foreign += not character.isascii() and character not in _WESTERN_LETTERS
        # Curly quotes and dashes do stand between letters: don’t, either–or.
        elif "\x80" < character < "\u2000" and before.isalpha() and after.isalpha():
            return False
    return special <= 0.25 * letters and foreign < 2


def _decodes(raw: bytes, encoding: str) -> bool:
    try:
        raw.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _codec(encoding: str) -> str:
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


def wrong_encoding(
    path: Path | DataFile, encoding: str, error: UnicodeError, *, one_of_many: bool = False
) -> ConfigError:
    """Word the error for bytes that are not in the encoding: which, where, the likely one."""
    likely = guess_encoding(path)
    if codecs.lookup(likely).name == codecs.lookup(encoding).name:
        likely = "latin-1"  # damaged in places; latin-1 reads anything
    name, why = likely, ""
    if one_of_many:
        name, why = DETECT, ", which looks at each file by itself"
    return ConfigError(
        f"{path}: expected text in {encoding}. Received: {_first_bad_byte(path, encoding, error)}. "
        f"The file is likely in {likely}: add the line `encoding: {name}` under `data:` in the "
        f"config (or data.encoding={name} on the command line){why}; or save the file as UTF-8."
    )


def _first_bad_byte(path: Path | DataFile, encoding: str, error: UnicodeError) -> str:
    """Say where decoding fails: the error itself counts from the start of some buffer."""
    decoder = codecs.getincrementaldecoder(_codec(encoding))()
    offset = 0
    with open_bytes(path) as file:
        lines = iter(lambda: file.readline(_LONGEST_LINE), b"")
        for number, line in enumerate(lines, start=1):
            try:
                decoder.decode(line)
            except UnicodeDecodeError as found:
                # What the decoder held back from the line before counts in found.start.
                position = offset + len(line) - len(found.object) + found.start
                byte = found.object[found.start]
                return f"byte 0x{byte:02x} on line {number:,} (byte {position:,} of the file)"
            offset += len(line)
    return f"{error.reason if isinstance(error, UnicodeDecodeError) else error} at its end"
