"""Figures of a split: exact where they say so, and whole whatever the values."""

from hypothesis import given
from hypothesis import strategies as st

from tfmodel.data.figures import SplitFigures
from tfmodel.data.rows import Row

FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def _figures(rows):
    figures = SplitFigures()
    for text, text_pair, label in rows:
        figures.add(Row(text, text_pair, label, "a.csv:1"))
    return figures.summary()


def test_a_share_of_the_texts_does_not_exceed_its_length():
    found = _figures([("x" * length, None, "a") for length in range(1, 101)])
    assert found == {
        "characters": {
            "text": {
                "shortest": 1,
                "longest": 100,
                "shares": {"0.05": 5, "0.25": 25, "0.5": 50, "0.75": 75, "0.95": 95, "0.99": 99},
            }
        }
    }


def test_pairs_have_lengths_of_their_own():
    found = _figures([("ab", "abcde", "a"), ("abc", "", "b")])
    assert found["characters"]["text"]["longest"] == 3
    assert found["characters"]["text_pair"]["longest"] == 5
    assert found["characters"]["text_pair"]["shortest"] == 0


def test_empty_lists_are_rows_without_a_label():
    assert _figures([("a", None, []), ("b", None, ["joy"]), ("c", None, [])])["unlabelled"] == 2
    assert "unlabelled" not in _figures([("a", None, ["joy"])])


def test_few_distinct_numbers_have_a_bin_each():
    found = _figures([("a", None, float(stars)) for stars in (1, 5, 5, 3)])["numbers"]
    assert found["bins"] == [[1, 1, 1], [3, 3, 1], [5, 5, 2]]
    assert (found["least"], found["mean"], found["most"]) == (1, 3.5, 5)


def test_many_distinct_numbers_share_equal_bins():
    found = _figures([("a", None, number / 100) for number in range(1000)])["numbers"]
    assert len(found["bins"]) == 10
    assert {rows for _, _, rows in found["bins"]} <= set(range(98, 103))
    assert (found["bins"][0][0], found["bins"][-1][1]) == (0, 9.99)


@given(st.lists(FLOATS, min_size=1, max_size=80))
def test_every_number_stands_in_a_bin(numbers):
    bins = _figures([("a", None, number) for number in numbers])["numbers"]["bins"]
    assert sum(rows for _, _, rows in bins) == len(numbers)
    assert all(least <= up_to for least, up_to, _ in bins)
