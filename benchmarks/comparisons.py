"""Coverage of the intervals and size of the tests of `collect`, simulated: python benchmarks/comparisons.py

It estimates the variance components of paired differences in the published records (results/*/records.tar.xz), then
draws differences from their model, mean + environment + trial + rest, all normal: 3 and 5 trials, 4 environments and 4
times 4 of four datasets. For each interval of 95 % it prints the share that contain the true mean, for each test at 5 %
the share that reject a true mean of 0. Needs no data and takes about 5 minutes.
"""

from __future__ import annotations

import itertools
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dg_batchformer.selection import collect
from dg_batchformer.selection.compare import compare
from dg_batchformer.selection.inference import FEWEST_ENVIRONMENTS, Estimate, on_new, on_these, variance_of_rest
from dg_batchformer.selection.methods import Floats
from dg_batchformer.selection.table import build

RESULTS = Path(__file__).resolve().parents[1] / "results"
N = 4000
RESAMPLES = 400


def components(grid: Floats) -> tuple[float, float, float]:
    """The variances between environments, between trials, and of the rest (method of moments, at least 0)."""
    n_environments, n_trials = grid.shape
    noise = variance_of_rest(grid)
    between = float(grid.mean(1).var(ddof=1)) - noise / n_trials
    trials = float(grid.mean(0).var(ddof=1)) - noise / n_environments
    return max(between, 0.0), max(trials, 0.0), noise


def published() -> Iterator[tuple[str, Floats]]:
    """The grids of BatchFormer's comparisons in the published records, under training-domain validation."""
    for archive in sorted(RESULTS.glob("*/records.tar.xz")):
        with tempfile.TemporaryDirectory() as folder, tarfile.open(archive) as opened:
            opened.extractall(folder, filter="data")
            for sweep in sorted(path for path in Path(folder).iterdir() if path.is_dir()):
                for section in build(collect([sweep]), 0, ["training-domain"]):
                    for one in compare(section):
                        if one.modifier == "BatchFormer" and one.overall.new and len(one.overall.grids) == 1:
                            yield f"{archive.parent.name}/{sweep.name}: {one.title}", one.overall.grids[0]


def drawn(random: np.random.Generator, n_datasets: int, n_trials: int, variances: tuple[float, float, float]) -> Floats:
    """Grids (datasets, 4, trials) with the true mean 0 for new environments."""
    between, trials, noise = (variance**0.5 for variance in variances)
    return (
        random.normal(0, between, (n_datasets, 4, 1))
        + random.normal(0, trials, (n_datasets, 1, n_trials))
        + random.normal(0, noise, (n_datasets, 4, n_trials))
    )


def pairs(grids: Floats) -> Estimate:
    """All pairs as the sample, as until version 0.2."""
    values = grids.ravel()
    return Estimate(float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5), len(values) - 1)


def environments(grids: Floats) -> Estimate:
    """The environments' means as the sample; trials do not count."""
    means = grids.mean(2)
    variance = means.var(1, ddof=1).sum() / means.shape[1] / len(means) ** 2
    return Estimate(float(means.mean()), float(variance**0.5), means.size - len(means))


def nested_bootstrap(grids: Floats, random: np.random.Generator) -> tuple[float, float]:
    """The percentile interval of resampled environments of each dataset, then of trials of each environment."""
    n_datasets, n_environments, n_trials = grids.shape
    chosen = random.integers(n_environments, size=(RESAMPLES, n_datasets, n_environments, 1))
    trials = random.integers(n_trials, size=(RESAMPLES, n_datasets, n_environments, n_trials))
    datasets = np.arange(n_datasets)[None, :, None, None]
    means = grids[datasets, chosen, trials].mean((1, 2, 3))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def sign_flips(n: int, random: np.random.Generator) -> Floats:
    """Signs (flips, n): all, or 2,000 random ones."""
    if n <= 10:
        return np.array(list(itertools.product((-1.0, 1.0), repeat=n)))
    return random.choice((-1.0, 1.0), size=(2000, n))


def simulated(n_datasets: int, n_trials: int, variances: tuple[float, float, float]) -> dict[str, float]:
    """Shares in percent over N draws."""
    random = np.random.default_rng(0)
    signs = sign_flips(4 * n_datasets, random)
    hits: dict[str, int] = dict.fromkeys(NAMES, 0)
    for _ in range(N):
        grids = drawn(random, n_datasets, n_trials, variances)
        new = on_new(list(grids))
        assert new
        # Trials are the sample for these environments: their own mean is the truth.
        shift = drawn(random, n_datasets, n_trials, (variances[0], 0.0, 0.0))[..., :1]
        fixed = on_these(list(drawn(random, n_datasets, n_trials, (0.0, *variances[1:])) + shift))
        assert fixed
        hits["these"] += covers(fixed.interval(), float(shift.mean()))
        hits["new"] += covers(new.interval(), 0.0)
        for name, of in (("pairs", pairs), ("environments", environments)):
            hits[name] += covers(of(grids).interval(), 0.0)
        hits["bootstrap"] += covers(nested_bootstrap(grids, random), 0.0)
        means = grids.mean(2).ravel()
        hits["flips"] += float(np.mean(np.abs(signs @ means) >= abs(means.sum()) - 1e-12)) < 0.05
        hits["test"] += new.p < 0.05
    return {name: 100 * n / N for name, n in hits.items()}


NAMES = {
    "these": "these environments: trials (used)",
    "new": "new ones: environments and trials (used)",
    "environments": "new ones: environments alone",
    "pairs": "new ones: all pairs (until 0.2)",
    "bootstrap": "new ones: nested bootstrap",
    "test": "size of the test used, new ones",
    "flips": "size of flipped signs, new ones",
}


def covers(interval: tuple[float, float], truth: float) -> bool:
    return interval[0] <= truth <= interval[1]


def row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    print(row(["Published comparison", "environments", "trials", "rest"]))
    print(row(["---", "---:", "---:", "---:"]))
    found = []
    for name, grid in published():
        found.append(components(grid))
        print(row([name, *(f"{variance:.2f}" for variance in found[-1])]))
    low, high = np.percentile(found, [0, 100], axis=0)
    print(f"\nVariances in squared points, {len(found)} comparisons: {low.round(2)} to {high.round(2)}.\n")
    cases = [(between, trials, noise) for noise in (0.5, 6.0) for between in (0.0, 1.0, 4.4) for trials in (0.0, 1.1)]
    print(row(["environments", "trials", "variances", *NAMES.values()]))
    print(row(["---:", "---:", "---", *["---:"] * len(NAMES)]))
    for n_datasets, n_trials, case in itertools.product((1, 4), (3, 5), cases):
        shares = simulated(n_datasets, n_trials, case)
        told = 4 * n_datasets >= FEWEST_ENVIRONMENTS
        cells = [f"{shares[name]:.1f}" for name in NAMES]
        n = f"{4 * n_datasets}" if told else f"{4 * n_datasets} (the table says too few)"
        print(row([n, str(n_trials), "/".join(map(str, case)), *cells]))


if __name__ == "__main__":
    main()
