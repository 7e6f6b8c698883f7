"""What modifiers changed, against differences written out anew on a random folder."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
from factories import args, record, run_of, table, write_run
from scipy import stats

from dg_batchformer.registry import ALGORITHMS, MODIFIER_ORDER, hyperparameters, split_name
from dg_batchformer.selection.compare import HYPER_PARAMETER, Comparison, Difference, bootstrap_interval, compare
from dg_batchformer.selection.table import AVERAGE, Unit

ENVIRONMENTS = ("A", "C", "P", "S")

PAIRS = [
    ("BatchFormer", "CORAL_BatchFormer", "CORAL"),
    ("BatchFormer", "CORAL_SWAD_BatchFormer", "CORAL_SWAD"),
    ("BatchFormer", "ERM_BatchFormer", "ERM"),
    ("BatchFormer", "ERM_MixStyle_BatchFormer", "MixStyle"),
    ("BatchFormer", "SWAD_BatchFormer", "ERM_SWAD"),
    ("MixStyle", "ERM_MixStyle_BatchFormer", "ERM_BatchFormer"),
    ("MixStyle", "MixStyle", "ERM"),
    ("SWAD", "CORAL_SWAD", "CORAL"),
    ("SWAD", "CORAL_SWAD_BatchFormer", "CORAL_BatchFormer"),
    ("SWAD", "ERM_SWAD", "ERM"),
    ("SWAD", "SWAD_BatchFormer", "ERM_BatchFormer"),
]
"""Modifier, variant and base of each comparison between these names, by hand."""

NAMES = sorted({name for _, *names in PAIRS for name in names} | {"VREx_BatchFormer"})


@pytest.fixture(scope="module")
def random_sweep(tmp_path_factory):
    """Two checkpoints a run, and a fifth of the runs missing: the folder, and by run the accuracies of each method."""
    folder, random = tmp_path_factory.mktemp("sweep"), np.random.RandomState(0)
    accuracies = {}
    for i, key in enumerate(itertools.product(NAMES, range(4), range(3), range(2))):
        algorithm, env, trial, hparams_seed = key
        ins, outs = random.rand(2, 4).round(3), random.rand(2, 4).round(3)
        if random.rand() < 0.2:
            continue
        of = args([env], algorithm, "PACS", trial, hparams_seed)
        write_run(folder / str(i), [record(300 * n, ins[n], outs[n], of) for n in range(2)])
        chosen = max(range(2), key=lambda n: sum(outs[n]) - outs[n][env])
        accuracies[key] = {"training-domain": ins[chosen][env], "last": ins[1][env]}
    return folder, accuracies


def hparams(given):
    """The `args` that give hyper-parameters."""
    return {"hparams": json.dumps(given)} if given else {}


def expected_units(accuracies, selection, variant, base):
    units = {}
    for env, trial in itertools.product(range(4), range(3)):
        both = [
            100 * (accuracies[variant, env, trial, seed][selection] - accuracies[base, env, trial, seed][selection])
            for seed in range(2)
            if {(variant, env, trial, seed), (base, env, trial, seed)} <= accuracies.keys()
        ]
        if both:
            units[Unit(ENVIRONMENTS[env], ENVIRONMENTS[env], trial)] = sum(both) / len(both)
    return units


@pytest.mark.parametrize("selection", ["training-domain", "last"])
def test_comparisons_against_differences_written_out_anew(random_sweep, selection):
    folder, accuracies = random_sweep
    section = table(folder, selection)
    found = {(one.modifier, one.variant, one.base): one for one in compare(section)}
    assert sorted(found) == PAIRS
    for (_, variant, base), comparison in found.items():
        units = expected_units(accuracies, selection, variant, base)
        assert 6 < len(units) <= 12
        assert comparison.overall.units == pytest.approx(units)
        values = list(comparison.overall.units.values())
        assert comparison.overall.mean == pytest.approx(np.mean(list(units.values())))
        assert comparison.overall.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
        assert comparison.overall.t == pytest.approx(
            stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        )
        assert comparison.overall.bootstrap == bootstrap_interval(values)
        counts = comparison.overall.wins, comparison.overall.ties, comparison.overall.losses
        signs = [np.sign(round(value, 6)) for value in units.values()]
        assert counts == (signs.count(1), signs.count(0), signs.count(-1))
        for column in ENVIRONMENTS:
            own = [value for unit, value in units.items() if unit.column == column]
            assert list(comparison.columns[column].units.values()) == pytest.approx(own)
            assert comparison.columns[column].mean == (pytest.approx(np.mean(own)) if own else None)
        cells = {row.label: row.cells[AVERAGE].mean for row in section.rows}
        assert comparison.as_selected == pytest.approx(cells[variant] - cells[base])


def test_p_values_are_corrected_for_all_comparisons_of_a_table(random_sweep):
    comparisons = compare(table(random_sweep[0]))
    assert {one.n_comparisons for one in comparisons} == {len(PAIRS)}
    smallest = min(comparisons, key=lambda one: one.overall.p)
    assert smallest.p_holm == pytest.approx(min(1, len(PAIRS) * smallest.overall.p))
    assert all(one.p_holm >= one.overall.p for one in comparisons)


def test_hparams_that_are_the_modifiers_own_do_not_stand_between_a_pair(tmp_path):
    runs = [
        ("ERM", {}),
        ("ERM_BatchFormer", {"batchformer_lr_scale": 0.1}),
        ("CORAL", {"lr": 0.001}),
        ("CORAL_BatchFormer", {"batchformer_layers": 2, "lr": 0.001}),
        ("CORAL_BatchFormer", {"lr": 0.002}),  # CORAL has no run with it
        ("SWAD", {"swad_n_converge": 1}),
        ("SWAD_BatchFormer", {"swad_n_converge": 1}),  # and ERM_BatchFormer none without lr_scale
        ("VREx", {"vrex_lambda": 3.0}),
        ("VREx_BatchFormer", {}),
    ]
    for algorithm, given in runs:
        run_of(tmp_path, 0, 0.5, algorithm=algorithm, given=hparams(given))
    found = {(one.modifier, one.variant, one.base) for one in compare(table(tmp_path))}
    assert found == {
        ("BatchFormer", "ERM_BatchFormer", "ERM"),
        ("BatchFormer", "CORAL_BatchFormer (batchformer_layers 2, lr 0.001)", "CORAL"),
        ("BatchFormer", "SWAD_BatchFormer", "SWAD"),
        ("SWAD", "SWAD", "ERM"),
    }


def test_a_given_hparam_is_compared_with_the_same_algorithm_without_it(tmp_path):
    """An ablation: one hparam more than the base, not two, and no other value in place of one."""
    rows = [
        ({"lr": 0.1}, 0.50),
        ({"lr": 0.1, "batchformer_layers": 2}, 0.53),
        ({"lr": 0.1, "batchformer_layers": 4}, 0.54),
        ({"lr": 0.1, "batchformer_layers": 2, "batch_size": 8}, 0.59),
    ]
    for given, accuracy in rows:
        for trial, extra in enumerate((0.0, 0.01)):
            more = extra if len(given) > 1 else 0.0
            run_of(tmp_path, 0, accuracy + more, algorithm="ERM_BatchFormer", trial=trial, given=hparams(given))
    run_of(tmp_path, 0, 0.5, algorithm="CORAL_BatchFormer", given=hparams({"lr": 0.2}))
    run_of(tmp_path, 0, 0.5, algorithm="CORAL_BatchFormer")
    run_of(tmp_path, 0, 0.5, algorithm="CORAL_BatchFormer", given=hparams([["lr", 0.1]]))  # which is none of ours
    found = compare(table(tmp_path))
    name = "ERM_BatchFormer"
    two, four = f"{name} (batchformer_layers 2)", f"{name} (batchformer_layers 4)"
    assert [(one.modifier, one.change, one.variant, one.base) for one in found] == [
        ("hyper-parameter", "batchformer_layers 2", two, name),
        ("hyper-parameter", "batchformer_layers 4", four, name),
        ("hyper-parameter", "batch_size 8", f"{name} (batch_size 8, batchformer_layers 2)", two),
        ("hyper-parameter", "lr 0.2", "CORAL_BatchFormer (lr 0.2)", "CORAL_BatchFormer"),
    ]
    assert [one.overall.mean for one in found] == pytest.approx([3.5, 4.5, 6.0, 0.0])
    assert {one.n_comparisons for one in found} == {2}  # those of equal differences or one pair have no p-value


@pytest.mark.parametrize("modifier", MODIFIER_ORDER)
def test_a_modifiers_hyperparameters_begin_with_its_name_and_no_others_do(modifier):
    def names(algorithm):
        return {hp.name for hp in hyperparameters(algorithm, "PACS")}

    prefix = f"{modifier.lower()}_"
    for algorithm in ALGORITHMS:
        if modifier in split_name(algorithm)[1]:
            continue
        assert not [name for name in names(algorithm) if name.startswith(prefix)]
        added = names(f"{algorithm}_{modifier}") - names(algorithm)
        assert added
        assert all(name.startswith(prefix) for name in added)


def test_trials_that_one_side_lacks_make_no_pair(tmp_path):
    for trial in range(3):
        run_of(tmp_path, 0, 0.5, algorithm="ERM", trial=trial)
    run_of(tmp_path, 0, 0.75, algorithm="ERM_BatchFormer", trial=2)
    run_of(tmp_path, 1, 0.75, algorithm="ERM_BatchFormer", trial=2)
    (one,) = compare(table(tmp_path))
    assert one.overall.units == {Unit("A", "A", 2): 25.0}
    assert one.words == "+25.0 points, 1 pair: inconclusive (one pair, so no test)"
    assert (one.p_holm, one.as_selected) == (None, None)


def test_runs_of_different_hparams_seeds_are_no_pair(tmp_path):
    run_of(tmp_path, 0, 0.5, algorithm="ERM", hparams_seed=1)
    run_of(tmp_path, 0, 0.6, algorithm="ERM_BatchFormer", hparams_seed=2)
    (one,) = compare(table(tmp_path))
    assert one.overall.n == 0
    assert one.words == "no pair of runs to compare"


def test_averages_over_datasets_pool_the_pairs_of_all(tmp_path):
    gains = {("PACS", 0): 1.0, ("PACS", 1): 2.0, ("VLCS", 0): 6.0, ("VLCS", 1): 8.0, ("VLCS", 2): 3.0}
    for (dataset, env), gain in gains.items():
        run_of(tmp_path, env, 0.5, algorithm="ERM", dataset=dataset)
        run_of(tmp_path, env, 0.5 + gain / 100, algorithm="ERM_BatchFormer", dataset=dataset)
    (one,) = compare(table(tmp_path, dataset=AVERAGE))
    assert one.overall.units == pytest.approx(
        {
            Unit("PACS", "A", 0): 1,
            Unit("PACS", "C", 0): 2,
            Unit("VLCS", "C", 0): 6,
            Unit("VLCS", "L", 0): 8,
            Unit("VLCS", "S", 0): 3,
        }
    )
    assert one.overall.mean == pytest.approx(4)
    assert {name: column.mean for name, column in one.columns.items()} == pytest.approx({"PACS": 1.5, "VLCS": 17 / 3})


def words(values, p_holm=None, n_comparisons=1):
    overall = Difference.from_units({Unit("A", "A", trial): value for trial, value in enumerate(values)})
    corrected = overall.p if p_holm is None else p_holm
    return Comparison("SWAD", "SWAD", "SWAD", "ERM", overall, {}, None, corrected, n_comparisons).words


def test_the_outcome_in_words():
    assert words([2.0, 1.0, 3.0, 2.0]) == "+2.0 points, 95 % +0.7 to +3.3, 4 pairs: better"
    assert words([-2.0, -1.0, -3.0, -2.0]) == "-2.0 points, 95 % -3.3 to -0.7, 4 pairs: worse"
    assert words([2.0, -1.0, 3.0, -2.0]) == "+0.5 points, 95 % -3.3 to +4.3, 4 pairs: inconclusive"
    assert words([]) == "no pair of runs to compare"
    assert words([2.0]) == "+2.0 points, 1 pair: inconclusive (one pair, so no test)"


def test_what_is_compared_in_words():
    overall = Difference.from_units({})
    assert Comparison("BatchFormer", "BatchFormer", "A_BatchFormer", "A", overall, {}, None).title == "BatchFormer on A"
    assert Comparison(HYPER_PARAMETER, "lr 0.1", "A (lr 0.1)", "A", overall, {}, None).title == "lr 0.1 on A"


def test_a_difference_that_falls_to_the_correction_says_so():
    """Its interval, which is not corrected, leaves 0 out."""
    assert words([2.0, 1.0, 3.0, 2.0], p_holm=0.06, n_comparisons=5) == (
        "+2.0 points, 95 % +0.7 to +3.3, 4 pairs: inconclusive (p 0.060 after correction for 5 comparisons)"
    )


@pytest.mark.parametrize("value", [1.5, 0.0])
def test_equal_differences_are_not_called_certain(value):
    """Two pairs of accuracies on a few hundred images may well differ by the same number of them."""
    assert words([value, value + 1e-14]) == (
        f"{value:+.1f} points, 2 pairs: inconclusive (all pairs are equal, so no test)"
    )


def test_differences_of_rounding_are_ties():
    values = [100 * (0.3 - 0.1 - 0.2), 0.0, 0.01, -0.01]
    found = Difference.from_units({Unit("A", "A", trial): value for trial, value in enumerate(values)})
    assert (found.wins, found.ties, found.losses) == (1, 2, 1)


def test_other_tables_have_other_corrections(random_sweep):
    """A comparison corrects within its own table alone."""
    section = table(random_sweep[0])
    few = dataclasses.replace(section, rows=tuple(row for row in section.rows if row.label in ("ERM", "MixStyle")))
    (one,) = compare(few)
    assert (one.n_comparisons, one.p_holm) == (1, one.overall.p)
