"""Spans: after cleaning each marks the same words, or is said to be gone."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from messy_texts import messy_texts

from tfmodel.data.cleaning import chosen_steps, clean, clean_and_tell, clean_with_spans
from tfmodel.data.cleaning.settings import CleaningSettings
from tfmodel.data.cleaning.steps import STEPS

ALL_STEPS = list(STEPS)
DEFAULT = chosen_steps(CleaningSettings())


def marked(text):
    """Take the brackets out of a text; their places are the spans."""
    spans, plain = [], ""
    for character in text:
        if character == "[":
            spans.append([len(plain), len(plain)])
        elif character == "]":
            spans[-1][1] = len(plain)
        else:
            plain += character
    return plain, [tuple(span) for span in spans]


@pytest.mark.parametrize(
    "raw, cleaned, steps",
    [
        ("no change for [Ann] in [Bath]", "no change for [Ann] in [Bath]", DEFAULT),
        ("  two   [New\n York]  ends", "two [New York] ends", DEFAULT),
        ("in[ Bath ]now", "in [Bath] now", DEFAULT),
        ("\ufeff[A\u200bnn]\u200b and\u00ad [\x00Bob\x07]", "[Ann] and [Bob]", DEFAULT),
        ("cafe\u0301 in [Orle\u0301ans] e\u0301te\u0301", "café in [Orléans] été", DEFAULT),
        ("[\u1112\u1161\u11ab\u1100\u116e\u11a8] wins", "[한국] wins", DEFAULT),
        ("A &amp; B at [Smith &amp; Sons] &gt; [C]", "A & B at [Smith & Sons] > [C]", ALL_STEPS),
        ("<p>Dr. <b>[Ann]</b> [Lee]</p><p>[x]", "Dr. [Ann] [Lee] [x]", ALL_STEPS),
        ("<p>[<i>Ann</i> Lee]", "[Ann Lee]", ALL_STEPS),
        ("cafÃ© [JosÃ©] in [MÃ¼nchen]\n[Ã‰va]", "café [José] in [München] [Éva]", ALL_STEPS),
        ("[ｶﾞ] [Ａ]nna [ﬁ]ve", "[ガ] [A]nna [fi]ve", ALL_STEPS),
    ],
)
def test_spans_move_with_their_words(raw, cleaned, steps):
    text, spans = marked(raw)
    expected, places = marked(cleaned)
    assert clean_with_spans(text, spans, steps)[:2] == (expected, places)


@pytest.mark.parametrize(
    "raw, steps",
    [
        ("a[  ]b", DEFAULT),  # nothing is left
        ("a[\u200b]b", DEFAULT),
        ("[e]\u0301", DEFAULT),  # half a character
        ("[&am]p;", ALL_STEPS),  # half an entity
        ("<scr[ipt>x]</script>", ALL_STEPS),
        ("a[]b", DEFAULT),
    ],
)
def test_spans_that_do_not_survive(raw, steps):
    text, spans = marked(raw)
    assert clean_with_spans(text, spans, steps)[1] == [None]


def test_spans_outside_the_text_are_none():
    assert clean_with_spans("abc", [(-1, 2), (2, 4), (2, 1), (0, 3)], DEFAULT)[1] == [
        None,
        None,
        None,
        (0, 3),
    ]


@given(st.data(), messy_texts, st.sets(st.sampled_from(ALL_STEPS)))
def test_each_span_holds_what_its_own_text_becomes(data, text, chosen):
    steps = [name for name in ALL_STEPS if name in chosen]
    place = st.integers(0, len(text))
    spans = data.draw(st.lists(st.tuples(place, place), max_size=5))
    cleaned, places, changed = clean_with_spans(text, spans, steps)
    assert (cleaned, changed) == clean_and_tell(text, steps)
    for (start, end), moved in zip(spans, places, strict=True):
        if moved is not None:
            assert cleaned[slice(*moved)] == clean(text[start:end], steps) != ""


words = st.text(alphabet="abcé中", min_size=1, max_size=6)
between = st.sampled_from([" ", "  ", "\n", " \u200b", "&nbsp;", "<p>", ", ", "\u00a0", " &amp; "])


@given(st.lists(st.tuples(words, between), min_size=1, max_size=20))
def test_no_word_between_dirt_is_lost(pieces):
    text, spans = "", []
    for word, dirt in pieces:
        spans.append((len(text), len(text) + len(word)))
        text += word + dirt
    cleaned, places, _ = clean_with_spans(text, spans, ALL_STEPS)
    assert [cleaned[slice(*place)] for place in places] == [word for word, _ in pieces]


@pytest.mark.parametrize("unit", ["<b>Ann</b> &amp;  ", "e\u0301 ", "Ã© x\n", "a\u200bb"])
def test_time_grows_with_the_length_alone(unit):
    text = unit * (100_000 // len(unit))
    spans = [(start, start + len(unit)) for start in range(0, len(text), len(unit))]
    started = time.process_time()
    places = clean_with_spans(text, spans, ALL_STEPS)[1]
    assert time.process_time() - started < 10  # quadratic: minutes
    assert None not in places
