"""BoDA against its formula, and when it asks for features."""

import math

import pytest
import torch
from factories import CLASSES, SHAPE, make, minibatches

from dg_batchformer.algorithms.boda import boda_loss, centroids_of
from dg_batchformer.errors import InputError

COUNTS = torch.tensor([[40.0, 5.0, 0.0], [3.0, 60.0, 9.0]])
CELLS = COUNTS.nonzero()


def test_it_is_the_formula_of_the_paper():
    """-log of the share of a positive centroid among all but the sample's own, averaged over all positives."""
    torch.manual_seed(0)
    features, centroids = torch.randn(6, 8).double(), torch.randn(len(CELLS), 8).double()
    cells = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1], [1, 2], [0, 0]])
    nu, temperature, total, n = 0.5, 2.0, 0.0, 0
    for z, (d, k) in zip(features, cells.tolist(), strict=True):
        similar = {}
        for centroid, (e, c) in zip(centroids, CELLS.tolist(), strict=True):
            distance = float((z - centroid).norm()) / float(COUNTS[d, k])
            similar[e, c] = -distance * (float(COUNTS[e, c]) / float(COUNTS[d, k])) ** nu / temperature
        others = sum(math.exp(value) for cell, value in similar.items() if cell != (d, k))
        for (e, c), value in similar.items():
            if c == k and e != d:
                total -= value - math.log(others)
                n += 1
    found = boda_loss(features, cells, centroids, CELLS, COUNTS.double(), nu, temperature)
    assert n == 5  # class 2 is in one environment only
    assert float(found) == pytest.approx(total / n)


def test_a_batch_without_a_positive_costs_nothing():
    assert float(boda_loss(torch.randn(2, 4), torch.tensor([[1, 2]] * 2), torch.randn(5, 4), CELLS, COUNTS, 1, 1)) == 0


def test_centroids_are_means_of_cells():
    features = [torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([[7.0], [9.0]])]
    labels = [torch.tensor([0, 0, 1]), torch.tensor([1, 1])]
    assert centroids_of(features, labels, torch.tensor([[0, 0], [0, 1], [1, 1]])).tolist() == [[2.0], [5.0], [8.0]]


def features_of(algorithm, batches):
    with torch.no_grad():
        return [algorithm.featurizer(x) for x, _ in batches], [y for _, y in batches]


def every_class(n=CLASSES * 2):
    """A minibatch with all classes in each environment."""
    return [(x, torch.arange(n) % CLASSES) for x, _ in minibatches((n, n, n), SHAPE)]


def test_it_is_coral_before_its_start():
    algorithm, coral, batches = make("BoDA", boda_start_step=2), make("CORAL"), every_class()
    for _ in range(2):
        assert algorithm.update(batches) == coral.update(batches)


def test_it_asks_for_features_and_needs_them():
    algorithm, batches = make("BoDA", boda_start_step=2, boda_feature_freq=3), every_class()
    asked = []
    for _ in range(7):
        asked.append(algorithm.awaits_features)
        if asked[-1]:
            algorithm.see_features(*features_of(algorithm, batches))
        values = algorithm.update(batches)
    assert asked == [False, False, True, True, False, False, True]
    assert values["loss"] == pytest.approx(values["nll"] + values["penalty"] + 0.1 * values["boda"], rel=1e-5)
    blind = make("BoDA", boda_start_step=1)
    blind.update(batches)
    with pytest.raises(InputError, match="BoDA has seen no features"):
        blind.update(batches)


def test_old_centroids_keep_their_share():
    algorithm, batches = make("BoDA", boda_momentum=0.25), every_class()
    features, labels = features_of(algorithm, batches)
    algorithm.see_features(features, labels)
    first = algorithm.centroids
    algorithm.see_features([own + 4 for own in features], labels)
    torch.testing.assert_close(algorithm.centroids, first + 3)
