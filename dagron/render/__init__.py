"""Pictures, traces and pages of graphs and of runs, without any dependency."""

from dagron.render._dot import to_dot
from dagron.render._from_graph import picture_of_graph
from dagron.render._from_result import picture_of_result
from dagron.render._html import save_html
from dagron.render._mermaid import to_mermaid
from dagron.render._notebook import html_for_notebook, svg_for_notebook
from dagron.render._svg import to_svg
from dagron.render._timeline import to_timeline_svg
from dagron.render._trace import to_chrome_trace

__all__ = [
    "html_for_notebook",
    "picture_of_graph",
    "picture_of_result",
    "save_html",
    "svg_for_notebook",
    "to_chrome_trace",
    "to_dot",
    "to_mermaid",
    "to_svg",
    "to_timeline_svg",
]
