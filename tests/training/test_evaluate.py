"""Accuracies and losses by hand."""

import math

import pytest
import torch
from torch import nn

from dg_batchformer.data.environments import Dataset, TensorEnvironment
from dg_batchformer.data.splits import Split
from dg_batchformer.training.compute import Compute
from dg_batchformer.training.evaluate import evaluate


class Echo(nn.Module):
    """Predicts the class that the input says, with two logits of difference 2."""

    modes: list[bool]

    def predict(self, x):
        self.modes.append(self.training)
        return torch.stack([1 - x, x - 1], 1)


def test_values_by_hand():
    algorithm = Echo()
    algorithm.modes = []
    # The input is the predicted class times two.
    says = torch.tensor([0.0, 2.0, 2.0, 0.0])
    environments = [
        TensorEnvironment("a", says, torch.tensor([0, 1, 1, 0])),
        TensorEnvironment("b", says, torch.tensor([1, 1, 0, 0])),
        TensorEnvironment("c", says, torch.tensor([0, 0, 0, 1])),
    ]
    splits = [Split(torch.tensor([0, 1, 2]), torch.tensor([3]))] * 2 + [Split(torch.tensor([1]), torch.tensor([0, 2]))]
    seen = []
    dataset = Dataset("echo", environments, (), 2, 1, 1)
    values = evaluate(algorithm, dataset, splits, [1], Compute("cpu"), lambda done, n: seen.append((done, n)))
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert values == {
        "env0_in_acc": 1.0,
        "env0_out_acc": 1.0,
        "env1_in_acc": pytest.approx(1 / 3),
        "env1_out_acc": 1.0,
        "env2_in_acc": 0.0,
        "env2_out_acc": 0.5,
        # Without the test environment: the mean of environments, not of images.
        "validation_loss": pytest.approx((right + (right + wrong) / 2) / 2),
    }
    assert seen == [(3, 11), (4, 11), (7, 11), (8, 11), (9, 11), (11, 11)]
    assert not any(algorithm.modes)
    assert algorithm.training
