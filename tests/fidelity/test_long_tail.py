"""The long-tail objectives against those of multi-domain-imbalance (Yang et al., ECCV 2022), step by step."""

import pytest
import torch
from factories import minibatches

from dg_batchformer import default_hparams, get_algorithm_class

pytestmark = [pytest.mark.domainbed, pytest.mark.filterwarnings("ignore")]

SHAPE, CLASSES = (3, 28, 28), 4
COUNTS = [[90, 9, 3, 1], [1, 3, 9, 90], [5, 50, 7, 0]]
LABELS = {f"env{i}": [k for k, n in enumerate(counts) for _ in range(n)] for i, counts in enumerate(COUNTS)}
THEIRS = {
    "BalancedSoftmax": ("BSoftmax", {}),
    "LDAM": ("LDAM", {"max_m": 0.5, "scale": 30.0}),
    "FocalLoss": ("Focal", {"gamma": 1}),
}


@pytest.mark.parametrize("name", THEIRS)
def test_ten_updates_are_theirs(multi_domain_imbalance, name):
    their_name, their_hparams = THEIRS[name]
    hparams = {**default_hparams(name, "RotatedMNIST"), "lr": 1e-3}
    torch.manual_seed(0)
    ours = get_algorithm_class(name)(SHAPE, CLASSES, len(COUNTS), hparams)
    if hasattr(ours, "set_class_counts"):
        ours.set_class_counts(torch.tensor(COUNTS))
    theirs = getattr(multi_domain_imbalance, their_name)(SHAPE, CLASSES, 3, {**hparams, **their_hparams}, LABELS)
    for seed in range(10):
        # The same weights at each step: Adam magnifies the rounding of their forward pass, one for each environment.
        theirs.load_state_dict(ours.state_dict())
        batches = minibatches((8, 8, 8), SHAPE, seed)
        assert ours.update(batches)["loss"] == pytest.approx(theirs.update(batches)["loss"], rel=1e-5)
        for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(own.grad, other.grad, rtol=1e-4, atol=1e-6)
