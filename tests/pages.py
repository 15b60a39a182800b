"""The pages of the documentation: their blocks, and how each kind of them is executed.

- A `python` block is a program; one that begins with `# continued` goes on with the one before it.
  The `text` block after it is its output.
- A `python` block that begins with `# app.py`, say, or with `# app.py, continued`, is that file, or
  more of it.
- A `console` block is a terminal: commands behind `$ `, each with its output. The `text` block
  after it is what a server that was started in one prints meanwhile.

In outputs `...` stands for what varies. The pictures that a program writes are those in
docs/pictures; `python tests/pages.py` draws them anew.
"""

import ast
import asyncio
import doctest
import inspect
import io
import re
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise, zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PICTURES = DOCS / "pictures"
PAGES = [README, *sorted(DOCS.glob("*.md"))]

# The extra of this project that has what a page imports beside dagron.
EXTRAS = {
    "aiohttp": "services",
    "fastapi": "services",
    "opentelemetry": "docs",
    "rich": "progress",
    "stamina": "docs",
    "uvicorn": "services",
}


# What a runner needs, and the extra that has it.
RUNNERS = {"ProcessRunner": ("cloudpickle", "process"), "DaskRunner": ("distributed", "dask")}


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

    @property
    def file_name(self) -> str | None:
        """The name of the file that it is, or is a part of."""
        found = re.match(r"# (\w+\.py)(, continued)?\n", self.text)
        return found[1] if found and self.language == "python" else None

    @property
    def is_program(self) -> bool:
        return self.language == "python" and self.file_name is None

    def commands(self) -> list[tuple[str, str]]:
        """The commands of a terminal, each with the output that the page shows."""
        said: list[tuple[str, str]] = []
        for line in self.text.splitlines(keepends=True):
            if line.startswith("$ ") or line == "^C\n":
                said.append((line.removeprefix("$ ").rstrip("\n"), ""))
            else:
                assert said, f"{self.file}:{self.line}: a terminal begins with a command"
                said[-1] = (said[-1][0], said[-1][1] + line)
        return said


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


Story = list[tuple[Block, str | None]]


def stories(path: Path) -> list[Story]:
    """The programs with their expected outputs, each together with those that continue it.

    The expected output of a block is the `text` block that is the next block after it.
    """
    told: list[Story] = []
    here = blocks(path)
    for block, after in zip_longest(here, here[1:]):
        if not block.is_program:
            continue
        output = after.text if after and after.language == "text" else None
        if block.continues:
            assert told, f"{block.file}:{block.line}: continues nothing"
            told[-1].append((block, output))
        else:
            told.append([(block, output)])
    return told


def files(path: Path) -> dict[str, str]:
    """The files that the page writes, their parts put together."""
    written: dict[str, str] = {}
    for block in blocks(path):
        if (name := block.file_name) is not None:
            written[name] = f"{written.get(name, '')}{block.text}\n"
    return written


def terminal_blocks(path: Path) -> list[Block]:
    """The terminals of a page, and the texts after them: what a server prints meanwhile."""
    here = blocks(path)
    return [
        block
        for before, block in pairwise([None, *here])
        if block.language == "console"
        or (block.language == "text" and before and before.language == "console")
    ]


def missing_extra(*texts: str) -> str | None:
    """The extra that has what these programs import, and is not installed."""
    for text in texts:
        for module in re.findall(r"^\s*(?:import|from) (\w+)", text, re.MULTILINE):
            if module in EXTRAS and not find_spec(module):
                return EXTRAS[module]
        for runner, (module, extra) in RUNNERS.items():
            if f"{runner}(" in text and not find_spec(module):
                return extra
    return None


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


def tell(story: Story, names: dict[str, object]) -> None:
    """Run a story in the current folder; it prints what the page says."""
    for block, expected in story:
        printed = run(block, names)
        if expected is not None:
            where = f"{block.file}:{block.line}"
            assert agree(expected, printed), f"{where} prints\n{printed}\nand not\n{expected}"


def drawn_here() -> dict[str, str]:
    """The pictures in the current folder, by their names."""
    return {path.name: path.read_text(encoding="utf-8") for path in Path().glob("*.svg")}


def agree(expected: str, printed: str) -> bool:
    """Equal, where `...` on the page stands for anything, as in a doctest: a duration, say."""
    return doctest.OutputChecker().check_output(expected, printed, doctest.ELLIPSIS)


def draw_all() -> None:
    """Draw the pictures of the documentation anew."""
    for page in PAGES:
        for story in stories(page):
            if ".svg" in "".join(block.text for block, _ in story):
                with TemporaryDirectory() as folder, chdir(folder):
                    names: dict[str, object] = {}
                    for block, _ in story:
                        run(block, names)
                    for name, text in drawn_here().items():
                        (PICTURES / name).write_text(text, encoding="utf-8")
                        print(PICTURES / name)


if __name__ == "__main__":
    draw_all()
