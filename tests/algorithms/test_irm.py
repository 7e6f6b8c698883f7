"""IRM's penalty against its closed form, and its annealing."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from factories import make, minibatches

from dg_batchformer.algorithms.irm import irm_penalty


def slope(logits, labels):
    """d/ds of the mean cross-entropy of s * logits at s = 1, in closed form."""
    expected = (torch.softmax(logits, 1) * logits).sum(1)
    return (expected - logits[torch.arange(len(labels)), labels]).mean()


@pytest.mark.parametrize("n", [2, 5, 8])
def test_penalty_is_the_product_of_two_halves_slopes(n):
    logits, labels = torch.randn(n, 4, dtype=torch.float64), torch.randint(0, 4, (n,))
    expected = slope(logits[::2], labels[::2]) * slope(logits[1::2], labels[1::2])
    assert irm_penalty(logits.float(), labels).item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-6)


def test_penalty_has_the_gradient_of_its_closed_form():
    logits, labels = torch.randn(6, 3, requires_grad=True), torch.randint(0, 3, (6,))
    (ours,) = torch.autograd.grad(irm_penalty(logits, labels), logits)
    closed = slope(logits[::2], labels[::2]) * slope(logits[1::2], labels[1::2])
    (expected,) = torch.autograd.grad(closed, logits)
    torch.testing.assert_close(ours, expected)


def test_one_sample_is_refused():
    with pytest.raises(ValueError, match=r"1 sample.*larger batch_size"):
        irm_penalty(torch.randn(1, 3), torch.tensor([0]))


def test_objective_and_annealing():
    algorithm = make("IRM", irm_lambda=7.0, irm_penalty_anneal_iters=2)
    batches = minibatches((4, 6, 8))
    optimizers = [algorithm.optimizer]
    for step in range(4):
        with torch.no_grad():
            logits = [algorithm.predict(x) for x, _ in batches]
            nll = sum(F.cross_entropy(one, y) for one, (_, y) in zip(logits, batches, strict=True)) / 3
        penalty = sum(irm_penalty(one, y).item() for one, (_, y) in zip(logits, batches, strict=True)) / 3
        values = algorithm.update(batches)
        assert values["nll"] == pytest.approx(nll.item(), rel=1e-5)
        assert values["penalty"] == pytest.approx(penalty, rel=1e-4, abs=1e-7)
        assert values["loss"] == pytest.approx(nll.item() + (7.0 if step >= 2 else 1.0) * penalty, rel=1e-4)
        optimizers.append(algorithm.optimizer)
    same = [before is after for before, after in itertools.pairwise(optimizers)]
    assert same == [True, True, False, True]
    assert algorithm.state_dict()["update_count"].tolist() == [4]
