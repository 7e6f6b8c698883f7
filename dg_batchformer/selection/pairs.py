"""What BatchFormer changed: each X_BatchFormer against its X, trial by trial."""

from __future__ import annotations

from dg_batchformer.selection.table import Cell, Section


def base_of(algorithm: str) -> str | None:
    """The name of an algorithm without BatchFormer, or None where it has none."""
    parts = algorithm.split("_")
    if "BatchFormer" not in parts[1:]:
        return None
    return "_".join(part for part in parts if part != "BatchFormer")


def differences(section: Section) -> dict[str, dict[str, Cell]]:
    """A row for each pair of a section, by the name of the variant: its accuracy less that of its base.

    Over the trials that both have, since these share splits and hyper-parameters.
    """
    rows = {}
    for algorithm, cells in section.rows.items():
        base = section.rows.get(base_of(algorithm) or "")
        if base is None:
            continue
        rows[algorithm] = {column: _difference(cell, base[column]) for column, cell in cells.items()}
    return rows


def _difference(cell: Cell, base: Cell) -> Cell:
    shared = sorted(cell.values.keys() & base.values.keys())
    values = {trial: cell.values[trial] - base.values[trial] for trial in shared}
    most = max(cell.n, base.n)
    if len(values) < most:
        return Cell(values, f"{len(values)} of {most} trials")
    return Cell(values, cell.missing or base.missing)
