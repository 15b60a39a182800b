"""Read one page of a web site and sort its links, with nothing but the standard library."""

from collections.abc import Collection, Iterable
from contextlib import closing
from dataclasses import dataclass
from html.parser import HTMLParser
from http.client import HTTPConnection
from urllib.parse import quote, urljoin, urlsplit

LONGEST_URL = 500  # characters; the name of a node may be 512 long
LARGEST_PAGE = 2_000_000  # bytes


@dataclass(frozen=True)
class Page:
    """The links of a page, each once, by what can be done with them."""

    links: tuple[str, ...] = ()  # addresses within the site: to be followed
    elsewhere: tuple[str, ...] = ()
    unusable: tuple[str, ...] = ()


class BrokenLinkError(Exception):
    """The server has no page at this address."""


def fetch(url: str, hosts: Collection[str]) -> Page:
    """Return what is at an address; `hosts` are those that make up the site.

    Raises BrokenLinkError, ConnectionError, and what else http.client raises.
    """
    with closing(HTTPConnection(host(url), timeout=20)) as connection:
        connection.request("GET", url.removeprefix(f"http://{host(url)}"))
        with connection.getresponse() as response:
            body = response.read(LARGEST_PAGE)
            if response.length and len(body) < LARGEST_PAGE:
                raise ConnectionAbortedError("the page was cut off")
    if 300 <= response.status < 400:
        return sorted_links(url, [response.getheader("Location", "")], hosts)
    if response.status != 200:
        raise BrokenLinkError(f"{response.status} {response.reason}")
    if response.headers.get_content_type() != "text/html":
        return Page()
    return sorted_links(url, links_in(body.decode(errors="replace")), hosts)


def sorted_links(base: str, links: Iterable[str], hosts: Collection[str]) -> Page:
    within, elsewhere, unusable = {}, {}, {}
    for link in links:
        try:
            url = address(base, link)
        except ValueError:
            unusable[link] = None
            continue
        if not url.startswith("http://") or host(url) not in hosts:
            elsewhere[url] = None
        elif len(url) > LONGEST_URL:
            unusable[link] = None
        else:
            within[url] = None
    return Page(tuple(within), tuple(elsewhere), tuple(unusable))


def address(base: str, link: str) -> str:
    """Return the address to which a link on the page `base` leads. Raises ValueError if to none."""
    parts = urlsplit(urljoin(base, link))._replace(fragment="")
    if parts.netloc and not parts.path:
        parts = parts._replace(path="/")
    return quote(parts.geturl(), safe="%/:=&?~#+!$,;'@()*[]")


def host(url: str) -> str:
    return urlsplit(url).netloc


class LinkParser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: dict[str, None] = {}

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("href", "src") and value is not None:
                self.links[value] = None


def links_in(html: str) -> list[str]:
    parser = LinkParser()
    try:
        parser.feed(html)
        parser.close()
    except AssertionError:  # how the parser gives up on a broken declaration: what it found counts
        pass
    return list(parser.links)
