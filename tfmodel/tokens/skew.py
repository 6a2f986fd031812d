"""Where other runtimes see other tokens than the model was trained on.

A phone lower-cases ASCII alone and strips no accents; KerasHub strips none either. Whether that
matters is a question to the user's own rows, so it is counted there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow as tf

from tfmodel.config import ConfigError
from tfmodel.tokens.phone import PhoneTokenizer
from tfmodel.tokens.tokenizer import Tokenizer

_ROWS_AT_ONCE = 4096
_PIECES_SHOWN = 3
_EXAMPLES = 5

Ids = list[list[int]]


@dataclasses.dataclass(frozen=True)
class Skew:
    """How one runtime's tokens differ from ours.

    Attributes:
        rows: rows compared.
        differ: of these, how many have other ids.
        examples: up to five, each of another word: `text` around the place, and the pieces there,
            `ours` and `theirs`.
        unknown: how many more [UNK] the runtime makes of these rows than we do.
        not_measured: why nothing was compared, or None.
    """

    rows: int = 0
    differ: int = 0
    examples: tuple[dict, ...] = ()
    unknown: int = 0
    not_measured: str | None = None

    @property
    def share(self) -> float:
        """The share of the rows that differ, in [0, 1]."""
        return self.differ / self.rows if self.rows else 0.0


def measure_skew(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    text_pairs: Sequence[str] | None = None,
    *,
    max_length: int | None = None,
) -> dict[str, Skew]:
    """Compare the ids of rows with those that a phone and KerasHub give them.

    Args:
        tokenizer: the tokenizer that the model is trained with.
        texts: n strings.
        text_pairs: n strings or None; of a pair, either text may differ.
        max_length: what lies beyond so many tokens a text is not compared, for no model sees it;
            by default the tokenizer's own.

    Returns:
        `phone` (MediaPipe and tflite-support) and `keras_hub`.

    Example:
        >>> measure_skew(tokenizer, ["Un café"])["phone"].examples[0]["theirs"]
        ['un', 'caf', '##é']
    """
    limit = (tokenizer.max_length if max_length is None else max_length) - 2
    columns = [list(texts)] + ([] if text_pairs is None else [list(text_pairs)])
    phone = PhoneTokenizer(tokenizer.vocabulary)
    found = {"phone": _compare(tokenizer, phone.tokenize, columns, limit)}
    try:
        theirs = _keras_hub(tokenizer)
    except ConfigError as error:
        found["keras_hub"] = Skew(not_measured=str(error))
    else:
        found["keras_hub"] = _compare(tokenizer, theirs, columns, limit)
    return found


def _compare(
    tokenizer: Tokenizer,
    tokenize: Callable[[list[str]], Ids],
    columns: list[list[str]],
    limit: int,
) -> Skew:
    vocabulary = tokenizer.vocabulary
    differing: set[int] = set()
    examples: dict[tuple, dict] = {}
    unknown = 0
    for texts in columns:
        for first in range(0, len(texts), _ROWS_AT_ONCE):
            chunk = texts[first : first + _ROWS_AT_ONCE]
            ids, starts, ends = (
                ragged.to_list() for ragged in tokenizer.tokenize_with_offsets(chunk)
            )
            for row, theirs in enumerate(tokenize(chunk)):
                ours, theirs = ids[row][:limit], theirs[:limit]
                if ours == theirs:
                    continue
                differing.add(first + row)
                unknown += theirs.count(vocabulary.unknown_id) - ours.count(vocabulary.unknown_id)
                place = _first_difference(ours, theirs)
                words = (*ours[place : place + 1], -1, *theirs[place : place + 1])
                if len(examples) < _EXAMPLES and words not in examples:
                    shown = _shown(vocabulary.pieces, ours, place)
                    there = _shown(vocabulary.pieces, theirs, place)
                    examples[words] = {
                        "text": _covered(chunk[row], starts[row][shown], ends[row][shown]),
                        "ours": [vocabulary.pieces[i] for i in ours[shown]],
                        "theirs": [vocabulary.pieces[i] for i in theirs[there]],
                    }
    return Skew(len(columns[0]), len(differing), tuple(examples.values()), unknown)


def _first_difference(ours: list[int], theirs: list[int]) -> int:
    shorter = min(len(ours), len(theirs))
    return next((place for place in range(shorter) if ours[place] != theirs[place]), shorter)


def _shown(pieces: list[str], ids: list[int], place: int) -> slice:
    """The piece at a place, one before it and some after, to the end of a word."""
    end = place + _PIECES_SHOWN
    while end < len(ids) and pieces[ids[end]].startswith("##"):
        end += 1
    return slice(max(place - 1, 0), end)


def _covered(text: str, starts: list[int], ends: list[int]) -> str:
    """The part of a text where pieces stand; its beginning where we find none."""
    return text[starts[0] : ends[-1]] if starts else text[:40]


def _keras_hub(tokenizer: Tokenizer) -> Callable[[list[str]], Ids]:
    """KerasHub's own tokenizer of the same vocabulary."""
    try:
        from keras_hub.tokenizers import BertTokenizer
    except ImportError:
        raise ConfigError("pip install 'tfmodel[keras-hub]'") from None
    try:
        theirs = BertTokenizer(
            vocabulary=tokenizer.vocabulary.pieces, lowercase=tokenizer.lowercase
        )
    except ValueError as error:
        raise ConfigError(f"KerasHub refuses the vocabulary: {error}") from None

    def tokenize(texts: list[str]) -> Ids:
        ids = theirs(texts)
        return ids.to_list() if isinstance(ids, tf.RaggedTensor) else [list(row) for row in ids]

    return tokenize
