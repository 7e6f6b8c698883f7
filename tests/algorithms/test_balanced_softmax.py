"""Balanced softmax against the formula of the paper."""

import pytest
import torch
from factories import CLASSES, make, minibatches

from dg_batchformer.algorithms.balanced_softmax import balanced_cross_entropy

COUNTS = torch.tensor([[90, 9, 3, 1], [1, 3, 9, 90], [5, 5, 5, 0]])


def by_hand(logits, labels, counts):
    """-log of n_y exp(l_y) / sum over k of n_k exp(l_k), averaged."""
    weighted = counts * logits.exp()
    return -(weighted[torch.arange(len(labels)), labels] / weighted.sum(1)).log().mean()


def test_it_is_the_formula_of_the_paper():
    logits, labels = torch.randn(12, CLASSES, dtype=torch.double), torch.arange(12) % CLASSES
    counts = COUNTS[0].double()
    torch.testing.assert_close(balanced_cross_entropy(logits, labels, counts), by_hand(logits, labels, counts))


def test_each_environment_has_its_counts_and_a_missing_class_counts_as_one():
    algorithm, batches = make("BalancedSoftmax"), minibatches((5, 7, 9))
    algorithm.set_class_counts(COUNTS)
    with torch.no_grad():
        losses = [
            by_hand(algorithm.predict(x), y, counts.clamp(min=1))
            for (x, y), counts in zip(batches, COUNTS, strict=True)
        ]
    assert algorithm.update(batches)["loss"] == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


def test_without_counts_all_classes_count_the_same():
    algorithm, batches = make("BalancedSoftmax"), minibatches((6, 6, 6))
    assert algorithm.update(batches) == pytest.approx(make("ERM").update(batches))


def test_its_state_is_that_of_erm():
    assert make("BalancedSoftmax").state_dict().keys() == make("ERM").state_dict().keys()
