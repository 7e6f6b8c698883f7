"""What each method chooses, on records made by hand."""

import pytest
from helpers import args, record

from dg_batchformer.selection.methods import leave_one_domain_out, oracle, training_domain
from dg_batchformer.selection.runs import Run
from dg_batchformer.training.records import RunKey


def made(test_envs, rows, hparams_seed=0):
    """A run with one (step, in-accuracies, out-accuracies) a row."""
    of = args(test_envs, hparams_seed=hparams_seed)
    return Run(RunKey.of(of), [record(step, ins, outs, of) for step, ins, outs in rows])


# Environment 0 is left out, of three.
EARLY = made([0], [(0, [0.5, 0.9, 0.9], [0.9, 0.2, 0.4]), (10, [0.6, 0.9, 0.9], [0.1, 0.8, 0.6])])
LATE = made([0], [(0, [0.7, 0, 0], [0.2, 0.5, 0.7]), (10, [0.8, 0, 0], [0.3, 0.1, 0.1])], hparams_seed=1)


def test_training_domain_takes_the_best_checkpoint_of_the_other_environments_out_splits():
    choice = training_domain([EARLY, LATE], [], 0)
    assert (choice.accuracy, choice.hparams_seed, choice.step) == (0.6, 0, 10)
    assert choice.validation == pytest.approx(0.7)
    assert training_domain([LATE], [], 0).accuracy == 0.7
    assert training_domain([], [], 0) is None


def test_oracle_takes_the_last_checkpoint_by_the_left_out_environments_own_out_split():
    choice = oracle([EARLY, LATE], [], 0)
    assert (choice.accuracy, choice.validation, choice.hparams_seed, choice.step) == (0.8, 0.3, 1, 10)
    assert oracle([], [], 0) is None


def test_ties_fall_as_in_domainbed():
    # Equal checkpoints: the earliest. Equal runs: the highest hparams_seed.
    twice = [(0, [0.1, 0, 0], [0, 0.5, 0.5]), (10, [0.2, 0, 0], [0, 0.5, 0.5])]
    runs = [made([0], twice), made([0], [(s, [i[0] + 0.3, 0, 0], o) for s, i, o in twice], hparams_seed=1)]
    assert training_domain(runs, [], 0).accuracy == pytest.approx(0.4)
    assert training_domain(runs[::-1], [], 0).hparams_seed == 1


def pair(other, accuracies, hparams_seed=0):
    """A run without 0 and `other`, whose accuracy on `other` at steps 0 and 10 is given."""
    rows = [
        (step, [0.0] * other + [value] + [0.0] * (2 - other), [0.0] * 3)
        for step, value in zip((0, 10), accuracies, strict=True)
    ]
    return made([0, other], rows, hparams_seed)


def test_leave_one_domain_out_takes_the_step_whose_pairs_do_best_on_the_other_one_left_out():
    pairs = [pair(1, (0.9, 0.1)), pair(2, (0.5, 0.6))]
    choice = leave_one_domain_out([EARLY], pairs, 0)
    assert (choice.accuracy, choice.step) == (0.5, 0)
    assert choice.validation == pytest.approx(0.7)


def test_leave_one_domain_out_needs_every_pair_of_the_same_hyper_parameters():
    assert leave_one_domain_out([EARLY], [], 0) is None
    assert leave_one_domain_out([EARLY], [pair(1, (0.9, 0.1))], 0) is None
    assert leave_one_domain_out([EARLY], [pair(1, (0.9, 0.1)), pair(2, (0.9, 0.1), hparams_seed=1)], 0) is None
    assert leave_one_domain_out([], [pair(1, (0.9, 0.1)), pair(2, (0.9, 0.1))], 0) is None


def test_leave_one_domain_out_uses_the_steps_that_all_have():
    short = made([0, 2], [(10, [0, 0, 0.2], [0, 0, 0])])
    choice = leave_one_domain_out([EARLY], [pair(1, (0.9, 0.1)), short], 0)
    assert (choice.accuracy, choice.step) == (0.6, 10)
    assert choice.validation == pytest.approx(0.15)


def test_leave_one_domain_out_chooses_among_hyper_parameters():
    pairs = [pair(1, (0.1, 0.1)), pair(2, (0.1, 0.1)), pair(1, (0.2, 0.3), 1), pair(2, (0.2, 0.3), 1)]
    choice = leave_one_domain_out([EARLY, LATE], pairs, 0)
    assert (choice.accuracy, choice.hparams_seed) == (0.8, 1)
