"""A sweep as data: its runs, each with its folder."""

import dataclasses
import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from dg_batchformer import machine
from dg_batchformer.data import Benchmark, find_benchmark, path_free
from dg_batchformer.errors import Problems
from dg_batchformer.hparams import Hyperparameter, problems_with, seed_hash
from dg_batchformer.registry import ALGORITHMS, hyperparameters, without_modifier
from dg_batchformer.runs import Run, folder_problems, number_problems, resolve
from dg_batchformer.runs.arguments import RunArguments, parse_hparams
from dg_batchformer.runs.folder import RunFolder
from dg_batchformer.runs.presets import preset_problems
from dg_batchformer.runs.protocols import find_protocol


@dataclass(frozen=True)
class Sweep:
    """The varied values of a sweep, named like DomainBed's flags; `common` has the arguments that all runs share.

    `common.output_dir` is the folder of the sweep; each algorithm takes the entries of `common.hparams` that it has.
    """

    datasets: Sequence[str]
    algorithms: Sequence[str] = ALGORITHMS
    n_hparams_from: int = 0
    n_hparams: int = 20
    n_trials: int = 3
    pairs: bool = False
    single_test_envs: bool = False
    n_test_envs: int = 1
    common: RunArguments = dataclasses.field(default_factory=RunArguments)


@dataclass(frozen=True)
class Job:
    """One run of a sweep."""

    arguments: RunArguments

    @functools.cached_property
    def folder(self) -> RunFolder:
        return RunFolder(Path(self.arguments.output_dir))

    @property
    def sweep_dir(self) -> Path:
        """The folder of the sweep."""
        return self.folder.path.parent

    @property
    def name(self) -> str:
        a = self.arguments
        return f"{a.dataset} {a.algorithm} test_envs {a.test_envs} trial {a.trial_seed} hparams {a.hparams_seed}"

    def __str__(self) -> str:
        return f"{self.name} ({self.folder.name})"


def test_env_sets(benchmark: Benchmark, sweep: Sweep) -> list[list[int]]:
    """Each set of `n_test_envs` environments; with `pairs` each one and each pair, for cross-validation.

    A benchmark with test splits is trained on all environments, unless left-out ones are asked for.
    """
    if benchmark.tests and not (sweep.pairs or sweep.single_test_envs or sweep.n_test_envs > 1):
        return [[]]
    numbers = [i for i in range(len(benchmark.environments)) if i not in (sweep.common.train_envs or [])]
    sizes = (1, 2) if sweep.pairs else (sweep.n_test_envs,)
    return [list(chosen) for size in sizes for chosen in combinations(numbers, size)]


@machine.without_garbage_collection()
def plan(sweep: Sweep) -> list[Job]:
    """All runs of a sweep, in DomainBed's order; an InputError lists all errors."""
    _check(sweep)
    sets = {dataset: test_env_sets(find_benchmark(dataset), sweep) for dataset in sweep.datasets}
    resolved = {
        (dataset, algorithm): _resolve(sweep, dataset, algorithm, sets[dataset][-1])
        for dataset in sweep.datasets
        for algorithm in sweep.algorithms
    }
    return [
        _job(run, test_envs, hparams_seed, trial_seed)
        for trial_seed in range(sweep.n_trials)
        for (dataset, _), run in resolved.items()
        for test_envs in sets[dataset]
        for hparams_seed in range(sweep.n_hparams_from, sweep.n_hparams)
    ]


def _job(like: Run, test_envs: list[int], hparams_seed: int, trial_seed: int) -> Job:
    """A run with the dataset and algorithm of `like`."""
    dataset, algorithm = path_free(like.arguments.dataset), like.arguments.algorithm
    if like.arguments.paired_seeds:
        algorithm = without_modifier(algorithm, "BatchFormer")
    arguments = dataclasses.replace(
        like.arguments,
        test_envs=test_envs,
        hparams_seed=hparams_seed,
        trial_seed=trial_seed,
        seed=seed_hash(dataset, algorithm, test_envs, hparams_seed, trial_seed),
    )
    folder = Path(arguments.output_dir) / dataclasses.replace(like, arguments=arguments).job_id
    return Job(dataclasses.replace(arguments, output_dir=str(folder)))


def _resolve(sweep: Sweep, dataset: str, algorithm: str, test_envs: list[int]) -> Run:
    """The run of a dataset, an algorithm and left-out environments, with the defaults of what else varies."""
    known = {hyperparameter.name for hyperparameter in hyperparameters(algorithm, dataset)}
    own = {name: value for name, value in sweep.common.given_hparams().items() if name in known}
    hparams = json.dumps(own, sort_keys=True) if own else None
    arguments = dataclasses.replace(sweep.common, dataset=dataset, algorithm=algorithm, hparams=hparams)
    return resolve(dataclasses.replace(arguments, test_envs=test_envs))


def _check(sweep: Sweep) -> None:
    problems = Problems()
    if not 0 <= sweep.n_hparams_from < sweep.n_hparams:
        problems.append(
            f"--n_hparams_from is {sweep.n_hparams_from} and --n_hparams {sweep.n_hparams}: "
            "expected at least 0, and the second above the first"
        )
    if sweep.n_test_envs < 1:
        problems.append(f"--n_test_envs is {sweep.n_test_envs}: expected at least 1")
    if sweep.n_test_envs > 1 and (sweep.pairs or sweep.single_test_envs):
        problems.append("--n_test_envs contradicts --pairs and --single_test_envs: expected one of them")
    if sweep.n_trials < 1:
        problems.append(f"--n_trials is {sweep.n_trials}: expected at least 1")
    names = [path_free(dataset) for dataset in dict.fromkeys(sweep.datasets)]
    problems += [f"two datasets are called {name}: expected different names" for name in names if names.count(name) > 1]
    problems += number_problems(sweep.common) + folder_problems(Path(sweep.common.output_dir))
    problems.attempt(find_protocol, sweep.common.protocol, sweep.n_hparams - 1)
    known: list[Hyperparameter] = []
    for dataset in sweep.datasets:
        found = preset_problems(sweep.common.preset, dataset, sweep.n_hparams - 1)
        problems += [problem for problem in found if problem not in problems]
        benchmark = problems.attempt(find_benchmark, dataset)
        if benchmark and sweep.n_test_envs > 0 and not test_env_sets(benchmark, sweep):
            problems.append(
                f"--n_test_envs {sweep.n_test_envs} leaves no environment of {dataset} to train on: it has "
                f"{len(benchmark.environments)}, {len(sweep.common.train_envs or [])} of them in --train_envs"
            )
        for algorithm in sweep.algorithms:
            own = Problems()
            known += own.attempt(hyperparameters, algorithm, dataset) or []
            problems += [problem for problem in own if problem not in problems]
    given = problems.attempt(parse_hparams, sweep.common.hparams)
    if given and known:
        # An hparam that only some algorithms have goes only to them.
        known += [hp for algorithm in ALGORITHMS for hp in hyperparameters(algorithm, sweep.datasets[0])]
        problems += problems_with(given, known)
    problems.raise_any()
