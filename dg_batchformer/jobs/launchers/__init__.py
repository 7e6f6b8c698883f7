"""Launchers: the ways to run a sweep, each with its flags."""

import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from dg_batchformer.errors import InputError, Problems, unknown
from dg_batchformer.jobs.plan import Job


def option(help: str, default: Any, **flag: Any) -> Any:
    """A field of a launcher that is a flag of `sweep launch`; `flag` has arguments for argparse."""
    return field(default=default, metadata={"help": help, **flag})


@dataclass(frozen=True)
class Launcher:
    """A way to run the runs of a sweep; its fields are its flags, and all launchers have these.

    A failed run is retried unless a retry would fail in the same way. Without `keep_going` no run starts after a final
    failure.
    """

    jobs_per_gpu: int = option("runs at once on a GPU, with one copy of the images (default 1)", 1, type=int)
    retries: int = option("how often a failed run is retried (default 0)", 0, type=int)
    timeout: float | None = option("minutes after which an attempt at a run fails (default: none)", None, type=float)
    keep_going: bool = option("continue after a failed run (default); --no-keep_going starts no further run", True)

    name: ClassVar[str]

    def problems(self) -> list[str]:
        """The errors of options out of range."""
        found = []
        for name, least in (("n_workers", 1), ("jobs_per_gpu", 1), ("retries", 0)):
            value = getattr(self, name, None)
            if value is not None and value < least:
                found.append(f"--{name} is {value}: expected at least {least}")
        if self.timeout is not None and not self.timeout > 0:
            found.append(f"--timeout is {self.timeout:g}: expected minutes above 0")
        return found

    def check(self, jobs: Sequence[Job]) -> int | None:
        """The number of simultaneous runs on this machine, or None if it submits them elsewhere and does not wait.

        InputError if this machine cannot do it; nothing is written before.
        """
        raise NotImplementedError

    def run(self, jobs: Sequence[Job]) -> None:
        """Runs or submits jobs, whose folders exist."""
        raise NotImplementedError

    def preview(self, jobs: Sequence[Job]) -> None:
        """Prints the commands of the jobs."""
        for job in jobs:
            print(job.arguments.command)


class Dummy(Launcher):
    """Prints the commands and runs nothing."""

    name = "dummy"


@functools.cache
def launchers() -> dict[str, type[Launcher]]:
    """The launchers by name: those of the modules in this folder, and the dummy."""
    modules = [importlib.import_module(f"{__name__}.{one.name}") for one in pkgutil.iter_modules(__path__)]
    found = [cls for module in modules for cls in vars(module).values() if is_launcher(cls)]
    classes: list[type[Launcher]] = [*found, Dummy]
    return {cls.name: cls for cls in classes}


def is_launcher(value: Any) -> bool:
    """Whether a value is the class of a launcher, and not a common base."""
    return isinstance(value, type) and issubclass(value, Launcher) and "name" in vars(value)


def options() -> dict[str, dataclasses.Field[Any]]:
    """The options of all launchers by name."""
    classes: list[type[Launcher]] = [Launcher, *launchers().values()]
    return {one.name: one for cls in classes for one in dataclasses.fields(cls)}


def find_launcher(name: str, given: Mapping[str, Any]) -> Launcher:
    """The launcher `name` with the given options; an InputError lists all their errors.

    A changed option of another launcher is an error, except for the dummy.
    """
    if name not in launchers():
        raise InputError(unknown("launcher", name, launchers()))
    own = {one.name for one in dataclasses.fields(launchers()[name])}
    launcher = launchers()[name](**{option: value for option, value in given.items() if option in own})
    problems = Problems(launcher.problems())
    for other, one in options().items():
        if name != Dummy.name and other not in own and given.get(other, one.default) != one.default:
            having = [cls.name for cls in launchers().values() if hasattr(cls, other)]
            problems.append(f"--{other} is for --command_launcher {' or '.join(having)}, not {name}: leave it out")
    problems.raise_any()
    return launcher
