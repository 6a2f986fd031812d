"""Which rows are computed together, and that each request gets its own answers, whatever happens.

Run: pytest tests/serve/test_batching.py
"""

import threading
import time

import numpy as np
import pytest

from tfmodel.serve.batching import Batcher
from tfmodel.serve.errors import ServingError


class Doubler:
    """Doubles numbers, remembers its batches, and waits for a sign before the first one."""

    def __init__(self):
        self.batches = []
        self.go = threading.Event()
        self.began = threading.Event()

    def __call__(self, signature, inputs):
        self.began.set()
        assert self.go.wait(10)
        values = inputs["x"]
        self.batches.append(values.tolist())
        if 13 in values:
            raise ServingError("INVALID_ARGUMENT", "thirteen")
        return {"y": values * 2}


@pytest.fixture
def doubler():
    return Doubler()


@pytest.fixture
def batcher(doubler):
    batcher = Batcher(doubler, batch_rows=4, queue_rows=20)
    yield batcher
    doubler.go.set()
    batcher.close()


def submit(batcher, *values, lengths=None, together="x", **options):
    column = np.array(values)
    lengths = column if lengths is None else np.array(lengths)
    return batcher.submit(
        "any", {"x": column}, rows=len(column), lengths=lengths, together=together, **options
    )


def occupy(batcher, doubler):
    """Something to compute, so that what comes after it waits."""
    future = submit(batcher, 1)
    assert doubler.began.wait(10)
    return future


def outcome(future):
    return future.result(10)["y"].tolist()


def test_what_waits_is_computed_together(batcher, doubler):
    first = occupy(batcher, doubler)
    others = [submit(batcher, 2, 3), submit(batcher, 4)]
    doubler.go.set()
    assert outcome(first) == [2]
    assert [outcome(each) for each in others] == [[4, 6], [8]]
    assert doubler.batches == [[1], [2, 3, 4]]


def test_rows_of_like_length_go_together_and_the_oldest_first(batcher, doubler):
    occupy(batcher, doubler)
    futures = {value: submit(batcher, value) for value in (50, 2, 3, 51, 52, 4, 53)}
    doubler.go.set()
    for value, future in futures.items():
        assert outcome(future) == [2 * value]
    assert [sorted(batch) for batch in doubler.batches[1:]] == [[50, 51, 52, 53], [2, 3, 4]]


def test_a_large_request_is_cut_by_length_and_answered_in_its_order(batcher, doubler):
    doubler.go.set()
    values = [9, 1, 8, 2, 7, 3, 6, 4, 5]
    assert outcome(submit(batcher, *values)) == [2 * value for value in values]
    assert [sorted(batch) for batch in doubler.batches] == [[1, 2, 3, 4], [5, 6, 7, 8], [9]]


def test_what_differs_is_not_put_together(batcher, doubler):
    occupy(batcher, doubler)
    futures = [submit(batcher, 2), submit(batcher, 3, together="z"), submit(batcher, 4)]
    alone = [submit(batcher, 5, together=None), submit(batcher, 6, together=None)]
    doubler.go.set()
    assert [outcome(each) for each in [*futures, *alone]] == [[4], [6], [8], [10], [12]]
    assert doubler.batches == [[1], [2, 4], [3], [5], [6]]


def test_a_request_that_fails_fails_alone(batcher, doubler):
    occupy(batcher, doubler)
    good, bad, better = submit(batcher, 2), submit(batcher, 13), submit(batcher, 3)
    doubler.go.set()
    assert (outcome(good), outcome(better)) == ([4], [6])
    with pytest.raises(ServingError, match="thirteen"):
        outcome(bad)


def test_a_full_queue_takes_no_more(batcher, doubler):
    occupy(batcher, doubler)
    waiting = [submit(batcher, *range(10)) for _ in range(2)]
    with pytest.raises(ServingError, match="queue .* is full") as refused:
        submit(batcher, 1)
    assert (refused.value.code, refused.value.http_status) == ("UNAVAILABLE", 503)
    assert refused.value.passes and batcher.waiting_rows == 20
    doubler.go.set()
    assert [outcome(each) for each in waiting] == [[2 * value for value in range(10)]] * 2
    assert batcher.waiting_rows == 0


def test_a_request_larger_than_the_queue_is_taken_alone(batcher, doubler):
    doubler.go.set()
    assert outcome(submit(batcher, *range(20, 45))) == [*range(40, 90, 2)]


def test_what_nobody_waits_for_is_not_computed(batcher, doubler):
    occupy(batcher, doubler)
    late = submit(batcher, 2, deadline=time.monotonic())
    left, wanted = submit(batcher, 3), submit(batcher, 4)
    assert left.cancel()
    doubler.go.set()
    assert outcome(wanted) == [8]
    with pytest.raises(ServingError) as refused:
        outcome(late)
    assert refused.value.code == "DEADLINE_EXCEEDED"
    assert doubler.batches == [[1], [4]] and batcher.waiting_rows == 0


def test_closing_answers_what_waits_and_takes_no_more(batcher, doubler):
    occupy(batcher, doubler)
    waiting = [submit(batcher, value) for value in range(9)]
    closing = threading.Thread(target=batcher.close)
    closing.start()
    doubler.go.set()
    closing.join(10)
    assert [outcome(each) for each in waiting] == [[2 * value] for value in range(9)]
    with pytest.raises(ServingError) as refused:
        submit(batcher, 1)
    assert refused.value.code == "UNAVAILABLE"


def test_a_batch_waits_to_be_full_where_it_is_told_to(doubler):
    doubler.go.set()
    batcher = Batcher(doubler, batch_rows=3, wait_seconds=30)
    futures = [submit(batcher, value) for value in (1, 2, 3)]
    assert [outcome(each) for each in futures] == [[2], [4], [6]]
    assert [sorted(batch) for batch in doubler.batches] == [[1, 2, 3]]
    short = Batcher(doubler, batch_rows=3, wait_seconds=0.01)
    assert outcome(submit(short, 7)) == [14]
    batcher.close()
    short.close()


def test_rows_that_the_model_forgets_are_an_error():
    batcher = Batcher(lambda *_: {"y": np.zeros(1)}, batch_rows=4)
    with pytest.raises(ServingError, match="every row") as refused:
        outcome(submit(batcher, 1, 2))
    assert refused.value.code == "INTERNAL"
    batcher.close()


def test_many_threads_get_their_own_answers():
    notes = []
    batcher = Batcher(
        lambda _, inputs: {"y": inputs["x"] * 2},
        batch_rows=8,
        threads=3,
        note=lambda rows, seconds, waited: notes.append((rows, len(waited))),
    )
    wrong = []

    def client(seed):
        generator = np.random.default_rng(seed)
        for _ in range(100):
            values = generator.integers(0, 1000, generator.integers(1, 20))
            if outcome(submit(batcher, *values)) != (values * 2).tolist():
                wrong.append(values)

    clients = [threading.Thread(target=client, args=(seed,)) for seed in range(8)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    batcher.close()
    assert not wrong
    assert max(rows for rows, _ in notes) <= 8
    assert sum(pieces for _, pieces in notes) >= 800
