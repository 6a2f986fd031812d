"""New versions of training rows: the same ones for a row, whatever stands beside it."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import logging
import random
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfmodel import sources
from tfmodel.config import ConfigError
from tfmodel.data.augmentation.methods import METHODS, Draft, Replace, Tools, Translate
from tfmodel.data.augmentation.passage import Passage, Segmenter, by_longest_match
from tfmodel.data.augmentation.settings import CALLABLES, PLACES, AugmentSettings
from tfmodel.data.augmentation.synonyms import read_synonyms

if TYPE_CHECKING:
    from tfmodel.data.dataset import Split

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Augmented:
    """New rows, without those they were made of.

    Attributes:
        texts: m new texts.
        text_pairs: m new second texts; None where there are no pairs.
        sources: int64 (m,), the row each was made of: its label is `labels[sources]`.
        made_by: the method and number of each: `swap 1`.
        left_out: versions not kept, by method: equal to a row, to another version or to a text
            of `apart`, or empty.
    """

    texts: list[str]
    text_pairs: list[str] | None
    sources: np.ndarray
    made_by: list[str]
    left_out: dict[str, int]


def augment(
    texts: Sequence[str],
    settings: AugmentSettings,
    *,
    seed: int,
    text_pairs: Sequence[str] | None = None,
    apart: Iterable[tuple[str, str | None]] = (),
    replace: Replace | None = None,
    translate: Translate | None = None,
    segment: Segmenter | None = None,
) -> Augmented:
    """Make new versions of rows, each method its own; labels are those of the rows.

    A version depends on the seed, the method, its number and the row's own text. Both texts of a
    pair are changed. One that is a row already, or another row's version, is left out: it would
    count double, or under two labels.

    Args:
        texts: n training texts.
        settings: methods, copies, rate and list of synonyms.
        seed: equal seeds give equal versions.
        text_pairs: n second texts, or None.
        apart: texts (and second texts) of dev and test: a version equal to one is left out.
        replace: for `replacement`: takes texts in which one word is `[MASK]`, and the words
            hidden; answers with candidates for each, of which one is drawn. At most 256 a call.
        translate: for `back_translation`: takes texts, answers with their translations there
            and back. At most 256 a call.
        segment: from a run of Chinese characters to its words; by default each character is one,
            but for the words of the list of synonyms.

    Returns:
        The new rows, those of a row together, in the order of the rows.

    Raises:
        ConfigError: a method lacks its callable or list, or a callable does not answer as it
            should.

    Example:
        >>> new = augment(["a fine film"], AugmentSettings(methods=["swap"]), seed=7)
        >>> new.texts, labels[new.sources]
    """
    rows = _rows(texts, text_pairs)
    tools = _tools(settings, replace, translate)
    segment = segment or by_longest_match(tools.synonyms)
    taken = {_key(row) for row in (*rows, *apart)}
    passages = [[Passage.of(text, segment) for text in row if text is not None] for row in rows]
    made: list[list[tuple[tuple, str]]] = [[] for _ in rows]
    left_out: collections.Counter[str] = collections.Counter(dict.fromkeys(settings.methods, 0))
    for method in settings.methods:
        for copy in range(settings.copies):
            salt = f"{seed}:{method}:{copy}"
            versions = _versions(method, passages, rows, tools, salt)
            for number, version in enumerate(versions):
                key = _key(version)
                if key in taken or not all(text for text in version if text is not None):
                    left_out[method] += 1
                    continue
                taken.add(key)
                made[number].append((version, f"{method} {copy + 1}"))
    found = [(number, *each) for number, versions in enumerate(made) for each in versions]
    return Augmented(
        texts=[row[0] for _, row, _ in found],
        text_pairs=None if text_pairs is None else [row[1] for _, row, _ in found],
        sources=np.array([number for number, _, _ in found], np.int64),
        made_by=[by for _, _, by in found],
        left_out=dict(left_out),
    )


def augment_split(
    train: Split,
    settings: AugmentSettings,
    *,
    seed: int,
    apart: Sequence[Split] = (),
    target: str = "class",
    **callables,
) -> Split:
    """Add new versions to the training rows.

    Args:
        train: the rows to train on; never dev or test.
        settings: methods, copies, rate and list of synonyms.
        seed: equal seeds give equal versions.
        apart: the other splits: a version equal to one of their rows is left out.
        target: what a label is, as `dataset.target` says.
        **callables: `replace`, `translate` and `segment` of `augment`.

    Returns:
        The rows given, then the new ones; the origin of a new one is that of its row and how it
        was made: `train.csv:12 (swap 1)`.

    Raises:
        ConfigError: labels name places in the text, or as for `augment`.
    """
    if target in PLACES:
        raise ConfigError(
            "data.augment: expected labels of whole texts, for words are moved. Received: target "
            f"{target}, whose labels name places in the text. Leave augment out."
        )
    others = [row for split in apart for row in _rows(split.texts, split.text_pairs)]
    new = augment(
        train.texts, settings, seed=seed, text_pairs=train.text_pairs, apart=others, **callables
    )
    _log_counts(train, new)
    made_of = new.sources.tolist()
    if isinstance(train.labels, np.ndarray):
        labels = np.concatenate([train.labels, train.labels[made_of]])
    else:
        labels = [*train.labels, *(train.labels[row] for row in made_of)]
    origins = [f"{train.origins[row]} ({by})" for row, by in zip(made_of, new.made_by, strict=True)]
    return dataclasses.replace(
        train,
        texts=[*train.texts, *new.texts],
        text_pairs=None if new.text_pairs is None else [*train.text_pairs, *new.text_pairs],
        labels=labels,
        origins=[*train.origins, *origins],
    )


def _log_counts(train: Split, new: Augmented) -> None:
    left = ", ".join(f"{count:,} of {name}" for name, count in new.left_out.items() if count)
    _log.info(
        "augmentation: %s rows and %s new ones%s",
        f"{len(train.texts):,}",
        f"{len(new.texts):,}",
        f" (left out, for they are rows already or empty: {left})" if left else "",
    )


def _rows(texts, text_pairs) -> list[tuple[str, str | None]]:
    if text_pairs is not None and len(text_pairs) != len(texts):
        raise ConfigError(
            "augment: expected a second text for every text. "
            f"Received: {len(texts)} texts and {len(text_pairs)} second texts."
        )
    return list(zip(texts, text_pairs or [None] * len(texts), strict=True))


def _tools(settings: AugmentSettings, replace, translate) -> Tools:
    given = {"replace": replace, "translate": translate}
    for method, name in CALLABLES.items():
        if method in settings.methods and given[name] is None:
            raise ConfigError(
                f"data.augment.methods: {method} needs a callable, which a config cannot name. "
                f"Received: none. Call tfmodel.data.augmentation.augment_split(train, settings, "
                f"seed=…, {name}=…) in Python, or leave {method} out."
            )
    synonyms = {} if settings.synonyms is None else read_synonyms(sources.fetch(settings.synonyms))
    return Tools(rate=settings.rate, synonyms=synonyms, **given)


def _versions(method, passages, rows, tools, salt) -> list[tuple[str, str | None]]:
    drafts = [
        Draft(passage, random.Random(_digest(salt, place, row)))
        for row, parts in zip(rows, passages, strict=True)
        for place, passage in enumerate(parts)
    ]
    texts = iter([text.strip() for text in METHODS[method](drafts, tools)])
    return [(next(texts), None if second is None else next(texts)) for _, second in rows]


def _digest(salt: str, place: int, row: tuple[str, str | None]) -> int:
    content = f"{salt}:{place}:{len(row[0])}:{row[0]}{row[1] or ''}"
    return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=16).digest(), "big")


def _key(row: Sequence[str | None]) -> bytes:
    # As a BERT without capitals reads them.
    content = "\0".join(" ".join((text or "").casefold().split()) for text in row)
    return hashlib.blake2b(content.encode(), digest_size=16).digest()
