"""Claims: a file in the folder of a run, so that several launchers never run it at the same time.

Claim n is the file `claim-n.json`. Only one process can create it: its owner, which touches it every few seconds (the
heartbeat). The claim with the highest number counts. It is free when its owner has renamed it to `claim-n.ended`. It is
lost when the owner is dead, or when an observer has seen no heartbeat for a while by its own clock, so that clocks that
differ or go backwards do no harm. The process that creates the next number takes over; an owner that was only slow then
stops.
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
"""Without a heartbeat for so long, an owner on another machine counts as dead."""


def process_space() -> str:
    """The scope of process numbers: the boot of a kernel and the container; "" if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


@dataclass(frozen=True)
class Owner:
    """The process that runs a run, and since when by its clock."""

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
        """Whether it was a process of this machine and has ended."""
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
    """Another process has the run."""

    def __init__(self, folder: Path, owner: Owner | None) -> None:
        super().__init__(f"{folder} is being run by {owner or 'a process that has just started'}")


NAME = re.compile(r"claim-(\d+)\.(json|ended)")


def latest(folder: Path) -> Path | None:
    """The current claim, `claim-n.json` or `claim-n.ended`; OSError if the folder cannot be listed."""
    try:
        # Not by glob, for which an unreachable folder is an empty one.
        names = os.listdir(folder)
    except FileNotFoundError:
        return None
    found = [(int(match[1]), match[2] == "ended", name) for name in names if (match := NAME.fullmatch(name))]
    return folder / max(found)[2] if found else None


def number_of(claim: Path) -> int:
    return int(claim.stem.partition("-")[2])


def owner_of(path: Path) -> Owner | None:
    """The owner of a claim; None while it is being written."""
    try:
        return Owner(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


class Watch:
    """Observes claims repeatedly and decides which are lost."""

    def __init__(self) -> None:
        self.seen: dict[Path, tuple[int, float]] = {}
        self.alive: set[Path] = set()

    def is_alive(self, claim: Path | None) -> bool:
        """Whether this watch has seen a heartbeat of the claim's owner."""
        return claim in self.alive

    def is_free(self, claim: Path | None) -> bool:
        """Whether a run with this claim can be claimed: no owner, or a dead one."""
        return claim is None or claim.suffix == ".ended" or self.is_lost(claim)

    def is_lost(self, path: Path) -> bool:
        """Whether the claim's owner is dead, or this watch has seen no heartbeat for too long."""
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
    """Another process has taken over the run: this one must not write into its folder any more."""


class Claim:
    """A claim of this process on a run; it is lost without heartbeats."""

    def __init__(self, folder: Path, path: Path) -> None:
        self.folder, self.path = folder, path
        self.lost = threading.Event()

    def keep(self) -> None:
        """Checks that no process has taken over; LostError if one has."""
        if self.lost.is_set() or latest(self.folder) != self.path:
            self.lost.set()
            raise LostError("no heartbeat for too long, so another process has taken over the run")

    def give_up(self) -> None:
        """Deletes the claim of a finished run, and ends that of another one."""
        if (self.folder / DONE).exists():
            self.path.unlink(missing_ok=True)
        else:
            with suppress(FileNotFoundError):  # taken over at this moment
                os.replace(self.path, self.path.with_suffix(".ended"))


@contextmanager
def claimed(folder: Path, lost_claim: str = "") -> Iterator[Claim]:
    """Claims a run during the context; TakenError if another process has it.

    `lost_claim` is the name of a claim that a watch has found to be lost.
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
            except OSError:  # a shared folder may be unreachable for a while
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
    """Makes the claim with the next number; TakenError if another process has the run or was faster."""
    folder.mkdir(parents=True, exist_ok=True)
    before = latest(folder)
    if before and before.name != lost_claim and not Watch().is_free(before):
        raise TakenError(folder, owner_of(before))
    path = folder / f"claim-{number_of(before) + 1 if before else 1}.json"
    write(path, Owner.myself())
    if latest(folder) != path:  # others were faster by several claims
        path.unlink(missing_ok=True)
        raise TakenError(folder, None)
    if before:
        before.unlink(missing_ok=True)
    return Claim(folder, path)


def write(path: Path, owner: Owner) -> None:
    """Creates a claim; TakenError if another process was first."""
    try:
        file = path.open("x", encoding="utf-8")
    except FileExistsError as error:
        raise TakenError(path.parent, owner_of(path)) from error
    try:
        with file:
            json.dump(asdict(owner), file)
    except OSError:  # on a full disk the claim would have no owner
        path.unlink()
        raise
