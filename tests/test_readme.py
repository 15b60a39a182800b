"""Every Python block of README.md and docs/*.md runs, and prints what the text block says."""

import ast
import asyncio
import doctest
import inspect
import io
import re
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"

COMMANDS = [
    "python -m pip install -e . && python examples/etl_tables.py",
    'python -m pip install -e ".[test]" && python -m pytest',
]


@dataclass(frozen=True)
class Block:
    """A fenced block: what it is written in, its lines, and where in the file they begin."""

    language: str
    text: str
    file: str
    line: int

    @property
    def continues(self) -> bool:
        return self.language == "python" and self.text.startswith("# continued")


def blocks(path: Path) -> list[Block]:
    found = []
    fence, language, start = "", "", 0
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        if not fence and (opening := re.match(r"(`{3,}|~{3,})\s*(\S*)", line)):
            fence, language, start = opening[1], opening[2], number
        elif fence and re.fullmatch(re.escape(fence) + r"\s*", line):
            text = "\n".join(lines[start : number - 1]) + "\n"
            found.append(Block(language, text, path.name, start + 1))
            fence = ""
    assert not fence, f"{path.name}:{start}: a code block that never ends"
    return found


def stories(path: Path) -> list[list[tuple[Block, str | None]]]:
    """The Python blocks with their expected outputs, each together with those that continue it.

    The expected output of a block is the `text` block that is the next block after it.
    """
    told: list[list[tuple[Block, str | None]]] = []
    here = blocks(path)
    for block, after in zip(here, [*here[1:], None], strict=True):
        if block.language != "python":
            continue
        output = after.text if after and after.language == "text" else None
        if block.continues:
            assert told, f"{block.file}:{block.line}: continues nothing"
            told[-1].append((block, output))
        else:
            told.append([(block, output)])
    return told


def run(block: Block, names: dict[str, object]) -> str:
    """What the block prints; one with a top-level `await` runs in an event loop."""
    # Empty lines before it, so that a traceback points into the page.
    source = "\n" * (block.line - 1) + block.text
    code = compile(source, block.file, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    with redirect_stdout(io.StringIO()) as printed:
        value = eval(code, names)
        if code.co_flags & inspect.CO_COROUTINE:
            asyncio.run(value)
    return printed.getvalue()


def agree(expected: str, printed: str) -> bool:
    """Equal, where `...` on the page stands for anything, as in a doctest: a duration, say."""
    return doctest.OutputChecker().check_output(expected, printed, doctest.ELLIPSIS)


PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
STORIES = [
    pytest.param(story, id=f"{story[0][0].file}:{story[0][0].line}")
    for page in PAGES
    for story in stories(page)
]


@pytest.mark.parametrize("story", STORIES)
def test_a_page_tells_what_happens(
    story: list[tuple[Block, str | None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Python block of the documentation runs as it stands and prints what the page says."""
    if any("import stamina" in block.text for block, _ in story) and not find_spec("stamina"):
        pytest.skip("the extra 'docs' is not installed")
    if any("ProcessRunner(" in block.text for block, _ in story) and not find_spec("cloudpickle"):
        pytest.skip("the extra 'process' is not installed")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for block, expected in story:
        printed = run(block, names)
        if expected is not None:
            where = f"{block.file}:{block.line}"
            assert agree(expected, printed), f"{where} prints\n{printed}\nand not\n{expected}"


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
y = 1
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


def test_an_error_points_into_the_page(tmp_path: Path) -> None:
    """A block that raises fails the test with the line of the page."""
    (tmp_path / "page.md").write_text("text\n```python\n\n1 / 0\n```\n")
    [[(block, _)]] = stories(tmp_path / "page.md")
    with pytest.raises(ZeroDivisionError) as caught:
        run(block, {})
    assert caught.traceback[-1].lineno + 1 == 4
