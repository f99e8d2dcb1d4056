"""What stops a command that no mistake of its user explains: one sentence with cause and remedy, the rest in a log file."""

import errno
import os
import platform
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from analysis.records.address import cleaned
from analysis.records.connection import causes
from tuning.experiment.names import printable

GOES_ON = "then the same command goes on from what is there"

FULL = "the disk is full", f"free some space, {GOES_ON}"
AWAY = "its file system does not answer", f"have it mounted again, {GOES_ON}"
CLOSED = "may not be read or written", f"have its permissions given back, {GOES_ON}"
MEMORY = "there is not enough memory", "ask for fewer trials at once (resources), or a smaller train.batch_size"
LOST = "Ray's processes were lost", f"see whether its nodes are up and have memory left, {GOES_ON}"

BY_NUMBER: Mapping[int, tuple[str, str]] = MappingProxyType(
    {
        errno.ENOSPC: FULL,
        errno.EDQUOT: ("your quota of the disk is used up", f"free some space, {GOES_ON}"),
        errno.EROFS: ("its file system can only be read", f"have it mounted for writing, {GOES_ON}"),
        errno.EACCES: CLOSED,
        errno.EPERM: CLOSED,
        errno.ENOENT: ("is gone, deleted or not mounted any more", f"bring it back, {GOES_ON}"),
        errno.ENOTDIR: ("is gone, deleted or not mounted any more", f"bring it back, {GOES_ON}"),
        errno.ESTALE: AWAY,
        errno.EIO: AWAY,
        errno.ENOTCONN: AWAY,
        errno.ETIMEDOUT: AWAY,
        errno.EMFILE: ("too many files are open", "raise the limit: ulimit -n 65536"),
        errno.ENFILE: ("too many files are open on this machine", "end what holds them"),
        errno.ENOMEM: MEMORY,
    }
)
"""Number of an operating system's error -> what happened, and what to do."""

BY_NAME: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "MemoryError": MEMORY,
        "OutOfMemoryError": MEMORY,
        "OutOfDiskError": ("the disk of Ray's temporary folder is full", f"free some space, {GOES_ON}"),
        "ActorDiedError": LOST,
        "LocalRayletDiedError": LOST,
        "NodeDiedError": LOST,
        "RaySystemError": LOST,
        "WorkerCrashedError": LOST,
    }
)
"""Name of an exception of torch, Ray or Python -> the same; their modules load late."""

UNKNOWN = "run the same command again; if it comes back, report it with that file"
_NUMBER = re.compile(r"\[Errno (\d+)\]")


class Failed(Exception):
    """A command that could not go on, in one sentence."""


@contextmanager
def explained(folder: Path, expected: frozenset[str]) -> Iterator[None]:
    """Tells what stops a block, and keeps all that is known of it in a file.

    Args:
        folder: of the search; the file is in `log` there, or in a temporary folder where that cannot be written.
        expected: names of exceptions that say themselves what to do.

    Raises:
        Failed: instead of all others.
    """
    try:
        yield
    except Exception as error:
        if type(error).__name__ in expected:
            raise
        raise failed(error, folder) from error


def failed(error: BaseException, folder: Path | None = None) -> Failed:
    """What is told of an error, its traceback written into a file that is named."""
    happened, remedy = explanation(error, folder)
    return Failed(printable(cleaned(f"{happened}; {remedy} (details: {_logged(error, folder)})")))


def explanation(error: BaseException, folder: Path | None = None) -> tuple[str, str]:
    """What happened, and what to do.

    Args:
        error: with what it came from.
        folder: that the command writes, where the error names no file.
    """
    for each in causes(error):
        number = each.errno or 0 if isinstance(each, OSError) else 0
        if number in BY_NUMBER:
            happened, remedy = BY_NUMBER[number]
            return _at(getattr(each, "filename", None) or folder, happened), remedy
        if type(each).__name__ in BY_NAME:
            return BY_NAME[type(each).__name__]
    told = [int(number) for number in _NUMBER.findall(str(error)) if int(number) in BY_NUMBER]  # of another process
    if told:
        happened, remedy = BY_NUMBER[told[-1]]
        return _at(folder, happened), remedy
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"unexpected {type(error).__name__}: {lines[-1].strip() if lines else 'without a word'}", UNKNOWN


def _at(place: object, happened: str) -> str:
    return f"{os.fsdecode(place)}: {happened}" if isinstance(place, str | bytes | Path) else happened


def _logged(error: BaseException, folder: Path | None) -> Path:
    """Where all that is known of an error is written: beside the search, which is not made anew where it is gone."""
    text = "".join(
        (
            f"{time.strftime('%Y-%m-%d %H:%M:%S %z')}\n{' '.join(sys.argv)}\n",
            f"python {platform.python_version()} on {platform.platform()}, process {os.getpid()}\n\n",
            *traceback.format_exception(error),
        )
    )
    text, name = cleaned(text), f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    try:
        if folder is None or not folder.is_dir():
            raise FileNotFoundError(folder)
        (folder / "log").mkdir(exist_ok=True)
        path = folder / "log" / name
        path.write_text(text, encoding="utf-8")
    except OSError:
        path = Path(tempfile.mkdtemp(prefix="panda-tune-log-")) / name
        path.write_text(text, encoding="utf-8")
    return path
