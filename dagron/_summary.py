"""What a run came to, in a few lines of text for people."""

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from heapq import nlargest
from types import TracebackType

from dagron._errors import DagronError, RecordedError
from dagron._family import Family
from dagron._names import DEFINED_AT, plain, plural, shown_time
from dagron._node_result import NodeResult
from dagron._results import ExecutionResult, error_text, failed_part, skip_reason
from dagron._status import FAILED, SKIPPED

SLOWEST = 5
ADDERS = 5  # nodes of which it is said what they have added
FAILURES = 10
STEPS = 8  # of the critical path
TEXT = 200  # characters of one error, or of one file's path
CAUSES = 10  # how far the causes of an error are followed

Section = tuple[str, list[str]]


def summary_of(result: ExecutionResult) -> str:
    """Return the text of `ExecutionResult.summary`, without a newline at its end."""
    sections = sections_of(result)
    width = max((len(title) for title, _ in sections), default=0)
    lines = [headline(result)]
    for title, texts in sections:
        for label, text in zip([title, *[""] * len(texts)], texts, strict=False):
            lines.append(f"  {label:<{width}}  {text}")
    return "\n".join(lines)


def sections_of(result: ExecutionResult) -> list[Section]:
    """Return what there is to say below the headline: titles, each with its lines."""
    sections: list[Section] = [
        ("cut short", [] if result.reason is None else [_clipped(plain(result.reason))]),
        ("forgotten", _forgotten(result)),
        ("work", _work(result)),
        ("critical path", _critical_path(result)),
        ("slowest", _slowest(result)),
        ("added", _added(result)),
        ("removed", _named(result.removed)),
        ("tried again", _tried_again(result)),
        ("failed", _failed(result)),
        ("never called", _named(result.unused_expanders, "the expander")),
        ("dropped", _dropped(result.dropped_observers)),
    ]
    return [section for section in sections if section[1]]


def headline(result: ExecutionResult) -> str:
    """Return how many nodes there were, how long they took, and what became of them."""
    total = len(result.node_results) + result.forgotten
    took = shown_time(result.total_duration_seconds)
    named = (
        (result.succeeded, "succeeded"),
        (result.failed, "failed"),
        (result.skipped, "skipped"),
        (result.cancelled, "cancelled"),
    )
    counts = ", ".join(f"{count:,} {word}" for count, word in named if count)
    if total > 1 and result.succeeded == total:
        return f"{plural(total, 'node')} in {took}, all succeeded"
    return f"{plural(total, 'node')} in {took}{': ' if counts else ''}{counts}"


# -- where the time went


def _forgotten(result: ExecutionResult) -> list[str]:
    if not result.forgotten:
        return []
    which = f"{result.forgotten:,} of those that succeeded (keep=...)"
    return [f"{which}: they are in the counts and the work, their names are not known"]


def _work(result: ExecutionResult) -> list[str]:
    seconds = sum(node.duration_seconds for node in result.node_results.values())
    seconds += sum(tally.seconds for tally in result._tallies.values())
    if not seconds:
        return []
    wall = result.total_duration_seconds
    if _had_earlier_lives(result):
        at_once = ", in all executions of the run"
    else:
        at_once = f", {seconds / wall:.1f} nodes at once on average" if wall else ""
    return [f"{shown_time(seconds)} in tasks{at_once}"]


def _critical_path(result: ExecutionResult) -> list[str]:
    path = result._critical_steps()
    seconds = sum(step.seconds for step in path)
    if not seconds:
        return []
    wall = result.total_duration_seconds
    share = f", {seconds / wall:.0%} of the run" if wall else ""
    least = "at least " if result.forgotten else ""
    steps = [f"{name!r:.60} {shown_time(took)}" for name, took in path]
    if len(steps) > STEPS:
        steps[STEPS - 2 : -1] = [f"... {len(steps) - STEPS + 1:,} more ..."]
    return [f"{least}{shown_time(seconds)}{share}", " -> ".join(steps)]


def _slowest(result: ExecutionResult) -> list[str]:
    ran = [node for node in result.node_results.values() if node.duration_seconds]
    slowest = nlargest(SLOWEST, ran, key=lambda node: node.duration_seconds)
    times = [shown_time(node.duration_seconds) for node in slowest]
    width = max(map(len, times), default=0)
    lines = [
        f"{time:>{width}}  {_with_origin(node)}" for time, node in zip(times, slowest, strict=True)
    ]
    longest = max((tally.longest for tally in result._tallies.values()), default=0.0)
    if longest and (len(slowest) < SLOWEST or longest > slowest[-1].duration_seconds):
        lines.append(f"{shown_time(longest)}  was the slowest of those that are forgotten")
    return lines


def _tried_again(result: ExecutionResult) -> list[str]:
    again = [node.attempts - 1 for node in result.node_results.values() if node.attempts > 1]
    if not again:
        return []
    kept = " of those that are kept" if result.forgotten else ""
    return [f"{plural(len(again), 'node')}{kept}, {plural(sum(again), 'time')} in all"]


def _had_earlier_lives(result: ExecutionResult) -> bool:
    """Tell whether nodes ran before the execution whose seconds are known: the last one."""
    began = result._times.began
    starts = (node.started_at for node in result.node_results.values())
    return began is not None and any(start is not None and start < began for start in starts)


# -- what became of the graph


def _added(result: ExecutionResult) -> list[str]:
    adders = Counter(node.added_by for node in result.node_results.values())
    for name, tally in result._tallies.items():
        adders[name] += tally.count
    del adders[None]
    lines = [_family(result.family(name)) for name, _ in adders.most_common(ADDERS) if name]
    if len(adders) > ADDERS:
        rest = adders.total() - sum(count for _, count in adders.most_common(ADDERS))
        lines.append(f"{rest:,} more by {len(adders) - ADDERS:,} others")
    return lines


def _family(family: Family) -> str:
    counts = repr(family).partition(": ")[2].rstrip(">")
    durations = family.durations
    took = ""
    if durations is not None and len(family) > 1:
        took = f"; median {shown_time(durations.median)}, longest {shown_time(durations.max)}"
    if took and family.failed:
        took += " of those that succeeded"
    if family.succeeded == len(family):
        return f"{len(family):,} by {family.name!r:.60}{took}"
    return f"{len(family):,} by {family.name!r:.60}: {counts}{took}"


def _named(names: Sequence[str], what: str = "") -> list[str]:
    if not names:
        return []
    some = ", ".join(f"{name!r:.60}" for name in names[:SLOWEST])
    more = f" and {len(names) - SLOWEST:,} more" if len(names) > SLOWEST else ""
    if what:
        return [f"{what}{'s' * (len(names) > 1)} for {some}{more}"]
    return [f"{some}{more}"]


def _dropped(count: int) -> list[str]:
    return [f"{plural(count, 'observer')} that raised, see the log"] if count else []


# -- what failed


def _failed(result: ExecutionResult) -> list[str]:
    failed = [node for node in result.node_results.values() if node.status is FAILED]
    skipped_by = Counter(
        node.reason for node in result.node_results.values() if node.status is SKIPPED
    )
    lines: list[str] = []
    for node in failed[:FAILURES]:
        lines += _failure(node, skipped_by[skip_reason(node.name)])
    if len(failed) > FAILURES:
        rest = Counter(type(node.error).__name__ for node in failed[FAILURES:])
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in rest.most_common(3))
        others = ", ..." if len(rest) > 3 else ""
        lines.append(f"and {len(failed) - FAILURES:,} more: {plain(kinds)}{others}")
    return lines


def _failure(node: NodeResult, skipped: int) -> Iterator[str]:
    part = failed_part(node)
    part = "" if part == "node" else f"the {part} "
    error, group = _told(node.error)
    told, _, help = error_text(error).partition("\n  help: ")
    if "\n" in help:  # of several faults each has its own
        told, help = error_text(error), ""
    text = _in_line(told)
    yield f"{part}{_with_origin(node)}: {text}{f' (in an {group})' if group else ''}"
    details = []
    if (place := _place(error) or _place(node.error)) is not None:
        details.append(f"at {place}")
    elif (place := _definition(error)) is not None:
        details.append(place)
    if skipped:
        details.append(f"{plural(skipped, 'node')} skipped for it")
    if details:
        yield f"  {'; '.join(details)}"
    if help:
        yield f"  help: {_in_line(help)}"


def _told(error: BaseException | None) -> tuple[BaseException | None, str]:
    """Return what there is to tell of: of a group the first that is none, and the group's kind."""
    group = ""
    while error is not None and issubclass(type(error), BaseExceptionGroup):
        group = group or plain(type(error).__name__)
        # Not ``error.exceptions``: a subclass may answer wrongly.
        error = BaseExceptionGroup.exceptions.__get__(error)[0]
    return error, group


def _place(error: BaseException | None) -> str | None:
    """Return the file, line and function that raised: the innermost that is the user's own."""
    for _ in range(CAUSES):
        if error is None:
            break
        if type(error) is RecordedError:
            return _told_place(error.traceback_text)
        traceback = vars(BaseException)["__traceback__"].__get__(error)
        found = None
        for frame in _frames(traceback):
            if found is None or _is_users(frame):
                found = frame
        if found is not None:
            code = found.tb_frame.f_code
            file = plain(code.co_filename)
            file = file if len(file) <= TEXT else f"...{file[-TEXT:]}"
            return f"{file}:{found.tb_lineno} in {plain(code.co_name)}"
        if (noted := _noted_place(error)) is not None:
            return noted
        error = vars(BaseException)["__cause__"].__get__(error)
    return None


def _definition(error: BaseException | None) -> str | None:
    """Return where the task or the expander is defined of which an error of ours tells."""
    if error is None or not issubclass(type(error), DagronError):
        return None
    for note in error.notes if type(error) is RecordedError else _notes(error):
        what, found, place = note.partition(DEFINED_AT)
        if found:
            place = plain(place)
            return f"{plain(what)}{found}{place if len(place) <= TEXT else f'...{place[-TEXT:]}'}"
    return None


def _noted_place(error: BaseException) -> str | None:
    """Return the same of an error that came from a worker: its traceback is in a note."""
    return next((_told_place(n) for n in _notes(error) if n.startswith("raised at ")), None)


def _notes(error: BaseException) -> list[str]:
    # Not ``error.__notes__``: a subclass may have got it wrong.
    notes = BaseException.__getattribute__(error, "__dict__").get("__notes__")
    return [note for note in notes if type(note) is str] if type(notes) is list else []


def _told_place(text: str) -> str | None:
    """Return the same as a traceback tells it, by its last line."""
    found = re.findall(r'^  File "(.*)", line (\d+), in (.*)$', text, re.MULTILINE)
    if not found:
        return None
    file, line, function = (plain(part) for part in found[-1])
    file = file if len(file) <= TEXT else f"...{file[-TEXT:]}"
    return f"{file}:{line} in {function[:TEXT]}"


def _frames(traceback: TracebackType | None) -> Iterable[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _is_users(frame: TracebackType) -> bool:
    """Tell whether the code is neither dagron's, nor the standard library's, nor installed."""
    module = str(frame.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
    if module == "dagron" or module in sys.stdlib_module_names:
        return False
    folders = frame.tb_frame.f_code.co_filename.replace("\\", "/").split("/")
    return not {"site-packages", "dist-packages"} & set(folders)


# -- words


def _with_origin(node: NodeResult) -> str:
    added = "" if node.added_by is None else f", added by {node.added_by!r:.60}"
    return f"{node.name!r:.60}{added}"


def _in_line(text: str) -> str:
    return _clipped(plain(" ".join(text.split())))


def _clipped(text: str) -> str:
    return text if len(text) <= TEXT else f"{text[:TEXT]}..."
