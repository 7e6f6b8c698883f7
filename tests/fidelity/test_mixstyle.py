"""MixStyle against the authors' modules, on the same random numbers."""

import pytest
import torch

from dg_batchformer.algorithms.mixstyle import StyleMixer, cross_domain_partners, mix_styles

pytestmark = pytest.mark.domainbed


@pytest.mark.parametrize("n", [2, 5, 8])
def test_random_mixing(mixstyle_modules, capsys, n):
    theirs, ours = mixstyle_modules[0](p=1.0, alpha=0.1), StyleMixer(1.0, 0.1, "random")
    maps = torch.randn(n, 3, 6, 5)
    # We draw whether to mix from torch's generator, they from Python's; then both draw weights and partners.
    torch.manual_seed(3)
    mixed = ours(torch.nn.Identity(), (), maps)
    torch.manual_seed(3)
    torch.rand(())
    torch.testing.assert_close(mixed, theirs(maps))


def test_cross_domain_mixing_of_two_halves(mixstyle_modules, capsys):
    theirs = mixstyle_modules[1](p=1.0, alpha=0.1)
    maps = torch.randn(10, 3, 6, 5)
    torch.manual_seed(5)
    expected = theirs(maps)
    torch.manual_seed(5)
    weights = theirs.beta.sample((10, 1, 1, 1)).flatten()
    # Their partners: the second half for the first, in reversed and then random order, and the other way round.
    first, second = torch.arange(9, 4, -1)[torch.randperm(5)], torch.arange(4, -1, -1)[torch.randperm(5)]
    torch.testing.assert_close(mix_styles(maps, torch.cat([first, second]), weights), expected)
    # Ours are of the same kind: each half a permutation of the other.
    partners = cross_domain_partners((5, 5))
    assert sorted(partners[:5].tolist()) == sorted(first.tolist())
    assert sorted(partners[5:].tolist()) == sorted(second.tolist())
