"""Where sentences and words begin, in English and Chinese."""

import sys

import needs
import pytest

from tfmodel.config import ConfigError
from tfmodel.tokens.segmentation import sentence_starts, word_starts


def sentences(text):
    starts = [*sentence_starts(text).tolist(), len(text)]
    return [text[a:b].strip() for a, b in zip(starts, starts[1:], strict=False)]


@pytest.mark.parametrize(
    "expected",
    [
        ["The cat sat.", "It slept!", "Did it dream?", "Nobody knows."],
        ["Dr. Ng met Mrs. O'Hara at St. James St. on Jan. 5.", "They left."],
        ["It was J. K. Rowling, i.e. the author, vs. Tolkien et al. in the U.S. Army.", "Yes."],
        ["It cost 3.50 dollars at 5 p.m. on Monday.", "2019 was better."],
        ['"Go!" she said.', '"No."', "(He stayed.)", "Why?"],
        ["He asked what? and left.", "The end"],
        ["A title", "A paragraph that follows it.", "Another."],
        ["Wait... what?!", "Fine."],
    ],
)
def test_english_sentences(expected):
    text = " ".join(expected).replace("A title ", "A title\n")
    assert sentences(text) == expected


def test_chinese_sentences():
    expected = ["他说：“你好！”", "我们走吧。", "为什么？", "他沉默了……", "（后来他来了。）", "完"]
    assert sentences("".join(expected)) == expected
    assert sentences("圆周率是3.14。English too. 对！") == [
        "圆周率是3.14。",
        "English too.",
        "对！",
    ]


def test_text_without_an_end_is_one_sentence():
    assert sentences("no end here") == ["no end here"]
    assert sentence_starts("").tolist() == []
    assert sentence_starts("Only one. ").tolist() == [0]


def test_sentences_take_time_in_proportion_to_the_text():
    # Points without space, and space without end: what makes a careless pattern slow.
    for text in ("." * 200_000, " " * 200_000, "a." * 100_000, "\n" * 200_000, '"' * 200_000):
        assert len(sentence_starts(text)) <= 1


def test_chinese_words():
    needs.package("rjieba")
    text = "我们在北京大学学习，hello 世界"
    starts = [*word_starts(text).tolist(), len(text)]
    words = [text[a:b] for a, b in zip(starts, starts[1:], strict=False)]
    assert "".join(words) == text
    assert {"我们", "北京大学", "学习", "hello", "世界"} <= {*words}
    assert word_starts("").tolist() == []


def test_missing_segmenter_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rjieba", None)
    with pytest.raises(ConfigError, match=r"extra `chinese`.*pip install 'tfmodel\[chinese\]'"):
        word_starts("我们")
