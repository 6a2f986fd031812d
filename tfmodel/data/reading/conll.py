"""CoNLL columns: a word and its tag a line, a blank line after each sentence.

Source of the format: Tjong Kim Sang and De Meulder 2003.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence

from tfmodel.config import ConfigError
from tfmodel.data.reading.archives import DataFile
from tfmodel.data.reading.encoding import read_lines
from tfmodel.data.reading.fields import Fields
from tfmodel.data.rows import BadLabel, Reject, Row
from tfmodel.data.targets.tagged_words import tags_out_of_turn

_log = logging.getLogger(__name__)

_TAG = re.compile(r"O|[BIESLUM][-_]\S+")
_COMMENT = re.compile(r"#\s")


def read_conll(
    file: DataFile, name: str, *, encoding: str, fields: Fields, facts: dict
) -> Iterator[Row | Reject]:
    """Read sentences; the origin is the line of the first word.

    The first column is the word and the last the tag, or `columns` names them all and `text` and
    `label` those two. Columns are cut at tabs, in a line without any at spaces.

    Args:
        file: the file.
        name: what origins call it.
        encoding: its encoding.
        fields: give the columns.
        facts: receives `blank_lines` (not those that end a sentence), `document_starts` (lines
            of -DOCSTART-), `comment_lines` (lines before a sentence that start with `# `) and,
            where tags become spans, `tags_repaired` (`I-` and `E-` that continue nothing, and
            begin a span).
    """
    facts |= {"document_starts": 0, "comment_lines": 0}
    if fields.target.name == "spans":
        facts["tags_repaired"] = 0
    sentence: list[str] = []
    start = 1
    for number, line in enumerate(read_lines(file, encoding), start=1):
        line = line.rstrip("\r\n")
        if line.startswith("-DOCSTART-"):
            facts["document_starts"] += 1
        elif not line.strip():
            if not sentence:
                facts["blank_lines"] += 1
        elif not sentence and _COMMENT.match(line) and not looks_like_conll([line]):
            facts["comment_lines"] += 1
            continue
        else:
            start = start if sentence else number
            sentence.append(line)
            continue
        if sentence:
            yield _to_row(sentence, f"{name}:{start}", fields, facts)
        sentence = []
    if sentence:
        yield _to_row(sentence, f"{name}:{start}", fields, facts)
    if facts.get("tags_repaired"):
        _log.info(
            "%s: %s tags continue a span that is not there (in IOB1 they may): each begins one",
            name,
            f"{facts['tags_repaired']:,}",
        )


def looks_like_conll(lines: Sequence[str]) -> bool:
    """Whether nearly every line with text ends in a tag such as O or B-person, after a word."""
    cells = [_cut(line) for line in lines if line.strip() and not line.startswith("-DOCSTART-")]
    tagged = sum(len(row) > 1 and bool(_TAG.fullmatch(row[-1].strip())) for row in cells)
    return bool(cells) and tagged >= 0.9 * len(cells)


def not_conll(file: DataFile, first: Reject) -> ConfigError:
    """Word the error for a file most of whose sentences cannot be read."""
    line = first.text.partition("\n")[0]
    return ConfigError(
        f"{file}: expected CoNLL columns, a word and its tag a line and a blank line after each "
        f"sentence. Received: most sentences are not, the first at {first.origin} "
        f"({first.reason}: {first.detail}), which begins {line[:80]!r}. Name all columns by "
        f"`columns: [text, ..., label]` under `data:`, or check `format:`."
    )


def _to_row(sentence: list[str], origin: str, fields: Fields, facts: dict) -> Row | Reject:
    settings = fields.settings
    raw = "\n".join(sentence)
    words, tags = [], []
    columns = settings.columns
    word_at = columns.index(settings.text) if columns else 0
    tag_at = columns.index(settings.label) if columns else -1
    count = len(columns) if columns else len(_cut(sentence[0]))
    for line in sentence:
        cells = _cut(line)
        if len(cells) != count or count < 2:
            detail = f"{len(cells)} columns where {max(count, 2)} were expected: {line[:80]!r}"
            return Reject("wrong_field_count", origin, raw, detail)
        words.append(cells[word_at].strip())
        tags.append(cells[tag_at].strip())
    if not all(words):
        detail = f"no word on its line {words.index('') + 1}"
        return Reject("malformed", origin, raw, detail)
    row = Row("", None, {"words": words, "tags": tags}, origin)
    try:
        row.label = fields.target.parse(row, settings)
    except BadLabel as bad:
        return Reject(bad.reason, origin, raw, bad.detail)
    if "tags_repaired" in facts:
        facts["tags_repaired"] += tags_out_of_turn(tags)
    return row


def _cut(line: str) -> list[str]:
    return line.split("\t") if "\t" in line else line.split()
