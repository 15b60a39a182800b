"""The examples of web services, as real servers on loopback with a real client."""

import asyncio
import io
import json
import signal
import socket
import struct
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import dagron
from example_runs import EXAMPLES, command, imported
from services import Client, Service, aiohttp, seq_of, served

AIOHTTP = """
import asyncio
import aiohttp_service as service

honest = service.tasks

def held():
    say("blocked")
    go.wait()
    return "freed"

async def flood():
    for done in range(3_000):
        service.dagron.progress(done, note="x" * 5_000)
        if done % 20 == 0:
            await asyncio.sleep(0)

def tasks(texts):
    made = honest(texts)
    if "flood" in texts:
        return {**made, "total": flood}
    return {**made, "total": held} if "hold" in texts else made

service.tasks = tasks

async def own_runs(app):
    async with service.dagron.RunRegistry(grace=GRACE, thread_grace=0.1, KEEP) as runs:
        app[service.RUNS] = runs
        yield
    for run in runs.values():
        print(run.id, run.state, flush=True)

service.own_runs = own_runs
service.serve(sock=listening, shutdown_timeout=0.5, print=None)
"""

FASTAPI = """
import asyncio
import app, tables
from pathlib import Path

honest = tables.profile

async def flood():
    for done in range(3_000):
        tables.dagron.progress(done, note="x" * 5_000)
        if done % 20 == 0:
            await asyncio.sleep(0)

def profile(body, table):
    if "flood" in table:
        return flood()
    if "hold" in table:
        say("blocked")
        go.wait()
    return honest(body, table)

tables.profile = profile
service = app.create_app(Path(sys.argv[2]), grace=GRACE, thread_grace=0.1, KEEP)
options = dict(timeout_graceful_shutdown=1, log_level="critical")
app.serve(service, fd=listening.fileno(), **options)
"""


def zipped(**tables: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in tables.items():
            archive.writestr(name if "." in name else f"{name}.csv", text)
    return buffer.getvalue()


TABLES = zipped(people="name,age\nAda,36\nBob,\n", towns="town\nUr\n")
HELD = zipped(people="name,age\nAda,36\n", hold="x\n1\n")
TEXTS = json.dumps({"haiku": "an old silent pond", "motto": "festina lente"}).encode()
HOLD = json.dumps({"hold": "on"}).encode()


def fastapi_service(folder: Path, grace: float = 60, keep: str = "") -> Any:
    return served(FASTAPI.replace("GRACE", str(grace)).replace("KEEP", keep), folder)


def aiohttp_service(folder: Path, grace: float = 60, keep: str = "") -> Any:
    return served(AIOHTTP.replace("GRACE", str(grace)).replace("KEEP", keep), folder)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Path]]:
    """The FastAPI service, for tests that leave it alone."""
    folder = tmp_path_factory.mktemp("reports")
    with fastapi_service(folder) as service:
        yield service, folder


# --- FastAPI: jobs -------------------------------------------------------------------------------


def test_a_job_from_upload_to_report(jobs: tuple[Service, Path]) -> None:
    """An upload is acknowledged with an id at once, its events end with `end`, its report is
    answered and written to the folder.
    """
    service, folder = jobs

    async def use(client: Client) -> None:
        id = await client.start(TABLES)
        told = await client.ended(id)
        assert (told["id"], told["state"], told["nodes"]["completed"]) == (id, "succeeded", 5)
        status, job = await client.get(f"/jobs/{id}")
        report = {
            "people.csv": {"columns": ["name", "age"], "rows": 2, "empty": 1},
            "towns.csv": {"columns": ["town"], "rows": 1, "empty": 0},
        }
        assert (status, job["report"]) == (200, report)
        assert json.loads((folder / f"{id}.json").read_text()) == report
        status, index = await client.get("/jobs")
        assert id in [listed["id"] for listed in index]
        texts = await picture_of(client, id)
        assert "table people.csv" in texts
        assert "5 completed" in texts

    service.call(use)


async def picture_of(client: Client, id: str) -> list[str]:
    """The texts in the picture of a job."""
    async with client.session.get(f"/jobs/{id}/graph.svg") as picture:
        assert picture.content_type == "image/svg+xml"
        return [*ElementTree.fromstring(await picture.text()).itertext()]


def test_events_resume_after_the_last_id(jobs: tuple[Service, Path]) -> None:
    """A client that disconnects after every few messages and comes back with its last id has, in
    the end, each event once.
    """

    async def use(client: Client) -> None:
        id = await client.start(TABLES, "/jobs?approval=true")
        seen: list[int] = []
        last, rounds, is_over = None, 0, False
        while not is_over:
            rounds += 1
            count = 0
            async for message in client.messages(id, last):
                is_over = message["event"] == "end"
                if not is_over:
                    last = message["id"]
                    seen.append(seq_of(message))
                if len(seen) == 1:
                    assert (await client.post(f"/jobs/{id}/approve"))[0] == 200
                count += 1
                if count == 3:
                    break
        assert rounds > 2
        assert seen == [*range(seen[0], seen[0] + len(seen))]

    jobs[0].call(use)


def test_a_job_waits_for_approval(jobs: tuple[Service, Path]) -> None:
    """A job that is to be approved publishes only then; it is approved once, and not after it was
    cancelled.
    """
    service, folder = jobs

    async def use(client: Client) -> None:
        first, second = [await client.start(TABLES, "/jobs?approval=true") for _ in range(2)]
        for id in (first, second):
            async for message in client.messages(id):
                data = json.loads(message["data"])
                if message["event"] == "run_snapshot" and ["approve", "RUNNING"] in data["nodes"]:
                    break
                if message["event"] == "node_started" and data["node"] == "approve":
                    break
            assert not (folder / f"{id}.json").exists()
            assert {"table people.csv", "4 completed", "1 running"} <= {
                *await picture_of(client, id)
            }
        assert (await client.post(f"/jobs/{first}/approve"))[0] == 200
        assert (await client.post(f"/jobs/{first}/approve"))[0] == 409
        assert (await client.post(f"/jobs/{second}/cancel"))[0] == 202
        assert (await client.ended(first))["state"] == "succeeded"
        told = await client.ended(second)
        assert (told["state"], told["reason"]) == (
            "cancelled",
            "the run was cancelled: by a request",
        )
        assert (folder / f"{first}.json").exists()
        assert not (folder / f"{second}.json").exists()
        for id, state in ((first, "succeeded"), (second, "cancelled")):
            answer = await client.post(f"/jobs/{id}/approve")
            assert answer == (409, {"detail": f"the job waits for no approval: it is {state}"})

    service.call(use)


def test_a_job_that_waits_for_no_approval_cannot_be_approved(jobs: tuple[Service, Path]) -> None:
    """Who approves a job that waits for nothing is told so, and not that it was approved."""

    async def use(client: Client) -> None:
        id = await client.start(TABLES)
        status, answer = await client.post(f"/jobs/{id}/approve")
        assert (status, answer["detail"][:29]) == (409, "the job waits for no approval")

    jobs[0].call(use)


def test_a_job_that_fails_says_why(jobs: tuple[Service, Path]) -> None:
    """A table that cannot be read fails its job, named, and the answer stays a 200."""
    broken = bytearray(zipped(people="name\n" + "Ada\n" * 50))
    broken[45:50] = b"?????"

    async def use(client: Client) -> None:
        told = await client.ended(await client.start(bytes(broken)))
        assert told["state"] == "failed"
        assert list(told["failures"]) == ["table people.csv"]
        status, job = await client.get(f"/jobs/{told['id']}")
        assert (status, job["report"]) == (200, None)
        status, answer = await client.post("/profile", bytes(broken))
        assert status == 422
        assert answer["detail"].startswith("table people.csv: ")

    jobs[0].call(use)


def test_a_zip_that_lies_about_its_size_is_not_unpacked(jobs: tuple[Service, Path]) -> None:
    """A zip that says of 100 MB that they are 10 bytes passes as an upload; its job reads no more
    than those, and fails.
    """
    size, said = 100_000_000, 10
    body = zipped(people="0" * size)
    assert body.count(size.to_bytes(4, "little")) == 2  # before the file, and in the directory
    body = body.replace(size.to_bytes(4, "little"), said.to_bytes(4, "little"))

    async def use(client: Client) -> None:
        told = await client.ended(await client.start(body))
        assert (told["state"], list(told["failures"])) == ("failed", ["table people.csv"])
        assert "CRC" in told["failures"]["table people.csv"]

    jobs[0].call(use)


def bomb() -> bytes:
    return zipped(people="0" * 64_000_001)


def twice() -> bytes:
    return zipped(**{"people.csv": "x", "qeople.csv": "x"}).replace(b"qeople", b"people")


def nameless() -> bytes:
    """A zip whose directory has no name for its file, and calls what was it a comment."""
    body = bytearray(zipped(people="x"))
    entry = body.index(b"PK\x01\x02")
    body[entry + 32], body[entry + 28] = body[entry + 28], 0
    return bytes(body)


def encrypted() -> bytes:
    """A zip whose file has the mark of an encrypted one, before it and in the directory."""
    body = bytearray(zipped(people="x"))
    body[6] |= 1
    body[body.index(b"PK\x01\x02") + 8] |= 1
    return bytes(body)


BAD = {
    "empty": (b"", 415, "no zip"),
    "not a zip": (b"name,age\nAda,36\n", 415, "no zip"),
    "cut off": (TABLES[:-30], 415, "no zip"),
    "too large": (bytes(8_000_001), 413, "8,000,000 bytes"),
    "bomb": (bomb(), 413, "64,000,000 bytes when unpacked"),
    "many files": (zipped(**{f"t{n}": "x" for n in range(501)}), 413, "at most 500 files"),
    "out of the folder": (zipped(**{"../people.csv": "x"}), 422, "outside of its folder"),
    "inside and out": (zipped(**{"a/../../people.csv": "x"}), 422, "outside of its folder"),
    "absolute": (zipped(**{"/etc/people.csv": "x"}), 422, "outside of its folder"),
    "a drive": (zipped(**{"C:people.csv": "x"}), 422, "outside of its folder"),
    "backslashes": (zipped(**{"..\\people.csv": "x"}), 422, "outside of its folder"),
    "an odd name": (zipped(**{"a\nb.csv": "x"}), 422, "odd name"),
    "two of one name": (twice(), 422, "two files of one name"),
    "encrypted": (encrypted(), 422, "encrypted"),
    "a file without a name": (nameless(), 415, "no zip"),
    "no table": (zipped(**{"readme.txt": "x"}), 422, "no .csv file"),
    "nothing": (zipped(), 422, "no .csv file"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_uploads_are_refused(jobs: tuple[Service, Path], kind: str) -> None:
    """What is no zip, too large, a zip bomb, out of its folder or without a table gets a 4xx that
    says what is wrong, and starts nothing.
    """
    body, status, text = BAD[kind]

    async def use(client: Client) -> None:
        before = await client.get("/jobs")
        for path in ("/jobs", "/profile"):
            answer = await client.post(path, body)
            assert answer[0] == status
            assert text in answer[1]["detail"]
        assert len((await client.get("/jobs"))[1]) == len(before[1])

    jobs[0].call(use)


def test_an_unknown_job(jobs: tuple[Service, Path]) -> None:
    """An id that is not known is a 404 everywhere."""

    async def use(client: Client) -> None:
        for path in ("", "/events"):
            status, answer = await client.get(f"/jobs/nope{path}")
            assert (status, answer["detail"]) == (404, "run 'nope' is not known here")
        for path in ("/cancel", "/approve"):
            assert (await client.post(f"/jobs/nope{path}"))[0] == 404

    jobs[0].call(use)


def test_a_short_run_is_awaited(jobs: tuple[Service, Path]) -> None:
    """`POST /profile` answers with the report itself, and registers nothing."""

    async def use(client: Client) -> None:
        before = await client.get("/jobs")
        status, report = await client.post("/profile", TABLES)
        assert (status, list(report)) == (200, ["people.csv", "towns.csv"])
        assert len((await client.get("/jobs"))[1]) == len(before[1])

    jobs[0].call(use)


def test_a_short_run_is_cancelled_with_its_client(tmp_path: Path) -> None:
    """A client that disconnects cancels the run that it waits for: here `check_cancelled` in the
    blocked thread raises.
    """
    source = (
        FASTAPI.replace("GRACE", "60")
        .replace("KEEP", "")
        .replace(
            "        go.wait()\n",
            """        while True:
            try:
                tables.dagron.check_cancelled()
            except BaseException as error:
                print(type(error).__name__, flush=True)
                raise
            go.wait(0.001)
""",
        )
    )
    with served(source, tmp_path) as service:

        async def leave(client: Client) -> None:
            request = asyncio.ensure_future(client.post("/profile", HELD))
            await asyncio.to_thread(service.process.wait_for, "blocked")
            request.cancel()
            await asyncio.wait([request])

        service.call(leave)
        service.process.wait_for("Cancelled")
        service.process.signal(signal.SIGTERM)
        service.process.end()


def uploads(folder: Path) -> list[str]:
    """The names of the files that the service keeps of uploads, without their ids."""
    return sorted(path.name.partition(".")[2] for path in (folder / "uploads").iterdir())


def test_a_full_service_and_a_forgotten_job(tmp_path: Path) -> None:
    """A service that is full answers 503 with `Retry-After`, and keeps nothing of the upload; of a
    job that is forgotten the events are a 410, and the rest is known from the journal.
    """
    with fastapi_service(tmp_path, keep="max_running=1, keep=0") as service:

        async def use(client: Client) -> None:
            id = await client.start(HELD)
            async with client.session.post("/jobs", data=TABLES) as response:
                assert (response.status, response.headers["Retry-After"]) == (503, "5")
                assert "full" in (await response.json())["detail"]
            assert uploads(tmp_path) == ["zip"]
            service.process.tell("go")
            status, answer = await client.forgotten(id, "/events")
            assert (status, "was forgotten" in answer["detail"]) == (410, True)
            status, job = await client.get(f"/jobs/{id}")
            assert (status, job["state"], [*job["report"]]) == (
                200,
                "succeeded",
                ["people.csv", "hold.csv"],
            )
            await client.start(TABLES)  # there is room again

        service.call(use)


def test_sigterm_under_load_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Fifty jobs run, with clients that read, that have left, and that never read, when SIGTERM
    comes: all streams end, every acknowledged job ends in the grace, and the process as SIGTERM
    would end it.
    """
    with fastapi_service(tmp_path) as service:

        async def use(client: Client) -> list[str]:
            ids = await asyncio.gather(*(client.start(HELD) for _ in range(50)))
            for id in ids[:10]:
                async for _ in client.messages(id):
                    break
            followed: list[list[str]] = []

            async def follow(id: str) -> None:
                followed.append([message["event"] async for message in client.messages(id)])

            async with client.opened(ids[0]), client.opened(ids[1]), asyncio.TaskGroup() as readers:
                for id in ids[10:40]:
                    readers.create_task(follow(id))
                for _ in range(50):
                    await asyncio.to_thread(service.process.wait_for, "blocked")
                service.process.signal(signal.SIGTERM)
            assert len(followed) == 30
            assert not any("end" in kinds for kinds in followed)
            return list(ids)

        ids = service.call(use)
        assert not list(tmp_path.glob("*.json"))
        service.process.tell("go")
        status, _, errors = service.process.end()
    assert (status, errors) == (-signal.SIGTERM, "")
    assert {path.stem for path in tmp_path.glob("*.json")} == {*ids}


def recorded(folder: Path) -> dict[str, dagron.RecordedRun]:
    """The runs in the journal of a service that has ended."""
    with dagron.Journal(folder / "runs.db") as journal:
        return {run.id: run for run in journal.runs()}


def test_a_killed_service_goes_on_with_its_jobs(tmp_path: Path) -> None:
    """Clients post job after job, some of which block, when the service is killed: started again,
    it ends every job that was acknowledged, and no table is read twice whose columns were recorded.
    """
    acknowledged: set[str] = set()
    with fastapi_service(tmp_path, keep="max_running=100_000, keep=100_000") as service:

        async def post_on(client: Client, body: bytes, enough: asyncio.Event) -> None:
            while True:
                try:
                    status, answer = await client.post("/jobs", body)
                except (aiohttp.ClientError, OSError):
                    return
                assert status == 202
                acknowledged.add(answer["id"])
                if len(acknowledged) == 50:
                    enough.set()

        async def use(client: Client) -> None:
            enough = asyncio.Event()
            async with asyncio.TaskGroup() as clients:
                for body in [TABLES] * 5 + [HELD] * 5:
                    clients.create_task(post_on(client, body, enough))
                await enough.wait()
                await asyncio.to_thread(service.process.wait_for, "blocked")
                service.process.signal(signal.SIGKILL)

        service.call(use)
        assert service.process.end()[0] == -signal.SIGKILL
    before = recorded(tmp_path)
    assert "unfinished" in {run.state for run in before.values()}
    read = {id: {*completed(run)} for id, run in before.items()}

    with fastapi_service(tmp_path, keep="max_running=100_000, keep=100_000") as service:
        service.process.tell("go")

        async def end(client: Client) -> None:
            for job in (await client.get("/jobs"))[1]:
                if job["state"] == "running":
                    job = await client.ended(job["id"])
                assert job["state"] == "succeeded"

        service.call(end)
        service.process.signal(signal.SIGTERM)
        service.process.end()
    after = recorded(tmp_path)
    assert acknowledged <= {id for id, run in after.items() if run.state == "finished"}
    assert acknowledged <= {path.stem for path in tmp_path.glob("*.json")}
    assert [*(tmp_path / "uploads").iterdir()] == []
    for id, names in read.items():
        assert all(after[id].nodes[name].attempts == 1 for name in names)
        assert all(completed(after[id])[name] == completed(before[id])[name] for name in names)


def completed(run: dagron.RecordedRun) -> dict[str, float | None]:
    """The nodes of a run that are done, and when they began."""
    nodes = run.nodes.values()
    return {node.name: node.started_at for node in nodes if node.status == "COMPLETED"}


def test_what_waits_or_was_cancelled_before_a_restart(tmp_path: Path) -> None:
    """After a restart a job waits for its approval as before, and one that was cancelled by its
    client does not come back, and is not known.
    """

    async def wait_for_approval(client: Client, id: str) -> None:
        async for message in client.messages(id):
            data = json.loads(message["data"])
            nodes = data.get("nodes", [[data.get("node"), message["event"]]])
            if ["approve", "RUNNING"] in nodes or ["approve", "node_started"] in nodes:
                return

    with fastapi_service(tmp_path) as service:

        async def use(client: Client) -> tuple[str, str]:
            first, second = [await client.start(TABLES, "/jobs?approval=true") for _ in range(2)]
            for id in (first, second):
                await wait_for_approval(client, id)
            assert (await client.post(f"/jobs/{second}/cancel"))[0] == 202
            await client.ended(second)
            return first, second

        first, second = service.call(use)
        service.process.signal(signal.SIGKILL)
        service.process.end()
    assert not list(tmp_path.glob("*.json"))
    with fastapi_service(tmp_path) as service:

        async def go_on(client: Client) -> None:
            assert [job["id"] for job in (await client.get("/jobs"))[1]] == [first]
            for path in ("", "/events"):
                assert (await client.get(f"/jobs/{second}{path}"))[0] == 404
            await wait_for_approval(client, first)
            assert (await client.post(f"/jobs/{first}/approve"))[0] == 200
            assert (await client.ended(first))["state"] == "succeeded"

        service.call(go_on)
    assert [path.stem for path in tmp_path.glob("*.json")] == [first]
    with dagron.Journal(tmp_path / "runs.db") as journal:
        assert [run.id for run in journal.runs()] == [first]


def test_jobs_that_have_ended_are_known_after_a_restart(tmp_path: Path) -> None:
    """After a restart the jobs that have ended are listed, answered with report or failures, and
    drawn, and their events are gone; of their uploads nothing is left, not even of those that
    failed.
    """
    broken = bytearray(zipped(people="name\n" + "Ada\n" * 50))
    broken[45:50] = b"?????"

    async def end(client: Client) -> tuple[Any, Any]:
        for body in (TABLES, bytes(broken)):
            await client.ended(await client.start(body))
        first, second = (await client.get("/jobs"))[1]
        return first, second

    with fastapi_service(tmp_path) as service:
        jobs = service.call(end)
        assert uploads(tmp_path) == []
        service.process.signal(signal.SIGTERM)
        service.process.end()
    with fastapi_service(tmp_path) as service:

        async def look(client: Client) -> None:
            index = (await client.get("/jobs"))[1]
            for job, before in zip(index, jobs, strict=True):
                others = {key: job[key] for key in ("started_at", "ended_at", "failures")}
                assert job == {**before, **others}
                status, shown = await client.get(f"/jobs/{job['id']}")
                assert (status, shown) == (200, {**job, "report": shown["report"]})
                gone = (410, {"detail": f"job {job['id']} has ended before the restart"})
                assert await client.get(f"/jobs/{job['id']}/events") == gone
                assert await client.post(f"/jobs/{job['id']}/cancel") == gone
            assert [job["state"] for job in index] == ["succeeded", "failed"]
            assert [*index[1]["failures"]] == ["table people.csv"]
            _, first = await client.get(f"/jobs/{jobs[0]['id']}")
            assert first["report"]["people.csv"]["rows"] == 2
            assert {"table people.csv", "5 completed"} <= {*await picture_of(client, first["id"])}

        service.call(look)


@pytest.mark.parametrize("killed", [False, True])
def test_what_is_cancelled_is_not_taken_from_under_its_readers(
    tmp_path: Path, killed: bool
) -> None:
    """A job that is cancelled before a thread of it opens its upload ends cancelled, not failed, or
    is not there after a restart; then nothing is left of the upload.
    """
    with fastapi_service(tmp_path) as service:

        async def use(client: Client) -> None:
            id = await client.start(HELD)
            await asyncio.to_thread(service.process.wait_for, "blocked")
            assert (await client.post(f"/jobs/{id}/cancel"))[0] == 202
            assert uploads(tmp_path) == ["cancelled", "zip"]
            if not killed:
                service.process.tell("go")
                told = await client.ended(id)
                assert (told["state"], told["failures"]) == ("cancelled", {})
                assert uploads(tmp_path) == []

        service.call(use)
        service.process.signal(signal.SIGKILL)
        service.process.end()
    with fastapi_service(tmp_path) as service:
        assert service.call(lambda client: client.get("/jobs")) == (200, [])
    assert uploads(tmp_path) == []


def test_more_jobs_are_left_than_there_is_room_for(tmp_path: Path) -> None:
    """Started again with room for two, a service that has left five goes on with two, says of the
    others that they wait, and starts them as the first end.
    """
    with fastapi_service(tmp_path) as service:

        async def use(client: Client) -> list[str]:
            return [await client.start(HELD) for _ in range(5)]

        ids = service.call(use)
        service.process.signal(signal.SIGKILL)
        service.process.end()
    with fastapi_service(tmp_path, keep="max_running=2") as service:

        async def end(client: Client) -> None:
            assert [job["id"] for job in (await client.get("/jobs"))[1]] == ids[:2]
            for path in ("", "/graph.svg", "/events"):
                status, answer = await client.get(f"/jobs/{ids[4]}{path}")
                assert (status, answer["detail"]) == (503, "the job waits for room")
            service.process.tell("go")
            for id in ids:
                while (await client.get(f"/jobs/{id}"))[1].get("state") != "succeeded":
                    pass

        service.call(end)
    assert {path.stem for path in tmp_path.glob("*.json")} == {*ids}


def test_files_that_are_none_of_its_own_or_broken_do_not_stop_a_service(tmp_path: Path) -> None:
    """What somebody else has put among the uploads stays there; an upload that cannot be read is
    set aside, and said so; a draft is deleted; and the jobs that can go on do.
    """
    folder = tmp_path / "uploads"
    (folder / "notes").mkdir(parents=True)
    for name in (".DS_Store", "tables.zip", f"{'e' * 32}.zip.part"):
        (folder / name).write_bytes(b"?")
    (folder / f"{'a' * 32}.zip").write_bytes(TABLES[:-30])
    (folder / f"{'b' * 32}.draft").write_bytes(TABLES)
    (folder / f"{'c' * 32}.zip").write_bytes(TABLES)
    with fastapi_service(tmp_path) as service:

        async def use(client: Client) -> None:
            assert [job["id"] for job in (await client.get("/jobs"))[1]] == ["c" * 32]
            assert (await client.ended("c" * 32))["state"] == "succeeded"

        service.call(use)
        service.process.signal(signal.SIGTERM)
        _, _, errors = service.process.end()
    assert f"{'a' * 32}.zip cannot be read and is set aside: the upload is no zip" in errors
    left = [".DS_Store", f"{'a' * 32}.bad", f"{'e' * 32}.zip.part", "notes", "tables.zip"]
    assert sorted(path.name for path in folder.iterdir()) == left


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_blocked_thread_does_not_hold_up_the_end(tmp_path: Path, signum: signal.Signals) -> None:
    """A thread that never returns, under a client that waits for its events: SIGTERM, or Ctrl-C,
    ends the process all the same, after the grace; the upload stays, for the next one.
    """
    with fastapi_service(tmp_path, grace=0.1) as service:

        async def use(client: Client) -> None:
            id = await client.start(HELD)
            async with client.opened(id):
                await asyncio.to_thread(service.process.wait_for, "blocked")
                service.process.signal(signum)
                status, _, errors = await asyncio.to_thread(service.process.end)
                assert (status, errors) == (0 if signum == signal.SIGINT else -signum, "")

        service.call(use)
    assert not list(tmp_path.glob("*.json"))
    assert uploads(tmp_path) == ["zip"]


@contextmanager
def never_reading(service: Service, id: str) -> Iterator[None]:
    """A client that asks for events, takes in next to nothing, and stays."""
    port = int(service.url.rpartition(":")[2])
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.connect(("127.0.0.1", port))
        client.sendall(f"GET /jobs/{id}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert client.recv(12) == b"HTTP/1.1 200"
        yield


@pytest.mark.parametrize("kind", ["fastapi", "aiohttp"])
def test_a_client_that_never_reads(tmp_path: Path, kind: str) -> None:
    """A client that takes none of 15 MB of events holds up neither the job, nor other clients, nor
    the end of the service.
    """
    serving = fastapi_service if kind == "fastapi" else aiohttp_service
    body = zipped(flood="x") if kind == "fastapi" else b'{"flood": "x"}'
    path = "/jobs?approval=true" if kind == "fastapi" else "/jobs"
    with serving(tmp_path) as service:
        id = service.call(lambda client: client.start(body, path))
        with never_reading(service, id), never_reading(service, id):

            async def use(client: Client) -> str:
                if kind == "fastapi":
                    await client.post(f"/jobs/{id}/approve")
                state: str = (await client.ended(id))["state"]
                return state

            assert service.call(use) == "succeeded"
            service.process.signal(signal.SIGTERM)
            status, _, _ = service.process.end()
    assert status == (-signal.SIGTERM if kind == "fastapi" else 0)


@pytest.mark.parametrize("kind", ["fastapi", "aiohttp"])
def test_what_is_acknowledged_while_sigterm_comes_is_done(tmp_path: Path, kind: str) -> None:
    """Ten clients post job after job when SIGTERM comes: each ends with a 503 or a closed
    connection, and every job that was acknowledged before that is done.
    """
    serving = fastapi_service if kind == "fastapi" else aiohttp_service
    body = TABLES if kind == "fastapi" else TEXTS
    acknowledged: set[str] = set()
    with serving(tmp_path, keep="max_running=100_000, keep=100_000") as service:

        async def use(client: Client) -> None:
            enough = asyncio.Event()

            async def post_on() -> None:
                while True:
                    try:
                        status, answer = await client.post("/jobs", body)
                    except (aiohttp.ClientError, OSError):
                        return
                    if status == 503:
                        return
                    assert status == 202
                    acknowledged.add(answer["id"])
                    if len(acknowledged) == 50:
                        enough.set()

            async with asyncio.TaskGroup() as clients:
                for _ in range(10):
                    clients.create_task(post_on())
                await enough.wait()
                service.process.signal(signal.SIGTERM)

        service.call(use)
        _, lines, errors = service.process.end()
    done = {path.stem for path in tmp_path.glob("*.json")}
    if kind == "aiohttp":
        done = {line.split()[0] for line in lines if line.endswith(" succeeded")}
    assert len(acknowledged) >= 50
    assert acknowledged - done == set()
    assert errors == ""


# --- aiohttp -------------------------------------------------------------------------------------


def test_the_aiohttp_service(tmp_path: Path) -> None:
    """Fifty jobs at once, each with its id, events to `end`, and a total; an unknown id is a 404, a
    body that is no JSON, or has a title which no node can have, a 400.
    """
    with aiohttp_service(tmp_path) as service:

        async def use(client: Client) -> None:
            ids = await asyncio.gather(*(client.start(TEXTS) for _ in range(50)))
            assert len({*ids}) == 50
            told = await asyncio.gather(*(client.ended(id) for id in ids))
            assert {job["state"] for job in told} == {"succeeded"}
            assert (await client.get(f"/jobs/{ids[0]}"))[1]["total"] == 6
            assert (await client.get("/jobs/nope"))[0] == 404
            for body in (b"", b"[]", b'{"a": 1}', b"\xff", b"[" * 100_000):
                assert await client.post("/jobs", body) == (400, "send a JSON object of texts\n")
            odd = {"Content-Type": "application/json; charset=nope"}
            async with client.session.post("/jobs", data=TEXTS, headers=odd) as response:
                assert response.status == 400
            for title in ("x" * 600, "\ud800", "two\nlines", "\0"):
                status, text = await client.post("/jobs", json.dumps({title: "a"}).encode())
                assert (status, "name" in text) == (400, True)
            assert (await client.post("/jobs", bytes(2_000_000)))[0] == 413
            held = await client.start(HOLD)
            await asyncio.to_thread(service.process.wait_for, "blocked")
            assert (await client.post(f"/jobs/{held}/cancel"))[0] == 202
            service.process.tell("go")
            assert (await client.ended(held))["reason"] == "the run was cancelled: by a request"

        service.call(use)
        service.process.signal(signal.SIGTERM)
        status, lines, _ = service.process.end()
    assert (status, states(lines)) == (0, [*["succeeded"] * 50, "cancelled"])


def states(lines: list[str]) -> list[str]:
    """What the aiohttp service says of its jobs when it ends, without their ids."""
    return [line.split()[-1] for line in lines]


def test_events_of_the_aiohttp_service_resume(tmp_path: Path) -> None:
    """A client that disconnects after its first message and after every second one, and comes back
    with its last id, has each event since its last snapshot once in the end; its leaving changes
    nothing for the job.
    """
    with aiohttp_service(tmp_path) as service:

        async def use(client: Client) -> None:
            id = await client.start(HOLD)
            seen: list[int] = []
            last, rounds, is_over = None, 0, False
            while not is_over:
                rounds += 1
                async for message in client.messages(id, last):
                    is_over = message["event"] == "end"
                    if is_over:
                        break
                    last = message["id"]
                    if message["event"] == "run_snapshot":
                        seen.clear()
                    seen.append(seq_of(message))
                    if rounds == 1:  # more may only come when the job goes on
                        service.process.tell("go")
                        break
                    if len(seen) % 2:
                        break
            assert rounds > 2
            assert seen == [*range(seen[0], seen[0] + len(seen))]
            assert (await client.get(f"/jobs/{id}"))[1]["state"] == "succeeded"

        service.call(use)


def gone(service: Service, request: bytes) -> None:
    """A client that sends this and hangs up, without a farewell."""
    port = int(service.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(request)


def test_a_client_that_leaves_the_aiohttp_service_is_no_error(tmp_path: Path) -> None:
    """A client that asks for events and has gone before the answer begins leaves no traceback."""
    with aiohttp_service(tmp_path) as service:
        id = service.call(lambda client: client.start(TEXTS))
        for _ in range(50):
            gone(service, f"GET /jobs/{id}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert service.call(lambda client: client.get(f"/jobs/{id}"))[0] == 200
        service.process.signal(signal.SIGTERM)
        assert service.process.end()[2] == ""


def test_a_client_that_leaves_while_it_uploads_is_no_error(tmp_path: Path) -> None:
    """A client that hangs up in the middle of its upload leaves no traceback, and no job."""
    source = FASTAPI.replace("GRACE", "60").replace("KEEP", "").replace('"critical"', '"error"')
    head = b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n"
    with served(source, tmp_path) as service:
        for _ in range(50):
            gone(service, head + TABLES)
        assert service.call(lambda client: client.get("/jobs")) == (200, [])
        service.process.signal(signal.SIGTERM)
        assert service.process.end()[2] == ""


def test_a_full_aiohttp_service_and_a_forgotten_job(tmp_path: Path) -> None:
    """A service that is full answers 503 with `Retry-After`; a job that is forgotten is a 410."""
    with aiohttp_service(tmp_path, keep="max_running=1, keep=0") as service:

        async def use(client: Client) -> None:
            id = await client.start(HOLD)
            async with client.session.post("/jobs", data=TEXTS) as response:
                assert (response.status, response.headers["Retry-After"]) == (503, "5")
                assert "full" in await response.text()
            service.process.tell("go")
            status, text = await client.forgotten(id)
            assert (status, "was forgotten" in text) == (410, True)
            await client.start(TEXTS)  # there is room again

        service.call(use)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("freed", [True, False])
def test_the_end_of_the_aiohttp_service(
    tmp_path: Path, freed: bool, signum: signal.Signals
) -> None:
    """At SIGTERM, and at Ctrl-C, event streams end, also that of a client that never reads, jobs
    end in the grace, and a thread that never returns does not hold up the end of the process.
    """
    with aiohttp_service(tmp_path, grace=60 if freed else 0.1) as service:

        async def use(client: Client) -> None:
            id = await client.start(HOLD)
            async with client.opened(id):
                reading = asyncio.ensure_future(client.ended(id))
                await asyncio.to_thread(service.process.wait_for, "blocked")
                async for _ in client.messages(id):
                    break
                service.process.signal(signum)
                await asyncio.wait([reading])
                assert isinstance(reading.exception(), AssertionError)

        service.call(use)
        if freed:
            service.process.tell("go")
        status, lines, _ = service.process.end()
    assert (status, states(lines)) == (0, ["succeeded" if freed else "cancelled"])


def test_aiohttps_own_test_tools_work() -> None:
    """An application with a registry is set up in one task and cleaned up in another by aiohttp's
    own test server, and works.
    """
    from aiohttp.test_utils import TestClient, TestServer

    with imported("aiohttp_service") as [module]:
        loop = asyncio.new_event_loop()
        try:
            client = TestClient(TestServer(module.create_app(), loop=loop), loop=loop)
            loop.run_until_complete(client.start_server())

            async def use() -> None:
                answer = await client.post("/jobs", data=TEXTS)
                id = (await answer.json())["id"]
                stream = await client.get(f"/jobs/{id}/events")
                assert (await stream.read()).count(b"event: end\n") == 1
                assert (await (await client.get(f"/jobs/{id}")).json())["total"] == 6

            loop.run_until_complete(use())
            loop.run_until_complete(client.close())
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()


def test_the_examples_are_short() -> None:
    """No file of a service has more than 150 lines."""
    files = [EXAMPLES / "aiohttp_service.py", *(EXAMPLES / "fastapi_jobs").glob("*.py")]
    assert len(files) == 9
    assert {
        file.name: lines for file in files if (lines := len(file.read_text().splitlines())) > 150
    } == {}


@pytest.mark.parametrize("name", ["aiohttp_service", "fastapi_jobs/app"])
def test_the_programs_say_how_they_are_used(name: str) -> None:
    """Each is a program with `--help`."""
    how = command(name, "--help")
    ran = subprocess.run(**how, capture_output=True, timeout=60)
    assert (ran.returncode, "--port" in ran.stdout, ran.stderr) == (0, True, "")
