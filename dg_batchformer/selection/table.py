"""The selection table: for each method and setting a section, in it a cell for each algorithm and environment."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from dg_batchformer.registry import in_order
from dg_batchformer.selection.cells import Cell, average, of_trials, worst
from dg_batchformer.selection.collect import Collected, Identity
from dg_batchformer.selection.methods import METHODS, Choice, best_by_trial
from dg_batchformer.selection.runs import Run, environment_names
from dg_batchformer.selection.settings import Setting, given_hparams, planned_setting
from dg_batchformer.training.records import RunKey

AVERAGE, WORST, MACRO = "Avg", "Worst", "Macro"
DERIVED = (AVERAGE, WORST, MACRO)
"""Columns over environments: the mean of the others' means, the worst environment's, and Avg of means over classes."""

REDRAWN, FIXED = "redrawn", "fixed"


class Unit(NamedTuple):
    """A trial of an environment; `column` is where it counts, the environment's or, over datasets, its dataset's."""

    column: str
    environment: str
    trial_seed: int


@dataclass(frozen=True)
class Row:
    """An algorithm of a section.

    `given` are the hparams that it was given, which `label` names where the section has the algorithm with others
    too; `candidates` are all that could have been chosen, and `seeds` says whether its hyper-parameters were redrawn in
    each trial or fixed over trials ("" where one trial cannot tell). `source` is where a published row is from,
    `command` the sweep that repeats it where one is known, and `rank` its place on a leaderboard.
    """

    algorithm: str
    given: str
    label: str
    cells: Mapping[str, Cell]
    candidates: Mapping[Unit, Sequence[Choice]] = field(default_factory=dict)
    seeds: str = ""
    source: str = ""
    command: str = ""
    rank: int | None = None


@dataclass(frozen=True)
class Section:
    """One table: rows down, environments across (or datasets, where the setting's dataset is "Avg")."""

    selection: str
    setting: Setting
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    ddof: int = 0

    @property
    def dataset(self) -> str:
        return self.setting.dataset

    @property
    def is_over_datasets(self) -> bool:
        """Whether datasets stand across."""
        return self.dataset == AVERAGE

    @property
    def own_columns(self) -> tuple[str, ...]:
        """The columns that are not over others: environments, or datasets."""
        return tuple(column for column in self.columns if column not in DERIVED)


def build(collected: Collected, ddof: int = 0, selections: Iterable[str] = tuple(METHODS)) -> list[Section]:
    """All tables, by selection method and setting, the averages over datasets after those of their settings.

    `ddof` is that of the standard errors: 0 as DomainBed prints them, or 1.
    """
    groups = _groups(collected)
    sections = []
    for selection in selections:
        own = [_section(selection, setting, groups[setting], ddof) for setting in sorted(groups)]
        sections += own
        sections += _averages(own)
    return sections


Groups = dict[Setting, dict[tuple[str, str], "Group"]]


@dataclass
class Group:
    """The finished runs of a row, and the keys of all its runs that are known."""

    runs: list[Run] = field(default_factory=list)
    planned: set[RunKey] = field(default_factory=set)

    @cached_property
    def _by_place(self) -> dict[tuple[int, int, int], list[Run]]:
        """Finished runs by an environment that they leave out, trial, and how many they leave out together."""
        runs = defaultdict(list)
        for run in self.runs:
            for env in run.key.test_envs:
                runs[env, run.key.trial_seed, len(run.key.test_envs)].append(run)
        return runs

    def singles_and_pairs(self, env: int, trial: int) -> tuple[list[Run], list[Run]]:
        """The finished runs of a trial that leave an environment out, alone and with another."""
        return self._by_place.get((env, trial, 1), []), self._by_place.get((env, trial, 2), [])

    @cached_property
    def seeds(self) -> str:
        """How its rows of the search were drawn in each trial."""
        return seed_mode(self.runs)

    @cached_property
    def n_done(self) -> Counter[tuple[int, int]]:
        """Finished runs that leave an environment out, by that and how many are left out together."""
        return _by_environment(run.key for run in self.runs)

    @cached_property
    def n_planned(self) -> Counter[tuple[int, int]]:
        """The same of all runs that are known."""
        return _by_environment(self.planned)

    @cached_property
    def n_rows(self) -> int:
        """Rows of the search."""
        return len({key.hparams_seed for key in self.planned})


def _by_environment(keys: Iterable[RunKey]) -> Counter[tuple[int, int]]:
    return Counter((env, len(key.test_envs)) for key in keys for env in key.test_envs)


def _groups(collected: Collected) -> Groups:
    """Runs by setting and row; different data of one dataset are different settings."""
    data = defaultdict(set)
    for identity, run in collected.runs.items():
        data[identity.setting].add(run.shared.get("data_fingerprint"))
    several = {setting for setting, prints in data.items() if len(prints - {None}) > 1}
    groups: Groups = {}
    settings: dict[Setting, dict[str, Setting]] = {}
    for identity, run in collected.runs.items():
        setting = _with_data(identity, run) if identity.setting in several else identity.setting
        group = _group(groups, setting, identity.key.algorithm, identity.given)
        group.runs.append(run)
        group.planned.add(identity.key)
        if collected.planned:
            plain = planned_setting(identity.key.dataset, run.shared["args"])
            settings.setdefault(plain, {})[identity.key.algorithm] = setting
    for args in collected.planned:
        key = RunKey.of(args)
        plain = planned_setting(key.dataset, args)
        known = settings.get(plain, {})
        setting = known.get(key.algorithm) or next(iter(known.values()), plain)
        _group(groups, setting, key.algorithm, given_hparams(args)).planned.add(key)
    return groups


def _group(groups: Groups, setting: Setting, algorithm: str, given: str) -> Group:
    return groups.setdefault(setting, {}).setdefault((algorithm, given), Group())


def _with_data(identity: Identity, run: Run) -> Setting:
    own = ("data fingerprint", str(run.shared.get("data_fingerprint", "without fingerprint")))
    return dataclasses.replace(identity.setting, others=tuple(sorted((*identity.setting.others, own))))


def _section(selection: str, setting: Setting, groups: dict[tuple[str, str], Group], ddof: int) -> Section:
    environments = environment_names(setting.dataset, [run for group in groups.values() for run in group.runs])
    trials = sorted({key.trial_seed for group in groups.values() for key in group.planned})
    names = in_order(algorithm for algorithm, _ in groups)
    rows = []
    for algorithm, given in sorted(groups, key=lambda row: (names.index(row[0]), row[1])):
        several = sum(name == algorithm for name, _ in groups) > 1
        label = f"{algorithm} {given}" if several and given != "{}" else algorithm
        rows.append(_row(selection, environments, trials, groups[algorithm, given], ddof, (algorithm, given, label)))
    return Section(selection, setting, (*environments, *DERIVED), tuple(rows), ddof)


def _row(
    selection: str,
    environments: Sequence[str],
    trials: Sequence[int],
    group: Group,
    ddof: int,
    named: tuple[str, str, str],
) -> Row:
    candidates = {
        Unit(name, name, trial): METHODS[selection](*group.singles_and_pairs(env, trial), env)
        for env, name in enumerate(environments)
        for trial in trials
    }
    cells, macro = {}, []
    for env, name in enumerate(environments):
        of_env = {trial: candidates[Unit(name, name, trial)] for trial in trials}
        chosen = best_by_trial(of_env, fixed=group.seeds == FIXED)
        missing, counts = _missing(len(chosen), env, trials, group, selection)
        cells[name] = of_trials(chosen, lambda choice: choice.accuracy, missing, counts, ddof)
        macro.append(of_trials(chosen, lambda choice: choice.macro, missing, counts, ddof))
    columns = list(cells.values())
    cells |= {AVERAGE: average(columns, ddof), WORST: worst(columns, ddof), MACRO: average(macro, ddof)}
    return Row(*named, cells, candidates, group.seeds)


def seed_mode(runs: Iterable[Run]) -> str:
    """Whether the rows of the search hold the same hyper-parameters in all trials, FIXED, or others, REDRAWN.

    "" where one trial cannot tell. Of runs that recorded no hyper-parameters several rows are taken for redrawn.
    """
    rows: dict[int, dict[int, dict[str, Any]]] = defaultdict(dict)
    for run in runs:
        rows[run.key.hparams_seed][run.key.trial_seed] = run.hparams
    if max(map(len, rows.values()), default=0) < 2:
        return ""
    if not all(hparams for row in rows.values() for hparams in row.values()) and len(rows) > 1:
        return REDRAWN
    same = all(hparams == next(iter(row.values())) for row in rows.values() for hparams in row.values())
    return FIXED if same else REDRAWN


def _missing(n: int, env: int, trials: Sequence[int], group: Group, selection: str) -> tuple[str, tuple[int, int]]:
    """What a cell with `n` trials lacks, and how many of its runs are done and expected."""

    done, planned = group.n_done, group.n_planned
    if not planned[env, 1]:
        return "not run", (0, 0)
    # The whole grid, of which DomainBed's folders show only what has begun.
    expected = {1: max(len(trials) * group.n_rows, planned[env, 1])}
    if selection == "leave-one-domain-out":
        expected[2] = expected[1] * len({i for i, _ in planned} - {env})
    counts = sum(done[env, size] for size in expected), sum(expected.values())
    if 2 in expected and not done[env, 2]:
        n_pairs = planned[env, 2]
        return f"needs pair runs: 0 of {n_pairs} done" if n_pairs else "needs pair runs (--pairs)", counts
    if n < len(trials):
        return f"{n} of {len(trials)} trials", counts
    for size in expected:
        if done[env, size] < expected[size]:
            return f"{done[env, size]} of {expected[size]} runs", counts
    return "", counts


def _averages(sections: Sequence[Section]) -> list[Section]:
    """For settings with several datasets a section with datasets across: each one's average over environments."""
    alike: dict[Setting, list[Section]] = defaultdict(list)
    for section in sections:
        alike[section.setting.on(AVERAGE)].append(section)
    return [_average(setting, own) for setting, own in alike.items() if len(own) > 1]


def _average(setting: Setting, sections: Sequence[Section]) -> Section:
    rows: dict[tuple[str, str], dict[str, Row]] = defaultdict(dict)
    for section in sections:
        for row in section.rows:
            rows[row.algorithm, row.given][section.dataset] = row
    ddof = sections[0].ddof
    names = in_order(algorithm for algorithm, _ in rows)
    found = []
    for (algorithm, given), own in sorted(rows.items(), key=lambda item: (names.index(item[0][0]), item[0][1])):
        label = next(iter(own.values())).label
        parts = {
            column: [own[s.dataset].cells[column] if s.dataset in own else Cell(missing="not run") for s in sections]
            for column in DERIVED
        }
        cells = {section.dataset: cell for section, cell in zip(sections, parts[AVERAGE], strict=True)}
        cells |= {column: average(parts[column], ddof) for column in DERIVED}
        candidates = {
            unit._replace(column=dataset): choices
            for dataset, row in own.items()
            for unit, choices in row.candidates.items()
        }
        found.append(Row(algorithm, given, label, cells, candidates, _mode_of(own.values())))
    columns = (*(section.dataset for section in sections), *DERIVED)
    return Section(sections[0].selection, setting, columns, tuple(found), ddof)


def _mode_of(rows: Iterable[Row]) -> str:
    modes = {row.seeds for row in rows}
    return REDRAWN if REDRAWN in modes else modes.pop()
