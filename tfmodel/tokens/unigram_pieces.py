"""The pieces of a unigram model, and the likeliest way to write words with them, in the graph.

No operation of TensorFlow that servers have does this, so core ones do, for all words of a batch at
once: first every piece that each place could begin with, by a trie; then, character by character,
the best way to write a word up to there (Viterbi); then back from its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

_CODES = 1 << 21  # more than there are code points
_UNKNOWN_PENALTY = 10.0
"""By how much an unknown character is less likely than the least likely piece."""
_LONG_WORD = 256
_NUMBER, _LIST = tf.TensorShape([]), tf.TensorShape([None])


class Cut(NamedTuple):
    """The pieces that n characters were written with, P of them.

    Attributes:
        ids: int32 (P,); of unknown characters next to each other one.
        starts: int64 (P,), the first character of each.
        ends: int64 (P,), the one after its last.
    """

    ids: tf.Tensor
    starts: tf.Tensor
    ends: tf.Tensor


class UnigramPieces:
    """Pieces with their scores.

    Args:
        pieces: the pieces, by id.
        scores: the logarithm of how likely each is.
        unknown_id: of what stands for characters that no piece has.
        unused: ids of pieces that are never found in a text, such as those with a meaning.

    Source: Kudo 2018, section 3.2; `Unigram` of Hugging Face's tokenizers, which it follows where
    two ways are as likely: the one whose last piece is longer.
    """

    def __init__(
        self,
        pieces: Sequence[str],
        scores: Sequence[float],
        *,
        unknown_id: int,
        unused: Sequence[int] = (),
    ):
        known = sorted(set(range(len(pieces))) - {*unused, unknown_id})
        codes = [np.array([*map(ord, pieces[index])], np.int64) for index in known]
        keep = [place for place, each in enumerate(codes) if len(each)]
        ids, codes = np.array(known, np.int32)[keep], [codes[place] for place in keep]
        edges, piece_of, self._longest = _trie(codes, ids)
        # Made once, so that a graph holds them once.
        self._edges, self._piece_of = tf.constant(edges), tf.constant(piece_of)
        penalized = min(scores, default=0.0) - _UNKNOWN_PENALTY
        # The last one is that of no piece at all.
        self._scores = tf.constant([*scores, -np.inf], tf.float64)
        self._none = len(scores)
        self._unknown_score = np.float64(penalized)
        self._unknown_id = unknown_id

    def write(self, codes: tf.Tensor, begins: tf.Tensor) -> Cut:
        """Write words with the likeliest pieces.

        Args:
            codes: int32 (n,), characters.
            begins: bool (n,), whether a word begins; the first begins one.
        """
        size = tf.size(codes, tf.int64)
        _, ends, lengths = _words(begins, size)
        found, is_crossed = self._find(codes, tf.repeat(ends, lengths))
        # A long word is written in parts where no piece crosses: all its characters one after the
        # other take time.
        is_long = tf.repeat(lengths > _LONG_WORD, lengths)
        starts, _, lengths = _words(begins | (is_long & ~is_crossed), size)
        firsts = self._best(found, starts, lengths)
        lasts = tf.concat([firsts[1:], size[tf.newaxis]], axis=0)[: tf.size(firsts)]
        ids = tf.gather(found, (lasts - firsts - 1) * size + firsts)
        is_unknown = ids < 0
        # Unknown characters of one word that stand next to each other are one piece.
        again = tf.concat([[False], is_unknown[:-1]], axis=0)[: tf.size(ids)] & is_unknown
        again &= ~tf.gather(begins, firsts)
        is_last = tf.concat([~again[1:], [True]], axis=0)[: tf.size(ids)]
        return Cut(
            tf.boolean_mask(tf.where(is_unknown, self._unknown_id, ids), ~again),
            tf.boolean_mask(firsts, ~again),
            tf.boolean_mask(lasts, is_last),
        )

    def _find(self, codes: tf.Tensor, word_ends: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The pieces there are.

        Args:
            codes: int32 (n,), characters.
            word_ends: int64 (n,), the end of the word of each.

        Returns:
            int32 (L * n,), the piece of each length that begins at each character, -1 for none; and
            bool (n,), whether a piece begins before a character and goes on to it.
        """
        size = tf.size(codes, tf.int64)
        codes = tf.cast(codes, tf.int64)
        places = tf.range(size)

        def at(places):
            return tf.scatter_nd(places[:, tf.newaxis], tf.ones_like(places), size[tf.newaxis] + 1)

        def longer(length, places, states, found, crossing):
            keys = states * _CODES + tf.gather(codes, places + length)
            edge = tf.searchsorted(self._edges, keys)
            is_there = tf.gather(self._edges, edge) == keys
            places, edge = tf.boolean_mask(places, is_there), tf.boolean_mask(edge, is_there)
            piece = tf.gather(self._piece_of, edge)
            # Counted from 1: what nothing is written to is none.
            row = tf.scatter_nd(places[:, tf.newaxis], piece + 1, size[tf.newaxis]) - 1
            whole = tf.boolean_mask(places, piece >= 0)
            crossing += at(whole + 1) - at(whole + length + 1)
            goes_on = places + length + 1 < tf.gather(word_ends, places)
            states = tf.cast(edge, tf.int64) + 1
            return (
                length + 1,
                tf.boolean_mask(places, goes_on),
                tf.boolean_mask(states, goes_on),
                found.write(tf.cast(length, tf.int32), row),
                crossing,
            )

        rows = tf.TensorArray(tf.int32, size=self._longest, element_shape=(None,))
        crossing = tf.zeros(size[tf.newaxis] + 1, tf.int64)
        *_, rows, crossing = tf.while_loop(
            lambda length, *_: length < self._longest,
            longer,
            (tf.constant(0, tf.int64), places, tf.zeros_like(places), rows, crossing),
            shape_invariants=(_NUMBER, _LIST, _LIST, None, _LIST),
        )
        return tf.reshape(rows.stack(), [-1]), tf.cumsum(crossing)[:-1] > 0

    def _best(self, found: tf.Tensor, starts: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Where the pieces of the likeliest way to write each word begin: int64 (P,), ascending.

        Args:
            found: int32 (L * n,), the pieces there are.
            starts: int64 (w,), the first character of each word.
            lengths: int64 (w,), how many it has.
        """
        size = tf.reduce_sum(lengths)
        # Longest first: those that go on at a place are the first so many.
        order = tf.argsort(lengths, direction="DESCENDING", stable=True)
        starts, lengths = tf.gather(starts, order), tf.gather(lengths, order)
        longest = tf.reduce_max(tf.concat([lengths, [0]], axis=0))
        counts = tf.searchsorted(-lengths, -tf.range(1, longest + 1), side="right")
        before = tf.cumsum(counts, exclusive=True)
        steps = tf.range(self._longest, dtype=tf.int64)[:, tf.newaxis]
        numbers = tf.range(1, self._longest + 1)[:, tf.newaxis]

        def further(place, latest, chosen):
            """The best way up to character `place` of each word that has one."""
            count = counts[place]
            begin = (starts[:count] + place)[tf.newaxis] - steps
            is_inside = steps <= place
            piece = tf.gather(found, tf.where(is_inside, steps * size + begin, 0))
            piece = tf.where(is_inside, piece, -1)
            score = tf.gather(self._scores, tf.where(piece < 0, self._none, piece))
            unknown = (numbers == 1) & (piece < 0)
            score = tf.where(unknown, self._unknown_score, score)
            latest = latest[:, :count]
            total = score + latest
            best = tf.reduce_max(total, axis=0)
            length = tf.reduce_max(tf.where(total == best, numbers, 0), axis=0)
            latest = tf.concat([best[tf.newaxis], latest[:-1]], axis=0)
            return place + 1, latest, chosen.write(tf.cast(place, tf.int32), length)

        none = tf.fill([self._longest - 1, tf.size(starts)], np.float64(-np.inf))
        latest = tf.concat([tf.zeros([1, tf.size(starts)], tf.float64), none], axis=0)
        chosen = tf.TensorArray(
            tf.int32, size=tf.cast(longest, tf.int32), element_shape=(None,), infer_shape=False
        )
        *_, chosen = tf.while_loop(
            lambda place, *_: place < longest,
            further,
            (tf.constant(0, tf.int64), latest, chosen),
            shape_invariants=(_NUMBER, tf.TensorShape([self._longest, None]), None),
        )
        taken = tf.cond(longest > 0, chosen.concat, lambda: tf.zeros([0], tf.int32))
        return _way_back(taken, tf.cast(before, tf.int64), starts, lengths)


def _words(begins: tf.Tensor, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """First characters of words, the ones after their last, and how many they have: int64 each."""
    starts = tf.where(begins)[:, 0]
    ends = tf.concat([starts[1:], size[tf.newaxis]], axis=0)[: tf.size(starts)]
    return starts, ends, ends - starts


def _way_back(
    taken: tf.Tensor, before: tf.Tensor, starts: tf.Tensor, lengths: tf.Tensor
) -> tf.Tensor:
    """From the ends of words back to their beginnings: where pieces begin, ascending.

    Args:
        taken: int32 (n,), the length of the last piece of each word up to each character: of the
            first characters of all words, then of the second ones, …
        before: int64, how many of them come before those of each character.
        starts: int64 (w,), the first character of each word, the longest word first.
        lengths: int64 (w,), how many it has.
    """
    pieces = tf.TensorArray(
        tf.int64, size=0, dynamic_size=True, element_shape=(None,), infer_shape=False
    )

    def back(number, words, left, pieces):
        length = tf.gather(taken, tf.gather(before, left - 1) + words)
        left = left - tf.cast(length, tf.int64)
        pieces = pieces.write(number, tf.gather(starts, words) + left)
        goes_on = left > 0
        words, left = tf.boolean_mask(words, goes_on), tf.boolean_mask(left, goes_on)
        return number + 1, words, left, pieces

    number, *_, pieces = tf.while_loop(
        lambda number, words, *_: tf.size(words) > 0,
        back,
        (tf.constant(0), tf.range(tf.size(starts, tf.int64)), lengths, pieces),
        shape_invariants=(_NUMBER, _LIST, _LIST, None),
    )
    return tf.cond(number > 0, lambda: tf.sort(pieces.concat()), lambda: tf.zeros([0], tf.int64))


def _trie(codes: Sequence[np.ndarray], ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """A trie as a sorted array of its edges.

    Args:
        codes: the characters of each piece, at least one.
        ids: the id of each.

    Returns:
        int64 (e + 1,), each edge as the number of the node that it leaves, and a character; the
        node that edge i leads to is number i + 1, and the root 0. int32 (e + 1,), the piece that
        ends with each, or -1. And the characters of the longest piece, at least 1.
    """
    lengths = np.array([len(each) for each in codes], np.int64)
    longest = int(lengths.max(initial=1))
    at = np.zeros(len(codes), np.int64)
    edges, ending, there = [], [], 0
    for depth in range(longest):
        going = np.flatnonzero(lengths > depth)
        keys = at[going] * _CODES + np.array([codes[i][depth] for i in going], np.int64)
        found, number = np.unique(keys, return_inverse=True)
        at[going] = there + 1 + number
        piece = np.full(len(found), -1, np.int32)
        done = lengths[going] == depth + 1
        piece[number[done]] = ids[going[done]]
        edges.append(found)
        ending.append(piece)
        there += len(found)
    # One more than any, so that every search ends on an edge.
    last = np.array([np.iinfo(np.int64).max], np.int64)
    return (
        np.concatenate([*edges, last]),
        np.concatenate([*ending, np.array([-1], np.int32)]),
        longest,
    )
