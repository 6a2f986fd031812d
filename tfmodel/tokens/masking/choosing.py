"""Choose tokens, whole words or spans of words: a given number a row, all alike likely."""

from __future__ import annotations

import numpy as np


def choose_tokens(
    maskable: np.ndarray, counts: np.ndarray, places: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Choose single tokens.

    Args:
        maskable: bool (B, T), what may be chosen.
        counts: int (B,), how many to choose in each row; at most `places` and what is maskable.
        places: P.
        random: where chance comes from.

    Returns:
        int64 (B, P) positions, those beyond a row's count 0; bool (B, P), which places are used.
    """
    keys, bits = _keys(maskable, None, random)
    places = min(places, keys.shape[1])
    chosen = np.sort(np.partition(keys, places - 1, axis=1)[:, :places], axis=1)
    used = np.arange(places) < counts[:, None]
    return np.where(used, chosen & ((1 << bits) - 1), 0).astype(np.int64), used


def choose_words(
    maskable: np.ndarray,
    words: np.ndarray,
    groups: np.ndarray,
    counts: np.ndarray,
    places: int,
    random: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose whole words, group after group, in a random order of the groups.

    A word that no longer fits is passed over for the next ones that do, so that nearly every row
    gets its count to the token.

    Args:
        maskable: bool (B, T), what may be chosen: of a word all tokens or none.
        words: int (B, T), the number of each token's word in its row, from 0 up.
        groups: int (B, T), the number of each token's group of neighbouring words; `words` again
            where words are chosen alone.
        counts: int (B,), how many tokens to choose at most in each row.
        places: P, no less than the largest count.
        random: where chance comes from.

    Returns:
        int64 (B, P) positions, those not used 0; bool (B, P), which places are used.
    """
    rows, length = maskable.shape
    keys, bits = _keys(maskable, groups, random)
    keys = np.sort(keys, axis=1)
    low = np.uint32((1 << bits) - 1)
    order = keys & low
    order ^= np.where(keys >> np.uint32(bits) & 1, low, np.uint32(0))
    order = order.astype(np.int64)
    word = np.take_along_axis(words, order, axis=1)
    changes = np.ones((rows, length + 1), bool)
    np.not_equal(word[:, 1:], word[:, :-1], out=changes[:, 1:-1])
    index = np.arange(length)
    starts = np.maximum.accumulate(np.where(changes[:, :-1], index, 0), axis=1)
    ends = np.where(changes[:, 1:], index + 1, length)
    ends = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    taken = ends <= counts[:, None]
    room = counts - taken.sum(1)
    allowed = np.arange(length) < maskable.sum(1)[:, None]  # those not maskable come last
    open_rows = np.flatnonzero(room)
    while len(open_rows):
        left = room[open_rows, None]
        fits = ~taken[open_rows] & allowed[open_rows]
        fits &= (ends - starts)[open_rows] <= left
        before = np.cumsum(fits, axis=1)
        more = fits & (np.take_along_axis(before, ends[open_rows] - 1, axis=1) <= left)
        taken[open_rows] |= more
        added = more.sum(1)
        room[open_rows] -= added
        open_rows = open_rows[(added > 0) & (room[open_rows] > 0)]
    row, column = np.nonzero(taken)
    place = (np.cumsum(taken, axis=1) - 1)[row, column]
    positions = np.zeros((rows, places), np.int64)
    positions[row, place] = order[row, column]
    return positions, np.arange(places) < taken.sum(1)[:, None]


def span_groups(
    maskable: np.ndarray,
    words: np.ndarray,
    *,
    stop: float,
    longest: int,
    random: np.random.Generator,
) -> np.ndarray:
    """Cut rows into spans of whole words, their lengths drawn from a geometric distribution.

    Args:
        maskable: bool (B, T); no span goes over what is not, so none over the end of a text.
        words: int (B, T), the number of each token's word in its row, from 0 up.
        stop: chance to end after each word, p of the distribution.
        longest: words of a span at most; the distribution is cut there.
        random: where chance comes from.

    Returns:
        int64 (B, T), the number of each token's span in its row.

    Source: Joshi et al. 2020, section 3.1. Deviation: they draw spans and where each begins one
    after the other, until enough is masked; here a row is cut into spans throughout, of which
    some are then chosen.
    """
    rows, length = words.shape
    lengths = draw_span_lengths((rows, length), stop=stop, longest=longest, random=random)
    bounds = np.cumsum(lengths, axis=1)
    begins = np.zeros((rows, length), bool)
    row, column = np.nonzero(bounds < length)
    begins[row, bounds[row, column]] = True
    begins[:, 0] = True
    first = np.ones((rows, length), bool)  # of a word
    np.not_equal(words[:, 1:], words[:, :-1], out=first[:, 1:])
    starts = np.take_along_axis(begins, words, axis=1) & first
    starts |= ~maskable
    starts[:, 1:] |= ~maskable[:, :-1]
    return np.cumsum(starts, axis=1) - 1


def draw_span_lengths(
    shape: tuple[int, ...], *, stop: float, longest: int, random: np.random.Generator
) -> np.ndarray:
    """Draw from the geometric distribution, cut at `longest`: int64 of that shape, from 1 up."""
    shares = stop * (1 - stop) ** np.arange(longest)
    bounds = np.cumsum(shares / shares.sum())[:-1]
    return np.searchsorted(bounds, random.random(shape, np.float32)) + 1


def _keys(
    maskable: np.ndarray, groups: np.ndarray | None, random: np.random.Generator
) -> tuple[np.ndarray, int]:
    """A random number for each group, its tokens' positions in the low bits: to be sorted.

    In groups with an odd number the positions are turned round, for of the last group chosen only
    the front may be taken, and neither end of a group shall be hidden more often than the other.
    """
    length = maskable.shape[1]
    bits = max(int(length - 1).bit_length(), 1)
    most = (1 << (32 - bits)) - 1
    keys = random.integers(0, most, maskable.shape, np.uint32)
    positions = np.arange(length, dtype=np.uint32)
    if groups is not None:
        keys = np.take_along_axis(keys, groups, axis=1)
    keys[~maskable] = most
    if groups is not None:
        positions = np.where(keys & 1, positions ^ ((1 << bits) - 1), positions)
    keys <<= np.uint32(bits)
    keys |= positions
    return keys, bits
