"""The table, character by character; the operation must do with it what the table says."""

import pytest
import tensorflow as tf

from tfmodel.tokens.normalization import normalize_character

# name: character, lower-cased, kept
CHARACTERS = {
    "a letter": ("a", "a", "a"),
    "a capital": ("A", "a", "A"),
    "an accent": ("É", "e", "É"),
    "an accent alone": ("\u0301", "", "\u0301"),
    "two accents": ("ấ", "a", "ấ"),
    "sigma is sigma wherever it stands": ("Σ", "σ", "Σ"),
    "a capital with a dot, as in Turkish": ("İ", "i", "İ"),
    "a capital I in any country": ("I", "i", "I"),
    "a syllable of Korean": ("각", "\u1100\u1161\u11a8", "각"),
    "a tab": ("\t", " ", " "),
    "a line separator": ("\u2028", " ", " "),
    "an ideographic space": ("\u3000", " ", " "),
    "a zero byte": ("\0", "", ""),
    "a next-line control": ("\x85", "", ""),
    "a soft hyphen": ("\u00ad", "", ""),
    "a private character": ("\U0010fffd", "", ""),
    "the replacement character": ("\ufffd", "", ""),
    "full-width punctuation": ("！", "！", "！"),
    "an emoji": ("👩", "👩", "👩"),
    "a mark younger than their tables": ("\U0001e944", "\U0001e944", "\U0001e944"),
    "punctuation younger than their tables": ("\u2e43", "\ue000", "\ue000"),
}


@pytest.mark.parametrize("name", CHARACTERS)
def test_known_characters(name):
    character, lowered, kept = CHARACTERS[name]
    assert normalize_character(character, lowercase=True) == lowered
    assert normalize_character(character, lowercase=False) == kept


@pytest.mark.parametrize("lowercase", [True, False])
def test_the_operation_does_what_the_table_says(lowercase, tokenizer, cased):
    step = 5  # of all characters; every one in test_tokenizer_parity.py
    characters = [chr(c) for c in range(0, 0x110000, step) if not 0xD800 <= c < 0xE000]
    found = (tokenizer if lowercase else cased).normalize(tf.constant(characters)).numpy()
    expected = [normalize_character(each, lowercase=lowercase) for each in characters]
    assert [text.decode() for text in found] == expected
