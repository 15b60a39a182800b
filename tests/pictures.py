"""Strict readers of what pictures are written in: they refuse what they do not know."""

import re
from dataclasses import dataclass, field
from xml.etree import ElementTree

SVG = "{http://www.w3.org/2000/svg}"
SIGNS = "\N{CHECK MARK}\N{BALLOT X}\N{CIRCLED DIVISION SLASH}\N{BLACK SQUARE}"

# Names that mean something in one of the languages that pictures are written in.
HOSTILE = [
    '"]; click a href "javascript:alert(1)"',
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "%%{init: {}}%%",
    "end",
    "subgraph",
    '"; } digraph {',
    "a trailing backslash\\",
    "\\N \\G \\n \\\\",
    "../../etc/passwd",
    "turned \u202e round",
    "a line \u2028 and a paragraph \u2029",
    "not a character \uffff",
    "\U0001f468\u200d\U0001f680",
    "&lt;b&gt; &#60; &amp;amp; #35; #quot;",
    "1. a list",
    "- a list",
    "__init__ *and* `code` _too_",
    "www.example.org http://example.org a@example.org",
    " spaces  in   front and behind ",
    "]]>",
    "<!-- -->",
    "n0",
    "--> n1",
    "|if|",
    "'",
    "\u00a0",
    "x" * 512,
]

# And what no node can be called, but an error, a reason or a result may say.
HOSTILE_TEXTS = [
    *HOSTILE,
    "a name\nwith newlines\r\n\tand more",
    "\x00\x1b[31mred\x07",
    "\ud800 alone",
    "{{script}} {{data}}",
    "]]></script></style></title></textarea></noscript><script>alert(1)</script>",
    "x" * 100_000,
]


@dataclass
class Read:
    """What a picture says: the labels of its nodes by id, line by line, its edges and notes."""

    labels: dict[str, list[str]] = field(default_factory=dict)
    edges: list[tuple[str, str, str]] = field(default_factory=list)  # with what they look like
    attributes: dict[str, dict[str, str]] = field(default_factory=dict)
    classes: dict[str, set[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def names(self) -> list[str]:
        """The first line of each label, without the sign of a status."""
        return [name_in(lines) for lines in self.labels.values()]

    def named_edges(self) -> list[tuple[str, str]]:
        return [(name_in(self.labels[a]), name_in(self.labels[b])) for a, b, _ in self.edges]

    def of(self, name: str) -> list[str]:
        """The other lines of the label of the node of that name."""
        return next(lines[1:] for lines in self.labels.values() if name_in(lines) == name)


def name_in(lines: list[str]) -> str:
    return re.sub(f"^[{SIGNS}] ", "", lines[0])


# -- Mermaid

MERMAID_NODE = re.compile(r'    (n\d+)(?:\["([^"]*)"\]|\[\["([^"]*)"\]\])')
MERMAID_EDGE = re.compile(r'    (n\d+) (-->|-\.->|-\.-)(\|"if"\|)? (n\d+)')
MERMAID_NOTE = re.compile(r'    note\d+\["([^"]*)"\]')
MERMAID_CLASS = re.compile(r"    class (n\d+(?:,n\d+)*) ([a-z]+)")
MERMAID_STYLE = re.compile(
    r"    (?:classDef [a-z]+|style note\d+|linkStyle \d+(?:,\d+)*) "
    r"[a-z-]+:[#\w. -]+(,[a-z-]+:[#\w. -]+)*"
)
MERMAID_SMALL = re.compile("<small>(.*)</small>")


def read_mermaid(text: str) -> Read:
    """Read the part of Mermaid's language that dagron writes, and nothing else."""
    read = Read()
    first, *lines = text.removesuffix("\n").split("\n")
    assert first == "flowchart LR"
    for line in lines:
        if found := MERMAID_NODE.fullmatch(line):
            assert found[1] not in read.labels
            read.labels[found[1]] = mermaid_label(found[2] or found[3])
        elif found := MERMAID_EDGE.fullmatch(line):
            assert {found[1], found[4]} <= read.labels.keys()
            read.edges.append((found[1], found[4], found[2] + (found[3] or "")))
        elif found := MERMAID_CLASS.fullmatch(line):
            for node in found[1].split(","):
                read.classes.setdefault(node, set()).add(found[2])
        elif found := MERMAID_NOTE.fullmatch(line):
            read.notes.append(mermaid_text(found[1]))
        else:
            assert MERMAID_STYLE.fullmatch(line), line
    return read


def mermaid_label(label: str) -> list[str]:
    first, *others = label.split("<br/>")
    sign = ""
    if first[1:2] == " " and first[0] in SIGNS:
        sign, first = first[:2], first[2:]
    small = [MERMAID_SMALL.fullmatch(line) for line in others]
    assert all(small), label
    return [sign + mermaid_text(first), *(mermaid_text(line[1]) for line in small if line)]


def mermaid_text(text: str) -> str:
    """Decode a text; a sign that is neither between letters nor encoded may mean something."""
    bare = re.sub(r"#\d+;", " ", text)
    assert not re.search(r"[^\w _:/-]|(?<![^\W_])[_:/-]|[_:/-](?![^\W_])", bare), text
    return re.sub(r"#(\d+);", lambda code: chr(int(code[1])), text)


# -- DOT, after the grammar of Graphviz

DOT_TOKEN = re.compile(r'\s*(?:(->|[\[\]{}=,;])|([A-Za-z_]\w*)|"((?:[^"\\]|\\.)*)")', re.DOTALL)


def dot_tokens(text: str) -> list[tuple[str, str]]:
    tokens = []
    end = 0
    text = text.rstrip()
    while end < len(text):
        found = DOT_TOKEN.match(text, end)
        assert found, text[end : end + 80]
        kind = found.lastindex
        assert kind is not None
        tokens.append((("sign", "word", "text")[kind - 1], found[kind]))
        end = found.end()
    return tokens


def read_dot(text: str) -> Read:
    """Read one digraph."""
    read = Read()
    tokens = dot_tokens(text)[::-1]

    def take(kind: str, value: str | None = None) -> str:
        got = tokens.pop()
        assert got[0] == kind, got
        assert value in (None, got[1]), got
        return got[1]

    def attributes() -> dict[str, str]:
        given = {}
        while tokens[-1] != ("sign", "]"):
            name = take("word")
            take("sign", "=")
            given[name] = take("text")
            if tokens[-1] == ("sign", ","):
                take("sign")
        take("sign", "]")
        return given

    take("word", "digraph")
    take("sign", "{")
    while tokens[-1] != ("sign", "}"):
        subject = take("word")
        following = take("sign")
        if following == "=":
            assert subject == "label"
            read.notes = dot_lines(take("text"))[:-1]
            following = take("sign")
        elif following == "->":
            target = take("word")
            given = {}
            following = take("sign")
            if following == "[":
                given = attributes()
                following = take("sign")
            read.edges.append((subject, target, given.get("style", "")))
            read.attributes[f"{subject}->{target}"] = given
            assert {subject, target} <= read.labels.keys()
        elif following == "[":
            given = attributes()
            following = take("sign")
            if subject not in ("graph", "node"):
                assert re.fullmatch(r"n\d+", subject)
                assert subject not in read.labels
                read.labels[subject] = dot_lines(given["label"])
                read.attributes[subject] = given
        assert following == ";"
    take("sign", "}")
    assert not tokens
    return read


def dot_lines(text: str) -> list[str]:
    """The lines of a quoted string, as Graphviz takes them: an escString with HTML's entities."""
    lines = [""]
    for part in re.findall(r"\\.|[^\\]", text, re.DOTALL):
        if part in ("\\n", "\\l"):
            lines.append("")
        elif part.startswith("\\"):
            assert part in ("\\\\", '\\"'), part
            lines[-1] += part[1]
        else:
            lines[-1] += part
    for line in lines:
        assert not re.search("&(?!amp;)", line), line
    return [line.replace("&amp;", "&") for line in lines]


# -- SVG

ATTRIBUTES = {
    *("class", "role", "width", "height", "viewBox", "aria-label", "d", "x", "y", "rx"),
    *(
        "stroke-width",
        "transform",
        "data-id",
        "data-node",
        "data-status",
        "data-source",
        "data-target",
    ),
}


def read_svg(text: str) -> ElementTree.Element:
    """Parse a picture as XML; it holds nothing but shapes, text, titles and one style sheet."""
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert len(root.findall(f".//{SVG}style")) == 1
    for element in root.iter():
        assert element.tag.removeprefix(SVG) in (
            "svg",
            "style",
            "rect",
            "path",
            "g",
            "text",
            "title",
        )
        assert element.attrib.keys() <= ATTRIBUTES, element.attrib
    return root


def boxes_in(root: ElementTree.Element) -> dict[str, ElementTree.Element]:
    """The boxes by their ids."""
    return {box.attrib["data-id"]: box for box in root.iter(f"{SVG}g") if "data-id" in box.attrib}


def lines_in(root: ElementTree.Element) -> list[tuple[str, str]]:
    """The ids of the ends of each line that is drawn."""
    return [
        (path.attrib["data-source"], path.attrib["data-target"])
        for path in root.iter(f"{SVG}path")
        if "data-source" in path.attrib
    ]


def texts_in(element: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in element.iter(f"{SVG}text")]


def title_of(box: ElementTree.Element) -> str:
    title = box.find(f"{SVG}title")
    assert title is not None
    return title.text or ""
