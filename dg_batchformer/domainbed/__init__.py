"""The DomainBed plug-in: MixStyle, BatchFormer and SWAD for all its algorithms, in its own scripts.

`python -m dg_batchformer.domainbed train|sweep|collect ...` runs DomainBed's script of that name, with its flags, after
`register()`; so do the jobs of its sweeps. DomainBed's checkout must be on PYTHONPATH.
"""

import functools
import importlib
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from typing import Any

from dg_batchformer.batchformer import PREFIX, without_batchformer
from dg_batchformer.errors import InputError
from dg_batchformer.machine import available_cores, device
from dg_batchformer.registry import ALGORITHMS, MODIFIER_ORDER, compose, split_name

EXTENDED = {
    "algorithms": ("ALGORITHMS", "ERM", "get_algorithm_class"),
    "hparams_registry": ("_hparams", "default_hparams"),
    "command_launchers": ("REGISTRY",),
    "lib.misc": ("accuracy",),
}
"""The extended objects of DomainBed, by module."""

COMPOSITIONS = [chosen for n in range(1, 4) for chosen in permutations(MODIFIER_ORDER, n)]
"""Modifiers in all orders that a name may have."""

EXPECTED = "expected facebookresearch/DomainBed, as of its commit b93c22a"


def register() -> None:
    """Adds this package's algorithms, their hyper-parameters and a launcher to DomainBed; repeated calls do nothing.

    Every algorithm X in `domainbed.algorithms.ALGORITHMS` gets X_MixStyle, X_BatchFormer, X_SWAD and their
    compositions, based on DomainBed's X; a variant has the draws of its base. The standard names join that list;
    MixStyle and SWAD apply to ERM. DomainBed's launchers and the new `cpu_workers` start jobs that register too. Names
    in DomainBed keep their meaning. Raises InputError, with nothing registered, if DomainBed cannot be imported or has
    changed.
    """
    algorithms, registry, launchers, _ = (extended(name) for name in EXTENDED)
    missing = [name for name in algorithms.ALGORITHMS if not hasattr(algorithms, name)]
    if missing:
        raise InputError(f"domainbed.algorithms lists {', '.join(missing)}, but has no such class: {EXPECTED}")
    made = {
        "_".join((name, *modifiers)): variant(getattr(algorithms, name), frozenset(modifiers))
        for name in algorithms.ALGORITHMS
        if not split_name(name)[1] and not hasattr(getattr(algorithms, name), "composition")
        for modifiers in COMPOSITIONS
    }
    made |= {"_".join(modifiers): variant(algorithms.ERM, frozenset(modifiers)) for modifiers in COMPOSITIONS}

    vars(algorithms).update({name: cls for name, cls in made.items() if name not in vars(algorithms)})
    listed = set(algorithms.ALGORITHMS)
    algorithms.ALGORITHMS += [name for name in ALGORITHMS if name in vars(algorithms) and name not in listed]
    if not hasattr(registry._hparams, "extends"):
        registry._hparams = with_modifiers(registry._hparams, algorithms)
    launchers.REGISTRY.setdefault("cpu_workers", cpu_workers)
    for name, launcher in launchers.REGISTRY.items():
        if not hasattr(launcher, "extends"):
            launchers.REGISTRY[name] = registering(launcher, needs_gpu=name == "multi_gpu")


def extended(name: str) -> Any:
    """A module of DomainBed, checked for the extended objects."""
    try:
        module = importlib.import_module(f"domainbed.{name}")
    except ImportError as error:
        raise InputError(
            f"DomainBed cannot be imported ({error}): expected a checkout of facebookresearch/DomainBed on PYTHONPATH, "
            "and what it requires installed"
        ) from error
    lacking = [attribute for attribute in EXTENDED[name] if not hasattr(module, attribute)]
    if lacking:
        raise InputError(f"domainbed.{name} ({module.__file__}) has no {' and no '.join(lacking)}: {EXPECTED}")
    return module


@functools.cache
def variant(objective: type, modifiers: frozenset[str]) -> type:
    """A DomainBed algorithm with modifiers, for its scripts."""
    composed: Any = functools.reduce(compose, modifiers, objective)

    class InDomainBed(composed):
        __doc__ = composed.__doc__
        __module__ = objective.__module__

        def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
            """Without BatchFormer, so that the base algorithm loads it."""
            if getattr(self, "awaits_validation", False):
                raise InputError(
                    f"{composed.__name__} averages weights by validation losses, and this script gives none: train it "
                    "with `python -m dg_batchformer.domainbed train` (or sweep), which does"
                )
            return without_batchformer(super().state_dict(*args, **kwargs).items())

        def load_state_dict(self, state_dict: Any, *args: Any, **kwargs: Any) -> Any:
            """Loads a `state_dict`; BatchFormer does not change."""
            own = {name: value for name, value in super().state_dict().items() if name.startswith(PREFIX)}
            return super().load_state_dict({**own, **state_dict}, *args, **kwargs)

    InDomainBed.__name__ = InDomainBed.__qualname__ = composed.__name__
    return InDomainBed


def with_modifiers(theirs: Callable[..., dict[str, Any]], algorithms: Any) -> Callable[..., dict[str, Any]]:
    """DomainBed's (default, drawn) pairs; a variant has those of its base and of its modifiers."""

    @functools.wraps(theirs)
    def hparams(algorithm: str, dataset: str, random_seed: int) -> dict[str, Any]:
        cls: Any = getattr(algorithms, algorithm, None)
        if not hasattr(cls, "composition"):
            return theirs(algorithm, dataset, random_seed)
        pairs = theirs(split_name(algorithm)[0], dataset, random_seed)
        return pairs | {hp.name: (hp.default, hp.draw(random_seed)) for hp in cls.hyperparameters}

    hparams.extends = theirs  # type: ignore[attr-defined]
    return hparams


CommandLauncher = Callable[[list[str]], None]

THEIR_TRAIN = "python -m domainbed.scripts.train"
OUR_TRAIN = f"{shlex.quote(sys.executable)} -m dg_batchformer.domainbed train"


def registering(launcher: CommandLauncher, *, needs_gpu: bool) -> CommandLauncher:
    """A launcher whose jobs call `register` too."""

    @functools.wraps(launcher)
    def launch(commands: list[str]) -> None:
        if needs_gpu and device() == "cpu" and not os.environ.get("CUDA_VISIBLE_DEVICES"):
            raise InputError("multi_gpu finds no GPU here and would wait for one: use cpu_workers or local")
        launcher([command.replace(THEIR_TRAIN, OUR_TRAIN, 1) for command in commands])

    launch.extends = launcher  # type: ignore[attr-defined]
    return launch


def cpu_workers(commands: list[str]) -> None:
    """Runs a command on each core, with one thread each, and prints which failed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(command: str) -> int:
        return subprocess.run(command, shell=True, env=environment).returncode

    n_failed = 0
    with ThreadPoolExecutor(available_cores()) as pool:
        for n, (command, code) in enumerate(zip(commands, pool.map(run, commands), strict=True), start=1):
            n_failed += code != 0
            print(f"[{n}/{len(commands)}] {f'FAILED ({code})' if code else 'done'}: {command}", flush=True)
    print(f"{len(commands) - n_failed} done, {n_failed} failed")
