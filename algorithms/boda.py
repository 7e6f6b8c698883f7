"""Balanced domain-class distribution alignment, for long tails."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dg_batchformer.data.batches import Minibatches
from dg_batchformer.errors import InputError
from dg_batchformer.hparams import Hyperparameter
from dg_batchformer.networks import Shape
from dg_batchformer.registry import register_algorithm

from .coral import CORAL


def boda_loss(
    features: Tensor,
    cells: Tensor,
    centroids: Tensor,
    of_centroids: Tensor,
    counts: Tensor,
    nu: float,
    temperature: float,
) -> Tensor:
    """Pulls features to the centroids of their class in other environments, away from all other centroids.

    A cell is a class of an environment. The similarity of feature i and centroid j is their negative distance,
    divided by the count of i's cell (balance) and multiplied by (count of j's cell / count of i's cell)^nu
    (calibration).

    Shape: features (N, C) and their cells (N, 2), environment and class; centroids (M, C) and theirs (M, 2); counts
    (num_domains, num_classes); result ().
    """
    n_features, n_centroids = (counts[which[:, 0], which[:, 1]] for which in (cells, of_centroids))
    calibration = (n_centroids[:, None] / n_features) ** nu
    similarity = -torch.cdist(centroids, features) / n_features * calibration / temperature
    same_environment, same_class = (of_centroids[:, None] == cells).unbind(2)
    others = similarity.masked_fill(same_environment & same_class, -torch.inf)
    log_shares = similarity - others.logsumexp(0, keepdim=True)
    positive = same_class & ~same_environment
    return -log_shares.masked_fill(~positive, 0).sum() / positive.sum().clamp(min=1)


def centroids_of(features: list[Tensor], labels: list[Tensor], of_centroids: Tensor) -> Tensor:
    """The mean features (M, C) of cells (M, 2), from features (n_d, C) and labels (n_d,) of each environment d.

    Sums over all cells, of a size that the shapes tell: a GPU need not be waited for.
    """
    environments, classes = of_centroids.unbind(1)
    means = []
    for d, (x, y) in enumerate(zip(features, labels, strict=True)):
        in_cell = ((y == classes[:, None]) & (environments[:, None] == d)).to(x.dtype)  # (M, n_d)
        means.append(in_cell @ x / in_cell.sum(1, keepdim=True).clamp(min=1))
    return torch.stack(means).sum(0)


@register_algorithm
class BoDA(CORAL):
    """BoDA (Yang et al., ECCV 2022, https://arxiv.org/abs/2203.09513): CORAL + `boda_weight` * `boda_loss`.

    The centroids are means of the features of all training images without augmentation, renewed every
    `boda_feature_freq` steps with `boda_momentum` for the old ones; the loss starts at `boda_start_step`. The variant
    is that of the authors' code, whose "macro alignment" is CORAL's distance (`mmd_gamma`); there, the images are
    augmented.

    The trainer calls `set_class_counts` once, and `see_features` whenever `awaits_features` is true. Without them an
    update is an InputError from `boda_start_step` on.
    """

    hyperparameters = (
        *CORAL.hyperparameters,
        Hyperparameter("boda_start_step", 500, lambda random: int(100 * random.choice(range(3, 7))), minimum=1),
        Hyperparameter("boda_feature_freq", 120, lambda random: int(random.uniform(100, 150)), minimum=1),
        Hyperparameter("boda_nu", 0.5, lambda random: 10 ** random.uniform(-0.5, 0)),
        Hyperparameter("boda_weight", 0.1, lambda random: 10 ** random.uniform(-2, -0.5), minimum=0),
        Hyperparameter("boda_temperature", 1.0, lambda random: 10 ** random.uniform(-1, 0.5), minimum=1e-3),
        Hyperparameter("boda_momentum", 0.2, lambda random: random.uniform(0, 0.4), minimum=0, maximum=1),
    )

    def __init__(self, input_shape: Shape, num_classes: int, num_domains: int, hparams: Mapping[str, Any]) -> None:
        super().__init__(input_shape, num_classes, num_domains, hparams)
        self.class_counts: Tensor
        self.of_centroids: Tensor
        self.n_updates = 0
        self.centroids = torch.zeros(0, self.featurizer.n_outputs)
        self.set_class_counts(torch.ones(num_domains, num_classes))

    def set_class_counts(self, counts: Tensor) -> None:
        """Sets the numbers of training images (num_domains, num_classes)."""
        self.register_buffer("class_counts", counts.float(), persistent=False)
        self.register_buffer("of_centroids", counts.nonzero(), persistent=False)

    @property
    def awaits_features(self) -> bool:
        """Whether the next update needs the features of all training images."""
        is_first = self.n_updates == self.hparams["boda_start_step"] and not len(self.centroids)
        return is_first or (self.n_updates > 0 and self.n_updates % self.hparams["boda_feature_freq"] == 0)

    def see_features(self, features: list[Tensor], labels: list[Tensor]) -> None:
        """Renews the centroids from features (n_d, C) and labels (n_d,) of all training images, by environment."""
        found = centroids_of(features, labels, self.of_centroids)
        momentum = self.hparams["boda_momentum"] if len(self.centroids) else 0.0
        self.centroids = found.lerp(self.centroids, momentum) if momentum else found

    def objective(self, features: list[Tensor], labels: list[Tensor]) -> dict[str, Tensor]:
        values = super().objective(features, labels)
        if self.n_updates < self.hparams["boda_start_step"]:
            return values
        if not len(self.centroids):
            raise InputError("BoDA has seen no features: expected see_features(features, labels) before its start step")
        environments = [torch.full_like(y, d) for d, y in enumerate(labels)]
        cells = torch.stack([torch.cat(environments), torch.cat(labels)], 1)
        own = self.hparams["boda_nu"], self.hparams["boda_temperature"]
        loss = boda_loss(torch.cat(features), cells, self.centroids, self.of_centroids, self.class_counts, *own)
        return {**values, "loss": values["loss"] + self.hparams["boda_weight"] * loss, "boda": loss}

    def update(self, minibatches: Minibatches, unlabeled: Any = None) -> dict[str, Any]:
        values = super().update(minibatches, unlabeled)
        self.n_updates += 1
        return values
