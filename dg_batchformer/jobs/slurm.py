"""A sweep as a SLURM job array: each task is a launcher of its own, and takes run after run that nobody has."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dg_batchformer import machine
from dg_batchformer.errors import InputError, unknown
from dg_batchformer.jobs.folder import find
from dg_batchformer.jobs.local import cpu_places, gpu_places, run_at
from dg_batchformer.jobs.options import Options
from dg_batchformer.jobs.plan import Job
from dg_batchformer.jobs.queue import Ended
from dg_batchformer.runs.failures import but_for_space
from dg_batchformer.training.interrupt import Interrupted

if TYPE_CHECKING:
    import submitit

MAX_TASKS = 100
"""Of an array, unless `n_workers` says otherwise."""

MAX_TIMEOUTS = 10_000
"""How often a task may reach its time limit: a sweep ends when its runs have ended."""

DEFAULTS: dict[str, str | int] = {"job_name": "dg-batchformer", "time": 240}
"""Where the user gives none: submitit's own limit is 5 minutes."""

NOT_GIVEN = {
    *("nodes", "ntasks_per_node", "num_gpus"),  # a task is one launcher on one node
    *("setup", "teardown", "srun_args", "additional_parameters", "use_srun", "stderr_to_stdout"),  # not plain values
}
"""Parameters of submitit that are the launcher's own."""

NUMBERS = ("signal_delay_s", "array_parallelism")
"""Parameters that submitit calculates with."""

MAYBE_LATER = "Requested node configuration is not available"
"""What sbatch says of nodes that are down for a while, as of those that no cluster has."""

TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


def submission(jobs: Sequence[Job], options: Options) -> Callable[[], None]:
    """Checks that a job array for `jobs` can be submitted, and returns what submits it."""
    executor = checked_executor(jobs, options)
    return lambda: submit(executor, tasks_of(jobs, options))


def submit(executor: submitit.SlurmExecutor, tasks: Sequence[Task]) -> None:
    """Submits a job array, says how to watch it, and does not wait; logs go to `slurm` in the sweep's folder."""
    with outside_a_job(), executor.batch():
        submitted = [executor.submit(task) for task in tasks]
    job_id = submitted[0].job_id.partition("_")[0]
    print(f"submitted {len(tasks)} task(s) as SLURM job {job_id}, logs in {executor.folder}")
    status = shlex.join(["dg-batchformer", "sweep", "status", "--output_dir", str(executor.folder.parent)])
    print(f"watch: squeue --jobs {job_id}; {status}")
    print(f"stop, to go on at the next launch: scancel {job_id}")


def preview(jobs: Sequence[Job], options: Options) -> None:
    """Prints the script that would be submitted."""
    print(script(checked_executor(jobs, options), n_tasks_of(jobs, options)), end="")


def checked_executor(jobs: Sequence[Job], options: Options) -> submitit.SlurmExecutor:
    """What submits `jobs`; an InputError says what is wrong with the parameters or with this machine.

    Nothing is written: sbatch itself is asked whether it would take the script.
    """
    try:
        import submitit
    except ImportError as error:
        raise InputError("the slurm launcher needs submitit: pip install dg-batchformer[slurm]") from error
    missing = [command for command in ("sbatch", "srun", "squeue", "scontrol") if shutil.which(command) is None]
    if missing:
        raise InputError(f"no {missing[0]} on this machine: expected one that submits to a SLURM cluster")
    folder = jobs[0].folder.parent.absolute() / "slurm"
    if "%" in str(folder):
        raise InputError(f"{folder} has a % in its name, which SLURM takes for a pattern: give another --output_dir")
    parameters = checked_parameters(options.slurm, set(submitit.SlurmExecutor._valid_parameters()))
    executor = submitit.SlurmExecutor(folder, max_num_timeout=MAX_TIMEOUTS)
    # Whatever the cluster's default: requeued jobs are how runs go on.
    executor.update_parameters(**parameters, additional_parameters={"requeue": True})
    text = script(executor, n_tasks_of(jobs, options))
    with outside_a_job():
        asked = subprocess.run(["sbatch", "--test-only"], input=text, text=True, capture_output=True)
    if asked.returncode and MAYBE_LATER not in asked.stderr:
        reason = asked.stderr.strip().splitlines()[-1]
        raise InputError(f"sbatch does not take these SLURM parameters ({reason}): given {dict(options.slurm)}")
    return executor


def checked_parameters(given: Mapping[str, str | int], known: set[str]) -> dict[str, Any]:
    """submitit's parameters; an InputError lists all that is wrong with those given."""
    known -= NOT_GIVEN
    problems = [f"SLURM parameter {name!r} is the launcher's own: leave it out" for name in given if name in NOT_GIVEN]
    problems += [unknown("SLURM parameter", name, sorted(known)) for name in given if name not in known | NOT_GIVEN]
    parameters: dict[str, Any] = {**DEFAULTS, **given}
    for name in NUMBERS:
        if name in given and not re.fullmatch(r"[1-9]\d*", str(given[name])):
            problems.append(f"SLURM parameter {name} is {given[name]!r}: expected a whole number, at least 1")
    try:
        parameters["time"] = minutes(parameters["time"])
    except InputError as error:
        problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))
    parameters |= {name: int(parameters[name]) for name in NUMBERS if name in given}
    delay = parameters.get("signal_delay_s", 90)
    if parameters["time"] * 60 <= delay:
        raise InputError(
            f"SLURM parameter time is {given.get('time')!r}: expected more than the {delay} s (signal_delay_s) before "
            "its end at which runs are saved"
        )
    if "cpus_per_task" in given:
        # Since 22.05 srun does not take this over from sbatch.
        parameters["srun_args"] = [f"--cpus-per-task={given['cpus_per_task']}"]
    return parameters


def minutes(time: str | int) -> int:
    """Minutes of a time as SLURM writes it: "90", "90:00", "1:30:00", "0-1", "0-1:30" or "0-1:30:00"."""
    match = TIME.fullmatch(str(time))
    total = 0.0
    if match:
        days, first, second, third = match.groups()
        parts = [int(part or 0) for part in (first, second, third)]
        if days is None and third is None:
            parts = [0, *parts[:2]]
        total = int(days or 0) * 24 * 60 + parts[0] * 60 + parts[1] + parts[2] / 60
    if total < 1:
        raise InputError(f"SLURM parameter time is {time!r}: expected minutes, hours:minutes:seconds or days-hours")
    return int(total)


def script(executor: submitit.SlurmExecutor, n_tasks: int) -> str:
    """What sbatch is given for an array: submitit has no public name for it."""
    if n_tasks > 1:
        executor.parameters["map_count"] = n_tasks
    text = executor._make_submission_file_text(executor._submitit_command_str, "")
    executor.parameters.pop("map_count", None)
    return text


@contextmanager
def outside_a_job() -> Iterator[None]:
    """Hides the SLURM job that this process may be part of, which sbatch would take parameters from."""
    from submitit.helpers import clean_env

    with clean_env() if "SLURM_JOB_ID" in os.environ else nullcontext():
        yield


def n_tasks_of(jobs: Sequence[Job], options: Options) -> int:
    """How many tasks the array has."""
    return min(options.n_workers or MAX_TASKS, len(jobs))


def tasks_of(jobs: Sequence[Job], options: Options) -> list[Task]:
    """What the array's tasks do: the same runs, each begun at another place, so that few meet at one."""
    n_tasks = n_tasks_of(jobs, options)
    names = [job.folder.name for job in jobs]
    output_dir = str(jobs[0].folder.parent.absolute())
    # All that the allocation has is the task's.
    own = dataclasses.replace(options, n_workers=None, gpus=None, slurm={})
    starts = [i * len(jobs) // n_tasks for i in range(n_tasks)]
    return [Task(output_dir, (*names[start:], *names[:start]), own) for start in starts]


@dataclass(frozen=True)
class Task:
    """What submitit calls in a task of the array, and again when the task is requeued."""

    output_dir: str
    runs: tuple[str, ...]
    options: Options

    def __call__(self) -> None:
        """Runs what nobody has, until nothing is left.

        SLURM warns of the end of the time, and of preemption, by a signal: the runs are saved first, and only then
        submitit, whose handler that is, requeues the task.
        """
        warning = preemption_signal()
        requeue: Any = signal.getsignal(warning)
        present = {job.folder.name: job for job in find(Path(self.output_dir))}
        try:
            work([present[name] for name in self.runs if name in present], self.options)
        except Interrupted as error:
            print(f"runs are saved, asked by {error.signal_name}")
            if error.signal_name == signal.SIGTERM.name and not is_to_go_on():
                sys.exit(128 + signal.SIGTERM)
            requeue(warning, None)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """The same again: what is done and what was saved stands in the runs' folders."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def work(jobs: Sequence[Job], options: Options) -> None:
    """Runs jobs on all that this task was given, and leaves those that other launchers have to them."""
    places = gpu_places(jobs, options) if machine.gpu_count() else cpu_places(jobs, options)
    run_at(places, jobs, options, say, wait_for_others=False)


def say(ended: Ended) -> None:
    """A line of the task's log as a try of a run ends."""
    with but_for_space():
        print(ended, flush=True)


def preemption_signal() -> signal.Signals:
    """SLURM's warning, as submitit has it sent."""
    from submitit import JobEnvironment

    return signal.Signals["SIG" + JobEnvironment.USR_SIG]


def is_to_go_on() -> bool:
    """Whether SIGTERM was a warning, of preemption after a while of grace, at which a job has to requeue itself.

    One that is cancelled, or requeued already, is no longer running by SLURM's books.
    """
    command = ["squeue", "--noheader", "--format=%T", f"--jobs={os.environ['SLURM_JOB_ID']}"]
    return subprocess.run(command, text=True, capture_output=True).stdout.strip() == "RUNNING"
