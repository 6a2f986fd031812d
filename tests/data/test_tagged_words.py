"""Tags of words as spans: every scheme, tags out of turn, and how words make a text."""

import random

import needs
import pytest

from tfmodel.config import ConfigError
from tfmodel.data import DataSettings, prepare
from tfmodel.data.reading.places import Place
from tfmodel.data.reading.readers import open_source
from tfmodel.data.rows import BadLabel, Reject, Row
from tfmodel.data.targets import TARGETS
from tfmodel.data.targets.tagged_words import (
    as_spans,
    joined,
    parts_of_tag,
    spans_of_tags,
    tags_out_of_turn,
)


@pytest.mark.parametrize(
    "tags, spans, repaired",
    [
        ("O B-P I-P O", [(1, 3, "P")], 0),
        ("B-P B-P I-P B-L", [(0, 1, "P"), (1, 3, "P"), (3, 4, "L")], 0),
        ("S-P B-P E-P O S-L", [(0, 1, "P"), (1, 3, "P"), (4, 5, "L")], 0),
        ("U-P B-P M-P L-P", [(0, 1, "P"), (1, 4, "P")], 0),
        ("I-P I-P O I-L", [(0, 2, "P"), (3, 4, "L")], 2),  # IOB1 begins so
        ("I-P B-P I-P", [(0, 1, "P"), (1, 3, "P")], 1),
        ("B-P I-L I-L", [(0, 1, "P"), (1, 3, "L")], 1),
        ("E-P O B-P E-L", [(0, 1, "P"), (2, 3, "P"), (3, 4, "L")], 2),
        ("B_a-b I_a-b", [(0, 2, "a-b")], 0),
        ("NOUN NOUN O", [(0, 1, "NOUN"), (1, 2, "NOUN")], 0),
        ("O O", [], 0),
        ("", [], 0),
    ],
)
def test_every_scheme_is_read_as_spans(tags, spans, repaired):
    assert spans_of_tags(tags.split()) == spans
    assert tags_out_of_turn(tags.split()) == repaired


def test_spans_are_those_of_seqeval_whatever_the_order_of_the_tags():
    sequence = needs.package("seqeval.metrics.sequence_labeling")
    generator = random.Random(0)
    for tags in (["O", "B-P", "I-P", "B-L", "I-L"], ["O", "B-P", "I-P", "E-P", "S-P", "S-L"]):
        for _ in range(500):
            chosen = generator.choices(tags, k=generator.randrange(9))
            wanted = [(s, e + 1, label) for label, s, e in sequence.get_entities(chosen)]
            assert spans_of_tags(chosen) == wanted, chosen


def test_parts_of_a_tag():
    assert [*map(parts_of_tag, ["O", "B-x", "L_x", "I-", "X-y", "B"])] == [
        ("O", ""),
        ("B", "x"),
        ("E", "x"),
        ("S", "I-"),
        ("S", "X-y"),
        ("S", "B"),
    ]


def test_words_make_a_text_with_spaces_but_not_between_chinese_characters():
    assert joined(["New", "York", "."]) == ("New York .", [0, 4, 9])
    assert joined([*"北京大学", "MBA", "，", "第", "2", "名"])[0] == "北京大学 MBA ，第 2 名"
    text, spans = as_spans(["她", "在", "北", "京", "😀", "Zoë"], "O O B-LOC I-LOC O S-PER".split())
    assert [text[s["start"] : s["end"]] for s in spans] == ["北京", "Zoë"]


def rows_of(tmp_path, content, **settings):
    path = tmp_path / "a.conll"
    path.write_text(content, "utf-8")
    chosen = DataSettings(train=str(path), target="spans", **settings)
    source = open_source(Place(path), chosen, role="train")
    return [*source.rows], source.facts


def test_a_conll_file_is_read_as_texts_with_spans(tmp_path):
    content = "-DOCSTART- O\n\nEU B-ORG\nrejects O\nGerman I-MISC\n\t\nPeter\tB-PER\n\n\nBad one\n"
    rows, facts = rows_of(tmp_path, content + "".join(f"w{n} O\n\n" for n in range(20)))
    assert (rows[0].text, rows[0].origin) == ("EU rejects German", "a.conll:3")
    assert rows[0].label == [
        {"start": 0, "end": 2, "label": "ORG"},
        {"start": 11, "end": 17, "label": "MISC"},
    ]
    assert rows[1].label == [{"start": 0, "end": 5, "label": "PER"}]
    assert (facts["document_starts"], facts["tags_repaired"], facts["target"]) == (1, 1, "spans")


def test_a_sentence_whose_tags_do_not_fit_is_left_out(tmp_path):
    rows, _ = rows_of(tmp_path, "a O\nb\n\n" + "".join(f"w{n} O\n\n" for n in range(20)))
    assert isinstance(rows[0], Reject) and rows[0].reason == "wrong_field_count"


def parse(label, text="Zoë lives in Paris"):
    row = Row(text, None, label, "a:1")
    row.label = TARGETS["spans"].parse(row, DataSettings(train="a", target="spans"))
    return row


def test_words_and_tags_of_json_are_spans_too():
    row = parse(["B-PER", "O"], text=["Zoë", "lives"])
    assert (row.text, row.label) == ("Zoë lives", [{"start": 0, "end": 3, "label": "PER"}])
    assert parse(["S-PER", "O", "O", "U-LOC"]).label[1] == {"start": 13, "end": 18, "label": "LOC"}


@pytest.mark.parametrize(
    "label, text, reason",
    [
        (["O"], "two words", "bad_tags"),
        (["O", "O"], ["a", ""], "bad_tags"),
        (["B-", "O"], ["a", "b"], "bad_tags"),
        ([{"start": 0, "end": 2, "label": "x"}], ["a", "b"], "not_text"),
        ([[5, 40, "a"]], "some text", "bad_span"),
    ],
)
def test_labels_that_do_not_fit_have_a_reason(label, text, reason):
    with pytest.raises(BadLabel) as caught:
        parse(label, text)
    assert caught.value.reason == reason


def test_a_label_that_only_test_has_is_told(tmp_path):
    for name, label in (("train", "PER"), ("test", "ORG")):
        lines = [f"{name}{n} B-{label}\nsaid O\nit{n} O\n" for n in range(30)]
        (tmp_path / f"{name}.conll").write_text("\n".join(lines))
    settings = DataSettings(
        train=str(tmp_path / "train.conll"), test=str(tmp_path / "test.conll"), target="spans"
    )
    with pytest.raises(ConfigError, match=r"only labels that train has \(PER\).*ORG \(30 rows"):
        prepare(settings, tmp_path / "data", seed=0)
