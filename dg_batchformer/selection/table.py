"""The selection table: for each method and setting a section, in it a cell for each algorithm and environment."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from dg_batchformer.runs.records import RunKey
from dg_batchformer.selection import Collected, shots
from dg_batchformer.selection.methods import (
    LEAVE_ONE_DOMAIN_OUT,
    METHODS,
    NEED_LEFT_OUT,
    Cell,
    Choice,
    FinishedRun,
    average,
    best_by_trial,
    of_trials,
    worst,
)
from dg_batchformer.selection.settings import (
    RowKey,
    Setting,
    environment_names,
    given_hparams,
    labels,
    planned_setting,
)

AVERAGE, WORST, MACRO = "Avg", "Worst", "Macro"
DERIVED = (AVERAGE, WORST, MACRO)
"""Columns over environments: the mean, the worst environment, and the mean of class-averaged accuracies."""

REDRAWN, FIXED = "redrawn", "fixed"


class Unit(NamedTuple):
    """A trial of an environment; `column` is the environment or, in averages over datasets, the dataset."""

    column: str
    environment: str
    trial_seed: int


@dataclass(frozen=True)
class Row:
    """An algorithm of a section.

    `label` names the algorithm and the given hparams in which its rows differ. `candidates` are all possible choices.
    `seeds` tells whether the hyper-parameters were redrawn in each trial or fixed over trials ("" if unknown).
    `source` is the origin of a published row, `command` the sweep that reproduces it, `rank` its leaderboard rank.
    """

    key: RowKey
    label: str
    cells: Mapping[str, Cell]
    candidates: Mapping[Unit, Sequence[Choice]] = field(default_factory=dict)
    seeds: str = ""
    source: str = ""
    command: str = ""
    rank: int | None = None
    thresholds: shots.Thresholds = field(default_factory=shots.Thresholds)

    @property
    def algorithm(self) -> str:
        return self.key.algorithm

    @cached_property
    def accuracies(self) -> dict[Unit, dict[int, float]]:
        """The accuracies of the candidates in [0, 1], by unit and hparams_seed."""
        return {unit: {one.hparams_seed: one.accuracy for one in own} for unit, own in self.candidates.items()}

    @cached_property
    def accuracies_by_shot(self) -> dict[str, dict[Unit, dict[int, float]]]:
        """The same over the classes of each shot, for units that have such classes."""
        found: dict[str, dict[Unit, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
        for unit, own in self.candidates.items():
            for one in own:
                for shot, accuracy in shots.by_shot(shots.class_cells(one), self.thresholds).items():
                    found[shot][unit][one.hparams_seed] = accuracy
        return found


@dataclass(frozen=True)
class Section:
    """One table: a row for each algorithm, a column for each environment (or dataset, for setting "Avg")."""

    selection: str
    setting: Setting
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def dataset(self) -> str:
        return self.setting.dataset

    @property
    def is_over_datasets(self) -> bool:
        return self.dataset == AVERAGE

    @property
    def own_columns(self) -> tuple[str, ...]:
        """The columns of single environments or datasets."""
        return tuple(column for column in self.columns if column not in (*DERIVED, *shots.COLUMNS))

    @property
    def shots(self) -> tuple[str, ...]:
        """The columns of shots; runs on a long tail have them."""
        return tuple(column for column in self.columns if column in shots.COLUMNS)

    @property
    def cells(self) -> Iterator[Cell]:
        return (cell for row in self.rows for cell in row.cells.values())


def build(
    collected: Collected,
    ddof: int = 0,
    selections: Iterable[str] = tuple(METHODS),
    thresholds: shots.Thresholds | None = None,
) -> list[Section]:
    """All tables, by selection method and setting; averages over datasets come last.

    `ddof` is for the standard errors: 0 as in DomainBed, or 1. `thresholds` divide classes by their training images
    (None: those of the dataset).
    """
    groups = _groups(collected)
    sections = []
    for selection in selections:
        own = [
            _section(selection, setting, groups[setting], ddof, thresholds or shots.usual(setting.dataset))
            for setting in sorted(groups)
            if setting.leaves_out or selection not in NEED_LEFT_OUT
        ]
        alike: dict[Setting, list[Section]] = defaultdict(list)
        for section in own:
            alike[section.setting._replace(dataset=AVERAGE)].append(section)
        sections += own + [_average(setting, parts, ddof) for setting, parts in alike.items() if len(parts) > 1]
    return sections


@dataclass
class Group:
    """The finished runs of a row, and the keys of all its known runs."""

    runs: list[FinishedRun] = field(default_factory=list)
    planned: set[RunKey] = field(default_factory=set)

    @cached_property
    def by_place(self) -> dict[tuple[int, int, int], list[FinishedRun]]:
        """Finished runs by the number of left-out environments, one of these (or any if none is), and the trial."""
        runs = defaultdict(list)
        for run in self.runs:
            for env in run.key.test_envs or range(run.n_environments):
                runs[len(run.key.test_envs), env, run.key.trial_seed].append(run)
        return runs

    def candidates(self, selection: str, env: int, trial: int) -> list[Choice]:
        """The possible choices for an environment in a trial."""
        none, singles, pairs = (self.by_place.get((n, env, trial), []) for n in (0, 1, 2))
        return METHODS[selection](none or singles, pairs, env)

    @cached_property
    def left_out(self) -> tuple[Counter[frozenset[int]], Counter[frozenset[int]]]:
        """The number of runs by left-out environments: of finished runs, and of all known ones."""
        done = Counter(frozenset(run.key.test_envs) for run in self.runs)
        return done, Counter(frozenset(key.test_envs) for key in self.planned)

    @cached_property
    def seeds(self) -> str:
        """FIXED if the rows of the search have the same hyper-parameters in all trials, else REDRAWN; "" if unknown.

        Several rows of runs without recorded hyper-parameters count as REDRAWN.
        """
        rows: dict[int, dict[int, dict[str, Any]]] = defaultdict(dict)
        for run in self.runs:
            if run.args.get("fixed_hparams"):
                return FIXED
            rows[run.key.hparams_seed][run.key.trial_seed] = run.hparams
        drawn = {seed: row for seed, row in rows.items() if seed}  # row 0 has the defaults in every trial
        found = [list(row.values()) for row in (drawn or rows).values()]
        if max(map(len, found), default=0) < 2:
            return ""
        if drawn and not all(map(all, found)):
            return REDRAWN
        return FIXED if all(hparams == row[0] for row in found for hparams in row) else REDRAWN

    def counts(self, envs: Iterable[int], others: Sequence[int], n_trials: int) -> tuple[int, int]:
        """The numbers of finished and of expected runs behind the columns of some environments.

        Each of these environments that some run leaves out is expected alone, and with each of `others`, in the whole
        grid of trials and rows of the search: DomainBed's folders show only the runs that have begun. A run that leaves
        none out stands behind all columns.
        """
        done, planned = self.left_out
        alone = [env for env in envs if frozenset([env]) in planned]
        wanted = {frozenset((env, other)) for env in alone for other in (env, *others)}
        wanted |= {frozenset[int]()} & planned.keys()
        n_rows = len({key.hparams_seed for key in self.planned})
        return sum(done[envs] for envs in wanted), len(wanted) * n_trials * n_rows

    def missing(self, env: int, others: Sequence[int], trials: tuple[int, int]) -> str:
        """What is missing in the cell of an environment, or ""; `trials` are those with a choice, and all."""
        counts = self.counts([env], others, trials[1])
        if not counts[1]:
            return "not run"
        done, planned = (sum(n for envs, n in of.items() if len(envs) == 2 and env in envs) for of in self.left_out)
        if others and not done:
            return f"needs pair runs: 0 of {planned} done" if planned else "needs pair runs (--pairs)"
        for (done, expected), what in ((trials, "trials"), (counts, "runs")):
            if done < expected:
                return f"{done} of {expected} {what}"
        return ""


def _groups(collected: Collected) -> dict[Setting, dict[RowKey, Group]]:
    """Runs by setting and row; a planned run gets the setting of finished runs with the same arguments."""
    groups: dict[Setting, dict[RowKey, Group]] = defaultdict(lambda: defaultdict(Group))
    settings: dict[Setting, dict[str, Setting]] = defaultdict(dict)
    for (setting, row, key), run in collected.runs.items():
        groups[setting][row].runs.append(run)
        groups[setting][row].planned.add(key)
        if collected.planned:
            settings[planned_setting(key.dataset, run.args)][key.algorithm] = setting
    for args in collected.planned:
        key = RunKey.from_args(args)
        plain = planned_setting(key.dataset, args)
        known = settings[plain]
        setting = known.get(key.algorithm) or next(iter(known.values()), plain)
        groups[setting][RowKey(key.algorithm, given_hparams(args).algorithm)].planned.add(key)
    return groups


def _section(
    selection: str, setting: Setting, groups: Mapping[RowKey, Group], ddof: int, thresholds: shots.Thresholds
) -> Section:
    runs = [run for group in groups.values() for run in group.runs]
    environments, shot_columns = environment_names(setting.dataset, runs), shots.columns_of(runs, thresholds)
    trials = sorted({key.trial_seed for group in groups.values() for key in group.planned})
    others = range(len(environments)) if selection == LEAVE_ONE_DOMAIN_OUT else ()
    rows = []
    for key, label in labels(groups).items():
        group = groups[key]
        candidates: dict[Unit, Sequence[Choice]] = {}
        cells, macro, chosen_of = {}, [], []
        for env, name in enumerate(environments):
            own = {trial: group.candidates(selection, env, trial) for trial in trials}
            candidates |= {Unit(name, name, trial): choices for trial, choices in own.items()}
            chosen = best_by_trial(own, fixed=group.seeds == FIXED)
            chosen_of.append(chosen)
            counts = group.counts([env], others, len(trials))
            missing = group.missing(env, others, (len(chosen), len(trials)))
            cells[name] = of_trials(chosen, lambda choice: choice.accuracy, missing, counts, ddof)
            macro.append(of_trials(chosen, lambda choice: choice.macro, missing, counts, ddof))
        columns = list(cells.values())
        derived = average(columns, ddof), worst(columns, ddof), average(macro, ddof)
        # A pair run belongs to two columns.
        done, expected = group.counts(range(len(environments)), others, len(trials))
        over = dict(zip(DERIVED, derived, strict=True))
        over |= shots.shot_cells(chosen_of, shot_columns, thresholds, over[AVERAGE].missing, ddof)
        cells |= {name: dataclasses.replace(cell, done=done, expected=expected) for name, cell in over.items()}
        rows.append(Row(key, label, cells, candidates, group.seeds, thresholds=thresholds))
    return Section(selection, setting, (*environments, *DERIVED, *shot_columns), tuple(rows))


def _average(setting: Setting, sections: Sequence[Section], ddof: int) -> Section:
    """The section with a column for each dataset: its average over environments."""
    rows: dict[RowKey, dict[str, Row]] = defaultdict(dict)
    for section in sections:
        for row in section.rows:
            rows[row.key][section.dataset] = row
    datasets = [section.dataset for section in sections]
    derived = *DERIVED, *(name for name in shots.COLUMNS if all(name in section.columns for section in sections))
    not_run = Cell(missing="not run")
    found = []
    for key, label in labels(rows).items():
        own = rows[key]
        parts = {name: [own[d].cells[name] if d in own else not_run for d in datasets] for name in derived}
        cells = dict(zip(datasets, parts[AVERAGE], strict=True))
        cells |= {name: average(part, ddof) for name, part in parts.items()}
        candidates = {
            unit._replace(column=dataset): choices
            for dataset, row in own.items()
            for unit, choices in row.candidates.items()
        }
        modes = {row.seeds for row in own.values()}
        seeds = REDRAWN if REDRAWN in modes else FIXED if FIXED in modes else ""
        found.append(Row(key, label, cells, candidates, seeds))
    return Section(sections[0].selection, setting, (*datasets, *derived), tuple(found))
