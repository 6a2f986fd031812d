"""Labels of words: a tag for each, as in CoNLL files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfmodel.data.cleaning import clean_and_tell, clean_label
from tfmodel.data.reading.json_values import as_text
from tfmodel.data.rows import BadLabel, Row, encodable
from tfmodel.data.settings import DataSettings
from tfmodel.data.targets.tagged_words import is_bare_prefix


def parse_tags(row: Row, settings: DataSettings) -> dict[str, list[str]]:
    """Read words and as many tags, each a list or a string cut at whitespace."""
    words, tags = words_and_tags(row, settings)
    row.text = " ".join(words)
    return {"words": words, "tags": tags}


def words_and_tags(row: Row, settings: DataSettings) -> tuple[list[str], list[str]]:
    """The words of a row, and the tag of each.

    Raises:
        BadLabel: there are none, or not as many of both.
    """
    words, tags = row.text, row.label
    if isinstance(tags, Mapping):
        words, tags = tags.get("words"), tags.get("tags")
    words, tags = _as_list(words), _as_list(tags)
    if words is None or tags is None or None in words or None in tags:
        raise BadLabel("bad_tags", f"expected a list of words and one of tags in {settings.label}")
    if not words:
        raise BadLabel("empty_text")
    if len(words) != len(tags):
        raise BadLabel("bad_tags", f"{len(tags)} tags for {len(words)} words")
    tags = [tag.strip() for tag in tags]
    if not all(tags):
        raise BadLabel("bad_tags", f"word {tags.index('') + 1} has no tag")
    for number, tag in enumerate(tags, start=1):
        if is_bare_prefix(tag):
            raise BadLabel(
                "bad_tags", f"word {number} has the tag {tag}, without a label behind it"
            )
    return words, tags


def _as_list(value: Any) -> list[str | None] | None:
    if isinstance(value, str):
        return value.split()
    return [as_text(item) for item in value] if isinstance(value, list | tuple) else None


def clean_tags(row: Row, steps: Sequence[str]) -> tuple[str, ...]:
    """Clean word by word, so that each keeps its tag; a word of nothing but O may vanish."""
    changed: tuple[str, ...] = ()
    words, tags, lost = [], [], ""
    for word, tag in zip(row.label["words"], row.label["tags"], strict=True):
        word, steps_that_changed = clean_and_tell(encodable(word), steps)
        changed = tuple(dict.fromkeys(changed + steps_that_changed))
        if word.strip():
            words.append(word)
            tags.append(clean_label(encodable(tag)))
        elif tag != "O":
            lost = lost or tag
    row.text = " ".join(words)
    row.label = {"words": words, "tags": tags}
    if row.text_pair is not None:
        row.text_pair, pair_changed = clean_and_tell(encodable(row.text_pair), steps)
        changed = tuple(dict.fromkeys(changed + pair_changed))
    if lost:
        raise BadLabel("bad_tags", f"cleaning leaves nothing of a word tagged {lost}")
    if not all(tags):
        raise BadLabel("bad_tags", "cleaning leaves nothing of a tag")
    return changed
