"""What clients upload: a zip of CSV files, looked at before anything is done with it."""

import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

import anyio.to_thread
from fastapi import Request
from starlette.requests import ClientDisconnect

MAX_UPLOAD = 8_000_000  # bytes that are sent
MAX_UNPACKED = 64_000_000  # bytes that it says it has when unpacked; zipfile reads no more of it
MAX_FILES = 500


class BadUpload(Exception):
    """An upload that is refused; ``status`` is the answer's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Upload:
    """A zip that was looked at, in memory or in a file, and the names of the CSV files in it."""

    body: bytes | Path
    tables: tuple[str, ...]

    def open(self) -> BinaryIO:
        return BytesIO(self.body) if isinstance(self.body, bytes) else self.body.open("rb")

    def read(self) -> bytes:
        with self.open() as file:
            return file.read()


async def receive(request: Request) -> Upload:
    """Return what a request brings, or raise `BadUpload`."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_UPLOAD:
                raise BadUpload(413, f"an upload has at most {MAX_UPLOAD:,} bytes")
    except ClientDisconnect:
        raise BadUpload(400, "the client has gone") from None
    return await anyio.to_thread.run_sync(look_at, bytes(body))


def look_at(body: bytes) -> Upload:
    """Refuse what is no zip, too large when unpacked, out of its folder, or without a table."""
    try:
        with zipfile.ZipFile(BytesIO(body)) as archive:
            files = [info for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, NotImplementedError, ValueError, IndexError):  # of hostile zips
        raise BadUpload(415, "the upload is no zip: send one as the body") from None
    if not all(info.filename for info in files):
        raise BadUpload(415, "the upload is no zip: send one as the body")
    if len(files) > MAX_FILES:
        raise BadUpload(413, f"a zip has at most {MAX_FILES} files, not {len(files):,}")
    if sum(info.file_size for info in files) > MAX_UNPACKED:
        raise BadUpload(413, f"a zip has at most {MAX_UNPACKED:,} bytes when unpacked")
    names = [info.filename for info in files]
    for info in files:
        if not is_inside(info.filename):
            raise BadUpload(422, f"the zip has a file outside of its folder: {info.filename!a:.80}")
        if not info.filename.isprintable() or len(info.filename) > 200:
            raise BadUpload(422, f"the zip has a file with an odd name: {info.filename!a:.80}")
        if info.flag_bits & 1:
            raise BadUpload(422, f"the zip is encrypted: {info.filename!a:.80}")
    if len({*names}) < len(names):
        raise BadUpload(422, "the zip has two files of one name")
    tables = tuple(name for name in names if name.lower().endswith(".csv"))
    if not tables:
        raise BadUpload(422, "the zip has no .csv file")
    return Upload(body, tables)


def is_inside(name: str) -> bool:
    """Tell whether a name stays in the folder where somebody might unpack it."""
    paths = PurePosixPath(name), PureWindowsPath(name)
    return all(not path.anchor and ".." not in path.parts for path in paths)
