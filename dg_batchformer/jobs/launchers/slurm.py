"""A sweep as a SLURM job array: each task is a launcher that takes one free run after another."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dg_batchformer import machine
from dg_batchformer.errors import InputError, Problems, but_for_space, unknown
from dg_batchformer.jobs.folder import find
from dg_batchformer.jobs.launchers import Launcher, option
from dg_batchformer.jobs.launchers.local import Ended, Local, MultiGpu, n_workers_option, run_at
from dg_batchformer.jobs.plan import Job
from dg_batchformer.training.process import Interrupted

if TYPE_CHECKING:
    import submitit

MAX_TASKS = 100
"""The tasks of an array, unless `n_workers` is given."""

MAX_TIMEOUTS = 10_000
"""How often a task may reach its time limit; effectively no limit, since a sweep ends when its runs have ended."""

DEFAULTS: dict[str, str | int] = {
    "job_name": "dg-batchformer",
    "time": 240,
    "wckey": "submitit",
    "signal_delay_s": 90,
    "array_parallelism": 256,
}
"""Submitit's defaults except the first two: its time limit is 5 minutes."""

ALWAYS = {"requeue": True}
"""Set for every cluster: runs resume in requeued jobs."""

PARAMETERS = (
    *("account", "array_parallelism", "comment", "constraint", "cpus_per_gpu", "cpus_per_task", "dependency"),
    *("exclude", "exclusive", "gpus_per_node", "gpus_per_task", "gres", "job_name", "mail_type", "mail_user", "mem"),
    *("mem_per_cpu", "mem_per_gpu", "nodelist", "partition", "qos", "signal_delay_s", "time", "wckey"),
)
"""Parameters of submitit that a user may give; except `NUMBERS` they are options of sbatch."""

OWN_PARAMETERS = {
    *("nodes", "ntasks_per_node", "num_gpus"),  # a task is one launcher on one node
    *("setup", "teardown", "srun_args", "additional_parameters", "use_srun", "stderr_to_stdout"),  # not plain values
}
"""Parameters of submitit that the launcher sets."""

NUMBERS = ("signal_delay_s", "array_parallelism")
"""Parameters that submitit calculates with."""

MAYBE_LATER = "Requested node configuration is not available"
"""The message of sbatch for nodes that are down, and also for nodes that do not exist."""

TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


def pair(text: str) -> tuple[str, str | int]:
    """The name and value of "time=120"; a value of digits is a number."""
    name, sign, value = text.partition("=")
    if not name or not sign:
        raise ValueError
    return name, int(value) if value.isdecimal() else value


@dataclass(frozen=True)
class Slurm(Launcher):
    """Submits a job array of `n_workers` tasks, prints how to watch it, and does not wait."""

    n_workers: int | None = n_workers_option()
    slurm: Sequence[tuple[str, str | int]] = option(
        "parameters of a SLURM job, such as partition=gpu time=120 mem=16GB cpus_per_task=4 gpus_per_node=1",
        (),
        type=pair,
        nargs="+",
        metavar="KEY=VALUE",
    )
    name = "slurm"

    def check(self, jobs: Sequence[Job]) -> int | None:
        """Asks sbatch whether it accepts the script."""
        try:
            import submitit  # noqa: F401
        except ImportError as error:
            raise InputError("the slurm launcher needs submitit: pip install dg-batchformer[slurm]") from error
        missing = [command for command in ("sbatch", "srun", "squeue", "scontrol") if shutil.which(command) is None]
        if missing:
            raise InputError(f"no {missing[0]} on this machine: expected one that submits to a SLURM cluster")
        folder = logs_folder(jobs)
        if "%" in str(folder):
            raise InputError(f"{folder} has a % in its name, which SLURM reads as a pattern: give another --output_dir")
        with outside_a_job():
            asked = subprocess.run(["sbatch", "--test-only"], input=self.script(jobs), text=True, capture_output=True)
        if asked.returncode and MAYBE_LATER not in asked.stderr:
            reason = asked.stderr.strip().splitlines()[-1]
            raise InputError(f"sbatch rejects these SLURM parameters ({reason}): given {dict(self.slurm)}")
        return None

    def preview(self, jobs: Sequence[Job]) -> None:
        """Prints the script, without the command of its tasks."""
        self.check(jobs)
        print(self.script(jobs), end="")
        print(f"# Each task takes runs that no other process runs; logs in {logs_folder(jobs)}")

    def run(self, jobs: Sequence[Job]) -> None:
        import submitit

        parameters = checked_parameters(dict(self.slurm))
        if "cpus_per_task" in parameters:
            # Since 22.05 srun does not inherit this from sbatch.
            parameters["srun_args"] = [f"--cpus-per-task={parameters['cpus_per_task']}"]
        executor = submitit.SlurmExecutor(logs_folder(jobs), max_num_timeout=MAX_TIMEOUTS)
        executor.update_parameters(**parameters, additional_parameters=dict(ALWAYS))
        tasks = self.tasks(jobs)
        with outside_a_job(), executor.batch():
            submitted = [executor.submit(task) for task in tasks]
        job_id = submitted[0].job_id.partition("_")[0]
        print(f"submitted {len(tasks)} task(s) as SLURM job {job_id}, logs in {executor.folder}")
        status = shlex.join(["dg-batchformer", "sweep", "status", "--output_dir", str(executor.folder.parent)])
        print(f"watch: squeue --jobs {job_id}; {status}")
        print(f"stop (the next launch resumes): scancel {job_id}")

    def script(self, jobs: Sequence[Job]) -> str:
        """The options of sbatch, as the head of a script."""
        parameters, n_tasks = checked_parameters(dict(self.slurm)), len(self.tasks(jobs))
        options = {name: value for name, value in parameters.items() if name not in NUMBERS} | ALWAYS
        options |= {"nodes": 1, "signal": f"USR2@{parameters['signal_delay_s']}", "open-mode": "append"}
        if n_tasks > 1:
            options["array"] = f"0-{n_tasks - 1}%{min(n_tasks, parameters['array_parallelism'])}"
        flags = [
            f"--{name.replace('_', '-')}" + ("" if value is True else f"={shlex.quote(str(value))}")
            for name, value in sorted(options.items())
        ]
        return "\n".join(["#!/bin/bash", *(f"#SBATCH {flag}" for flag in flags), ""])

    def tasks(self, jobs: Sequence[Job]) -> list[Task]:
        """The tasks of the array: the same runs in a rotated order, so that tasks rarely meet at one run."""
        names = [job.folder.name for job in jobs]
        options = {one.name: getattr(self, one.name) for one in dataclasses.fields(Launcher)}
        n_tasks = min(self.n_workers or MAX_TASKS, len(jobs))
        starts = [i * len(jobs) // n_tasks for i in range(n_tasks)]
        output_dir = str(jobs[0].sweep_dir.absolute())
        return [Task(output_dir, (*names[start:], *names[:start]), options) for start in starts]


def logs_folder(jobs: Sequence[Job]) -> Path:
    """The folder of the logs of the tasks."""
    return jobs[0].sweep_dir.absolute() / "slurm"


def checked_parameters(given: Mapping[str, str | int]) -> dict[str, Any]:
    """The parameters for submitit; an InputError lists all errors in the given ones."""
    problems = Problems()
    for name in given:
        if name in OWN_PARAMETERS:
            problems.append(f"SLURM parameter {name!r} is set by the launcher: omit it")
        elif name not in PARAMETERS:
            problems.append(unknown("SLURM parameter", name, PARAMETERS))
    parameters: dict[str, Any] = {**DEFAULTS, **given}
    for name in NUMBERS:
        if not re.fullmatch(r"[1-9]\d*", str(parameters[name])):
            problems.append(f"SLURM parameter {name} is {parameters[name]!r}: expected a whole number, at least 1")
    parameters["time"] = problems.attempt(minutes, parameters["time"])
    problems.raise_any()
    parameters |= {name: int(parameters[name]) for name in NUMBERS}
    if parameters["time"] * 60 <= parameters["signal_delay_s"]:
        raise InputError(
            f"SLURM parameter time is {given.get('time')!r}: expected more than the {parameters['signal_delay_s']} s "
            "(signal_delay_s) before the end at which runs are saved"
        )
    return parameters


def minutes(time: str | int) -> int:
    """Minutes of a time in SLURM's formats: "90", "90:00", "1:30:00", "0-1", "0-1:30" or "0-1:30:00"."""
    total = 0.0
    if match := TIME.fullmatch(str(time)):
        days, first, second, third = (int(part or 0) for part in match.groups())
        has_hours = match[1] is not None or match[4] is not None
        total = days * 24 * 60 + (first * 60 + second + third / 60 if has_hours else first + second / 60)
    if total < 1:
        raise InputError(f"SLURM parameter time is {time!r}: expected minutes, hours:minutes:seconds or days-hours")
    return int(total)


@contextmanager
def outside_a_job() -> Iterator[None]:
    """Hides the SLURM job of this process, if any, since sbatch would inherit its parameters."""
    from submitit.helpers import clean_env

    with clean_env() if "SLURM_JOB_ID" in os.environ else nullcontext():
        yield


@dataclass(frozen=True)
class Task:
    """The function that submitit calls in a task of the array, and again after a requeue."""

    output_dir: str
    runs: tuple[str, ...]
    options: Mapping[str, Any]

    def __call__(self) -> None:
        """Runs free runs until none is left.

        SLURM announces the time limit and preemption with a signal: the runs are saved first, then submitit's handler
        requeues the task.
        """
        warning = preemption_signal()
        requeue: Any = signal.getsignal(warning)
        present = {job.folder.name: job for job in find(Path(self.output_dir))}
        jobs = [present[name] for name in self.runs if name in present]
        launcher = (MultiGpu if machine.gpu_count() else Local)(**self.options)
        try:
            run_at(launcher.places(jobs), jobs, launcher, say, wait_for_others=False)
        except Interrupted as error:
            print(f"runs saved after {error.signal_name}")
            if error.signal_name == signal.SIGTERM.name and not is_to_go_on():
                sys.exit(128 + signal.SIGTERM)
            requeue(warning, None)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """The same task again: the folders of the runs have the finished and saved ones."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def say(ended: Ended) -> None:
    """Prints a line of the task's log after an attempt."""
    with but_for_space():
        print(ended, flush=True)


def preemption_signal() -> signal.Signals:
    """SLURM's warning signal, as set by submitit."""
    from submitit import JobEnvironment

    return signal.Signals["SIG" + JobEnvironment.USR_SIG]


def is_to_go_on() -> bool:
    """Whether SIGTERM announced preemption, after which the job must requeue itself.

    SLURM no longer lists a cancelled or requeued job as running.
    """
    command = ["squeue", "--noheader", "--format=%T", f"--jobs={os.environ['SLURM_JOB_ID']}"]
    return subprocess.run(command, text=True, capture_output=True).stdout.strip() == "RUNNING"
