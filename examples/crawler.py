"""Crawl a web site level by level, as a graph that grows by what it reads; report broken links.

    python examples/crawler.py                        # a site that is built from this Python
    python examples/crawler.py docs/_build/html       # a folder of HTML pages of your own
    python examples/crawler.py --depth 2 --per-host 1

The site is served on 127.0.0.1 by this program; links to anywhere else are not followed. The graph
begins with the start page and the node `depth 0`, which waits for it and gathers its links. The
expander of `depth 0` adds a node for each of them, and `depth 1`, which waits for those; and so on:

    / --> depth 0 --+--> /json.html ------+--> depth 1 --+--> ...
                    +--> /?year=1991&... -+              +--> ...

So the depth of a page is its distance from the start, however fast the pages come. And one expander
runs at a time: a link that is not in the graph by then is new, and no page is fetched twice.

What is shown: a limit for each host (`limits` and `NodePolicy(group=...)`); a retry when a server
hangs up; nodes that fail and do not stop the rest (`all_done`); and a guard against sites that have
no end: `max_nodes` refuses the level that is too large, and what was read before is reported.

Exit codes: 0, the site was read (broken links are findings); 1, its start page could not be read;
2, there is no such folder.
"""

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from _loopback import folder_handler, serving
from _pages import BrokenLinkError, Page, fetch, host
from _python_site import calendar_handler, write_documentation
from _terminal import count, natural, positive, visible

import dagron

RETRY = dagron.Retry(attempts=3, on=ConnectionError, initial_delay=0.1)  # seconds

# ---- the graph ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Crawl:
    limits: Mapping[str, int]  # how many pages of each host at once; no other host is visited
    max_depth: int
    max_nodes: int

    def run(self, start: str, backend: str = "asyncio") -> dagron.ExecutionResult:
        dag = (
            dagron.DAG.builder()
            .add_node(start, policy=dagron.NodePolicy(group=host(start)))
            .add_node("depth 0", policy=dagron.NodePolicy(trigger=dagron.all_done))
            .add_edge(start, "depth 0")
            .build()
        )
        executor = dagron.DynamicExecutor(
            dag,
            expanders={"depth 0": partial(self.follow, 0)},
            limits=self.limits,
            max_workers=sum(self.limits.values()),
            max_nodes=self.max_nodes,
            policy=dagron.NodePolicy(timeout=60, retry=RETRY),
        )
        tasks = {start: partial(fetch, start, self.limits), "depth 0": self.gather}
        return executor.execute_sync(tasks, backend=backend)

    def gather(self, inputs: Mapping[str, Page]) -> list[str]:
        """All links of one level. A page that could not be read is not among the inputs."""
        return sorted({link for page in inputs.values() for link in page.links})

    def follow(
        self, depth: int, name: str, links: list[str], graph: dagron.DAG
    ) -> dagron.DynamicModification | None:
        """After a level: a node for each link that is new, and one to gather the next level."""
        new = [link for link in links if link not in graph]
        if not new or depth == self.max_depth:
            return None
        pages = [
            dagron.DynamicNodeSpec(
                name=link,
                task=partial(fetch, link, self.limits),
                dependencies=[name],
                policy=dagron.NodePolicy(group=host(link)),
            )
            for link in new
        ]
        level = dagron.DynamicNodeSpec(
            name=f"depth {depth + 1}",
            task=self.gather,
            dependencies=new,
            expander=partial(self.follow, depth + 1),
            policy=dagron.NodePolicy(trigger=dagron.all_done),
        )
        return dagron.DynamicModification(add_nodes=[*pages, level])


# ---- the report ---------------------------------------------------------------------------------


class Report:
    """What came of a crawl; `hosts` maps each host to the name under which it is shown."""

    def __init__(self, result: dagron.ExecutionResult, hosts: Mapping[str, str]) -> None:
        nodes = result.node_results
        self.hosts = hosts
        self.pages = {url: node for url, node in nodes.items() if url.startswith("http://")}
        self.levels = [node for name, node in nodes.items() if name not in self.pages]
        self.read = {
            url: node.result for url, node in self.pages.items() if node.status == "COMPLETED"
        }

    def sections(self) -> dict[str, list[str]]:
        return {
            "Pages by depth": list(self.by_depth()),
            "Broken links": list(self.broken()),
            "Stopped by the guard (--max-nodes)": list(self.refused()),
            "Not followed": list(self.not_followed()),
            "Read at a later attempt": list(self.retried()),
        }

    def by_depth(self) -> Iterator[str]:
        pages = Counter(node.depth for node in self.pages.values())
        read = Counter(self.pages[url].depth for url in self.read)
        for depth in sorted(pages):
            broken = pages[depth] - read[depth]
            text = f", {count(broken, 'broken link')}" if broken else ""
            yield f"{depth:>3}  {count(read[depth], 'page')}{text}"

    def broken(self) -> Iterator[str]:
        why = {url: reason(node) for url, node in self.pages.items() if url not in self.read}
        pages = defaultdict(list)
        for url, page in self.read.items():
            why |= dict.fromkeys(page.unusable, "not a usable address")
            for link in page.links + page.unusable:
                pages[link].append(self.shown(url))
        for link in sorted(why, key=self.shown):
            yield f"{self.shown(link)}: {why[link]}"
            yield f"    on {some(pages[link])}" if pages[link] else "    where the crawl began"

    def refused(self) -> Iterator[str]:
        for level in self.levels:
            if isinstance(level.error, dagron.ModificationError):
                yield self.beyond(level)
                yield f"    {level.error.faults[0].message}"

    def not_followed(self) -> Iterator[str]:
        last = self.levels[-1]
        if last.status == "COMPLETED" and any(link not in self.pages for link in last.result):
            yield f"{self.beyond(last)} (--depth)"
        elsewhere = {link for page in self.read.values() for link in page.elsewhere}
        if elsewhere:
            yield f"{count(len(elsewhere), 'link')} to {some({place(link) for link in elsewhere})}"

    def beyond(self, level: dagron.NodeResult) -> str:
        new = [self.shown(link) for link in level.result if link not in self.pages]
        return f"{count(len(new), 'page')} of depth {level.depth + 1}: {some(new)}"

    def retried(self) -> Iterator[str]:
        for url in sorted(self.read, key=self.shown):
            if errors := self.pages[url].errors:
                yield f"{self.shown(url)}: before that, {described(errors[0])}"

    def shown(self, url: str) -> str:
        for netloc, name in self.hosts.items():
            if url.startswith(f"http://{netloc}/"):
                url = name + url.removeprefix(f"http://{netloc}")
        return url if len(url) <= 100 else f"{url[:97]}..."


def reason(node: dagron.NodeResult) -> str:
    if isinstance(node.error, BrokenLinkError):
        return str(node.error)
    return described(node.error) if node.error else str(node.reason)


def described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def place(url: str) -> str:
    parts = urlsplit(url)
    return parts.netloc or f"{parts.scheme}:"


def some(names: Collection[str]) -> str:
    text = ", ".join(sorted(names)[:3])
    return f"{text} and {len(names) - 3:,} more" if len(names) > 3 else text


# ---- the command --------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.folder and not options.folder.is_dir():
        print(f"error: {visible(options.folder)} is no folder", file=sys.stderr)
        return 2
    try:
        with site(options.folder) as hosts:
            return crawl(hosts, options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def crawl(hosts: Mapping[str, str], options: argparse.Namespace) -> int:
    for netloc, name in hosts.items():
        print(f"{name} is http://{netloc}, {count(options.per_host, 'page')} at once")
    start = f"http://{next(iter(hosts))}/"
    limits = dict.fromkeys(hosts, options.per_host)
    max_nodes = options.max_nodes or (10_000 if options.folder else 120)
    result = Crawl(limits, options.depth, max_nodes).run(start, options.backend)
    for title, lines in Report(result, hosts).sections().items():
        if lines:
            print(f"\n{title}", *map(visible, lines), sep="\n  ")
    return 0 if result[start].status == "COMPLETED" else 1


@contextmanager
def site(folder: Path | None) -> Iterator[dict[str, str]]:
    """Serve a site during the block, which is given its hosts and their names."""
    with ExitStack() as stack:
        if folder:
            yield {stack.enter_context(serving(folder_handler(folder))): "site"}
            return
        folder = Path(stack.enter_context(TemporaryDirectory()))
        calendar = stack.enter_context(serving(calendar_handler()))
        write_documentation(folder, calendar)
        yield {stack.enter_context(serving(folder_handler(folder))): "docs", calendar: "calendar"}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Crawl a web site and report its broken links.")
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        type=Path,
        help="a folder of HTML pages (default: a site that is built from this Python)",
    )
    parser.add_argument(
        "--depth",
        metavar="N",
        type=natural,
        default=5,
        help="how many links away from the start page to go (default: 5)",
    )
    parser.add_argument(
        "--per-host",
        metavar="N",
        type=positive,
        default=4,
        help="pages of each host to read at once (default: 4)",
    )
    parser.add_argument(
        "--max-nodes",
        metavar="N",
        type=positive,
        help="the most nodes that the graph may have (default: 10,000; 120 for the built site)",
    )
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a server may say what the terminal lacks
    sys.exit(main())
