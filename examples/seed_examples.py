"""Six small graphs that grow while they run, each run twice: awaited, and with `execute_sync`.

    python examples/seed_examples.py            # all of them
    python examples/seed_examples.py chained    # those whose name contains the word

1. fan-out: one node per photo, between finding the photos and printing the sheet
2. replacement: a placeholder makes way for the two nodes that do its work
3. ETL: one node per weather station, a fan-in over `inputs`, and a bulletin
4. chained: a node that was added at run time has an expander as well
5. model selection: what the data looks like decides which model is fitted
6. failing expander: what it costs, and what a careful one does instead
"""

import math
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio

import dagron
from dagron import DAG, DynamicModification, DynamicNodeSpec


@dataclass(frozen=True)
class Scenario:
    """A graph with what its nodes do, and the expanders that make it grow."""

    title: str
    dag: DAG
    tasks: dict[str, Callable[..., Any]]
    expanders: dict[str, Callable[..., Any]] = field(default_factory=dict)

    def executor(self) -> dagron.DynamicExecutor:
        return dagron.DynamicExecutor(self.dag, expanders=self.expanders, max_workers=4)

    async def awaited(self) -> dagron.ExecutionResult:
        return await self.executor().execute(self.tasks)

    def blocking(self) -> dagron.ExecutionResult:
        return self.executor().execute_sync(self.tasks)


# ---- 1. fan-out ---------------------------------------------------------------------------------


def fan_out() -> Scenario:
    def shrink(photo: str) -> Callable[[], str]:
        # A factory: each task keeps a photo of its own. A lambda in a loop would see the last one.
        return lambda: f"{photo} at 200 pixels"

    def add_thumbnails(name: str, photos: list[str]) -> DynamicModification:
        return DynamicModification(
            add_nodes=[
                DynamicNodeSpec(
                    name=f"thumbnail:{photo}",
                    task=shrink(photo),
                    dependencies=["find_photos"],
                    dependents=["contact_sheet"],
                )
                for photo in photos
            ]
        )

    return Scenario(
        title="fan-out",
        dag=DAG.builder().add_edge("find_photos", "contact_sheet").build(),
        tasks={
            "find_photos": lambda: ["beach", "forest", "harbour"],
            "contact_sheet": lambda inputs: f"a sheet of {len(inputs) - 1} thumbnails",
        },
        expanders={"find_photos": add_thumbnails},
    )


# ---- 2. replacement -----------------------------------------------------------------------------


def replacement() -> Scenario:
    def choose_languages(name: str, manuscript: str) -> DynamicModification:
        """One modification adds and removes: nobody ever sees the graph in between."""
        greetings = {"german": "Guten Tag", "french": "Bonjour"}
        return DynamicModification(
            add_nodes=[
                DynamicNodeSpec(
                    name=f"translate:{language}",
                    task=lambda greeting=greeting: manuscript.replace("Good day", greeting),
                    dependencies=["manuscript"],
                    dependents=["bind"],
                )
                for language, greeting in greetings.items()
            ],
            remove_nodes=["translate"],
        )

    def bind(inputs: Mapping[str, str]) -> list[str]:
        return list(inputs.values())

    return Scenario(
        title="replacement",
        dag=DAG.builder().add_edge("manuscript", "translate").add_edge("translate", "bind").build(),
        # `translate` has no task: it is a placeholder and never runs.
        tasks={"manuscript": lambda: "Good day, reader", "bind": bind},
        expanders={"manuscript": choose_languages},
    )


# ---- 3. ETL -------------------------------------------------------------------------------------

MEASURED = {
    "coast": [11.5, 12.0, 13.5, 12.5],
    "hills": [7.0, 8.5, 9.5, 8.0],
    "plain": [14.0, 16.5, 18.0, 15.5],
    "valley": [9.0, 12.0, 15.0, 10.0],
}


def etl() -> Scenario:
    def add_stations(name: str, stations: list[str]) -> DynamicModification:
        return DynamicModification(
            add_nodes=[
                DynamicNodeSpec(
                    name=f"station:{station}",
                    task=lambda station=station: statistics.mean(MEASURED[station]),
                    dependencies=["find_stations"],
                    dependents=["compare"],
                )
                for station in stations
            ]
        )

    def compare(inputs: Mapping[str, Any]) -> dict[str, float]:
        """Nobody knew the names of these nodes beforehand: `inputs` holds whatever came in."""
        return {name: mean for name, mean in inputs.items() if name.startswith("station:")}

    def bulletin(compare: dict[str, float]) -> str:
        """A parameter that is called like a dependency is given its result."""
        warmest = max(compare, key=compare.__getitem__)
        return f"warmest: {warmest.removeprefix('station:')} with {compare[warmest]:.1f} degrees"

    return Scenario(
        title="ETL",
        dag=DAG.builder()
        .add_edge("find_stations", "compare")
        .add_edge("compare", "bulletin")
        .build(),
        tasks={"find_stations": lambda: sorted(MEASURED), "compare": compare, "bulletin": bulletin},
        expanders={"find_stations": add_stations},
    )


# ---- 4. chained ---------------------------------------------------------------------------------


def chained() -> Scenario:
    def open_book(name: str, title: str) -> DynamicModification:
        chapter = DynamicNodeSpec(
            name="contents",
            task=lambda: ["departure", "return"],
            dependencies=["book"],
            dependents=["index"],
        )
        return DynamicModification(add_nodes=[chapter])

    def open_chapters(name: str, chapters: list[str]) -> DynamicModification:
        return DynamicModification(
            add_nodes=[
                DynamicNodeSpec(
                    name=f"chapter:{chapter}",
                    task=lambda chapter=chapter: f"the words of '{chapter}'",
                    dependencies=["contents"],
                    dependents=["index"],
                )
                for chapter in chapters
            ]
        )

    return Scenario(
        title="chained",
        dag=DAG.builder().add_edge("book", "index").build(),
        tasks={"book": lambda: "A Journey", "index": lambda: "an index"},
        # `contents` is not there yet. Its expander is called when a node of that name has finished.
        expanders={"book": open_book, "contents": open_chapters},
    )


# ---- 5. model selection -------------------------------------------------------------------------


def model_selection(size: int = 200) -> Scenario:
    def measure() -> list[tuple[float, float]]:
        return [(x, 3.0 * x + math.sin(x)) for x in range(size)]

    def fit_mean(measure: list[tuple[float, float]]) -> Callable[[float], float]:
        mean = statistics.mean(y for _, y in measure)
        return lambda x: mean

    def fit_line(measure: list[tuple[float, float]]) -> Callable[[float], float]:
        line = statistics.linear_regression(*zip(*measure, strict=True))
        return lambda x: line.slope * x + line.intercept

    def fit_nearest(measure: list[tuple[float, float]]) -> Callable[[float], float]:
        return lambda x: min(measure, key=lambda point: abs(point[0] - x))[1]

    def select(name: str, rows: int) -> DynamicModification:
        model = fit_mean if rows < 10 else fit_line if rows < 1_000 else fit_nearest
        spec = DynamicNodeSpec(
            name=model.__name__,
            task=model,
            dependencies=["measure", "select_model"],
            dependents=["evaluate"],
        )
        return DynamicModification(add_nodes=[spec])

    def evaluate(inputs: Mapping[str, Any]) -> str:
        [(name, model)] = [item for item in inputs.items() if item[0].startswith("fit_")]
        points = inputs["measure"]
        error = statistics.mean(abs(model(x) - y) for x, y in points)
        return f"{name} on {len(points)} rows, mean error {error:.2f}"

    return Scenario(
        title="model selection",
        dag=DAG.builder()
        .add_edge("measure", "select_model")
        .add_edge("select_model", "evaluate")
        .add_edge("measure", "evaluate")
        .build(),
        tasks={
            "measure": measure,
            "select_model": lambda measure: len(measure),
            "evaluate": evaluate,
        },
        expanders={"select_model": select},
    )


# ---- 6. failing expander ------------------------------------------------------------------------


def failing_expander(careful: bool = False) -> Scenario:
    def add_parcels(name: str, manifest: dict[str, list[str]]) -> DynamicModification:
        return DynamicModification(
            add_nodes=[
                DynamicNodeSpec(f"parcel:{parcel}", lambda: "weighed", ["manifest"], ["dispatch"])
                for parcel in manifest["parcels"]
            ]
        )

    def add_parcels_if_any(name: str, manifest: dict[str, list[str]]) -> DynamicModification:
        """Catch only what is expected; an empty modification changes nothing and fails nothing."""
        try:
            return add_parcels(name, manifest)
        except KeyError:
            return DynamicModification()

    return Scenario(
        title="failing expander" + (", handled" if careful else ""),
        dag=DAG.builder().add_edge("manifest", "dispatch").add_node("weather").build(),
        tasks={
            "manifest": lambda: {"letters": ["to A", "to B"]},  # no parcels today
            "dispatch": lambda: "van has left",
            "weather": lambda: "dry",
        },
        expanders={"manifest": add_parcels_if_any if careful else add_parcels},
    )


SCENARIOS = [
    fan_out,
    replacement,
    etl,
    chained,
    model_selection,
    failing_expander,
    lambda: failing_expander(careful=True),
]


# ---- running them -------------------------------------------------------------------------------


def show(scenario: Scenario, result: dagron.ExecutionResult) -> None:
    before, after = scenario.dag, result.dag
    print(f"{scenario.title}: {len(before)} nodes became {len(after)}")
    for name, node in result.node_results.items():
        mark = f"+ {name}" if node.added_by else f"  {name}"
        print(f"  {mark:<22} {node.status!s:<10} {said(node):.66}")
    for name in result.removed:
        print(f"  - {name:<20} removed before it could start")


def said(node: dagron.NodeResult) -> str:
    if node.status is not dagron.NodeStatus.COMPLETED:
        return repr(node.error) if node.error else str(node.reason)
    return "a function" if callable(node.result) else str(node.result)


def same(one: dagron.ExecutionResult, other: dagron.ExecutionResult) -> bool:
    """Whether two runs had the same nodes in the same order and the same outcomes."""
    first, second = (
        [(name, node.status, node.added_by) for name, node in run.node_results.items()]
        for run in (one, other)
    )
    return first == second and one.dag == other.dag and one.removed == other.removed


async def run_awaited(scenarios: list[Scenario]) -> list[dagron.ExecutionResult]:
    return [await scenario.awaited() for scenario in scenarios]


def main(words: list[str]) -> int:
    scenarios = [make() for make in SCENARIOS]
    scenarios = [s for s in scenarios if not words or any(w in s.title for w in words)]
    if not scenarios:
        print(f"no scenario is called {' or '.join(words)}", file=sys.stderr)
        return 2
    awaited = anyio.run(run_awaited, scenarios)
    agree = True
    for scenario, result in zip(scenarios, awaited, strict=True):
        show(scenario, result)
        blocked = scenario.blocking()
        agree = agree and same(result, blocked)
        print(f"  await: {result.succeeded} succeeded; execute_sync: {blocked.succeeded}\n")
    print("await and execute_sync gave the same." if agree else "await and execute_sync differ!")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
