"""What a run came to: a result per node, and one for the whole."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dagron._blame import Blame, Why
from dagron._errors import RecordedError, RunFailedError
from dagron._family import Family, Tally
from dagron._graph import DAG, unknown_node
from dagron._history import History
from dagron._names import plural
from dagron._node_result import EXPANDER_FAILED, FOLD_FAILED, NodeResult
from dagron._status import CANCELLED, COMPLETED, FAILED, SKIPPED
from dagron._times import Times

if TYPE_CHECKING:
    from dagron._critical_path import Step

SHOWN_FAILURES = 10
SHOWN_TEXT = 600  # characters of one failure's text

# Where a node failed, by the reason of its result.
_WHERE: dict[str | None, str] = {
    EXPANDER_FAILED: "expander of node",
    FOLD_FAILED: "fold of node",
}


class ExecutionResult:
    """What a run came to.

    ``node_results`` maps names to `NodeResult`, in ``dag.topological_order()`` of the final graph
    ``dag``; nodes that were removed are not in it but in ``removed``. ``succeeded``, ``failed``,
    ``skipped`` and ``cancelled`` are counts. ``unused_expanders`` names the expanders whose node
    never appeared. ``forgotten`` says how many completed nodes are in the counts alone, see
    ``DynamicExecutor(keep=...)``. ``reason`` says why the run was cut short, and is None
    where it was not. ``dropped_observers`` counts the observers that raised. ``result["name"]`` is
    short for ``result.node_results["name"]``.
    """

    __slots__ = (
        "_history",
        "_tallies",
        "_times",
        "cancelled",
        "dag",
        "dropped_observers",
        "failed",
        "forgotten",
        "node_results",
        "reason",
        "removed",
        "skipped",
        "succeeded",
        "total_duration_seconds",
        "unused_expanders",
    )

    def __init__(
        self,
        node_results: dict[str, NodeResult],
        dag: DAG,
        *,
        removed: tuple[str, ...] = (),
        unused_expanders: tuple[str, ...] = (),
        total_duration_seconds: float = 0.0,
        reason: str | None = None,
        dropped_observers: int = 0,
        tallies: Mapping[str | None, Tally] | None = None,
        history: History | None = None,
        times: Times | None = None,
    ) -> None:
        counts = Counter(result.status for result in node_results.values())
        self.node_results = node_results
        self.dag = dag
        self.removed = removed
        self.unused_expanders = unused_expanders
        self.total_duration_seconds = total_duration_seconds
        self.reason = reason
        self.dropped_observers = dropped_observers
        self._tallies = tallies or {}
        self._history = history or History(dag)
        self._times = times or Times()
        self.forgotten = sum(tally.count for tally in self._tallies.values())
        self.succeeded = counts[COMPLETED] + self.forgotten
        self.failed = counts[FAILED]
        self.skipped = counts[SKIPPED]
        self.cancelled = counts[CANCELLED]

    @property
    def ok(self) -> bool:
        """Tell whether no node failed and the run was not cut short.

        Nodes that a condition skipped do not count against it, nor do nodes that were cancelled one
        by one, on purpose: by ``cancel_nodes`` or `Run.cancel_node`.
        """
        return not self.failed and self.reason is None

    def __getitem__(self, name: str) -> NodeResult:
        try:
            return self.node_results[name]
        except KeyError:
            raise unknown_node(name, self.node_results, forgotten=self.forgotten) from None

    def family(self, name: str) -> Family:
        """Return the nodes that the expander or the task of this node added, taken together.

        Raises `UnknownNodeError` for a node that is in no result and has added nothing.
        """
        members = [result for result in self.node_results.values() if result.added_by == name]
        if not members and name not in self._tallies and name not in self.node_results:
            raise unknown_node(name, self.node_results, forgotten=self.forgotten)
        return Family(name, members, self._tallies.get(name))

    def families(self) -> dict[str, Family]:
        """Return all families that there are, by the name of the node that added them."""
        members: dict[str, list[NodeResult]] = {
            name: [] for name in self._tallies if name is not None
        }
        for result in self.node_results.values():
            if result.added_by is not None:
                members.setdefault(result.added_by, []).append(result)
        return {name: Family(name, of, self._tallies.get(name)) for name, of in members.items()}

    @property
    def version(self) -> int:
        """How many modifications landed in the run."""
        return self._history.version

    def to_mermaid(self, when: str | int = "after", *, fold: int | None = 12) -> str:
        """Return the run as a Mermaid flowchart; the arguments are those of `to_svg`."""
        from dagron import render  # on use: most programs draw nothing

        return render.to_mermaid(render.picture_of_result(self, when, fold))

    def to_dot(self, when: str | int = "after", *, fold: int | None = 12) -> str:
        """Return the run in DOT, for Graphviz; the arguments are those of `to_svg`."""
        from dagron import render

        return render.to_dot(render.picture_of_result(self, when, fold))

    def to_svg(
        self,
        when: str | int = "after",
        *,
        fold: int | None = 12,
        critical_path: bool = False,
    ) -> str:
        """Return a picture of the run: an SVG document that stands alone.

        ``when="after"`` shows what became of each node, ``"before"`` the graph as it was written,
        and a number the graph as it was when so many modifications had landed: see `version`. Of
        those two moments it is known what the graph was, and not how far its nodes were.

        Nodes that were added while it ran are dashed and say who added them; those that were
        removed by then are ghosts. Nodes added by one node are a family: one of more than ``fold``
        members (None: never) is one box with counts, beside which up to so many failures stand
        alone. Edges are drawn as by `DAG.to_svg`. With ``critical_path=True`` the picture of
        "after" has an outline around the nodes of the `critical_path`: it is measured, so that it
        may be another one in each run, and without it two runs that came to the same give the same
        text. The same result always does.

        Raises `ValueError` for a moment that there was not. Of what was removed and rewired the
        last 10,000 changes are kept; a moment before them is refused as well, but for "before".
        """
        from dagron import render

        picture = render.picture_of_result(self, when, fold, critical_path=critical_path)
        return render.to_svg(picture)

    def to_timeline_svg(self) -> str:
        """Return a picture of the run over time: an SVG document that stands alone.

        Each node that started is a bar, in lanes: two bars in one lane were not at work at once.
        Before it, in grey, is the time for which the node was ready and had not started; attempts
        that failed are hatched; a low bar after it is its expander at work, or a wait for its
        children. Arrows stand where modifications landed, and say who made them. The bars of the
        `critical_path` have an outline.

        Waiting is never told too long: where it is not known since when a node was ready, none is
        drawn, nor where nodes were forgotten.

        Very many bars have no names, and if very many nodes waited at once, it is drawn below how
        many. Of more than 2,000 bars, or of more than 240 at once, the failures are shown, the
        critical path, and what took longest, with a note. A result that was made by hand shows what
        it has. The same result gives the same text.
        """
        from dagron import render

        return render.to_timeline_svg(self)

    def to_chrome_trace(self, path: str | Path) -> None:
        """Write the run over time as JSON, for https://ui.perfetto.dev and chrome://tracing.

        Slices never overlap within a lane. A node has one for each attempt, and one for its
        expander, if that took a while; the last attempt says in its ``args`` what the node came to:
        status, attempts, ``added_by``, the error's text, and for how many microseconds it had
        waited for its turn. Modifications are instants. Nodes that never started, or were
        forgotten, are not in it. Times are microseconds since the run began.

        The file is there whole or not at all, and one that was there before is replaced. Raises
        FileNotFoundError where the folder does not exist, IsADirectoryError where the path is a
        folder, and whatever else the system says, as it says it.
        """
        from dagron import render

        render.to_chrome_trace(self, path)

    def save_html(
        self,
        path: str | Path,
        *,
        title: str | None = None,
        results: bool = True,
        fold: int | None = 12,
    ) -> None:
        """Write the run as a page: one HTML file, which loads nothing from anywhere.

        In a browser it shows the graph before, while and after it grew, the timeline, the summary,
        and what happened when. One filter, by name, by state and by who added a node, is for all of
        them, and what is known of a node is a click away: its times, the tracebacks of its
        attempts, why it was skipped, who added it, what it depended on, and the beginning of its
        result's ``repr()``. ``results=False`` leaves that out, for results that not everybody may
        see. ``title`` is the headline, ``fold`` is that of `to_svg`.

        Of more than 3,000 nodes it tells of 3,000, of failures before others, and says so; the same
        result gives the same file. The file is there whole or not at all, and one that was there
        before is replaced. Raises FileNotFoundError where the folder does not exist,
        IsADirectoryError where the path is a folder, and whatever else the system says, as it says
        it.
        """
        from dagron import render

        render.save_html(self, path, title, results, fold)

    def _repr_html_(self) -> str:
        from dagron import render

        return render.html_for_notebook(render.picture_of_result(self, "after", 12), self.summary())

    def __contains__(self, name: object) -> bool:
        return name in self.node_results

    def __iter__(self) -> Iterator[str]:
        return iter(self.node_results)

    def critical_path(self) -> list[str]:
        """Return the chain of nodes that the run waited for, from its beginning to its end.

        It is told from the end: the last node is the one that ended last, and before each node
        stands the one that it waited for last. That is, of its dependencies in the final graph and
        the node that added it, the one that was done last before it started; a dependency that
        went on since a trigger did not wait for it does not count. A node is done when its
        expander or its fold is, and as far as a node that it added is concerned, when that one has
        landed.

        So a run can become quicker by a quicker node of the chain: by a quicker body, expander or
        fold, a shorter pause between attempts. When another chain takes as long, it does not
        become quicker by more than the difference. Waiting for a slot or a worker is not in it:
        `summary` says how much of the run the nodes account for, and `to_timeline_svg` shows such
        waits in grey.

        Nodes that never started are not in it, nor are nodes that were forgotten: it begins after
        the last of those. Where results do not say when nodes started, as those that were made by
        hand, each is taken to have started as soon as it could: then the chain is the one with the
        largest sum of ``duration_seconds``. Of nodes that ended at the same moment it has the
        first. It costs time in proportion to the graph.
        """
        return [step.name for step in self._critical_steps()]

    def _critical_steps(self) -> list["Step"]:
        from dagron._critical_path import critical_steps  # on use, as the summary below

        return critical_steps(self.dag, self.node_results, self._history, self._times)

    def summary(self) -> str:
        """Return a few lines of text that say what the run came to and where its time went.

        They have the counts, the seconds that the run took, the work (the sum of all
        ``duration_seconds``: the time in the tasks, without expanders), how many nodes worked at
        once on average, the `critical_path` with the time that each node of it accounts for (with
        pauses between attempts, expander and fold) and the share of the run that they sum up to,
        the five slowest nodes, which nodes have added how many, and each failure with the file and
        line of your code that raised it, or, where none of it did, as of a timeout, at which its
        task or expander is defined. However large the run, they stay below some thousand
        characters; of what is long they show the beginning, and how much more there is. Where nodes
        were forgotten they say what is not known for that.
        """
        from dagron._summary import summary_of

        return summary_of(self)

    def raise_for_failures(self) -> None:
        """Return None when `ok`, else raise one `RunFailedError` for all that failed.

        Its ``failures`` maps names to exceptions, the first of which is its cause. Each exception
        gets a note that says which node it failed, once, however often this is called.
        """
        if self.ok:
            return
        failed = [result for result in self.node_results.values() if result.status is FAILED]
        skipped_by = Counter(
            result.reason for result in self.node_results.values() if result.status is SKIPPED
        )
        for result in failed:
            assert result.error is not None, "a FAILED node has its error"
            _add_note_once(result.error, _note(result, skipped_by[skip_reason(result.name)]))
        failures = {result.name: result.error for result in failed if result.error is not None}
        raise RunFailedError(self._failure_text(failed), failures) from (
            failed[0].error if failed else None
        )

    def _failure_text(self, failed: list[NodeResult]) -> str:
        lines = [f"{self._counts()}"]
        for result in failed[:SHOWN_FAILURES]:
            added = f", added by {result.added_by!r:.60}" if result.added_by else ""
            where = failed_part(result)
            text = error_text(result.error).replace("\n", "\n    ")
            lines.append(f"  {where} {result.name!r:.60}{added}: {text}")
        if self.reason is not None:
            lines.append(f"  cut short: {self.reason}")
        if len(failed) > SHOWN_FAILURES:
            lines.append(f"  and {len(failed) - SHOWN_FAILURES:,} more")
        lines.append("  help: .failures maps each failed node to its exception")
        return "\n".join(lines)

    def _counts(self) -> str:
        named = ((self.failed, "failed"), (self.skipped, "skipped"), (self.cancelled, "cancelled"))
        parts = [f"{count:,} {word}" for count, word in named if count]
        total = len(self.node_results) + self.forgotten
        return f"{', '.join(parts or ['none failed'])} of {total:,} nodes"

    def __repr__(self) -> str:
        return (
            f"<ExecutionResult: {self.succeeded:,} succeeded, {self._counts()}, "
            f"{self.total_duration_seconds:.3f} s>"
        )


def failed_part(result: NodeResult) -> str:
    """Return what failed: the node, or its expander, or its fold."""
    return _WHERE.get(result.reason, "node")


def skip_reason(blamed: str) -> str:
    """Return the reason of a node that was skipped because another one failed."""
    return str(Blame(Why.FAILED, blamed))


def error_text(error: BaseException | None) -> str:
    """Return the exception's type and text for a message, shortened; it may raise in ``str()``."""
    try:
        text = str(error)
    except BaseException as broken:
        text = f"<its text cannot be shown: str() raised {type(broken).__name__}>"
    if len(text) > SHOWN_TEXT:
        text = f"{text[:SHOWN_TEXT]}..."
    if type(error) is RecordedError:
        return text  # it begins with the type of what it stands for
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _note(result: NodeResult, skipped: int) -> str:
    added = f", added by {result.added_by!r}" if result.added_by else ""
    cost = f", skipped {plural(skipped, 'node')}" if skipped else ""
    where = f"the {_WHERE[result.reason]}" if result.reason in _WHERE else "node"
    return f"in {where} {result.name!r}{added}, attempt {max(result.attempts, 1)}{cost}"


def _add_note_once(error: BaseException, note: str) -> None:
    try:
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
    except BaseException:  # a frozen exception takes no notes, and its failure counts all the same
        return
