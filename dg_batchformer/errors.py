"""Errors of a user's input, and the reason of a failed run in one line."""

import contextlib
import difflib
import errno
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


class InputError(ValueError):
    """An invalid input; the message says what was given, what was expected and what to do."""


def unknown(kind: str, given: str, known: Iterable[str]) -> str:
    """The message for an unknown name, with the nearest known names, or else with at most 30 known ones."""
    names = list(known)
    lowered = {name.lower(): name for name in names}
    near = [lowered[match] for match in difflib.get_close_matches(given.lower(), lowered, n=3, cutoff=0.6)]
    if near:
        return f"unknown {kind} {given!r}: did you mean {' or '.join(near)}?"
    more = f" and {len(names) - 30} more" if len(names) > 30 else ""
    return f"unknown {kind} {given!r}: known are {', '.join(names[:30])}{more}"


def first_line(error: Exception) -> str:
    """The first line of an error, without the lists that some libraries add below it."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class Problems(list[str]):
    """Problems collected before any work, so that a user sees all of them at once."""

    def attempt(self, function: Callable[..., T], *args: Any) -> T | None:
        """The result of a function; if it raises an InputError, the message is a problem and the result None."""
        try:
            return function(*args)
        except InputError as error:
            self.append(str(error))
            return None

    def raise_any(self) -> None:
        """Raises an InputError with a line for each problem, if there are any."""
        if self:
            raise InputError("\n".join(self))


FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class DivergedError(RuntimeError):
    """The loss became NaN or infinite."""


def sentence(error: BaseException) -> str:
    """An error in one line; for missing space, permission or memory with what to do."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.errno in FULL:
        return f"the disk is full ({text}): free some space and launch again"
    if isinstance(error, OSError) and error.errno in FORBIDDEN:
        return f"permission denied ({text}): allow it and launch again"
    if is_out_of_memory(error):
        return f"out of memory ({text}): run fewer at once, or with a smaller batch_size"
    return text


def details(error: BaseException) -> str:
    """The traceback of an error."""
    return "".join(traceback.format_exception(error))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory of the host or of a GPU ran out."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and any(words in text for words in ("out of memory", "can't allocate memory", "alloc_failed"))
    )


def may_pass(error: BaseException) -> bool:
    """Whether a retry could succeed."""
    return not isinstance(error, InputError | DivergedError)


@contextlib.contextmanager
def but_for_space() -> Iterator[None]:
    """Ignores a full disk, for output that is only for display."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
