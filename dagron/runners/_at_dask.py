"""What runs at a worker of Dask: one call, and the news of it for the program that sent it."""

from collections.abc import Callable
from typing import Any

from distributed import get_worker

from dagron._errors import Cancelled
from dagron._results import error_text
from dagron.runners._pickles import dumped, portable
from dagron.runners._travel import Host, perform

BEGAN, ENDED, PROGRESS = "began", "ended", "progress"


class Carried(Exception):
    """Carries what a body raised through Dask, whatever that is; its text is for Dask's pages."""

    def __init__(self, pickled: bytes, text: str) -> None:
        super().__init__(pickled, text)
        self.pickled = pickled
        self.text = text

    def __str__(self) -> str:
        return self.text


def call(topic: bytes, pickled: bytes, *values: Any) -> Any:
    """Make a call at this worker. Its news go to the topic, of which the program hears."""
    worker = get_worker()
    key = worker.get_current_task()

    def is_cancelled() -> bool:
        state = worker.state.tasks.get(key)
        return state is None or state.state == "cancelled"

    tell = _teller(worker, topic.decode(), key)
    if is_cancelled():
        raise Carried(dumped(Cancelled("it was cancelled before it began")), "Cancelled")
    tell(BEGAN, worker.address)
    host = Host(lambda *numbers: tell(PROGRESS, *numbers), is_cancelled)
    try:
        value, _ = perform(pickled, values, host, f"the Dask worker {worker.address}", portable)
        return value
    except BaseException as error:
        failure = Carried(dumped(error), error_text(error))
    finally:
        if is_cancelled():  # else the outcome tells that
            tell(ENDED)
    raise failure  # not in there, where its context would be the error, which Dask pickles as well


def is_executing(key: str, dask_worker: Any = None) -> bool:
    """Tell whether a body of this key goes on at a worker, cancelled or not."""
    state = dask_worker.state.tasks.get(key)
    return state is not None and state in dask_worker.state.all_running_tasks


def forget_topic(topic: str, dask_scheduler: Any = None) -> None:
    """Let the scheduler forget the news of a program that leaves, which it would keep for good."""
    dask_scheduler._broker._topics.pop(topic, None)


def _teller(worker: Any, topic: str, key: str) -> Callable[..., None]:
    def tell(what: str, *details: Any) -> None:
        worker.log_event(topic, [what, key, *details])

    return tell
