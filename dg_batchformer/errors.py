"""What a user gave is wrong."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


class InputError(ValueError):
    """An input that cannot be used; the message says what came, what was expected and what to do."""


def unknown(kind: str, given: str, known: Iterable[str]) -> str:
    """Sentence for a name that is not known, with the nearest known names (or, where none is near, all, at most 30)."""
    names = list(known)
    lowered = {name.lower(): name for name in names}
    near = [lowered[match] for match in difflib.get_close_matches(given.lower(), lowered, n=3, cutoff=0.6)]
    if near:
        return f"unknown {kind} {given!r}: did you mean {' or '.join(near)}?"
    more = f" and {len(names) - 30} more" if len(names) > 30 else ""
    return f"unknown {kind} {given!r}: known are {', '.join(names[:30])}{more}"


def first_line(error: Exception) -> str:
    """An error's own message, without the lists that some libraries add below it."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class Problems(list[str]):
    """Problems that are collected before any work, so that a user sees all of them at once."""

    def attempt(self, function: Callable[..., T], *args: Any) -> T | None:
        """What a function returns; where it raises an InputError, its message is a problem, and None is returned."""
        try:
            return function(*args)
        except InputError as error:
            self.append(str(error))
            return None

    def raise_any(self) -> None:
        """InputError with a line for each problem, if there is any."""
        if self:
            raise InputError("\n".join(self))
