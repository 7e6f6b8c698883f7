"""Minibatches: DomainBed's with replacement, and Transfer-Learning-Library's passes without."""

import itertools

import pytest
import torch
from factories import image_tree

from dg_batchformer.data import load_dataset
from dg_batchformer.data.batches import (
    Split,
    Training,
    balanced_weights,
    load,
    pooled,
    with_replacement,
    without_replacement,
)
from dg_batchformer.data.environments import Dataset, TensorEnvironment


def training(sizes=(10,), batch_size=4, seed=0, inside=None, environments=None, **given):
    """In-splits of environments whose inputs tell which sample they are: 1000 * environment + number."""
    made = [
        TensorEnvironment(str(i), 1000.0 * i + torch.arange(float(n)).view(n, 1), torch.arange(n) // (n - 2))
        for i, n in enumerate(sizes)
    ]
    dataset = Dataset("numbers", made, (1,), ("0", "1"))
    splits = [Split(torch.arange(n) if inside is None else inside, torch.arange(0)) for n in sizes]
    return Training(dataset, splits, list(environments or range(len(sizes))), batch_size, seed, **given)


def steps(sampler, given, *more):
    return load(given.dataset, sampler(given, *more), "cpu")


def first(given):
    ((x, y),) = next(steps(with_replacement, given))
    return x, y


def test_an_environment_smaller_than_the_batch_trains():
    x, _ = first(training([3], batch_size=32))
    assert x.shape == (32, 1)
    assert set(x.flatten().tolist()) == {0.0, 1.0, 2.0}


def test_only_the_in_split_is_drawn_with_its_labels():
    given = training(inside=torch.tensor([2, 9]))
    drawn = itertools.islice(steps(with_replacement, given), 20)
    assert {(a.item(), b.item()) for ((x, y),) in drawn for a, b in zip(x, y, strict=True)} == {(2.0, 0), (9.0, 1)}


def test_draws_are_uniform_and_with_replacement():
    drawn = itertools.islice(steps(with_replacement, training(batch_size=10)), 500)
    batches = torch.stack([x.flatten() for ((x, _),) in drawn]).long()
    counts = torch.bincount(batches.flatten(), minlength=10)
    assert (counts - 500).abs().max() < 5 * 500**0.5
    assert any(len(set(batch.tolist())) < 10 for batch in batches)


def test_balanced_draws_have_equal_classes():
    assert balanced_weights(torch.tensor([0, 0, 0, 1])).tolist() == [1 / 3, 1 / 3, 1 / 3, 1]
    _, y = first(training(batch_size=1000, balanced=True))
    assert y.float().mean().item() == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(
    "sampler", [with_replacement, lambda given: pooled(given, 16), lambda given: without_replacement(given, 2)]
)
def test_one_seed_one_sequence_whatever_else_is_drawn(sampler):
    def drawn(seed):
        torch.rand(17)
        three = itertools.islice(steps(sampler, training([20, 30], 8, seed)), 3)
        return torch.cat([x for step in three for x, _ in step])

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_an_environments_samples_do_not_depend_on_which_others_train():
    both, one = (training([10, 10], 50, environments=chosen) for chosen in ([0, 1], [1]))
    (x, _), (y, _) = next(steps(with_replacement, both))
    ((alone, _),) = next(steps(with_replacement, one))
    assert torch.equal(y, alone)
    assert not torch.equal(x, y - 1000)


def test_a_pass_by_environment_takes_each_sample_once_and_ends_with_the_smallest():
    given = training([9, 20, 30], batch_size=4)
    drawn = list(itertools.islice(steps(without_replacement, given, 3), 4))
    for passed in (drawn[:2], drawn[2:]):  # two batches of 4 leave one of nine samples
        values = torch.cat([x for step in passed for x, _ in step]).flatten().tolist()
        assert len(set(values)) == len(values) == 24
        for step in passed:
            assert sorted(int(x[0] // 1000) for x, _ in step) == [0, 1, 2]
            assert all(len(set((x // 1000).flatten().tolist())) == 1 for x, _ in step)
    more = itertools.islice(steps(without_replacement, given, 3), 20)
    assert len({tuple(int(x[0] // 1000) for x, _ in step) for step in more}) > 1  # in random order


def test_a_step_may_take_some_of_the_environments():
    given = training([40, 40, 40], batch_size=4)
    seen = [{int(x[0] // 1000) for x, _ in step} for step in itertools.islice(steps(without_replacement, given, 2), 60)]
    assert all(len(one) == 2 for one in seen)
    assert {tuple(sorted(one)) for one in seen} == {(0, 1), (0, 2), (1, 2)}


def test_a_small_environment_gives_its_samples_with_replacement():
    step = next(steps(without_replacement, training([3, 20], batch_size=8), 2))
    (small,) = (x.flatten().tolist() for x, _ in step if x[0] < 1000)
    assert len(small) == 8
    assert set(small) <= {0.0, 1.0, 2.0}


def test_a_pooled_pass_takes_samples_of_all_environments_once():
    given = training([5, 9])
    drawn = list(itertools.islice(steps(pooled, given, 6), 4))  # two a pass, and two samples are left out
    assert [len(step) for step in drawn] == [1] * 4
    for passed in (drawn[:2], drawn[2:]):
        values = torch.cat([step[0][0] for step in passed]).flatten().tolist()
        assert len(set(values)) == len(values) == 12
    x, y = drawn[0][0]
    sizes = torch.where(x.flatten() >= 1000, 9, 5)
    assert torch.equal(y, (x.flatten() % 1000).long() // (sizes - 2))
    assert next(steps(pooled, training([3, 4]), 12))[0][0].shape == (12, 1)


def test_augmented_images_follow_the_generator(tmp_path):
    dataset = load_dataset(f"folder:{image_tree(tmp_path / 'mine')}")
    splits = [Split(torch.arange(4), torch.arange(4, 8))] * 3

    def batch(augment, seed=0):
        given = Training(dataset, splits, [0], 6, seed, augment=augment)
        return first(given)[0]

    assert batch(True).shape == (6, 3, 224, 224)
    assert torch.equal(batch(True), batch(True))
    assert not torch.equal(batch(True), batch(False))
    plain = dataset.environments[0].inputs(torch.arange(4))
    assert all(any(torch.equal(x, p) for p in plain) for x in batch(False))
