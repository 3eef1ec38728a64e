"""SVG files as parts of a page."""

from typing import Final
from xml.etree import ElementTree

from markupsafe import Markup

_NAMESPACE: Final = "{http://www.w3.org/2000/svg}"
_LINK: Final = "{http://www.w3.org/1999/xlink}href"
_LEFT_OUT: Final = ("metadata", "style")


def inline_svg(content: bytes, prefix: str, label: str) -> Markup:
    """Return a drawing as an element of HTML.

    Args:
        content: an SVG file that was drawn here; nobody else's is safe to parse and to show.
        prefix: put before every id, so that several drawings share a page.
        label: what a reader hears who does not see it.
    """
    root = ElementTree.fromstring(content)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.removeprefix(_NAMESPACE) in _LEFT_OUT:
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_NAMESPACE)
        element.attrib = {
            name.replace(_LINK, "href"): _prefixed(name, value, prefix)
            for name, value in element.attrib.items()
        }
    root.attrib |= {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "aria-label": label}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _prefixed(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return prefix + value
    if name == _LINK and value.startswith("#"):
        return f"#{prefix}{value[1:]}"
    return value.replace("url(#", f"url(#{prefix}")
