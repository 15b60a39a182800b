"""What an expander returns: nodes and edges to add and to remove."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any, TypeAlias

from dagron._edge import Edge
from dagron._names import MAX_NAME_LENGTH, checked_name, names_in, uncallable
from dagron._policy import NodePolicy, checked_policy
from dagron._value import Value, setter

NONE: tuple[Any, ...] = ()  # compared by identity: what arrays answer to `==` is no bool


class DynamicNodeSpec(Value):
    """A node to add to a running graph: its name, its task and the edges to and from it.

    ``dependencies`` names the nodes that it waits for, ``dependents`` the nodes that will wait for
    it; both are copied into lists. Any of them may be added by the same modification, in any order.
    ``task`` is any callable (see `DynamicExecutor.execute`), ``expander`` one that is called with
    this node's name and result when it has finished, and ``policy`` says how it is run. Two specs
    are equal when everything but their tasks is: callables made by the same code have no comparable
    identity. For a condition on an edge, leave its end out here and use ``add_edges``.

    Raises `TypeError` for a task or an expander that cannot be called and for a bare string in
    place of a list, `InvalidNameError` for an impossible name.
    """

    __slots__ = _fields = ("name", "task", "dependencies", "dependents", "expander", "policy")
    _compared = ("name", "dependencies", "dependents", "expander", "policy")

    name: str
    task: Callable[..., Any]
    dependencies: list[str]
    dependents: list[str]
    expander: "ExpanderFunction | None"
    policy: NodePolicy | None

    def __init__(
        self,
        name: str,
        task: Callable[..., Any],
        dependencies: Iterable[str] = NONE,
        dependents: Iterable[str] = NONE,
        *,
        expander: "ExpanderFunction | None" = None,
        policy: NodePolicy | None = None,
    ) -> None:
        if not (type(name) is str and 0 < len(name) <= MAX_NAME_LENGTH and name.isprintable()):
            name = checked_name(name)  # this finds out more slowly what is wrong, if anything is
        if not callable(task):
            raise TypeError(uncallable("task", name, task))
        if expander is not None and not callable(expander):
            raise TypeError(uncallable("expander", name, expander))
        _set_name(self, name)
        _set_task(self, task)
        _set_dependencies(
            self, names_in(dependencies, "dependencies") if dependencies is not NONE else []
        )
        _set_dependents(self, names_in(dependents, "dependents") if dependents is not NONE else [])
        _set_expander(self, expander)
        _set_policy(self, policy if policy is None else checked_policy(policy))


_set_name = setter(DynamicNodeSpec, "name")
_set_task = setter(DynamicNodeSpec, "task")
_set_dependencies = setter(DynamicNodeSpec, "dependencies")
_set_dependents = setter(DynamicNodeSpec, "dependents")
_set_expander = setter(DynamicNodeSpec, "expander")
_set_policy = setter(DynamicNodeSpec, "policy")


class DynamicModification(Value):
    """A change to a running graph, which lands whole or not at all.

    ``add_nodes`` takes `DynamicNodeSpec` values, ``remove_nodes`` names, ``add_edges`` and
    ``remove_edges`` pairs ``(source, target)``, where the target waits for the source, or `Edge`
    values, which may have a condition. ``cancel_nodes`` takes names: a node that runs or waits ends
    CANCELLED, and one that has finished is left alone. It is applied in this order: remove edges,
    remove nodes, add nodes, add edges, cancel nodes. All fields are copied into lists here and read
    again when the modification lands. An empty one changes nothing.

    Raises `TypeError` for members of the wrong type.
    """

    __slots__ = _fields = _compared = (
        "add_nodes",
        "remove_nodes",
        "add_edges",
        "remove_edges",
        "cancel_nodes",
    )

    add_nodes: list[DynamicNodeSpec]
    remove_nodes: list[str]
    add_edges: list[tuple[str, str]]
    remove_edges: list[tuple[str, str]]
    cancel_nodes: list[str]

    def __init__(
        self,
        add_nodes: Iterable[DynamicNodeSpec] = (),
        remove_nodes: Iterable[str] = NONE,
        *,
        add_edges: Iterable[tuple[str, str]] = NONE,
        remove_edges: Iterable[tuple[str, str]] = NONE,
        cancel_nodes: Iterable[str] = NONE,
    ) -> None:
        _set_add_nodes(self, _specs_in(add_nodes))
        _set_remove_nodes(
            self, names_in(remove_nodes, "remove_nodes") if remove_nodes is not NONE else []
        )
        _set_add_edges(self, _pairs_in(add_edges, "add_edges") if add_edges is not NONE else [])
        _set_remove_edges(
            self, _pairs_in(remove_edges, "remove_edges") if remove_edges is not NONE else []
        )
        _set_cancel_nodes(
            self, names_in(cancel_nodes, "cancel_nodes") if cancel_nodes is not NONE else []
        )

    def __bool__(self) -> bool:
        """Tell whether it changes anything."""
        return bool(
            self.add_nodes
            or self.remove_nodes
            or self.add_edges
            or self.remove_edges
            or self.cancel_nodes
        )


# What expanders are, for type checkers: see `DynamicExecutor`.
Expansion: TypeAlias = DynamicModification | None
Step: TypeAlias = DynamicNodeSpec | DynamicModification | None
ExpanderFunction: TypeAlias = Callable[
    ..., Expansion | Awaitable[Expansion] | Iterator[Step] | AsyncIterator[Step]
]

_set_add_nodes = setter(DynamicModification, "add_nodes")
_set_remove_nodes = setter(DynamicModification, "remove_nodes")
_set_add_edges = setter(DynamicModification, "add_edges")
_set_remove_edges = setter(DynamicModification, "remove_edges")
_set_cancel_nodes = setter(DynamicModification, "cancel_nodes")


def _specs_in(value: Iterable[DynamicNodeSpec]) -> list[DynamicNodeSpec]:
    if type(value) is not list and not isinstance(value, Iterable):
        raise TypeError(
            f"add_nodes is a list of specs, not a single {type(value).__name__}\n"
            f"  help: write add_nodes=[...]"
        )
    specs = list(value)
    for spec in specs:
        if not isinstance(spec, DynamicNodeSpec):
            raise TypeError(
                f"add_nodes holds {spec!r:.60}, which is {type(spec).__name__}\n"
                f"  help: write dagron.DynamicNodeSpec(name=..., task=...)"
            )
    return specs


def _pairs_in(value: Iterable[tuple[str, str]], field: str) -> list[tuple[str, str]]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(
            f"{field} is a list of pairs (source, target), not {type(value).__name__}\n"
            f"  help: write {field}=[('a', 'b')]"
        )
    pairs: list[tuple[str, str]] = []
    for pair in sorted(value) if isinstance(value, (set, frozenset)) else value:
        if isinstance(pair, Edge):
            pairs.append(pair)
            continue
        if (
            isinstance(pair, str)
            or not isinstance(pair, Iterable)
            or len(ends := tuple(pair)) != 2
            or not (isinstance(ends[0], str) and isinstance(ends[1], str))
        ):
            raise TypeError(
                f"{field} holds {pair!r:.60}, which is no pair of node names\n"
                f"  help: write {field}=[('a', 'b')]: 'b' waits for 'a'"
            )
        pairs.append((str.__str__(ends[0]), str.__str__(ends[1])))
    return pairs


def touches_others(modification: DynamicModification) -> bool:
    """Tell whether it may change what nodes that are in the graph by now depend on."""
    return bool(
        modification.remove_nodes
        or modification.add_edges
        or modification.remove_edges
        or modification.cancel_nodes
        or any(getattr(spec, "dependents", True) for spec in modification.add_nodes)
    )


def checked_copy(modification: DynamicModification) -> DynamicModification:
    """Return a copy, made as the user made the original, since its lists may have changed since.

    Raises what the constructors raise.
    """
    return DynamicModification(
        [
            DynamicNodeSpec(
                spec.name,
                spec.task,
                spec.dependencies,
                spec.dependents,
                expander=spec.expander,
                policy=spec.policy,
            )
            for spec in _specs_in(modification.add_nodes)
        ],
        modification.remove_nodes,
        add_edges=modification.add_edges,
        remove_edges=modification.remove_edges,
        cancel_nodes=modification.cancel_nodes,
    )
