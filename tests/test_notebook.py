"""A real notebook, executed by a real kernel in a process of its own: what its cells show."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from faults import GUARD
from pages import ROOT, blocks
from pictures import SVG, boxes_in, read_svg

EXTRA = "needs the extra: python -m pip install -e '.[notebook]'"
pytest.importorskip("nbclient", reason=EXTRA)
pytest.importorskip("ipykernel", reason=EXTRA)

EXECUTE = """
import sys, nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], 4)
NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[1])
"""


def shown(folder: Path, *cells: str) -> list[list[dict[str, Any]]]:
    """Execute a notebook of these cells, and return the outputs that its file has then."""
    notebook = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {},
        "cells": [
            {
                "id": f"cell{number}",
                "cell_type": "code",
                "source": source,
                "metadata": {"tags": ["raises-exception"]},
                "execution_count": None,
                "outputs": [],
            }
            for number, source in enumerate(cells)
        ],
    }
    path = folder / "page.ipynb"
    path.write_text(json.dumps(notebook))
    # The kernel keeps its files in the folder, and nothing of the user's settings counts.
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", EXECUTE, str(path)]
    ran = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=3 * GUARD
    )
    assert ran.returncode == 0, ran.stderr
    return [cell["outputs"] for cell in json.loads(path.read_text())["cells"]]


def text_of(output: dict[str, Any], kind: str) -> str:
    return "".join(output["data"][kind])


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """Those of a notebook with the first program of README.md, awaited in a cell of its own."""
    program = next(block.text for block in blocks(ROOT / "README.md") if block.language == "python")
    before, _, rest = program.partition("result = DynamicExecutor(")
    call, end, _ = rest.partition("\n})\n")
    assert ".execute_sync({" in call
    cell = f"await DynamicExecutor({call}{end}".replace(".execute_sync(", ".execute(")
    again = "DynamicExecutor(DAG()).execute_sync({})"
    return shown(
        tmp_path_factory.mktemp("notebook"), f"{before}dag", cell, "print(_.summary())", again
    )


def test_a_cell_shows_a_graph(outputs: list[list[dict[str, Any]]]) -> None:
    """A cell that ends with a graph shows its picture."""
    (output,) = outputs[0]
    picture = read_svg(text_of(output, "image/svg+xml"))
    names = {box.attrib["data-node"] for box in boxes_in(picture).values()}
    assert output["output_type"] == "execute_result"
    assert names == {"find", "total"}


def test_an_awaited_run_is_shown_by_its_picture_and_its_summary(
    outputs: list[list[dict[str, Any]]],
) -> None:
    """A cell that ends with `await executor.execute(tasks)` shows the picture of what the run came
    to and, below it, the summary; as plain text it is the result's `repr`.
    """
    (output,), (printed,) = outputs[1:3]
    page = ElementTree.fromstring(text_of(output, "text/html"))
    picture, summary = page
    assert output["output_type"] == "execute_result"
    assert picture.tag == f"{SVG}svg"
    names = {box.attrib["data-node"] for box in boxes_in(picture).values()}
    assert names == {"find", "count:haiku", "count:motto", "total"}
    assert (summary.tag, f"{summary.text}\n") == ("pre", "".join(printed["text"]))
    assert "all succeeded" in (summary.text or "")
    assert text_of(output, "text/plain").startswith("<ExecutionResult: 4 succeeded")
    assert output["data"].keys() == {"text/html", "text/plain"}


def test_a_blocking_run_says_what_to_write_in_a_notebook(
    outputs: list[list[dict[str, Any]]],
) -> None:
    """Where the loop of the notebook runs, `execute_sync` raises and says what to type instead."""
    (output,) = outputs[3]
    assert output["ename"] == "EventLoopRunningError"
    assert "help: write await executor.execute(tasks)" in output["evalue"]
