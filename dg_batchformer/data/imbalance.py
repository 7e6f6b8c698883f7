"""Long tails: class k of an environment keeps n_max * ratio^(k / (K - 1)) of its training images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from dg_batchformer.errors import InputError
from dg_batchformer.hparams import seed_hash

if TYPE_CHECKING:
    from torch import Tensor

    from dg_batchformer.data.environments import Dataset, Split

KINDS = ("forward", "alternating", "shuffled")


class Imbalance(NamedTuple):
    """A long tail: `ratio` in (0, 1] is the share that the rarest class keeps of the `n_max` of the most frequent one.

    `kind` is the order of the classes: "forward" is that of the dataset in all environments, "alternating" is reversed
    in every second environment, "shuffled" is random in each environment and equal in all trials. `n_max` None: the
    number of training images of the environment's smallest class, so that all classes follow the formula.
    """

    ratio: float
    kind: str
    n_max: int | None


def tail(n_max: int, ratio: float, n_classes: int) -> list[int]:
    """The numbers of images of classes with ranks 0 to n_classes - 1, rounded to integers."""
    return [int(n_max * ratio ** (k / max(n_classes - 1, 1)) + 0.5) for k in range(n_classes)]


def ranks(kind: str, environment: int, n_classes: int) -> list[int]:
    """The rank of each class in an environment; rank 0 is the most frequent one."""
    if kind == "shuffled":
        import numpy as np

        return np.random.RandomState(seed_hash("imbalance", environment)).permutation(n_classes).tolist()
    forward = list(range(n_classes))
    return forward[::-1] if kind == "alternating" and environment % 2 else forward


def long_tailed(
    dataset: Dataset, splits: Sequence[Split], training_envs: Sequence[int], imbalance: Imbalance, trial_seed: int
) -> list[Split]:
    """The splits with a long tail in the in-splits of the training environments; the other parts do not change.

    The kept images are a random subset that depends on the trial. An InputError lists all classes
    without a training image.
    """
    problems: list[str] = []
    found = list(splits)
    for i in training_envs:
        labels = dataset.environments[i].labels[splits[i].inside]
        present = class_counts(labels, dataset.num_classes)
        n_max = imbalance.n_max or min(present)
        wanted = tail(n_max, imbalance.ratio, dataset.num_classes)
        kept = [wanted[rank] for rank in ranks(imbalance.kind, i, dataset.num_classes)]
        if empty := [dataset.classes[k] for k, n in enumerate(kept) if not min(n, present[k])]:
            problems.append(
                f"--imbalance {imbalance.ratio:g} leaves these classes of environment {dataset.environments[i].name} "
                f"without a training image: {', '.join(empty)} (the most frequent class keeps at most {n_max}): "
                "expected a larger ratio or --imbalance_max"
            )
        found[i] = splits[i]._replace(inside=_kept(splits[i].inside, labels, kept, seed_hash(trial_seed, i, "tail")))
    if problems:
        raise InputError("\n".join(problems))
    return found


def class_counts(labels: Tensor, n_classes: int) -> list[int]:
    """The number of labels (n,) of each class."""
    return labels.bincount(minlength=n_classes).tolist()


def _kept(inside: Tensor, labels: Tensor, kept: Sequence[int], seed: int) -> Tensor:
    """The first `kept[k]` indices of each class k in a random order, in the order of `inside`."""
    import torch

    order = torch.randperm(len(inside), generator=torch.Generator().manual_seed(seed))
    chosen = [order[labels[order] == k][:n] for k, n in enumerate(kept)]
    return inside[torch.cat(chosen).sort().values]
