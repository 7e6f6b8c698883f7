"""Why a run failed, in one line, and its marks."""

from __future__ import annotations

import contextlib
import errno
import gc
import sys
import traceback
from pathlib import Path

from dg_batchformer.errors import InputError
from dg_batchformer.training import records

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
    if isinstance(error, MemoryError):
        return True
    # Without importing torch for it: who has not imported it has no such error.
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


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
    mark(folder, sentence(error), "".join(traceback.format_exception(error)))


def mark_of(folder: Path) -> str:
    """What tells the mark of one failure from that of another; "" where there is none."""
    try:
        stat = (folder / records.FAILED).stat()
    except FileNotFoundError:
        return ""
    return f"{stat.st_mtime_ns} {stat.st_ino}"


def free_memory() -> None:
    """Gives back what a run that ran out of memory has left, so that the next one has it."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
