"""The page of a run, opened in Chromium: what a person sees, clicks and types there."""

import json
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import dagron
from dagron import DynamicModification, DynamicNodeSpec, ExecutionResult, NodePolicy, Retry
from pictures import HOSTILE

FLAGS = (
    *("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "disable-quic"),
    *("no-first-run", "disable-background-networking", "disable-component-update"),
    *("disable-sync", "window-size=1280,900"),
)
PAYLOADS = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    '"><svg onload=alert(1)>',
    "javascript:alert(1)",
    "'-alert(1)-'",
    "{{script}}",
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser without a window, one for all tests."""
    if find_spec("selenium") is None:
        pytest.skip("the extra 'browser' is not installed")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed")
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = browser
    for flag in FLAGS:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.set_capability("unhandledPromptBehavior", "ignore")
    chrome = Chrome(options, Service(driver))
    yield chrome
    chrome.quit()


class Opened:
    """A page in the browser."""

    def __init__(self, chrome: Any, path: Path) -> None:
        self.chrome = chrome
        self.url = path.as_uri()
        for log in ("browser", "performance"):
            chrome.get_log(log)
        chrome.get(self.url)

    def run(self, script: str, *arguments: object) -> Any:
        return self.chrome.execute_script(script, *arguments)

    def find(self, selector: str) -> Any:
        return self.chrome.find_element("css selector", selector)

    def all(self, selector: str) -> list[Any]:
        return self.chrome.find_elements("css selector", selector)

    def click(self, selector: str) -> None:
        element = self.find(selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def press(self, *keys: str) -> None:
        """Press keys by their names, or type a text, wherever the focus is."""
        from selenium.webdriver import ActionChains, Keys

        for key in keys:
            ActionChains(self.chrome, 0).send_keys(getattr(Keys, key, key)).perform()

    def node(self, where: str, name: str) -> str:
        """What finds the element of a node that is shown: in the graph, the timeline or the log."""
        if where == "entries":
            number = [node["name"] for node in self.data["nodes"]].index(name)
            return f'#entries tr[data-index="{number}"]'
        return f'#{where} .picture:not([hidden]) [data-node="{name}"]'

    @property
    def data(self) -> Any:
        return json.loads(self.run("return document.getElementById('data').textContent"))

    @property
    def drawer(self) -> str | None:
        """The text of the drawer, None while it is closed."""
        drawer = self.find("#drawer")
        return drawer.text if drawer.is_displayed() else None

    def faded(self, where: str) -> set[str]:
        """The nodes that the filter keeps back in a picture."""
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.dataset.node)"
        return set(self.run(script, f"#{where} .picture:not([hidden]) .out"))

    def told(self) -> set[str]:
        """The nodes of which the log tells."""
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)"
        return set(self.run(script, "#entries button.name"))

    def count(self, selector: str) -> int:
        return int(self.run("return document.querySelectorAll(arguments[0]).length", selector))

    def console(self) -> list[str]:
        """What the browser complains about: also of all that the page's policy forbids."""
        return [entry["message"] for entry in self.chrome.get_log("browser")]

    def requests(self, *, blocked: bool = False) -> list[str]:
        """What was asked for since the page was opened, or what of that its policy has blocked."""
        sent, failed = {}, []
        for entry in self.chrome.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            of = message["params"]
            if message["method"] == "Network.requestWillBeSent":
                sent[of["requestId"]] = of["request"]["url"]
            elif message["method"] == "Network.loadingFailed" and of["blockedReason"] == "csp":
                failed.append(of["requestId"])
        return [sent[id] for id in failed] if blocked else list(sent.values())

    def has_dialog(self) -> bool:
        from selenium.common.exceptions import NoAlertPresentException

        try:
            self.chrome.switch_to.alert.dismiss()
        except NoAlertPresentException:
            return False
        return True


@pytest.fixture
def opened(chromium: Any, tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    """Opens the page of a result; when the test is over, nothing was complained about or loaded."""
    pages = []

    def save_and_open(result: ExecutionResult, **options: Any) -> Opened:
        result.save_html(tmp_path / "run.html", **options)
        pages.append(Opened(chromium, tmp_path / "run.html"))
        return pages[-1]

    yield save_and_open
    for page in pages:
        assert page.console() == []
        assert page.requests() == [page.url]
        assert not page.has_dialog()


def nothing() -> None:
    """A task that does nothing."""


def parse() -> None:
    raise ValueError("line 7 has no date")


@pytest.fixture(scope="module")
def result() -> ExecutionResult:
    tries = []

    def load() -> dict[str, int]:
        tries.append(None)
        if len(tries) == 1:
            raise ConnectionError("try again")
        return {"rows": 3}

    def expand(name: str, result: object) -> DynamicModification:
        added = DynamicNodeSpec("exact", lambda: 1.5, ["load"], ["report"])
        return DynamicModification([added], remove_nodes=["fit"])

    dag = (
        dagron.DAG.builder()
        .add_edge("load", "fit")
        .add_edge("fit", "report")
        .add_edge("load", "parse")
        .add_edge("parse", "store")
        .build()
    )
    executor = dagron.DynamicExecutor(
        dag,
        expanders={"load": expand},
        policy=NodePolicy(retry=Retry(2, initial_delay=0, on=ConnectionError)),
    )
    return executor.execute_sync({**dict.fromkeys(dag, nothing), "load": load, "parse": parse})


@pytest.fixture(scope="module")
def large() -> ExecutionResult:
    """A run of two thousand nodes, of which one has failed."""

    def expand(name: str, result: object) -> DynamicModification:
        return DynamicModification(
            [
                DynamicNodeSpec(f"page {number}", nothing if number else parse, ["find"])
                for number in range(2_000)
            ]
        )

    dag = dagron.DAG.builder().add_node("find").build()
    executor = dagron.DynamicExecutor(dag, expanders={"find": expand})
    return executor.execute_sync({"find": nothing})


@pytest.mark.parametrize("where", ["graph", "timeline", "entries"])
def test_a_click_on_a_node_opens_its_drawer(
    opened: Callable[..., Opened], result: ExecutionResult, where: str
) -> None:
    """A box of the graph, a bar of the timeline and a row of the log tell the same of a node."""
    page = opened(result)
    assert page.drawer is None
    page.click(page.node(where, "load"))
    assert page.drawer is not None
    lines = page.drawer.splitlines()
    assert lines[0] == "load"
    assert "completed" in lines
    assert lines[lines.index("attempts") + 1] == "2"
    assert "Attempt 1 failed: ConnectionError: try again" in lines
    assert lines[lines.index("Result") + 1] == "{'rows': 3}"
    assert lines[lines.index("Has added") + 1] == "exact"
    assert page.count("#graph .picture:not([hidden]) .open") == 1


def test_a_failed_node_shows_its_traceback(
    opened: Callable[..., Opened], result: ExecutionResult
) -> None:
    """The drawer of a failed node has the traceback, and leads to the nodes that it cost."""
    page = opened(result)
    page.click(page.node("graph", "parse"))
    text = page.drawer or ""
    assert "Traceback (most recent call last):" in text
    assert f'File "{__file__}", line {parse.__code__.co_firstlineno + 1}, in parse' in text
    assert page.find("#drawer pre.failed").is_displayed()
    (feeds,) = [one for one in page.all("#drawer button.name") if one.text == "store"]
    feeds.click()
    lines = (page.drawer or "").splitlines()
    assert lines[0] == "store"
    assert "skipped because 'parse' failed" in lines


def test_one_filter_is_for_all(opened: Callable[..., Opened], result: ExecutionResult) -> None:
    """What is typed keeps back all other nodes: in the graph, the timeline and the log."""
    page = opened(result)
    everything = page.told()
    assert everything == {"load", "exact", "fit", "report", "parse", "store"}
    page.find("#text").send_keys("PARS")
    assert page.told() == {"parse"}
    assert page.faded("graph") == {"load", "exact", "fit", "report", "store"}
    assert page.faded("timeline") == {"load", "exact", "report"}
    assert page.find("#found").text == "1 of 6 nodes"
    faint = page.all("#graph .picture:not([hidden]) .faint")
    ends = {
        (edge.get_attribute("data-source"), edge.get_attribute("data-target")) for edge in faint
    }
    boxes = page.all("#graph .picture:not([hidden]) [data-node]")
    ids = {box.get_attribute("data-node"): box.get_attribute("data-id") for box in boxes}
    assert (ids["load"], ids["exact"]) in ends  # both ends are kept back
    assert not [end for both in ends for end in both if end == ids["parse"]]
    page.click("#clear")
    assert page.count(".faint") == 0
    assert page.told() == everything
    assert page.faded("graph") == page.faded("timeline") == set()


def test_the_filter_takes_states_and_families(
    opened: Callable[..., Opened], result: ExecutionResult
) -> None:
    """States are buttons, any number of which may be pressed; who added a node is a list."""
    page = opened(result)
    page.click('[data-state="FAILED"]')
    assert page.told() == {"parse"}
    page.click('[data-state="SKIPPED"]')
    assert page.told() == {"parse", "store"}
    assert page.find('[data-state="FAILED"]').get_attribute("aria-pressed") == "true"
    page.click('[data-state="FAILED"]')
    assert page.told() == {"store"}
    page.click("#clear")
    options = page.all("#family option")
    assert [option.text for option in options] == [
        "Added by anyone",
        "In the graph from the start (5)",
        "Added by load (1)",
    ]
    options[2].click()
    assert page.told() == {"exact"}


def test_the_graph_switches_between_before_and_after(
    opened: Callable[..., Opened], result: ExecutionResult
) -> None:
    """At first the graph is as it was at the end; a button shows it as it was written."""
    page = opened(result)

    def shown() -> set[str]:
        boxes = page.all("#graph .picture [data-node]")
        return {box.get_attribute("data-node") for box in boxes if box.is_displayed()}

    assert shown() == {"load", "exact", "fit", "report", "parse", "store"}
    assert page.find("#when").text == "as it was at the end"
    page.click("#before")
    assert shown() == {"load", "fit", "report", "parse", "store"}
    assert page.find("#when").text == "as it was written"
    assert page.find("#before").get_attribute("aria-pressed") == "true"
    page.click(page.node("graph", "fit"))
    assert "removed by" in (page.drawer or "")
    page.press("ESCAPE")
    page.click("#after")
    assert "exact" in shown()


def test_a_picture_looks_as_it_does_alone(
    chromium: Any, result: ExecutionResult, tmp_path: Path
) -> None:
    """On the page the style of one picture changes nothing in another one."""
    script = """
        const names = ["fill", "stroke", "strokeWidth", "strokeDasharray", "opacity"];
        return [...document.querySelectorAll(arguments[0])].map((element) => {
          const style = getComputedStyle(element);
          const font = element.tagName === "text" ? style.font : "";
          return [element.tagName, font, ...names.map((name) => style[name])].join(" ");
        });
    """
    result.save_html(tmp_path / "run.html")
    page = Opened(chromium, tmp_path / "run.html")
    in_graph = page.run(script, "#graph .picture:not([hidden]) svg *")
    in_timeline = page.run(script, "#timeline svg *")
    for text, seen in ((result.to_svg(), in_graph), (result.to_timeline_svg(), in_timeline)):
        (tmp_path / "alone.svg").write_text(text, encoding="utf-8")
        alone = Opened(chromium, tmp_path / "alone.svg")
        assert seen == alone.run(script, "svg > :not(style), svg > g *")


def test_keys_are_enough(opened: Callable[..., Opened], result: ExecutionResult) -> None:
    """Arrows lead from box to box, Enter opens the drawer, and Escape leads back to the box."""
    page = opened(result)
    boxes = page.all("#graph .picture:not([hidden]) [data-node]")
    second = boxes[1].get_attribute("data-node")
    page.run("arguments[0].focus()", boxes[0])
    page.press("ARROW_RIGHT", "ENTER")
    assert (page.drawer or "").splitlines()[0] == second
    assert page.run("return document.activeElement.id") == "drawer-title"
    page.press("ESCAPE")
    assert page.drawer is None
    assert page.run("return document.activeElement.dataset.node") == second
    tab_stops = page.all('#graph .picture:not([hidden]) [tabindex="0"]')
    assert [stop.get_attribute("data-node") for stop in tab_stops] == [second]


def test_a_folded_family_lists_its_nodes(
    opened: Callable[..., Opened], large: ExecutionResult
) -> None:
    """The box of a family opens a list of its nodes, each of which opens its own drawer."""
    page = opened(large)
    page.click("#graph .picture:not([hidden]) [data-fold]")
    assert (page.drawer or "").startswith("1,999 × page …")
    assert "and 1,699 more" in (page.drawer or "")
    page.all("#drawer button.name")[0].click()
    assert (page.drawer or "").splitlines()[0] == "page 1"


def test_two_thousand_nodes_are_no_burden(
    opened: Callable[..., Opened], large: ExecutionResult
) -> None:
    """With two thousand boxes, the filter and the log still do what they are for."""
    page = opened(large, fold=None)
    assert page.count("#graph .picture:not([hidden]) [data-index]") == 2_001
    page.find("#text").send_keys("page 1999")
    assert page.told() == {"page 1999"}
    assert (
        page.run("return document.querySelectorAll('#graph .picture:not([hidden]) .out').length")
        == 2_000
    )
    assert page.find(page.node("graph", "page 1999")).is_displayed()
    page.click("#clear")
    shown = page.count("#entries tr")
    page.click("#more")
    assert page.count("#entries tr") > shown
    page.click("#entries tr.added td > button:not(.name)")
    assert page.count("#entries tr.added") == 2_000


def test_a_hostile_page_is_text(opened: Callable[..., Opened], tmp_path: Path) -> None:
    """Payloads for names, errors and results open no dialog, and are what they are: text."""

    class Shown:
        def __init__(self, text: str) -> None:
            self.text = text

        def __repr__(self) -> str:
            return self.text

    def fail(text: str) -> None:
        raise ValueError(text)

    def expand(name: str, result: object) -> DynamicModification:
        new = [
            DynamicNodeSpec(f"new {text}"[:512], lambda text=text: fail(text), [name])
            for text in names
        ]
        return DynamicModification(new, remove_nodes=[names[-1]])

    names = [*PAYLOADS, *HOSTILE]
    adder = "<img src=y onerror=alert(2)>"
    builder = dagron.DAG.builder().add_node(adder)
    for name in dict.fromkeys(names):
        builder.add_node(name)
    tasks = {name: lambda name=name: Shown(name) for name in names}
    names = [*tasks]
    executor = dagron.DynamicExecutor(builder.build(), expanders={adder: expand}, max_concurrency=1)
    result = executor.execute_sync({**tasks, adder: nothing})
    page = opened(result, title=PAYLOADS[0], fold=None)
    assert page.find("h1").text == page.chrome.title == PAYLOADS[0]
    assert page.count("img, iframe, object, a, script") == 2
    boxes = page.run(
        """
        const seen = [];
        for (const box of document.querySelectorAll("#graph .picture:not([hidden]) [data-index]")) {
          box.dispatchEvent(new MouseEvent("click", { bubbles: true }));
          seen.push(document.getElementById("drawer-title").textContent);
        }
        return seen;
        """
    )
    assert sorted(boxes) == sorted(node["name"] for node in page.data["nodes"])
    page.find("#text").send_keys("<img src=x")
    assert PAYLOADS[0] in page.told()
    assert page.count("img, iframe, object, a, script") == 2


def test_what_would_get_in_all_the_same_does_not_run(
    chromium: Any, result: ExecutionResult, tmp_path: Path
) -> None:
    """The page's policy stops scripts, handlers and loads that are not the page's own."""
    path = tmp_path / "run.html"
    result.save_html(path)
    foreign = (
        "<script>document.title = 'hit'</script><img src='x.png' onerror=\"document.title='hit'\">"
        "<style>body { display: none }</style><p style='display: none' id='styled'>text</p>"
    )
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("<main>", f"<main>{foreign}"), encoding="utf-8")
    page = Opened(chromium, path)
    assert page.chrome.title != "hit"
    assert page.find("#styled").is_displayed()
    assert len(page.console()) >= 4
    assert page.requests(blocked=True) == [(tmp_path / "x.png").as_uri()]
    page.click(page.node("graph", "parse"))
    assert page.drawer is not None


def test_without_scripts_the_pictures_are_there(
    chromium: Any, result: ExecutionResult, tmp_path: Path
) -> None:
    """Where scripts are off, the graph and the timeline show, and no filter."""
    result.save_html(tmp_path / "run.html")
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page = Opened(chromium, tmp_path / "run.html")
        assert page.find('#graph .picture:not([hidden]) [data-node="exact"]').is_displayed()
        assert page.find('#timeline [data-node="exact"]').is_displayed()
        assert not page.find(".filter").is_displayed()
        assert page.console() == []
    finally:
        chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
