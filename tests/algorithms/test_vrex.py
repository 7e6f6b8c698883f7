"""V-REx against NumPy's variance."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from factories import make, minibatches

from dg_batchformer.algorithms.vrex import variance_penalty


def test_penalty_is_the_variance_over_environments():
    losses = torch.tensor([1.0, 2.0, 4.5])
    assert variance_penalty(losses, losses.mean()).item() == pytest.approx(np.var([1, 2, 4.5]))


@pytest.mark.parametrize(("anneal", "weight"), [(0, 5.0), (1, 1.0)])
def test_logs_what_is_optimised(anneal, weight):
    algorithm = make("VREx", vrex_lambda=5.0, vrex_penalty_anneal_iters=anneal)
    batches = minibatches((3, 5, 9))
    with torch.no_grad():
        losses = [F.cross_entropy(algorithm.predict(x), y).item() for x, y in batches]
    values = algorithm.update(batches)
    # DomainBed logs the last environment's loss as nll.
    assert values["nll"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert values["penalty"] == pytest.approx(np.var(losses), rel=1e-3)
    assert values["loss"] == pytest.approx(np.mean(losses) + weight * np.var(losses), rel=1e-5)
