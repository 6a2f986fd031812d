"""Lines that several documents have: against a plain count in memory."""

import collections
import random

import numpy as np
import pytest

from tfmodel.data.corpus.lines import (
    LINES_FILE,
    digest_of_line,
    digests_of_lines,
    judge_lines,
    without_lines,
)
from tfmodel.data.corpus.settings import LineSettings
from tfmodel.data.parts.fates import ids_of


class MadeParts:
    """Parts of documents, some of which are dropped already."""

    def __init__(self, folder, parts):
        self.folder, self.texts = folder, parts
        for number, texts in enumerate(parts):
            self.path(number).mkdir()
            lines = [digests_of_lines(text, place) for place, text in enumerate(texts)]
            np.save(self.path(number) / LINES_FILE, np.concatenate(lines))

    def path(self, number):
        return self.folder / f"part-{number:06d}"

    def numbers(self):
        return range(len(self.texts))

    def index(self, number):
        return self.texts[number]


class MadeFates:
    def __init__(self, gone):
        self.gone = gone

    def kept(self, number, rows):
        return np.array([(number, place) not in self.gone for place in range(rows)])

    def of_part(self, number, rows):
        reasons = (~self.kept(number, rows)).astype(np.uint8)
        return reasons, None, np.zeros(rows, np.uint64)


def judged(tmp_path, parts, gone=(), *, monkeypatch, **settings):
    monkeypatch.setattr("tfmodel.data.corpus.lines._with_top", lambda top, *_: top)
    made = MadeParts(tmp_path, parts)
    verdicts, _ = judge_lines(made, MadeFates(set(gone)), tmp_path / "w", LineSettings(**settings))
    found = {}
    for number, verdict in verdicts:
        for place, text in enumerate(parts[number]):
            found[number, place] = without_lines(text, verdict.of_document(place))[0]
    return found


@pytest.mark.parametrize("memory", [2**26, 2_000])
def test_as_a_plain_count_says(tmp_path, monkeypatch, memory):
    buckets = "tfmodel.data.corpus.lines.Buckets"
    real = __import__("tfmodel.data.parts.buckets", fromlist=["Buckets"]).Buckets
    monkeypatch.setattr(buckets, lambda *given: real(*given, memory_bytes=memory))
    generator = random.Random(1)
    lines = [f"line {number} " + "x" * generator.randrange(60) for number in range(90)]
    # The first lines are more frequent; a document may have a line twice.
    parts = [
        [
            "\n".join(lines[int(90 * generator.random() ** 2)] for _ in range(6))
            for _ in range(generator.randrange(1, 30))
        ]
        for _ in range(6)
    ]
    gone = [(0, 0), (3, 0)]
    found = judged(tmp_path, parts, gone, monkeypatch=monkeypatch, shared=12, repeated=30)
    documents = collections.defaultdict(list)
    for number, texts in enumerate(parts):
        for place, text in enumerate(texts):
            if (number, place) not in gone:
                for line in dict.fromkeys(text.split("\n")):
                    documents[line].append((number, place))
    for (number, place), text in found.items():
        if (number, place) in gone:
            continue
        expected = [
            line
            for line in parts[number][place].split("\n")
            if len(documents[line]) < 12
            and (len(line) < 30 or documents[line][0] == (number, place))
        ]
        assert text == "\n".join(expected)
    assert any(len(each) >= 12 for each in documents.values())


def test_switched_off_all_lines_stay(tmp_path, monkeypatch):
    parts = [["same line of text\nb"] * 5]
    found = judged(tmp_path, parts, monkeypatch=monkeypatch, shared=None, repeated=None)
    assert set(found.values()) == {"same line of text\nb"}


def test_lines_are_compared_without_case_and_punctuation():
    assert digest_of_line("Read more »") == digest_of_line("read  MORE")
    assert digest_of_line("In 1990.") != digest_of_line("In 1991.")
    assert digest_of_line("***") != digest_of_line("---")


def test_what_went_is_counted():
    text, removed = without_lines("a\nbb\nccc\nbb", {1: "shared", 3: "repeated"})
    assert text == "a\nccc"
    assert removed == {"shared": 1, "shared characters": 2, "repeated": 1, "repeated characters": 2}


def test_ids_are_those_of_parts():
    assert ids_of(2, 1)[0] == 40_000
