"""The anyio shell around a `Scheduler`: its nodes' tasks, and what is done to them."""

from collections.abc import Collection, Iterable, Mapping
from functools import partial
from time import perf_counter, time
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from anyio import get_current_task
from anyio.lowlevel import checkpoint

from dagron._blame import Blame, Why
from dagron._bodies import Note
from dagron._calls import (
    NewNodes,
    defined_at,
    missing_task,
    not_a_modification,
    read_specs,
    refuse_coroutine,
)
from dagron._current import current_node
from dagron._drains import Drained
from dagron._durable import Durable
from dagron._edge import Edge, condition_of
from dagron._errors import (
    Cancelled,
    DagronError,
    Fault,
    ModificationError,
    RunFinishedError,
)
from dagron._family import Tally
from dagron._growing import STREAMS
from dagron._growth import asked_by
from dagron._keep import Fold
from dagron._landing import copied, sources_of, unfilled
from dagron._limits import held_text
from dagron._modification import DynamicModification, touches_others
from dagron._node_result import EXPANDER_FAILED, FOLD_FAILED, new_result
from dagron._policy import NodePolicy
from dagron._raised import forget_our_frames, frames_of, is_cancellation, keyboard_interrupt
from dagron._runner import Result
from dagron._scheduler import Scheduler
from dagron._status import CANCELLED, COMPLETED, FAILED, RUNNING, WAITING, NodeStatus
from dagron._threads import unboxed
from dagron._times import Landing, spans_of

if TYPE_CHECKING:
    from dagron._replay import Recalled


class Shell(Durable):
    """A run."""

    __slots__ = ()

    # -- what the handle does; in the event loop

    @property
    def is_ending(self) -> bool:
        """Whether the run has ended, or is about to."""
        return self.stopping or self._cut is not None or not self.scheduler.unfinished

    def cancel(self, reason: str) -> None:
        """End the run as a result."""
        self._hurry()
        if self.stopping or self._cut is not None:
            return
        if self._group is None:
            self._cut = self.stream.cut = reason
            self._hurry()
        else:
            self._cut_short(reason)

    def ask_to_cancel_node(self, name: str, blame: Blame) -> None:
        """Cancel a node from outside: now, or where the run has a journal when that is written."""
        if self._settings.journal is None:
            self.cancel_node(name, blame)
        elif self._ledger is not None and self._opened.is_set():
            self._ledger.ask_to_cancel(name, blame)
        elif not self.is_over:
            self._asked[name] = blame

    def cancel_node(self, name: str, blame: Blame) -> None:
        """Cancel a node that has not finished."""
        if self.is_over:
            return
        if self._replay is not None and self._replay.is_spared(name, blame):
            return
        try:
            if self._group is not None and name in self.drains.offers:
                self.drains.recall()
                if name in self.drains.offers:  # by now a thread has it, and may be done with it
                    self._to_cancel.setdefault(name, blame)
                    self._look()
            status = self.scheduler.statuses().get(name)
            if status in WAITING:
                self.scheduler.cancel(name, blame)
                self._wake_up()  # not here, where nodes cannot be spawned from a bare callback
                self.stream.catch_up()
            elif status is RUNNING and name in self._handles:  # else it is just being reported
                self._to_cancel.setdefault(name, blame)
                self._cancel_running(name)
        except Exception as bug:
            self._crash(bug)

    def _cancel_running(self, name: str) -> None:
        handle, call = self._handles[name], self.drains.running.get(name)
        if handle is not None:
            self.slots.release(name)
            self.growing.release(name)
            handle.cancel()
        elif call is not None and self.drains.cancel(call):
            self._report_lost(call)
            self._wake_up()
            self.stream.catch_up()

    def is_being_written(self, name: str) -> bool:
        """Tell whether the node has ended, and that is not written yet."""
        return self._ledger is not None and name in self._ledger.writing

    def note(self, name: str) -> Note | None:
        """Return what there is to say of a node in flight."""
        return None if self.is_over or self._group is None else self.bodies.notes.get(name)

    def check_version(self, expected: int | None) -> None:
        """Raise `ModificationError` where the graph has another version by now."""
        version = self.scheduler.version
        if expected is not None and expected != version:
            message = f"the graph has version {version} by now, not {expected!r:.60}"
            help = "look at run.dag and run.version again"
            raise ModificationError([Fault("stale", "", message, help)])

    async def modify(self, modification: DynamicModification, expected: int | None) -> int:
        """Land a modification from outside, and return the version of the graph that it makes.

        It is refused where the graph has another version than that which is ``expected``.
        """
        self.check_version(expected)
        if self._settings.journal is not None:
            await self._opened.wait()
            if self._ledger is None or self.is_ending:
                raise RunFinishedError(
                    "the run has ended: nothing was changed\n"
                    "  help: a node that waits, at a dagron.Gate say, keeps a run open"
                )
            return await self._ledger.land(None, modification, settled=False, expected=expected)
        self._land(None, modification)
        version = self.scheduler.version
        if self._group is not None:
            try:
                self._admit()
                if self.scheduler.retention.spare:
                    self._forget_spare()
            except Exception as bug:
                self._crash(bug)
        return version

    # -- a node's own task

    async def _run_node(self, name: str, call: "Drained | Recalled | None" = None) -> None:
        """Run one node from its body to its outcome. What user code raises is caught here only.

        A ``call`` of its task that has ended in a draining thread, or in an earlier life of the
        run, is most of its body.
        """
        value = reason = change = entered = None
        seconds: float | None = None  # known when the body has ended
        started_at: float | None = None
        began = perf_counter()
        try:
            if call is None:
                if self._suspects is not None and name in self._suspects:
                    await self._take_turn(name, self._suspects)
                    began = perf_counter()
                if self.stopping or name in self._to_cancel:  # since its spawn
                    await checkpoint()
                started_at = time()
            else:
                began, started_at = began - call.seconds, call.started_at
            current_node.set((self, name, None))
            if self._around is not None:
                entered = self._around.node(name)
            task = self._tasks.get(name)
            if task is None:
                raise missing_task(name)
            policy = self._policies.get(name) if self._policies else None
            if policy is not None and isinstance(policy.keep, Fold):
                self.growing.begin(name, policy.keep)
            is_plain = policy is None and call is None and entered is None
            if is_plain and name not in self._on_threads:
                if name in self._parameters:
                    if self.bodies.away.remote:
                        await self.bodies.bring(name)
                    arguments, keywords = self.bodies.arguments(name)
                    value = await task(*arguments, **keywords)
                else:
                    value = await task()
                if type(value) is CoroutineType:
                    forgotten, value = value, None
                    refuse_coroutine(name, forgotten)
                seconds = perf_counter() - began
            else:
                value, seconds = await self.bodies.run(name, task, policy, call)
            if self.growing.growers:
                self.growing.check_awaited(name)
            if self._ledger is not None:
                self._ledger.keep(name, value, seconds, started_at)
            reason = EXPANDER_FAILED
            if name in self._expanders and name not in self._to_cancel:
                change = await self._expand(name, value, policy)
                self.times.ended[name] = time()
            if self.growing.folds and name not in self._to_cancel:
                reason = FOLD_FAILED
                await self.growing.finish(name, value)
        except BaseException as raised:
            error = unboxed(raised)
            if entered is not None:
                entered.leave(error)
            if seconds is None:
                note = self.bodies.notes.get(name)
                has_attempts = note is not None and note.attempts is not None
                seconds = note.seconds if note and has_attempts else perf_counter() - began
            if not self._report_failure(name, error, value, seconds, started_at, reason):
                raise
        else:
            if entered is not None:
                entered.leave(None)
            if self._ledger is None:
                self._report(name, COMPLETED, value, None, seconds, started_at)
            else:
                self._conclude(name, COMPLETED, value, None, seconds, started_at, change=change)
        if (current_task := self._host.current_task) and current_task().cancelling():
            await self._host.absorb_cancellation()

    async def _expand(
        self, name: str, value: Any, policy: NodePolicy | None
    ) -> DynamicModification | None:
        """Call the node's expander, and land what it returns.

        Where the run has a journal, a modification that is to land with the node's outcome, when
        that is written, is returned instead.
        """
        expander = self._expanders[name]
        given: tuple[Any, ...] = (value,)
        if expander.wants_graph:
            given = (value, self._graph_for(name))
        if expander.on_loop and policy is None and name not in self.scheduler.working:
            expansion = expander.function(name, *given)  # the usual case, without a call
            if not expander.streams:
                expansion = await expansion
        else:
            timeout = policy.timeout if policy else None
            expansion = await self.bodies.expand(expander, name, given, timeout)
        if expansion is None or name in self._to_cancel:
            return None
        if type(expansion) in STREAMS or name in self.growing.folds:
            await self.growing.expand(name, expansion, value, policy)
        elif self._ledger is None:
            self._land(name, expansion)
        elif isinstance(expansion, DynamicModification):
            change = copied(expansion, name)  # what is written is what will land
            self.check_readable(name, change)
            return change
        else:
            raise not_a_modification(name, expansion)
        return None

    # -- a node in a draining thread

    def _end_drained(self, call: Drained) -> None:
        name, value = call.name, call.value
        if self._reports.told:
            self._reports.flush_progress(name)
        is_asked = name in self.scheduler.conditional  # in a task of its own: see `Drains.flush`
        if call.keeps_slot or is_asked or name in self._to_cancel or self.growing.folds:
            self._returned.append(call)
            return
        if self._ledger is not None:
            self._end_drained_in_journal(call)
            return
        try:
            del self._handles[name]
            added_by, depth = self.scheduler.origin(name) if self.scheduler.version else (None, 0)
            self.results[name] = new_result(
                name, COMPLETED, value, None, call.seconds, call.started_at, 1, added_by, depth
            )
            if self.on_completed is not None:
                self.on_completed(name, value)
            self.scheduler.succeed(name)
        except Exception as bug:
            self._crash(bug)

    def _report_lost(self, call: Drained) -> None:
        name, started_at = call.name, call.started_at
        if call.thread is None:
            self.bodies.note(name).thread_began = False
        else:
            self.scheduler.take_over(name)
            self.bodies.note(name).lingering = call.thread
        seconds = 0.0 if started_at is None else max(0.0, time() - started_at)
        if self._ledger is not None and name in self._to_cancel:
            self._conclude(name, CANCELLED, None, None, seconds, started_at)
            return
        report = partial(
            self._report_in_full, name, CANCELLED, None, None, seconds, started_at, None, False
        )
        if self._ledger is None or not self._ledger.hold(report):
            report()

    # -- what a node may ask of its run: see `NodeHost`

    def groups_of(self, name: str) -> tuple[str, ...]:
        policy = None if self.is_over else self._policies.get(name)
        return policy.groups if policy else ()

    def is_cancelled(self, name: str) -> bool:
        """Tell whether the node is to stop; from any thread."""
        if self.stopping or name in self._to_cancel:
            return True
        return self.bodies.is_late(name)

    def deadline(self, name: str) -> float:
        """Return when the time of the call in flight is over, by the loop's clock."""
        return self.bodies.deadline(name)

    def is_own_task(self) -> bool:
        """Tell whether the current task is a node's own, and not one that a node has started."""
        return get_current_task().parent_id == self._host_task

    def rest(self, name: str) -> None:
        """Take a node's slots while it waits for the world outside."""
        if not self.stopping:
            self.slots.rest(name)

    async def go_on(self, name: str) -> None:
        """Return when the node has its slots again."""
        if not self.stopping:
            await self.slots.hold(name, worker=False)

    def tell_progress(self, name: str, done: float, total: float | None, note: str) -> None:
        """Make an event of what a task reports; from any thread."""
        if not self.stopping:
            self._reports.progress(name, done, total, note)

    # -- modifications

    def _land(self, by: str | None, modification: object, *, settled: bool = False) -> None:
        """Read the new nodes' callables and land the modification, or change nothing and raise.

        ``settled`` says that the expander of the node goes on: see `Scheduler.land`.
        """
        if not isinstance(modification, DynamicModification):
            raise not_a_modification(by or "", modification)
        on_threads, parameters, expanders, faults = self._read(by, modification)
        if self._group is not None and self.drains.offers and touches_others(modification):
            self._settle()
        needs = {node: read.names() for node, read in parameters.items()} if parameters else None
        version = self.scheduler.version
        untaken: Collection[tuple[str, str]] = ()
        broken: Mapping[tuple[str, str], BaseException] = {}
        try:
            edges = modification.add_edges
            if edges and any(isinstance(edge, Edge) for edge in edges):
                faults += self._unseen_faults(edges)
                landing = self.scheduler.check(modification, by, needs=needs, faults=faults)
                untaken, broken = self._conditions.of_edges(landing, by if settled else None)
            running = self.scheduler.land(
                modification,
                by,
                on_threads=on_threads,
                needs=needs,
                faults=faults,
                untaken=untaken,
                broken=broken,
                settled=settled,
            )
        except ModificationError:  # which is the node's failure, unlike what `_core` sees
            raise
        except Exception as bug:
            self._crash(bug)
            raise
        if version != self.scheduler.version:
            added, removed = len(modification.add_nodes), len(modification.remove_nodes)
            landed = Landing(version + 1, time(), by, added, removed, settled)
            self.times.landings.append(landed)
        for spec in modification.add_nodes:
            self._tasks[spec.name] = spec.task
        self._parameters.update(parameters)
        self._expanders.update(expanders)
        if self._ledger is not None and (untaken or broken or self._replay is not None):
            answers = [[list(edge) for edge in sorted(edges)] for edges in (untaken, broken)]
            self._ledger.note_answers(None, *answers)
        if broken:
            for (_, target), error in broken.items():
                self.fail_unstarted(target, error)
        for name in running:
            self.cancel_node(name, asked_by(by))

    def _read(self, by: str | None, modification: DynamicModification) -> NewNodes:
        """Read the new nodes' callables, and find what is wrong with these nodes by themselves."""
        on_threads, parameters, expanders, faults = read_specs(
            modification,
            self._expanders.get(by) if by is not None else None,
            self._expanders,
            self._limited,
            self._settings.runners,
        )
        if self._held:
            faults += self._nested_faults(modification)
        return on_threads, parameters, expanders, faults

    def check_readable(self, by: str | None, modification: DynamicModification) -> None:
        """Raise `ModificationError` if no graph could take it, for what its nodes are.

        Such a modification is never written: one that is, and cannot land in a later life, shows
        that the program is another one.
        """
        _, parameters, _, faults = self._read(by, modification)
        needs = {node: read.names() for node, read in parameters.items()} if parameters else {}
        # What it depends on may be on its way into the graph; that it names it can be told now.
        sources = sources_of(modification) if needs else {}
        if faults or any(unfilled(names, sources[node]) for node, names in needs.items()):
            self.scheduler.check(modification, by, needs=needs, faults=faults)

    def _nested_faults(self, modification: DynamicModification) -> list[Fault]:
        default = self._settings.policy or NodePolicy()
        return [
            Fault("group", spec.name, *held_text(f"node {spec.name!r:.60}", group))
            for spec in modification.add_nodes
            for group in (spec.policy or default).over(default).groups
            if group in self._held
        ]

    def _unseen_faults(self, edges: Iterable[tuple[str, str]]) -> list[Fault]:
        """Return what is wrong with conditions on results that are kept elsewhere."""
        remote = self.bodies.away.remote if self._group is not None else ()
        return [
            Fault(
                "edge",
                source,
                f"the condition on {source!r:.60} -> {target!r:.60} needs a result that is kept "
                f"by the runner of {source!r:.60}",
                "give the runner keep_remote=False, or the node an edge with a condition at first",
            )
            for edge in edges
            if (source := edge[0]) in remote
            and (target := edge[1])
            and condition_of(edge) is not None
            and source in self.results
            and isinstance(self.results[source].result, Result)
        ]

    # -- outcomes: reported synchronously, without another await

    def _report(
        self,
        name: str,
        status: NodeStatus,
        value: Any,
        error: BaseException | None,
        seconds: float,
        started_at: float | None,
        reason: str | None = None,
        ends_run: bool = False,
    ) -> None:
        """Record what became of a node, and start what that releases."""
        try:
            if self._reports.blockings:
                self._reports.flush_blocked()
            # No local variable for the scheduler: see `_forget`.
            if status is not COMPLETED or self._to_cancel or name in self.bodies.notes:
                self._report_in_full(
                    name, status, value, error, seconds, started_at, reason, ends_run
                )
            else:
                del self._handles[name]
                added_by, depth = (
                    self.scheduler.origin(name) if self.scheduler.version else (None, 0)
                )
                self.results[name] = new_result(
                    name, status, value, None, seconds, started_at, 1, added_by, depth
                )
                if self.scheduler.conditional or self.on_completed is not None:
                    self._succeed(name, value)
                else:
                    self.scheduler.succeed(name)
            working = self.scheduler.working
            if working and name in working and name not in self.scheduler.lingering:
                self.scheduler.return_worker(name)
            self._admit()
            if self.scheduler.retention.spare:
                self._forget_spare()
        except Exception as bug:
            self._crash(bug)

    def _report_in_full(
        self,
        name: str,
        status: NodeStatus,
        value: Any,
        error: BaseException | None,
        seconds: float,
        started_at: float | None,
        reason: str | None,
        ends_run: bool,
    ) -> None:
        """Report a node that did not succeed, or has a history."""
        note = self.bodies.notes.pop(name, None) or Note()
        blame = self._to_cancel.pop(name, None)
        if self._ledger is not None:
            self._ledger.bodies.pop(name, None)
        if blame is not None:
            status = CANCELLED
        if status is CANCELLED:
            self._notice_deadline()
            reason = self._cut or (str(blame) if blame else "the run was cancelled")
            if not note.thread_began:
                started_at = None
            if started_at is None:
                seconds = 0.0
        attempts = note.attempts
        if attempts is None:
            attempts = 0 if started_at is None else 1
        errors = note.errors
        if status is FAILED and reason is None and error is not None and len(errors) < attempts:
            errors.append(error)
        attempts += note.before
        del self._handles[name]
        added_by, depth = self.scheduler.origin(name)
        self.results[name] = new_result(
            name,
            status,
            value,
            error,
            seconds,
            started_at,
            attempts,
            added_by,
            depth,
            reason,
            tuple(errors),
            note.place,
        )
        if note.earlier and started_at is not None:
            self.times.attempts[name] = spans_of(started_at, note.earlier, seconds)
        children: Collection[str] = ()
        has_children = name in self.scheduler.offspring.unfinished
        if has_children or name in self._expanders:
            self.times.ended[name] = time()
        if has_children:
            children = self._end_growth(name, status)
        if status is COMPLETED:
            self._succeed(name, value)
            return
        lingering = note.lingering
        if status is FAILED:
            self.scheduler.fail(name, lingering=lingering is not None)
            self._reports.failed(name, error)
            if ends_run:
                self._end_by_failure(name)
        else:
            self.scheduler.cancel(name, blame, lingering=lingering is not None)
        for child in children:
            self.cancel_node(child, Blame(Why.ORPHAN, name))
        if lingering is not None:
            self._attached += bool(self._attached)
            lingering.when_ended(partial(self._thread_ended, self.scheduler, name))

    def _end_growth(self, name: str, status: NodeStatus) -> Collection[str]:
        """Let go of what is kept of a node that added others; return the children to cancel."""
        folding = self.growing.end(name)
        if folding is not None:
            self._tally(name).value = folding.value
        if folding is None or status is not COMPLETED:
            self.bodies.values.pop(name, None)
        children = self.scheduler.offspring.end(name)
        policy = self._policies.get(name)
        if status is COMPLETED or policy is None or policy.orphans != "cancel":
            return ()
        return sorted(children)

    def _tally(self, name: str | None) -> Tally:
        tally = self.tallies.get(name)
        if tally is None:
            tally = self.tallies[name] = Tally()
        return tally

    def _forget_spare(self) -> None:
        """Let go of completed nodes that nobody needs, once all who listen have heard of them."""
        if self.scheduler.log:
            return
        for name in list(self.scheduler.retention.spare):
            if not self.scheduler.forget(name):
                continue
            result = self.results.pop(name)
            self._tally(result.added_by).add(result.duration_seconds)
            self.times.forget(name)
            self._tasks.pop(name, None)
            self._parameters.pop(name, None)
            self.bodies.values.pop(name, None)
            self.bodies.away.forget(name)
            if name in self._standing:
                self._reached.add(name)
            else:
                self._expanders.pop(name, None)
            if self.on_forgotten is not None:
                self.on_forgotten(name)

    def _succeed(self, name: str, value: Any) -> None:
        if self.on_completed is not None:
            self.on_completed(name, value)
        conditions = self.scheduler.conditions(name)
        if not conditions:
            self.scheduler.succeed(name)
            return
        value = self.bodies.value(name)  # which a fold has made of its children, not its own
        untaken, broken = self._conditions.of_node(name, value, conditions)
        if self._replay is not None:  # who was at work then was not judged
            broken = {
                target: error
                for target, error in broken.items()
                if not self._replay.runs_later(target)
            }
        if self._ledger is not None:
            self._ledger.note_answers(name, sorted(untaken), sorted(broken))
        self.scheduler.succeed(name, untaken, broken)
        for target, error in broken.items():
            self.fail_unstarted(target, error)

    def fail_unstarted(self, name: str, error: BaseException, attempts: int = 0) -> None:
        """Fail a node that waits: by the condition on an edge to it, say."""
        if self.scheduler.statuses().get(name) not in WAITING:
            return
        ends_run = self._settings.cancel_on_failure and not self.stopping
        if self._replay is not None and (known := self._replay.facts.unstarted.get(name)):
            ends_run = known.get("ends_run", False)
        if self._ledger is not None:
            self._ledger.note_failed(name, error, attempts, ends_run=ends_run)
        added_by, depth = self.scheduler.origin(name)
        self.results[name] = new_result(
            name,
            FAILED,
            error=error,
            attempts=attempts,
            added_by=added_by,
            depth=depth,
            errors=(error,),
        )
        self._reports.failed(name, error)
        self.scheduler.fail(name)
        if ends_run:
            self._end_by_failure(name)

    def _thread_ended(self, scheduler: Scheduler, name: str) -> None:
        """Free the slots of a body that was given up; also after the end of the run."""
        scheduler.end_lingering(name)
        self._detach()
        if not self.is_over:
            self._wake_up()

    def _note_place(self, name: str, error: BaseException, reason: str | None) -> None:
        """Note at an error of ours, which tells no line that raised it, where to look."""
        what, function = "the task", self._tasks.get(name)
        if reason == EXPANDER_FAILED and name in self._expanders:
            what, function = "the expander", self._expanders[name].function
        elif reason is not None:
            return
        if (note := defined_at(what, function)) is not None:
            error.add_note(note)

    def _report_failure(
        self,
        name: str,
        error: BaseException,
        value: Any,
        seconds: float,
        started_at: float | None,
        reason: str | None,
    ) -> bool:
        """Sort what user code raised; tell whether that settles it, else it is to be re-raised.

        A cancellation is the run's or its caller's and goes on, or it is some library's own affair
        and a failure like any other. KeyboardInterrupt cancels the run.
        """
        if is_cancellation(error, self._host.cancelled_class) and self._host.is_cancelling():
            if name not in self._to_cancel:
                self._cut_off()
            self._conclude(name, CANCELLED, value, None, seconds, started_at)
            return False
        cancelled = (self._host.cancelled_class, Cancelled)
        if (self.stopping or name in self._to_cancel) and is_cancellation(error, cancelled):
            self._conclude(name, CANCELLED, value, None, seconds, started_at)
            return True
        interrupt = keyboard_interrupt(error)
        if interrupt is not None:
            self._be_interrupted(interrupt)
        self._notice_deadline()  # a failure that it caused is not what ends the run
        is_last_straw = (
            self._settings.cancel_on_failure and not self.stopping and name not in self._to_cancel
        )
        if is_last_straw and self._replay is None:  # else what is told goes on first
            self._halt()
        forget_our_frames(error)
        if issubclass(type(error), DagronError) and frames_of(error) is None:
            self._note_place(name, error, reason)
        self._conclude(name, FAILED, value, error, seconds, started_at, reason, is_last_straw)
        return True
