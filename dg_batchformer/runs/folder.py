"""The folder of a run: its state, its records, and what it leaves while it lasts and when it ends."""

import contextlib
import functools
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from dg_batchformer.runs import files
from dg_batchformer.runs.claim import LEASE_SECONDS, Claim, Owner, Watch, claimed, latest, owner_of
from dg_batchformer.runs.records import Record, RunKey, record_problem


class State(str, Enum):
    """The state of a run.

    DONE and FAILED are marked in its folder. It is RUNNING while the process that claimed it shows signs of life, and
    ABANDONED when that process is gone without giving it up: the next launcher takes it over. Otherwise it is WAITING,
    not begun yet or left to be resumed.
    """

    DONE = "done"
    FAILED = "failed"
    RUNNING = "running"
    ABANDONED = "abandoned"
    WAITING = "waiting"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Live:
    """The figures of a run that lasts: `step` of `steps` are done.

    `gpu_gb` is the most memory that it had on its GPU at once, in GiB, None on a CPU.
    """

    step: int
    steps: int
    images_per_second: float
    gpu_gb: float | None
    seconds_left: float


@dataclass(frozen=True)
class Standing:
    """A run's state at one look, with what is known of it in that state.

    `begun` tells a waiting run that is resumed later from one that never began. `owner` and `silent_seconds`, since its
    last sign of life, are those of a run that is running or abandoned, and `errors` the last lines of a failed one.
    """

    state: State
    begun: bool = True
    owner: Owner | None = None
    silent_seconds: float | None = None
    live: Live | None = None
    errors: Sequence[str] = ()


class Failure(NamedTuple):
    """A marked failure: `mark` tells it from an earlier one of the same run. Both are "" where there is none."""

    mark: str = ""
    reason: str = ""


@dataclass(frozen=True, order=True)
class RunFolder:
    """The folder of a run, whether it exists or not."""

    path: Path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def is_done(self) -> bool:
        return os.path.exists(f"{self.path}/{files.DONE}")

    @property
    def is_run(self) -> bool:
        """Whether the folder holds a run, begun or planned."""
        return any((self / name).exists() for name in (files.JOB, *files.WRITTEN))

    @property
    def begun(self) -> bool:
        """Whether the run has ever begun."""
        return (self / files.OUT).exists() or (self / files.RESULTS).exists()

    @property
    def marked(self) -> State:
        """DONE or FAILED where the folder is marked so, else WAITING; claims are not looked at."""
        if self.is_done:
            return State.DONE
        return State.FAILED if (self / files.FAILED).exists() else State.WAITING

    def standing(self, watch: Watch, now: float) -> Standing:
        """The run's state at time `now` of this machine's clock, as far as `watch` knows who is alive."""
        claim = latest(self.path)
        silent = _silent_seconds(claim, now) if claim and claim.suffix == ".json" else None
        owner = owner_of(claim) if claim and silent is not None else None
        lost = claim is not None and silent is not None and _is_lost(claim, watch, silent)
        # The marks are read after the claim: a process leaves them before it gives its claim up.
        marked = self.marked
        if marked is State.DONE:
            return Standing(State.DONE)
        if silent is not None and not lost:  # also where the last try has failed
            return Standing(State.RUNNING, owner=owner, silent_seconds=silent, live=self.live())
        if marked is State.FAILED:
            return Standing(State.FAILED, errors=self.error_lines())
        if lost and claim is not None and claim.exists():  # else it was given up this very moment
            return Standing(State.ABANDONED, owner=owner, silent_seconds=silent)
        return Standing(State.WAITING, begun=self.begun)

    def claimed(self, lost_claim: str = "") -> contextlib.AbstractContextManager[Claim]:
        """Claims the run while the context lasts, as `claim.claimed` does."""
        return claimed(self.path, lost_claim)

    def latest_claim(self) -> Path | None:
        """The claim that counts, as `claim.latest` finds it."""
        return latest(self.path)

    @property
    def can_be_claimed(self) -> bool:
        """Whether one look finds no live claim: a silent process on another machine counts as alive."""
        return Watch().is_free(latest(self.path))

    def clear_earlier_run(self) -> bool:
        """Makes the folder, deletes the files of an earlier run in it, and returns whether there were any."""
        self.path.mkdir(parents=True, exist_ok=True)
        earlier = [self / name for name in files.WRITTEN]
        earlier += self.path.glob("model_step*.pkl")
        found = [path for path in earlier if path.exists()]
        for path in found:
            path.unlink()
        return bool(found)

    def mark_done(self) -> None:
        """Marks the run as done and deletes its saved states."""
        files.write_whole(self / files.DONE, "done")
        self.clear_saved_states()

    def mark_failed(self, reason: str, details: str = "") -> None:
        """Marks the run as failed, as far as the disk allows, and adds details to its `err.txt`."""
        with contextlib.suppress(OSError):
            files.write_whole(self / files.FAILED, f"{reason}\n")
        with contextlib.suppress(OSError), (self / files.ERR).open("a", encoding="utf-8") as file:
            file.write(details or f"{reason}\n")

    def failure(self) -> Failure:
        """The failure that the folder is marked with."""
        try:
            with (self / files.FAILED).open(encoding="utf-8", errors="replace") as file:
                stat = os.fstat(file.fileno())
                return Failure(f"{stat.st_mtime_ns} {stat.st_ino}", file.read().strip())
        except OSError:
            return Failure()

    def error_lines(self) -> list[str]:
        """The last lines of a failed run's error."""
        return files.last_lines(self / files.ERR) or files.last_lines(self / files.FAILED)

    def run_seconds(self) -> float | None:
        """The seconds that a finished run took by its last record; None where that is not known."""
        try:
            return _run_seconds(self / files.RESULTS, (self / files.DONE).stat().st_mtime_ns)
        except FileNotFoundError:
            return None

    def write_live(self, live: Live) -> None:
        """Replaces the live figures; a failure to write them is ignored, since they are only for show."""
        with contextlib.suppress(OSError):
            files.write_whole(self / files.LIVE, json.dumps(asdict(live)))

    def live(self) -> Live | None:
        """The live figures of the run; None where it has written none."""
        try:
            return Live(**json.loads((self / files.LIVE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def clear_live(self) -> None:
        """Deletes the live figures of a run that has stopped."""
        with contextlib.suppress(OSError):
            (self / files.LIVE).unlink(missing_ok=True)

    def record_sizes(self) -> dict[str, int]:
        """Bytes of the files to which the run appends records."""
        return {name: path.stat().st_size for name in (files.RESULTS, files.PROGRESS) if (path := self / name).exists()}

    def cut_records(self, wanted: dict[str, int]) -> str:
        """Cuts the files of records back to earlier `record_sizes` and unmarks a failure.

        Returns why, where that is impossible. A file that holds lines which are not JSON is set aside by name.
        """
        present = self.record_sizes()
        for name, size in wanted.items():
            if present.get(name, 0) < size:
                return f"{self / name} has lost records since the state was saved"
        torn = [self / name for name, size in wanted.items() if not files.is_json((self / name).read_bytes()[:size])]
        if torn:
            return "; ".join(
                f"{path} has lines that are not JSON and was set aside as {files.set_aside(path)}" for path in torn
            )
        for name in present:
            os.truncate(self / name, wanted.get(name, 0))
        (self / files.FAILED).unlink(missing_ok=True)
        return ""

    def other_run(self, key: RunKey) -> RunKey | None:
        """The key of another run than `key`'s of which the folder holds a record, if there is one."""
        for name in self.record_sizes():
            for line in (self / name).read_bytes().splitlines():
                with contextlib.suppress(ValueError):
                    record: Record = json.loads(line)
                    if record_problem(record) is None and RunKey.from_args(record["args"]) != key:
                        return RunKey.from_args(record["args"])
        return None

    def saved_states(self) -> list[Path]:
        """The files of the run's saved states, that of the most updates first."""
        return sorted(self.path.glob("resume-*-*.pt"), key=lambda path: int(path.stem.split("-")[1]), reverse=True)

    def clear_saved_states(self) -> None:
        """Deletes the saved states of a run that needs them no more."""
        for pattern in ("resume-*.pt", "resume-*.partial", "resume-*.aside"):
            for path in self.path.glob(pattern):
                path.unlink(missing_ok=True)


def _is_lost(claim: Path, watch: Watch, silent: float) -> bool:
    """Whether the owner of a claim is gone, as far as a watch knows.

    Before it has seen the owner's signs of life come or stop, they are as old as this machine's clock has them.
    """
    return watch.is_lost(claim) or (silent > LEASE_SECONDS and not watch.is_alive(claim))


def _silent_seconds(claim: Path, now: float) -> float | None:
    """Seconds since the last sign of life of a claim's owner; None where the claim has just gone."""
    try:
        # The owner's clock may be ahead of ours.
        return max(0.0, now - claim.stat().st_mtime)
    except FileNotFoundError:
        return None


@functools.cache
def _run_seconds(results: Path, done_ns: int) -> float | None:
    """What `run_seconds` returns, read once for each time at which the run was marked done."""
    try:
        (line,) = files.last_lines(results, 1)
        return float(json.loads(line)["run_seconds"])
    except (ValueError, KeyError, TypeError):
        return None


def standings(folders: Sequence[RunFolder], watch: Watch | None = None) -> list[Standing]:
    """The states of runs now; a watch that has looked before knows better who is alive."""
    watch, now = watch or Watch(), time.time()
    return [folder.standing(watch, now) for folder in folders]
