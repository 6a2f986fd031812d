"""A page as a reader and a browser get it."""

import html.parser
import re

VOID = {"meta", "link", "br", "hr", "img", "wbr", "input"}


class Page(html.parser.HTMLParser):
    """Checks the nesting of the tags and collects what a reader and a browser get."""

    def __init__(self, source):
        super().__init__()
        self.open, self.ids, self.attributes = [], [], []
        self.words, self.tags = [], set()
        self.feed(source)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())
        assert len(self.ids) == len(set(self.ids))

    def handle_starttag(self, tag, attributes):
        self._note(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert "svg" in self.open, f"<{tag}/> closes itself in SVG alone"
        self._note(tag, attributes)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    def _note(self, tag, attributes):
        self.tags.add(tag)
        for name, value in attributes:
            self.attributes.append((tag, name, value))
            if name == "id":
                self.ids.append(value)


def check_asks_nothing_of_the_network(page, source):
    assert not page.tags & {"script", "iframe", "object", "embed", "base", "form", "img"}
    for tag, name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("href", "src", "xlink:href", "action", "srcset"):
            assert value.startswith(("#", "data:")), (tag, name, value)
    styles = "".join(re.findall(r"<style>(.*?)</style>", source, re.DOTALL))
    styles += "".join(value for _, name, value in page.attributes if name == "style")
    assert "@import" not in styles and "url(http" not in styles
