"""A week of a web server's access logs, compressed, for log_stream.py to read.

They are in the common log format with the agent, as Apache and nginx write it; the requests are
drawn with a fixed seed, so that the same files come out everywhere.
"""

import gzip
import os
import random
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path

LAYOUT = 1  # counts up when other files are written
DAYS = 7
LINES = 20_000  # per day
FIRST_DAY = datetime(2026, 3, 2, tzinfo=UTC)

PAGES = ["/", "/docs/", "/blog/", "/search", "/login", "/pricing", "/about", "/status"]
PAGES += [f"/blog/{year}/{number}" for year in range(2019, 2027) for number in range(1, 40)]
PAGES += [f"/docs/page-{number}" for number in range(1, 400)]
AGENTS = ["Mozilla/5.0", "curl/8.5.0", "Googlebot/2.1", "feed-reader/3"]


def write_logs(folder: Path, days: int = DAYS, lines: int = LINES) -> None:
    """Write the logs of these days, each under a temporary name first."""
    folder.mkdir(parents=True, exist_ok=True)
    for day in range(days):
        date = FIRST_DAY + timedelta(days=day)
        path = folder / f"access-{date:%Y-%m-%d}.log.gz"
        if path.exists():
            continue
        handle, partial = tempfile.mkstemp(suffix=".partial", dir=folder)
        with os.fdopen(handle, "wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
            for line in requests(date, lines):
                packed.write(line.encode("ascii"))
        Path(partial).replace(path)


def requests(date: datetime, lines: int) -> Iterator[str]:
    """The lines of one day: a few pages get most requests, one in a thousand lines is broken."""
    random_of_day = random.Random(f"{LAYOUT}/{date:%Y-%m-%d}")
    weights = list(accumulate(1 / rank for rank in range(1, len(PAGES) + 1)))
    for number in range(lines):
        now = date + timedelta(seconds=86_400 * number // lines)
        (page,) = random_of_day.choices(PAGES, cum_weights=weights)
        status = random_of_day.choices([200, 304, 404, 500], [90, 6, 3, 1])[0]
        address = ".".join(str(random_of_day.randrange(1, 255)) for _ in range(4))
        size = random_of_day.randrange(200, 40_000)
        agent = random_of_day.choice(AGENTS)
        if random_of_day.random() < 0.001:
            yield f"{address} - - [{now:%d/%b/%Y} \n"  # the server was restarted here
            continue
        yield (
            f"{address} - - [{now:%d/%b/%Y:%H:%M:%S} +0000] "
            f'"GET {page} HTTP/1.1" {status} {size} "-" "{agent}"\n'
        )
