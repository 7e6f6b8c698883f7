"""Long tails: the formula, the order of the classes, and which images stay."""

import pytest
import torch

from dg_batchformer.data import load_dataset
from dg_batchformer.data.imbalance import KINDS, Imbalance, class_counts, long_tailed, ranks, tail
from dg_batchformer.data.splits import split_environments
from dg_batchformer.errors import InputError

DIGITS = load_dataset("RotatedDigits")
SPLITS = split_environments(DIGITS.sizes, 0.2, 0)
TRAINING = [1, 2, 3]


def counts(splits, i):
    return class_counts(DIGITS.environments[i].labels[splits[i].inside], 10)


def test_the_formula():
    # n_max * ratio^(k / (K - 1)) by hand
    assert tail(110, 0.02, 7) == [110, 57, 30, 16, 8, 4, 2]
    assert tail(100, 0.01, 3) == [100, 10, 1]
    assert tail(30, 1.0, 4) == [30] * 4
    assert tail(5, 0.5, 1) == [5]


def test_orders_of_the_classes():
    assert [ranks("forward", i, 4) for i in range(2)] == [[0, 1, 2, 3]] * 2
    assert [ranks("alternating", i, 4) for i in range(3)] == [[0, 1, 2, 3], [3, 2, 1, 0], [0, 1, 2, 3]]
    shuffled = [ranks("shuffled", i, 10) for i in range(4)]
    assert all(sorted(one) == list(range(10)) for one in shuffled)
    assert len({tuple(one) for one in shuffled}) == 4
    assert ranks("shuffled", 2, 10) == shuffled[2]


@pytest.mark.parametrize("kind", KINDS)
def test_training_images_have_the_tail_and_all_else_stays(kind):
    found = long_tailed(DIGITS, SPLITS, TRAINING, Imbalance(0.1, kind, None), 0)
    assert torch.equal(found[0].inside, SPLITS[0].inside)
    assert all(torch.equal(one.out, before.out) for one, before in zip(found, SPLITS, strict=True))
    for i in TRAINING:
        wanted = tail(min(counts(SPLITS, i)), 0.1, 10)
        assert counts(found, i) == [wanted[rank] for rank in ranks(kind, i, 10)]
        assert set(found[i].inside.tolist()) <= set(SPLITS[i].inside.tolist())


def test_a_class_that_is_smaller_than_its_share_keeps_all():
    found = long_tailed(DIGITS, SPLITS, TRAINING, Imbalance(1.0, "forward", 1000), 0)
    assert [sorted(one.inside.tolist()) for one in found] == [sorted(one.inside.tolist()) for one in SPLITS]


def test_the_kept_images_depend_on_the_trial_and_on_nothing_else():
    imbalance = Imbalance(0.1, "forward", None)
    one, again, other = (long_tailed(DIGITS, SPLITS, TRAINING, imbalance, trial)[1].inside for trial in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(one, long_tailed(DIGITS, SPLITS, [1], imbalance, 0)[1].inside)


def test_classes_without_an_image_are_all_named():
    with pytest.raises(InputError) as error:
        long_tailed(DIGITS, SPLITS, [1, 2], Imbalance(0.001, "alternating", None), 0)
    of_25, of_50 = str(error.value).splitlines()
    assert "leaves these classes of environment 25 without a training image: 0, 1, 2, 3 (the most" in of_25
    assert "leaves these classes of environment 50 without a training image: 6, 7, 8, 9 (the most" in of_50
