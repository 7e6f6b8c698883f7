"""Reads the folders of many runs in several processes, each of which hands its share back as an index."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dg_batchformer import machine
from dg_batchformer.selection import index
from dg_batchformer.selection.index import Entry
from dg_batchformer.selection.reading import read_folder
from dg_batchformer.training import records

FEWEST = 1000
"""Folders that a process must have to read for its start to pay."""


def read(input_dir: Path, names: Sequence[str]) -> dict[str, Entry]:
    """What the folders of those names hold that are runs', read in as many processes as pay."""
    n = max(1, min(machine.available_cores(), len(names) // FEWEST))
    helpers = [Helper(input_dir, names[i::n]) for i in range(1, n)]
    entries = read_share(input_dir, names[::n])
    for helper in helpers:
        entries |= helper.entries()
    return entries


def read_share(input_dir: Path, names: Sequence[str]) -> dict[str, Entry]:
    """The same in this process."""
    entries = {}
    for name in names:
        stamp = index.stamp_of(input_dir, name)
        if any(stamp) or records.is_run(input_dir / name):
            entries[name] = Entry(stamp, read_folder(input_dir / name))
    return entries


class Helper:
    """A process that reads a share; files carry names to it and entries back, so that neither side waits."""

    def __init__(self, input_dir: Path, names: Sequence[str]) -> None:
        self.input_dir, self.names = input_dir, names
        self.output = tempfile.TemporaryFile()  # noqa: SIM115
        with tempfile.TemporaryFile() as given:
            given.write("\0".join(names).encode("utf-8", "surrogateescape"))
            given.seek(0)
            command = [sys.executable, "-m", __name__, str(input_dir)]
            self.process = subprocess.Popen(command, stdin=given, stdout=self.output, stderr=subprocess.DEVNULL)

    def entries(self) -> dict[str, Entry]:
        """The share, once it is read; where the process failed this one reads it itself."""
        with self.output:
            if self.process.wait() == 0:
                self.output.seek(0)
                entries = index.read(self.output, self.input_dir)
                if entries is not None:
                    return entries
        return read_share(self.input_dir, self.names)


@machine.without_garbage_collection()
def main() -> None:
    """A helper's part."""
    input_dir, names = Path(sys.argv[1]), sys.stdin.buffer.read().decode("utf-8", "surrogateescape").split("\0")
    index.write(sys.stdout.buffer, input_dir, read_share(input_dir, names))


if __name__ == "__main__":
    main()
