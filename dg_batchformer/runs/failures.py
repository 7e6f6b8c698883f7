"""Why a run failed, in one line, and its marks."""

from __future__ import annotations

import contextlib
import errno
import os
import traceback
from collections.abc import Iterator
from pathlib import Path

from dg_batchformer.errors import InputError
from dg_batchformer.runs import records

FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class DivergedError(RuntimeError):
    """The loss became NaN or infinite."""


def sentence(error: BaseException) -> str:
    """What went wrong; where space, permission or memory is lacking, that and what to do."""
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.errno in FULL:
        return f"the disk is full ({said}): free some space and launch again"
    if isinstance(error, OSError) and error.errno in FORBIDDEN:
        return f"permission is lacking ({said}): allow it and launch again"
    if is_out_of_memory(error):
        return f"out of memory ({said}): run fewer at once, or with a smaller batch_size"
    return said


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory, of the host or of a GPU, was lacking."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    said = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and any(words in said for words in ("out of memory", "can't allocate memory", "alloc_failed"))
    )


def may_pass(error: BaseException) -> bool:
    """Whether another try could end differently."""
    return not isinstance(error, InputError | DivergedError)


def mark(folder: Path, reason: str, details: str = "") -> None:
    """Marks a run as failed, as far as the disk lets it, and adds details to its `err.txt`."""
    with contextlib.suppress(OSError):
        records.mark(folder / records.FAILED, f"{reason}\n")
    with contextlib.suppress(OSError), (folder / records.ERR).open("a", encoding="utf-8") as file:
        file.write(details or f"{reason}\n")


def mark_error(folder: Path, error: Exception) -> None:
    """Marks a run as failed with an error and its traceback."""
    mark(folder, sentence(error), details(error))


def details(error: Exception) -> str:
    """The traceback of an error."""
    return "".join(traceback.format_exception(error))


def read_mark(folder: Path) -> tuple[str, str]:
    """What tells the mark of one failure from that of another, and its reason; both "" where there is none."""
    try:
        with (folder / records.FAILED).open(encoding="utf-8", errors="replace") as file:
            stat = os.fstat(file.fileno())
            return f"{stat.st_mtime_ns} {stat.st_ino}", file.read().strip()
    except OSError:
        return "", ""


@contextlib.contextmanager
def but_for_space() -> Iterator[None]:
    """Lets what is only said go unsaid where the disk that it would be written to is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
