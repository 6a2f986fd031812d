"""What documents are rid of beyond rows: what extractors leave, menus, notices."""

import time

import pytest
from hypothesis import given
from messy_texts import messy_texts

from tfmodel.data.cleaning import clean
from tfmodel.data.cleaning.document_steps import (
    DOCUMENT_STEPS,
    is_navigation,
    tidy_lines,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Wutong () is a town.", "Wutong is a town."),
        ("Leonov (; born 1947), née J (), is", "Leonov (born 1947), née J, is"),
        ("許曹德（），出生。鈴木（，），是", "許曹德，出生。鈴木，是"),
        ("from (, ) and", "from and"),
        ("call f() and a[] here", "call f() and a[] here"),  # code is no leftover
        ("the [[Soviet Union]] and a [[Gulag|camp]]", "the Soviet Union and a camp"),
        ("[[File:A b.jpg|thumb|a [[nested]] one]]x[[Category:Priests]]", "x"),
        ("[[文件:a.jpg|缩略图]]字", "字"),
        ("a {{cite|{{nested}}}} b", "a  b"),
        ("{| class=x\n|-\n| a || b\n|}\nafter", "\nafter"),
        ("one<ref name=a>Smith 2001</ref> two<ref name='b'/> three</ref>", "one two three"),
        ("<onlyinclude>kept</onlyinclude><section begin=x />", "kept"),
        ("== History ==\nIt began.", "History\nIt began."),
        ("'''Bold''' and ''slanted'', don't", "Bold and slanted, don't"),
        ("[https://example.com the site] and [http://example.com]", "the site and "),
        ("前-{zh-hans:悉尼;zh-hant:雪梨}-強 -{}-風", "前悉尼強 風"),
        ("a __NOTOC__ b", "a  b"),
        ("if a == b: x = {1: 2}", "if a == b: x = {1: 2}"),
    ],
)
def test_wiki_markup(text, expected):
    assert clean(text, ["wiki_markup"]) == expected


@pytest.mark.parametrize(
    "line",
    [
        "Home | News | About us | Contact",
        "Start » Products » Garden tools » Rakes",
        "This site uses cookies to make it better.",
        "Please enable JavaScript to view the comments.",
        "版权所有 某某公司",
    ],
)
def test_menus_and_notices_are_navigation(line):
    assert is_navigation(line)


@pytest.mark.parametrize(
    "line",
    [
        "He sold the house, the garden and the boat.",
        "A | B is the union of A and B | C | D.",
        "1 | 2 | 3 | 4",
        "Cookies were baked in the sixteenth century in Persia",
        "Under the privacy policy that the court examined for eleven weeks in the spring, "
        "the company was bound to tell its customers what it kept of them, for how long it did so "
        "and who else in the group could read it at any time.",
    ],
)
def test_text_is_no_navigation(line):
    assert not is_navigation(line)


def test_lines_stay_apart():
    assert tidy_lines("  a \u3000 b\r\n\n\n\t\nc\u2028d ") == "a b\nc\nd"


@given(messy_texts)
def test_twice_changes_nothing_more(text):
    steps = list(DOCUMENT_STEPS)
    assert clean(clean(text, steps), steps) == clean(text, steps)


@pytest.mark.parametrize(
    "unit", ["{{", "[[", "(", "<ref>", "[[a|", "{|\n", "( ; ", "''", "| a ", "=="]
)
def test_time_is_linear_in_the_length(unit):
    started = time.process_time()
    clean(unit * (200_000 // len(unit)), list(DOCUMENT_STEPS))
    assert time.process_time() - started < 5
