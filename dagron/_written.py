"""Modifications and graphs as text: what a journal keeps of them, and how it tells them apart.

Names, edges and policies are all there is to a modification but its callables. Those have no text:
on a resume they come from the expander, which is called again. What is added from outside comes
from nowhere else: its callables are written as references, see ``Refer``.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from dagron._edge import Edge, condition_of
from dagron._graph import DAG
from dagron._keep import Fold
from dagron._modification import DynamicModification, DynamicNodeSpec
from dagron._names import shown
from dagron._policy import NodePolicy, Retry, Trigger, all_succeeded

# From a callable, and what it is to whom, to a reference that JSON can carry; and back.
Refer: TypeAlias = Callable[[Callable[..., Any], str], Any]
Resolve: TypeAlias = Callable[[Any], Any]

# What of a policy decides whether nodes run. The rest says how, and may be another one each time.
_DECIDING = ("trigger", "keep", "orphans")
_DEFAULTS = {"trigger": repr(all_succeeded), "orphans": "finish"}
SHOWN = 10  # differences in one error
_dumps = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, check_circular=False).encode


def written(modification: DynamicModification, refer: Refer | None = None) -> str:
    """Return the text of a modification; the same one always gives the same."""
    change: dict[str, Any] = {}
    if modification.add_nodes:
        change["add"] = [_written_spec(spec, refer) for spec in modification.add_nodes]
    if modification.remove_nodes:
        change["remove"] = modification.remove_nodes
    if modification.add_edges:
        change["connect"] = [_written_edge(edge, refer) for edge in modification.add_edges]
    if modification.remove_edges:
        change["disconnect"] = [tuple(edge) for edge in modification.remove_edges]
    if modification.cancel_nodes:
        change["cancel"] = modification.cancel_nodes
    return _dumps(change)


def _written_spec(spec: DynamicNodeSpec, refer: Refer | None) -> dict[str, Any]:
    found: dict[str, Any] = {"name": spec.name}
    if spec.dependencies:
        found["after"] = spec.dependencies
    if spec.dependents:
        found["before"] = spec.dependents
    if spec.policy is not None:
        found["policy"] = written_policy(spec.policy, refer)
    if refer is None:
        if spec.expander is not None:
            found["expander"] = True
        return found
    found["task"] = refer(spec.task, f"the task of node {spec.name!r:.60}")
    if spec.expander is not None:
        found["expander"] = refer(spec.expander, f"the expander of node {spec.name!r:.60}")
    return found


def _written_edge(edge: tuple[str, str], refer: Refer | None) -> list[Any]:
    condition = condition_of(edge)
    if condition is None:
        return [edge[0], edge[1]]
    where = f"the condition on the edge from {edge[0]!r:.60} to {edge[1]!r:.60}"
    return [edge[0], edge[1], True if refer is None else refer(condition, where)]


def written_policy(policy: NodePolicy, refer: Refer | None = None) -> dict[str, Any]:
    """Return what a policy says, as far as it says anything, for JSON."""
    found: dict[str, Any] = {}
    for field in NodePolicy.__slots__:
        if field not in policy.given:
            continue
        value = getattr(policy, field)
        if isinstance(value, Trigger):
            value = repr(value)
        elif isinstance(value, Fold):
            value = _written_fold(value, refer)
        elif isinstance(value, Retry):
            value = _written_retry(value, refer)
        found[field] = value
    return found


def _written_fold(fold: Fold, refer: Refer | None) -> dict[str, Any]:
    if refer is None:
        return {"fold": True}
    return {
        "fold": refer(fold.function, "the function of a Fold"),
        "start": refer(fold.start, "the start of a Fold"),
    }


def _written_retry(retry: Retry, refer: Refer | None) -> dict[str, Any]:
    found = {field: getattr(retry, field) for field in Retry.__slots__}
    if isinstance(retry.on, tuple):
        found["on"] = [_written_kind(kind, refer) for kind in retry.on]
    else:
        found["on"] = _written_kind(retry.on, refer)
    return found


def _written_kind(kind: type[Exception], refer: Refer | None) -> Any:
    if refer is None:
        return f"{kind.__module__}.{kind.__qualname__}"
    return refer(kind, "an exception of a Retry")


# -- back again


def read_modification(text: str, resolve: Resolve) -> DynamicModification:
    """Return the modification of this text, with the callables that ``resolve`` finds."""
    change = json.loads(text)
    return DynamicModification(
        [_read_spec(spec, resolve) for spec in change.get("add", ())],
        change.get("remove", ()),
        add_edges=[_read_edge(edge, resolve) for edge in change.get("connect", ())],
        remove_edges=change.get("disconnect", ()),
        cancel_nodes=change.get("cancel", ()),
    )


def _read_spec(spec: Mapping[str, Any], resolve: Resolve) -> DynamicNodeSpec:
    expander = spec.get("expander")
    return DynamicNodeSpec(
        spec["name"],
        resolve(spec.get("task")),
        spec.get("after", ()),
        spec.get("before", ()),
        expander=None if expander is None else resolve(expander),
        policy=read_policy(spec["policy"], resolve) if "policy" in spec else None,
    )


def _read_edge(edge: list[Any], resolve: Resolve) -> tuple[str, str]:
    if len(edge) == 2:
        return (edge[0], edge[1])
    return Edge(edge[0], edge[1], resolve(edge[2]))


def read_policy(found: Mapping[str, Any], resolve: Resolve) -> NodePolicy:
    """Return the policy of this text."""
    fields = dict(found)
    if isinstance(fields.get("group"), list):
        fields["group"] = tuple(fields["group"])
    if "trigger" in fields:
        fields["trigger"] = _read_trigger(fields["trigger"])
    if isinstance(keep := fields.get("keep"), dict):
        fields["keep"] = Fold(resolve(keep["fold"]), resolve(keep.get("start", True)))
    if isinstance(retry := fields.get("retry"), dict):
        on = retry["on"]
        if isinstance(on, list):
            on = tuple(_read_kind(kind, resolve) for kind in on)
        else:
            on = _read_kind(on, resolve)
        fields["retry"] = Retry(**{**retry, "on": on})
    return NodePolicy(**fields)


def _read_kind(kind: Any, resolve: Resolve) -> type[Exception]:
    found = resolve(kind)
    return found if isinstance(found, type) and issubclass(found, Exception) else Exception


def _read_trigger(text: str) -> Trigger:
    kind, _, need = text.rstrip(")").partition("(")
    if not need:
        return Trigger(kind)
    return Trigger(kind, float(need) if "." in need or "e" in need else int(need))


# -- a graph


def written_graph(dag: DAG, expanders: Iterable[str], untasked: Iterable[str] = ()) -> str:
    """Return the text of a graph as it was written, with the names that have an expander, and the
    nodes that have no task: placeholders.
    """
    graph = dag._graph
    conditions = {(a, b) for a, targets in graph.conditions.items() for b in targets}
    return _dumps(
        {
            "nodes": list(graph.dependencies),
            "edges": [
                [source, target, True] if (source, target) in conditions else [source, target]
                for source, target in dag.edges()
            ],
            "policies": {name: written_policy(own) for name, own in graph.policies.items()},
            "expanders": sorted(expanders),
            "untasked": sorted(untasked),
        }
    )


def read_graph(text: str) -> tuple[DAG, list[str]]:
    """Return the graph of this text, with stand-ins for its conditions, and who has an expander."""
    found = json.loads(text)
    builder = DAG.builder()
    for name in found["nodes"]:
        policy = found["policies"].get(name)
        own = None if policy is None else read_policy(policy, stand_in)
        builder.add_node(name, policy=own)
    for source, target, *has_condition in found["edges"]:
        builder.add_edge(source, target, condition=stand_in(None) if has_condition else None)
    return builder.build(), found["expanders"]


def stand_in(reference: object) -> Any:
    """Return a callable that is never called, in place of one that is not known."""
    return _never_called


def _never_called(*arguments: object) -> None:
    raise RuntimeError("this stands for a callable that a journal does not have")


# -- differences


def differences(recorded: str, now: str) -> list[str]:
    """Return what is different between two modifications, a line each; none if they are equal.

    Policies differ where they decide whether nodes run, not where they say how.
    """
    if recorded == now:
        return []
    then, now_ = json.loads(recorded), json.loads(now)
    return [*_of_specs(then.get("add", ()), now_.get("add", ())), *_of_lists(then, now_)]


def _of_specs(then: list[Any], now: list[Any]) -> Iterator[str]:
    before = {spec["name"]: _decisive(spec) for spec in then}
    after = {spec["name"]: _decisive(spec) for spec in now}
    yield from _of_names("node", "nodes", before, after)
    if before.keys() == after.keys() and list(before) != list(after):
        yield f"the nodes were added in this order: {shown(list(before), 5)}; " + (
            f"now in this one: {shown(list(after), 5)}"
        )
    for name in before:
        if name in after and before[name] != after[name]:
            for key in sorted({*before[name], *after[name]}):
                if before[name].get(key) != after[name].get(key):
                    was, is_ = before[name].get(key), after[name].get(key)
                    yield f"node {name!r:.60}: {_WORDS[key]} was {_text(was)}, is now {_text(is_)}"


_WORDS = {
    "after": "dependencies",
    "before": "dependents",
    "policy": "policy",
    "expander": "an expander",
}
_LISTS = {
    "remove": "remove_nodes",
    "connect": "add_edges",
    "disconnect": "remove_edges",
    "cancel": "cancel_nodes",
}


def _of_lists(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key, word in _LISTS.items():
        was, is_ = (_without_references(change.get(key, [])) for change in (then, now))
        if was != is_:
            yield f"{word} was {_text(was)}, is now {_text(is_)}"


def _of_names(noun: str, nouns: str, then: Iterable[str], now: Iterable[str]) -> Iterator[str]:
    then, now = dict.fromkeys(then), dict.fromkeys(now)
    for names, word in (
        ([name for name in then if name not in now], "not there any more"),
        ([name for name in now if name not in then], "new"),
    ):
        if names:
            yield f"{noun if len(names) == 1 else nouns} {shown(names, 5)}: {word}"


def _decisive(spec: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: spec[key] for key in ("after", "before") if spec.get(key)}
    if spec.get("expander"):
        found["expander"] = True
    if policy := decisive_policy(spec.get("policy") or {}):
        found["policy"] = policy
    return found


def decisive_policy(policy: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a written policy that decides whether nodes run."""
    found = {field: policy[field] for field in _DECIDING if field in policy}
    if isinstance(found.get("keep"), dict):
        found["keep"] = "a Fold"
    return found


def settings_differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what is different in what two executors say of all nodes, a line each."""
    was, is_ = (
        {**_DEFAULTS, "keep": settings["keep"], **decisive_policy(settings.get("policy") or {})}
        for settings in (then, now)
    )
    return [
        f"the executor's {field} was {_text(was[field])}, is now {_text(is_[field])}"
        for field in _DECIDING
        if was[field] != is_[field]
    ]


def _without_references(found: list[Any]) -> list[Any]:
    return [[*item[:2], True] if isinstance(item, list) and item[2:] else item for item in found]


def _text(value: object) -> str:
    if value is None:
        return "none"
    if value is True:
        return "there"
    return f"{value!r}" if len(f"{value!r}") <= 200 else f"{value!r:.200}..."


def shown_differences(lines: Sequence[str]) -> str:
    """Return the first of these lines, indented, and how many more there are."""
    more = [f"and {len(lines) - SHOWN:,} more"] if len(lines) > SHOWN else []
    return "\n  ".join([*lines[:SHOWN], *more])


def graph_differences(recorded: str, now: str) -> list[str]:
    """Return what is different between two graphs as they were written, a line each."""
    if recorded == now:
        return []
    then, now_ = json.loads(recorded), json.loads(now)
    lines = list(_of_names("node", "nodes", then["nodes"], now_["nodes"]))
    edges = [{tuple(edge[:2]): len(edge) > 2 for edge in graph["edges"]} for graph in (then, now_)]
    texts = [[f"{a} -> {b}" for a, b in found] for found in edges]
    lines += _of_names("edge", "edges", *texts)
    lines += [
        f"edge {a} -> {b}: a condition was {'there' if was else 'not there'}, and is not the same"
        for (a, b), was in edges[0].items()
        if edges[1].get((a, b), was) != was
    ]
    lines += _of_names("expander for", "expanders for", then["expanders"], now_["expanders"])
    lost = set(now_["untasked"]) - set(then["untasked"])
    lines += [f"task of node {name!r:.60}: not there any more" for name in sorted(lost)]
    for name in {**then["policies"], **now_["policies"]}:
        was, is_ = (decisive_policy(g["policies"].get(name, {})) for g in (then, now_))
        if was != is_:
            lines.append(f"node {name!r:.60}: policy was {_text(was)}, is now {_text(is_)}")
    return lines
