"""HTML: what goes, and what only looks like it."""

import pytest

from tfmodel.data.cleaning import chosen_steps, clean
from tfmodel.data.cleaning.markup import remove_tags
from tfmodel.data.cleaning.settings import CleaningSettings


@pytest.mark.parametrize(
    "raw, left",
    [
        ("<p>One</p><p>Two<br>three</p>", "One Two three"),
        ("an <b>in</b><i>line</i> <A HREF='x'>tag</A>", "an inline tag"),
        ("<td>1</td><td>2</td>", "1 2"),
        ("a<script>var x = '<p>';</script>b<style>p {}</style>c", "abc"),
        ("a<SCRIPT src=x></Script >b <svg><path d='M0'/></svg>c", "ab c"),
        ("a <svg/>b", "a b"),
        ("a<!-- hidden <b>bold</b> -->b", "ab"),
        ("<!DOCTYPE html><html><head><title>T</title></head><body>x", "T x"),
        ('<?xml version="1.0"?>x', "x"),
        ('<a title="5 > 3">yes</a>', "yes"),
        ('<img alt="it\'s" src=x>x', "x"),
        ("Tom &amp; Jerry&nbsp;&#8212; <i>caf&eacute;</i>", "Tom & Jerry — café"),
        ("&lt;p&gt;escaped&lt;/p&gt;", "escaped"),
        ("<o:p>Word</o:p>", "Word"),
        ("at <time>noon</time> <input type=text> <code class=x>", "at noon"),
    ],
)
def test_goes(raw, left):
    assert clean(raw, chosen_steps(CleaningSettings(html=True))) == left


@pytest.mark.parametrize(
    "text",
    [
        "a < b and c > d",
        "a<b and c>d",
        "I <3 you",
        "x<y>z",
        "List<String> and <unk> <ann@example.com> <https://example.com>",
        "--> an arrow <--",
        "<bold claim>",
        "at <TIME> in <ADDRESS>, see <title>",
        "< p >",
        "<",
        "<b",
        "5 <!-- never closed",
        "<\u017fcript>",  # a long s is no s, though case-insensitive patterns take it for one
    ],
)
def test_stays(text):
    assert remove_tags(text) == text


@pytest.mark.parametrize(
    "raw, left",
    [
        ("<script>cut <b>off</b>", "cut off"),
        ("ends </script>here", "ends here"),
        ('<a href="x>unbalanced</a>', "unbalanced"),
        ("<p <b>nested", "<p nested"),
        ("</b>stray", "stray"),
    ],
)
def test_broken_markup_loses_no_words(raw, left):
    assert remove_tags(raw) == left


def test_blocks_leave_a_newline():
    assert remove_tags("<h1>Title</h1>Text<b>!</b>") == "\nTitle\nText!"
