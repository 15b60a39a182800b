"""What the cells of notebooks show of graphs and of runs."""

from dagron.render._picture import Picture
from dagron.render._svg import to_svg
from dagron.render._text import xml

# A notebook keeps all that it shows, in its file, too.
MOST_BOXES = 500

# Notebooks look for formulas between dollar signs, but not in what has these classes.
_NO_FORMULAS = "tex2jax_ignore mathjax_ignore"


def svg_for_notebook(picture: Picture) -> str:
    """Return the picture, of at most 500 boxes."""
    return to_svg(picture, MOST_BOXES)


def html_for_notebook(picture: Picture, text: str) -> str:
    """Return a piece of a page: the picture, of at most 500 boxes, with a text below it."""
    drawn = svg_for_notebook(picture)
    lines = "\n".join(map(xml, text.split("\n")))
    return f'<div class="{_NO_FORMULAS}">\n{drawn}<pre>{lines}</pre>\n</div>\n'
