"""Numbers as a reader wants them."""

import pytest

from tfmodel.report import wording


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (wording.percent, 0.9741, "97.4%"),
        (wording.percent, 1.0, "100%"),
        (wording.percent, 0.99999, ">99.9%"),
        (wording.percent, 0.00001, "<0.1%"),
        (wording.percent, 0.0, "0%"),
        (wording.percent, None, "–"),
        (wording.duration, 0.04, "0.0 s"),
        (wording.duration, 9.96, "10 s"),
        (wording.duration, 59.7, "1 min 0 s"),
        (wording.duration, 192, "3 min 12 s"),
        (wording.duration, 3661, "1 h 1 min"),
        (wording.duration, None, "–"),
        (wording.size, 512, "512 bytes"),
        (wording.size, 23_211_987, "23.2 MB"),
        (wording.size, 999_960, "1.0 MB"),
        (wording.size, 3.2e9, "3.2 GB"),
        (wording.size, None, "–"),
        (wording.milliseconds, 0.0213, "0.021 ms"),
        (wording.milliseconds, 0.996, "1.0 ms"),
        (wording.milliseconds, 1.25, "1.2 ms"),
        (wording.milliseconds, 9.97, "10 ms"),
        (wording.milliseconds, 1234.5, "1,234 ms"),
        (wording.milliseconds, None, "–"),
        (wording.tiny, 1.19e-7, "1.2e-7"),
        (wording.tiny, 0.0412, "0.041"),
        (wording.tiny, 0.0, "0"),
        (wording.tiny, float("nan"), "nan"),
        (wording.tiny, None, "–"),
        (wording.rate, 7.42, "7.4"),
        (wording.rate, 6951.2, "6,951"),
        (wording.listed, ["a"], "a"),
        (wording.listed, ["a", "b", "c"], "a, b and c"),
        (wording.name, "x" * 100, "“" + "x" * 59 + "…”"),
    ],
)
def test_wording(write, value, text):
    assert write(value) == text


def test_plural():
    assert wording.plural(1, "row") == "1 row"
    assert wording.plural(2225, "row") == "2,225 rows"
    assert wording.plural(2, "class", "classes") == "2 classes"
