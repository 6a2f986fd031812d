"""Sorting on disk gives what sorting in memory gives, with less of it."""

import numpy as np
import pytest

from tfmodel.data.parts.buckets import Buckets

RECORD = np.dtype([("key", "<u8"), ("value", "<i4")])


def records(keys):
    made = np.empty(len(keys), RECORD)
    made["key"], made["value"] = keys, np.arange(len(keys))
    return made


def random_keys():
    return np.random.default_rng(0).integers(0, 2**64, 5_000, np.uint64)


@pytest.mark.parametrize(
    "keys",
    [
        random_keys(),
        random_keys() % np.uint64(7),  # few keys, all in the lowest bits
        np.full(3_000, 2**63 + 5, np.uint64),  # one key
        np.arange(4_000, dtype=np.uint64)[::-1],
        random_keys()[:3],
        np.empty(0, np.uint64),
    ],
    ids=["random", "few", "one", "falling", "three", "none"],
)
@pytest.mark.parametrize("memory_bytes", [1_200, 10_000_000])
def test_sorted_by_key_then_by_arrival(tmp_path, keys, memory_bytes):
    made = records(keys)
    buckets = Buckets(tmp_path / "files", RECORD, memory_bytes=memory_bytes)
    for start in range(0, len(made), 90):
        buckets.add(made[start : start + 90])
    for _ in range(2):  # it can be walked again
        chunks = list(buckets)
        found = np.concatenate([*chunks, np.empty(0, RECORD)])
        assert (found == made[np.argsort(keys, kind="stable")]).all()
        assert all(chunk.nbytes <= max(memory_bytes, 1_200) for chunk in chunks)
    buckets.close()
    assert not (tmp_path / "files").exists()


def test_records_of_one_key_stand_in_one_chunk_where_they_fit(tmp_path):
    keys = np.repeat(random_keys()[:400], 10)
    buckets = Buckets(tmp_path / "files", RECORD, memory_bytes=2_400)
    buckets.add(records(keys))
    chunks = list(buckets)
    assert len(chunks) > 20
    assert sum(len(np.unique(chunk["key"])) for chunk in chunks) == 400


def test_what_a_killed_process_left_is_not_counted_again(tmp_path):
    made = records(random_keys())
    killed = Buckets(tmp_path / "files", RECORD, memory_bytes=1_200)
    killed.add(made)
    next(iter(killed))
    buckets = Buckets(tmp_path / "files", RECORD, memory_bytes=1_200)
    buckets.add(made)
    assert sum(len(chunk) for chunk in buckets) == len(made)
