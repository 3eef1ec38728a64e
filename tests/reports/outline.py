"""What an HTML page holds, for tests of pages."""

import re
from collections import Counter
from html.parser import HTMLParser

VOID = {"meta", "input", "link", "br", "img"}


class Outline(HTMLParser):
    """Collects what a page holds; fails where a tag is closed that is not open."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(" ".join(data.split()))

    def values(self, name: str) -> list[str]:
        return [value for _, own, value in self.attributes if own == name]

    @property
    def text(self) -> str:
        return " ".join(filter(None, self.texts))


def check_alone(text: str) -> Outline:
    """Assert that a page needs nothing beside itself and that its references are met."""
    outline = Outline(text)
    links = [link for link in outline.values("href") if not link.startswith("data:")]
    assert outline.values("src") == []
    assert all(link.startswith("#") for link in links)
    assert not re.search(r"url\((?!#)|@import|fetch\(|XMLHttpRequest", text)
    assert outline.tags["script"] == outline.tags["style"] == 1
    ids = Counter(outline.values("id"))
    assert set(ids.values()) == {1}
    referred = {link[1:] for link in links} | set(re.findall(r"url\(#([^)]+)\)", text))
    assert referred <= set(ids)
    return outline
