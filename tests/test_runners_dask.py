"""DaskRunner: results that stay on the workers, workers and schedulers that are lost."""

import gc
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import anyio
import pytest

import dagron
from away import Cluster, Marks, cluster, holding, missing, one, sleeping, working
from controls import graph, statuses
from dagron import (
    DynamicExecutor,
    DynamicModification,
    DynamicNodeSpec,
    Edge,
    NodePolicy,
    NotPicklableError,
    Retry,
    RunnerError,
    RunnerLostError,
    WorkerLostError,
)
from ways import GUARD, passes

pytestmark = missing("dask")
QUICK = Retry(attempts=3, initial_delay=0)


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return "asyncio", {"use_uvloop": False}


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose workers these tests kill: each then starts another."""
    with cluster(tmp_path_factory.mktemp("cluster")) as cluster_:
        yield cluster_


@pytest.fixture
def marks(tmp_path: Path) -> Marks:
    return Marks(tmp_path)


def runner(cluster: Any, **options: Any) -> Any:
    from dagron.runners import DaskRunner

    return DaskRunner(cluster, **options)


def watched(cluster: Any, **options: Any) -> Any:
    """A runner that notes what is fetched of it: how many results at a time."""
    from dagron.runners import DaskRunner

    class Watched(DaskRunner):
        fetched: ClassVar[list[int]] = []

        async def fetch(self, results: Sequence[Any]) -> Sequence[Any]:
            self.fetched.append(len(results))
            return await super().fetch(results)

    Watched.fetched = []
    return Watched(cluster, **options)


def executor(on: Any, edges: str = "", /, *, options: Any = None, **policies: Any) -> Any:
    """An executor of such a graph, all of whose nodes run on the cluster."""
    dag = graph(edges, **policies)
    return DynamicExecutor(dag, runners={"big": on}, runner="big", **(options or {}))


async def ran(on: Any, tasks: dict[str, Any], edges: str = "", **options: Any) -> Any:
    with anyio.fail_after(2 * GUARD):
        policies = dict.fromkeys(tasks)
        return await executor(on, edges, options=options, **policies).execute(tasks)


async def placed(run: Any, node: str, marks: Marks) -> None:
    """Return when the body of the node runs, and it is known here on which worker."""
    async for event in run.events():
        if event.kind == "node_placed" and event.node == node:
            await marks.reached("began")
            return


def lose(there: Cluster, pid: int) -> None:
    """Kill the worker of this process, and begin another in its place."""
    name = next(name for name, process in there.workers.items() if process.pid == pid)
    process = there.workers.pop(name)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there.add_worker(f"{name}x", "--resources", "token=1")


# --- results stay on the workers -----------------------------------------------------------------


async def test_results_that_are_passed_on_are_not_fetched(there: Cluster) -> None:
    """Of three stages that hand 5 MB on, only the last result, a number, comes here."""
    big = watched(there.address)
    tasks = {"a": lambda: bytes(5_000_000), "b": lambda a: a + b"!", "c": lambda b: len(b)}
    result = await ran(big, tasks, "a>b b>c", keep="leaves")
    assert result["c"].result == 5_000_001
    assert big.fetched == [1]


async def test_what_is_kept_is_fetched_at_the_end(there: Cluster) -> None:
    """By default the result has all values, which are fetched together when the run ends."""
    big = watched(there.address)
    result = await ran(big, {"a": one, "b": lambda a: a + 1, "c": lambda b: b + 1}, "a>b b>c")
    assert [result[name].result for name in "abc"] == [1, 2, 3]
    assert big.fetched == [3]


async def test_a_result_is_fetched_once_for_all_who_need_it_here(there: Cluster) -> None:
    """Two local nodes and the result of the run share one transfer; a remote one needs none."""
    big = watched(there.address)
    local = NodePolicy(runner="local")
    dag = executor(big, "a>b a>c a>d", a=None, b=local, c=local, d=None)
    tasks = {"a": lambda: [1], "b": lambda a: a, "c": lambda a: a, "d": lambda a: [*a, 2]}
    with anyio.fail_after(GUARD):
        result = await dag.execute(tasks)
    assert result["b"].result is result["c"].result is result["a"].result
    assert result["d"].result == [1, 2]
    assert big.fetched == [1, 1]


async def test_every_result_may_be_fetched_at_once(there: Cluster) -> None:
    """With `keep_remote=False` a result comes as soon as its node is done."""
    big = watched(there.address, keep_remote=False)
    result = await ran(big, {"a": one, "b": lambda a: a + 1}, "a>b")
    assert result["b"].result == 2
    assert big.fetched == [1, 1]


async def test_results_are_freed(there: Cluster, marks: Marks) -> None:
    """What nobody needs is freed while the run goes on, and everything when it has ended."""
    from distributed import Client

    async with Client(there.address, asynchronous=True, set_as_default=False) as client:
        held = []

        async def last(c: int) -> None:
            with anyio.fail_after(GUARD):
                while await count(client) > 1:  # noqa: ASYNC110 (it is the cluster)
                    await anyio.sleep(0.01)
            held.append(await count(client))

        dag = executor(
            runner(there.address),
            "a>b b>c c>d",
            options={"keep": "leaves"},
            **dict.fromkeys("abc"),
            d=NodePolicy(runner="local"),
        )
        with anyio.fail_after(GUARD):
            await dag.execute({"a": one, "b": lambda a: a, "c": lambda b: b, "d": last})
            while await count(client):  # noqa: ASYNC110 (it is the cluster)
                await anyio.sleep(0.01)
        assert held == [1]  # that of c, which d has


async def test_a_node_that_has_failed_keeps_nothing(there: Cluster) -> None:
    """What it depended on is freed while the run goes on, and no frame of its error leads here."""
    from distributed import Client

    def fail(a: int) -> None:
        try:
            raise OSError("first")
        except OSError as error:
            raise ValueError("no") from ExceptionGroup("all", [error, KeyError("other")])

    async with Client(there.address, asynchronous=True, set_as_default=False) as client:

        async def other() -> None:
            with anyio.fail_after(GUARD):
                while run.status("b") is not dagron.NodeStatus.FAILED or await count(client):  # noqa: ASYNC110
                    await anyio.sleep(0.01)

        dag = executor(
            runner(there.address),
            "a>b",
            options={"keep": "leaves"},
            **dict.fromkeys("ab"),
            other=NodePolicy(runner="local"),
        )
        with anyio.fail_after(GUARD):
            async with dag.start({"a": one, "b": fail, "other": other}) as run:
                result = await run.wait()
    assert statuses(result)["other"] == "COMPLETED"
    error = result["b"].error
    assert error.__traceback__ is None
    assert error.__context__ is None or error.__context__.__traceback__ is None
    assert "KeyError: 'other'" in "".join(error.__notes__)
    assert " in fail" in result.summary()


@pytest.mark.parametrize("keep", ["all", "leaves"])
async def test_a_shared_runner_keeps_nothing_of_runs_that_have_ended(
    there: Cluster, keep: str
) -> None:
    """While the runner stays entered, what its runs have left on the workers is freed: at once, and
    not when the garbage collector comes by.
    """
    from distributed import Client

    def fail(b: int) -> None:
        raise ValueError("no")

    async with (
        Client(there.address, asynchronous=True, set_as_default=False) as client,
        runner(there.address) as big,
    ):
        with without_collector(), anyio.fail_after(GUARD):
            for last in (lambda b: b, fail, lambda b: b):
                await ran(big, {"a": one, "b": lambda a: a, "c": last}, "a>b b>c", keep=keep)
            while await count(client):  # noqa: ASYNC110 (it is the cluster)
                await anyio.sleep(0.01)
        assert not big._calls
        assert not big._kept
        assert not big._followers


@contextmanager
def without_collector() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def count(client: Any) -> int:
    """How many results the workers keep."""
    return len({key for keys in (await client.has_what()).values() for key in keys})


async def test_equal_calls_are_not_merged(there: Cluster, marks: Marks) -> None:
    """Twenty nodes of one task without arguments run it twenty times."""
    task = holding(marks)
    marks.set("go")
    result = await ran(
        runner(there.address), {f"n{n}": lambda: marks.add("ran") for n in range(20)}
    )
    assert result.ok
    assert marks.count("ran") == 20
    assert task() == "held"


async def test_a_late_condition_on_a_remote_result_is_refused(there: Cluster) -> None:
    """A condition that is added to a node whose result is not here is a fault that says so."""

    def expand(name: str, result: int) -> DynamicModification:
        edge = Edge("a", "new", condition=lambda value: value == 1)
        return DynamicModification([DynamicNodeSpec("new", one)], add_edges=[edge])

    dag = graph("a>b", a=None, b=None)
    for keep, status in ((True, "FAILED"), (False, "COMPLETED")):
        big = runner(there.address, keep_remote=keep)
        late = DynamicExecutor(dag, {"b": expand}, runners={"big": big}, runner="big")
        with anyio.fail_after(GUARD):
            result = await late.execute({"a": one, "b": lambda a: a})
        assert statuses(result)["b"] == status
    assert result["new"].result == 1


# --- what is lost --------------------------------------------------------------------------------


async def test_a_worker_that_dies_fails_its_node(there: Cluster, marks: Marks) -> None:
    """Killed in the middle of a node, that is FAILED with its worker's name; others complete."""

    tasks: dict[str, Any] = {"a": working(marks), "b": lambda a: a, "c": one}
    with anyio.fail_after(2 * GUARD):
        dag = executor(runner(there.address), "a>b", **dict.fromkeys("abc"))
        async with dag.start(tasks) as run:
            await placed(run, "a", marks)
            await anyio.to_thread.run_sync(lose, there, int(marks.contents("pid")[0]))
        result = await run.wait()
    assert statuses(result) == {"a": "FAILED", "b": "SKIPPED", "c": "COMPLETED"}
    error = result["a"].error
    assert isinstance(error, WorkerLostError)
    assert error.node == "a"
    assert error.worker == result["a"].place.worker
    assert error.worker in str(error)


def test_a_second_copy_of_a_call_that_is_lost_tells_nothing() -> None:
    """The place of the node is the worker that was lost, also when another has begun since."""
    from dagron.runners._dask import _Sent

    line = SimpleNamespace(places=[])
    line.placed = line.places.append
    sent = _Sent("a", line)  # type: ignore[arg-type]
    sent.began("first")
    sent.lose("first")
    sent.began("second")
    assert line.places == ["first"]
    assert (sent.worker, sent.is_running) == ("first", False)


async def test_a_node_whose_worker_died_is_tried_again(there: Cluster, marks: Marks) -> None:
    """By its policy the node completes on another worker; what was done is not done again."""

    def work(a: int) -> int:
        if not marks.count("pid"):
            working(marks)()
        return a + 1

    local = NodePolicy(runner="local")  # so that its result is lost with no worker
    tasks: dict[str, Any] = {"a": lambda: marks.add("done"), "b": work}
    with anyio.fail_after(2 * GUARD):
        dag = executor(runner(there.address), "a>b", a=local, b=NodePolicy(retry=QUICK))
        async with dag.start(tasks) as run:
            await placed(run, "b", marks)
            await anyio.to_thread.run_sync(lose, there, int(marks.contents("pid")[0]))
        result = await run.wait()
    assert result["b"].result == 2
    assert result["b"].attempts == 2
    assert isinstance(result["b"].errors[0], WorkerLostError)
    assert marks.count("done") == 1


@pytest.mark.parametrize("megabytes", [0, 2])
async def test_a_result_that_is_lost_is_computed_again(
    there: Cluster, marks: Marks, megabytes: int
) -> None:
    """A node whose result was on the worker that died runs again, and its reason says so.

    So does one whose call is large, of which Dask does not warn: there is nothing to be done.
    """
    from dask import config

    ballast = os.urandom(megabytes * 1_000_000)

    def first() -> int:
        marks.add("pid", str(os.getpid()))
        return 20 + len(ballast[:0])

    async def between() -> None:
        pid = int(marks.contents("pid")[0])
        await anyio.to_thread.run_sync(lose, there, pid)

    local = NodePolicy(runner="local")
    warns = {"distributed.admin.large-graph-warning-threshold": "1 MB"}
    with config.set(warns), anyio.fail_after(2 * GUARD):
        dag = executor(runner(there.address), "a>gap a>b gap>b", a=None, gap=local, b=None)
        tasks = {"a": first, "gap": between, "b": lambda *, a: a + 1}
        result = await dag.execute(tasks)
    assert result["b"].result == 21
    assert result["a"].result == 20
    assert marks.count("pid") == 2
    assert "lost with worker tcp://" in result["a"].reason
    assert "computed again" in result["a"].reason
    assert result["b"].reason is None
    assert result.ok


async def test_what_the_last_worker_had_is_lost_when_no_other_comes(
    tmp_path: Path, marks: Marks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node here that needs it fails, and the run ends, after the time that connecting may take.

    A run with a timeout ends with that.
    """
    monkeypatch.setattr("dagron.runners._dask.INTERVAL", 0.1)
    (tmp_path / "own").mkdir()
    with cluster(tmp_path / "own", workers=1) as own, anyio.fail_after(2 * GUARD):

        async def between() -> None:
            (worker,) = own.workers.values()
            worker.kill()
            await anyio.to_thread.run_sync(worker.wait)

        local = NodePolicy(runner="local")
        for seconds, limit in ((1.5, None), (30, 2)):
            on = runner(own.address, timeout=seconds)
            dag = executor(on, "a>gap a>b gap>b", a=None, gap=local, b=local)
            tasks = {"a": one, "gap": between, "b": lambda a: a}
            result = await dag.execute(tasks, timeout=limit)
            with pytest.raises(WorkerLostError, match="lost with its"):
                result["a"].result  # noqa: B018
            if limit is None:
                assert statuses(result)["b"] == "FAILED"
                assert "the cluster has had no worker" in str(result["b"].error)
                own.workers.clear()
                own.add_worker("another")
                await anyio.to_thread.run_sync(own.wait_for_workers, 1)


async def test_a_scheduler_that_is_lost_ends_the_run(
    tmp_path: Path, marks: Marks, caplog: pytest.LogCaptureFixture
) -> None:
    """Killed while nodes run, the run ends with RunnerLostError; nothing of it is left."""
    (tmp_path / "own").mkdir()
    with cluster(tmp_path / "own", workers=1) as own, anyio.fail_after(2 * GUARD):
        dag = executor(runner(own.address), "", a=None, b=NodePolicy(runner="local"))
        cleaned = []

        async def here() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                cleaned.append(True)

        async def kill() -> None:
            await marks.reached("began")
            own.scheduler.send_signal(signal.SIGKILL)

        async with anyio.create_task_group() as group:
            group.start_soon(kill)
            with pytest.raises(RunnerLostError, match="is lost") as caught:
                await dag.execute({"a": sleeping(marks), "b": here})
    assert caught.value.runner == "big"
    assert own.address in str(caught.value)
    assert cleaned == [True]


async def test_runs_that_begin_on_a_lost_scheduler_end(tmp_path: Path) -> None:
    """While an entered runner looks for it, and when it has given up; not when it is back."""
    (tmp_path / "own").mkdir()
    with cluster(tmp_path / "own", workers=1) as own, anyio.fail_after(3 * GUARD):
        async with runner(own.address, timeout=60) as on, runner(own.address, timeout=1) as short:
            for each in (on, short):
                assert (await ran(each, {"a": one})).ok
            own.scheduler.kill()
            own.scheduler.wait()
            for each, statuses_ in ((on, ["connecting"]), (short, ["closing", "closed"])):
                for status in statuses_:
                    while each._client.status not in (status, "closed"):  # noqa: ASYNC110
                        await anyio.sleep(0.01)
                    with pytest.raises(RunnerLostError, match="is lost") as caught:
                        await ran(each, {"a": one})
                    assert caught.value.runner == "big"
            own.begin_scheduler(own.address.rpartition(":")[2])
            own.add_worker("another")
            await anyio.to_thread.run_sync(own.wait_for_workers, 1)
            while on._client.status != "running":  # noqa: ASYNC110
                await anyio.sleep(0.01)
            result = await ran(on, {"a": one})
            assert result["a"].result == 1
            assert result["a"].place.worker.startswith("tcp://")


async def test_a_scheduler_that_is_not_there_ends_the_run_before_it_begins() -> None:
    """Nothing runs, and the error says how to start a cluster."""
    dag = executor(runner("tcp://127.0.0.1:9", timeout=0.5), "", a=None)
    with pytest.raises(
        RunnerLostError, match=r"no Dask scheduler at tcp://127\.0\.0\.1:9"
    ) as caught:
        await dag.execute({"a": one})
    assert "dask scheduler" in str(caught.value)
    assert caught.value.runner == "big"


async def test_a_cancellation_on_the_cluster_is_a_failure(there: Cluster, marks: Marks) -> None:
    """Who cancels a call there fails its node: the node and the run are not cancelled."""
    from distributed import Client, Future

    on = runner(there.address)
    async with on:
        dag = executor(on, "", a=None, b=None)
        with anyio.fail_after(GUARD):
            async with dag.start({"a": sleeping(marks), "b": one}) as run:
                await marks.reached("began")
                keys = [key for key in on._client.futures if "/a/" in key]
                async with Client(there.address, asynchronous=True, set_as_default=False) as other:
                    futures = [Future(key, client=other) for key in keys]
                    await other.cancel(futures, force=True)
            result = await run.wait()
    assert statuses(result) == {"a": "FAILED", "b": "COMPLETED"}
    assert isinstance(result["a"].error, RunnerError)
    assert "was cancelled on the Dask cluster" in str(result["a"].error)
    assert result.reason is None


class OnlyThere:
    """What can be unpickled in the process alone where it was made."""

    def __reduce__(self) -> Any:
        return _made_in, (os.getpid(),)


def _made_in(pid: int) -> OnlyThere:
    if pid != os.getpid():
        raise OSError("it cannot be made here")
    return OnlyThere()


async def test_a_result_that_cannot_be_loaded_here_is_told_as_that(there: Cluster) -> None:
    """Nothing is lost with a worker: to ask for it says why it cannot come, others come."""
    result = await ran(runner(there.address), {"a": OnlyThere, "b": one})
    assert statuses(result) == {"a": "COMPLETED", "b": "COMPLETED"}
    assert result["b"].result == 1
    with pytest.raises(NotPicklableError, match="cannot be unpickled here: OSError") as caught:
        result["a"].result  # noqa: B018
    assert (caught.value.node, caught.value.what) == ("a", "its result")


# --- slots ---------------------------------------------------------------------------------------


async def test_a_body_that_goes_on_keeps_its_slot(there: Cluster, marks: Marks) -> None:
    """The node is FAILED at its timeout; the next one starts when the body has ended."""
    events = []

    def watch(event: Any) -> None:
        events.append((event.kind, getattr(event, "node", None)))

    dag = executor(
        runner(there.address, slots=1),
        options={"observers": [watch]},
        a=NodePolicy(timeout=0.2, priority=1),
        b=None,
    )
    with anyio.fail_after(GUARD):
        async with dag.start({"a": holding(marks), "b": one}) as run:
            while run.status("a") is not dagron.NodeStatus.FAILED:  # noqa: ASYNC110
                await anyio.sleep(0.002)
            await passes()
            assert run.status("b") is dagron.NodeStatus.READY
            assert "waits for a slot of 'big'" in str(run.explain("b"))
            marks.set("go")
        result = await run.wait()
    assert statuses(result) == {"a": "FAILED", "b": "COMPLETED"}
    assert marks.is_set("ended")


async def test_resources_pass_through(
    there: Cluster, marks: Marks, caplog: pytest.LogCaptureFixture
) -> None:
    """Each worker has one token: of nodes that take one each, no more run than there are.

    What no worker has is waited for, and a warning says so, once.
    """
    from distributed import Client

    policy = NodePolicy(resources={"token": 1})
    on = runner(there.address)
    tasks = {f"n{n}": one for n in range(4)}
    assert (await ran(on, tasks, policy=policy)).ok
    assert "waits for a worker" not in caplog.text
    unheard = NodePolicy(resources={"token": 1, "unheard": 2})
    dag = executor(on, "", a=unheard, b=unheard)
    with anyio.fail_after(GUARD):
        async with dag.start({"a": one, "b": one}) as run:
            async with Client(there.address, asynchronous=True, set_as_default=False) as client:
                while await client.run_on_scheduler(_unrunnable) < 2:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
            run.cancel()
        result = await run.wait()
    assert statuses(result) == {"a": "CANCELLED", "b": "CANCELLED"}
    assert result["a"].place.worker is None
    (record,) = [record for record in caplog.records if "waits for a worker" in record.message]
    assert (record.levelname, record.run_id, record.node) == ("WARNING", run.id, "a")
    assert "with the resources token=1, unheard=2, and the Dask cluster" in record.message
    assert there.address in record.message


async def test_a_cluster_without_workers_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A node waits for the first one to come, and runs there."""
    with cluster(tmp_path, workers=0) as own, anyio.fail_after(2 * GUARD):
        async with executor(runner(own.address), "", a=None).start({"a": one}) as run:
            while "waits for a worker, and the Dask" not in caplog.text:  # noqa: ASYNC110
                await anyio.sleep(0.01)
            own.add_worker("first")
        assert (await run.wait())["a"].result == 1


def _unrunnable(dask_scheduler: Any) -> int:
    return len(dask_scheduler.unrunnable)


async def test_the_scheduler_forgets_a_runner_that_was_left(there: Cluster) -> None:
    """No topic of a run's news stays there, and nobody who hears of the cluster."""
    from distributed import Client

    async with Client(there.address, asynchronous=True, set_as_default=False) as client:
        async with runner(there.address) as on:
            assert (await ran(on, {"a": one})).ok
            assert on._topic in await client.run_on_scheduler(_topics)
            ours = on._client.id
            assert ours in await client.run_on_scheduler(_hearers)
        assert on._topic not in await client.run_on_scheduler(_topics)
        assert ours not in await client.run_on_scheduler(_hearers)


def _hearers(dask_scheduler: Any) -> set[str]:
    return set(dask_scheduler._broker._topics["all"].subscribers)


def _topics(dask_scheduler: Any) -> set[str]:
    return {name for name in dask_scheduler._broker._topics if name.startswith("dagron-")}


# --- whose cluster -------------------------------------------------------------------------------


async def test_a_client_or_a_cluster_tells_the_address(there: Cluster) -> None:
    """A client of the user's, on whichever loop, is left as it is; so is a cluster object."""
    from distributed import Client

    class ClusterObject:
        scheduler_address = there.address

    with Client(there.address, set_as_default=False) as client:
        for given in (client, ClusterObject()):
            assert (await ran(runner(given), {"a": one}))["a"].result == 1
        assert client.status == "running"


async def test_a_runner_may_outlive_its_runs(there: Cluster) -> None:
    """Runs inside of its block, two at once, share a connection."""
    async with runner(there.address) as shared:
        client = shared._client
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(ran, shared, {"a": one, "b": lambda a: a}, "a>b")
        assert shared._client is client
        assert client.status == "running"
    assert client.status == "closed"


def test_it_says_that_it_needs_asyncio(there: Cluster) -> None:
    """On trio the run ends with an error that says so, before anything runs."""
    dag = executor(runner(there.address), "", a=None)
    with pytest.raises(RunnerError, match="works on asyncio"):
        dag.execute_sync({"a": one}, backend="trio")


def test_a_script_needs_no_block(there: Cluster) -> None:
    """`execute_sync` connects and disconnects by itself."""
    result = executor(runner(there.address), "a>b", a=None, b=None).execute_sync(
        {"a": one, "b": lambda a: a + 1}
    )
    assert result["b"].result == 2


def test_it_works_on_uvloop(there: Cluster) -> None:
    """So does Dask."""
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
    result = uvloop.run(ran(runner(there.address), {"a": one, "b": lambda a: a + 1}, "a>b"))
    assert result["b"].result == 2


@pytest.mark.parametrize(
    ("cluster", "options"),
    [(5, {}), ("", {}), ("tcp://x", {"slots": 0}), ("tcp://x", {"carry": ["x"]})],
)
def test_wrong_arguments_are_refused(cluster: Any, options: dict[str, Any]) -> None:
    """What cannot be is refused where it is written."""
    with pytest.raises((TypeError, ValueError), match=r"help:"):
        runner(cluster, **options)


async def test_a_task_that_a_worker_cannot_import_is_named(there: Cluster, tmp_path: Path) -> None:
    """A module that is missing there fails the node with what is missing."""
    (tmp_path / "only_at_home.py").write_text("def task():\n    return 1\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        import only_at_home

    error = (await ran(runner(there.address), {"a": only_at_home.task}))["a"].error
    assert isinstance(error, dagron.NotPicklableError)
    assert "only_at_home" in str(error)


def test_workers_are_processes_of_their_own(there: Cluster) -> None:
    """The cluster of these tests is two processes beside this one."""
    assert all(isinstance(process, subprocess.Popen) for process in there.workers.values())
    assert os.getpid() not in {process.pid for process in there.workers.values()}
