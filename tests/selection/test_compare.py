"""What modifiers changed, against differences written out anew on a random folder."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
from factories import args, record, run_of, table, write_run
from scipy import stats

from dg_batchformer.registry import ALGORITHMS, MODIFIER_ORDER, hyperparameters, split_name
from dg_batchformer.selection.compare import HYPER_PARAMETER, Comparison, Difference, compare
from dg_batchformer.selection.inference import Rules
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


def mean_and_error(values):
    return np.mean(values), stats.sem(values)


@pytest.mark.parametrize("selection", ["training-domain", "last"])
def test_comparisons_against_differences_written_out_anew(random_sweep, selection):
    folder, accuracies = random_sweep
    section = table(folder, selection)
    *single, over_all = compare(section)
    found = {(one.modifier, one.variant, one.base): one for one in single}
    assert sorted(found) == PAIRS
    assert (over_all.variant, over_all.base) == ("5 variants", "5 algorithms")
    members = [one for one in single if one.modifier == "BatchFormer"]
    for unit, value in over_all.overall.units.items():
        assert value == pytest.approx(np.mean([one.overall.units[unit] for one in members]))
    assert set(over_all.overall.units) == set.intersection(*(set(one.overall.units) for one in members))
    for (_, variant, base), comparison in found.items():
        units = expected_units(accuracies, selection, variant, base)
        assert 6 < len(units) <= 12
        assert comparison.overall.units == pytest.approx(units)
        values = [
            np.mean([units[unit] for unit in units if unit.trial_seed == trial])
            for trial in range(3)
            if {unit.column for unit in units if unit.trial_seed == trial} == {unit.column for unit in units}
        ]
        overall = comparison.overall
        assert overall.n_trials == len(values)
        assert overall.mean == pytest.approx(np.mean(values or list(units.values())))
        assert (overall.these is None) == (len(values) < 2)
        if overall.these:
            assert overall.these.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
            expected = stats.t.interval(1 - 0.05 / comparison.n_comparisons, len(values) - 1, *mean_and_error(values))
            assert comparison.interval == pytest.approx(expected)
        counts = comparison.overall.wins, comparison.overall.ties, comparison.overall.losses
        signs = [np.sign(round(value, 6)) for value in units.values()]
        assert counts == (signs.count(1), signs.count(0), signs.count(-1))
        for column in ENVIRONMENTS:
            own = [value for unit, value in units.items() if unit.column == column]
            assert list(comparison.columns[column].units.values()) == pytest.approx(own)
            assert comparison.columns[column].mean == (pytest.approx(np.mean(own)) if own else None)
        cells = {row.label: row.cells[AVERAGE].mean for row in section.rows}
        assert comparison.as_selected == pytest.approx(cells[variant] - cells[base])


def test_intervals_and_p_values_are_corrected_for_the_comparisons_of_a_modifier(random_sweep):
    comparisons = compare(table(random_sweep[0]))[:-1]
    for modifier in ("BatchFormer", "MixStyle", "SWAD"):
        family = [one for one in comparisons if one.modifier == modifier]
        tested = [one for one in family if one.overall.these]
        assert {one.n_comparisons for one in family} == {max(1, len(tested))}
        for one in tested:
            assert one.p == pytest.approx(min(1, len(tested) * one.overall.these.p))
            low, high = one.interval
            assert (low <= 0 <= high) == (one.p >= 0.05)


@pytest.mark.parametrize("family", ["table", "none"])
def test_another_family_can_be_declared(random_sweep, family):
    comparisons = compare(table(random_sweep[0]), Rules(family=family))[:-1]
    tested = sum(one.overall.these is not None for one in comparisons)
    assert {one.n_comparisons for one in comparisons} == {tested if family == "table" else 1}


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
    assert {one.n_comparisons for one in found} == {2}  # those of equal differences or one trial have no p-value


def test_several_variants_of_a_base_are_told_apart(tmp_path):
    run_of(tmp_path, 0, 0.5)
    for given in ({}, {"batchformer_lr_scale": 0.1}):
        run_of(tmp_path, 0, 0.5, algorithm="ERM_BatchFormer", given=hparams(given))
    titles = [one.title for one in compare(table(tmp_path))]
    assert titles[:2] == ["BatchFormer on ERM", "BatchFormer (batchformer_lr_scale 0.1) on ERM"]


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
    assert one.words == (
        "+25.0 points, 1 trial: inconclusive (one trial, so no test); new environments: too few (1, at least 6)"
    )
    assert (one.p, one.interval, one.as_selected) == (None, None, None)


def test_runs_of_different_hparams_seeds_are_no_pair(tmp_path):
    run_of(tmp_path, 0, 0.5, algorithm="ERM", hparams_seed=1)
    run_of(tmp_path, 0, 0.6, algorithm="ERM_BatchFormer", hparams_seed=2)
    (one,) = compare(table(tmp_path))
    assert one.overall.n == 0
    assert one.words == "no pair of runs to compare"


def test_averages_over_datasets_weigh_the_datasets_the_same(tmp_path):
    gains = {("PACS", 0): 1.0, ("PACS", 1): 2.0, ("VLCS", 0): 6.0, ("VLCS", 1): 8.0, ("VLCS", 2): 3.0}
    for ((dataset, env), gain), trial in itertools.product(gains.items(), range(2)):
        run_of(tmp_path, env, 0.5, algorithm="ERM", dataset=dataset, trial=trial)
        accuracy = 0.5 + (gain + trial) / 100
        run_of(tmp_path, env, accuracy, algorithm="ERM_BatchFormer", dataset=dataset, trial=trial)
    (one,) = compare(table(tmp_path, dataset=AVERAGE))
    assert len(one.overall.units) == 10
    assert one.overall.units[Unit("VLCS", "L", 1)] == pytest.approx(9)
    assert one.overall.mean == pytest.approx((2 + (17 / 3 + 0.5)) / 2)
    assert {name: column.mean for name, column in one.columns.items()} == pytest.approx(
        {"PACS": 2, "VLCS": 17 / 3 + 0.5}
    )
    # Each dataset has trials that differ by one point: a standard error of a half, and 2 degrees of freedom together.
    assert (one.overall.these.error, one.overall.these.df) == pytest.approx((0.5 / 2**0.5, 2))
    assert one.overall.n_environments == 5
    assert one.new_verdict == "too few (5, at least 6)"


def test_new_environments_can_be_told_from_six(tmp_path):
    random = np.random.RandomState(0)
    for dataset, env, trial in itertools.product(("PACS", "VLCS"), range(4), range(3)):
        run_of(tmp_path, env, 0.5, algorithm="ERM", dataset=dataset, trial=trial)
        accuracy = 0.53 + random.uniform(-0.01, 0.01)
        run_of(tmp_path, env, accuracy, algorithm="ERM_BatchFormer", dataset=dataset, trial=trial)
    (one,) = compare(table(tmp_path, dataset=AVERAGE))
    assert one.overall.n_environments == 8
    assert one.new_verdict == "better"
    assert one.sign_flip == pytest.approx(2 / 2**8)
    low, high = one.new_interval
    assert 2 < low < 3 < high < 4
    assert f"; new environments: 95 % {low:+.1f} to {high:+.1f}: better" in one.words


def comparison(values, n_comparisons=1, rope=0.5):
    """A comparison in one environment with these differences by trial."""
    overall = Difference.from_units({Unit("A", "A", trial): value for trial, value in enumerate(values)})
    return Comparison("SWAD", "SWAD", "SWAD", "ERM", overall, {}, n_comparisons=n_comparisons, rope=rope)


FEW = "; new environments: too few (1, at least 6)"


def test_the_outcome_in_words():
    expected = "+2.0 points, 95 % +0.7 to +3.3, 4 trials: better; 80 % power from 1.7 points on"
    assert comparison([2.0, 1.0, 3.0, 2.0]).words == expected + FEW
    assert ": worse; " in comparison([-2.0, -1.0, -3.0, -2.0]).words
    expected = "+0.5 points, 95 % -3.3 to +4.3, 4 trials: inconclusive; 80 % power from 5.1 points on"
    assert comparison([2.0, -1.0, 3.0, -2.0]).words == expected + FEW
    assert comparison([0.1, 0.2, 0.1, 0.2]).verdict == "equivalent"
    assert comparison([0.1, 0.2, 0.1, 0.2], rope=0.1).verdict == "better"
    assert comparison([]).words == "no pair of runs to compare"
    assert comparison([2.0]).words == "+2.0 points, 1 trial: inconclusive (one trial, so no test)" + FEW


def test_what_is_compared_in_words():
    overall = Difference.from_units({})
    assert Comparison("BatchFormer", "BatchFormer", "A_BatchFormer", "A", overall, {}).title == "BatchFormer on A"
    assert Comparison(HYPER_PARAMETER, "lr 0.1", "A (lr 0.1)", "A", overall, {}).title == "lr 0.1 on A"


def test_a_difference_that_falls_to_the_correction_has_a_wider_interval():
    one = comparison([2.0, 1.0, 3.0, 2.0], n_comparisons=5)
    assert one.verdict == "inconclusive"
    assert one.interval[0] < 0 < one.overall.these.interval()[0]
    assert one.p == pytest.approx(5 * one.overall.these.p)


@pytest.mark.parametrize("value", [1.5, 0.0])
def test_equal_differences_are_not_called_certain(value):
    """Two accuracies on a few hundred images may well differ by the same number of them."""
    one = comparison([value, value + 1e-14])
    assert one.verdict == "inconclusive (all differences are equal, so no test)"
    assert (one.p, one.interval, one.detectable) == (None, None, None)


def test_a_trial_that_one_environment_lacks_does_not_count():
    values = {(0, 0): 1.0, (0, 1): 2.0, (0, 2): 30.0, (1, 0): 3.0, (1, 1): 5.0}
    units = {Unit("AC"[env], "AC"[env], trial): value for (env, trial), value in values.items()}
    overall = Difference.from_units(units)
    assert (overall.n, overall.n_trials, overall.n_environments) == (5, 2, 2)
    assert overall.mean == pytest.approx((2.0 + 3.5) / 2)
    assert overall.these.error == pytest.approx(0.75)
    without = Difference.from_units({unit: value for unit, value in units.items() if unit != Unit("A", "A", 2)})
    assert (without.mean, without.these, without.new) == (overall.mean, overall.these, overall.new)


def test_an_environment_counted_twice_would_show(tmp_path):
    """Twice the same trials are no new trials: duplicates are not counted."""
    for trial, copy in itertools.product(range(3), range(2)):
        for algorithm, accuracy in (("ERM", 0.5), ("ERM_BatchFormer", 0.52 + trial / 100)):
            run_of(
                tmp_path / "sweep", 0, accuracy, algorithm=algorithm, trial=trial, name=f"{algorithm}-{trial}-{copy}"
            )
    (one,) = compare(table(tmp_path / "sweep"))
    assert (one.overall.n, one.overall.these.df) == (3, 2)


def test_in_a_search_the_chosen_difference_has_its_own_interval(tmp_path):
    """Row 1 is chosen everywhere: there the variant gains 4 and 6 points, in row 0 it loses 2."""
    for trial, seed in itertools.product(range(2), range(2)):
        for algorithm in ("ERM", "ERM_BatchFormer"):
            gain = 0 if algorithm == "ERM" else (0.04 + 0.02 * trial if seed else -0.02)
            of = args([0], algorithm, "PACS", trial, seed)
            rows = [record(300, [0.5 + gain, 0.9, 0.9, 0.9], [0.5 + seed / 10] * 4, of)]
            write_run(tmp_path / f"{algorithm}-{trial}-{seed}", rows)
    (one,) = compare(table(tmp_path))
    assert one.is_searched
    assert one.overall.mean == pytest.approx((1 + 2) / 2)
    assert (one.chosen.mean, one.chosen.error) == (pytest.approx(5), pytest.approx(1))
    assert ", as chosen +" not in comparison([1.0, 2.0]).words


def test_differences_of_rounding_are_ties():
    values = [100 * (0.3 - 0.1 - 0.2), 0.0, 0.01, -0.01]
    found = Difference.from_units({Unit("A", "A", trial): value for trial, value in enumerate(values)})
    assert (found.wins, found.ties, found.losses) == (1, 2, 1)


def test_other_tables_have_other_corrections(random_sweep):
    """A comparison corrects within its own table alone."""
    section = table(random_sweep[0])
    few = dataclasses.replace(section, rows=tuple(row for row in section.rows if row.label in ("ERM", "MixStyle")))
    (one,) = compare(few)
    assert one.n_comparisons == 1
