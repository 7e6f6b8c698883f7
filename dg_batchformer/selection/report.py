"""The report of runs: tables, paired differences, edges of searches, problems, and the runs behind a cell."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dg_batchformer.errors import InputError, unknown
from dg_batchformer.registry import split_name
from dg_batchformer.runs.arguments import command_line
from dg_batchformer.runs.records import Problem
from dg_batchformer.selection import Collected
from dg_batchformer.selection.compare import Comparison, compare
from dg_batchformer.selection.edges import Edge, edges
from dg_batchformer.selection.groups import FIXED, REDRAWN
from dg_batchformer.selection.inference import USUAL, Rules
from dg_batchformer.selection.methods import METHODS, ORACLE, TITLES, FinishedRun
from dg_batchformer.selection.settings import Setting, given_in_words
from dg_batchformer.selection.shots import Thresholds
from dg_batchformer.selection.table import AVERAGE, Row, Section, build

NEVER_LEFT_OUT = "algorithms without runs for some environments"
BEFORE_PENALTY = "checkpoints before the start of a penalty"
MIXED_VERSIONS = "tables with runs of different package versions"

SEEDS = {
    REDRAWN: "hyper-parameters redrawn per trial (DomainBed's way), so the error includes the search",
    FIXED: "hyper-parameters fixed over trials, so the error is that of splits and seeds",
}


@dataclass(frozen=True)
class Result:
    """A table with its comparisons and edges; these are computed on first use, since not every format shows them."""

    section: Section
    rules: Rules = USUAL

    @cached_property
    def comparisons(self) -> Sequence[Comparison]:
        """The paired differences of each modifier and given hyper-parameter; none for the oracle."""
        return [] if self.section.selection == ORACLE else compare(self.section, self.rules)

    @cached_property
    def edges(self) -> Mapping[str, Sequence[Edge]]:
        """The suspicious edges by the label of their row."""
        rows = () if self.section.is_over_datasets else self.section.rows
        return {row.label: own for row in rows if (own := [edge for edge in edges(row) if edge.is_suspicious])}

    @property
    def title(self) -> str:
        """The dataset or average that the table shows, and its selection method."""
        what = "averages over environments" if self.section.is_over_datasets else self.section.dataset
        return f"{what}, model selection: {TITLES[self.section.selection]}"

    @property
    def caption(self) -> str:
        """The setting, the number of trials, the meaning of the error, and the number of finished runs."""
        section = self.section
        given = given_in_words([row.key for row in section.rows if not row.source])
        counts = {cell.n for cell in section.cells if cell.n}
        trials = " to ".join(map(str, sorted({min(counts), max(counts)}))) if counts else ""
        if trials:
            trials += " trial, so no standard error" if trials == "1" else " trials"
        own = [row.cells[AVERAGE] for row in section.rows]
        done, expected = sum(cell.done for cell in own), sum(cell.expected for cell in own)
        runs = f"{'all' if done == expected else f'{done} of'} {expected} runs done" if expected else ""
        rope = f"differences of less than {self.rules.rope:g} points count as none" if self.comparisons else ""
        return "; ".join(
            part for part in (section.setting.words, given, trials, _seeds(section.rows), runs, rope) if part
        )

    @property
    def lacking(self) -> str | None:
        """The reason why no cell of the table has a number, or None if some cell has one."""
        if any(cell.mean is not None for cell in self.section.cells):
            return None
        reasons = [row.cells[column].missing for row in self.section.rows for column in self.section.own_columns]
        return "no number: " + "; ".join(dict.fromkeys(reason or "no run" for reason in reasons or ["no run is done"]))

    def name_of(self, row: Row, column: str) -> str:
        """The name of a cell: DATASET/ALGORITHM/COLUMN."""
        return f"{self.section.dataset}/{row.label}/{column}"


def _seeds(rows: Sequence[Row]) -> str:
    by_mode = {mode: [row.label for row in rows if row.seeds == mode] for mode in SEEDS}
    found = {mode: labels for mode, labels in by_mode.items() if labels}
    return "; ".join(SEEDS[mode] + f" ({', '.join(own)})" * (len(found) > 1) for mode, own in found.items())


@dataclass(frozen=True)
class Report:
    """The results and problems of some folders."""

    title: str
    folders: Sequence[str]
    n_runs: int
    results: Sequence[Result]
    problems: Sequence[Problem]
    ddof: int = 0
    rules: Rules = USUAL

    @property
    def apart(self) -> list[str]:
        """The reasons why runs of one dataset are in several tables."""
        settings: dict[str, list[Setting]] = defaultdict(list)
        for section in (result.section for result in self.results):
            if not section.is_over_datasets and section.setting not in settings[section.dataset]:
                settings[section.dataset].append(section.setting)
        return [
            f"{dataset} has tables that cannot be compared: {'; '.join(first.differences(other))}"
            for dataset, (first, *others) in settings.items()
            for other in others
        ]


def report(
    collected: Collected,
    ddof: int = 0,
    selections: Iterable[str] = tuple(METHODS),
    thresholds: Thresholds | None = None,
    rules: Rules = USUAL,
    columns: Sequence[str] = (),
) -> Report:
    """The report of collected runs under some selection methods.

    `thresholds` divide classes by training images; `rules` are those of the comparisons; `columns` are additional ones.
    """
    sections = build(collected, ddof, selections, thresholds, columns)
    problems = [
        *collected.problems,
        *_never_left_out(sections),
        *_before_penalty(sections),
        *_mixed_versions(collected),
    ]
    results = [Result(section, rules) for section in sections]
    return Report("Selection table", collected.folders, len(collected.runs), results, problems, ddof, rules)


def power(report: Report, effect: float) -> list[str]:
    """For each comparison: what its trials can find, and how many would find a difference of `effect` points."""
    lines = []
    for result in report.results:
        if result.comparisons:
            lines.append(f"{result.section.setting}")
        for one in result.comparisons:
            own = f"  {one.title}: "
            if one.detectable is None:
                lines.append(f"{own}unknown with {one.overall.n_trials} trial(s): {one.verdict}")
                continue
            n = one.trials_needed(effect)
            needed = f"{n} trials find" if n else "more than 1,000 trials are needed for"
            lines.append(f"{own}{one.overall.n_trials} trials find {one.detectable:.1f} points; {needed} {effect:g}")
    return lines


def _never_left_out(sections: Sequence[Section]) -> list[Problem]:
    return [
        Problem(NEVER_LEFT_OUT, f"{row.label} on {section.setting}: {', '.join(columns)}")
        for section in sections
        if section.selection == sections[0].selection and not section.is_over_datasets
        for row in section.rows
        if (columns := [column for column in section.own_columns if row.cells[column].missing == "not run"])
    ]


def _before_penalty(sections: Sequence[Section]) -> list[Problem]:
    """Rows of which most chosen checkpoints are before the step at which a penalty gets its weight."""
    found = []
    for section in sections:
        for row in () if section.is_over_datasets else section.rows:
            choices = [choice for column in section.own_columns for choice in row.cells[column].choices]
            starts = [(choice, start) for choice in choices for start in _penalty_starts(choice.run)]
            early = [(choice.step, start) for choice, start in starts if choice.step < start]
            if 2 * len(early) > len(starts):
                text = f"{row.label} on {section.setting}, {section.selection}: {len(early)} of {len(starts)} chosen "
                found.append(
                    Problem(BEFORE_PENALTY, f"{text}checkpoints are before step {min(start for _, start in early)}")
                )
    return found


def _penalty_starts(run: FinishedRun) -> list[int]:
    """The steps at which penalties of a run's own algorithm get their weight."""
    objective = split_name(run.key.algorithm).objective.lower()
    start = run.hparams.get(f"{objective}_penalty_anneal_iters")
    return [start] if isinstance(start, int) else []


def _mixed_versions(collected: Collected) -> list[Problem]:
    """Tables with runs of different versions of the packages that change results."""
    versions: dict[Setting, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for identity, run in collected.runs.items():
        for package, version in (run.made.get("versions") or {}).items():
            versions[identity.setting][package].add(str(version))
    return [
        Problem(MIXED_VERSIONS, f"{setting}: {', '.join(mixed)}")
        for setting, packages in versions.items()
        if (mixed := [f"{name} {' and '.join(sorted(own))}" for name, own in sorted(packages.items()) if len(own) > 1])
    ]


def command(run: FinishedRun) -> str:
    """The command that repeats a run, ours or DomainBed's, in a new folder `repeat/`."""
    program = ["python", "-m", "domainbed.scripts.train"]
    if "protocol" in run.args:
        program = ["python", "-m", "dg_batchformer", "train"]
    elif split_name(run.key.algorithm).modifiers:
        program = ["python", "-m", "dg_batchformer.domainbed", "train"]
    return command_line(program, {**run.args, "output_dir": f"repeat/{Path(run.folder).name}"})


def explain(report: Report, cell: str) -> list[str]:
    """The runs, checkpoints and commands behind the cells with a name, in all tables.

    DATASET/ALGORITHM/COLUMN also names rows whose label adds given hparams. InputError if no cell has the name.
    """
    cells = [(one, row, column) for one in report.results for row in one.section.rows for column in row.cells]
    names = [one.name_of(row, column) for one, row, column in cells]
    found = [one for one, name in zip(cells, names, strict=True) if name == cell]
    found = found or [one for one in cells if cell == f"{one[0].section.dataset}/{one[1].algorithm}/{one[2]}"]
    if not found:
        nearest = unknown("cell", cell, dict.fromkeys(names))
        raise InputError(f"--command: {nearest} (expected DATASET/ALGORITHM/COLUMN)")
    return [line for one in found for line in (*_explained(*one), "")][:-1]


def _explained(result: Result, row: Row, column: str) -> Iterator[str]:
    cell = row.cells[column]
    mean = "no number" if cell.mean is None else f"{cell.mean:.4f}"
    error = "" if cell.error is None else f", {cell.error_kind} {cell.error:.4f}"
    yield f"{result.name_of(row, column)}: {mean}{error}" + (f" ({cell.missing})" if cell.missing else "")
    yield f"  {result.title}; {result.caption}"
    yield from (f"  trial {trial}: {value:.4f}" for trial, value in cell.values.items())
    for choice in cell.choices:
        key = choice.run.key
        yield (
            f"  trial {key.trial_seed}, hparams_seed {key.hparams_seed}, test_envs {list(key.test_envs)}, "
            f"step {choice.step}: accuracy {100 * choice.accuracy:.4f}, validation {100 * choice.validation:.4f}"
        )
        yield f"    {choice.run.folder}"
        yield f"    {command(choice.run)}"
    if not cell.choices:
        yield "  a published number: no run stands behind it"
    if row.command:
        yield "  this sweep reproduces the published row:"
        yield f"    {row.command}"
