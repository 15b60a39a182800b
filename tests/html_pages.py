"""A strict reader of the page of a run: it refuses what such a page does not have."""

import json
import re
from base64 import b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "input"}
TAGS = {
    *("html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "p", "time", "div"),
    *("input", "select", "button", "output", "main", "noscript", "section", "dl", "dt", "dd"),
    *("table", "thead", "tbody", "tr", "th", "ul", "li", "aside", "script"),
    *("svg", "g", "rect", "path", "text"),
}
ATTRIBUTES = {
    *("lang", "charset", "http-equiv", "content", "name", "id", "class", "role", "hidden", "type"),
    *("placeholder", "aria-label", "aria-labelledby", "aria-hidden", "autocomplete", "spellcheck"),
    *("tabindex", "scope", "min", "max", "value", "step", "datetime", "xmlns", "width", "height"),
    *("viewbox", "x", "y", "rx", "d", "transform"),
    "stroke-width",
}


@dataclass
class Element:
    """An element, with all the text in it."""

    tag: str
    attributes: dict[str, str]
    text: str = ""


@dataclass
class Page:
    """A page: its elements in order, what its policy says, and the data in it."""

    source: str
    elements: list[Element] = field(default_factory=list)

    def all(self, tag: str, **attributes: str) -> list[Element]:
        wanted = attributes.items()
        return [one for one in self.elements if one.tag == tag and wanted <= one.attributes.items()]

    def by_id(self, id: str) -> Element:
        (found,) = [one for one in self.elements if one.attributes.get("id") == id]
        return found

    @property
    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        """Its tags and the names of their attributes, without anything that they say."""
        return [(one.tag, tuple(one.attributes)) for one in self.elements]

    @property
    def data(self) -> Any:
        return json.loads(self.by_id("data").text)

    @property
    def nodes(self) -> dict[str, dict[str, Any]]:
        nodes = self.data["nodes"]
        by_name = {node["name"]: node for node in nodes}
        assert len(by_name) == len(nodes)
        return by_name

    @property
    def entries(self) -> list[tuple[str, str | None, str]]:
        """The kinds, names and texts of what happened, in order, without the times."""
        names = [node["name"] for node in self.data["nodes"]]
        return [
            (kind, None if number is None else names[number], text)
            for _, kind, number, text in self.data["entries"]
        ]

    @property
    def policy(self) -> dict[str, list[str]]:
        (meta,) = self.all("meta", **{"http-equiv": "Content-Security-Policy"})
        directives = (one.split() for one in meta.attributes["content"].split(";"))
        return {name: values for name, *values in directives}

    @property
    def notes(self) -> list[str]:
        return [one.text for one in self.all("li")]


def read_page(source: str) -> Page:
    """Parse a page: known tags and attributes only, each closed; nothing that runs or loads."""
    page = Page(source)
    _Reader(page).feed(source)
    code = [one for one in page.all("script") if one.attributes.get("type") is None]
    assert page.policy == {
        "default-src": ["'none'"],
        "script-src": [digest(one.text) for one in code],
        "style-src": list(dict.fromkeys(digest(one.text) for one in page.all("style"))),
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "require-trusted-types-for": ["'script'"],
        "trusted-types": ["'none'"],
    }
    assert len(page.all("script")) == 2
    for style in page.all("style"):
        assert not re.search(r"url\(|@import|https?:|[\"']data:|expression", style.text)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|eval\(|Function\(|https?:|import\(|fetch\(",
        code[0].text,
    )
    return page


def digest(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


class _Reader(HTMLParser):
    def __init__(self, page: Page) -> None:
        super().__init__()
        self.page = page
        self.open: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), attrs
        for name in names:
            assert name in ATTRIBUTES or name.startswith("data-"), (tag, name)
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.page.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data:.80}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"an instruction: {data:.80}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"a declaration: {data:.80}")
