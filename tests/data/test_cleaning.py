"""Cleaning: what each step does, and that twice changes nothing more."""

import html.entities
import sys
import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from messy_texts import messy_texts

from tfmodel.data import CleaningSettings
from tfmodel.data.cleaning import chosen_steps, clean, clean_and_tell
from tfmodel.data.cleaning.steps import INVISIBLE, STEPS
from tfmodel.tokens.tokenizer import Tokenizer
from tfmodel.tokens.vocabulary import Vocabulary

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


@pytest.mark.parametrize(
    "raw, cleaned",
    [
        ("cafÃ©", "café"),
        ("naÃ¯ve â€œquotesâ€\x9d", "naïve “quotes”"),
        ("ä¸\xadæ–‡", "中文"),
        ("first Ã©tÃ©\nsecond, rightly é", "first été\nsecond, rightly é"),
        ("It’s “fine” – ﬁne, Ａ²", "It’s “fine” – ﬁne, Ａ²"),  # no mojibake: nothing straightened
        ("Ã", "Ã"),
    ],
)
def test_mojibake(raw, cleaned):
    assert clean(raw, ["mojibake"]) == cleaned


def test_mojibake_is_undone_before_its_bytes_are_removed_as_control_characters():
    steps = chosen_steps(CleaningSettings(mojibake=True))
    assert clean("It\u00e2\u0080\u0099s", steps) == "It’s"
    assert clean("ï»¿start", steps) == "start"  # a byte order mark read as Latin-1


def test_html_entities_are_off_by_default_and_double_escapes_undone():
    assert "html_entities" not in chosen_steps(CleaningSettings())
    steps = chosen_steps(CleaningSettings(html_entities=True))
    assert clean("&amp;lt;b&gt; &amp;nbsp; R&#233;sum&eacute;", steps) == "<b> Résumé"
    assert clean("AT&T &amp;amp;#38;amp;lt; &notit;", steps) == "AT&T < ¬it;"


def test_composed_characters_or_their_variants_too():
    raw = "e\u0301 ﬁ Ａ²"
    assert clean(raw, chosen_steps(CleaningSettings(unicode="NFC"))) == "é ﬁ Ａ²"
    assert clean(raw, chosen_steps(CleaningSettings(unicode="NFKC"))) == "é fi A2"
    assert chosen_steps(CleaningSettings(unicode=True)) == chosen_steps(CleaningSettings())
    assert not {"unicode", "unicode_nfkc"} & {*chosen_steps(CleaningSettings(unicode=False))}


def test_every_step_can_be_switched_off():
    off = CleaningSettings(control_characters=False, unicode=False, whitespace=False)
    raw = "  a\u200b&amp;e\u0301 <b>Ã©</b>\n"
    assert chosen_steps(off) == []
    assert clean(raw, chosen_steps(off)) == raw


def test_tells_which_steps_changed_the_text():
    assert clean_and_tell("a\u200b  b", ALL_STEPS)[1] == ("control_characters", "whitespace")
    assert clean_and_tell("plain", ALL_STEPS) == ("plain", ())


@given(messy_texts, st.sets(st.sampled_from(ALL_STEPS)))
@example("&\u200bamp;", set(ALL_STEPS))
@example("&amp\u037e", set(ALL_STEPS))  # NFC turns the Greek question mark into a semicolon
@example("&amp;#8203;", set(ALL_STEPS))
@example("<<b>b>", set(ALL_STEPS))
@example("\uff1cp\uff1e", set(ALL_STEPS))  # full-width brackets are a tag after NFKC
def test_cleaning_twice_is_cleaning_once(text, chosen):
    steps = [name for name in ALL_STEPS if name in chosen]
    once = clean(text, steps)
    assert clean_and_tell(once, steps) == (once, ())


def test_a_text_built_to_need_endless_rounds_stays_as_it_came():
    bomb = "<" * 1000 + "b>" * 1000
    steps = ["html", "whitespace"]
    assert clean_and_tell(bomb, steps) == (bomb, ())
    assert clean("<" * 10 + "b>" * 10 + " ends ", steps) == "ends"


@pytest.mark.parametrize(
    "unit",
    ["&amp;", "&" + "amp;" * 9, "<b ", "<a '", '<a "', "<!--", "-->", "<script>", "<p>", "<"]
    + ["e\u0301", "Ã©", "\u200b", " \t", "&#38;#38;", "\u0301", '<a x="\'" ', "<<b>b>"],
)
def test_time_grows_with_the_length_alone(unit):
    started = time.process_time()
    clean(unit * (100_000 // len(unit)), ALL_STEPS)
    assert time.process_time() - started < 5  # quadratic: minutes


def test_all_that_is_removed_is_not_printable():
    # Texts that are printable are not searched.
    removed = INVISIBLE.findall("".join(map(chr, range(sys.maxunicode + 1))))
    assert not any(map(str.isprintable, removed))


def test_an_entity_has_more_ascii_than_what_it_stands_for():
    # The step in the proof that cleaning ends (see `trace`) that rests on Unicode's tables.
    def weight(text):
        normal = unicodedata.normalize("NFKD", text)
        return sum(character.isascii() or character.isspace() for character in normal)

    # What has no decomposition weighs one at most, and no entity is shorter than three.
    for number in filter(lambda n: unicodedata.decomposition(chr(n)), range(sys.maxunicode + 1)):
        assert weight(chr(number)) < min(len(f"&#{number}"), len(f"&#x{number:x}")), hex(number)
    for name, characters in html.entities.html5.items():
        assert weight(characters) < len(f"&{name}"), name


def test_the_default_steps_change_nothing_that_an_uncased_bert_sees():
    letters = list("abcdefghijklmnopqrstuvwxyz")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{x}" for x in letters)]
    tokenizer = Tokenizer(Vocabulary(pieces), lowercase=True)
    characters = [chr(n) for n in range(sys.maxunicode + 1) if not 0xD800 <= n < 0xE000]
    cleaned = [character for character in characters if clean(f"a{character}b")[1:-1] != character]
    raw = [text for character in cleaned for text in (f"a{character}b", f"a{character} \u0301b")]
    seen, seen_clean = tokenizer.tokenize(raw), tokenizer.tokenize([clean(text) for text in raw])
    pairs = zip(raw, seen.to_list(), seen_clean.to_list(), strict=True)
    # BERT joins the words that these three part.
    assert {text[1] for text, before, after in pairs if before != after} == {"\x0b", "\x0c", "\x85"}
