"""All that is published of some runs: the tables, paired differences, the edges of searches, and what is amiss."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from dg_batchformer.runs.records import Problem
from dg_batchformer.selection.cells import Cell
from dg_batchformer.selection.collect import Collected
from dg_batchformer.selection.compare import Comparison, compare
from dg_batchformer.selection.given import given_in_words
from dg_batchformer.selection.methods import METHODS, ORACLE, TITLES
from dg_batchformer.selection.search import Edge, edges
from dg_batchformer.selection.settings import Setting
from dg_batchformer.selection.table import AVERAGE, FIXED, REDRAWN, Row, Section, build

NEVER_LEFT_OUT = "algorithms that never leave some environments out"
MIXED_VERSIONS = "tables of runs that different versions made"

SEEDS = {
    REDRAWN: "hyper-parameters redrawn per trial (DomainBed's way), so the error includes the search",
    FIXED: "hyper-parameters fixed over trials, so the error is that of splits and seeds",
}


@dataclass(frozen=True)
class Result:
    """A table, and what is told of its rows, found when first asked for: not every format tells it."""

    section: Section

    @cached_property
    def comparisons(self) -> Sequence[Comparison]:
        """What each modifier and given hyper-parameter changed; nobody should conclude anything from an oracle."""
        return [] if self.section.selection == ORACLE else compare(self.section)

    @cached_property
    def edges(self) -> Mapping[str, Sequence[Edge]]:
        """By row's label the edges chosen suspiciously."""
        if self.section.is_over_datasets:
            return {}
        suspicious = {row.label: [edge for edge in edges(row) if edge.is_suspicious] for row in self.section.rows}
        return {label: own for label, own in suspicious.items() if own}

    @property
    def title(self) -> str:
        """What the table shows, and by which method it chose."""
        dataset = self.section.dataset
        what = "averages over environments" if self.section.is_over_datasets else dataset
        return f"{what}, model selection: {TITLES[self.section.selection]}"

    @property
    def caption(self) -> str:
        """What was held fixed, how many trials there are, and what their error means."""
        setting, cells = self.section.setting, list(all_cells(self.section))
        parts = [f"protocol {setting.protocol}", f"backbone {setting.backbone}"]
        parts += [f"{name} {value}" for name, value in setting.others]
        given = [self.given] if self.given else []
        return "; ".join([", ".join(parts), *given, *_trials(cells), *_seeds(self.section.rows), *_runs(self.section)])

    @property
    def given(self) -> str:
        """The hyper-parameters that all runs, or all of an algorithm, were given: no row is labelled by them."""
        return given_in_words([row.key for row in self.section.rows if not row.source])

    @property
    def lacking(self) -> str | None:
        """What the table lacks as a whole, where none of its cells has a number."""
        if any(cell.mean is not None for cell in all_cells(self.section)):
            return None
        own = self.section.own_columns
        reasons = [row.cells[column].missing for row in self.section.rows for column in own]
        return "no number: " + "; ".join(dict.fromkeys(reason or "no run" for reason in reasons or ["no run is done"]))


@dataclass(frozen=True)
class Report:
    """The results of some folders, what of them was not counted, and why some of them are not in one table."""

    title: str
    folders: Sequence[str]
    n_runs: int
    results: Sequence[Result]
    problems: Sequence[Problem]
    apart: Sequence[str]
    ddof: int = 0


def report(collected: Collected, ddof: int = 0, selections: Iterable[str] = tuple(METHODS)) -> Report:
    """The report of collected runs under some selection methods."""
    sections = build(collected, ddof, selections)
    problems = [*collected.problems, *_never_left_out(sections), *_mixed_versions(collected)]
    results = [Result(section) for section in sections]
    n_runs = len(collected.runs)
    return Report("Selection table", collected.folders, n_runs, results, problems, apart(sections), ddof)


def apart(sections: Sequence[Section]) -> list[str]:
    """Why runs of one dataset are in several tables."""
    settings: dict[str, list[Setting]] = defaultdict(list)
    for section in sections:
        if not section.is_over_datasets and section.setting not in settings[section.dataset]:
            settings[section.dataset].append(section.setting)
    return [
        f"{dataset} has tables that are not to be compared: {'; '.join(first.differences(other))}"
        for dataset, (first, *others) in settings.items()
        for other in others
    ]


def all_cells(section: Section) -> Iterable[Cell]:
    """The cells of a section, row by row."""
    return (cell for row in section.rows for cell in row.cells.values())


def _trials(cells: Sequence[Cell]) -> list[str]:
    counts = {cell.n for cell in cells if cell.n}
    if counts == {1}:
        return ["1 trial, so no standard error"]
    fewest, most = min(counts, default=0), max(counts, default=0)
    return [f"{most} trials" if fewest == most else f"{fewest} to {most} trials"] if counts else []


def _seeds(rows: Sequence[Row]) -> list[str]:
    by_mode = {mode: [row.label for row in rows if row.seeds == mode] for mode in SEEDS}
    found = {mode: labels for mode, labels in by_mode.items() if labels}
    if len(found) < 2:
        return [SEEDS[mode] for mode in found]
    return [f"{SEEDS[mode]} ({', '.join(labels)})" for mode, labels in found.items()]


def _runs(section: Section) -> list[str]:
    own = [row.cells[AVERAGE] for row in section.rows]
    done, expected = sum(cell.done for cell in own), sum(cell.expected for cell in own)
    if not expected:
        return []
    return [f"all {expected} runs done" if done == expected else f"{done} of {expected} runs done"]


def _never_left_out(sections: Sequence[Section]) -> list[Problem]:
    first = sections[0].selection if sections else ""
    return [
        Problem(NEVER_LEFT_OUT, f"{row.label} on {section.setting}: {', '.join(columns)}")
        for section in sections
        if section.selection == first and not section.is_over_datasets
        for row in section.rows
        if (columns := [column for column in section.own_columns if row.cells[column].missing == "not run"])
    ]


def _mixed_versions(collected: Collected) -> list[Problem]:
    """Tables whose runs were not made by the same versions of the packages that change results."""
    versions: dict[Setting, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for identity, run in collected.runs.items():
        for package, version in (run.made.get("versions") or {}).items():
            versions[identity.setting][package].add(str(version))
    return [
        Problem(MIXED_VERSIONS, f"{setting}: {', '.join(mixed)}")
        for setting, packages in versions.items()
        if (mixed := [f"{name} {' and '.join(sorted(own))}" for name, own in sorted(packages.items()) if len(own) > 1])
    ]
