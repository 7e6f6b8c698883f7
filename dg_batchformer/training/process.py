"""The process of a run: signals that ask it to leave, and where its output goes."""

from __future__ import annotations

import contextlib
import io
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from dg_batchformer.runs.files import ERR, OUT
from dg_batchformer.runs.folder import RunFolder

SIGNALS = ("SIGTERM", "SIGUSR1", "SIGINT")
"""Of these SIGUSR1 is SLURM's way to warn of the end, and SIGINT that of a terminal."""


class Interrupted(BaseException):
    """A run was asked to leave, and can be resumed from where it was."""

    def __init__(self, signal_name: str) -> None:
        super().__init__(signal_name)
        self.signal_name = signal_name


class Asked:
    """Which signal has asked a run to leave, if any."""

    def __init__(self) -> None:
        self.signal_name = ""

    def leave(self) -> None:
        """Raises Interrupted if a signal has come."""
        if self.signal_name:
            raise Interrupted(self.signal_name)


@contextmanager
def handled(names: Sequence[str], handle: Callable[[str], None]) -> Iterator[None]:
    """Calls `handle` with the names of signals while the context lasts.

    Signals that the process ignores stay ignored, and outside the main thread nothing changes.
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
    """Notes signals while the context lasts."""
    asked = Asked()

    def note(name: str) -> None:
        asked.signal_name = name

    with handled(SIGNALS, note):
        yield asked


class Tee(io.TextIOBase):
    """A stream that writes to a file and, where given, to another stream too."""

    def __init__(self, file: TextIO, also: TextIO | None) -> None:
        self.file, self.also = file, also

    def write(self, text: str) -> int:
        self.file.write(text)
        self.file.flush()
        if self.also:
            try:
                self.also.write(text)
                self.also.flush()
            except BrokenPipeError:
                # The reader has left; the run goes on, and its file has everything.
                self.also = None
        return len(text)


@contextmanager
def captured(folder: RunFolder, *, echo: bool) -> Iterator[None]:
    """Sends what is printed to `out.txt` and `err.txt` while the context lasts, with `echo` to the terminal too."""
    with (
        (folder / OUT).open("a", encoding="utf-8") as out,
        (folder / ERR).open("a", encoding="utf-8") as err,
        contextlib.redirect_stdout(Tee(out, sys.stdout if echo else None)),
        contextlib.redirect_stderr(Tee(err, sys.stderr if echo else None)),
    ):
        handler = logging.StreamHandler(sys.stdout)
        log = logging.getLogger("dg_batchformer")
        level = log.level
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        try:
            yield
        finally:
            log.removeHandler(handler)
            log.setLevel(level)
