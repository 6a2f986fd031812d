"""Which tag may follow which, and the best sequence that keeps to it.

With a CRF (`tfmodel.tasks.tag_chain`) what may follow is better or worse by learned numbers, too.

Letters: n texts, N words of a text, C tags.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfmodel.config import ConfigError
from tfmodel.data.targets.tagged_words import OUTSIDE, parts_of_tag

FORBIDDEN = -1e6
"""Far below any sequence that keeps to the rules, for a score is no less than log of `LEAST`."""
LEAST = 1e-30
_LARGEST = 1e4
"""Of learned numbers, whoever wrote them: none makes up for what is forbidden."""
_TEXTS_AT_ONCE = 512


class Rules(NamedTuple):
    """What tags may stand where.

    Attributes:
        first: bool (C,), at the beginning of a text.
        following: bool (C, C), whether the second may stand behind the first.
        last: bool (C,), at the end of a text.
    """

    first: np.ndarray
    following: np.ndarray
    last: np.ndarray


def rules_of(tags: Sequence[str]) -> Rules:
    """The rules of a set of tags, in whatever scheme its prefixes say.

    `I-X` and `E-X` stand behind `B-X` or `I-X` alone. Where there is an `E-X`, what `B-X` begins
    must end in one. Of a label without `B-X` (IOB1), `I-X` may begin a span.

    Args:
        tags: C names, such as `O`, `B-PER`, `I-PER`.
    """
    parts = [parts_of_tag(tag) for tag in tags]
    there = set(parts)

    def begins(prefix: str, label: str) -> bool:
        return prefix in (OUTSIDE, "B", "S") or ("B", label) not in there

    def is_open(prefix: str, label: str) -> bool:
        """Whether a span that has come so far must go on."""
        return prefix in ("B", "I") and ("E", label) in there

    def follows(before: tuple[str, str], after: tuple[str, str]) -> bool:
        if after[0] in ("I", "E") and before[0] in ("B", "I") and before[1] == after[1]:
            return True
        return begins(*after) and not is_open(*before)

    return Rules(
        np.array([begins(*each) for each in parts], bool),
        np.array([[follows(before, after) for after in parts] for before in parts], bool),
        np.array([not is_open(*each) for each in parts], bool),
    )


class Costs(NamedTuple):
    """What is added to the logarithms of words' scores: float32 of the shapes of `Rules`."""

    first: Any
    following: Any
    last: Any


def costs_of(tags: Sequence[str], transitions: Mapping[str, Any] | None = None) -> Costs:
    """Numbers that make the best sequence one that keeps to the rules.

    Args:
        tags: C names.
        transitions: what a CRF learned: `first` (C), `following` (C, C) and `last` (C), numbers;
            without it all that may stand is as good.

    Raises:
        ConfigError: they are not finite numbers of these shapes.
    """
    rules = rules_of(tags)
    if transitions is None:
        return Costs(*(np.where(each, 0.0, FORBIDDEN).astype(np.float32) for each in rules))
    try:
        learned = [np.asarray(transitions[name], np.float32) for name in Costs._fields]
    except (KeyError, TypeError, ValueError) as error:
        learned, received = [], repr(error)
    else:
        received = ", ".join(str(each.shape) for each in learned)
    shapes = [each.shape for each in rules]
    if [each.shape for each in learned] != shapes or not all(map(_is_finite, learned)):
        raise ConfigError(
            f"transitions: expected finite numbers for {len(tags)} tags, of the shapes "
            f"{', '.join(map(str, shapes))}. Received: {received}. Export the model again."
        )
    found = (
        np.where(may, np.clip(each, -_LARGEST, _LARGEST), FORBIDDEN).astype(np.float32)
        for may, each in zip(rules, learned, strict=True)
    )
    return Costs(*found)


def _is_finite(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).all())


def best_sequences(
    scores: Sequence[np.ndarray],
    tags: Sequence[str],
    transitions: Mapping[str, Any] | None = None,
) -> list[np.ndarray]:
    """The likeliest sequence of each text that keeps to the rules.

    Args:
        scores: of each text float32 (N, C), the probability of each tag of each word.
        tags: C names.
        transitions: what a CRF learned, as `costs_of` takes it.

    Returns:
        Of each text int32 (N,), indices of tags.

    Source: Viterbi 1967.
    """
    costs = costs_of(tags, transitions)
    found: list[np.ndarray] = [np.zeros(0, np.int32)] * len(scores)
    for rows, padded, lengths in of_like_length(scores):
        paths = _best_paths(log_scores(padded), lengths, *costs)
        for path, row, length in zip(paths, rows, lengths, strict=True):
            found[row] = path[:length]
    return found


def of_like_length(
    scores: Sequence[np.ndarray],
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Texts together that have about as many words; those without any are left out.

    Args:
        scores: of each text float32 (N, C).

    Yields:
        Which texts, their scores filled up with 1, (n, N, C), and their words, (n,).
    """
    lengths = np.array([len(each) for each in scores], np.int64)
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), _TEXTS_AT_ONCE):
        rows = order[start : start + _TEXTS_AT_ONCE]
        rows = rows[lengths[rows] > 0]
        if not len(rows):
            continue
        padded = np.ones((len(rows), lengths[rows[-1]], scores[rows[-1]].shape[-1]), np.float32)
        for place, row in enumerate(rows):
            padded[place, : lengths[row]] = scores[row]
        yield rows, padded, lengths[rows]


def log_scores(scores: np.ndarray) -> np.ndarray:
    """Logarithms of probabilities, of which none is less than 1e-30."""
    return np.log(np.maximum(scores, np.float32(LEAST)))


def _best_paths(emitted, lengths, first, following, last) -> np.ndarray:
    rows, longest, count = emitted.shape
    best = emitted[:, 0] + first
    came_from = np.tile(np.arange(count, dtype=np.int32), (longest, rows, 1))
    for word in range(1, longest):
        reached = best[:, :, None] + following
        origin = reached.argmax(axis=1).astype(np.int32)
        better = reached.max(axis=1) + emitted[:, word]
        better -= better.max(axis=1, keepdims=True)  # small numbers stay exact in long texts
        goes_on = (word < lengths)[:, None]
        came_from[word] = np.where(goes_on, origin, came_from[word])
        best = np.where(goes_on, better, best)
    paths = np.zeros((rows, longest), np.int32)
    tag = (best + last).argmax(axis=1)
    for word in range(longest - 1, -1, -1):
        paths[:, word] = tag
        tag = came_from[word, np.arange(rows), tag]
    return paths


def worth(
    scores: np.ndarray,
    path: np.ndarray,
    tags: Sequence[str],
    transitions: Mapping[str, Any] | None = None,
) -> float:
    """The logarithm of a sequence's probability; far lower where it breaks a rule.

    With a CRF it is that but for a constant of the text.

    Args:
        scores: float32 (N, C).
        path: int32 (N,), indices of tags.
        tags: C names.
        transitions: what a CRF learned, as `costs_of` takes it.
    """
    if not len(path):
        return 0.0
    first, following, last = costs_of(tags, transitions)
    given = log_scores(scores[np.arange(len(path)), path])
    rules = first[path[0]] + following[path[:-1], path[1:]].sum() + last[path[-1]]
    return float(given.sum(dtype=np.float64) + rules)


def best_sequences_in_graph(
    scores: Any, lengths: Any, tags: Sequence[str], transitions: Mapping[str, Any] | None = None
) -> Any:
    """`best_sequences` inside a TensorFlow graph.

    Args:
        scores: float32 (n, N, C); what stands behind a text's end is not read.
        lengths: int32 (n,), words of each text.
        tags: C names.
        transitions: what a CRF learned, as `costs_of` takes it.

    Returns:
        int32 (n, N), indices of tags; behind a text's end 0.
    """
    import tensorflow as tf

    first, following, last = map(tf.constant, costs_of(tags, transitions))
    rows, longest = tf.shape(scores)[0], tf.shape(scores)[1]
    count = len(tags)
    # A batch without words has no first one.
    emitted = tf.pad(tf.math.log(tf.maximum(scores, LEAST)), [[0, 0], [0, 1], [0, 0]])
    emitted = tf.transpose(emitted, (1, 0, 2))
    unmoved = tf.tile(tf.range(count)[tf.newaxis], [rows, 1])

    def forward(word, best, came_from):
        reached = best[:, :, tf.newaxis] + following
        origin = tf.argmax(reached, axis=1, output_type=tf.int32)
        better = tf.reduce_max(reached, axis=1) + emitted[word]
        better -= tf.reduce_max(better, axis=1, keepdims=True)
        goes_on = (word < lengths)[:, tf.newaxis]
        came_from = came_from.write(word, tf.where(goes_on, origin, unmoved))
        return word + 1, tf.where(goes_on, better, best), came_from

    def array():
        return tf.TensorArray(tf.int32, size=longest + 1, element_shape=None)

    # One step more than there are words: behind every text's end nothing moves.
    start = (tf.constant(1), emitted[0] + first, array().write(0, unmoved))
    _, best, came_from = tf.while_loop(lambda word, *_: word <= longest, forward, start)

    def backward(word, tag, path):
        origin = came_from.read(word)
        return word - 1, tf.gather(origin, tag, batch_dims=1), path.write(word, tag)

    tag = tf.argmax(best + last, axis=1, output_type=tf.int32)
    _, _, path = tf.while_loop(lambda word, *_: word >= 0, backward, (longest, tag, array()))
    stacked = tf.transpose(tf.reshape(path.stack(), [longest + 1, rows]))[:, :longest]
    is_word = tf.range(longest)[tf.newaxis] < lengths[:, tf.newaxis]
    return tf.where(is_word, stacked, 0)
