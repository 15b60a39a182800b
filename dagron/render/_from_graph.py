"""The picture of a graph as a value."""

from dagron._graph import DAG
from dagron.render._picture import Box, Picture, Sketch


def picture_of_graph(dag: DAG) -> Picture:
    """Return a picture with a box for each node and a link for each edge."""
    sketch = Sketch()
    conditions = dag._graph.conditions
    for name in dag._order:
        sketch.add_box(name, Box(name))
    for source in dag._order:
        conditional = conditions.get(source, ())
        for target in dag._graph.dependents[source]:
            sketch.add_link(source, target, has_condition=target in conditional)
    return sketch.arranged()
