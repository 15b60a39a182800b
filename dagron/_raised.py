"""What user code raised: looked at without asking it anything, since it may answer wrongly."""

from collections.abc import Iterator
from types import TracebackType
from typing import cast

from dagron._errors import InternalError, RunFailedError
from dagron._names import shown


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, or what is in the group, at any depth; a loop, since groups can be deep.

    Not ``split()``, and not ``isinstance``: both ask what a subclass may have got wrong.
    """
    stack = [error]
    while stack:
        error = stack.pop()
        if issubclass(type(error), BaseExceptionGroup):
            stack.extend(reversed(BaseExceptionGroup.exceptions.__get__(error)))
        else:
            yield error


def is_cancellation(
    error: BaseException,
    cancelled_class: type[BaseException] | tuple[type[BaseException], ...],
) -> bool:
    """Tell whether the error is a cancellation, or a group of nothing else."""
    return all(issubclass(type(leaf), cancelled_class) for leaf in leaves(error))


def keyboard_interrupt(error: BaseException) -> KeyboardInterrupt | None:
    """Return the error if it is a KeyboardInterrupt, or the first one inside a group."""
    for leaf in leaves(error):
        if issubclass(type(leaf), KeyboardInterrupt):
            return cast("KeyboardInterrupt", leaf)
    return None


def forget_our_frames(error: BaseException) -> None:
    """Let the traceback begin with the user's first frame.

    Frames of this package would tell the user nothing, and they hold the run: a result that is kept
    would keep all of it alive.
    """
    traceback = frames_of(error)
    while traceback is not None and _is_ours(traceback):
        traceback = traceback.tb_next
    BaseException.with_traceback(error, traceback)


def forget_all_frames(error: BaseException) -> None:
    """Let an error that was unpickled, and those that it comes of, be without tracebacks.

    Where tblib is installed, the frames of such a traceback lead back to those that unpickled it.
    """
    stack: list[BaseException | None] = [error]
    seen = set()
    while stack:
        own = stack.pop()
        if own is None or id(own) in seen:
            continue
        seen.add(id(own))
        BaseException.with_traceback(own, None)
        stack += (vars(BaseException)[field].__get__(own) for field in ORIGINS)
        if issubclass(type(own), BaseExceptionGroup):
            stack += BaseExceptionGroup.exceptions.__get__(own)


ORIGINS = ("__cause__", "__context__")


def frames_of(error: BaseException) -> TracebackType | None:
    """Return the traceback."""
    # Through the base class: a subclass may have overridden this, and got it wrong.
    return cast("TracebackType | None", vars(BaseException)["__traceback__"].__get__(error))


def _is_ours(traceback: TracebackType) -> bool:
    return str(traceback.tb_frame.f_globals.get("__name__", "")).startswith("dagron.")


def internal_error(bug: Exception) -> InternalError:
    return InternalError(
        f"dagron's own bookkeeping failed: {bug}\n"
        f"  help: this is a bug in dagron; please report it with this traceback"
    )


def broken_open(error: Exception | None, unfinished: list[str]) -> RunFailedError:
    """Return the error for a run whose task group was cancelled by what a node did to it."""
    if error is None:
        what = "these nodes were cancelled from outside before they began"
        help = "cancel the task that awaits execute(), not all tasks of the loop"
    else:
        what = f"a node broke the run's task group: {next(leaves(error))}; unfinished"
        help = "close what a node opens: do not yield inside a cancel scope or a task group"
    return RunFailedError(f"{what}: {shown(unfinished) or 'none'}\n  help: {help}")
