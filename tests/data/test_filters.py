"""Which texts are left out: by length, script and language."""

import subprocess
import sys

import pytest
from needs import package
from pydantic import ValidationError

from tfmodel.config import ConfigError
from tfmodel.data.cleaning.filters import check_filters, reason_to_drop
from tfmodel.data.cleaning.language import LANGUAGES, sure_of_other_language
from tfmodel.data.cleaning.script import share_in_scripts
from tfmodel.data.cleaning.settings import CleaningSettings

ENGLISH = "The train to the coast was late again, and nobody told us why."
CHINESE = "昨天的火车又晚点了，没有人告诉我们为什么。"
RUSSIAN = "Вчера поезд снова опоздал, и никто не объяснил почему."


def test_nothing_is_left_out_by_default():
    for text in (ENGLISH, CHINESE, RUSSIAN, "x", "123", "🙂"):
        assert reason_to_drop(text, CleaningSettings()) == ""


def test_too_short():
    settings = CleaningSettings(min_characters=3)
    assert [reason_to_drop(text, settings) for text in ("ab", "abc")] == ["too_short", ""]


@pytest.mark.parametrize(
    "scripts, stay, go",
    [
        (["Latin"], [ENGLISH, "été", "Ｆull width", "東 is east"], [CHINESE, RUSSIAN, "東京都 is"]),
        (["Han"], [CHINESE], [ENGLISH, RUSSIAN, "カタカナ"]),
        (["Han", "Hiragana", "Katakana"], ["東京タワーへ行く", "ﾊﾝｶｸ"], [RUSSIAN]),
        (["Cyrillic"], [RUSSIAN], [ENGLISH]),
        (["Latin"], ["12:30 – 14:00", "🙂!", "", "ー"], []),  # no letters: nothing to judge by
        (["Devanagari"], ["हिन्दी में लिखा"], ["abc"]),
    ],
)
def test_script(scripts, stay, go):
    settings = CleaningSettings(scripts=scripts)
    assert {reason_to_drop(text, settings) for text in stay} == {""}
    assert {reason_to_drop(text, settings) for text in go} <= {"other_script"}


def test_share_of_a_script():
    assert share_in_scripts("abc где 123", ["Latin"]) == 0.5
    strict = CleaningSettings(scripts=["Latin"], min_script_share=0.9)
    assert reason_to_drop("abc где 123", strict) == "other_script"
    assert reason_to_drop("abc где 123", CleaningSettings(scripts=["Latin"])) == ""


@pytest.mark.parametrize(
    "key, given, meant",
    [
        ("scripts", ["latin", "old turkic"], ["Latin", "Old_Turkic"]),
        ("languages", ["EN", "ha"], ["en", "ha"]),
    ],
)
def test_names_take_any_case(key, given, meant):
    assert getattr(CleaningSettings(**{key: given}), key) == meant


@pytest.mark.parametrize(
    "key, name, words",
    [
        ("scripts", "Cyrilic", "expected the Unicode name of a script, such as Cyrillic"),
        ("scripts", "Chinese", "expected the Unicode name of a script: .*, Han, .*, Latin, "),
        ("scripts", "Common", "expected the Unicode name of a script: "),
        ("languages", "eng", "expected the code of a language that can be told, such as en"),
        ("languages", "klingon", "expected the code of a language that can be told: ace, "),
    ],
)
def test_unknown_names_are_told(key, name, words):
    with pytest.raises(ValidationError, match=words):
        CleaningSettings(**{key: [name]})


def test_each_setting_has_its_range():
    for wrong in (
        {"min_characters": -1},
        {"scripts": []},
        {"languages": []},
        {"min_script_share": 0},
        {"min_language_confidence": 1.1},
        {"unicode": "NFD"},
    ):
        with pytest.raises(ValidationError):
            CleaningSettings(**wrong)


def test_without_the_extra_the_error_names_it():
    program = (
        "import sys; sys.modules['py3langid'] = None\n"
        "from tfmodel.data.cleaning.settings import CleaningSettings\n"
        "from tfmodel.data.cleaning.filters import check_filters\n"
        "check_filters(CleaningSettings())\n"
        "check_filters(CleaningSettings(languages=['en']))\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ConfigError.__name__ in ended.stderr
    assert "pip install 'tfmodel[language]'" in ended.stderr


@pytest.mark.slow
def test_language():
    package("py3langid")
    settings = CleaningSettings(languages=["en"])
    check_filters(settings)
    assert reason_to_drop(ENGLISH, settings) == ""
    assert {reason_to_drop(text, settings) for text in (CHINESE, RUSSIAN)} == {"other_language"}
    # Too short to be sure, or no language at all.
    assert {reason_to_drop(text, settings) for text in ("ok", "ja", "", "12345 678", "🙂")} == {""}
    both = CleaningSettings(languages=["en", "ru"])
    assert [reason_to_drop(text, both) for text in (RUSSIAN, CHINESE)] == ["", "other_language"]


@pytest.mark.slow
def test_language_of_the_beginning_decides():
    package("py3langid")
    whole = sure_of_other_language(ENGLISH * 20 + CHINESE * 1000, ["zh"])
    assert whole == sure_of_other_language(ENGLISH * 20, ["zh"]) > 0.99


@pytest.mark.slow
def test_the_languages_are_those_of_the_detector():
    identifier = package("py3langid.langid").LanguageIdentifier
    known = identifier.from_model_file(package("py3langid.langid").MODEL_FILE).labels
    assert set(LANGUAGES) == set(known) - {"zxx"}
