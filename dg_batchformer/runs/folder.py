"""The folder of a run: its state, records, live figures, saved states and failures."""

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

    DONE and FAILED are marked in the folder. A run is RUNNING while the process that claimed it has a heartbeat, and
    ABANDONED when that process has disappeared: the next launcher takes it over. Otherwise it is WAITING: not begun, or
    to be resumed.
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
    """The live figures of a running run: `step` of `steps` are done.

    `gpu_gb` is the peak of its GPU memory in GiB, None on a CPU.
    """

    step: int
    steps: int
    images_per_second: float
    gpu_gb: float | None
    seconds_left: float


@dataclass(frozen=True)
class Standing:
    """A run's state at one moment, with its details.

    `begun` is true for a waiting run that will resume. A running or abandoned run has an `owner` and `silent_seconds`
    since the last heartbeat; `errors` are the last lines of a failed one.
    """

    state: State
    begun: bool = True
    owner: Owner | None = None
    silent_seconds: float | None = None
    live: Live | None = None
    errors: Sequence[str] = ()


class Failure(NamedTuple):
    """A marked failure: `mark` identifies it among failures of the same run. Both are "" if there is none."""

    mark: str = ""
    reason: str = ""


@dataclass(frozen=True, order=True)
class RunFolder:
    """The folder of a run; it may not exist yet."""

    path: Path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        return self.path.name

    def has(self, name: str) -> bool:
        """Whether a file of this name can be seen; without a `Path`, which takes longer than the look itself."""
        return os.path.exists(f"{self.path}/{name}")

    @property
    def is_done(self) -> bool:
        return self.has(files.DONE)

    @property
    def is_run(self) -> bool:
        """Whether the folder holds a run, started or planned; OSError if it cannot be read."""
        return any((self / name).exists() for name in (files.JOB, *files.WRITTEN))

    @property
    def begun(self) -> bool:
        """Whether the run has ever started."""
        return self.has(files.OUT) or self.has(files.RESULTS)

    @property
    def marked(self) -> State:
        """DONE or FAILED if the folder is marked so, else WAITING; ignores claims."""
        if self.is_done:
            return State.DONE
        return State.FAILED if self.has(files.FAILED) else State.WAITING

    def standing(self, watch: Watch, now: float) -> Standing:
        """The state of the run at time `now` of this machine's clock; `watch` decides which owners are alive."""
        claim = latest(self.path)
        silent = _silent_seconds(claim, now) if claim and claim.suffix == ".json" else None
        owner = owner_of(claim) if claim and silent is not None else None
        lost = claim is not None and silent is not None and _is_lost(claim, watch, silent)
        # Read the marks after the claim: a process writes them before it ends its claim.
        marked = self.marked
        if marked is State.DONE:
            return Standing(State.DONE)
        if silent is not None and not lost:  # also if the last attempt has failed
            return Standing(State.RUNNING, owner=owner, silent_seconds=silent, live=self.live())
        if marked is State.FAILED:
            return Standing(State.FAILED, errors=self.error_lines())
        if lost and claim is not None and claim.exists():  # else the claim has ended at this moment
            return Standing(State.ABANDONED, owner=owner, silent_seconds=silent)
        return Standing(State.WAITING, begun=self.begun)

    def claimed(self, lost_claim: str = "") -> contextlib.AbstractContextManager[Claim]:
        """Claims the run during the context, as `claim.claimed` does."""
        return claimed(self.path, lost_claim)

    def latest_claim(self) -> Path | None:
        """The current claim, see `claim.latest`."""
        return latest(self.path)

    @property
    def can_be_claimed(self) -> bool:
        """Whether there is no live claim at a single look: a silent process on another machine counts as alive."""
        return Watch().is_free(latest(self.path))

    def clear_earlier_run(self) -> bool:
        """Makes the folder, deletes the files of an earlier run, and returns whether there were any."""
        self.path.mkdir(parents=True, exist_ok=True)
        earlier = [self / name for name in files.WRITTEN]
        earlier += [*self.path.glob("model_step*.pkl"), *self.path.glob("predictions_*.parquet")]
        found = [path for path in earlier if path.exists()]
        for path in found:
            path.unlink()
        return bool(found)

    def mark_done(self) -> None:
        """Marks the run as done and deletes its saved states."""
        files.write_whole(self / files.DONE, "done")
        self.clear_saved_states()

    def mark_failed(self, reason: str, details: str = "") -> None:
        """Marks the run as failed, if the disk allows it, and appends details to its `err.txt`."""
        with contextlib.suppress(OSError):
            files.write_whole(self / files.FAILED, f"{reason}\n")
        with contextlib.suppress(OSError), (self / files.ERR).open("a", encoding="utf-8") as file:
            file.write(details or f"{reason}\n")

    def failure(self) -> Failure:
        """The marked failure."""
        try:
            with (self / files.FAILED).open(encoding="utf-8", errors="replace") as file:
                stat = os.fstat(file.fileno())
                return Failure(f"{stat.st_mtime_ns} {stat.st_ino}", file.read().strip())
        except OSError:
            return Failure()

    def error_lines(self) -> list[str]:
        """The last lines of the error of a failed run."""
        return files.last_lines(self / files.ERR) or files.last_lines(self / files.FAILED)

    def run_seconds(self) -> float | None:
        """The seconds of a finished run according to its last record; None if unknown."""
        try:
            return _run_seconds(self / files.RESULTS, (self / files.DONE).stat().st_mtime_ns)
        except FileNotFoundError:
            return None

    def write_live(self, live: Live) -> None:
        """Replaces the live figures; ignores a failed write, since they are only for display."""
        with contextlib.suppress(OSError):
            files.write_whole(self / files.LIVE, json.dumps(asdict(live)))

    def live(self) -> Live | None:
        """The live figures of the run; None if there are none."""
        try:
            return Live(**json.loads((self / files.LIVE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def clear_live(self) -> None:
        """Deletes the live figures of a run that has stopped."""
        with contextlib.suppress(OSError):
            (self / files.LIVE).unlink(missing_ok=True)

    def record_sizes(self) -> dict[str, int]:
        """The sizes of the files of records."""
        return {name: path.stat().st_size for name in (files.RESULTS, files.PROGRESS) if (path := self / name).exists()}

    def cut_records(self, wanted: dict[str, int]) -> str:
        """Cuts the files of records back to earlier `record_sizes` and removes a failure mark.

        Returns the reason if that is impossible. A file with lines that are not JSON is renamed.
        """
        present = self.record_sizes()
        for name, size in wanted.items():
            if present.get(name, 0) < size:
                return f"{self / name} has fewer records than the saved state"
        torn = [self / name for name, size in wanted.items() if not files.is_json((self / name).read_bytes()[:size])]
        if torn:
            return "; ".join(f"{path} has lines that are not JSON: renamed to {files.set_aside(path)}" for path in torn)
        for name in present:
            os.truncate(self / name, wanted.get(name, 0))
        (self / files.FAILED).unlink(missing_ok=True)
        return ""

    def other_run(self, key: RunKey) -> RunKey | None:
        """The key of another run than `key` that has a record in the folder, or None."""
        for name in self.record_sizes():
            for line in (self / name).read_bytes().splitlines():
                with contextlib.suppress(ValueError):
                    record: Record = json.loads(line)
                    if record_problem(record) is None and RunKey.from_args(record["args"]) != key:
                        return RunKey.from_args(record["args"])
        return None

    def saved_states(self) -> list[Path]:
        """The files of saved states, the latest first."""
        return sorted(self.path.glob("resume-*-*.pt"), key=lambda path: int(path.stem.split("-")[1]), reverse=True)

    def clear_saved_states(self) -> None:
        """Deletes the saved states of the run."""
        for pattern in ("resume-*.pt", "resume-*.partial", "resume-*.aside"):
            for path in self.path.glob(pattern):
                path.unlink(missing_ok=True)


def _is_lost(claim: Path, watch: Watch, silent: float) -> bool:
    """Whether the owner of a claim has disappeared, according to a watch.

    Until the watch has observed heartbeats, their age by this machine's clock decides.
    """
    return watch.is_lost(claim) or (silent > LEASE_SECONDS and not watch.is_alive(claim))


def _silent_seconds(claim: Path, now: float) -> float | None:
    """Seconds since the last heartbeat of a claim's owner; None if the claim has just ended."""
    try:
        # The clock of the owner may be ahead of ours.
        return max(0.0, now - claim.stat().st_mtime)
    except FileNotFoundError:
        return None


@functools.cache
def _run_seconds(results: Path, done_ns: int) -> float | None:
    """The result of `run_seconds`, cached by the time of the mark `done`."""
    try:
        (line,) = files.last_lines(results, 1)
        return float(json.loads(line)["run_seconds"])
    except (ValueError, KeyError, TypeError):
        return None


def standings(folders: Sequence[RunFolder], watch: Watch | None = None) -> list[Standing]:
    """The current states of runs; a watch that has looked before knows better who is alive."""
    watch, now = watch or Watch(), time.time()
    return [folder.standing(watch, now) for folder in folders]
