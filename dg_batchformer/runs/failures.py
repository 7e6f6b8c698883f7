"""Why a run failed, in one line."""

import contextlib
import errno
import traceback
from collections.abc import Iterator

from dg_batchformer.errors import InputError

FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class DivergedError(RuntimeError):
    """The loss became NaN or infinite."""


def sentence(error: BaseException) -> str:
    """What went wrong; where space, permission or memory is lacking, that and what to do."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.errno in FULL:
        return f"the disk is full ({text}): free some space and launch again"
    if isinstance(error, OSError) and error.errno in FORBIDDEN:
        return f"permission is lacking ({text}): allow it and launch again"
    if is_out_of_memory(error):
        return f"out of memory ({text}): run fewer at once, or with a smaller batch_size"
    return text


def details(error: BaseException) -> str:
    """The traceback of an error."""
    return "".join(traceback.format_exception(error))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory, of the host or of a GPU, was lacking."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and any(words in text for words in ("out of memory", "can't allocate memory", "alloc_failed"))
    )


def may_pass(error: BaseException) -> bool:
    """Whether another try could end differently."""
    return not isinstance(error, InputError | DivergedError)


@contextlib.contextmanager
def but_for_space() -> Iterator[None]:
    """Ignores a full disk: for output that is only for show."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
