"""The array is read here as the operation reads it: bit by bit, label by label."""

import pytest

from tfmodel.tokens.double_array import build_double_array


def look_up(units, key: bytes) -> int | None:
    position = 0
    for byte in key:
        position ^= int(units[position]) >> 10 ^ byte
        if int(units[position]) & 0x800000FF != byte:
            return None
    unit = int(units[position])
    if not unit & 0x100:
        return None
    return int(units[position ^ unit >> 10]) & 0x7FFFFFFF


@pytest.mark.parametrize("step", [1, 7, 1001])
def test_every_key_has_its_value_and_nothing_else_has_one(step):
    values = {chr(c).encode(): c % 50 for c in range(1, 0x3000, step)}
    values |= {chr(c).encode(): 2**31 - 1 - c % 3 for c in range(0x10000, 0x10FFFF, 37 * step)}
    units = build_double_array(values)
    assert len(units) % 256 == 0
    for code in [*range(1, 0xD800, 5), *range(0x10000, 0x10FFFF, 97), *map(ord, "\x01\u2fff")]:
        key = chr(code).encode()
        assert look_up(units, key) == values.get(key)
    assert all(look_up(units, key) == value for key, value in values.items())
    assert look_up(units, "é".encode()[:1]) is None


def test_equal_branches_are_stored_once():
    values = {chr(c).encode(): 7 for c in range(0xF0000, 0x10FFFE)}
    assert len(build_double_array(values)) < 1024
