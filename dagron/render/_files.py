"""Writes what was rendered into a file: whole, or not at all."""

from pathlib import Path
from secrets import token_hex


def checked_path(path: str | Path, call: str, name: str) -> Path:
    """Return the path of a file that can be written there, or say why none can.

    ``call`` is how the user asked for it, with ``...`` for the path, and ``name`` what one may
    call such a file.
    """
    if not isinstance(path, str) and not hasattr(path, "__fspath__"):
        raise TypeError(
            f"path is a str or a pathlib.Path, not {type(path).__name__}: {path!r:.60}\n"
            f"  help: name a file: {_said(call, name)}"
        )
    checked = Path(path)
    if not str(path) or checked.is_dir():
        what = f"{str(checked)!r} is a folder" if str(path) else "the path is empty"
        raise IsADirectoryError(
            f"{what}: what is written is one file\n  help: name it: {_said(call, checked / name)}"
        )
    if not checked.parent.is_dir():
        raise FileNotFoundError(
            f"there is no folder {str(checked.parent)!r} to write {checked.name!r} into\n"
            f"  help: make it first: pathlib.Path({str(checked.parent)!r}).mkdir(parents=True)"
        )
    return checked


def _said(call: str, path: object) -> str:
    return call.replace("...", repr(str(path)))


def write(text: str, path: Path) -> None:
    """Write it beside the file, and put it in its place when it is whole."""
    target = path.resolve()  # what a link leads to is replaced, not the link
    if target.exists() and not target.is_file():
        target.write_bytes(text.encode())  # a pipe, say: there is nothing to put it in the place of
        return
    beside = target.with_name(f".dagron-{token_hex(8)}.tmp")
    try:
        with beside.open("xb") as file:
            file.write(text.encode())
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
