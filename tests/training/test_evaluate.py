"""Accuracies and losses by hand."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import recall_score
from torch import nn

from dg_batchformer.data.environments import Dataset, Split, TensorEnvironment
from dg_batchformer.training.compute import Compute, class_accuracies, evaluate, macro_accuracy


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
    dataset = Dataset("echo", environments, (), ("0", "1"))
    values = evaluate(algorithm, dataset, splits, [0, 2], Compute("cpu"), lambda done, n: seen.append((done, n)))
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert values == {
        "env0_in_acc": 1.0,
        "env0_in_macro_acc": 1.0,
        "env0_out_acc": 1.0,
        "env0_out_macro_acc": 1.0,
        "env1_in_acc": pytest.approx(1 / 3),
        "env1_in_macro_acc": 0.25,
        "env1_out_acc": 1.0,
        "env1_out_macro_acc": 1.0,
        "env2_in_acc": 0.0,
        "env2_in_macro_acc": 0.0,
        "env2_out_acc": 0.5,
        "env2_out_macro_acc": 0.5,
        # Without the test environment: the mean of environments, not of images.
        "validation_loss": pytest.approx((right + (right + wrong) / 2) / 2),
    }
    assert seen == [(3, 11), (4, 11), (7, 11), (8, 11), (9, 11), (11, 11)]
    assert not any(algorithm.modes)
    assert algorithm.training


class Told(nn.Module):
    """Predicts what it was told for each sample, whose input is its number."""

    def __init__(self, predictions):
        super().__init__()
        self.predictions = predictions

    def predict(self, x):
        return nn.functional.one_hot(self.predictions[x], 5)


@pytest.mark.parametrize("lacking", [[], [0], [2], [4], [0, 1, 3, 4]])
def test_macro_accuracies_are_scikit_learns_recall(lacking):
    """Of classes of different sizes, in splits of several batches; what a split lacks is predicted all the same."""
    random = np.random.default_rng(0)
    labels = random.choice(5, 400, p=[0.5, 0.2, 0.15, 0.1, 0.05])
    predictions = np.where(random.random(400) < 0.5, labels, random.integers(0, 5, 400))
    inside, out = np.flatnonzero(~np.isin(labels, lacking))[::-1].copy(), np.arange(0, 400, 3)
    environment = TensorEnvironment("a", torch.arange(400), torch.from_numpy(labels))
    split = Split(torch.from_numpy(inside), torch.from_numpy(out))
    dataset, algorithm = Dataset("told", [environment], (), tuple("01234")), Told(torch.from_numpy(predictions))
    values = evaluate(algorithm, dataset, [split], [0], Compute("cpu"), lambda done, n: None)
    for name, indices in (("in", inside), ("out", out)):
        true, predicted = labels[indices], predictions[indices]
        recall = recall_score(true, predicted, labels=np.unique(true), average="macro")
        assert values[f"env0_{name}_macro_acc"] == pytest.approx(recall, abs=1e-12)
        assert values[f"env0_{name}_acc"] == pytest.approx((true == predicted).mean(), abs=1e-12)
    assert set(lacking) < set(predictions[inside])


@pytest.mark.parametrize("value", [True, False])
def test_macro_accuracies_end_at_one_and_zero(value):
    labels = torch.tensor([4, 4, 4, 1, 7, 7])
    assert macro_accuracy(class_accuracies(torch.full((6,), value), labels, 8)) == float(value)
