"""What a label can be: a class, several, a number, tags, spans, answers, a text, or none.

A `Target` is all that the rest of the package needs to know about a kind of label. Labels are
plain JSON values, so rows can be written down anywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.data.rows import BadLabel, Reject, Row
from tfmodel.data.settings import DataSettings
from tfmodel.data.targets import class_labels, features, span_labels, word_tags

# What the labels of a format are.
_TARGET_OF_FORMAT = {
    "conll": "tags", "squad": "answers", "text": "none", "wikiextractor": "none",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Target:
    """What there is to know about one kind of label.

    Attributes:
        name: its key in `TARGETS`.
        needs_label: whether a row has a label at all.
        needs_pair: whether a row must have a second text.
        parse: (row with the raw label, settings) -> the label in its canonical form; tags, and
            spans that were tags, also set the row's text. Raises `BadLabel`.
        clean: (row, names of cleaning steps) -> names of the steps that changed a text. Cleans
            texts and label in place, offsets follow. Raises `BadLabel`, once the texts are
            cleaned, where the label does not survive it.
        is_empty: (label) -> whether nothing is left of it; asked after cleaning.
        names: (label) -> the names of classes in it.
        stratum: (label) -> what stratified splits keep in proportion.
        features: (names of the classes) -> TFDS features beside text, text_pair and origin.
        encode: (label, index of each class) -> the values of these features, each a flat list.
        decode: (values of these features, names of the classes) -> the label; undoes `encode`.
    """

    name: str
    needs_label: bool
    needs_pair: bool
    parse: Callable[[Row, DataSettings], Any]
    clean: Callable[[Row, Sequence[str]], tuple[str, ...]]
    is_empty: Callable[[Any], bool]
    names: Callable[[Any], Iterable[str]]
    stratum: Callable[[Any], str]
    features: Callable[[Sequence[str]], dict[str, Any]]
    encode: Callable[[Any, Mapping[str, int]], dict[str, list]]
    decode: Callable[[Mapping[str, Sequence], Sequence[str]], Any]


def find_target(settings: DataSettings, format_name: str) -> Target:
    """Tell what the labels are: as the settings say, or as the format has them.

    Of questions with answers these may be left out: what remains is pairs.

    Raises:
        ConfigError: the format has other ones than the settings say.
    """
    own = _TARGET_OF_FORMAT.get(format_name)
    if settings.target == "auto":
        return TARGETS[own or "class"]
    allowed = (("tags", "spans"), ("answers", "none"))
    if own not in (None, settings.target) and (own, settings.target) not in allowed:
        raise ConfigError(
            f"data.target: expected {own}, as files of the format {format_name} have. Received: "
            f"{settings.target}. Leave `target:` out, or correct `format:` under `data:`."
        )
    return TARGETS[settings.target]


def parse_row(row: Row, settings: DataSettings, target: Target, *, raw: str = "") -> Row | Reject:
    """Give the row with its label in canonical form, or the reason why it has none.

    Args:
        row: as it stands in the file.
        settings: how labels are written.
        target: what a label is.
        raw: the row as the file has it, for the account; default its text.
    """
    try:
        if target.needs_pair and row.text_pair is None:
            raise BadLabel("bad_answers", "a row without a second text, which holds the answers")
        row.label = target.parse(row, settings)
    except BadLabel as bad:
        return Reject(bad.reason, row.origin, raw or str(row.text), bad.detail)
    return row


def _nothing(label: Any) -> tuple[str, ...]:
    return ()


def _no_stratum(label: Any) -> str:
    return ""


def _never_empty(label: Any) -> bool:
    return False


TARGETS = {
    target.name: target
    for target in (
        Target(
            name="class",
            needs_label=True,
            needs_pair=False,
            parse=class_labels.parse_class,
            clean=class_labels.clean_class,
            is_empty=lambda label: not label,
            names=lambda label: (label,),
            stratum=lambda label: label,
            features=features.class_features,
            encode=features.encode_class,
            decode=features.decode_class,
        ),
        Target(
            name="classes",
            needs_label=True,
            needs_pair=False,
            parse=class_labels.parse_classes,
            clean=class_labels.clean_classes,
            is_empty=_never_empty,  # an empty list says: none of the classes
            names=lambda label: label,
            stratum=lambda label: "|".join(sorted(label)),
            features=features.classes_features,
            encode=features.encode_classes,
            decode=features.decode_classes,
        ),
        Target(
            name="number",
            needs_label=True,
            needs_pair=False,
            parse=class_labels.parse_number,
            clean=class_labels.clean_texts,
            is_empty=_never_empty,
            names=_nothing,
            stratum=_no_stratum,
            features=features.number_features,
            encode=lambda label, index: {"label": [label]},
            decode=lambda values, names: float(values["label"][0]),
        ),
        Target(
            name="tags",
            needs_label=True,
            needs_pair=False,
            parse=word_tags.parse_tags,
            clean=word_tags.clean_tags,
            is_empty=_never_empty,
            names=lambda label: label["tags"],
            stratum=_no_stratum,
            features=features.tags_features,
            encode=features.encode_tags,
            decode=features.decode_tags,
        ),
        Target(
            name="spans",
            needs_label=True,
            needs_pair=False,
            parse=span_labels.parse_spans,
            clean=span_labels.clean_spans,
            is_empty=_never_empty,  # a text without spans is one, too
            names=lambda label: [span["label"] for span in label],
            stratum=_no_stratum,
            features=features.spans_features,
            encode=features.encode_spans,
            decode=features.decode_spans,
        ),
        Target(
            name="answers",
            needs_label=True,
            needs_pair=True,
            parse=span_labels.parse_answers,
            clean=span_labels.clean_answers,
            is_empty=_never_empty,  # a question without an answer is one, too
            names=_nothing,
            stratum=_no_stratum,
            features=features.answers_features,
            encode=features.encode_answers,
            decode=features.decode_answers,
        ),
        Target(
            name="text",
            needs_label=True,
            needs_pair=False,
            parse=class_labels.parse_class,
            clean=class_labels.clean_label_text,
            is_empty=lambda label: not label.strip(),
            names=_nothing,
            stratum=_no_stratum,
            features=features.text_features,
            encode=lambda label, index: {"label": [label.encode()]},
            decode=lambda values, names: values["label"][0].decode(),
        ),
        Target(
            name="none",
            needs_label=False,
            needs_pair=False,
            parse=lambda row, settings: None,
            clean=class_labels.clean_texts,
            is_empty=_never_empty,
            names=_nothing,
            stratum=_no_stratum,
            features=lambda names: {},
            encode=lambda label, index: {},
            decode=lambda values, names: None,
        ),
    )
}
