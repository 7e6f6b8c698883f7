"""What BatchFormer changed: each X_BatchFormer against its X, trial by trial."""

from __future__ import annotations

from collections.abc import Iterable

from dg_batchformer.registry import split_name
from dg_batchformer.selection.table import Cell, Section


def base_of(algorithm: str, among: Iterable[str]) -> str | None:
    """Which of some algorithms is this one without BatchFormer, however its name is spelled."""
    objective, modifiers = split_name(algorithm)
    if "BatchFormer" not in modifiers:
        return None
    wanted = objective, set(modifiers) - {"BatchFormer"}
    for name in among:
        other, its_modifiers = split_name(name)
        if (other, set(its_modifiers)) == wanted:
            return name
    return None


def differences(section: Section) -> dict[str, tuple[str, dict[str, Cell]]]:
    """For each variant of a section its base, and a row of its accuracy less the base's.

    Over the trials that both have, since these share splits and hyper-parameters.
    """
    rows = {}
    for algorithm, cells in section.rows.items():
        base = base_of(algorithm, section.rows)
        if base:
            of_base = section.rows[base]
            rows[algorithm] = base, {column: _difference(cell, of_base[column]) for column, cell in cells.items()}
    return rows


def _difference(cell: Cell, base: Cell) -> Cell:
    shared = sorted(cell.values.keys() & base.values.keys())
    values = {trial: cell.values[trial] - base.values[trial] for trial in shared}
    most = max(cell.n, base.n)
    if len(values) < most:
        return Cell(values, f"{len(values)} of {most} trials")
    return Cell(values, cell.missing or base.missing)
