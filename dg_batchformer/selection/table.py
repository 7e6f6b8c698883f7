"""The selection table: for each method and setting a section, in it a cell for each algorithm and environment."""

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from dg_batchformer.selection import Collected, measures, shots
from dg_batchformer.selection.cells import Cell, average, of_trials, worst
from dg_batchformer.selection.groups import FIXED, REDRAWN, Group, groups_of, left_out_sets
from dg_batchformer.selection.methods import LEAVE_ONE_DOMAIN_OUT, METHODS, NEED_LEFT_OUT, Choice, best_by_trial
from dg_batchformer.selection.settings import RowKey, Setting, environment_names, labels

AVERAGE, WORST, MACRO = "Avg", "Worst", "Macro"
DERIVED = (AVERAGE, WORST, MACRO)
"""Columns over environments: the mean, the worst environment, and the mean of class-averaged accuracies."""

OVER = (*DERIVED, *shots.COLUMNS, *measures.COLUMNS)
"""All columns over environments."""


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
    """One table: a row for each algorithm, a column for each environment, left-out set, or dataset (setting "Avg")."""

    selection: str
    setting: Setting
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    is_of_sets: bool = False

    @property
    def dataset(self) -> str:
        return self.setting.dataset

    @property
    def is_over_datasets(self) -> bool:
        return self.dataset == AVERAGE

    @property
    def own_columns(self) -> tuple[str, ...]:
        """The columns of single environments or datasets."""
        return tuple(column for column in self.columns if column not in OVER)

    @property
    def shots(self) -> tuple[str, ...]:
        """The columns of shots; runs on a long tail have them."""
        return tuple(column for column in self.columns if column in shots.COLUMNS)

    @property
    def measures(self) -> tuple[str, ...]:
        """The columns that were asked for, in which lower is better."""
        return tuple(column for column in self.columns if column in measures.COLUMNS)

    @property
    def cells(self) -> Iterator[Cell]:
        return (cell for row in self.rows for cell in row.cells.values())


def build(
    collected: Collected,
    ddof: int = 0,
    selections: Iterable[str] = tuple(METHODS),
    thresholds: shots.Thresholds | None = None,
    columns: Sequence[str] = (),
) -> list[Section]:
    """All tables, by selection method and setting; averages over datasets come last.

    `ddof` is for the standard errors: 0 as in DomainBed, or 1. `thresholds` divide classes by their training images
    (None: those of the dataset). `columns` are additional ones of `measures.COLUMNS`.
    """
    groups = groups_of(collected)
    sections = []
    for selection in selections:
        own = [
            _section(selection, setting, groups[setting], ddof, thresholds or shots.usual(setting.dataset), columns)
            for setting in sorted(groups)
            if setting.leaves_out or selection not in NEED_LEFT_OUT
            if selection != LEAVE_ONE_DOMAIN_OUT or not left_out_sets(groups[setting])
        ]
        alike: dict[Setting, list[Section]] = defaultdict(list)
        for section in own:
            alike[section.setting._replace(dataset=AVERAGE)].append(section)
        sections += own + [_average(setting, parts, ddof) for setting, parts in alike.items() if len(parts) > 1]
    return sections


def _section(
    selection: str,
    setting: Setting,
    groups: Mapping[RowKey, Group],
    ddof: int,
    thresholds: shots.Thresholds,
    asked: Sequence[str],
) -> Section:
    runs = [run for group in groups.values() for run in group.runs]
    environments, shot_columns = environment_names(setting.dataset, runs), shots.columns_of(runs, thresholds)
    sets = left_out_sets(groups)
    places = {"+".join(environments[i] for i in envs): envs for envs in sets} if environments else {}
    places = places or {name: (i,) for i, name in enumerate(environments)}
    trials = sorted({key.trial_seed for group in groups.values() for key in group.planned})
    others = range(len(environments)) if selection == LEAVE_ONE_DOMAIN_OUT else ()
    averaged: dict[str, Callable[[Choice], float]] = {MACRO: lambda choice: choice.macro}
    averaged |= {name: functools.partial(measures.value, column=name) for name in asked}
    rows = []
    for key, label in labels(groups).items():
        group = groups[key]
        candidates: dict[Unit, Sequence[Choice]] = {}
        cells, chosen_of = {}, []
        over_of: dict[str, list[Cell]] = {column: [] for column in averaged}
        for name, envs in places.items():
            own = {trial: group.candidates(selection, envs, trial) for trial in trials}
            candidates |= {Unit(name, name, trial): choices for trial, choices in own.items()}
            chosen = best_by_trial(own, fixed=group.seeds == FIXED)
            chosen_of.append(chosen)
            counts = group.counts([envs], others, len(trials))
            missing = group.missing(envs, others, (len(chosen), len(trials)))
            cells[name] = of_trials(chosen, lambda choice: choice.accuracy, missing, counts, ddof)
            for column, value in averaged.items():
                over_of[column].append(of_trials(chosen, value, missing, counts, ddof))
        columns = list(cells.values())
        # A pair run belongs to two columns.
        done, expected = group.counts(places.values(), others, len(trials))
        over = {AVERAGE: average(columns, ddof), WORST: worst(columns, ddof)}
        over |= {column: average(own, ddof) for column, own in over_of.items()}
        over |= shots.shot_cells(chosen_of, shot_columns, thresholds, over[AVERAGE].missing, ddof)
        cells |= {name: dataclasses.replace(cell, done=done, expected=expected) for name, cell in over.items()}
        rows.append(Row(key, label, cells, candidates, group.seeds, thresholds=thresholds))
    return Section(selection, setting, (*places, *DERIVED, *shot_columns, *asked), tuple(rows), bool(sets))


def _average(setting: Setting, sections: Sequence[Section], ddof: int) -> Section:
    """The section with a column for each dataset: its average over environments."""
    rows: dict[RowKey, dict[str, Row]] = defaultdict(dict)
    for section in sections:
        for row in section.rows:
            rows[row.key][section.dataset] = row
    datasets = [section.dataset for section in sections]
    derived = [name for name in OVER if all(name in section.columns for section in sections)]
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
    is_of_sets = any(section.is_of_sets for section in sections)
    return Section(sections[0].selection, setting, (*datasets, *derived), tuple(found), is_of_sets)
