"""Focal loss against its formula."""

import pytest
import torch
from factories import CLASSES, make, minibatches

from dg_batchformer.algorithms.focal_loss import focal_loss


def test_it_is_the_formula_of_the_paper():
    logits, labels = torch.randn(9, CLASSES, dtype=torch.double), torch.arange(9) % CLASSES
    p = logits.softmax(1)[torch.arange(9), labels]
    torch.testing.assert_close(focal_loss(logits, labels, 2.0), (-((1 - p) ** 2) * p.log()).mean())


def test_with_gamma_0_it_is_erm():
    batches = minibatches((3, 5, 7))
    assert make("FocalLoss", focal_gamma=0.0).update(batches) == pytest.approx(make("ERM").update(batches))
