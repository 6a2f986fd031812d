"""Ranks: by what chance, or in what order, a row goes to a split. The same on every machine."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import struct

from tfmodel.data.rows import Row
from tfmodel.data.settings import DataSettings


def text_digest(row: Row, *, salt: str = "") -> bytes:
    """Digest a row's text and pair, 16 bytes, the same on every machine; labels do not count."""
    pair = "" if row.text_pair is None else row.text_pair
    content = f"{len(row.text)}:{row.text}{pair}"
    return hashlib.blake2b(content.encode(), digest_size=16, key=salt.encode()[:64]).digest()


def label_hash(row: Row) -> int:
    """Hash a row's label: equal labels, equal numbers of 64 bits."""
    label = json.dumps(row.label, ensure_ascii=False, sort_keys=True)
    return int.from_bytes(hashlib.blake2b(label.encode(), digest_size=8).digest(), "big")


def split_rank(row: Row, settings: DataSettings, *, role: str, seed: int) -> int:
    """Place a row in the order by which splits are cut: chance, or time. Unsigned, 64 bits."""
    if settings.split == "time":
        return 0 if role != "train" else time_rank(row.group or "")
    group = (row.group or "").strip()
    if group:  # rows of a group go to one split, pieces of a document too
        content = f"group:{group}".encode()
        return int.from_bytes(
            hashlib.blake2b(content, digest_size=8, key=f"{seed}:split".encode()).digest(), "big"
        )
    return int.from_bytes(text_digest(row, salt=f"{seed}:split")[:8], "big")


def time_rank(written: str) -> int:
    """Turn a moment into a rank: a number, or a date and time as ISO 8601 writes it.

    Returns:
        Unsigned 64 bits in the order of the moments; a time without a zone is taken as UTC.

    Raises:
        ValueError: it is neither.
    """
    written = written.strip()
    try:
        moment = float(written)
    except ValueError:
        # Python 3.10 reads no Z.
        parsed = datetime.datetime.fromisoformat(written.replace("Z", "+00:00"))
        if parsed.tzinfo is None:
            parsed = parsed.replace(tzinfo=datetime.timezone.utc)
        moment = parsed.timestamp()
    if not math.isfinite(moment):
        raise ValueError(f"{written} is no moment")
    (bits,) = struct.unpack("<Q", struct.pack("<d", moment + 0.0))
    # Floating point numbers are in the order of their bits, but for the sign.
    return bits ^ (2**64 - 1) if bits >> 63 else bits | 2**63


def sample_rank(row: Row, *, seed: int) -> int:
    """Place a row in the order by which `max_rows` draws. Unsigned, 64 bits."""
    return int.from_bytes(text_digest(row, salt=f"{seed}:sample")[:8], "big")
