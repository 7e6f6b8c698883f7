"""The folder of a sweep: its runs, the versions and data it started with, and checks of its content."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from dg_batchformer import machine
from dg_batchformer.data import path_free
from dg_batchformer.errors import InputError, Problems
from dg_batchformer.jobs.plan import Job
from dg_batchformer.registry import in_order
from dg_batchformer.runs import files, records
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.runs.folder import RunFolder

FORMAT = 1
"""The format of the folder; increased when older versions would misread it."""

SWEEP, DATA = "sweep.json", "data"


@machine.without_garbage_collection()
def write(jobs: Sequence[Job]) -> None:
    """Makes the folders of runs and writes the arguments of each run."""
    for sweep_dir in {job.sweep_dir for job in jobs}:
        begin(sweep_dir)
    for job in jobs:
        os.makedirs(job.folder.path, exist_ok=True)
        text = msgspec.json.encode(job.arguments.values, order="sorted")
        files.write_whole(job.folder / files.JOB, msgspec.json.format(text, indent=1).decode())


def begin(output_dir: Path) -> None:
    """Records the versions at the start of a sweep; an older sweep without them has unknown ones."""
    output_dir.mkdir(parents=True, exist_ok=True)
    if not any(output_dir.glob(f"*/{files.JOB}")):
        begun = {"format": FORMAT, "versions": machine.versions()}
        files.write_once(output_dir / SWEEP, json.dumps(begun, indent=1, sort_keys=True))


def begun_with(output_dir: Path) -> dict[str, str]:
    """The versions at the start of a sweep, if recorded; InputError if it has another format."""
    path = output_dir / SWEEP
    if not path.exists():
        return {}
    begun = _object(path, "format")
    versions: dict[str, str] = begun.get("versions", {})
    if begun["format"] != FORMAT:
        own = machine.versions()["dg-batchformer"]
        raise InputError(
            f"{output_dir} was created by dg-batchformer {versions.get('dg-batchformer')} in sweep format "
            f"{begun['format']}, and this is {own}, which reads format {FORMAT}: use that version, or another "
            "--output_dir"
        )
    return versions


def versions_note(output_dir: Path) -> str | None:
    """A note about different versions at the start of the sweep and now, if any."""
    before, now = begun_with(output_dir), machine.versions()
    changed = [name for name in now if before.get(name, now[name]) != now[name]]
    if not changed:
        return None
    then, today = (", ".join(f"{name} {versions[name]}" for name in changed) for versions in (before, now))
    return f"{output_dir} was started with {then}; this is {today}: one table will mix the results of both"


@machine.without_garbage_collection()
def find(output_dir: Path) -> list[Job]:
    """The runs of the sweep in a folder, as written by `write`, in the order of `plan`.

    InputError for a sweep of another format, and for runs in wrong folders.
    """
    if not output_dir.is_dir():
        raise InputError(f"{output_dir} is not a folder: expected one created by `sweep launch`")
    begun_with(output_dir)
    problems = Problems()
    folders = [output_dir / name for name in sorted(os.listdir(output_dir))]
    found = [problems.attempt(_read, folder) for folder in folders if RunFolder(folder).has(files.JOB)]
    problems.raise_any()
    jobs = [job for job in found if job]
    algorithms = in_order(job.arguments.algorithm for job in jobs)

    def place(job: Job) -> tuple[object, ...]:
        a = job.arguments
        return a.trial_seed, a.dataset, algorithms.index(a.algorithm), a.test_envs, a.hparams_seed

    return sorted(jobs, key=place)


def _read(folder: Path) -> Job:
    """The run described by the `job.json` of a folder; InputError if it belongs to another folder."""
    path = f"{folder}/{files.JOB}"
    try:
        with open(path, encoding="utf-8") as file:
            arguments = json.load(file)
        # The folder of the sweep may have moved, even from a system with other path separators.
        own = re.split(r"[\\/]", arguments["output_dir"].rstrip("\\/"))[-1]
        job = Job(RunArguments(**{**arguments, "output_dir": str(folder)}))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is invalid ({error}): delete its folder to continue") from error
    if own != folder.name:
        raise InputError(
            f"{folder} holds the run {own} ({job.arguments.key}), perhaps copied or renamed: move it out of "
            f"{folder.parent}, or restore its name"
        )
    return job


def check_folder(jobs: Sequence[Job], output_dir: Path) -> None:
    """InputError if the folder of a sweep has runs that these jobs would repeat or complete with other settings."""
    present = {job.arguments.key: job for job in find(output_dir)} if output_dir.is_dir() else {}
    if len({job.arguments.fixed_hparams for job in (*present.values(), *jobs)}) > 1:
        # Also if none is repeated: the table compares rows, trials and algorithms with each other.
        raise InputError(
            f"some runs of {output_dir} have --fixed_hparams and others would not: expected it for all of a sweep or "
            "for none, or another --output_dir"
        )
    for job in jobs:
        other = present.get(job.arguments.key)
        if other and other.folder.name != job.folder.name:
            raise InputError(
                f"{output_dir} holds this sweep with other settings ({other}): expected the same --steps, "
                "--checkpoint_freq, --hparams, --holdout_fraction and --precision, or another --output_dir "
                "(delete_incomplete deletes the runs that are not done)"
            )


def check_data(output_dir: Path, dataset: str, fingerprint: str) -> None:
    """Records the fingerprint of a sweep's dataset at the first call; InputError if it differs later.

    If several processes call it at the same time with different data, only one continues.
    """
    path = data_path(output_dir, dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    noted = {"dataset": path_free(dataset), "fingerprint": fingerprint}
    files.write_once(path, json.dumps(noted, indent=1, sort_keys=True))
    compare_data(output_dir, dataset, fingerprint)


def compare_data(output_dir: Path, dataset: str, fingerprint: str) -> None:
    """InputError if a dataset differs from the record of `check_data`, if there is one; writes nothing."""
    path = data_path(output_dir, dataset)
    if not path.exists():
        return
    before = _object(path, "fingerprint")["fingerprint"]
    if before != fingerprint:
        raise InputError(
            f"the data of {path_free(dataset)} have changed since the sweep in {output_dir} began (fingerprint "
            f"{before}, now {fingerprint}): restore them, or use another --output_dir"
        )


def data_path(output_dir: Path, dataset: str) -> Path:
    """The file with the fingerprint of a sweep's dataset."""
    # `folder:` has a character that not every file system accepts.
    return output_dir / DATA / f"{path_free(dataset).replace(':', '-')}.json"


def check_results(jobs: Sequence[Job]) -> None:
    """InputError that lists the runs marked done whose last record is invalid."""
    problems = Problems()
    for job in jobs:
        if job.folder.is_done and (problem := problem_of_results(job)):
            problems.append(
                f"{job.folder / files.RESULTS} {problem}: restore it, or move its folder away and launch again"
            )
    problems.raise_any()


def problem_of_results(job: Job) -> str | None:
    """Why the last record of a run is invalid, or None."""
    path = job.folder / files.RESULTS
    if not path.exists():
        return "is missing, though its run is marked done"
    try:
        record = json.loads("".join(files.last_lines(path, 1)))
    except ValueError:
        return "does not end with a complete record, though its run is marked done"
    problem = records.record_problem(record)
    if problem:
        return f"ends with a record that {problem}"
    key, expected = records.RunKey.from_args(record["args"]), job.arguments.key
    return None if key == expected else f"holds a record of another run ({key}; expected {expected})"


def tidy(jobs: Sequence[Job]) -> None:
    """Deletes the saved states and claims of finished runs, left by a kill at the moment of the end."""
    for job in jobs:
        if job.folder.is_done:
            for path in job.folder.path.iterdir():
                if path.name.startswith(("resume-", "claim-")):
                    path.unlink(missing_ok=True)


def _object(path: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file of the sweep; it must have `name`."""
    what_to_do = "restore it, or use another --output_dir"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}): {what_to_do}") from error
    if not isinstance(found, dict) or name not in found:
        raise InputError(f"{path} has no {name}: {what_to_do}")
    return found
