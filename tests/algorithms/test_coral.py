"""CORAL against NumPy."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from factories import SHAPE, make, minibatches

from dg_batchformer.algorithms.coral import coral_distance


def numpy_distance(x, y):
    means = np.mean((x.mean(0) - y.mean(0)) ** 2)
    return means + np.mean((np.cov(x, rowvar=False) - np.cov(y, rowvar=False)) ** 2)


def test_distance_is_that_of_means_and_covariances():
    x, y = torch.randn(9, 5, dtype=torch.float64), 2 * torch.randn(6, 5, dtype=torch.float64) + 1
    assert coral_distance(x, y).item() == pytest.approx(numpy_distance(x.numpy(), y.numpy()))
    assert coral_distance(x, x).item() == 0


def test_distance_by_hand():
    # Means 1 and 0; variances 2 and 8.
    x, y = torch.tensor([[0.0], [2.0]]), torch.tensor([[-2.0], [2.0]])
    assert coral_distance(x, y).item() == 1 + 36


def test_objective_is_mean_loss_and_mean_distance_over_pairs():
    algorithm = make("CORAL", mmd_gamma=3.0)
    batches = minibatches((4, 5, 8))
    with torch.no_grad():
        z = [algorithm.featurizer(x) for x, _ in batches]
        nll = np.mean(
            [F.cross_entropy(algorithm.classifier(f), y).item() for f, (_, y) in zip(z, batches, strict=True)]
        )
        pairs = [numpy_distance(z[i].numpy(), z[j].numpy()) for i, j in ((0, 1), (0, 2), (1, 2))]
    values = algorithm.update(batches)
    assert values["nll"] == pytest.approx(nll, rel=1e-5)
    assert values["penalty"] == pytest.approx(np.mean(pairs), rel=1e-4)
    assert values["loss"] == pytest.approx(nll + 3 * np.mean(pairs), rel=1e-5)


def test_one_environment_has_no_penalty():
    assert make("CORAL").update(minibatches((4,)))["penalty"] == 0


def test_one_sample_is_refused():
    with pytest.raises(ValueError, match=r"1 sample.*larger batch_size"):
        make("CORAL").update(minibatches((4, 1, 4)))


@pytest.mark.parametrize("name", ["CORAL", "CORAL_BatchFormer", "CORAL_SWAD"])
def test_each_environment_has_its_own_forward_pass(name):
    algorithm, seen = make(name), []
    algorithm.featurizer.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    algorithm.update(minibatches((4, 5, 6)))
    assert [len(x) for x in seen if x.shape[1:] == SHAPE] == [4, 5, 6]
