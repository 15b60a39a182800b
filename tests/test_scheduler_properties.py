"""Random programs on the pure scheduler keep every promise, after every step.

The programs are put to the test as well: a generator that reaches nothing proves nothing.
"""

from collections import Counter

from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from dagron import DAG, DynamicModification, ModificationError, NodeStatus
from dagron._edge import Condition
from dagron._scheduler import Scheduler
from machine import Model, Pair, pools, run_at
from programs import (
    PROGRAMS,
    START,
    STEP,
    Dice,
    Modifications,
    Program,
    Tape,
    drive,
    random_programs,
)

# The same programs on every run; explaining a failure is left to the steps that it lists.
fixed = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
)


@settings(fixed, max_examples=800)
@given(PROGRAMS)
def test_every_claim_holds_after_every_step(program: Tape) -> None:
    """A node has one state, moves legally, and starts when its edges and the limits allow it.

    Turns are by priority, then readiness. The graph stays acyclic, a rejected modification changes
    nothing, no slot idles while a node could start, no node is stranded, and every node that was
    not removed ends in one final state, with the right one to blame. The log tells all of it. Nodes
    that a running one adds may start, its windows are as wide as they say, and what nobody needs,
    and nothing else, may be forgotten.
    """
    drive(Scheduler, program)


@settings(fixed, max_examples=400)
@given(PROGRAMS)
def test_every_claim_holds_where_threads_run_one_node_after_another(program: Tape) -> None:
    """All of that holds where threads hold worker slots in the place of nodes.

    What follows for such a thread is next in line, it is noticed when somebody is to go before
    that, only a node that is ready begins, and no slot is lost, whatever becomes of node or thread.
    """
    drive(Scheduler, program, drains=True)


def test_the_programs_reach_every_case() -> None:
    """Random programs reach every status and kind of fault; most modifications are legal."""
    seen: Counter[str] = Counter()
    for program in random_programs(150):
        seen += drive(Scheduler, program)
        seen += drive(Scheduler, program, drains=True)
    kinds = ("cycle", "duplicate", "edge", "limit", "started", "unknown")
    cases = [
        *(
            "COMPLETED",
            "FAILED",
            "CANCELLED",
            "cancelled before its start",
            "skipped at landing",
            "went back to waiting",
        ),
        *("removed", "asked in vain", "inherited", "landed", "the rest was cancelled"),
        *("cancelled by a modification", "cancelled while running", "started past others"),
        *("rested", "went on at once", "a thread goes on", "failed by a condition"),
        *("streamed", "settled", "had room", "waited for room", "there was room", "stalled"),
        *("forgotten", "a name was used again", "an unknown name, with forgotten nodes"),
        *("offered", "taken after it was offered", "recalled", "begun", "parked", "taken over"),
        *(f"a condition: {answer}" for answer in ("yes", "no", "broken")),
        *(f"refused: {kind}" for kind in kinds),
    ]
    assert [case for case in cases if not seen[case]] == []
    assert 0.05 < seen["refused"] / (seen["refused"] + seen["landed"]) < 0.25


@settings(fixed, max_examples=150)
@given(START, STEP, STEP)
def test_apply_gives_the_graph_that_a_run_would_get(
    start: bytes, choice: bytes, change: bytes
) -> None:
    """S29: `DAG.apply(modification, by=...)` and a run whose expander made it agree on everything.

    They accept the same modifications, make equal graphs in one order, and name the same faults.
    """
    program = Program(Scheduler)
    program.begin(Dice(start))
    graph = program.scheduler.dag()
    by = Dice(choice).one(graph.nodes())
    before = graph.ancestors(by)
    groups = pools(g=99, h=99)
    scheduler = run_at(graph, completed=before, running=[by], groups=groups)
    assume(scheduler.status(by) is NodeStatus.RUNNING)  # and was not skipped by its trigger
    policies = {name: policy for name in graph if (policy := graph.policy(name))}
    program.model = Model(
        *(graph.nodes(), graph.edges(), ()),
        max_nodes=len(graph) + 5,
        max_depth=10,
        groups=dict.fromkeys(groups, 99),
        policies=policies,
    )
    for name in (*before, by):
        program.model.status[name] = scheduler.status(name)
    program.dice = Dice(change)
    modification = Modifications(program, by).make()
    assert outcome_of_apply(graph, modification, by) == outcome_of_run(scheduler, modification, by)


def outcome_of_apply(graph: DAG, modification: DynamicModification, by: str) -> object:
    try:
        changed = graph.apply(modification, by)
    except ModificationError as error:
        return error.faults, error.by
    return changed, changed.topological_order(), conditions_of(changed)


def outcome_of_run(scheduler: Scheduler, modification: DynamicModification, by: str) -> object:
    try:
        scheduler.land(modification, by)
    except ModificationError as error:
        return error.faults, error.by
    changed = scheduler.dag()
    return changed, changed.topological_order(), conditions_of(changed)


def conditions_of(graph: DAG) -> dict[Pair, Condition | None]:
    return {edge: graph.condition(*edge) for edge in graph.edges()}


@given(st.binary(max_size=40))
@settings(fixed, max_examples=50)
def test_the_dice_stay_within_bounds(rolls: bytes) -> None:
    """The choices that programs are made of are fair in form: in range, and each member once."""
    dice = Dice(rolls)
    assert 2 <= dice.number(2, 5) <= 5
    assert dice.one("abc") in "abc"
    some = dice.some(range(6), most=4)
    assert len(set(some)) == len(some) <= 4
    assert set(some) <= set(range(6))
