"""HTML tags out of a text, by rules of our own: data must not change with Python's version.

`html.parser` of the standard library treats markup that is cut off in one way or another, by the
month of its release, and tells no offsets. Here a tag is a name that HTML has, between `<` and the
next `>` outside quotes: so `a < b`, `<3`, `List<String>`, `<unk>` and `<ann@example.com>` stay.
"""

from __future__ import annotations

import re

Edit = tuple[int, int, str]  # text[start:end] becomes this string

_INLINE = (
    "a abbr acronym b bdi bdo big cite code data del dfn em font i img ins kbd label mark nobr o:p "
    "q rb rp rt ruby s samp small span strike strong sub sup time tt u var wbr"
).split()
_BLOCK = (
    "address applet area article aside audio base basefont blockquote body br button canvas "
    "caption center col colgroup dd details dialog dir div dl dt embed fieldset figcaption figure "
    "footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html iframe input legend "
    "li link main map menu meta meter nav noframes noscript object ol optgroup option output p "
    "param picture pre progress search section select slot source summary table tbody td textarea "
    "tfoot th thead title tr track ul video"
).split()
# Of the tags, words that also stand for what was hidden, as in `at <TIME> in <ADDRESS>`: without
# an attribute or an end tag anywhere they stay.
_WORDS = frozenset(
    "address article aside audio button canvas caption code data details dialog figure footer form "
    "frame head header input label legend link main map mark menu meter nav object option output "
    "param picture progress search section select slot source summary table template time title "
    "track video".split()
)
# Of these the content goes too; a comment is treated like them.
_HIDDEN = ("script", "style", "svg", "template")

# No part crosses a `<`: so each is tried once, and a text takes time in proportion to its length.
# `<b and c>` is a comparison rather than a tag of one letter with two attributes.
_TOKEN = re.compile(
    r"<!--|-->|<!doctype[^<>]*>|<\?(?:xml|php)[^<>]*>"
    r"|<(?P<end>/?)(?![abipqsu]\s+[^\s<>=/][^<>=]*>)"
    rf"(?P<name>{'|'.join([*_INLINE, *_BLOCK, *_HIDDEN])})(?=[\s/>])"
    r"""(?:(?:[^<>"']|"[^"<]*"|'[^'<]*')*|[^<>]*)>""",
    re.IGNORECASE | re.ASCII,
)


def remove_tags(text: str) -> str:
    """Remove HTML tags and comments, and the content of scripts and styles.

    Tags of blocks (`<p>`, `<br>`, `<td>` ...) leave a newline, others nothing. What is not closed,
    such as `<script>` in a text that was cut, loses its tag alone.
    """
    edits = tag_edits(text)
    return apply_edits(text, edits) if edits else text


def tag_edits(text: str) -> list[Edit]:
    """List what `remove_tags` cuts, in order."""
    if "<" not in text:
        return []
    tokens = list(_TOKEN.finditer(text))
    last_end = {_name(token): at for at, token in enumerate(tokens) if _is_end(token)}
    edits: list[Edit] = []
    hidden, hidden_from = "", 0
    for at, token in enumerate(tokens):
        name = _name(token)
        if hidden:
            if name == hidden and _is_end(token):
                edits.append((hidden_from, token.end(), ""))
                hidden = ""
        elif name in _WORDS and name not in last_end and len(token[0]) == len(f"<{name}>"):
            continue
        elif name in (*_HIDDEN, "comment"):
            if _is_start(token) and last_end.get(name, -1) > at:
                hidden, hidden_from = name, token.start()
            elif name != "comment":
                edits.append((token.start(), token.end(), ""))
        else:
            edits.append((token.start(), token.end(), "" if name in _INLINE else "\n"))
    return edits


def apply_edits(text: str, edits: list[Edit]) -> str:
    """Carry out edits that are in order and do not overlap."""
    pieces, done = [], 0
    for start, end, new in edits:
        pieces += (text[done:start], new)
        done = end
    return "".join([*pieces, text[done:]])


def _name(token: re.Match[str]) -> str:
    if token[0] in ("<!--", "-->"):
        return "comment"
    return (token["name"] or "doctype").lower()


def _is_end(token: re.Match[str]) -> bool:
    return token["end"] == "/" or token[0] == "-->"


def _is_start(token: re.Match[str]) -> bool:
    return not _is_end(token) and not token[0].endswith("/>")
