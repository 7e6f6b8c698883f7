"""Splits against index lists that DomainBed (b93c22a) gives."""

import pytest

from dg_batchformer.data.splits import split_environments, split_indices
from dg_batchformer.hparams import seed_hash


@pytest.mark.parametrize(
    ("n", "n_first", "seed", "first", "rest"),
    [
        (10, 2, 0, [2, 8], [4, 9, 1, 6, 7, 3, 0, 5]),
        (12, 3, 1981683110, [1, 0, 7], [3, 10, 11, 8, 9, 4, 5, 6, 2]),
    ],
)
def test_split_is_domainbeds(n, n_first, seed, first, rest):
    assert split_indices(n, n_first, seed) == (first, rest)


def test_each_environment_has_its_own_seed():
    splits = split_environments([12, 12, 12], 0.25, trial_seed=1)
    assert seed_hash(1, 2) == 1981683110
    assert splits[2].out.tolist() == [1, 0, 7]
    for split in splits:
        assert sorted(split.out.tolist() + split.inside.tolist()) == list(range(12))
    assert splits[0].out.tolist() != splits[1].out.tolist()


def test_the_out_split_is_rounded_down():
    (split,) = split_environments([9], 0.2, 0)
    assert (len(split.out), len(split.inside)) == (1, 8)


@pytest.mark.parametrize(("size", "fraction"), [(4, 0.2), (0, 0.2)])
def test_an_empty_part_is_refused(size, fraction):
    with pytest.raises(ValueError, match="leaves environment 0 with"):
        split_environments([size], fraction, 0)
