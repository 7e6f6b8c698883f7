"""Who runs a run: a claim in its folder, so that any number of launchers never run it twice at once.

Claim n is the file `claim-n.json`, which only one process can create: its owner, who touches it every few seconds. The
claim of the highest number counts. It is free when its owner has renamed it to `claim-n.ended`, and lost when the owner
is known to be dead, or has given no sign of life for a while by the watch of whoever looks: clocks of machines that
differ, or go backwards, change nothing. Whoever creates the next number takes over; an owner that was only slow leaves
then.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from dg_batchformer.runs.files import DONE

BEAT_SECONDS = 5.0
LEASE_SECONDS = 60.0
"""Without a sign of life for so long, an owner on another machine is taken for dead."""


def process_space() -> str:
    """Where process numbers mean the same: a boot of a kernel, and a container in it; "" where that is not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


@dataclass(frozen=True)
class Owner:
    """A process that runs a run, since a time by its own clock."""

    host: str
    pid: int
    since: float
    space: str = ""

    @classmethod
    def myself(cls) -> Owner:
        return cls(socket.gethostname(), os.getpid(), time.time(), process_space())

    @property
    def name(self) -> str:
        return f"{self.pid}@{self.host}"

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.pid} on {self.host}, since {since}"

    @property
    def is_known_dead(self) -> bool:
        """Whether it was a process of this machine that is no more."""
        if (self.host, self.space) != (socket.gethostname(), process_space()):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False


class TakenError(RuntimeError):
    """A run is another process's."""

    def __init__(self, folder: Path, owner: Owner | None) -> None:
        super().__init__(f"{folder} is being run by {owner or 'a process that just began'}")


NAME = re.compile(r"claim-(\d+)\.(json|ended)")


def latest(folder: Path) -> Path | None:
    """The claim that counts, `claim-n.json` or `claim-n.ended`; OSError where the folder cannot be looked into."""
    try:
        # Not by glob, for which a folder that is away for a while is an empty one.
        names = os.listdir(folder)
    except FileNotFoundError:
        return None
    found = [(int(match[1]), match[2] == "ended", name) for name in names if (match := NAME.fullmatch(name))]
    return folder / max(found)[2] if found else None


def number_of(claim: Path) -> int:
    return int(claim.stem.partition("-")[2])


def owner_of(path: Path) -> Owner | None:
    """Who made a claim; None while it is being written."""
    try:
        return Owner(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


class Watch:
    """Looks at claims again and again, and says which of them are lost."""

    def __init__(self) -> None:
        self.seen: dict[Path, tuple[int, float]] = {}
        self.alive: set[Path] = set()

    def is_alive(self, claim: Path | None) -> bool:
        """Whether who made a claim has shown a sign of life between the looks of this watch."""
        return claim in self.alive

    def is_free(self, claim: Path | None) -> bool:
        """Whether a run whose claim this is can be claimed: nobody has it, or who had it is dead."""
        return claim is None or claim.suffix == ".ended" or self.is_lost(claim)

    def is_lost(self, path: Path) -> bool:
        """Whether who made a claim is dead, or has given no sign of life for too long while this watch looked."""
        owner = owner_of(path)
        if owner and owner.is_known_dead:
            return True
        try:
            beat = path.stat().st_mtime_ns
        except FileNotFoundError:  # it has just ended
            return True
        now = time.monotonic()
        known = self.seen.get(path)
        if known is None or known[0] != beat:
            self.seen[path] = (beat, now)
            if known is not None:
                self.alive.add(path)
            return False
        return now - known[1] > LEASE_SECONDS


class LostError(RuntimeError):
    """Another process has taken a run over: nothing more may be written into its folder."""


class Claim:
    """A claim of this process on a run, which it loses if it gives no sign of life."""

    def __init__(self, folder: Path, path: Path) -> None:
        self.folder, self.path = folder, path
        self.lost = threading.Event()

    def keep(self) -> None:
        """Looks whether nobody has taken over; LostError if somebody has."""
        if self.lost.is_set() or latest(self.folder) != self.path:
            self.lost.set()
            raise LostError("gave no sign of life for too long, and another process has taken the run over")

    def give_up(self) -> None:
        """Leaves a run that is done without a claim, and another to whoever wants it."""
        if (self.folder / DONE).exists():
            self.path.unlink(missing_ok=True)
        else:
            with suppress(FileNotFoundError):  # taken over this very moment
                os.replace(self.path, self.path.with_suffix(".ended"))


@contextmanager
def claimed(folder: Path, lost_claim: str = "") -> Iterator[Claim]:
    """Claims a run while this lasts; TakenError where another process has it.

    `lost_claim` is the name of a claim that a watch has found lost.
    """
    claim = make(folder, lost_claim)
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            try:
                claim.keep()
                os.utime(claim.path)
            except LostError:
                return
            except OSError:  # a shared folder may be away for a while
                pass

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield claim
    finally:
        ended.set()
        thread.join()
        if not claim.lost.is_set():
            claim.give_up()


def make(folder: Path, lost_claim: str) -> Claim:
    """Makes the claim of the next number; TakenError where another process has the run, or was faster."""
    folder.mkdir(parents=True, exist_ok=True)
    before = latest(folder)
    if before and before.name != lost_claim and not Watch().is_free(before):
        raise TakenError(folder, owner_of(before))
    path = folder / f"claim-{number_of(before) + 1 if before else 1}.json"
    write(path, Owner.myself())
    if latest(folder) != path:  # others were faster by more than one claim
        path.unlink(missing_ok=True)
        raise TakenError(folder, None)
    if before:
        before.unlink(missing_ok=True)
    return Claim(folder, path)


def write(path: Path, owner: Owner) -> None:
    """Creates a claim; TakenError where another process was first."""
    try:
        file = path.open("x", encoding="utf-8")
    except FileExistsError as error:
        raise TakenError(path.parent, owner_of(path)) from error
    try:
        with file:
            json.dump(asdict(owner), file)
    except OSError:  # on a full disk it would be nobody's
        path.unlink()
        raise
