"""Runs of a sweep made by hand."""

import contextlib
import json
import os

import numpy as np
from factories import args, record, write_run

from dg_batchformer.selection.collect import collect
from dg_batchformer.selection.table import build


def run_of(
    folder,
    test_envs=(0,),
    accuracy=0.5,
    *,
    algorithm="ERM",
    dataset="PACS",
    trial=0,
    hparams_seed=0,
    n_environments=4,
    done=True,
    name="",
    given=(),
    **fields,
):
    """A run of one checkpoint, with `accuracy` on what it leaves out; `given` are more args, `fields` of its record."""
    test_envs = [test_envs] if isinstance(test_envs, int) else list(test_envs)
    of = {**args(test_envs, algorithm, dataset, trial, hparams_seed), **dict(given)}
    ins = [accuracy if i in test_envs else 0.9 for i in range(n_environments)]
    name = name or "-".join(map(str, (dataset, algorithm, *test_envs, f"t{trial}", f"h{hparams_seed}")))
    return write_run(folder / name, [{**record(300, ins, [0.5] * n_environments, of), **fields}], done=done)


def planned(folder, name, **of):
    """The folder of a run that has not begun."""
    (folder / name).mkdir(parents=True)
    (folder / name / "job.json").write_text(json.dumps(of))


def tables(folder, selection="training-domain", ddof=0):
    """The tables of a folder under one method."""
    return [one for one in build(collect([folder]), ddof) if one.selection == selection]


def rows(folder, selection="training-domain", dataset="PACS", ddof=0):
    """The cells of the one table of a dataset, by label and column."""
    (table,) = [one for one in tables(folder, selection, ddof) if one.dataset == dataset]
    return {row.label: row.cells for row in table.rows}


def texts(problems, kind=""):
    """What the problems, all or those of a kind, say."""
    return [problem.text for problem in problems if kind in ("", problem.kind)]


def same_run(one, other):
    """Whether two runs are the same in everything, to the bit."""
    arrays = ("steps", "inside", "out", "macro")
    plain = ("key", "folder", "shared", "own")
    return all(getattr(one, name) == getattr(other, name) for name in plain) and all(
        getattr(one, name).dtype == getattr(other, name).dtype
        and np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name == "macro")
        for name in arrays
    )


@contextlib.contextmanager
def nobody():
    """A user who owns nothing, where root, whom no mode stops, runs the tests."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
