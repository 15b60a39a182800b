"""Every block of README.md and docs/*.md is executed, and prints what the page says."""

import re
from pathlib import Path

import pytest

import dagron
from page_terminals import Terminals
from pages import (
    DOCS,
    PAGES,
    PICTURES,
    README,
    ROOT,
    Story,
    agree,
    blocks,
    drawn_here,
    files,
    missing_extra,
    run,
    stories,
    tell,
    terminal_blocks,
)

COMMANDS = [
    "python -m pip install -e . && python examples/etl_tables.py",
    'python -m pip install -e ".[test]" && python -m pytest',
]
REDRAW = "type python tests/pages.py to draw it anew, and look at it"
STORIES = [
    pytest.param(story, id=f"{story[0][0].file}:{story[0][0].line}")
    for page in PAGES
    for story in stories(page)
]
SERVICES = [pytest.param(page, id=page.name) for page in PAGES if files(page)]


def skip_without_extra(*texts: str) -> None:
    extra = missing_extra(*texts)
    if extra is not None:
        pytest.skip(f"the extra {extra!r} is not installed")


@pytest.mark.parametrize("story", STORIES)
def test_a_page_tells_what_happens(
    story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Python block of the documentation runs as it stands, prints what the page says, and draws
    the pictures that the page shows, byte by byte.
    """
    skip_without_extra(*(block.text for block, _ in story))
    monkeypatch.chdir(tmp_path)
    tell(story, {"__name__": "__main__"})
    for name, text in drawn_here().items():
        assert text == kept_picture(name), f"docs/pictures/{name} is another picture: {REDRAW}"


DURABLE = [story for story in STORIES if "durable.md" in str(story.id)]


@pytest.mark.parametrize("story", DURABLE)
def test_a_durable_program_can_be_executed_again(
    story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program of the page on durable runs, which leaves files, raises nothing when it is executed
    a second time in the same folder.
    """
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        names: dict[str, object] = {"__name__": "__main__"}
        for block, _ in story:
            run(block, names)


def kept_picture(name: str) -> str:
    return (PICTURES / name).read_text(encoding="utf-8")


def test_the_readme_shows_its_first_program() -> None:
    """The two pictures in README.md are those of its first program, before and after its run."""
    [[(block, _)], *_] = stories(README)
    names: dict[str, object] = {}
    run(block, names)
    result = names["result"]
    assert isinstance(result, dagron.ExecutionResult)
    assert result.to_svg("before") == kept_picture("before.svg"), REDRAW
    assert result.to_svg() == kept_picture("after.svg"), REDRAW
    shown = re.findall(r"\(docs/pictures/([\w.]+)\)", README.read_text(encoding="utf-8"))
    assert shown == ["before.svg", "after.svg"]


@pytest.mark.parametrize("page", SERVICES)
def test_a_page_serves_what_it_says(page: Path, tmp_path: Path) -> None:
    """The files of a page are a service: started by its command, asked by its `curl` commands and
    ended by Ctrl-C, its terminals show what the page shows.
    """
    written = files(page)
    skip_without_extra(*written.values())
    for name, text in written.items():
        (tmp_path / name).write_text(text.replace("port=8080", "port=0"))
    with Terminals(tmp_path) as terminals:
        for block in terminal_blocks(page):
            terminals.show(block)
    assert terminals.status in (0, 1) if terminals.asked else terminals.status is None


def test_the_readme_shows_a_program_and_its_output() -> None:
    """README.md has Python blocks, and at least one is followed by what it prints."""
    told = [pair for story in stories(README) for pair in story]
    assert told
    assert any(output is not None for _, output in told)


def test_the_readme_holds_the_two_commands() -> None:
    """The newcomer's two commands stand in README.md, each on a line of its own in a block."""
    lines = [
        line.removeprefix("$ ")
        for block in blocks(README)
        if block.language != "python"
        for line in block.text.splitlines()
    ]
    installing = [line for line in lines if re.match(r"python -m pip install .*&& ", line)]
    assert installing == COMMANDS


LINK = re.compile(r"\]\(([^)\s#]+)(?:#([^)\s]*))?\)|<img[^>]* src=\"([^\"]+)\"")


def anchors(page: Path) -> set[str]:
    """The anchors that headings have on GitHub."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES]
)
def test_links_lead_somewhere(page: Path) -> None:
    """A link or an image on a page that names a file of the repository names one that is there, and
    a heading that it has.
    """
    for found in LINK.finditer(page.read_text(encoding="utf-8")):
        target = found[1] or found[3]
        if target.startswith(("http:", "https:")):
            continue
        path = page.parent / target
        assert path.exists(), f"{page.name}: {target}"
        if found[2]:
            assert found[2] in anchors(path), f"{page.name}: {found[0]}"


def test_all_pages_are_in_the_index() -> None:
    """docs/README.md links to every other page, and README.md to it."""
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    pages = {page.name for page in DOCS.glob("*.md")} - {"README.md"}
    assert pages == set(re.findall(r"\(([\w-]+\.md)\)", index))
    assert "](docs/" in README.read_text(encoding="utf-8")


# --- how pages are read ---------------------------------------------------------------------------

PAGE = """
Before.
```python
import asyncio
x = await asyncio.sleep(0, 3)
print("x is", x)
```
```text
x is ...
```
```sh
ls
```
```python
# continued
print(x + 1)
```
```text
4
```
```python
# app.py
a = 1
```
```python
y = 1
```
```python
# app.py, continued
b = 2
```
```console
$ curl localhost:8000
one
two
$ python try.py
^C
three
```
"""


def test_blocks_are_told_apart(tmp_path: Path) -> None:
    """A continuation shares names, an output belongs to the block before, `...` fits anything."""
    (tmp_path / "page.md").write_text(PAGE)
    first, second = stories(tmp_path / "page.md")
    names: dict[str, object] = {}
    assert [output for _, output in first] == ["x is ...\n", "4\n"]
    assert [run(block, names) for block, _ in first] == ["x is 3\n", "4\n"]
    assert [output for _, output in second] == [None]
    assert agree("x is ...\n", "x is 3\n")
    assert not agree("4\n", "5\n")


def test_files_and_terminals_are_told_apart(tmp_path: Path) -> None:
    """The parts of a file are put together, and the commands of a terminal have their outputs."""
    (tmp_path / "page.md").write_text(PAGE)
    assert files(tmp_path / "page.md") == {
        "app.py": "# app.py\na = 1\n\n# app.py, continued\nb = 2\n\n"
    }
    assert blocks(tmp_path / "page.md")[-1].commands() == [
        ("curl localhost:8000", "one\ntwo\n"),
        ("python try.py", ""),
        ("^C", "three\n"),
    ]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra of what a program imports is named where it is missing, and only there."""
    monkeypatch.setattr("pages.find_spec", lambda name: None)
    assert missing_extra("import dagron", "import os\nfrom fastapi import FastAPI") == "services"
    assert missing_extra("import dagron") is None
    monkeypatch.setattr("pages.find_spec", lambda name: name)
    assert missing_extra("import stamina") is None


def test_an_error_points_into_the_page(tmp_path: Path) -> None:
    """A block that raises fails the test with the line of the page."""
    (tmp_path / "page.md").write_text("text\n```python\n\n1 / 0\n```\n")
    [[(block, _)]] = stories(tmp_path / "page.md")
    with pytest.raises(ZeroDivisionError) as caught:
        run(block, {})
    assert caught.traceback[-1].lineno + 1 == 4
