"""Steps of cleaning that documents need beyond rows; they keep lines apart."""

from __future__ import annotations

import re
from collections.abc import Callable

# What WikiExtractor leaves of tags that are no HTML; of `ref` and the like the content goes too.
_WIKI_HIDDEN = re.compile(
    r"<(ref|gallery|timeline|imagemap|templatedata|graph)\b(?:[^<>]*[^<>/])?>[^<>]{0,2000}</\1\s*>",
    re.IGNORECASE,
)
_WIKI_TAG = re.compile(
    r"</?(?:ref|references|nowiki|onlyinclude|noinclude|includeonly|poem|gallery|timeline|math|chem"
    r"|score|hiero|syntaxhighlight|templatestyles|section|mapframe|maplink|indicator|imagemap"
    r"|pagequality|graph|ce)\b[^<>]*>",
    re.IGNORECASE,
)
# Innermost first, so that what is nested goes in several rounds; no part crosses a bracket.
_TEMPLATE = re.compile(r"\{\{[^{}]*\}\}")
_TABLE = re.compile(r"^\{\|[^{}]*?^\|\}[ \t]*$", re.MULTILINE)
_MEDIA = re.compile(
    r"\[\[\s*:?(?:file|image|media|category|fichier|datei|bild|kategorie|archivo|imagen|categoría"
    r"|文件|檔案|档案|图像|圖像|分类|分類|[a-z]{2,3})\s*:[^\[\]]*\]\]",
    re.IGNORECASE,
)
_MEDIA_LINE = re.compile(r"^\s*\[\[(?:File|Image):[^\n\[\]]*\|\s*$", re.MULTILINE)
_LINK = re.compile(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]")
_EXTERNAL_LINK = re.compile(r"\[(?:https?:)?//[^\s\[\]]+(?:[ \t]+([^\[\]\n]*))?\]")
_HEADING = re.compile(r"^(={2,6})[ \t]*([^=\n][^\n]*?)[ \t]*\1[ \t]*$", re.MULTILINE)
_QUOTES = re.compile(r"'''''|'''|(?<!')''(?!')")
_SWITCH = re.compile(r"__(?:NO|FORCE)?(?:TOC|EDITSECTION|GALLERY|INDEX|CONTENTCONVERT)__")
# `(; born 1947)`: a template stood before the semicolon. `()`: nothing but templates.
_OPEN_LEFTOVER = re.compile(r"([(（])[ \t]*(?:[;,，；、:：][ \t]*)+")
_CLOSE_LEFTOVER = re.compile(r"[ \t]*(?:[;,，；、][ \t]*)+([)）])")
_EMPTY_BRACKETS = re.compile(
    r"[ \t]?(?:\([ \t]*\)|\[[ \t]*\])(?![\w(\[])|(?:（[ \t]*）|《》|「」|『』|“”)"
)
# `-{zh-hans:悉尼; zh-hant:雪梨}-`, `-{悉尼}-`, `-{}-`: how Chinese Wikipedia writes variants.
_VARIANT = re.compile(r"-\{(?:[A-Z]\|)?(?:zh[a-z-]*:)?([^{};|]*)(?:;[^{}]*)?\}-")
_SPACE_BEFORE_SIGN = re.compile(r"(?<=\w)[ \t]+(?=[,.](?:\s|$))")


def remove_wiki_markup(text: str) -> str:
    """Take out what extractors leave of wiki text: tags, templates, links, `()` and `(; born`.

    Of links and headings the words stay. Code keeps its calls: `f()` is no leftover, ` ()` is.
    """
    if "<" in text:
        text = _WIKI_TAG.sub("", _WIKI_HIDDEN.sub("", text))
    if "{" in text:
        text = _TABLE.sub("", _TEMPLATE.sub("", _VARIANT.sub(r"\1", text)))
    if "[" in text:
        text = _LINK.sub(r"\1", _MEDIA_LINE.sub("", _MEDIA.sub("", text)))
        text = _EXTERNAL_LINK.sub(lambda link: link[1] or "", text)
    if "==" in text:
        text = _HEADING.sub(r"\2", text)
    if "''" in text:
        text = _QUOTES.sub("", text)
    if "__" in text:
        text = _SWITCH.sub("", text)
    return _remove_leftovers(text)


def _remove_leftovers(text: str) -> str:
    cleaned = _CLOSE_LEFTOVER.sub(r"\1", _OPEN_LEFTOVER.sub(r"\1", text))
    # After a space or a word in another script only: `f()` in code is a call.
    cleaned = _EMPTY_BRACKETS.sub(_unless_call, cleaned)
    return cleaned if cleaned == text else _SPACE_BEFORE_SIGN.sub("", cleaned)


def _unless_call(found: re.Match[str]) -> str:
    before = found.string[found.start() - 1 : found.start()] if found.start() else ""
    is_call = not found[0][0].isspace() and before.isascii() and (before.isalnum() or before == "_")
    return found[0] if is_call else ""


# --- lines ----------------------------------------------------------------------------------

_SEPARATORS = re.compile(r"[|»›•→▸►]|(?:\s[/>-]\s)")
_ENDS_SENTENCE = re.compile(r"[.!?。！？…:;：；][\"'”’»」』)）\]]*$")
_FEW_WORDS = 4  # of an entry of a menu
_MENU_ENTRIES = 4
_LONGEST_NOTICE_CHARACTERS = 200
# The list of C4 (Raffel et al. 2020, section 2.2) and what stands on pages beside it.
_NOTICES = re.compile(
    r"(?:terms of (?:use|service)|privacy policy|cookie policy|uses? (?:of )?cookies|use cookies"
    r"|accept (?:all )?cookies|enable javascript|javascript (?:is|must be) |all rights reserved"
    r"|lorem ipsum|skip to (?:main )?content|back to top|click here to|sign up for our"
    r"|subscribe to our newsletter|share (?:this )?on (?:facebook|twitter|linkedin)"
    r"|版权所有|版權所有|隐私政策|隱私政策|返回顶部|返回頂部|使用条款|使用條款|京ICP备|请启用javascript)",
    re.IGNORECASE,
)


def remove_navigation(text: str) -> str:
    """Take out lines that are no text: menus (`Home | News | About`) and notices about cookies.

    A menu is a line of four entries or more, of at most four words each, that ends no sentence. A
    notice is a line of at most 200 characters with a phrase of the list.

    Source: Raffel et al. 2020, section 2.2 (C4), which drops lines, or whole pages, with such
    phrases whatever their length. We deviate: long lines stay, for articles speak of cookies too.
    """
    lines = text.split("\n")
    kept = [line for line in lines if not is_navigation(line)]
    return text if len(kept) == len(lines) else "\n".join(kept)


def is_navigation(line: str) -> bool:
    """Tell whether a line is a menu or a notice."""
    if len(line) <= _LONGEST_NOTICE_CHARACTERS and _NOTICES.search(line):
        return True
    if _ENDS_SENTENCE.search(line):
        return False
    entries = _SEPARATORS.split(line) if _SEPARATORS.search(line) else ()
    return (
        len(entries) >= _MENU_ENTRIES
        and all(len(entry.split()) <= _FEW_WORDS for entry in entries)
        and not any(character.isdigit() for character in line)
    )


def tidy_lines(text: str) -> str:
    """Turn each run of whitespace inside a line into one space; no blank lines, `\\n` between."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)


DOCUMENT_STEPS: dict[str, Callable[[str], str]] = {
    "wiki_markup": remove_wiki_markup,
    "lines": tidy_lines,
    "navigation": remove_navigation,
}
