"""Edges of the search space: those that choices fall on more often than by chance, and no others."""

import itertools

import pytest
from factories import sweep, table
from scipy import stats

from dg_batchformer.selection.edges import Edge, edges
from dg_batchformer.selection.groups import FIXED, REDRAWN

N_ROWS, N_TRIALS = 10, 3


def searched(folder, hparams, validation, trials=range(N_TRIALS)):
    """The row of a sweep whose runs have `hparams` and `validation`, functions of trial, row and environment."""
    outs = {f"env{i}_out_acc": lambda _, env, trial, seed: validation(trial, seed, env) for i in range(4)}
    own = {"hparams": lambda _, env, trial, seed: hparams(trial, seed), **outs}
    return table(sweep(folder, trials=trials, hparams_seeds=range(N_ROWS), **own)).rows[0]


def redrawn_lr(trial, seed):
    """Values that rise with the row, other ones in each trial."""
    return {"lr": (seed + 1) * (trial + 1)}


def test_the_highest_value_chosen_in_every_trial_is_suspicious(tmp_path):
    row = searched(tmp_path, redrawn_lr, lambda trial, seed, env: seed / N_ROWS)
    assert row.seeds == REDRAWN
    lowest, highest = sorted(edges(row), key=lambda edge: edge.side, reverse=True)
    assert (highest.hparam, highest.side, highest.n_at) == ("lr", "highest", N_TRIALS)
    assert highest.chances == pytest.approx((1 / N_ROWS,) * N_TRIALS)
    assert highest.is_suspicious
    assert str(highest) == (
        "lr: 3 of the 3 chosen rows have the highest value of the search (0.3 expected by chance); the best value may "
        "lie outside the search space"
    )
    assert (lowest.n_at, lowest.is_suspicious) == (0, False)


def test_a_row_that_wins_in_all_environments_counts_once(tmp_path):
    """One that is good for another reason has some value on an edge by chance, in all environments at once."""
    row = searched(tmp_path, redrawn_lr, lambda trial, seed, env: seed / N_ROWS, trials=[0])
    (highest,) = (edge for edge in edges(row) if edge.side == "highest")
    assert (highest.n_at, len(highest.chances)) == (1, 1)
    assert not highest.is_suspicious


def test_hyper_parameters_that_are_fixed_over_trials_are_one_search(tmp_path):
    row = searched(tmp_path, lambda trial, seed: {"lr": seed}, lambda trial, seed, env: seed / N_ROWS)
    assert row.seeds == FIXED
    (highest,) = (edge for edge in edges(row) if edge.side == "highest")
    assert (highest.n_at, len(highest.chances)) == (1, 1)


def test_environments_that_choose_different_rows_count_each(tmp_path):
    """Rows 9, 8 and 7 hold the highest value together, row 6 another."""
    row = searched(
        tmp_path,
        lambda trial, seed: {"momentum": min(seed, 7) + 10 * trial},
        lambda trial, seed, env: float(seed == 9 - env),
        trials=[0],
    )
    (highest,) = (edge for edge in edges(row) if edge.side == "highest")
    assert (highest.n_at, highest.chances) == (3, pytest.approx((0.3,) * 4))
    assert not highest.is_suspicious


def test_only_numbers_of_three_values_have_edges(tmp_path):
    def hparams(trial, seed):
        varied = {
            "lr": 0.1 * seed + trial,
            "dropout": (0.0, 0.1, 0.5)[seed % 3],
            "two": seed % 2,
            "flag": seed > 4,
            "text": str(seed),
            "layers": [seed],
            "constant": 5,
            "sometimes_none": None if seed == 3 else seed,
        }
        return varied | ({"not_in_all": seed} if seed else {})

    row = searched(tmp_path, hparams, lambda trial, seed, env: seed / N_ROWS)
    assert {edge.hparam for edge in edges(row)} == {"lr", "dropout"}


def test_suspicious_is_what_chance_does_in_less_than_one_percent_of_cases():
    for n_at, n in itertools.product(range(7), (1, 3, 6)):
        if n_at <= n:
            by_chance = stats.binom.sf(n_at - 1, n, 0.1)
            assert Edge("lr", "highest", n_at, (0.1,) * n).is_suspicious == (by_chance < 0.01)
