"""examples/crawler.py on the site that it builds, on given folders, and on bad servers."""

import os
import re
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urldefrag, urljoin, urlsplit
from urllib.request import ProxyHandler, build_opener

import pytest

import dagron
from example_runs import ROOT, Seen, caller, imported, runner
from ways import GUARD, Inside

run = runner("crawler")


@pytest.fixture(scope="module")
def crawler() -> Iterator[SimpleNamespace]:
    """The modules of the example, as a script in their folder sees them."""
    names = ["crawler", "_pages", "_loopback", "_python_site"]
    with imported(*names) as [main, pages, loopback, site], pytest.MonkeyPatch.context() as patch:
        patch.setattr(main, "RETRY", dagron.Retry(3, ConnectionError, initial_delay=0))
        yield SimpleNamespace(main=main, pages=pages, loopback=loopback, site=site)


class Report(Seen):
    """What the crawler says, section by section."""

    @property
    def sections(self) -> dict[str, list[str]]:
        parts = [part.splitlines() for part in self.out.split("\n\n")[1:]]
        return {part[0]: [line.removeprefix("  ") for line in part[1:]] for part in parts}


@pytest.fixture(params=["asyncio", "trio"])
def seen(
    crawler: SimpleNamespace, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Report]:
    """Run the program in this process, on either backend."""
    return caller(crawler.main.main, request.param, capsys, Report)


def fill(folder: Path, **pages: str) -> Path:
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return folder


def to(*names: str) -> str:
    """A page with links to these."""
    return "".join(f'<a href="{name}">{name}</a>\n' for name in names)


class Visitor:
    """Crawls by other means: a queue, regular expressions and urllib."""

    def __init__(self, start: str, max_depth: int) -> None:
        self.depths = {start: 0}
        self.broken: dict[str, str] = {}
        self.linked_from: dict[str, set[str]] = {}
        open = build_opener(ProxyHandler({})).open
        hosts = {urlsplit(start).netloc}
        queue = [start]
        for url in queue:
            try:
                with open(url, timeout=GUARD) as answer:
                    text = answer.read().decode()
            except HTTPError as error:
                self.broken[url] = f"{error.code} {error.reason}"
                error.close()
                continue
            for link in re.findall(r'(?:href|src)="([^"]*)"', text):
                absolute = urldefrag(urljoin(url, link.replace("&amp;", "&"))).url
                if urlsplit(absolute).netloc not in hosts:
                    continue
                self.linked_from.setdefault(absolute, set()).add(url)
                if absolute not in self.depths and self.depths[url] < max_depth:
                    self.depths[absolute] = self.depths[url] + 1
                    queue.append(absolute)


# ---- the site that every machine can build ------------------------------------------------------


@pytest.fixture(scope="module")
def default() -> subprocess.CompletedProcess[str]:
    return run()


def test_default(default: subprocess.CompletedProcess[str]) -> None:
    """Given nothing, the program crawls two hosts and has something to say in every section."""
    assert (default.returncode, default.stderr) == (0, "")
    sections = Report(0, default.stdout, "").sections
    assert list(sections) == [
        "Pages by depth",
        "Broken links",
        "Stopped by the guard (--max-nodes)",
        "Not followed",
        "Read at a later attempt",
    ]
    assert sections["Read at a later attempt"] == [
        "calendar/?year=1991&month=2: before that, RemoteDisconnected: "
        "Remote end closed connection without response"
    ]


def test_default_calendar(default: subprocess.CompletedProcess[str]) -> None:
    """The calendar has no end: the guard refuses the month that would be too much, as a whole."""
    sections = Report(0, default.stdout, "").sections
    # In 1991, February has 28 days, March 31, April 30 and May 31; and each links to the next.
    pages = [int(line.split()[1]) for line in sections["Pages by depth"]]
    assert pages[0] == 1
    assert pages[4] == 30 + 1
    refused, why = sections["Stopped by the guard (--max-nodes)"]
    assert refused.startswith("32 pages of depth 5: calendar/?year=1991&month=5&day=1, calendar/?")
    assert re.fullmatch(r" +adding 33 makes \d+ nodes in the graph: max_nodes is 120", why)


def test_default_is_the_same_on_trio(default: subprocess.CompletedProcess[str]) -> None:
    """Every word of the report, apart from the ports, is the same on the other backend."""
    trio = run("--backend", "trio")
    assert trio.stdout.split("\n\n")[1:] == default.stdout.split("\n\n")[1:]


def test_documentation_agrees_with_another_crawler(
    crawler: SimpleNamespace, seen: Callable[..., Report], tmp_path: Path
) -> None:
    """Of what pydoc writes, pages by depth, broken links and who has them are as counted twice."""
    crawler.site.write_documentation(tmp_path, "elsewhere.invalid")
    told = seen(tmp_path, "--depth", "9")
    with crawler.loopback.serving(crawler.loopback.folder_handler(tmp_path)) as netloc:
        visitor = Visitor(f"http://{netloc}/", 9)
    assert (told.code, told.err) == (0, "")
    assert len(visitor.broken) >= 3

    read = Counter(depth for url, depth in visitor.depths.items() if url not in visitor.broken)
    unread = Counter(visitor.depths[url] for url in visitor.broken)
    counts = [
        [int(n) for n in re.findall(r"\d+", line)] for line in told.sections["Pages by depth"]
    ]
    assert {depth: numbers for depth, *numbers in counts} == {
        depth: [read[depth], unread[depth]] if unread[depth] else [read[depth]]
        for depth in read | unread
    }

    broken = told.sections["Broken links"]
    assert broken[::2] == [
        f"site{urlsplit(url).path}: {why}" for url, why in sorted(visitor.broken.items())
    ]
    for line, url in zip(broken[1::2], sorted(visitor.broken), strict=True):
        pages = sorted(f"site{urlsplit(page).path}" for page in visitor.linked_from[url])
        more = f" and {len(pages) - 3} more" if len(pages) > 3 else ""
        assert line == f"    on {', '.join(pages[:3])}{more}"


# ---- a given folder -----------------------------------------------------------------------------


def test_given_folder(seen: Callable[..., Report], tmp_path: Path) -> None:
    """Pages, images and styles are followed, anchors and other places are not."""
    fill(
        tmp_path,
        index=to("a.html", "b.html#here", "https://example.org/x", "mailto:someone@example.org")
        + '<img src="dot.png"><link href="gone.css"><a name="x">no link</a><a href>none</a>',
        a=to("b.html", "index.html", "gone.html", "#top"),
        b=to("a.html?", "c.html"),
        c="the end",
    )
    (tmp_path / "dot.png").write_bytes(b'\x89PNG <a href="never.html">')
    told = seen(tmp_path)
    assert (told.code, told.err) == (0, "")
    assert told.sections == {
        "Pages by depth": [
            "  0  1 page",
            "  1  3 pages, 1 broken link",
            "  2  2 pages, 1 broken link",
        ],
        "Broken links": [
            "site/gone.css: 404 File not found",
            "    on site/, site/index.html",
            "site/gone.html: 404 File not found",
            "    on site/a.html",
        ],
        "Not followed": ["2 links to example.org, mailto:"],
    }


def test_depth(seen: Callable[..., Report], tmp_path: Path) -> None:
    """No page beyond the given depth is read; how many links lead there is said."""
    fill(tmp_path, index=to("a.html"), a=to("b.html"), b=to("c.html"), c=to("d.html"), d="")
    assert seen(tmp_path, "--depth", "2").sections == {
        "Pages by depth": ["  0  1 page", "  1  1 page", "  2  1 page"],
        "Not followed": ["1 page of depth 3: site/c.html (--depth)"],
    }
    assert seen(tmp_path, "--depth", "0").sections == {
        "Pages by depth": ["  0  1 page"],
        "Not followed": ["1 page of depth 1: site/a.html (--depth)"],
    }
    assert list(seen(tmp_path, "--depth", "4").sections) == ["Pages by depth"]


def test_depth_is_the_distance(seen: Callable[..., Report], tmp_path: Path) -> None:
    """A page has the depth of the shortest way to it, and what lies behind it as well."""
    fill(tmp_path, index=to("a.html", "b.html"), a=to("b.html"), b=to("c.html"), c=to("a.html"))
    assert seen(tmp_path).sections == {
        "Pages by depth": ["  0  1 page", "  1  2 pages", "  2  1 page"]
    }


@pytest.mark.parametrize("name", ["index", "other"])
def test_empty_site(seen: Callable[..., Report], tmp_path: Path, name: str) -> None:
    """An empty page is a page, and an empty folder is one too: its listing."""
    fill(tmp_path, **{name: ""})
    pages = {"index": ["  0  1 page"], "other": ["  0  1 page", "  1  1 page"]}
    assert seen(tmp_path).sections == {"Pages by depth": pages[name]}


def test_empty_folder(seen: Callable[..., Report], tmp_path: Path) -> None:
    """Of a folder without any file the listing is read."""
    told = seen(tmp_path)
    assert (told.code, told.err) == (0, "")
    assert told.sections == {"Pages by depth": ["  0  1 page"]}


def test_no_folder(seen: Callable[..., Report], tmp_path: Path) -> None:
    """What is no folder is refused with one line and the code 2."""
    told = seen(tmp_path / "gone")
    assert (told.code, told.out) == (2, "")
    assert told.err == f"error: {tmp_path / 'gone'} is no folder\n"


def test_loops(seen: Callable[..., Report], tmp_path: Path) -> None:
    """A page that links to itself, and pages that link in a circle, are read once."""
    fill(
        tmp_path,
        index=to("", ".", "/", "index.html", "./x/.././index.html", "../../index.html", "a.html"),
        a=to("b.html"),
        b=to("a.html"),
    )
    assert seen(tmp_path, "--depth", "50").sections == {
        "Pages by depth": ["  0  1 page", "  1  2 pages", "  2  1 page"]
    }


BROKEN_HTML = """<a href=first.html><!DOCTYPE <html <<<a href="good.html"<a href='also good.html'
<p <a href=bare.html>x</p></p></a></b><a
href="over
lines.html" href="second.html"></ a><A HREF=CAPITALS.html><![foo[ <![CDATA[ <!-- <a href="no.html">
"""


def test_broken_html(crawler: SimpleNamespace) -> None:
    """Wherever HTML breaks off, and however broken it is, the links before that are found."""
    for end in range(20, len(BROKEN_HTML)):
        assert crawler.pages.links_in(BROKEN_HTML[:end])[0] == "first.html"


@pytest.mark.parametrize("junk", ["<![foo[x]]>", "<!ENTITY % x>", "<?php", "<" * 50, "&#xD800;"])
def test_broken_declarations(seen: Callable[..., Report], tmp_path: Path, junk: str) -> None:
    """What stands before a broken declaration counts, and the other pages are read."""
    fill(tmp_path, index=f"{to('a.html')}{junk}", a=f"{to('b.html')}{junk}", b=junk)
    told = seen(tmp_path)
    assert (told.code, told.err) == (0, "")
    assert told.sections == {"Pages by depth": ["  0  1 page", "  1  1 page", "  2  1 page"]}


def test_bytes_that_are_no_text(seen: Callable[..., Report], tmp_path: Path) -> None:
    """A page that is no UTF-8, or no text at all, is read as far as it goes."""
    fill(tmp_path, a="")
    (tmp_path / "index.html").write_bytes(b"\xff\xfe\x00<a href='a.html'>\xff</a>" + os.urandom(99))
    pages = seen(tmp_path).sections["Pages by depth"]
    assert pages[0] == "  0  1 page"
    assert len(pages) == 2


ODD_NAMES = [
    "two words",
    "per%cent",
    "hash#tag",
    "question?",
    "Ünï😀",
    "amp&amp;",
    "<b>",
    '"quoted"',
    "it's",
    "semi;colon",
    "back\\slash",
    "new\nline",
    "\x1b[31mred",
    "\u202egnp",
    "a:b",
    "x" * 150,
]


def test_odd_names(seen: Callable[..., Report], tmp_path: Path) -> None:
    """Files of any name are found by the listing of their folder, each once."""
    for name in ODD_NAMES:
        (tmp_path / f"{name}.html").write_text("no link")
    told = seen(tmp_path)
    assert (told.code, told.err) == (0, "")
    assert told.sections == {
        "Pages by depth": ["  0  1 page", f"  1  {len(ODD_NAMES)} pages"],
    }


ODD_LINKS = [
    "http://[",
    "http://[::1",
    "//",
    "http://",
    "\x1b]0;title\x07",
    "\ttab",
    "javascript:alert(1)",
    "data:text/html,x",
    "http://user@127.0.0.1/",
    "http://127.0.0.1:99999999/",
    "?query only",
    "#",
    "%",
    "%zz",
    "ü ö",
    "\u202e",
    "a" * 600,
    "[brackets]",
    "x|y`z^",
]


def test_odd_links(seen: Callable[..., Report], tmp_path: Path) -> None:
    """Links of any form are asked for, counted as elsewhere, or reported as unusable."""
    fill(tmp_path, index=to(*ODD_LINKS, "good.html"), good="")
    told = seen(tmp_path)
    assert (told.code, told.err) == (0, "")
    assert all(line.isprintable() for line in told.out.splitlines())
    broken = told.sections["Broken links"]
    assert "http://[: not a usable address" in broken
    assert f"{'a' * 97}...: not a usable address" in broken
    assert "site/%C3%BC%20%C3%B6: 404 File not found" in broken
    assert "site/%zz: 404 File not found" in broken
    assert set(broken[1::2]) == {"    on site/, site/?query%20only"}


def test_growth_is_guarded(seen: Callable[..., Report], tmp_path: Path) -> None:
    """A level that is too large is refused as a whole; what was read before is reported."""
    fill(
        tmp_path,
        index=to("gone.html", "many.html"),
        many=to(*(f"page{number}.html" for number in range(40))),
    )
    told = seen(tmp_path, "--max-nodes", "45")
    assert (told.code, told.err) == (0, "")
    assert told.sections == {
        "Pages by depth": ["  0  1 page", "  1  1 page, 1 broken link"],
        "Broken links": ["site/gone.html: 404 File not found", "    on site/"],
        "Stopped by the guard (--max-nodes)": [
            "40 pages of depth 2: site/page0.html, site/page1.html, site/page10.html and 37 more",
            "    adding 41 makes 46 nodes in the graph: max_nodes is 45",
        ],
    }
    told = seen(tmp_path, "--max-nodes", "46")
    assert told.sections["Pages by depth"][2] == "  2  0 pages, 40 broken links"


def test_chain_without_end(crawler: SimpleNamespace) -> None:
    """Pages that link to one new page each, for ever, are stopped by the guard as well."""

    class Endless(crawler.loopback.Quiet):
        def do_GET(self) -> None:
            self.answer(200, to(f"/{int(self.path[1:] or 0) + 1}"), "text/html")

    with crawler.loopback.serving(Endless) as netloc:
        crawl = crawler.main.Crawl({netloc: 2}, max_depth=10**6, max_nodes=100)
        result = crawl.run(f"http://{netloc}/")
        sections = crawler.main.Report(result, {netloc: "site"}).sections()
    assert len(sections["Pages by depth"]) == 50
    [refused, why] = sections["Stopped by the guard (--max-nodes)"]
    assert refused == "1 page of depth 50: site/50"
    assert "adding 2 makes 102 nodes in the graph: max_nodes is 100" in why


# ---- servers ------------------------------------------------------------------------------------


@dataclass
class Fake:
    """A server's pages by path, or what to do instead; and how often each was asked for."""

    crawler: SimpleNamespace
    pages: dict[str, Any]

    def __post_init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def handler(self) -> Any:
        fake = self

        class Handler(self.crawler.loopback.Quiet):
            def do_GET(self) -> None:
                fake.asked[self.path] += 1
                page = fake.pages.get(self.path)
                if callable(page):
                    page(self)
                elif page is None:
                    self.answer(404, "no such page")
                else:
                    self.answer(200, page, "text/html")

        return Handler

    def crawl(self, depth: int = 9, per_host: int = 4) -> dagron.ExecutionResult:
        with self.crawler.loopback.serving(self.handler()) as self.netloc:
            limits = {self.netloc: per_host, "another host": 9}
            crawl = self.crawler.main.Crawl(limits, depth, 1000)
            result = crawl.run(f"http://{self.netloc}/")
        self.sections = self.crawler.main.Report(result, {self.netloc: "site"}).sections()
        return result


@pytest.fixture
def fake(crawler: SimpleNamespace) -> Callable[..., Fake]:
    return partial(Fake, crawler)


def answering(status: int, reason: str | None = None, **headers: str) -> Callable[[Any], None]:
    def answer(handler: Any) -> None:
        handler.send_response(status, reason)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()

    return answer


def writing(raw: bytes) -> Callable[[Any], None]:
    return lambda handler: handler.wfile.write(raw)


def test_no_page_is_fetched_twice(fake: Callable[..., Fake]) -> None:
    """However many pages link to a page, it is asked for once."""
    names = [f"/{number}" for number in range(12)]
    server = fake({"/": to(*names), **dict.fromkeys(names, to("/", *names, "/last")), "/last": ""})
    assert server.crawl().ok
    assert server.asked == dict.fromkeys(server.pages, 1)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_limit_per_host(fake: Callable[..., Fake], limit: int) -> None:
    """As many pages of a host are read at once as its limit says, and every page counts for it."""
    inside, meeting = Inside(), threading.Barrier(limit)

    def meet(handler: Any) -> None:
        with inside:
            meeting.wait(GUARD)
        handler.answer(200, "")

    names = [f"/{number}" for number in range(6)]
    server = fake({"/": to(*names), **dict.fromkeys(names, meet)})
    result = server.crawl(per_host=limit)
    assert result.ok
    assert inside.entered == 6
    assert inside.most == limit
    for path in ["/", *names]:
        assert result.dag.policy(f"http://{server.netloc}{path}").group == server.netloc


def test_hosts_do_not_wait_for_each_other(crawler: SimpleNamespace) -> None:
    """A host whose limit is reached holds up no other: pages of both are read at the same time."""
    meeting = threading.Barrier(2)

    def meet(handler: Any) -> None:
        meeting.wait(GUARD)
        handler.answer(200, "")

    second = Fake(crawler, {"/far": meet})
    with crawler.loopback.serving(second.handler()) as far:
        first = Fake(crawler, {"/": to("/near", f"http://{far}/far"), "/near": meet})
        with crawler.loopback.serving(first.handler()) as near:
            result = crawler.main.Crawl({near: 1, far: 1}, 3, 100).run(f"http://{near}/")
    assert result.ok
    assert result[f"http://{far}/far"].depth == 1


def test_other_hosts_are_not_visited(fake: Callable[..., Fake], crawler: SimpleNamespace) -> None:
    """A host without a limit is not part of the site, though it be on the same machine."""
    other = Fake(crawler, {"/": ""})
    with crawler.loopback.serving(other.handler()) as netloc:
        server = fake({"/": to(f"http://{netloc}/", f"https://{netloc}/")})
        assert server.crawl().ok
    assert other.asked == {}
    assert server.sections["Not followed"] == [f"2 links to {netloc}"]


def test_hanging_up(fake: Callable[..., Fake]) -> None:
    """A server that hangs up is asked three times, and a page that is missing once."""
    server = fake({"/": to("/second", "/third", "/never", "/gone")})

    def answer_at(attempt: int) -> Callable[[Any], None]:
        def answer(handler: Any) -> None:
            if server.asked[handler.path] == attempt:
                handler.answer(200, to("/behind"), "text/html")

        return answer

    server.pages |= {"/second": answer_at(2), "/third": answer_at(3), "/never": answer_at(4)}
    result = server.crawl()
    assert not result.ok
    asked = {"/": 1, "/second": 2, "/third": 3, "/never": 3, "/gone": 1, "/behind": 1}
    assert server.asked == asked
    said = "RemoteDisconnected: Remote end closed connection without response"
    assert server.sections["Read at a later attempt"] == [
        f"site/second: before that, {said}",
        f"site/third: before that, {said}",
    ]
    assert server.sections["Broken links"][4:] == [f"site/never: {said}", "    on site/"]


def test_no_server(crawler: SimpleNamespace) -> None:
    """A start page whose server is not there is reported, and nothing else is tried."""
    with closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))  # taken, and nobody listens
        netloc = "{}:{}".format(*nobody.getsockname())
        start = f"http://{netloc}/"
        result = crawler.main.Crawl({netloc: 1}, 3, 100).run(start)
    assert isinstance(result[start].error, ConnectionRefusedError)
    assert result[start].attempts == 3
    assert result["depth 0"].result == []
    assert list(result.node_results) == [start, "depth 0"]
    sections = crawler.main.Report(result, {netloc: "site"}).sections()
    assert sections["Pages by depth"] == ["  0  0 pages, 1 broken link"]


def test_start_page_that_is_missing(
    crawler: SimpleNamespace, seen: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the start page cannot be read the report says so, with the code 1."""
    handler = Fake(crawler, {}).handler()
    monkeypatch.setattr(crawler.main, "folder_handler", lambda folder: handler)
    told = seen(ROOT)
    assert (told.code, told.err) == (1, "")
    assert told.sections["Broken links"] == ["site/: 404 Not Found", "    where the crawl began"]


def test_redirects(fake: Callable[..., Fake]) -> None:
    """A redirection is a link like any other: it is followed within the site, and never twice."""
    server = fake(
        {
            "/": to("/old", "/round", "/away", "/nowhere", "/odd"),
            "/old": answering(301, Location="/new"),
            "/new": to("/gone"),
            "/round": answering(302, Location="/round"),
            "/away": answering(302, Location="http://example.org/"),
            "/nowhere": answering(302),
            "/odd": answering(308, Location="http://["),
        }
    )
    server.crawl()
    assert server.asked == dict.fromkeys(["/gone", *server.pages], 1)
    assert server.sections["Broken links"] == [
        "http://[: not a usable address",
        "    on site/odd",
        "site/gone: 404 Not Found",
        "    on site/new",
    ]
    assert server.sections["Not followed"] == ["1 link to example.org"]


HOSTILE_ANSWERS = {
    "/error": (answering(500, "\x1b[31mout of order"), "500 "),
    "/teapot": (answering(418), "418 I'm a Teapot"),
    "/empty": (answering(204), "204 No Content"),
    "/noise": (writing(b"\x00\x01\x02" * 100), "BadStatusLine: "),
    "/numbers": (writing(b"HTTP/1.0 99999 x\r\n\r\n"), "BadStatusLine: "),
    "/headers": (writing(b"HTTP/1.0 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n"), "HTTPException: "),
    "/line": (writing(b"HTTP/1.0 200 " + b"x" * 70_000 + b"\r\n\r\n"), "LineTooLong: "),
    "/short": (
        writing(b"HTTP/1.0 200 OK\r\nContent-Length: 99\r\n\r\nx"),
        "ConnectionAbortedError: the page was",
    ),
    "/status": (writing(b"ICY 200 OK\r\n\r\n"), "BadStatusLine: "),
}


def test_hostile_answers(fake: Callable[..., Fake]) -> None:
    """Whatever a server answers costs its own page only, and is reported with the page's name."""
    answers = {path: answer for path, (answer, _) in HOSTILE_ANSWERS.items()}
    server = fake({"/": to(*answers, "/good"), **answers, "/good": to("/end"), "/end": ""})
    result = server.crawl()
    broken = server.sections["Broken links"][::2]
    for line, (path, (_, why)) in zip(broken, sorted(HOSTILE_ANSWERS.items()), strict=True):
        assert line.startswith(f"site{path}: {why}")
    assert result[f"http://{server.netloc}/end"].status == "COMPLETED"


def test_hostile_words_are_shown_as_text(
    crawler: SimpleNamespace, seen: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a server says of a missing page reaches the terminal as text only."""
    pages = {"/": to("/x"), "/x": answering(500, "\x1b[31mred\x07")}
    handler = Fake(crawler, pages).handler()
    monkeypatch.setattr(crawler.main, "folder_handler", lambda folder: handler)
    told = seen(ROOT)
    assert told.sections["Broken links"][0] == "site/x: 500 \\x1b[31mred\\x07"


@pytest.mark.parametrize("kind", ["text/html; charset=x-unknown", "TEXT/HTML", "text/html;;"])
def test_odd_kinds_of_html(fake: Callable[..., Fake], kind: str) -> None:
    """What a server declares as HTML, in whatever way, is read as that."""

    def answer(handler: Any) -> None:
        answering(200, **{"Content-Type": kind})(handler)
        handler.wfile.write(to("/a").encode())

    server = fake({"/": answer, "/a": ""})
    assert server.crawl().ok
    assert server.asked["/a"] == 1


def test_large_page(
    fake: Callable[..., Fake], crawler: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a page without end a part is read, and the links in it count."""
    monkeypatch.setattr(crawler.pages, "LARGEST_PAGE", 1000)

    def pour(handler: Any) -> None:
        answering(200, **{"Content-Type": "text/html"})(handler)
        handler.wfile.write(to("/a").encode())
        try:
            while True:
                handler.wfile.write(b"." * 1000)
        except OSError:  # the client has hung up
            pass

    server = fake({"/": pour, "/a": ""})
    assert server.crawl().ok
    assert server.asked == {"/": 1, "/a": 1}


def test_ctrl_c(
    crawler: SimpleNamespace, seen: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends the program with 130 and one line, and the server ends with it."""

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(crawler.main, "fetch", interrupt)
    told = seen(ROOT / "examples")
    assert (told.code, told.err) == (130, "interrupted\n")


@pytest.mark.parametrize(
    "options", [["--depth", "-1"], ["--per-host", "0"], ["--max-nodes", "0"], ["--depth", "x"]]
)
def test_impossible_options(
    crawler: SimpleNamespace, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """An impossible number is refused with the code 2 before anything is served."""
    with pytest.raises(SystemExit) as caught:
        crawler.main.main(options)
    assert caught.value.code == 2
    assert f"argument {options[0]}: " in capsys.readouterr().err
