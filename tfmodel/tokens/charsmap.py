"""SentencePiece's table of characters that are written otherwise: `precompiled_charsmap`.

A number of bytes, a trie of so many (see `double_array`), and behind it the pool of what stands in
its place: strings that end with a zero byte, found by where they begin.
"""

from __future__ import annotations

import numpy as np

from tfmodel.config import ConfigError

_LABELS = np.arange(1, 256, dtype=np.int64)  # no key has a zero byte
_MOST_NODES = 1 << 20


def read_charsmap(table: bytes, *, longest: int, name: str) -> dict[str, str]:
    """Read a table: characters, one or several together, and what is written in their place.

    Args:
        table: `precompiled_charsmap`; empty where nothing is changed.
        longest: bytes of what is looked up at most; longer entries are left out.
        name: what messages call it.

    Raises:
        ConfigError: it is damaged.

    Source: `Normalizer::DecodePrecompiledCharsMap` in sentencepiece, and darts-clone's units.
    """
    if not table:
        return {}
    size = int.from_bytes(table[:4], "little")
    if len(table) < 4 or size % 4 or size > len(table) - 4:
        raise _damaged(name, f"a trie of {size:,} bytes in a table of {len(table):,}")
    units = np.frombuffer(table[4 : 4 + size], "<u4").astype(np.int64)
    pool = table[4 + size :]
    found = {}
    for key, place in _keys(units, longest, name):
        end = pool.find(b"\0", place)
        if not 0 <= place < len(pool) or end < 0:
            raise _damaged(name, f"text at {place:,} of {len(pool):,} bytes")
        try:
            found[key.decode("utf-8")] = pool[place:end].decode("utf-8")
        except UnicodeDecodeError:
            raise _damaged(name, f"{key!r} for {pool[place:end]!r}, not UTF-8") from None
    return found


def _keys(units: np.ndarray, longest: int, name: str) -> list[tuple[bytes, int]]:
    """All keys of a trie and their values: by the length of the keys, all of one length at once."""
    found = []
    nodes, keys = (
        np.zeros(min(len(units), 1), np.int64),
        np.zeros((min(len(units), 1), 0), np.uint8),
    )
    for _ in range(longest):
        base = nodes ^ _offsets(units[nodes])
        places = base[:, np.newaxis] ^ _LABELS
        inside = places < len(units)
        unit = units[np.where(inside, places, 0)]
        # A label's unit has it in its low bits, and bit 31 unset, which marks values.
        is_child = inside & (unit & 0x800000FF == _LABELS)
        parents, labels = np.nonzero(is_child)
        nodes = places[parents, labels]
        keys = np.concatenate([keys[parents], _LABELS[labels, np.newaxis].astype(np.uint8)], axis=1)
        ending = np.flatnonzero(units[nodes] >> 8 & 1)
        values = nodes[ending] ^ _offsets(units[nodes[ending]])
        if len(nodes) > _MOST_NODES or (values >= len(units)).any():
            raise _damaged(name, "a trie that leads nowhere")
        values = units[values] & 0x7FFFFFFF
        found += zip(map(bytes, keys[ending]), values.tolist(), strict=True)
    return found


def _offsets(units: np.ndarray) -> np.ndarray:
    return units >> 10 << ((units & (1 << 9)) >> 6)


def _damaged(name: str, received: str) -> ConfigError:
    return ConfigError(
        f"{name}: expected SentencePiece's table of characters (precompiled_charsmap). Received: "
        f"{received}. Fetch or copy the file again."
    )
