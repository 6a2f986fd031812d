"""A matplotlib figure -> an SVG string that belongs to the page it is put into.

Colours are CSS variables of the page, so one drawing serves light and dark; text stays text in
the page's own font; every id carries the drawing's name, so several fit on one page.
"""

import contextlib
import io
import re
import unicodedata
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import is_color_like, to_hex, to_rgba
from matplotlib.figure import Figure

# Each colour stands for a CSS variable with a fallback; `to_svg` swaps one for the other. The
# digits themselves are never seen, they only have to be distinct.
INK, MUTED, LINE, PAPER = "#010203", "#020304", "#030405", "#040506"
ACCENT, WARM = "#050607", "#060708"
_VARIABLES = {
    INK: "var(--plot-ink, currentColor)",
    MUTED: "var(--plot-muted, #7a7a7a)",
    LINE: "var(--plot-line, #9994)",
    PAPER: "var(--plot-paper, Canvas)",
    ACCENT: "var(--plot-accent, #2f7ea1)",
    WARM: "var(--plot-warm, #d0703c)",
}
# The same where no page gives the colours: on white.
_ON_WHITE = {
    INK: "#1f2328",
    MUTED: "#6a6f75",
    LINE: "#d5d8dc",
    PAPER: "#ffffff",
    ACCENT: "#2f7ea1",
    WARM: "#d0703c",
}
# For pixels, which cannot hold a variable: legible on white and on black.
ACCENT_PIXEL, WARM_PIXEL = (0x2F, 0x7E, 0xA1), (0xD0, 0x70, 0x3C)

FONT_SIZE = 11.0
_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_FONT = "system-ui, sans-serif"


@contextlib.contextmanager
def drawing_style() -> Iterator[None]:
    """Draw with matplotlib's defaults and ours, whatever the user's own settings are."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        # A label may be in a script that the measuring font lacks; the browser has it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "svg.fonttype": "none",
                "svg.hashsalt": "tfmodel",
                "text.parse_math": False,  # a label such as "$5" is no formula
                "axes.unicode_minus": False,
                "font.size": FONT_SIZE,
                "axes.edgecolor": LINE,
                "axes.linewidth": 1.0,
                "axes.labelcolor": MUTED,
                "axes.labelsize": FONT_SIZE,
                "axes.facecolor": "none",
                "axes.spines.top": False,
                "axes.spines.right": False,
                "figure.facecolor": "none",
                "grid.color": LINE,
                "grid.linewidth": 1.0,
                "text.color": INK,
                "xtick.color": LINE,
                "ytick.color": LINE,
                "xtick.labelcolor": MUTED,
                "ytick.labelcolor": MUTED,
                "xtick.labelsize": FONT_SIZE,
                "ytick.labelsize": FONT_SIZE,
                "xtick.major.size": 0,
                "ytick.major.size": 0,
                "lines.linewidth": 1.8,
                "lines.solid_capstyle": "round",
                "path.simplify": True,
            }
        )
        yield


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure of `width` x `height` CSS pixels."""
    return Figure(figsize=(width / 72, height / 72), dpi=72)


def place(figure: Figure, *, left: float, top: float, right: float, bottom: float) -> Axes:
    """Add axes whose edges are given in pixels from the figure's top left corner."""
    width, height = figure.get_size_inches() * 72
    return figure.add_axes(
        (left / width, 1 - bottom / height, (right - left) / width, (bottom - top) / height)
    )


def text_width(text: str, *, size: float = FONT_SIZE) -> float:
    """Estimate in pixels how wide a text gets in whatever sans-serif font the page has."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return size * (0.58 * (len(text) - wide) + 1.05 * wide)


def shorten(text: str, *, characters: int = 24) -> str:
    """Make one line of at most `characters` letters, without what XML forbids."""
    line = " ".join(
        re.sub(r"[\x00-\x20\x7f-\x9f\ud800-\udfff\ufffe\uffff]+", " ", str(text)).split()
    )
    return line if len(line) <= characters else line[: characters - 1].rstrip() + "…"


def to_svg(figure: Figure, *, name: str, title: str) -> str:
    """Give the figure as an SVG element to put into HTML, or as a file of its own.

    Args:
        figure: drawn with the colours of this module, inside `drawing_style`.
        name: prefix of every id, unique on the page; letters, digits, `-` and `_`.
        title: what a screen reader says, and the tooltip.

    Returns:
        `<svg …>…</svg>`, the same bytes for the same figure. It is as wide as its container, but
        from 0.7 to 1.2 times its own size, so that its text stays legible: a narrow container
        has to scroll.
    """
    if not re.fullmatch(r"[A-Za-z][\w-]*", name, re.ASCII):
        raise ValueError(f"name must be letters, digits, - and _. Received: {name!r}.")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    _drop_what_nobody_sees(root)
    ids = _renamed_ids(root, name)
    for element in root.iter():
        _adapt(element, ids)
    width = float(root.attrib["viewBox"].split()[2])
    root.attrib = {
        "xmlns": _SVG[1:-1],
        "class": "plot",
        "viewBox": root.attrib["viewBox"],
        "width": "100%",
        "role": "img",
        "aria-labelledby": f"{name}-title",
        "style": f"min-width: {0.7 * width:.0f}px; max-width: {1.2 * width:.0f}px; height: auto; "
        "stroke-linejoin: round; stroke-linecap: butt",
    }
    heading = ElementTree.Element("title", {"id": f"{name}-title"})
    heading.text = shorten(title, characters=200)
    root.insert(0, heading)
    return ElementTree.tostring(root, encoding="unicode")


def to_png(figure: Figure, *, scale: float = 2.0) -> bytes:
    """Give the figure as a PNG on white, for what shows no SVG.

    Args:
        figure: drawn with the colours of this module, inside `drawing_style`, and no more of use
            afterwards.
        scale: pixels of the PNG to one of the figure.
    """
    for artist in figure.findobj():
        for name in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
            getter = getattr(artist, f"get_{name}", None)
            if getter is None:
                continue
            colour = getter()
            if not is_color_like(colour) or isinstance(colour, tuple) and len(colour) != 4:
                continue
            on_white = _ON_WHITE.get(to_hex(colour))
            if on_white is not None:
                alpha = to_rgba(colour)[3]
                getattr(artist, f"set_{name}")(to_rgba(on_white, alpha))
    figure.set_facecolor("white")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=72 * scale, metadata={"Software": None})
    return buffer.getvalue()


def _drop_what_nobody_sees(element: ElementTree.Element) -> None:
    """Remove metadata (it holds links), the page-wide style, empty groups, bare outlines."""
    for child in list(element):
        _drop_what_nobody_sees(child)
        child.tail = None
        unseen = child.tag in (f"{_SVG}metadata", f"{_SVG}style") or (
            child.attrib.get("style") == "fill: none"
            if child.tag == f"{_SVG}path"
            else child.tag in (f"{_SVG}g", f"{_SVG}defs") and len(child) == 0
        )
        if unseen:
            element.remove(child)
    if element.text and not element.text.strip():
        element.text = None


def _renamed_ids(root: ElementTree.Element, name: str) -> dict[str, str]:
    """Number the ids that something refers to; the others are dropped."""
    used: dict[str, str] = {}
    for element in root.iter():
        for value in element.attrib.values():
            for found in re.findall(r"url\(#([^)]+)\)|^#(.+)$", value):
                used.setdefault(found[0] or found[1], f"{name}-{len(used)}")
    return used


def _adapt(element: ElementTree.Element, ids: dict[str, str]) -> None:
    element.tag = element.tag.removeprefix(_SVG)
    attributes = {}
    for key, value in element.attrib.items():
        if key == "id":
            if value in ids:
                attributes["id"] = ids[value]
        elif key == _HREF:
            attributes["href"] = f"#{ids[value[1:]]}" if value.startswith("#") else value
        elif key == "transform" and value.startswith("rotate(-0 "):
            continue
        elif not key.startswith("{"):
            value = re.sub(r"url\(#([^)]+)\)", lambda found: f"url(#{ids[found[1]]})", value)
            attributes[key] = _page_style(value) if key == "style" else value
    element.attrib = attributes


def _page_style(style: str) -> str:
    for colour, variable in _VARIABLES.items():
        style = style.replace(colour, variable)
    style = re.sub(r"font-family: [^;]+", f"font-family: {_FONT}", style)
    return re.sub(r"(font: [^;]*?\d(?:px|pt)) [^;]+", rf"\1 {_FONT}", style)
