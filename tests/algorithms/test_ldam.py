"""LDAM against its formula."""

import pytest
import torch
from factories import CLASSES, make, minibatches

from dg_batchformer.algorithms.ldam import margin_cross_entropy, margins


def test_margins_fall_with_the_fourth_root():
    found = margins(torch.tensor([1.0, 16.0, 81.0, 10000.0, 0.0]), 0.5)
    assert found.tolist() == pytest.approx([0.5, 0.25, 0.5 / 3, 0.05, 0])


def test_it_is_the_formula_of_the_paper():
    """-log of exp(s (l_y - m_y)) / (exp(s (l_y - m_y)) + sum over the other classes of exp(s l_k))."""
    logits, labels = torch.randn(9, CLASSES, dtype=torch.double), torch.arange(9) % CLASSES
    margin, scale = torch.tensor([0.5, 0.2, 0.1, 0.05]).double(), 3.0
    total = 0.0
    for row, y in zip(logits, labels, strict=True):
        own = torch.exp(scale * (row[y] - margin[y]))
        others = sum(torch.exp(scale * row[k]) for k in range(CLASSES) if k != y)
        total -= torch.log(own / (own + others))
    torch.testing.assert_close(margin_cross_entropy(logits, labels, margin, scale), total / 9)


def test_without_margin_and_scale_it_is_the_mean_of_the_environments_cross_entropies():
    algorithm, batches = make("LDAM", ldam_max_margin=0.0, ldam_scale=1.0), minibatches((6, 6, 6))
    assert algorithm.update(batches) == pytest.approx(make("ERM").update(batches))
