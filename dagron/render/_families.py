"""Large families of nodes, each folded into one."""

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

Key: TypeAlias = Hashable  # of a box: the name of a node, or a `Fold`
Ends: TypeAlias = tuple[str, str]


class Outside(NamedTuple):
    """Who added nodes: nobody that is in the graph."""

    name: str | None  # who that was; None for a modification from outside of the run


class Removed(NamedTuple):
    """The family of ghosts that one node removed, or a modification from outside: None."""

    by: str | None


Adder: TypeAlias = str | Outside | Removed


class Fold(NamedTuple):
    """The box of a family, or of the part of it that stands in one layer."""

    adder: Key
    layer: int | None = None


def folded(
    adders: Mapping[str, Adder],
    edges: Sequence[Ends],
    most: int | None,
    must_show: Callable[[str], bool],
) -> dict[str, Fold]:
    """Return in which fold each node is that is in one: those of families over ``most`` members.

    ``adders`` says of the nodes that were added, in order, who added them, or that they are ghosts.
    The nodes that a folded node added are one family with those that its siblings added. Up to
    ``most`` members that ``must_show`` stay alone. Over ``most`` members in one layer are a fold of
    their own, and where a fold would close a cycle, all of its layers are.
    """
    if most is None or len(adders) <= most:
        return {}
    fold_of = _assigned(adders, most, must_show)
    if not fold_of:
        return {}
    layer = _layers(edges)
    sizes = Counter((fold, layer.get(name)) for name, fold in fold_of.items())
    parts = {
        name: Fold(fold.adder, layer.get(name)) if sizes[fold, layer.get(name)] > most else fold
        for name, fold in fold_of.items()
    }
    on_cycle = _on_cycles(
        {(parts.get(source, source), parts.get(target, target)) for source, target in edges}
    )
    members: dict[Fold, list[str]] = {}
    for name, fold in parts.items():
        if fold in on_cycle:
            fold = Fold(fold.adder, layer.get(name))
        members.setdefault(fold, []).append(name)
    return {name: fold for fold, names in members.items() if len(names) > 1 for name in names}


def _assigned(
    adders: Mapping[str, Adder], most: int, must_show: Callable[[str], bool]
) -> dict[str, Fold]:
    """Return the one fold of each large family's members."""
    children: dict[Adder, list[str]] = {}
    for name, adder in adders.items():
        children.setdefault(adder, []).append(name)
    families: deque[tuple[Key, list[str]]] = deque(
        (key, members) for key, members in children.items() if key not in adders
    )
    fold_of: dict[str, Fold] = {}
    while families:
        key, members = families.popleft()
        shown = members
        if len(members) > most:
            shown = [name for name in members if must_show(name)][:most]
            alone = set(shown)
            hidden = [name for name in members if name not in alone]
            fold_of.update(dict.fromkeys(hidden, Fold(key)))
            below = [child for name in hidden for child in children.get(name, ())]
            families.append((Fold(key), below))
        families.extend((name, children[name]) for name in shown if name in children)
    return fold_of


def _on_cycles(links: Iterable[tuple[Key, Key]]) -> set[Key]:
    """Return the keys on cycles, and between them; a link from a key to itself is none."""
    links = [(source, target) for source, target in links if source != target]
    left = _stuck(links)
    inner = [(target, source) for source, target in links if source in left and target in left]
    return left & _stuck(inner)


def _stuck(links: Sequence[tuple[Key, Key]]) -> set[Key]:
    """Return the keys that come after a cycle, or are on one."""
    waiting: dict[Key, int] = {}
    targets: dict[Key, list[Key]] = {}
    for source, target in links:
        waiting[target] = waiting.get(target, 0) + 1
        targets.setdefault(source, []).append(target)
    free = [key for key in targets if key not in waiting]
    while free:
        for target in targets.get(free.pop(), ()):
            waiting[target] -= 1
            if not waiting[target]:
                del waiting[target]
                free.append(target)
    return set(waiting)


def _layers(edges: Sequence[Ends]) -> dict[str, int]:
    """Return the length of the longest path to each node that an edge names."""
    waiting: dict[str, int] = {}
    targets: dict[str, list[str]] = {}
    for source, target in edges:
        waiting[target] = waiting.get(target, 0) + 1
        targets.setdefault(source, []).append(target)
    layer = dict.fromkeys([*targets, *waiting], 0)
    free = [name for name in targets if name not in waiting]
    while free:
        name = free.pop()
        for target in targets.get(name, ()):
            layer[target] = max(layer[target], layer[name] + 1)
            waiting[target] -= 1
            if not waiting[target]:
                free.append(target)
    return layer
