"""Price options by simulation, and sample on where the variance asks for it: on any runner.

    python examples/monte_carlo.py                                  # in threads of this process
    python examples/monte_carlo.py --runner process                 # on all processors
    python examples/monte_carlo.py --runner dask --address tcp://127.0.0.1:8786
    python examples/monte_carlo.py --runner ray                     # starts Ray, or: --address auto

The job: a book of Asian call options, which pay what the average price of a share over a year is
above the strike. There is no formula for that, so each is priced by a simulation of geometric
Brownian motion (Glasserman, Monte Carlo Methods in Financial Engineering, 2003, chapter 3), with
antithetic paths. How many paths an option needs for a given error is not known before some were
drawn, and differs from option to option.

    strike 80  --> 80/1 80/2 80/3 ... --+
    strike 100 --> 100/1 100/2 ... -----+--> report
    strike 120 --> 120/1 ... 120/57 ----+

- The node of an option draws a pilot batch. Its expander, here in this process, sees the variance,
  and adds as many sampling nodes as the target asks for: one option gets three, another fifty.
- A sampling node that was added looks at nothing but its own seed, so that every runner gives the
  same numbers. Its result, three numbers, is folded into its option's as it comes (`Fold`).
- The report waits for all options, and runs here: `NodePolicy(runner="local")`.

What differs between the runners is one argument, `runners=`. Exit codes: 0, or 2 where the runner
is not installed or cannot be reached.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import ceil, exp, log, sqrt
from random import Random
from typing import Any

import dagron

STRIKES = (80, 90, 100, 110, 120)
SPOT, RATE, VOLATILITY, YEARS, STEPS = 100.0, 0.03, 0.25, 1.0, 52
MOST = 400  # batches for one option
HERE = dagron.NodePolicy(runner="local")


@dataclass(frozen=True)
class Sample:
    """Discounted payoffs, as three numbers that add up."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def __add__(self, other: "Sample") -> "Sample":
        return Sample(
            self.count + other.count, self.total + other.total, self.squares + other.squares
        )

    @property
    def mean(self) -> float:
        return self.total / self.count

    @property
    def deviation(self) -> float:
        return sqrt(max(0.0, self.squares / self.count - self.mean**2))

    @property
    def error(self) -> float:
        """The standard error of the mean."""
        return self.deviation / sqrt(self.count)


def draw(strike: float, batch: int, paths: int) -> Sample:
    """Simulate so many pairs of paths. The seed is the batch's own: any worker draws the same."""
    random = Random(f"{strike}/{batch}")
    dt = YEARS / STEPS
    drift, width = (RATE - VOLATILITY**2 / 2) * dt, VOLATILITY * sqrt(dt)
    discount, start = exp(-RATE * YEARS), log(SPOT)
    sample = Sample()
    for _ in range(paths):
        up = down = start
        sum_up = sum_down = 0.0
        for _ in range(STEPS):
            shock = width * random.gauss(0.0, 1.0)
            up += drift + shock
            down += drift - shock
            sum_up += exp(up)
            sum_down += exp(down)
        payoffs = max(sum_up / STEPS - strike, 0.0) + max(sum_down / STEPS - strike, 0.0)
        payoff = discount * payoffs / 2
        sample += Sample(1, payoff, payoff * payoff)
    return sample


def missing_batches(pilot: Sample, target: float) -> int:
    """How many more batches of the pilot's size bring the standard error down to the target."""
    needed = (pilot.deviation / target) ** 2
    return min(MOST, max(0, ceil(needed / pilot.count) - 1))


def sampling(strike: float, target: float) -> Callable[[str, Sample], dagron.DynamicModification]:
    """Return the expander of an option's node: it adds what its variance asks for."""

    def expand(name: str, pilot: Sample) -> dagron.DynamicModification:
        # The pilot's paths count, too: a node here hands them to the fold.
        children = [dagron.DynamicNodeSpec(f"{name}, pilot", lambda: pilot, policy=HERE)]
        for batch in range(1, 1 + missing_batches(pilot, target)):
            task = partial(draw, strike, batch, pilot.count)
            children.append(dagron.DynamicNodeSpec(f"{name}, batch {batch}", task))
        return dagron.DynamicModification(children)

    return expand


def added(total: Sample, name: str, sample: Sample) -> Sample:
    return total + sample


def report(inputs: dict[str, Sample]) -> str:
    lines = ["option          price    error    pairs of paths"]
    for name, sample in inputs.items():
        lines.append(f"{name:<12} {sample.mean:>8.4f} {sample.error:>8.4f} {sample.count:>17,}")
    return "\n".join(lines)


def job(target: float, paths: int) -> tuple[dagron.DAG, dict[str, Any], dict[str, Any]]:
    """Return the graph, its expanders and its tasks: the same for all runners."""
    builder = dagron.DAG.builder()
    expanders: dict[str, Any] = {}
    tasks: dict[str, Any] = {"report": report}
    builder.add_node("report", policy=HERE)
    for strike in STRIKES:
        name = f"strike {strike}"
        # The fold adds the batches up as they come, and each is then forgotten.
        policy = dagron.NodePolicy(keep=dagron.Fold(added, Sample))
        builder.add_node(name, policy=policy).add_edge(name, "report")
        expanders[name] = sampling(strike, target)
        tasks[name] = partial(draw, strike, 0, paths)
    return builder.build(), expanders, tasks


def runner_of(name: str, address: str | None, wait: float) -> Any:
    """Return the runner of that name; None is this process."""
    from dagron import runners

    if name == "process":
        return runners.ProcessRunner()
    if name == "dask":
        return runners.DaskRunner(address or "tcp://127.0.0.1:8786", timeout=wait)
    if name == "ray":
        return runners.RayRunner(address)
    return None


def main(arguments: list[str]) -> int:
    options = parsed(arguments)
    dag, expanders, tasks = job(options.target, options.paths)
    where: dict[str, Any] = {}
    try:
        runner = runner_of(options.runner, options.address, options.wait)
        if runner is not None:
            where = {"runners": {options.runner: runner}, "runner": options.runner}
        executor = dagron.DynamicExecutor(dag, expanders, **where)
        result = executor.execute_sync(tasks, backend=options.backend)
    except (dagron.MissingExtraError, dagron.RunnerError) as error:
        print(error, file=sys.stderr)
        return 2
    result.raise_for_failures()
    print(result["report"].result)
    batches = sum(len(family) - 1 for family in result.families().values())
    took = f"{result.total_duration_seconds:.1f} s"
    print(f"{batches} sampling nodes added, {took} on {options.runner}", file=sys.stderr)
    return 0


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    places = ("local", "process", "dask", "ray")
    parser.add_argument("--runner", choices=places, default="local", help="where to simulate")
    parser.add_argument("--address", help="of the Dask scheduler, or of the Ray cluster")
    parser.add_argument("--wait", type=float, default=10.0, help="seconds for the Dask scheduler")
    parser.add_argument("--target", type=float, default=0.05, help="standard error of each price")
    parser.add_argument("--paths", type=int, default=500, help="pairs of paths in a batch")
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
