"""Disturbs a sweep of RotatedDigits in every way that it must bear, and compares it with one that was left alone.

While two launchers compete for the runs, processes are killed at random (workers, launchers and what starts them),
files of killed runs are torn, and the disk is filled. `python tests/chaos.py --folder DIR` does it at length.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from factories import TIMES

from dg_batchformer.jobs.folder import find
from dg_batchformer.runs import files
from dg_batchformer.runs.claim import latest, owner_of
from dg_batchformer.selection import collect
from dg_batchformer.selection.formats import render
from dg_batchformer.selection.report import report

ALGORITHMS = ("ERM_BatchFormer", "IRM_MixStyle", "SWAD_BatchFormer")
HPARAMS = {"batch_size": 8, "irm_penalty_anneal_iters": 30}
DISK = "64m"


class TooSoonError(Exception):
    """A sweep was over before enough processes were killed: it needs more steps on a machine as fast as this."""


class Chaos:
    """A sweep in a folder, its launchers, and what was done to them."""

    def __init__(self, folder: Path, n_trials: int, steps: int, seed: int) -> None:
        self.folder, self.n_trials, self.steps = folder, n_trials, steps
        self.random = random.Random(seed)
        self.launchers: list[subprocess.Popen[str]] = []
        self.done: Counter[str] = Counter()
        self.n_launches = 0
        self.n_runs = 4 * len(ALGORITHMS) * n_trials

    def command(self) -> list[str]:
        command = [sys.executable, "-m", "dg_batchformer", "sweep", "launch", "--datasets", "RotatedDigits"]
        command += ["--output_dir", str(self.folder / "sweep"), "--algorithms", *ALGORITHMS, "--n_hparams", "1"]
        command += ["--n_trials", str(self.n_trials), "--steps", str(self.steps), "--checkpoint_freq", "20"]
        command += ["--checkpoint_minutes", "0.01", "--hparams", json.dumps(HPARAMS), "--skip_confirmation"]
        return [*command, "--n_workers", "2", "--retries", "1000"]

    def launch(self) -> subprocess.Popen[str]:
        self.n_launches += 1
        # On the disk that is going to be full.
        with (self.folder / "sweep" / f"launcher-{self.n_launches}.txt").open("w") as log:
            return subprocess.Popen(self.command(), stdout=log, stderr=subprocess.STDOUT, text=True)

    def keep_two(self) -> None:
        """Replaces launchers that have ended."""
        self.launchers = [one for one in self.launchers if one.poll() is None]
        while len(self.launchers) < 2:
            self.launchers.append(self.launch())

    def disturb(self, n_kills: int, pause: float) -> None:
        """Kills so many processes, and tears files and fills the disk beside it."""
        while self.done["kills"] < n_kills:
            done = len(list((self.folder / "sweep").glob(f"*/{files.DONE}")))
            if done == self.n_runs:
                raise TooSoonError(f"the sweep was over after {self.done['kills']} kills: give it more --steps")
            self.keep_two()
            if done / self.n_runs <= self.done["kills"] / n_kills:  # or the sweep could be over before
                time.sleep(self.random.uniform(0.2, 2 * pause))
            with stopped(self.launchers):
                victims = self.processes()
                if not victims:
                    continue
                pid = self.random.choice(sorted(victims))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    self.done["kills"] += 1
                    self.done[f"kills of a {victims[pid]}"] += 1
                owned = self.run_of(pid)
                if owned and self.random.random() < 0.7:
                    self.tear(owned)
            if self.random.random() < 0.1:
                self.fill(self.random.uniform(0.5, 2.0))

    def processes(self) -> dict[int, str]:
        """What may be killed now, mostly workers: none while launchers are only preparing."""
        launchers = {one.pid: "launcher" for one in self.launchers if one.poll() is None}
        found = {pid: "worker" if self.run_of(pid) else "helper" for pid in descendants(launchers)}
        if "worker" not in found.values():
            return {}
        kind = self.random.choices(["worker", "launcher", "helper"], [6, 2, 1])[0]
        return {pid: name for pid, name in {**launchers, **found}.items() if name == kind}

    def run_of(self, pid: int) -> Path | None:
        """The folder of the run that a process has."""
        for arguments in (self.folder / "sweep").glob(f"*/{files.JOB}"):
            folder = arguments.parent
            path = latest(folder)
            owner = owner_of(path) if path and path.suffix == ".json" else None
            if owner and owner.pid == pid:
                return folder
        return None

    def tear(self, folder: Path) -> None:
        """Leaves a file of a killed run as a crash, or a careless copy, may leave it."""
        states = sorted(folder.glob("resume-*.pt"), key=lambda path: int(path.stem.split("-")[1]))
        kind = self.random.choice(["a state cut", "a state garbled", "a foreign state", "half a record"])
        if kind == "half a record":
            with (folder / files.RESULTS).open("a") as file:
                file.write('{"step": 3, "args": {"data')
        elif kind == "a foreign state":
            others = sorted((self.folder / "sweep").glob("*/resume-*.pt"))
            if not others:
                return
            with contextlib.suppress(OSError):
                other = self.random.choice(others)
                shutil.copy(other, folder / f"resume-999-{other.stem.rpartition('-')[2]}.pt")
        elif not states:
            return
        elif kind == "a state cut":
            os.truncate(states[-1], states[-1].stat().st_size // 2)
        else:
            with states[-1].open("r+b") as file:
                file.seek(states[-1].stat().st_size // 3)
                file.write(b"garbage")
        self.done[kind] += 1

    def fill(self, seconds: float) -> None:
        """Leaves no room on the disk for a while."""
        ballast = self.folder / "sweep" / "ballast"
        if not ballast.parent.is_mount():
            return
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(b"\0" * 4096):
                pass
        time.sleep(seconds)
        ballast.unlink()
        self.done["full disks"] += 1

    def finish(self) -> None:
        """Lets the launchers end, and one more where something is left."""
        for one in self.launchers:
            one.wait(timeout=600)
        for _ in range(3):
            if all(job.folder.is_done for job in find(self.folder / "sweep")):
                return
            self.launch().wait(timeout=600)

    def end(self) -> None:
        """Leaves no launcher behind."""
        for one in self.launchers:
            one.kill()
            one.wait()

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("sweep/launcher-*.txt")))


@contextlib.contextmanager
def stopped(launchers):
    """Launchers that stand still, as on a machine that is busy, and give out no run meanwhile."""
    for one in launchers:
        one.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for one in launchers:
            one.send_signal(signal.SIGCONT)


def descendants(roots) -> list[int]:
    """Processes that those of these numbers have started, and so on."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(path.parent.name)] = int(parent)
    found, old = set(roots), set()
    while found != old:
        old = set(found)
        found |= {pid for pid, parent in parents.items() if parent in old}
    return sorted(found - set(roots))


@contextlib.contextmanager
def small_disk(folder: Path):
    """Gives a folder a file system of its own of a few MB; yields why not, where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    made = subprocess.run(command, capture_output=True, text=True)
    try:
        yield made.stderr.strip()
    finally:
        if not made.returncode:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def table(folder: Path) -> tuple[str, list[str]]:
    """The table of a sweep, and what was passed over."""
    made = report(collect([folder]))
    return render(made, "csv"), [problem.text for problem in made.problems]


def results(folder: Path) -> dict[str, list[dict]]:
    """All records of each run of a sweep but for times."""
    paths = [*folder.glob(f"*/{files.RESULTS}"), *folder.glob(f"*/{files.PROGRESS}")]
    lines = {f"{path.parent.name}/{path.name}": path.read_text().splitlines() for path in paths}
    rows = {name: [json.loads(line) for line in own] for name, own in lines.items()}
    return {name: [{k: v for k, v in row.items() if k not in TIMES} for row in own] for name, own in rows.items()}


def compare(folder: Path, *, n_kills: int, n_trials: int, steps: int, pause: float, seed: int = 0) -> list[str]:
    """Runs both sweeps in a folder; returns what was done, line by line. AssertionError where they differ.

    TooSoonError where the disturbed one was over before so many kills.
    """
    for name in ("calm", "wild"):
        (folder / name / "sweep").mkdir(parents=True)
    calm = Chaos(folder / "calm", n_trials, steps, seed)
    calm.launch().wait(timeout=1200)
    wild = Chaos(folder / "wild", n_trials, steps, seed)
    with small_disk(wild.folder / "sweep") as why_not:
        try:
            wild.disturb(n_kills, pause)
            wild.finish()
        finally:
            wild.end()
        jobs = find(wild.folder / "sweep")
        assert [job.folder.marked for job in jobs] == ["done"] * len(jobs), wild.logs()
        assert len(jobs) == wild.n_runs
        assert table(wild.folder / "sweep") == table(calm.folder / "sweep")
        assert results(wild.folder / "sweep") == results(calm.folder / "sweep")
        logs = wild.logs()
        went_on = sum((job.folder / files.OUT).read_text().count("resuming after") for job in jobs)
    failures = Counter(line.partition("FAILED")[2][:70] for line in logs.splitlines() if "FAILED" in line)
    return [
        f"{len(jobs)} runs, {wild.n_launches} launches",
        *(f"{n} {what}" for what, n in sorted(wild.done.items())),
        *([f"the disk was never full: {why_not}"] if why_not else []),
        f"{went_on} times a run went on from its state",
        *(f"{n} tries FAILED{what}" for what, n in failures.most_common(8)),
        "the tables are equal, and all records but for their times",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where both sweeps are run; must not exist")
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--trials", type=int, default=2, help="12 runs each")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--pause", type=float, default=1.0, help="mean seconds between two kills")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(
        *compare(
            given.folder,
            n_kills=given.kills,
            n_trials=given.trials,
            steps=given.steps,
            pause=given.pause,
            seed=given.seed,
        ),
        sep="\n",
    )


if __name__ == "__main__":
    main()
