"""The table on sweeps made by hand, and against the arithmetic written out anew on a random one."""

import itertools
import json

import numpy as np
import pytest
from factories import args, planned, record, rows, run_of, sweep, tables, write_run

from dg_batchformer.selection import collect
from dg_batchformer.selection.blocks import legend
from dg_batchformer.selection.formats.csv import cells
from dg_batchformer.selection.groups import FIXED, REDRAWN
from dg_batchformer.selection.report import report
from dg_batchformer.selection.table import AVERAGE, DERIVED, MACRO, WORST, build

ENVIRONMENTS = ["A", "C", "P", "S"]


@pytest.mark.parametrize("ddof", [0, 1])
def test_mean_and_standard_error_over_trials_and_environments(tmp_path, ddof):
    accuracies = np.array([[0.8, 0.7, 0.9, 0.6], [0.82, 0.72, 0.94, 0.66], [0.81, 0.71, 0.95, 0.6]])
    for (trial, env), accuracy in np.ndenumerate(accuracies):
        run_of(tmp_path, env, accuracy, trial=trial)
    row = rows(tmp_path, ddof=ddof)["ERM"]
    assert list(row) == [*ENVIRONMENTS, *DERIVED]
    for env, name in enumerate(ENVIRONMENTS):
        assert row[name].mean == pytest.approx(100 * accuracies[:, env].mean())
        # DomainBed's: np.std of the values divided by the root of their number, ddof 0.
        assert row[name].error == pytest.approx(100 * accuracies[:, env].std(ddof=ddof) / np.sqrt(3))
        assert (row[name].n, row[name].missing) == (3, "")
    assert row[AVERAGE].mean == pytest.approx(100 * accuracies.mean())
    assert row[AVERAGE].error == pytest.approx(100 * accuracies.mean(1).std(ddof=ddof) / np.sqrt(3))
    assert row[WORST].mean == pytest.approx(100 * accuracies.min(1).mean())
    assert row[WORST].error == pytest.approx(100 * accuracies.min(1).std(ddof=ddof) / np.sqrt(3))
    assert row[WORST].values == {0: pytest.approx(60), 1: pytest.approx(66), 2: pytest.approx(60)}


def test_what_is_missing_is_said(tmp_path):
    for trial, env in itertools.product(range(3), range(4)):
        run_of(tmp_path, env, trial=trial, done=(trial, env) != (2, 1))
        if env != 3:
            run_of(tmp_path, env, trial=trial, algorithm="CORAL")
    found = rows(tmp_path)
    assert (found["ERM"]["C"].n, found["ERM"]["C"].missing) == (2, "2 of 3 trials")
    assert found["ERM"]["A"].missing == ""
    assert (found["ERM"][AVERAGE].n, found["ERM"][AVERAGE].missing) == (2, "2 of 3 trials")
    assert (found["CORAL"]["S"].n, found["CORAL"]["S"].missing) == (0, "not run")
    for column in (AVERAGE, WORST):
        assert (found["CORAL"][column].mean, found["CORAL"][column].missing) == (None, "3 of 4 columns")
    leave_one_out = rows(tmp_path, "leave-one-domain-out")["ERM"]
    assert leave_one_out["A"].missing == leave_one_out[AVERAGE].missing == "needs pair runs (--pairs)"


def test_a_search_with_runs_missing_says_so(tmp_path):
    sweep(tmp_path, hparams_seeds=range(3), done=lambda _, env, trial, seed: (seed, env) != (1, 2))
    row = rows(tmp_path)["ERM"]
    assert (row["P"].n, row["P"].missing) == (1, "2 of 3 runs")
    assert row[AVERAGE].missing == "2 of 3 runs"
    assert [(row[name].done, row[name].expected) for name in ENVIRONMENTS] == [(3, 3), (3, 3), (2, 3), (3, 3)]
    assert (row[AVERAGE].done, row[AVERAGE].expected) == (11, 12)


def test_a_search_that_has_not_begun_everywhere_is_counted_whole(tmp_path):
    """DomainBed's folders show only what has begun: the grid is that of all trials and rows of the search seen."""
    sweep(tmp_path, envs=[0], trials=range(2), hparams_seeds=range(3))
    run_of(tmp_path, 1, trial=1, hparams_seed=2)
    row = rows(tmp_path)["ERM"]
    assert (row["A"].done, row["A"].expected, row["A"].missing) == (6, 6, "")
    assert (row["C"].done, row["C"].expected, row["C"].missing) == (1, 6, "1 of 2 trials")
    assert (row["P"].done, row["P"].expected, row["P"].missing) == (0, 0, "not run")


def test_pair_runs_are_counted_once_a_row(tmp_path):
    """Each stands behind two columns, and is one run."""
    for env in range(4):
        run_of(tmp_path, env)
    for both in itertools.combinations(range(4), 2):
        run_of(tmp_path, both, done=both != (2, 3))
    row = rows(tmp_path, "leave-one-domain-out")["ERM"]
    assert [(row[name].done, row[name].expected) for name in ENVIRONMENTS] == [(4, 4), (4, 4), (3, 4), (3, 4)]
    assert (row[AVERAGE].done, row[AVERAGE].expected) == (9, 10)
    row = rows(tmp_path)["ERM"]
    assert (row[AVERAGE].done, row[AVERAGE].expected) == (4, 4)


def test_pair_runs_are_expected_with_every_other_environment(tmp_path):
    """Also with one that no run has left out yet."""
    run_of(tmp_path, 0)
    run_of(tmp_path, (0, 1))
    row = rows(tmp_path, "leave-one-domain-out")["ERM"]
    assert (row["A"].done, row["A"].expected, row["A"].missing) == (2, 4, "0 of 1 trials")


def test_pair_runs_that_are_planned_are_counted_by_environment(tmp_path):
    run_of(tmp_path, 0)
    for both in itertools.combinations(range(4), 2):
        run_of(tmp_path, both, done=False)
    row = rows(tmp_path, "leave-one-domain-out")["ERM"]
    assert row["A"].missing == "needs pair runs: 0 of 3 done"


def test_a_dataset_without_a_finished_run_is_there_and_says_so(tmp_path):
    run_of(tmp_path, 0)
    run_of(tmp_path, 0, dataset="VLCS", done=False)
    row = rows(tmp_path, dataset="VLCS")["ERM"]
    assert (row["C"].n, row["C"].missing) == (0, "0 of 1 trials")


def test_plans_alone_make_a_table_that_says_so(tmp_path):
    for trial, env in itertools.product(range(3), range(4)):
        planned(tmp_path, f"{trial}{env}", **args([env], trial=trial))
    row = rows(tmp_path)["ERM"]
    assert {row[name].missing for name in ENVIRONMENTS} == {"0 of 3 trials"}
    assert (row[AVERAGE].mean, row[AVERAGE].missing) == (None, "0 of 3 trials")
    assert (row[AVERAGE].done, row[AVERAGE].expected) == (0, 12)


def test_averages_over_datasets(tmp_path):
    sweep(tmp_path, trials=range(2), accuracy=lambda _, env, trial, seed: 0.6 + 0.1 * trial)
    sweep(tmp_path, trials=range(2), accuracy=lambda _, env, trial, seed: 0.8 - 0.01 * env, dataset="VLCS")
    sweep(tmp_path, algorithms=["CORAL"], accuracy=0.7)
    (averages,) = [one for one in tables(tmp_path) if one.is_over_datasets]
    assert averages.columns == ("PACS", "VLCS", *DERIVED)
    assert averages.own_columns == ("PACS", "VLCS")
    found = rows(tmp_path, dataset=AVERAGE)
    assert found["ERM"]["PACS"].values == {0: pytest.approx(60), 1: pytest.approx(70)}
    assert found["ERM"][AVERAGE].mean == pytest.approx((65 + 78.5) / 2)
    # The trials' averages over both datasets are 69.25 and 74.25.
    assert found["ERM"][AVERAGE].error == pytest.approx(np.std([69.25, 74.25]) / 2**0.5)
    assert found["ERM"][WORST].mean == pytest.approx((65 + 77) / 2)
    assert (found["ERM"][AVERAGE].done, found["ERM"][AVERAGE].expected) == (16, 16)
    assert found["CORAL"]["VLCS"].missing == "not run"
    assert found["CORAL"][AVERAGE].n == 0


def test_the_cells_of_all_tables_flat(tmp_path):
    for env in range(3):
        run_of(tmp_path, env, 0.25)
    chosen = [
        (cell["selection"], cell["environment"], cell["mean"], cell["error"], cell["n"])
        for cell in cells(report(collect([tmp_path])))
        if cell["mean"] is not None
    ]
    assert chosen == [(s, name, 25.0, None, 1) for s in ("training-domain", "last", "mean", "oracle") for name in "ACP"]


def test_methods_are_those_asked_for(tmp_path):
    run_of(tmp_path)
    assert [one.selection for one in build(collect([tmp_path]), selections=["oracle", "last"])] == ["oracle", "last"]
    assert build(collect([tmp_path]), selections=[]) == []


def reference(runs, selection, algorithm, env, trial):
    """DomainBed's choice, written out anew over plain records by (test_envs, hparams_seed)."""
    best = None
    for seed in range(3):
        single = runs[algorithm, trial, (env,), seed]
        last = max(single, key=lambda r: r["step"])
        if selection == "oracle":
            options = [(last[f"env{env}_out_acc"], last[f"env{env}_in_acc"])]
        elif selection == "mean":
            half = sorted(single, key=lambda r: r["step"])[len(single) // 2 :]
            validations = [r[f"env{i}_out_acc"] for r in half for i in range(4) if i != env]
            options = [(np.mean(validations), np.mean([r[f"env{env}_in_acc"] for r in half]))]
        elif selection in ("training-domain", "last"):
            options = [
                (np.mean([r[f"env{i}_out_acc"] for i in range(4) if i != env]), r[f"env{env}_in_acc"])
                for r in (single if selection == "training-domain" else [last])
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
    found = build(collect([tmp_path]))
    assert len(found) == 5
    for one in found:
        for row in one.rows:
            by_trial = []
            for env, name in enumerate(ENVIRONMENTS):
                expected = [100 * reference(runs, one.selection, row.algorithm, env, trial) for trial in range(3)]
                by_trial.append(expected)
                assert list(row.cells[name].values.values()) == pytest.approx(expected), (one.selection, name)
                assert row.cells[name].mean == pytest.approx(np.mean(expected))
                assert row.cells[name].error == pytest.approx(np.std(expected) / np.sqrt(3))
                assert row.cells[name].missing == ""
            assert row.cells[AVERAGE].mean == pytest.approx(np.mean(by_trial))
            assert row.cells[WORST].mean == pytest.approx(np.min(by_trial, axis=0).mean())


def test_protocols_are_never_mixed(tmp_path):
    """The same algorithm, trial and environment under two protocols: two tables, each with its own numbers."""
    for env in range(4):
        run_of(tmp_path, env, 0.5)
        of = {**args([env]), "protocol": "tllib"}
        write_run(tmp_path / f"tllib-{env}", [record(499, [0.8] * 4, [0.5] * 4, of)])
    made = report(collect([tmp_path]), selections=["oracle"])
    sections = [result.section for result in made.results]
    found = {one.setting.protocol: (one.rows[0].cells[AVERAGE].mean, one.rows[0].cells[AVERAGE].n) for one in sections}
    assert found == {"domainbed": (pytest.approx(50), 1), "tllib": (pytest.approx(80), 1)}
    captions = [result.caption for result in made.results]
    assert captions[0].startswith("protocol domainbed, ")
    assert captions[1].startswith("protocol tllib, ")
    assert any("all images of the left-out environment" in sentence for sentence in legend(made))
    alone = report(collect([tmp_path]), selections=[])
    assert not any("all images" in sentence for sentence in legend(alone))
    with_number = [cell["protocol"] for cell in cells(made) if cell["mean"] is not None]
    assert with_number == ["domainbed"] * 6 + ["tllib"] * 6
    (why,) = made.apart
    assert "protocol domainbed and tllib" in why


def search(folder, *, fixed, trials=range(3), skipped=(), flag=False):
    """A search of three rows; returns the accuracies and out-splits by trial, row and environment."""
    random = np.random.RandomState(1)
    accuracies, validations = random.rand(3, 3, 4), random.rand(3, 3, 4, 4)
    outs = {f"env{i}_out_acc": lambda _, env, trial, seed, i=i: validations[trial, seed, env, i] for i in range(4)}
    rows = [range(1) if (trial, 1) in skipped else range(3) for trial in trials]
    for trial, seeds in zip(trials, rows, strict=True):
        sweep(
            folder,
            trials=[trial],
            hparams_seeds=seeds,
            accuracy=lambda _, env, trial, seed: accuracies[trial, seed, env],
            hparams=lambda _, env, trial, seed: {"lr": 0.1 * seed + 0.01 * trial * (not fixed and seed > 0)},
            given={"fixed_hparams": True} if flag else {},
            **outs,
        )
    return accuracies, validations


@pytest.mark.parametrize("fixed", [True, False])
def test_a_fixed_search_is_decided_once_and_a_redrawn_one_in_each_trial(tmp_path, fixed):
    accuracies, validations = search(tmp_path, fixed=fixed)
    (table,) = tables(tmp_path)
    assert table.rows[0].seeds == (FIXED if fixed else REDRAWN)
    for env, name in enumerate(ENVIRONMENTS):
        value = np.delete(validations[:, :, env], env, axis=2).mean(axis=2)  # by trial and row
        row = [value.mean(axis=0).argmax()] * 3 if fixed else value.argmax(axis=1)
        expected = {trial: pytest.approx(100 * accuracies[trial, row[trial], env]) for trial in range(3)}
        assert table.rows[0].cells[name].values == expected


def test_the_first_row_of_a_search_tells_nothing_of_how_it_is_drawn(tmp_path):
    """It is the defaults, in every trial."""
    for_one = [(1, 1), (1, 2), (2, 1), (2, 2)]
    accuracies, validations = search(tmp_path, fixed=False, skipped=for_one)
    (table,) = tables(tmp_path)
    assert table.rows[0].seeds == ""
    best_row = np.delete(validations[0, :, 0], 0, axis=1).mean(axis=1).argmax()
    assert best_row != 0
    assert table.rows[0].cells["A"].values[0] == pytest.approx(100 * accuracies[0, best_row, 0])


def test_runs_that_say_that_their_search_is_fixed_are_believed(tmp_path):
    search(tmp_path, fixed=True, skipped=[(1, 1), (1, 2), (2, 1), (2, 2)], flag=True)
    (table,) = tables(tmp_path)
    assert table.rows[0].seeds == FIXED
    assert {choice.hparams_seed for choice in table.rows[0].cells["A"].choices} == {0}


def test_a_search_of_defaults_alone_is_fixed(tmp_path):
    for trial in range(2):
        run_of(tmp_path, trial=trial, hparams={"lr": 0.1})
    assert tables(tmp_path)[0].rows[0].seeds == FIXED


def test_runs_without_hparams_are_taken_for_a_redrawn_search(tmp_path):
    sweep(tmp_path, envs=[0], trials=range(2), hparams_seeds=range(2))
    assert tables(tmp_path)[0].rows[0].seeds == REDRAWN


def test_one_trial_does_not_tell_how_a_search_is_drawn(tmp_path):
    search(tmp_path, fixed=True, trials=[0])
    assert tables(tmp_path)[0].rows[0].seeds == ""


def test_the_mode_of_an_average_over_datasets_is_that_of_all_which_tell(tmp_path):
    for env in range(4):
        run_of(tmp_path, env, hparams={"lr": 0.1})
        run_of(tmp_path, env, dataset="VLCS", hparams={"lr": 0.1})
        run_of(tmp_path, env, dataset="VLCS", trial=1, hparams={"lr": 0.1})
    assert [(one.dataset, one.rows[0].seeds) for one in tables(tmp_path)] == [
        ("PACS", ""),
        ("VLCS", FIXED),
        (AVERAGE, FIXED),
    ]


def test_rows_of_given_hparams_are_apart_and_labelled(tmp_path):
    for number, given in enumerate(
        ("{}", '{"lr": 0.1}', '{"batch_size": 8, "lr": 0.2}', '{"lr": 0.2, "batch_size": 8}')
    ):
        for env in range(4):
            run_of(tmp_path, env, number / 10, given={"hparams": given}, name=f"{number}-{env}", trial=number % 3)
    run_of(tmp_path, algorithm="CORAL", given={"hparams": '{"lr": 0.1}'})
    found = rows(tmp_path)
    assert list(found) == ["ERM", "ERM (lr 0.1)", "ERM (batch_size 8, lr 0.2)", "CORAL"]
    assert found["ERM"]["A"].values == {0: pytest.approx(0)}
    assert found["ERM (lr 0.1)"]["A"].values == {1: pytest.approx(10)}
    assert found["ERM (batch_size 8, lr 0.2)"]["A"].values == {0: pytest.approx(30), 2: pytest.approx(20)}


def test_hparams_that_all_rows_were_given_are_in_no_label(tmp_path):
    """Rows are as many as the texts that they were given: 1 and 1.0 are two."""
    common = {"lr": 0.1, "batch_size": 8}
    run_of(tmp_path, given={"hparams": json.dumps(common)})
    run_of(tmp_path, algorithm="ERM_BatchFormer", given={"hparams": json.dumps(common)})
    for layers in (1, 1.0, "1"):
        hparams = json.dumps({"batchformer_layers": layers, **common})
        run_of(tmp_path, algorithm="ERM_BatchFormer", given={"hparams": hparams}, name=f"{layers!r}")
    assert list(rows(tmp_path)) == [
        "ERM",
        "ERM_BatchFormer",
        "ERM_BatchFormer (batchformer_layers 1)",
        'ERM_BatchFormer (batchformer_layers "1")',
        "ERM_BatchFormer (batchformer_layers 1.0)",
    ]


def test_hparams_that_sound_alike_do_not_make_labels_alike(tmp_path):
    """No hparam of ours is called so, but records say what they like."""
    texts = ['{"a": 1, "b": 2}', '{"a 1, b": 2}', "1", '{"lr": 1}']
    for text in texts:
        run_of(tmp_path, given={"hparams": text}, name=str(texts.index(text)))
    assert sorted(rows(tmp_path)) == sorted([f"ERM {texts[0]}", f"ERM {texts[1]}", "ERM (1)", "ERM (lr 1)"])


def test_rows_over_datasets_are_labelled_anew(tmp_path):
    """Two that are alone in their datasets stand together in the averages."""
    for env in range(4):
        run_of(tmp_path, env)
        run_of(tmp_path, env, dataset="VLCS", given={"hparams": '{"lr": 0.1}'})
    assert [[row.label for row in one.rows] for one in tables(tmp_path)] == [
        ["ERM"],
        ["ERM"],
        ["ERM", "ERM (lr 0.1)"],
    ]


def test_macro_accuracies_beside_plain_ones(tmp_path):
    random = np.random.RandomState(0)
    macro = random.rand(3, 4)
    for (trial, env), value in np.ndenumerate(macro):
        run_of(tmp_path, env, trial=trial, **{f"env{i}_in_macro_acc": value if i == env else 0.5 for i in range(4)})
    row = rows(tmp_path)["ERM"]
    assert row[AVERAGE].mean == pytest.approx(50)
    assert row[MACRO].mean == pytest.approx(100 * macro.mean())
    assert row[MACRO].error == pytest.approx(100 * macro.mean(axis=1).std() / np.sqrt(3))
    assert (row[MACRO].done, row[MACRO].expected) == (12, 12)


def test_older_runs_without_macro_accuracies_stand_beside_newer_ones(tmp_path):
    macro = {f"env{i}_in_macro_acc": 0.25 for i in range(4)}
    for env in range(4):
        run_of(tmp_path, env)
        run_of(tmp_path, env, algorithm="CORAL", **macro)
        run_of(tmp_path, env, algorithm="IRM", **(macro if env else {}))
    found = rows(tmp_path)
    assert [cells_of[AVERAGE].mean for cells_of in found.values()] == [pytest.approx(50)] * 3
    assert (found["ERM"][MACRO].mean, found["ERM"][MACRO].missing) == (None, "not recorded")
    assert (found["CORAL"][MACRO].mean, found["CORAL"][MACRO].missing) == (pytest.approx(25), "")
    assert (found["IRM"][MACRO].mean, found["IRM"][MACRO].missing) == (None, "3 of 4 columns")


def test_macro_accuracies_of_the_checkpoint_that_was_chosen(tmp_path):
    """An older interrupted run that went on: the first record has none, the last has."""
    macro = {f"env{i}_in_macro_acc": 0.25 for i in range(4)}
    for name, (first, last) in {"ERM": (0.6, 0.5), "CORAL": (0.5, 0.6)}.items():
        for env in range(4):
            of = args([env], name)
            made = [record(0, [0.5] * 4, [first] * 4, of), {**record(300, [0.5] * 4, [last] * 4, of), **macro}]
            write_run(tmp_path / f"{name}{env}", made)
    found = rows(tmp_path)
    assert (found["ERM"]["A"].choices[0].step, found["ERM"][MACRO].mean) == (0, None)
    assert (found["CORAL"]["A"].choices[0].step, found["CORAL"][MACRO].mean) == (300, pytest.approx(25))
