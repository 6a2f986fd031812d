"""What SentencePiece's models make of a text before it is split, step by step, in the graph.

Every character remembers which of the user's own it comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfmodel.tokens.character_clusters import cluster_begins
from tfmodel.tokens.character_kinds import SPACE, kinds_of
from tfmodel.tokens.letter_tables import lower_case, without_accents

BLANK = ord(" ")
_CODES = 1 << 21  # more than there are code points
SHORT_CLUSTER = 5
"""Longer clusters are looked up character by character."""


class Characters(NamedTuple):
    """The characters of B texts, one text after the other; n in all.

    Attributes:
        codes: int32 (n,), code points.
        rows: int64 (n,), the text of each.
        starts: int32 (n,), the first character of the user's text that it comes from.
        ends: int32 (n,), the one after the last.
    """

    codes: tf.Tensor
    rows: tf.Tensor
    starts: tf.Tensor
    ends: tf.Tensor

    @classmethod
    def of(cls, texts: tf.Tensor) -> Characters:
        """The characters of texts (B,) as they are given."""
        codes = tf.strings.unicode_decode(texts, "UTF-8")
        places = tf.ragged.range(codes.row_lengths()).flat_values
        starts = tf.cast(places, tf.int32)
        return cls(codes.flat_values, codes.value_rowids(), starts, starts + 1)

    def keep(self, kept: tf.Tensor) -> Characters:
        """Those of them that a mask (n,) keeps."""
        return Characters(*(tf.boolean_mask(each, kept) for each in self))

    def begins_row(self) -> tf.Tensor:
        """Whether each is the first of its text: bool (n,)."""
        return ~same_as_before(self.rows)


Step = Callable[[Characters], Characters]


def same_as_before(values: tf.Tensor) -> tf.Tensor:
    """Whether each of n values is that of the one before it: bool (n,)."""
    return tf.concat([[False], values[1:] == values[:-1]], axis=0)[: tf.size(values)]


def mapped(table: Mapping[str, str]) -> Step:
    """Write characters otherwise, by a table of single ones and of clusters.

    Args:
        table: characters to what is written in their place. One of several characters counts where
            they are a cluster of at most 5 bytes, or its beginning; of such a cluster, the
            shortest beginning that the table has decides for all of it.

    Source: `Precompiled` of Hugging Face's tokenizers.
    """
    entries = {
        _key(found): [ord(letter) for letter in written]
        for found, written in table.items()
        if 1 <= len(found) <= 3 and (len(found) == 1 or len(found.encode()) <= SHORT_CLUSTER)
    }
    pool = _Pool(entries)

    def step(given: Characters) -> Characters:
        codes = tf.cast(given.codes, tf.int64)
        entry = pool.find(codes)
        begins = cluster_begins(given.codes, given.rows)
        lengths = 1 + sum(
            tf.cast(given.codes >= least, tf.int32) for least in (0x80, 0x800, 0x10000)
        )
        cluster = tf.cumsum(tf.cast(begins, tf.int64)) - 1
        firsts = tf.where(begins)[:, 0]
        sizes = tf.math.bincount(
            tf.cast(cluster, tf.int32), minlength=tf.size(firsts), dtype=tf.int64
        )
        bytes_of = tf.math.segment_sum(lengths, cluster)
        is_short = (sizes > 1) & (bytes_of <= SHORT_CLUSTER)
        # Of short clusters of several characters: what decides for all of it.
        chosen = tf.boolean_mask(firsts, is_short)
        size = tf.boolean_mask(sizes, is_short)
        first, second, third = (
            tf.gather(codes, tf.minimum(chosen + i, tf.size(codes, tf.int64) - 1)) for i in range(3)
        )
        two = first + _CODES * second
        three = tf.where(size > 2, two + _CODES**2 * third, -1)
        decides = tf.gather(entry, chosen)
        for longer in (two, three):
            decides = tf.where(decides < 0, pool.find(longer), decides)
        is_decided = decides >= 0
        entry = tf.tensor_scatter_nd_update(entry, chosen[:, tf.newaxis], decides)
        whole = tf.scatter_nd(
            tf.boolean_mask(tf.where(is_short), is_decided),
            tf.ones_like(tf.boolean_mask(chosen, is_decided), tf.int32),
            tf.shape(firsts, tf.int64),
        )
        is_whole = tf.gather(whole, cluster) > 0
        last = tf.gather(tf.math.segment_max(given.ends, cluster), cluster)
        ends = tf.where(is_whole, last, given.ends)
        return pool.write(given._replace(ends=ends), entry, is_dropped=is_whole & ~begins)

    return step


def decomposed(*, lowercase: bool) -> Step:
    """Take characters apart, drop marks, and lower-case: `NFKD`, `StripAccents`, `Lowercase`."""
    return _by_character(without_accents(lowercase=lowercase))


def lowered() -> Step:
    """Lower-case, letter by letter."""
    return _by_character(lower_case())


def _by_character(table: Mapping[str, str]) -> Step:
    pool = _Pool({ord(found): list(map(ord, written)) for found, written in table.items()})
    return lambda given: pool.write(given, pool.find(tf.cast(given.codes, tf.int64)))


def replaced(found: str, written: str) -> Step:
    """Replace a string of two characters, from the left on, as often as it comes."""
    one, two = map(ord, found)

    def step(given: Characters) -> Characters:
        is_pair = (given.codes[:-1] == one) & (given.codes[1:] == two)
        is_pair &= given.rows[1:] == given.rows[:-1]
        places = tf.where(is_pair)[:, 0]
        # Of "'''" the second pair shares a character with the first.
        is_apart = tf.concat([[-2], places[:-1]], 0) + 1 != places
        run = tf.cumsum(tf.cast(is_apart, tf.int64)) - 1
        begins = tf.gather(tf.where(is_apart)[:, 0], run)
        places = tf.boolean_mask(places, (tf.range(tf.size(places, tf.int64)) - begins) % 2 == 0)[
            :, tf.newaxis
        ]
        ones = tf.ones_like(places[:, 0], tf.int32)
        shape = tf.shape(given.codes, tf.int64)
        entry = tf.scatter_nd(places, ones, shape) - 1
        is_second = tf.scatter_nd(places + 1, ones, shape) > 0
        last = tf.concat([given.ends[1:], given.ends[:1]], axis=0)
        given = given._replace(ends=tf.where(entry >= 0, last, given.ends))
        return pool.write(given, entry, is_dropped=is_second)

    pool = _Pool({0: list(map(ord, written))})
    return step


def without_repeated_blanks(written: str) -> Step:
    """Replace two blanks or more by one character."""

    def step(given: Characters) -> Characters:
        is_blank = given.codes == BLANK
        same = same_as_before(given.rows)
        again = is_blank & same & tf.concat([[False], is_blank[:-1]], 0)[: tf.size(is_blank)]
        goes_on = tf.concat([again[1:], [False]], axis=0)[: tf.size(again)]
        codes = tf.where(is_blank & goes_on, ord(written), given.codes)
        return given._replace(codes=codes).keep(~again)

    return step


def stripped(*, left: bool, right: bool) -> Step:
    """Drop white space at the ends of a text."""

    def step(given: Characters) -> Characters:
        is_text = tf.cast(kinds_of(given.codes) != SPACE, tf.int32)
        number = tf.range(tf.size(given.codes))
        rows = tf.reduce_max(tf.concat([given.rows, [-1]], 0)) + 1
        first = tf.math.unsorted_segment_min(
            tf.where(is_text > 0, number, tf.int32.max), given.rows, rows
        )
        last = tf.math.unsorted_segment_max(tf.where(is_text > 0, number, -1), given.rows, rows)
        kept = tf.ones_like(is_text, tf.bool)
        if left:
            kept &= number >= tf.gather(first, given.rows)
        if right:
            kept &= number <= tf.gather(last, given.rows)
        return given.keep(kept)

    return step


class _Pool:
    """What is written in the place of characters, looked up by search in a sorted array."""

    def __init__(self, entries: Mapping[int, list[int]]):
        keys = sorted(entries)
        written = [entries[key] for key in keys]
        lengths = [len(each) for each in written]
        # One more than any key, so that every search ends on an entry.
        self._keys = np.array([*keys, np.iinfo(np.int64).max], np.int64)
        self._lengths = np.array([*lengths, 0], np.int32)
        self._places = np.cumsum(self._lengths, dtype=np.int32) - self._lengths
        self._codes = np.array([*(code for each in written for code in each), 0], np.int32)

    def find(self, keys: tf.Tensor) -> tf.Tensor:
        """The entry of each key (n,), int32; -1 where there is none."""
        found = tf.searchsorted(tf.constant(self._keys), keys)
        return tf.where(tf.gather(self._keys, found) == keys, found, -1)

    def write(
        self, given: Characters, entry: tf.Tensor, is_dropped: tf.Tensor | None = None
    ) -> Characters:
        """Write entries in the place of the characters that have one.

        Args:
            given: n characters.
            entry: int32 (n,), or -1.
            is_dropped: bool (n,), whether nothing is written for one.
        """
        is_changed = entry >= 0
        place = tf.maximum(entry, 0)
        counts = tf.where(is_changed, tf.gather(self._lengths, place), 1)
        if is_dropped is not None:
            counts = tf.where(is_dropped, 0, counts)
        of = tf.repeat(tf.range(tf.size(counts)), counts)
        number = tf.range(tf.size(of)) - tf.gather(tf.cumsum(counts, exclusive=True), of)
        written = tf.gather(
            self._codes,
            tf.where(
                tf.gather(is_changed, of),
                tf.gather(self._places, tf.gather(place, of)) + number,
                tf.size(self._codes) - 1,
            ),
        )
        moved = Characters(*(tf.gather(each, of) for each in given))
        return moved._replace(codes=tf.where(tf.gather(is_changed, of), written, moved.codes))


def _key(characters: str) -> int:
    return sum(ord(each) * _CODES**place for place, each in enumerate(characters))
