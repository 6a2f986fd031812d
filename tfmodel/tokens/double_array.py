"""A trie as one array of numbers, in the format that TensorFlow Text's operations read."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

# A unit (uint32): bits 0 to 7 its label, bit 8 whether a value hangs on it, from bit 10 on the
# offset of its children. A value's own unit has bit 31 set, which no label has.
_HAS_VALUE, _OFFSET_BIT, _IS_VALUE = 1 << 8, 10, 1 << 31
# All labels below the first byte are UTF-8 continuation bytes, 0x80 to 0xbf.
_FIRST_CONTINUATION, _BLOCK = 0x80, 64

_Node = tuple[tuple[int, "int | _Node"], ...]
"""The children of a node: their labels and, of a leaf its value, of an inner node its children."""


def build_double_array(values: Mapping[bytes, int]) -> np.ndarray:
    """Build the array from the UTF-8 forms of single characters.

    The child of the unit at `p` with the label `c` is the unit at `p ^ offset ^ c`; its value
    stands at `p ^ offset`. Nodes with the same children share them.

    Args:
        values: of every key its value, in [0, 2**31). No key begins another, none has a zero byte.

    Returns:
        uint32 (n,), n a multiple of 256, so that no label leads out of the array.

    Source: darts-clone (Yata), as read by darts_clone_trie_wrapper.h in tensorflow/text.
    """
    root: dict = {}
    for key, value in values.items():
        node = root
        for byte in key[:-1]:
            node = node.setdefault(byte, {})
        node[key[-1]] = value
    array = _DoubleArray()
    # The root stands at 0, and no label is 0: its children may stand right behind it.
    array.fill(0, _frozen(root))
    return array.units()


def _frozen(node: dict) -> _Node:
    return tuple(
        (label, child if isinstance(child, int) else _frozen(child))
        for label, child in sorted(node.items())
    )


class _DoubleArray:
    """The units placed so far, and where the children of each kind of node are."""

    def __init__(self):
        self._units = [0] * 256
        self._bases: dict[int | _Node, int] = {}
        self._free: list[int] = []

    def fill(self, base: int, node: _Node) -> None:
        """Write the children of a node, at `base ^ label` each."""
        for label, child in node:
            position = base ^ label
            flag = _HAS_VALUE if isinstance(child, int) else 0
            self._units[position] = label | flag | (position ^ self._base(child)) << _OFFSET_BIT

    def units(self) -> np.ndarray:
        return np.array(self._units + [0] * (-len(self._units) % 256), np.uint32)

    def _base(self, child: int | _Node) -> int:
        """Where a value stands, or what the children of an inner node are counted from."""
        if child not in self._bases:
            if isinstance(child, int):
                self._free = self._free or self._block()
                self._bases[child] = position = self._free.pop(0)
                self._units[position] = _IS_VALUE | child
            else:
                self._bases[child] = base = self._block()[0] ^ _FIRST_CONTINUATION
                self.fill(base, child)
        return self._bases[child]

    def _block(self) -> list[int]:
        start = len(self._units)
        self._units += [0] * _BLOCK
        return list(range(start, start + _BLOCK))
