"""Signals that ask a run to save its state and leave."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

SIGNALS = ("SIGTERM", "SIGUSR1", "SIGINT")
"""Of these SIGUSR1 is SLURM's way to warn of the end, and SIGINT that of a terminal."""


class Interrupted(BaseException):
    """A run was asked to leave, and can go on from where it was."""

    def __init__(self, signal_name: str) -> None:
        super().__init__(signal_name)
        self.signal_name = signal_name


class Asked:
    """Which signal has asked a run to leave, if any."""

    def __init__(self) -> None:
        self.signal_name = ""

    def leave(self) -> None:
        """Leaves, if that was asked."""
        if self.signal_name:
            raise Interrupted(self.signal_name)


@contextmanager
def handled(names: Sequence[str], handle: Callable[[str], None]) -> Iterator[None]:
    """Calls `handle` with the names of signals while this lasts.

    Those that the process ignores, and all in another thread than the main one, stay as they are.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in names:
            number = getattr(signal, name, None)  # Windows lacks most of them
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, lambda number, frame: handle(signal.Signals(number).name))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def listening() -> Iterator[Asked]:
    """Notes signals while this lasts."""
    asked = Asked()

    def note(name: str) -> None:
        asked.signal_name = name

    with handled(SIGNALS, note):
        yield asked
