"""Which chain of nodes took the longest: pure, linear in the graph, and a loop, not a recursion."""

from collections.abc import Mapping

from dagron._graph import DAG
from dagron._node_result import NodeResult

# Starts are told by the wall clock and durations by another one: they may differ by so much.
SLACK = 0.001  # seconds, and as a share of the duration


def longest_chain(dag: DAG, results: Mapping[str, NodeResult]) -> list[str]:
    """Return the nodes that started, of the chain with the largest sum of durations."""
    sources = _sources(dag, results)
    targets: dict[str, list[str]] = {name: [] for name in results}
    for name, waited_for in sources.items():
        for source in waited_for:
            targets[source].append(name)
    left = {name: len(waited_for) for name, waited_for in sources.items()}
    before: dict[str, str] = {}
    length: dict[str, float] = {}  # of the longest chain that ends with the node
    ready = [name for name, count in left.items() if not count]
    for name in ready:  # which grows meanwhile
        length[name] = results[name].duration_seconds
        if sources[name]:
            before[name] = last = max(sources[name], key=length.__getitem__)
            length[name] += length[last]
        for target in targets[name]:
            left[target] -= 1
            if not left[target]:
                ready.append(target)
    # In the order of the results, whatever the order above: of equal ends, it is the first.
    end = max(filter(length.__contains__, results), key=length.__getitem__, default=None)
    chain = []
    while end is not None:
        chain.append(end)
        end = before.get(end)
    return [name for name in reversed(chain) if results[name].attempts]


def _sources(dag: DAG, results: Mapping[str, NodeResult]) -> dict[str, list[str]]:
    """Return for each node those that it waited for: it started when they had ended.

    A trigger may have let it start before, or a node may have added it while it ran.
    """
    dependencies = dag._graph.dependencies
    ends = {
        name: result.started_at + result.duration_seconds * (1 - SLACK) - SLACK
        for name, result in results.items()
        if result.started_at is not None
    }
    found = {}
    for name, result in results.items():
        sources = [source for source in dependencies[name] if source in results]
        adder = result.added_by
        if adder is not None and adder in results and adder not in sources:
            sources.append(adder)
        started = result.started_at
        if sources and started is not None:
            sources = [source for source in sources if ends.get(source, started) <= started]
        found[name] = sources
    return found
