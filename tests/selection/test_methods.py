"""What each method chooses, on records made by hand."""

import math

import numpy as np
import pytest
from factories import args, finished_run, record

from dg_batchformer.selection.methods import METHODS, Choice, best, best_by_trial


def run(test_envs, rows, hparams_seed=0, trial=0):
    """A run with one (step, in-accuracies, out-accuracies) a row."""
    of = args(test_envs, trial=trial, hparams_seed=hparams_seed)
    return finished_run([record(step, ins, outs, of) for step, ins, outs in rows])


def chosen(selection, singles, pairs=()):
    """What a method chooses among runs that leave environment 0 out."""
    return best(METHODS[selection](singles, list(pairs), (0,)))


# Environment 0 is left out, of three.
EARLY = run([0], [(0, [0.5, 0.9, 0.9], [0.9, 0.2, 0.4]), (10, [0.6, 0.9, 0.9], [0.1, 0.8, 0.6])])
LATE = run([0], [(0, [0.7, 0, 0], [0.2, 0.5, 0.7]), (10, [0.8, 0, 0], [0.3, 0.1, 0.1])], hparams_seed=1)


def test_training_domain_takes_the_best_checkpoint_of_the_other_environments_out_splits():
    choice = chosen("training-domain", [EARLY, LATE])
    assert (choice.accuracy, choice.hparams_seed, choice.step) == (0.6, 0, 10)
    assert choice.validation == pytest.approx(0.7)
    assert chosen("training-domain", [LATE]).accuracy == 0.7
    assert chosen("training-domain", []) is None


def test_oracle_takes_the_last_checkpoint_by_the_left_out_environments_own_out_split():
    choice = chosen("oracle", [EARLY, LATE])
    assert (choice.accuracy, choice.validation, choice.hparams_seed, choice.step) == (0.8, 0.3, 1, 10)
    assert chosen("oracle", []) is None


def test_last_takes_the_last_checkpoint_by_the_other_environments_out_splits():
    choice = chosen("last", [EARLY, LATE])
    assert (choice.accuracy, choice.hparams_seed, choice.step) == (0.6, 0, 10)
    assert choice.validation == pytest.approx(0.7)
    assert chosen("last", [LATE]).accuracy == 0.8  # where training-domain validation takes the first
    assert chosen("last", []) is None


@pytest.mark.parametrize("selection", ["training-domain", "last"])
def test_ties_fall_as_in_domainbed(selection):
    # Equal checkpoints: the earliest. Equal runs: the highest hparams_seed.
    twice = [(0, [0.1, 0, 0], [0, 0.5, 0.5]), (10, [0.2, 0, 0], [0, 0.5, 0.5])]
    runs = [run([0], twice), run([0], [(s, [i[0] + 0.3, 0, 0], o) for s, i, o in twice], hparams_seed=1)]
    assert chosen(selection, runs).accuracy == pytest.approx(0.4 if selection == "training-domain" else 0.5)
    assert chosen(selection, runs[::-1]).hparams_seed == 1


def test_the_last_bit_of_a_mean_is_that_of_one_records_sum():
    """Summed over environments as DomainBed sums them: in another order the last bit may differ, and decide."""
    random = np.random.RandomState(0)
    rows = [(step, [0.5] * 3, list(random.rand(3))) for step in range(50)]
    for row in rows:
        (choice,) = METHODS["last"]([run([0], [row])], [], (0,))
        assert choice.validation == float(np.mean(row[2][1:]))
    assert chosen("training-domain", [run([0], rows)]).validation == max(float(np.mean(row[2][1:])) for row in rows)


def pair(other, accuracies, hparams_seed=0):
    """A run without 0 and `other`, whose accuracy on `other` at steps 0 and 10 is given."""
    rows = [
        (step, [0.0] * other + [value] + [0.0] * (2 - other), [0.0] * 3)
        for step, value in zip((0, 10), accuracies, strict=True)
    ]
    return run([0, other], rows, hparams_seed)


def test_leave_one_domain_out_takes_the_step_whose_pairs_do_best_on_the_other_one_left_out():
    pairs = [pair(1, (0.9, 0.1)), pair(2, (0.5, 0.6))]
    choice = chosen("leave-one-domain-out", [EARLY], pairs)
    assert (choice.accuracy, choice.step) == (0.5, 0)
    assert choice.validation == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("singles", "pairs"),
    [
        ([EARLY], []),
        ([EARLY], [pair(1, (0.9, 0.1))]),
        ([EARLY], [pair(1, (0.9, 0.1)), pair(2, (0.9, 0.1), hparams_seed=1)]),
        ([], [pair(1, (0.9, 0.1)), pair(2, (0.9, 0.1))]),
    ],
)
def test_leave_one_domain_out_needs_every_pair_of_the_same_hyper_parameters(singles, pairs):
    assert chosen("leave-one-domain-out", singles, pairs) is None


def test_leave_one_domain_out_uses_the_steps_that_all_have():
    short = run([0, 2], [(10, [0, 0, 0.2], [0, 0, 0])])
    choice = chosen("leave-one-domain-out", [EARLY], [pair(1, (0.9, 0.1)), short])
    assert (choice.accuracy, choice.step) == (0.6, 10)
    assert choice.validation == pytest.approx(0.15)
    none_shared = run([0, 2], [(20, [0, 0, 0.2], [0, 0, 0])])
    assert chosen("leave-one-domain-out", [EARLY], [pair(1, (0.9, 0.1)), none_shared]) is None


def test_leave_one_domain_out_chooses_among_hyper_parameters():
    pairs = [pair(1, (0.1, 0.1)), pair(2, (0.1, 0.1)), pair(1, (0.2, 0.3), 1), pair(2, (0.2, 0.3), 1)]
    choice = chosen("leave-one-domain-out", [EARLY, LATE], pairs)
    assert (choice.accuracy, choice.hparams_seed) == (0.8, 1)


def test_each_method_offers_one_candidate_a_run():
    """Which the comparisons pair run by run, chosen or not."""
    pairs = [pair(other, (0.1, 0.2), seed) for other in (1, 2) for seed in (0, 1)]
    for selection, method in METHODS.items():
        assert [choice.run for choice in method([EARLY, LATE], pairs, (0,))] == [EARLY, LATE], selection


def test_a_choice_has_its_macro_accuracy_or_none():
    assert math.isnan(Choice(EARLY, (0,), 1, 0.5).macro)
    of = args([0])
    with_macro = finished_run([{**record(0, [0.5] * 3, [0.5] * 3, of), "env0_in_macro_acc": 0.25}])
    assert Choice(with_macro, (0,), 0, 0.5).macro == 0.25


def candidates(values):
    """Choices by trial; `values` are by trial and hparams_seed."""
    rows = [(0, [0.5] * 3, [0.5] * 3)]
    return {
        trial: [Choice(run([0], rows, seed, trial), (0,), 0, value) for seed, value in own.items()]
        for trial, own in values.items()
    }


def seeds(chosen):
    return {trial: choice.hparams_seed for trial, choice in chosen.items()}


def test_a_redrawn_search_is_decided_in_each_trial_and_a_fixed_one_once():
    found = candidates({0: {0: 0.9, 1: 0.6, 2: 0.1}, 1: {0: 0.1, 1: 0.6, 2: 0.9}, 2: {0: 0.2, 1: 0.6, 2: 0.3}})
    assert seeds(best_by_trial(found, fixed=False)) == {0: 0, 1: 2, 2: 1}
    # Means over trials: 0.4, 0.6, 0.433.
    assert seeds(best_by_trial(found, fixed=True)) == {0: 1, 1: 1, 2: 1}


def test_a_row_of_a_fixed_search_that_a_trial_lacks_gives_way_to_one_that_all_have():
    found = candidates({0: {0: 0.9, 1: 0.2}, 1: {1: 0.2}})
    assert seeds(best_by_trial(found, fixed=True)) == {0: 1, 1: 1}
    # Of rows that none has in full, the trials without the chosen one have no number.
    found = candidates({0: {0: 0.9}, 1: {1: 0.2}, 2: {}})
    assert seeds(best_by_trial(found, fixed=True)) == {0: 0}


def test_equal_rows_of_a_fixed_search_fall_to_the_highest_hparams_seed():
    assert seeds(best_by_trial(candidates({0: {0: 0.5, 1: 0.5}, 1: {1: 0.5, 0: 0.5}}), fixed=True)) == {0: 1, 1: 1}


@pytest.mark.parametrize("fixed", [True, False])
def test_trials_without_candidates_choose_nothing(fixed):
    assert best_by_trial({}, fixed=fixed) == {}
    assert best_by_trial({0: [], 1: []}, fixed=fixed) == {}


def test_the_mean_is_over_the_second_half_of_the_checkpoints():
    ins = [[0.1, 0, 0], [0.2, 0, 0], [0.3, 0, 0], [0.6, 0, 0], [0.9, 0, 0]]
    outs = [[0, 0.1, 0.1], [0, 0.9, 0.9], [0, 0.2, 0.4], [0, 0.4, 0.4], [0, 0.5, 0.7]]
    own = run([0], [(10 * i, *both) for i, both in enumerate(zip(ins, outs, strict=True))])
    choice = chosen("mean", [own])
    assert (choice.step, choice.since) == (40, 2)
    assert choice.accuracy == pytest.approx(0.6)
    assert choice.validation == pytest.approx((0.3 + 0.4 + 0.6) / 3)
    # Of two runs the one with the higher mean, not the one with the best checkpoint.
    other = run([0], [(0, [0.9, 0, 0], [0, 1.0, 1.0]), (40, [0.5, 0, 0], [0, 0.4, 0.4])], hparams_seed=1)
    assert chosen("mean", [own, other]).hparams_seed == 0
    assert chosen("mean", []) is None


def test_the_mean_of_one_checkpoint_is_its_accuracy():
    assert chosen("mean", [run([0], [(40, [0.5, 0, 0], [0, 0.4, 0.4])])]).accuracy == 0.5
