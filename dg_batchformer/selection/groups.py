"""The runs of a table by row, and what is missing of their plan."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from dg_batchformer.runs.records import RunKey
from dg_batchformer.selection import Collected
from dg_batchformer.selection.methods import METHODS, Choice, Envs, FinishedRun
from dg_batchformer.selection.settings import RowKey, Setting, given_hparams, planned_setting

REDRAWN, FIXED = "redrawn", "fixed"


@dataclass
class Group:
    """The finished runs of a row, and the keys of all its known runs."""

    runs: list[FinishedRun] = field(default_factory=list)
    planned: set[RunKey] = field(default_factory=set)

    @cached_property
    def by_place(self) -> dict[tuple[Envs, int], list[FinishedRun]]:
        """Finished runs by left-out environments and trial."""
        runs = defaultdict(list)
        for run in self.runs:
            runs[tuple(sorted(run.key.test_envs)), run.key.trial_seed].append(run)
        return runs

    @cached_property
    def pairs(self) -> dict[tuple[int, int], list[FinishedRun]]:
        """Finished runs that leave two environments out, by each of them and trial."""
        runs = defaultdict(list)
        for run in self.runs:
            for env in run.key.test_envs if len(run.key.test_envs) == 2 else ():
                runs[env, run.key.trial_seed].append(run)
        return runs

    def candidates(self, selection: str, envs: Envs, trial: int) -> list[Choice]:
        """The possible choices for the environments of a column in a trial."""
        runs = self.by_place.get(((), trial), []) or self.by_place.get((envs, trial), [])
        return METHODS[selection](runs, self.pairs.get((envs[0], trial), []), envs)

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

    def counts(self, columns: Iterable[Envs], others: Sequence[int], n_trials: int) -> tuple[int, int]:
        """The numbers of finished and of expected runs behind some columns.

        The environments of a column that some run leaves out are expected so, and with each of `others`, in the whole
        grid of trials and rows of the search: DomainBed's folders show only the runs that have begun. A run that leaves
        none out stands behind all columns.
        """
        done, planned = self.left_out
        alone = [envs for envs in columns if frozenset(envs) in planned]
        wanted = {frozenset((*envs, other)) for envs in alone for other in (envs[0], *others)}
        wanted |= {frozenset[int]()} & planned.keys()
        n_rows = len({key.hparams_seed for key in self.planned})
        return sum(done[envs] for envs in wanted), len(wanted) * n_trials * n_rows

    def missing(self, envs: Envs, others: Sequence[int], trials: tuple[int, int]) -> str:
        """What is missing in the cell of a column, or ""; `trials` are those with a choice, and all."""
        counts = self.counts([envs], others, trials[1])
        if not counts[1]:
            return "not run"
        done, planned = (sum(n for own, n in of.items() if len(own) == 2 and envs[0] in own) for of in self.left_out)
        if others and not done:
            return f"needs pair runs: 0 of {planned} done" if planned else "needs pair runs (--pairs)"
        for (done, expected), what in ((trials, "trials"), (counts, "runs")):
            if done < expected:
                return f"{done} of {expected} {what}"
        return ""


def left_out_sets(groups: Mapping[RowKey, Group]) -> list[Envs]:
    """The sets of environments that runs leave out together, sorted; none if some run leaves out one, or none."""
    found = {tuple(sorted(envs)) for group in groups.values() for envs in group.left_out[1]}
    return sorted(found) if min(map(len, found), default=0) > 1 else []


def groups_of(collected: Collected) -> dict[Setting, dict[RowKey, Group]]:
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
