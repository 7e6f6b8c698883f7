"""Means and errors of cells, by arithmetic written out."""

import math

import numpy as np
import pytest
from factories import args, finished_run, record

from dg_batchformer.selection.cells import Cell, average, of_trials, standard_error, worst
from dg_batchformer.selection.methods import Choice


def choices(shares):
    """A choice for each trial, with a share as its accuracy."""
    found = {}
    for trial, share in enumerate(shares):
        of = args([0], trial=trial)
        found[trial] = Choice(finished_run([record(0, [share] * 2, [0.5] * 2, of)]), (0,), 0, 0.5)
    return found


def cell_of(shares, missing="", counts=(0, 0), ddof=0):
    return of_trials(choices(shares), lambda choice: choice.accuracy, missing, counts, ddof)


def cell(values, missing="", **fields):
    """A cell of values by trial."""
    return Cell(values, float(np.mean(list(values.values()))), None, missing, **fields)


@pytest.mark.parametrize(
    ("values", "ddof", "error"),
    [
        ([], 0, None),
        ([50.0], 0, None),
        ([50.0], 1, None),
        ([80.0, 82.0], 0, 1 / math.sqrt(2)),
        ([80.0, 82.0], 1, 1.0),
        ([1.0, 2.0, 6.0], 0, math.sqrt((4 + 1 + 9) / 3 / 3)),
        ([1.0, 2.0, 6.0], 1, math.sqrt((4 + 1 + 9) / 2 / 3)),
        ([7.0, 7.0, 7.0], 1, 0.0),
    ],
)
def test_standard_error(values, ddof, error):
    assert standard_error(values, ddof) == (None if error is None else pytest.approx(error))


def test_a_cell_over_trials():
    found = cell_of([0.8, 0.82], "2 of 3 trials", (3, 9))
    assert found.values == {0: pytest.approx(80), 1: pytest.approx(82)}
    assert (found.mean, found.error) == (pytest.approx(81), pytest.approx(1 / math.sqrt(2)))
    assert cell_of([0.8, 0.82], ddof=1).error == pytest.approx(1)
    assert (found.n, found.missing, found.done, found.expected) == (2, "2 of 3 trials", 3, 9)
    assert [choice.run.key.trial_seed for choice in found.choices] == [0, 1]


def test_a_mean_is_domainbeds_to_the_bit():
    shares = [0.1, 0.2, 0.7]
    assert cell_of(shares).mean == 100 * np.mean(shares)


def test_one_trial_has_no_error():
    assert (cell_of([0.8]).mean, cell_of([0.8]).error, cell_of([0.8]).n) == (80, None, 1)


def test_no_trial_has_no_number():
    found = cell_of([], "0 of 3 trials", (0, 60))
    assert (found.mean, found.error, found.n) == (None, None, 0)
    assert (found.missing, found.done, found.expected) == ("0 of 3 trials", 0, 60)


def test_a_trial_without_the_value_leaves_no_number_and_says_so():
    """A mean over the trials that have it would be of other trials than that beside it."""
    found = cell_of([0.8, math.nan], "2 of 3 trials", (2, 3))
    assert (found.mean, found.n, found.missing, found.done, found.expected) == (None, 0, "not recorded", 2, 3)


def test_average_is_of_means_and_its_error_of_the_trials_that_all_columns_have():
    found = average([cell({0: 10.0, 1: 23.0, 2: 30.0}), cell({0: 30.0, 2: 50.0})], 0)
    assert found.values == {0: pytest.approx(20), 2: pytest.approx(40)}
    assert found.mean == pytest.approx((21 + 40) / 2)
    assert found.error == pytest.approx(10 / 2**0.5)
    assert average([cell({0: 10.0, 1: 23.0, 2: 30.0}), cell({0: 30.0, 2: 50.0})], 1).error == pytest.approx(10)
    assert found.missing == "2 of 3 trials"


def test_worst_is_of_each_trials_lowest_column():
    found = worst([cell({0: 10.0, 1: 40.0, 2: 30.0}), cell({0: 30.0, 1: 20.0, 2: 35.0})], 0)
    assert found.values == {0: 10.0, 1: 20.0, 2: 30.0}
    assert (found.mean, found.error) == (pytest.approx(20), pytest.approx(math.sqrt(200 / 3 / 3)))
    # Trials that a column lacks do not count.
    found = worst([cell({0: 10.0, 1: 40.0}), cell({1: 20.0, 2: 1.0})], 0)
    assert (found.values, found.mean, found.error, found.missing) == ({1: 20.0}, 20.0, None, "1 of 2 trials")


@pytest.mark.parametrize("over", [average, worst])
def test_over_columns_without_a_number_there_is_none(over):
    full, empty = cell({0: 10.0}), Cell(missing="0 of 3 trials")
    assert (over([full, full, empty], 0).mean, over([full, full, empty], 0).missing) == (None, "2 of 3 columns")
    assert over([empty, empty], 0).missing == "0 of 3 trials"
    assert over([empty, Cell(missing="not run")], 0).missing == "0 of 2 columns"
    assert over([], 0).mean is None


def test_columns_without_a_trial_in_common_have_an_average_without_an_error():
    found = average([cell({0: 10.0}), cell({1: 30.0})], 0)
    assert (found.mean, found.error, found.missing) == (20.0, None, "0 of 1 trials")
    assert worst([cell({0: 10.0}), cell({1: 30.0})], 0).mean is None


def test_what_a_column_lacks_its_average_lacks():
    found = average([cell({0: 1.0}), cell({0: 2.0}, "3 of 20 runs")], 0)
    assert (found.mean, found.missing) == (1.5, "3 of 20 runs")


def test_counts_and_choices_are_those_of_all_columns():
    found = average(
        [cell({0: 1.0}, done=3, expected=4, choices=(1,)), cell({0: 2.0}, done=2, expected=4, choices=(2,))], 0
    )
    assert (found.done, found.expected, found.choices) == (5, 8, (1, 2))


def test_an_average_lacks_what_its_poorest_column_lacks():
    """Of five trials one column has three and another two, which both have."""
    cells = [
        Cell({0: 70.0, 1: 72.0, 2: 74.0}, 72.0, missing="3 of 5 trials"),
        Cell({0: 80.0, 2: 82.0}, 81.0, missing="2 of 5 trials"),
    ]
    assert average(cells, 0).missing == "2 of 5 trials"
    assert list(average(cells, 0).values) == [0, 2]
    apart = [cells[0], Cell({2: 80.0, 3: 82.0}, 81.0, missing="2 of 5 trials")]
    assert average(apart, 0).missing == "1 of 3 trials"
