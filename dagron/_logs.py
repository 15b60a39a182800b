"""What is logged, to the logger ``dagron``: nothing is configured, that is the program's affair."""

import sys

from dagron._names import plain

DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40  # as in `logging`, which is loaded on use


def log(
    level: int,
    run_id: str,
    node: str | None,
    message: str,
    *arguments: object,
    error: BaseException | None = None,
) -> None:
    """Log a line, with the run and the node as the fields ``run_id`` and ``node`` of the record."""
    if level < WARNING and "logging" not in sys.modules:
        return  # nobody can have asked to see it
    import logging

    logger = logging.getLogger("dagron")
    if logger.isEnabledFor(level):
        extra = {"run_id": run_id, "node": None if node is None else plain(node)}
        texts = (plain(value) if isinstance(value, str) else value for value in arguments)
        logger.log(level, message, *texts, exc_info=error, extra=extra, stacklevel=2)
