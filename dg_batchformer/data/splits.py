"""In-splits and out-splits, DomainBed's to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dg_batchformer.errors import InputError
from dg_batchformer.hparams import seed_hash


@dataclass(frozen=True)
class Split:
    """Indices of one environment: the in-split is trained and scored on, the out-split chooses the model."""

    inside: Tensor
    out: Tensor


def split_indices(n: int, n_first: int, seed: int) -> tuple[list[int], list[int]]:
    """Random split of range(n) into `n_first` indices and the rest."""
    # A list, as in DomainBed: NumPy promises one stream of draws for a list, another for an array.
    keys = list(range(n))
    np.random.RandomState(seed).shuffle(keys)
    return keys[:n_first], keys[n_first:]


def split_environments(sizes: Sequence[int], holdout_fraction: float, trial_seed: int) -> list[Split]:
    """The split of each environment, given their sizes; both parts must have an image."""
    splits = []
    for i, size in enumerate(sizes):
        out, inside = split_indices(size, int(size * holdout_fraction), seed_hash(trial_seed, i))
        splits.append(_checked(i, inside, out, holdout_fraction))
    return splits


def split_with_one_seed(
    sizes: Sequence[int], holdout_fraction: float, trial_seed: int, test_envs: Sequence[int]
) -> list[Split]:
    """Transfer-Learning-Library's splits: one seed for all environments, the in-split drawn first.

    The in-split of a test environment is all of it.
    """
    splits = []
    for i, size in enumerate(sizes):
        inside, out = split_indices(size, int(size * (1 - holdout_fraction)), trial_seed)
        splits.append(_checked(i, list(range(size)) if i in test_envs else inside, out, holdout_fraction))
    return splits


def _checked(i: int, inside: list[int], out: list[int], holdout_fraction: float) -> Split:
    if not out or not inside:
        raise InputError(
            f"holdout_fraction {holdout_fraction} leaves environment {i} with {len(inside)} images to train on "
            f"and {len(out)} held out: expected at least one each"
        )
    return Split(torch.tensor(inside), torch.tensor(out))
