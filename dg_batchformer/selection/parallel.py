"""Reads the folders of many runs in several processes, each of which hands its share back as an index."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from dg_batchformer import machine
from dg_batchformer.runs import records
from dg_batchformer.selection import index
from dg_batchformer.selection.index import Entry
from dg_batchformer.selection.reading import read_folder

FEWEST = 2000
"""Folders that a process must have to read for its start to pay."""

HEAD_START = 3000
"""Folders that this process reads in the time that another takes to start and to hand over what it read."""

Share = Callable[[], dict[str, Entry] | None]
"""Waits for what a process has read; None where it failed."""


def read(input_dir: Path, names: Sequence[str]) -> dict[str, Entry]:
    """What the folders of those names hold that are runs', read in as many processes as pay."""
    n = max(1, min(machine.available_cores(), len(names) // FEWEST))
    size = max(1, (len(names) - HEAD_START) // n)
    others, own = [names[i * size : (i + 1) * size] for i in range(n - 1)], names[(n - 1) * size :]
    with contextlib.ExitStack() as stack:
        shares: list[Share] = []
        with contextlib.suppress(OSError):  # no room for one more, nor for its files
            for names in others:
                shares.append(stack.enter_context(_process(input_dir, names)))
        entries = read_share(input_dir, own)
        for names, share in itertools.zip_longest(others, shares):
            found = share() if share else None
            entries |= read_share(input_dir, names) if found is None else found
    return entries


def read_share(input_dir: Path, names: Sequence[str]) -> dict[str, Entry]:
    """The same in this process."""
    entries = {}
    for name in names:
        stamp = index.stamp_of(input_dir, name)
        if any(stamp) or _is_run(input_dir / name):
            entries[name] = Entry(stamp, read_folder(input_dir / name))
    return entries


def _is_run(path: Path) -> bool:
    try:
        return records.is_run(path)
    except OSError:  # it may be one, and reading it says what is wrong
        return True


@contextlib.contextmanager
def _process(input_dir: Path, names: Sequence[str]) -> Iterator[Share]:
    """A process that reads a share; names and entries are in files, so that neither side waits for the other."""

    def share() -> dict[str, Entry] | None:
        if process.wait() != 0:
            return None
        output.seek(0)
        return index.read(output, input_dir)

    command = [sys.executable, "-m", __name__, str(input_dir)]
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output:
        given.write("\0".join(names).encode("utf-8", "surrogateescape"))
        given.seek(0)
        with subprocess.Popen(command, stdin=given, stdout=output, stderr=subprocess.DEVNULL) as process:
            try:
                yield share
            finally:
                process.kill()


@machine.without_garbage_collection()
def main() -> None:
    """What such a process does."""
    input_dir, names = Path(sys.argv[1]), sys.stdin.buffer.read().decode("utf-8", "surrogateescape").split("\0")
    index.write(sys.stdout.buffer, input_dir, read_share(input_dir, names))


if __name__ == "__main__":
    main()
