"""What a run prints: into its folder, and to the terminal."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from dg_batchformer.runs.records import ERR, OUT


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
                # Whoever read along has had enough; the run goes on, and its file has it all.
                self.also = None
        return len(text)


@contextlib.contextmanager
def captured(folder: Path, *, echo: bool) -> Iterator[None]:
    """While this lasts, what is printed goes to `out.txt` and `err.txt`, and where `echo` to the terminal too."""
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
