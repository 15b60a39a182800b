"""The record of what modifications changed: exact, bounded, and nothing where nothing grows."""

import pickle
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagron import DAG, DynamicModification, DynamicNodeSpec, Edge, ModificationError, _history
from dagron._history import EdgeChange, How, Removal
from dagron._results import ExecutionResult
from dagron._scheduler import Scheduler
from dagron.render._past import Birth, Moment, moment
from machine import adding, dag, nothing, removing, spec, yes

Pairs = set[tuple[str, str]]


def running(graph: DAG, keep: str = "all") -> Scheduler:
    scheduler = Scheduler(graph, keep=keep)
    scheduler.take_ready(100)
    return scheduler


def at(scheduler: Scheduler, version: int) -> Moment:
    return moment(scheduler.history(), scheduler.dag(), version)


def test_plain_growth_leaves_no_record_but_the_origins() -> None:
    """Nodes that are added with their edges are recorded by one pair of numbers for all of them."""
    scheduler = running(dag(("a", "z")))
    assert scheduler.history().origins == {}
    scheduler.land(adding(spec("b", "a", to=["z"]), spec("c", "a")), by="a")
    history = scheduler.history()
    assert history.origins == {"b": (1, 1), "c": (1, 1)}
    assert history.origins["b"] is history.origins["c"]
    assert [history.added_in(name) for name in "abcz"] == [0, 1, 1, 0]
    assert not history.changes
    assert history.before == dag(("a", "z"))


def test_a_node_from_outside_has_an_origin_without_depth() -> None:
    """What nobody in the graph added has the number of its modification all the same."""
    scheduler = running(dag("a"))
    scheduler.land(adding(spec("b")))
    assert scheduler.history().origins == {"b": (0, 1)}
    assert scheduler.origin("b") == (None, 0)
    scheduler.take_ready(9)
    scheduler.land(adding(spec("c")), by="b")
    assert scheduler.origin("c") == ("b", 1)


def test_what_is_removed_and_rewired_is_recorded_in_order() -> None:
    """Edges between nodes that were there before, and removed nodes after their own edges."""
    graph = DAG.builder().add_edge("a", "b", condition=yes).add_edge("b", "c").add_edge("d", "c")
    scheduler = running(graph.build())
    scheduler.land(
        DynamicModification(
            remove_edges=[("d", "c")], remove_nodes=["b"], add_edges=[Edge("a", "c", yes)]
        ),
        by="a",
    )
    assert list(scheduler.history().changes) == [
        EdgeChange(1, "d", "c", How.REMOVED, False),
        EdgeChange(1, "a", "b", How.TAKEN_OUT, True),
        EdgeChange(1, "b", "c", How.TAKEN_OUT, False),
        Removal(1, "b", "a", None, 0),
        EdgeChange(1, "a", "c", How.ADDED, True),
    ]


def test_a_refused_modification_is_not_recorded() -> None:
    """What was refused has changed nothing, here neither."""
    scheduler = running(dag(("a", "b"), ("b", "c")))
    with pytest.raises(ModificationError):
        scheduler.land(DynamicModification([spec("a")], remove_nodes=["b"]), by="a")
    assert scheduler.version == 0
    assert not scheduler.history().changes
    assert not scheduler.history().origins


def test_a_removed_node_that_was_added_keeps_who_added_it() -> None:
    """A ghost says who added it, with which modification, and who removed it."""
    scheduler = running(dag("a", "b"))
    scheduler.land(adding(spec("c", "b")), by="a")
    scheduler.land(removing("c"))
    assert list(scheduler.history().changes) == [
        EdgeChange(2, "b", "c", How.TAKEN_OUT, False),
        Removal(2, "c", None, "a", 1),
    ]
    assert scheduler.history().origins == {}


def test_forgotten_nodes_leave_the_record() -> None:
    """A run that forgets what has completed keeps no origin of it."""
    scheduler = running(dag("a"), keep="failures")
    for number in range(1_000):
        scheduler.land(adding(spec(str(number))), by="a", settled=True)
        scheduler.take_ready(9)
        scheduler.succeed(str(number))
        for name in list(scheduler.retention.spare):
            scheduler.forget(name)
    history = scheduler.history()
    assert history.version == scheduler.forgotten == 1_000
    assert not history.origins
    assert not history.changes


def test_the_record_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is rewired only the last changes are kept, and it is known from where on."""
    monkeypatch.setattr(_history, "RECORDED", 6)
    scheduler = running(dag("0", "end", ("0", "end")))
    for number in range(10):
        this, following = str(number), str(number + 1)
        scheduler.land(
            DynamicModification(
                [spec(following, this)],
                remove_edges=[(this, "end")],
                add_edges=[(following, "end")],
            ),
            by=this,
        )
        scheduler.succeed(this)
        scheduler.take_ready(9)
        history = scheduler.history()
        assert len(history.changes) == min(number + 1, 6)
        assert history.earliest() == (0 if number < 5 else number - 4)
    assert at(scheduler, 0).edges == {("0", "end"): False}
    assert set(at(scheduler, 6).edges) == {
        *((str(number), str(number + 1)) for number in range(6)),
        ("6", "end"),
    }


def test_a_name_that_was_forgotten_may_come_back() -> None:
    """A new node of an old name is not taken for the old one, neither now nor then."""
    scheduler = running(dag("a", "t", ("a", "t")), keep="failures")
    scheduler.land(adding(spec("x", to=["t"])), by="a", settled=True)
    scheduler.take_ready(9)
    scheduler.land(DynamicModification(remove_nodes=["t"]), by="a")
    scheduler.succeed("x")
    assert scheduler.forget("x")
    scheduler.land(adding(spec("x")), by="a", settled=True)
    assert at(scheduler, 3) == Moment(
        {"a": Birth(None, 0), "x": Birth("a", 3)},
        {},
        {"t": Removal(2, "t", "a", None, 0)},
        {("a", "t"): False},
    )
    assert at(scheduler, 1).nodes == {"a": Birth(None, 0), "t": Birth(None, 0)}
    assert at(scheduler, 1).edges == {("a", "t"): False}


def test_a_result_with_a_record_can_be_pickled() -> None:
    """The record survives a pickle with the result that holds it."""
    scheduler = running(dag(("a", "b"), ("b", "c")))
    scheduler.land(removing("b"), by="a")
    result = ExecutionResult({}, scheduler.dag(), history=scheduler.history())
    copy = pickle.loads(pickle.dumps(result))
    assert copy.version == 1
    assert copy.to_svg("before") == result.to_svg("before")
    assert copy.to_svg() == result.to_svg()


# --- every version, beside what the graph was then -----------------------------------------------


class Player:
    """Makes a run of random modifications, and notes what the graph is after each."""

    def __init__(self, seed: int, keep: str) -> None:
        self.dice = Random(seed)
        names = [f"n{number}" for number in range(self.dice.randrange(2, 7))]
        graph = dag(*names, *self.pairs(names, 5))
        self.scheduler = running(graph, keep)
        self.graphs = [(set(graph), {*map(tuple, graph.edges())})]
        self.count = len(names)

    def pairs(self, names: list[str], most: int) -> list[tuple[str, str]]:
        """Pairs of names, the first of which comes earlier."""
        pairs = [(a, b) for number, a in enumerate(names) for b in names[number + 1 :]]
        return self.dice.sample(pairs, min(len(pairs), self.dice.randrange(most + 1)))

    def some(self, names: list[str], most: int) -> list[str]:
        return self.dice.sample(names, min(len(names), self.dice.randrange(most + 1)))

    def modification(self) -> DynamicModification:
        dag = self.scheduler.dag()
        names, edges = dag.nodes(), dag.edges()
        new = [f"n{self.count + number}" for number in range(self.dice.randrange(3))]
        self.count += len(new)
        return DynamicModification(
            [
                DynamicNodeSpec(name, nothing, self.some(names, 2), self.some(names, 1))
                for name in new
            ],
            remove_nodes=self.some(names, 1),
            remove_edges=self.dice.sample(edges, min(len(edges), self.dice.randrange(3))),
            add_edges=self.pairs(names, 1),
        )

    def step(self) -> None:
        scheduler = self.scheduler
        running = [name for name, status in scheduler.statuses().items() if status == "RUNNING"]
        if running and self.dice.random() < 0.3:
            scheduler.succeed(self.dice.choice(running))
            scheduler.take_ready(self.dice.randrange(3))
            for name in list(scheduler.retention.spare):
                scheduler.forget(name)
            return
        by = self.dice.choice([None, *running])
        try:
            scheduler.land(self.modification(), by)
        except ModificationError:
            return
        dag = scheduler.dag()
        if len(self.graphs) < scheduler.version + 1:  # an empty one is no version
            self.graphs.append((set(dag), {*map(tuple, dag.edges())}))


@given(st.integers(0, 10_000), st.sampled_from(["all", "failures"]))
def test_every_version_is_told_as_it_was(seed: int, keep: str) -> None:
    """The graph of any version is told exactly, but for nodes that were forgotten since."""
    player = Player(seed, keep)
    for _ in range(40):
        player.step()
    scheduler = player.scheduler
    assert len(player.graphs) == scheduler.version + 1
    known = set(scheduler.dag()) | set(scheduler.removed())
    for version, (nodes, edges) in enumerate(player.graphs):
        then = at(scheduler, version)
        if version:
            nodes = nodes & known
            edges = {(a, b) for a, b in edges if a in known and b in known}
        assert set(then.nodes) == nodes
        assert set(then.edges) == edges
        assert set(then.ghosts) == {
            name
            for name in scheduler.removed()
            if any(name in earlier for earlier, _ in player.graphs[:version]) and name not in nodes
        }
        assert then.ghost_edges.keys() <= {
            (a, b) for _, pairs in player.graphs[:version] for a, b in pairs
        }
