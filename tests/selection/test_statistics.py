"""The statistics against SciPy's, exact enumeration, and definitions written out anew."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from dg_batchformer.selection.compare import FEWEST_TO_RESAMPLE, bootstrap_interval, holm, t_interval, t_test
from dg_batchformer.selection.report import at_least

random = np.random.default_rng(0)


@pytest.mark.parametrize("n", [2, 3, 4, 12, 60])
@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_students_interval_and_test_are_scipys(n, shift):
    variant, base = random.normal(size=n) + shift, random.normal(size=n)
    values = list(variant - base)
    expected = stats.t.interval(0.95, n - 1, loc=np.mean(values), scale=stats.sem(values))
    assert t_interval(values) == pytest.approx(expected, rel=1e-10)
    assert t_test(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=1e-10)
    assert t_test(values) == pytest.approx(stats.ttest_rel(variant, base).pvalue, rel=1e-10)


@pytest.mark.parametrize(
    "values",
    [
        [],
        [3.0],
        [1.0, 1.0],
        [0.0] * 12,
        [100 * (0.9 - 0.8), 100 * (0.8 - 0.7), 100 * (0.5 - 0.4)],  # equal but for rounding
    ],
)
def test_without_a_spread_student_says_nothing(values):
    assert t_interval(values) is None
    assert t_test(values) is None


def test_the_bootstrap_has_the_quantiles_of_all_resamples():
    values = [-2.1, -0.4, 0.3, 1.9, 2.2, 7.5]
    means = np.array([sum(resample) for resample in itertools.product(values, repeat=6)]) / 6
    low, high = bootstrap_interval(values)
    # Of 10,000 resamples a share of 0.025 is known to 4 x 0.0016.
    assert np.mean(means <= low) == pytest.approx(0.025, abs=0.0065)
    assert np.mean(means >= high) == pytest.approx(0.025, abs=0.0065)


def test_the_bootstrap_of_many_values_is_the_normal_interval():
    values = random.normal(3, 2, size=300)
    half = stats.norm.ppf(0.975) * np.std(values) / math.sqrt(300)
    low, high = bootstrap_interval(list(values))
    assert low == pytest.approx(np.mean(values) - half, abs=half / 20)
    assert high == pytest.approx(np.mean(values) + half, abs=half / 20)


def test_the_bootstrap_is_the_same_each_time_and_moves_with_its_values():
    values = list(random.normal(size=12))
    assert bootstrap_interval(values) == bootstrap_interval(values)
    moved = bootstrap_interval([value + 5 for value in values])
    assert moved == pytest.approx([limit + 5 for limit in bootstrap_interval(values)])
    assert bootstrap_interval([2.0] * 6) == pytest.approx((2, 2))


def test_too_few_values_have_no_bootstrap_interval():
    """Fewer than there must be for the whole range of the values to hold the median in 95 % of cases."""
    assert next(n for n in itertools.count(1) if 2 * 0.5**n < 0.05) == FEWEST_TO_RESAMPLE
    assert bootstrap_interval([1.0, 2.0, 3.0, 4.0, 5.0]) is None
    assert bootstrap_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) is not None


def test_holm_by_hand():
    # In order 0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 x 1, which must not be below its predecessor.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, None, 0.04]) == [pytest.approx(0.02), None, pytest.approx(0.04)]
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []
    assert holm([None]) == [None]


def rejected(p_values, level):
    """Holm's procedure by its steps: which hypotheses fall at a level."""
    left = set(range(len(p_values)))
    while left:
        smallest = min(left, key=lambda i: p_values[i])
        if p_values[smallest] > level / len(left):
            break
        left.remove(smallest)
    return set(range(len(p_values))) - left


def test_corrected_p_values_reject_what_holms_steps_reject():
    for n in range(1, 9):
        p_values = list(random.choice([0.001, 0.004, 0.01, 0.02, 0.04, 0.3], size=n))
        for level in (0.0049, 0.0099, 0.0499, 0.0999):
            assert {i for i, p in enumerate(holm(p_values)) if p <= level} == rejected(p_values, level)


@pytest.mark.parametrize(("n", "chance"), [(1, 0.5), (7, 0.05), (12, 0.3)])
def test_equal_chances_are_the_binomial(n, chance):
    for k in range(n + 2):
        assert at_least(k, [chance] * n) == pytest.approx(stats.binom.sf(k - 1, n, chance), abs=1e-12)


def test_unequal_chances_by_enumeration():
    chances = [0.1, 0.5, 0.25, 1.0, 0.0]
    for k in range(7):
        expected = sum(
            math.prod(p if happens else 1 - p for p, happens in zip(chances, case, strict=True))
            for case in itertools.product([True, False], repeat=5)
            if sum(case) >= k
        )
        assert at_least(k, chances) == pytest.approx(expected, abs=1e-12)
    assert at_least(0, []) == 1
