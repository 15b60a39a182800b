"""Round numbers on an axis of time."""

from collections.abc import Iterator

_MILLISECOND, _SECOND = 1_000, 1_000_000
_MINUTE = 60 * _SECOND
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_ROUND = (1, 2, 5)
_STEPS = (  # below ten seconds they are made: 1, 2, 5, 10, ...
    *(count * _SECOND for count in (10, 15, 30)),
    *(count * _MINUTE for count in (1, 2, 5, 10, 15, 30)),
    *(count * _HOUR for count in (1, 2, 3, 6, 12)),
)
_LARGEST_UNITS = ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min"), (_SECOND, "s"))


def ticks(length: int, most: int) -> list[tuple[int, str]]:
    """Return up to ``most`` points of a stretch of so many microseconds, and what stands there."""
    step = next(step for step in _steps() if length // step < most)
    return [(at, _told(at, length)) for at in range(0, length + 1, step)]


def _steps() -> Iterator[int]:
    power = 1
    while power < _STEPS[0]:
        for count in _ROUND:
            yield count * power
        power *= 10
    yield from _STEPS
    power = 1
    while True:
        for count in _ROUND:
            yield count * power * _DAY
        power *= 10


def _told(at: int, length: int) -> str:
    """Return a time as text, in the unit that suits the whole."""
    if not at:
        return "0"
    if length < _MILLISECOND:
        return f"{at} µs"
    if length < _SECOND:
        return f"{at / _MILLISECOND:g} ms"
    if length < 2 * _MINUTE:
        return f"{at / _SECOND:g} s"
    parts = []
    for unit, word in _LARGEST_UNITS:
        count, at = divmod(at, unit)
        if count:
            parts.append(f"{count:,} {word}")
    return " ".join(parts)
