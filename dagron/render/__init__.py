"""Pictures of graphs and of runs: Mermaid, DOT and SVG, without any dependency."""

from dagron.render._dot import to_dot
from dagron.render._from_graph import picture_of_graph
from dagron.render._from_result import picture_of_result
from dagron.render._mermaid import to_mermaid
from dagron.render._notebook import html_for_notebook, svg_for_notebook
from dagron.render._svg import to_svg

__all__ = [
    "html_for_notebook",
    "picture_of_graph",
    "picture_of_result",
    "svg_for_notebook",
    "to_dot",
    "to_mermaid",
    "to_svg",
]
