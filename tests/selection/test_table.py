"""The table on sweeps made by hand, and against the arithmetic written out anew on a random one."""

import itertools

import numpy as np
import pytest
from helpers import args, record, write_run

from dg_batchformer.selection import render
from dg_batchformer.selection.runs import collect
from dg_batchformer.selection.table import AVERAGE, Cell, average, build, entries

ENVIRONMENTS = ["A", "C", "P", "S"]


def run_of(folder, env, accuracy, *, algorithm="ERM", dataset="PACS", trial=0, hparams_seed=0, done=True):
    """A run of one checkpoint that leaves `env` out and gets `accuracy` on it."""
    of = args([env], algorithm, dataset, trial, hparams_seed)
    ins = [accuracy if i == env else 0.9 for i in range(4)]
    name = "-".join(map(str, (dataset, algorithm, env, trial, hparams_seed)))
    write_run(folder / name, [record(300, ins, [0.5] * 4, of)], done=done)


def section(folder, selection="training-domain", dataset="PACS"):
    return next(s for s in build(collect(folder)) if (s.selection, s.dataset) == (selection, dataset))


def test_mean_and_standard_error_over_trials_and_environments(tmp_path):
    accuracies = np.array([[0.8, 0.7, 0.9, 0.6], [0.82, 0.72, 0.94, 0.66], [0.81, 0.71, 0.95, 0.6]])
    for (trial, env), accuracy in np.ndenumerate(accuracies):
        run_of(tmp_path, env, accuracy, trial=trial)
    cells = section(tmp_path).rows["ERM"]
    assert list(cells) == [*ENVIRONMENTS, AVERAGE]
    for env, name in enumerate(ENVIRONMENTS):
        assert cells[name].mean == pytest.approx(100 * accuracies[:, env].mean())
        # DomainBed's: np.std of the values divided by the root of their number, ddof 0.
        assert cells[name].stderr == pytest.approx(100 * accuracies[:, env].std(ddof=0) / np.sqrt(3))
        assert (cells[name].n, cells[name].missing) == (3, "")
    assert cells[AVERAGE].mean == pytest.approx(100 * accuracies.mean())
    assert cells[AVERAGE].stderr == pytest.approx(100 * accuracies.mean(1).std() / np.sqrt(3))


def test_what_is_missing_is_said(tmp_path):
    for trial, env in itertools.product(range(3), range(4)):
        run_of(tmp_path, env, 0.5, trial=trial, done=(trial, env) != (2, 1))
        if env != 3:
            run_of(tmp_path, env, 0.5, trial=trial, algorithm="CORAL")
    rows = section(tmp_path).rows
    assert (rows["ERM"]["C"].n, rows["ERM"]["C"].missing) == (2, "2 of 3 trials")
    assert rows["ERM"]["A"].missing == ""
    assert (rows["ERM"][AVERAGE].n, rows["ERM"][AVERAGE].missing) == (2, "2 of 3 trials")
    assert (rows["CORAL"]["S"].n, rows["CORAL"]["S"].missing) == (0, "not run")
    assert (rows["CORAL"][AVERAGE].n, rows["CORAL"][AVERAGE].missing) == (0, "3 of 4 columns")
    leave_one_out = section(tmp_path, "leave-one-domain-out").rows["ERM"]
    assert leave_one_out["A"].missing == "needs pair runs (--pairs)"


def test_a_search_with_runs_missing_says_so(tmp_path):
    for hparams_seed, env in itertools.product(range(3), range(4)):
        run_of(tmp_path, env, 0.5, hparams_seed=hparams_seed, done=(hparams_seed, env) != (1, 2))
    cells = section(tmp_path).rows["ERM"]
    assert (cells["P"].n, cells["P"].missing) == (1, "2 of 3 runs")
    assert cells[AVERAGE].missing == "2 of 3 runs"


def test_a_dataset_without_a_finished_run_is_there_and_says_so(tmp_path):
    run_of(tmp_path, 0, 0.5)
    run_of(tmp_path, 0, 0.5, dataset="VLCS", done=False)
    cells = section(tmp_path, dataset="VLCS").rows["ERM"]
    assert (cells["C"].n, cells["C"].missing) == (0, "0 of 1 trials")


def test_averages_over_datasets(tmp_path):
    for env in range(4):
        run_of(tmp_path, env, 0.6)
        run_of(tmp_path, env, 0.8, dataset="VLCS")
        run_of(tmp_path, env, 0.7, algorithm="CORAL")
    averages = section(tmp_path, dataset=AVERAGE)
    assert averages.columns == ("PACS", "VLCS", AVERAGE)
    assert averages.rows["ERM"][AVERAGE].mean == pytest.approx(70)
    assert averages.rows["CORAL"]["VLCS"].missing == "not run"
    assert averages.rows["CORAL"][AVERAGE].n == 0


def test_average_is_of_means_and_its_error_of_the_trials_that_all_columns_have():
    cell = average([Cell({0: 0.10, 1: 0.23, 2: 0.30}), Cell({0: 0.30, 2: 0.50})])
    assert cell.values == {0: pytest.approx(0.2), 2: pytest.approx(0.4)}
    assert cell.mean == pytest.approx((21 + 40) / 2)
    assert cell.stderr == pytest.approx(10 / 2**0.5)
    assert cell.missing == "2 of 3 trials"


def test_entries_are_the_cells_with_a_number(tmp_path):
    for env in range(3):
        run_of(tmp_path, env, 0.25)
    flat = entries(build(collect(tmp_path)))
    assert all(
        list(entry) == ["selection", "protocol", "dataset", "algorithm", "environment", "mean", "stderr", "n"]
        for entry in flat
    )
    chosen = [(e["selection"], e["environment"], e["mean"], e["stderr"], e["n"]) for e in flat]
    assert chosen == [(s, name, 25.0, 0.0, 1) for s in ("training-domain", "oracle") for name in "ACP"]


def reference(runs, selection, algorithm, env, trial):
    """DomainBed's choice, written out anew over plain records by (test_envs, hparams_seed)."""
    best = None
    for seed in range(3):
        single = runs[algorithm, trial, (env,), seed]
        if selection == "oracle":
            last = max(single, key=lambda r: r["step"])
            options = [(last[f"env{env}_out_acc"], last[f"env{env}_in_acc"])]
        elif selection == "training-domain":
            options = [
                (np.mean([r[f"env{i}_out_acc"] for i in range(4) if i != env]), r[f"env{env}_in_acc"]) for r in single
            ]
        else:
            options = []
            for r in single:
                values = []
                for other in set(range(4)) - {env}:
                    of_pair = runs[algorithm, trial, tuple(sorted((env, other))), seed]
                    values += [p[f"env{other}_in_acc"] for p in of_pair if p["step"] == r["step"]]
                options.append((sum(values) / 3, r[f"env{env}_in_acc"]))
        option = max(options, key=lambda pair: pair[0])
        if best is None or option[0] >= best[0]:
            best = option
    return best[1]


def test_random_sweep_against_the_arithmetic_written_out_anew(tmp_path):
    random = np.random.RandomState(0)
    sets = [(i,) for i in range(4)] + list(itertools.combinations(range(4), 2))
    runs = {}
    for key in itertools.product(("ERM", "ERM_BatchFormer"), range(3), sets, range(3)):
        algorithm, trial, test_envs, seed = key
        of = args(test_envs, algorithm, "PACS", trial, seed)
        runs[key] = [record(s, random.rand(4).round(2), random.rand(4).round(2), of) for s in (0, 300, 600)]
        write_run(tmp_path / f"{len(runs)}", [dict(r) for r in runs[key]])
    for one in build(collect(tmp_path)):
        for algorithm, cells in one.rows.items():
            for env, name in enumerate(ENVIRONMENTS):
                expected = [reference(runs, one.selection, algorithm, env, trial) for trial in range(3)]
                assert list(cells[name].values.values()) == pytest.approx(expected), (one.selection, algorithm, name)
                assert cells[name].missing == ""


def test_protocols_are_never_mixed(tmp_path):
    """The same algorithm, trial and environment under two protocols: two tables, each with its own numbers."""
    for env in range(4):
        run_of(tmp_path, env, 0.5)
        of = {**args([env]), "protocol": "tllib"}
        write_run(tmp_path / f"tllib-{env}", [record(499, [0.8] * 4, [0.5] * 4, of)])
    sections = [one for one in build(collect(tmp_path)) if one.selection == "oracle"]
    found = {one.protocol: (one.rows["ERM"][AVERAGE].mean, one.rows["ERM"][AVERAGE].n) for one in sections}
    assert found == {"domainbed": (pytest.approx(50), 1), "tllib": (pytest.approx(80), 1)}
    titles = [render.title(one) for one in sections]
    assert titles[0].startswith("PACS, model selection")
    assert titles[1].startswith("PACS, protocol tllib, model selection")
    assert "all images of the environment left out" in render.legend(sections)
    assert "all images" not in render.legend(sections[:1])
    assert [entry["protocol"] for entry in entries(sections)] == ["domainbed"] * 5 + ["tllib"] * 5
