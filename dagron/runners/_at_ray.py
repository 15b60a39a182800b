"""What runs at a worker of Ray: one call, of which the outcome and the value are two objects."""

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import ray

from dagron.runners._pickles import dumped, portable, with_variables
from dagron.runners._travel import Host, perform

# Ray has a cloudpickle of its own, which pickles values: classes that no module has would come back
# as others if anything else pickled tasks and errors.
Pickler = with_variables(ray.cloudpickle.Pickler)


class Outcome(NamedTuple):
    """What there is to say of a call, but for its value: that stays at the workers."""

    seconds: float
    error: bytes | None  # that it raised, pickled


def call(pickled: bytes, *values: Any) -> Iterator[Any]:
    """Make a call at this worker: yields the worker's name at its begin, an `Outcome`, the value.

    The program reads the name when it comes, and the rest when all of it is there.
    """
    worker = f"{ray.util.get_node_ip_address()}, process {os.getpid()}"
    yield worker
    value = None
    try:
        host = Host(lambda done, total, note: None)
        value, seconds = perform(pickled, values, host, f"the Ray worker {worker}", portable)
        outcome = Outcome(seconds, None)
    except BaseException as error:
        outcome = Outcome(0.0, dumped(error, Pickler))
    yield outcome
    yield value
