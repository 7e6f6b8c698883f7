"""A sweep as data: its runs, their identities, and how each one stands on the disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from dg_batchformer.data.benchmarks import Benchmark, find_benchmark, path_free
from dg_batchformer.errors import InputError
from dg_batchformer.hparams import Hyperparameter, problems_with, seed_hash, weights_identity
from dg_batchformer.registry import ALGORITHMS, hyperparameters
from dg_batchformer.runs import records
from dg_batchformer.runs.arguments import (
    NOT_IN_ID,
    RunArguments,
    check,
    command_line,
    folder_problems,
    number_problems,
    parse_hparams,
    protocol_problems,
)
from dg_batchformer.runs.protocols import DOMAINBED, find_protocol


@dataclass(frozen=True)
class Sweep:
    """What a sweep varies and what it holds fixed: the flags of DomainBed's sweep script under their own names."""

    datasets: Sequence[str]
    output_dir: str
    algorithms: Sequence[str] = ALGORITHMS
    data_dir: str | None = None
    n_hparams_from: int = 0
    n_hparams: int = 20
    n_trials: int = 3
    steps: int | None = None
    checkpoint_freq: int | None = None
    hparams: str | None = None
    holdout_fraction: float = 0.2
    skip_model_save: bool = False
    cache_dir: str | None = None
    skip_corrupt: bool = False
    protocol: str = DOMAINBED
    fixed_hparams: bool = False
    precision: str = "fp32"
    compile: bool = False
    checkpoint_minutes: float = 10.0
    pairs: bool = False


@dataclass(frozen=True)
class Job:
    """One run of a sweep."""

    arguments: RunArguments

    @property
    def folder(self) -> Path:
        return Path(self.arguments.output_dir)

    @property
    def key(self) -> records.RunKey:
        return records.RunKey.of(dataclasses.asdict(self.arguments))

    @property
    def state(self) -> str:
        return records.state_of(self.folder)

    @property
    def command(self) -> str:
        """The command that runs this job."""
        return command_line(("python", "-m", "dg_batchformer", "train"), dataclasses.asdict(self.arguments))

    @property
    def name(self) -> str:
        a = self.arguments
        return f"{a.dataset} {a.algorithm} test_envs {a.test_envs} trial {a.trial_seed} hparams {a.hparams_seed}"

    def __str__(self) -> str:
        return f"{self.name} ({self.folder.name})"


def job_id(arguments: dict[str, Any], benchmark: Benchmark) -> str:
    """Hash of what changes a run's result on a benchmark: not of where its data or its output lie."""
    what = dict(arguments)
    for name in NOT_IN_ID:
        what.pop(name)
    length = find_protocol(what["protocol"]).length(benchmark)
    for name, usual in zip(("steps", "checkpoint_freq"), length, strict=True):
        what[name] = what[name] or usual
    for name in ("skip_corrupt", "protocol", "fixed_hparams", "precision", "compile"):
        if what[name] == getattr(RunArguments, name):  # which is older sweeps' only way
            what.pop(name)
    what["dataset"] = path_free(what["dataset"])
    what["hparams"] = parse_hparams(what["hparams"])
    if "weights" in what["hparams"]:
        what["hparams"]["weights"] = weights_identity(what["hparams"]["weights"])
    return hashlib.md5(json.dumps(what, sort_keys=True).encode("utf-8")).hexdigest()


def test_env_sets(n: int, *, pairs: bool) -> list[list[int]]:
    """Each environment left out alone; with `pairs` each two of them too, which leave-one-domain-out needs."""
    sets = [[i] for i in range(n)]
    return sets + [list(pair) for pair in combinations(range(n), 2)] if pairs else sets


def plan(sweep: Sweep) -> list[Job]:
    """All runs of a sweep, in DomainBed's order; an InputError lists all that is wrong with it."""
    _check(sweep)
    common = _common(sweep)
    jobs = []
    for trial_seed in range(sweep.n_trials):
        for dataset in dict.fromkeys(sweep.datasets):
            benchmark = find_benchmark(dataset)
            for algorithm in dict.fromkeys(sweep.algorithms):
                hparams = _own_hparams(sweep, algorithm, dataset)
                for test_envs in test_env_sets(len(benchmark.environments), pairs=sweep.pairs):
                    for hparams_seed in range(sweep.n_hparams_from, sweep.n_hparams):
                        arguments = dataclasses.replace(
                            common,
                            dataset=dataset,
                            algorithm=algorithm,
                            test_envs=test_envs,
                            hparams=hparams,
                            hparams_seed=hparams_seed,
                            trial_seed=trial_seed,
                            seed=seed_hash(path_free(dataset), algorithm, test_envs, hparams_seed, trial_seed),
                        )
                        folder = Path(sweep.output_dir) / job_id(dataclasses.asdict(arguments), benchmark)
                        jobs.append(Job(dataclasses.replace(arguments, output_dir=str(folder))))
    return jobs


def _common(sweep: Sweep) -> RunArguments:
    """The arguments that all runs of a sweep have as the sweep has them."""
    names = {field.name for field in dataclasses.fields(Sweep)} & {
        field.name for field in dataclasses.fields(RunArguments)
    }
    return RunArguments(**{name: getattr(sweep, name) for name in names if name != "hparams"})


def _own_hparams(sweep: Sweep, algorithm: str, dataset: str) -> str | None:
    """Those of the sweep's hparams that an algorithm has."""
    given = parse_hparams(sweep.hparams)
    known = {hyperparameter.name for hyperparameter in hyperparameters(algorithm, dataset)}
    own = {name: value for name, value in given.items() if name in known}
    return json.dumps(own, sort_keys=True) if own else None


def _check(sweep: Sweep) -> None:
    problems: list[str] = []
    if not 0 <= sweep.n_hparams_from < sweep.n_hparams:
        problems.append(
            f"--n_hparams_from is {sweep.n_hparams_from} and --n_hparams {sweep.n_hparams}: "
            "expected at least 0, and the second above the first"
        )
    if sweep.n_trials < 1:
        problems.append(f"--n_trials is {sweep.n_trials}: expected at least 1")
    names = [path_free(dataset) for dataset in dict.fromkeys(sweep.datasets)]
    problems += [f"two datasets are called {name}: expected different names" for name in names if names.count(name) > 1]
    common = _common(sweep)
    problems += number_problems(common) + folder_problems(Path(sweep.output_dir))
    problems += protocol_problems(sweep.protocol, sweep.n_hparams - 1)
    known: list[Hyperparameter] = []
    for dataset in sweep.datasets:
        problems += _raised(lambda dataset=dataset: find_benchmark(dataset))
        for algorithm in sweep.algorithms:
            found = _raised(lambda a=algorithm, d=dataset: known.extend(hyperparameters(a, d)))
            problems += [problem for problem in found if problem not in problems]
    given_problems = _raised(lambda: parse_hparams(sweep.hparams))
    problems += given_problems
    if not given_problems and known:
        # An hparam that only some algorithms have is theirs alone.
        known += [hp for algorithm in ALGORITHMS for hp in hyperparameters(algorithm, sweep.datasets[0])]
        problems += problems_with(parse_hparams(sweep.hparams), known)
    if problems:
        raise InputError("\n".join(problems))
    for dataset in sweep.datasets:
        for algorithm in sweep.algorithms:
            hparams = _own_hparams(sweep, algorithm, dataset)
            check(dataclasses.replace(common, dataset=dataset, algorithm=algorithm, hparams=hparams))


def _raised(attempt: Any) -> list[str]:
    try:
        attempt()
    except InputError as error:
        return [str(error)]
    return []
