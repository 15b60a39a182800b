"""What runs at a worker of Ray: one call, of which the outcome and the value are two objects."""

import os
from typing import Any, NamedTuple

import ray

from dagron.runners._pickles import dumped, portable, with_variables
from dagron.runners._travel import Host, perform

# Ray has a cloudpickle of its own, which pickles values: classes that no module has would come back
# as others if anything else pickled tasks and errors.
Pickler = with_variables(ray.cloudpickle.Pickler)


class Outcome(NamedTuple):
    """What there is to say of a call, but for its value: that stays at the workers."""

    worker: str
    seconds: float
    error: bytes | None  # that it raised, pickled


def call(pickled: bytes, *values: Any) -> tuple[Outcome, Any]:
    """Make a call at this worker."""
    worker = f"{ray.util.get_node_ip_address()}, process {os.getpid()}"
    try:
        host = Host(lambda done, total, note: None)
        value, seconds = perform(pickled, values, host, f"the Ray worker {worker}", portable)
        return Outcome(worker, seconds, None), value
    except BaseException as error:
        return Outcome(worker, 0.0, dumped(error, Pickler)), None
