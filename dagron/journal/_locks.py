"""Who has a run: one byte of a lock file per run, free as soon as its holder is dead.

The system lets go of such a lock when a process ends, however it ends; a child does not inherit it.
It does not keep two parts of one process apart, and it drops *all* locks of a process on a file
when the process closes any descriptor of it. So a file is opened once per process, and what the
process holds stands in a table.
"""

import os
import struct
import sys
import threading
from contextlib import suppress

if sys.platform == "win32":  # pragma: no cover
    import msvcrt
else:
    import fcntl

Identity = tuple[int, int]  # of a file: device and inode


class _LockFile:
    """A lock file that this process has open, and by whom its bytes are held."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.held: dict[int, Hold] = {}


_files: dict[Identity, _LockFile] = {}
_mutex = threading.Lock()


class Hold:
    """A run that this process holds, until `release`.

    ``file`` tells its lock file from another one, of which other processes ask who has the run.
    """

    def __init__(self, file: Identity, number: int) -> None:
        self.file = file
        self._number = number

    def release(self) -> None:
        """Let the run go; a second time does nothing."""
        with _mutex:
            file = _files.get(self.file)
            if file is None or file.held.get(self._number) is not self:
                return  # it was released before, or is of the process that this one was forked from
            del file.held[self._number]
            with suppress(
                OSError
            ):  # all is written: it is free when the file is closed, at the latest
                _unlock(file.descriptor, self._number)
            if not file.held:
                del _files[self.file]
                os.close(file.descriptor)


def locks_of(path: str) -> str:
    """Return the lock file of a journal."""
    return f"{path}-locks"


def identity(status: os.stat_result) -> Identity:
    """Return what tells a file from all others."""
    return status.st_dev, status.st_ino


def identity_of(path: str) -> Identity | None:
    """Return the identity of the file that stands there, or None: there is none."""
    try:
        return identity(os.stat(path))
    except OSError:
        return None


def hold(path: str, number: int) -> Hold | None:
    """Take the run of this number, or return None: somebody has it. Does not wait.

    Raises `OSError` when there can be no lock file.
    """
    with _mutex:
        key, file = _opened(path)
        try:
            if number in file.held or not _lock(file.descriptor, number):
                return None
            file.held[number] = Hold(key, number)
            return file.held[number]
        finally:
            if not file.held:
                del _files[key]
                os.close(file.descriptor)


def is_held(path: str, number: int) -> bool:
    """Tell whether any process has the run, without getting into anyone's way."""
    with _mutex:
        try:
            key, file = _opened(path, create=False)
        except OSError:
            return False  # no lock file: nobody has ever held anything
        try:
            return number in file.held or _is_locked(file.descriptor, number)
        finally:
            if not file.held:
                del _files[key]
                os.close(file.descriptor)


def _opened(path: str, *, create: bool = True) -> tuple[Identity, _LockFile]:
    """Return the lock file that stands there; opened only if this process does not have it open."""
    key = identity_of(path)
    if key is not None and key in _files:
        return key, _files[key]
    flags = os.O_RDWR | os.O_CREAT if create else os.O_RDONLY
    descriptor = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)
    key = identity(os.fstat(descriptor))
    # Was another file moved there since the look above, one that we have? Then this descriptor
    # stays open for good, since to close it would let go of what we hold.
    return key, _files.setdefault(key, _LockFile(descriptor))


if sys.platform == "win32":  # pragma: no cover

    def _lock(descriptor: int, number: int) -> bool:
        os.lseek(descriptor, number, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(descriptor: int, number: int) -> None:
        os.lseek(descriptor, number, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:

    def _lock(descriptor: int, number: int) -> bool:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _unlock(descriptor: int, number: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, number)


# `struct flock` where its layout is known: asking leaves no lock behind, not even for a moment.
if sys.platform == "linux":

    def _is_locked(descriptor: int, number: int) -> bool:
        question = struct.pack("hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, number, 1, 0)
        answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, question)
        return bool(struct.unpack_from("h", answer)[0] != fcntl.F_UNLCK)

elif sys.platform == "darwin":  # pragma: no cover

    def _is_locked(descriptor: int, number: int) -> bool:
        question = struct.pack("qqihh", number, 1, 0, fcntl.F_WRLCK, os.SEEK_SET)
        answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, question)
        return bool(struct.unpack("qqihh", answer)[3] != fcntl.F_UNLCK)

else:  # pragma: no cover

    def _is_locked(descriptor: int, number: int) -> bool:
        if not _lock(descriptor, number):
            return True
        _unlock(descriptor, number)
        return False


def _after_fork() -> None:
    """In a forked child: it holds nothing, and has no need of its parent's descriptors."""
    global _mutex
    _mutex = threading.Lock()
    for file in _files.values():
        with suppress(OSError):
            os.close(file.descriptor)
    _files.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
