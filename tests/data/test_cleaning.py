"""Cleaning: what each step does, and that twice changes nothing more."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tfmodel.data import CleaningSettings
from tfmodel.data.cleaning import STEPS, chosen_steps, clean, clean_and_tell

ALL_STEPS = list(STEPS)


@pytest.mark.parametrize(
    "raw, cleaned",
    [
        ("  a \t b\r\nc  ", "a b c"),
        ("a\u00a0b\u3000c\u2028d\x85e", "a b c d e"),
        ("\ufeffzero\u200bwidth\u00ad", "zerowidth"),
        ("bell\x07 null\x00 delete\x7f", "bell null delete"),
        ("e\u0301", "é"),
        ("e\u200d\u0301", "é"),  # the joiner goes first, then the two compose
        ("Tom &amp; Jerry", "Tom &amp; Jerry"),
        ("\ud800 lone", "lone"),
        ("", ""),
    ],
)
def test_default_steps(raw, cleaned):
    assert clean(raw) == cleaned


def test_html_is_off_by_default_and_undoes_double_escapes():
    assert "html_entities" not in chosen_steps(CleaningSettings())
    steps = chosen_steps(CleaningSettings(html_entities=True))
    assert clean("&amp;lt;b&gt; &amp;nbsp; R&#233;sum&eacute;", steps) == "<b> Résumé"


def test_every_step_can_be_switched_off():
    off = CleaningSettings(
        control_characters=False, html_entities=False, unicode=False, whitespace=False
    )
    raw = "  a\u200b&amp;e\u0301 \n"
    assert clean(raw, chosen_steps(off)) == raw


def test_tells_which_steps_changed_the_text():
    assert clean_and_tell("a\u200b  b", ALL_STEPS)[1] == ("control_characters", "whitespace")
    assert clean_and_tell("plain", ALL_STEPS) == ("plain", ())


nasty = st.text(
    alphabet=st.one_of(
        st.characters(),
        st.sampled_from(list("&;#x0aglt ampAMPnbsp\t\n\x85\u200b\u200d\u0301\u037e\ufeff")),
    )
)


@given(nasty, st.sets(st.sampled_from(ALL_STEPS)))
@example("&\u200bamp;", set(ALL_STEPS))
@example("&amp\u037e", set(ALL_STEPS))  # NFC turns the Greek question mark into a semicolon
@example("&amp;#8203;", set(ALL_STEPS))
def test_cleaning_twice_is_cleaning_once(text, chosen):
    steps = [name for name in ALL_STEPS if name in chosen]
    once = clean(text, steps)
    assert clean_and_tell(once, steps) == (once, ())
