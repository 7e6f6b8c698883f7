"""Minibatches: with replacement, of any size, from one generator."""

import pytest
import torch
from helpers import image_tree

from dg_batchformer.data.batches import EnvironmentSampler, balanced_weights
from dg_batchformer.data.benchmarks import load_dataset
from dg_batchformer.data.environments import TensorEnvironment


def sampler(n=10, batch_size=4, seed=0, index=0, balanced=False, inside=None):
    environment = TensorEnvironment("e", torch.arange(float(n)).view(n, 1), torch.arange(n) // (n - 2))
    inside = torch.arange(n) if inside is None else inside
    return EnvironmentSampler(environment, index, inside, batch_size, seed, balanced=balanced, augment=True)


def test_an_environment_smaller_than_the_batch_trains():
    x, _ = next(sampler(n=3, batch_size=32))
    assert x.shape == (32, 1)
    assert set(x.flatten().tolist()) == {0.0, 1.0, 2.0}


def test_only_the_in_split_is_drawn_with_its_labels():
    s = sampler(inside=torch.tensor([2, 9]))
    pairs = {(x.item(), y.item()) for _ in range(20) for x, y in zip(*next(s), strict=True)}
    assert pairs == {(2.0, 0), (9.0, 1)}


def test_draws_are_uniform_and_with_replacement():
    s = sampler(n=10, batch_size=10)
    batches = torch.stack([next(s)[0].flatten() for _ in range(500)]).long()
    counts = torch.bincount(batches.flatten(), minlength=10)
    assert (counts - 500).abs().max() < 5 * 500**0.5
    assert any(len(set(batch.tolist())) < 10 for batch in batches)


def test_balanced_draws_have_equal_classes():
    assert balanced_weights(torch.tensor([0, 0, 0, 1])).tolist() == [1 / 3, 1 / 3, 1 / 3, 1]
    s = sampler(n=10, batch_size=1000, balanced=True)
    assert next(s)[1].float().mean().item() == pytest.approx(0.5, abs=0.06)


def test_one_seed_one_sequence_whatever_else_is_drawn():
    first = [next(s := sampler(seed=1))[0], next(s)[0]]
    torch.rand(17)
    again = [next(s := sampler(seed=1))[0], next(s)[0]]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    other_seed, other_environment = (
        next(sampler(seed=2, batch_size=50))[0],
        next(sampler(seed=1, index=1, batch_size=50))[0],
    )
    same = next(sampler(seed=1, batch_size=50))[0]
    assert not torch.equal(same, other_seed)
    assert not torch.equal(same, other_environment)


def test_augmented_images_follow_the_generator(tmp_path):
    dataset = load_dataset(f"folder:{image_tree(tmp_path / 'mine')}")

    def batch(augment, seed=0):
        s = EnvironmentSampler(dataset.environments[0], 0, torch.arange(4), 6, seed, balanced=False, augment=augment)
        return next(s)[0]

    assert batch(True).shape == (6, 3, 224, 224)
    assert torch.equal(batch(True), batch(True))
    assert not torch.equal(batch(True), batch(False))
    plain = dataset.environments[0].inputs(torch.arange(4))
    assert all(any(torch.equal(x, p) for p in plain) for x in batch(False))
