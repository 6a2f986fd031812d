"""A question beside each stretch of a long text, by hand and against BERT's loop."""

import numpy as np
import pytest

from tfmodel.tokens.question_windows import question_windows

CUT = {"max_length": 12, "doc_stride": 3, "max_query_length": 4}


def cut(tokenizer, questions, contexts, **changes):
    found = question_windows(tokenizer, questions, contexts, **{**CUT, **changes})
    return type(found)(*(each.numpy() for each in found))


def split(windows, values):
    return np.split(values, np.cumsum(windows.lengths)[:-1])


def test_a_short_context_is_one_window(tokenizer):
    windows = cut(tokenizer, ["the cat"], ["hello world ."])
    assert windows.token_ids.tolist() == [2, 5, 6, 3, 12, 13, 19, 3]
    assert windows.segment_ids.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert windows.starts.tolist() == [-1] * 4 + [0, 6, 12, -1]
    assert windows.ends.tolist() == [-1] * 4 + [5, 11, 13, -1]
    assert windows.rows.tolist() == [0] and windows.best[4:7].all()


def test_an_empty_question_and_an_empty_context_have_a_window_each(tokenizer):
    windows = cut(tokenizer, ["", "the cat"], ["cat", ""])
    assert [row.tolist() for row in split(windows, windows.token_ids)] == [
        [2, 3, 6, 3],
        [2, 5, 6, 3, 3],
    ]
    assert windows.rows.tolist() == [0, 1]
    assert split(windows, windows.starts)[1].tolist() == [-1] * 5
    assert split(windows, windows.segment_ids)[1].tolist() == [0, 0, 0, 0, 1]


def test_a_long_question_is_cut_and_its_length_is_told(tokenizer):
    windows = cut(tokenizer, ["the cat sat the cat sat", "cat"], ["hello", "hello"])
    assert windows.pieces.tolist() == [6, 1]
    assert split(windows, windows.token_ids)[0].tolist() == [2, 5, 6, 7, 5, 3, 12, 3]


def reference(total, room, stride):
    """BERT's run_squad.py: (start, length) of each window, and each token's best window."""
    spans, start = [], 0
    while start < total:
        length = min(total - start, room)
        spans.append((start, length))
        if start + length == total:
            break
        start += min(length, stride)
    best = []
    for token in range(total):
        scores = [
            min(token - s, s + n - 1 - token) + 0.01 * n if s <= token < s + n else -1
            for s, n in spans
        ]
        best.append(int(np.argmax(scores)))
    return spans, best


@pytest.mark.parametrize(("length", "stride"), [(1, 3), (7, 3), (8, 3), (23, 3), (23, 99), (40, 1)])
def test_windows_and_best_windows_are_those_of_bert(tokenizer, length, stride):
    context = " ".join(["cat", "sat", "hello"][i % 3] for i in range(length))
    windows = cut(tokenizer, ["the cat", "sat"], [context, context], doc_stride=stride)
    for row, room in ((0, 7), (1, 8)):
        spans, best = reference(length, room, stride)
        of_row = [i for i, each in enumerate(windows.rows) if each == row]
        assert len(of_row) == len(spans)
        seen = []
        for number, ((start, count), window) in enumerate(zip(spans, of_row, strict=True)):
            starts = split(windows, windows.starts)[window]
            inside = starts >= 0
            words = context.split()
            begin = [len(" ".join(words[:i])) + (i > 0) for i in range(start, start + count)]
            assert starts[inside].tolist() == begin
            wanted = [best[token] == number for token in range(start, start + count)]
            assert split(windows, windows.best)[window][inside].tolist() == wanted
            seen += wanted
        assert sum(seen) == length  # each token has one best window


def test_offsets_are_characters_of_the_context(tokenizer):
    context = "😀 café 你好！ the cat"
    windows = cut(tokenizer, ["cat"], [context], max_length=30)
    words = [
        context[start:end]
        for start, end in zip(windows.starts, windows.ends, strict=True)
        if start >= 0
    ]
    assert words == ["😀", "café", "你", "好", "！", "the", "cat"]
