"""The statistics against SciPy's and statsmodels', exact enumeration, and definitions written out anew."""

import itertools
import math
import warnings

import numpy as np
import pytest
from scipy import stats

from dg_batchformer.selection.edges import at_least
from dg_batchformer.selection.inference import (
    FEWEST_ENVIRONMENTS,
    Estimate,
    corrected,
    detectable,
    improvement,
    on_new,
    on_these,
    sign_flip,
    smallest_p,
    trials_needed,
    verdict,
)


def grid(n_environments=4, n_trials=5, seed=0, *, between=1.0, trials=0.5, noise=1.0, mean=0.3):
    random = np.random.default_rng(seed)
    return (
        mean
        + random.normal(0, between, (n_environments, 1))
        + random.normal(0, trials, (1, n_trials))
        + random.normal(0, noise, (n_environments, n_trials))
    )


@pytest.mark.parametrize("n_trials", [2, 3, 5, 40])
@pytest.mark.parametrize("n_environments", [1, 4])
def test_these_environments_are_students_test_of_the_trials_means(n_environments, n_trials):
    own = grid(n_environments, n_trials)
    found, values = on_these([own]), own.mean(0)
    assert found.interval() == pytest.approx(
        stats.t.interval(0.95, n_trials - 1, loc=np.mean(values), scale=stats.sem(values)), rel=1e-10
    )
    assert found.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=1e-10)
    assert found.interval(0.01) == pytest.approx(
        stats.t.interval(0.99, n_trials - 1, loc=np.mean(values), scale=stats.sem(values)), rel=1e-10
    )


def test_several_datasets_weigh_the_same_and_their_trials_are_independent():
    grids = [grid(4, 5, 1), grid(3, 4, 2), grid(6, 9, 3)]
    found = on_these(grids)
    assert found.mean == pytest.approx(np.mean([own.mean() for own in grids]))
    variances = np.array([np.var(own.mean(0), ddof=1) / own.shape[1] for own in grids])
    assert found.error == pytest.approx(math.sqrt(variances.sum()) / 3)
    # Satterthwaite's formula.
    dfs = np.array([own.shape[1] - 1 for own in grids])
    assert found.df == pytest.approx(variances.sum() ** 2 / (variances**2 / dfs).sum())
    # Two datasets of equal variance have the degrees of freedom of both.
    assert on_these([grid(seed=7), grid(seed=7) + 1]).df == pytest.approx(8)


def test_new_environments_have_the_variance_of_a_crossed_model():
    """The mean squares of a two-way table, as in any textbook."""
    own = grid()
    n_environments, n_trials = own.shape
    total = own.mean()
    of_environments = n_trials * sum((own[e].mean() - total) ** 2 for e in range(n_environments)) / (n_environments - 1)
    of_trials = n_environments * sum((own[:, t].mean() - total) ** 2 for t in range(n_trials)) / (n_trials - 1)
    rest = sum(
        (own[e, t] - own[e].mean() - own[:, t].mean() + total) ** 2
        for e, t in itertools.product(range(n_environments), range(n_trials))
    ) / ((n_environments - 1) * (n_trials - 1))
    parts = of_environments / own.size, max(of_trials - rest, 0) / own.size
    found = on_new([own])
    assert found.error == pytest.approx(math.sqrt(sum(parts)))
    assert found.df == pytest.approx(sum(parts) ** 2 / (parts[0] ** 2 / 3 + parts[1] ** 2 / 4))


def test_new_environments_agree_with_a_mixed_model():
    """Restricted maximum likelihood of statsmodels, with environments and trials as crossed random effects."""
    pandas = pytest.importorskip("pandas")
    models = pytest.importorskip("statsmodels.formula.api")
    own = grid(8, 6, seed=3, between=1.0, trials=1.5)
    rows = [
        {"y": own[e, t], "environment": e, "trial": t, "all": 1}
        for e, t in itertools.product(range(own.shape[0]), range(own.shape[1]))
    ]
    parts = {"environment": "0 + C(environment)", "trial": "0 + C(trial)"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = models.mixedlm("y ~ 1", pandas.DataFrame(rows), groups="all", vc_formula=parts).fit(reml=True)
    found = on_new([own])
    assert found.mean == pytest.approx(fitted.params["Intercept"], rel=1e-6)
    assert found.error == pytest.approx(fitted.bse["Intercept"], rel=1e-3)


@pytest.mark.parametrize("of", [on_these, on_new])
def test_too_little_says_nothing(of):
    assert of([]) is None
    assert of([np.ones((4, 1))]) is None
    assert of([grid(), np.ones((4, 1))]) is None
    assert of([np.full((4, 5), 0.3)]) is None
    # Equal but for rounding.
    assert of([np.array([[100 * (0.9 - 0.8), 100 * (0.8 - 0.7), 100 * (0.5 - 0.4)]] * 2)]) is None
    assert on_new([grid(1, 5)]) is None


@pytest.mark.parametrize("rope", [0.0, 0.5, 2.0])
def test_probabilities_are_those_of_students_distribution(rope):
    found = on_these([grid(mean=0.4)])
    own = stats.t(found.df, found.mean, found.error)
    worse, equivalent, better = found.probabilities(rope)
    assert (worse, better) == pytest.approx((own.cdf(-rope), own.sf(rope)))
    assert worse + equivalent + better == pytest.approx(1)


@pytest.mark.parametrize("rope", [0.3, 0.7, 3.0])
def test_equivalence_is_two_one_sided_tests(rope):
    statsmodels = pytest.importorskip("statsmodels.stats.weightstats")
    values = grid().mean(0)
    expected = max(
        statsmodels.ttost_paired(values, np.zeros_like(values), -rope, rope)[1][1],
        statsmodels.ttost_paired(values, np.zeros_like(values), -rope, rope)[2][1],
    )
    assert on_these([values[None]]).p_equivalent(rope) == pytest.approx(expected)


def test_a_verdict_and_its_interval_never_contradict():
    random = np.random.default_rng(0)
    said = set()
    for _ in range(2000):
        own = Estimate(random.normal(0, 1), random.uniform(0.05, 0.6), random.integers(2, 30))
        level = random.choice([0.05, 0.01])
        low, high = own.interval(level)
        found = verdict(own, 0.5, level)
        said.add(found)
        if found in ("better", "worse"):
            assert low > 0 if found == "better" else high < 0
        if found == "inconclusive":
            assert low <= 0 <= high
        if found == "equivalent":
            # Two one-sided tests are an interval at twice the level.
            assert all(-0.5 < limit < 0.5 for limit in own.interval(2 * level))
    assert said == {"better", "worse", "equivalent", "inconclusive"}


@pytest.mark.parametrize("n", [3, 5, 20])
@pytest.mark.parametrize("level", [0.05, 0.01])
def test_power_is_that_of_statsmodels(n, level):
    power = pytest.importorskip("statsmodels.stats.power").TTestPower()
    found = detectable(2.0 / math.sqrt(n), n - 1, level)
    assert power.power(found / 2.0, n, level) == pytest.approx(0.8, abs=1e-4)
    assert stats.nct.sf(stats.t.ppf(1 - level / 2, n - 1), n - 1, found * math.sqrt(n) / 2) == pytest.approx(
        0.8, abs=1e-5
    )


@pytest.mark.parametrize("effect", [0.4, 0.7, 2.0])
def test_trials_needed_are_the_fewest_with_that_power(effect):
    power = pytest.importorskip("statsmodels.stats.power").TTestPower()
    own = grid()
    n = trials_needed(on_these([own]), own.shape[1], effect)
    deviation = np.std(own.mean(0), ddof=1)
    assert power.power(effect / deviation, n, 0.05) >= 0.8 - 1e-6
    assert n == 2 or power.power(effect / deviation, n - 1, 0.05) < 0.8 + 1e-6
    assert trials_needed(on_these([own]), 5, 1e-4) is None


@pytest.mark.parametrize("grids", [[grid()], [grid(3, 5, 1), grid(2, 4, 2)]])
def test_flipped_signs_against_all_of_them(grids):
    means = [[own[e].mean() / len(own) for e in range(len(own))] for own in grids]
    flat = np.array([value / len(grids) for own in means for value in own])
    sums = [abs(np.dot(signs, flat)) for signs in itertools.product((-1, 1), repeat=len(flat))]
    expected = np.mean(np.array(sums) >= abs(flat.sum()) - 1e-12)
    assert sign_flip(grids) == pytest.approx(expected)


def test_the_smallest_p_of_flipped_signs():
    """All environments agree: 4 of them cannot reach 0.05, 6 can, and 16 reach 3e-5."""
    for n in (2, 4, 5, 6, 16):
        assert sign_flip([np.ones((n, 2))]) == pytest.approx(smallest_p(n))
    assert next(n for n in range(1, 20) if smallest_p(n) < 0.05) == FEWEST_ENVIRONMENTS
    assert smallest_p(16) == pytest.approx(3.05e-5, rel=1e-2)


def test_improvement_is_the_mann_whitney_share():
    random = np.random.default_rng(0)
    pairs = [(random.integers(0, 5, 6) / 10, random.integers(0, 5, 4) / 10) for _ in range(3)]
    shares = [stats.mannwhitneyu(x, y).statistic / (len(x) * len(y)) for x, y in pairs]
    assert improvement(pairs) == pytest.approx(np.mean(shares))


def test_correction_by_hand():
    assert corrected(0.01, 5) == pytest.approx(0.05)
    assert corrected(0.3, 5) == 1


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
