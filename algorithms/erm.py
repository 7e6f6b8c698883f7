"""Empirical risk minimisation, and the update step of all objectives."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dg_batchformer.data.batches import Minibatches
from dg_batchformer.hparams import Hyperparameter, require, settings
from dg_batchformer.networks import Shape, make_classifier, make_featurizer, make_optimizer
from dg_batchformer.registry import register_algorithm


class ByEnvironment:
    """The inputs of a loss, by environment; modifiers change them."""

    def features_by_environment(self, featurizer: nn.Module, minibatches: Minibatches) -> list[Tensor]:
        """Features (n_d, C) of each environment d, in one pass of the algorithm's featurizer or of a copy of it."""
        features = featurizer(torch.cat([x for x, _ in minibatches]))
        return list(torch.split(features, [len(x) for x, _ in minibatches]))

    def labels_by_environment(self, minibatches: Minibatches) -> list[Tensor]:
        """Their labels (n_d,)."""
        return [y for _, y in minibatches]


@register_algorithm
class ERM(ByEnvironment, nn.Module):
    """Empirical risk minimisation (Vapnik, 1998): the cross-entropy over all environments' samples.

    An objective overrides `objective`; the update step, the networks and the optimizer are here. Like DomainBed's ERM
    it has `featurizer`, `classifier`, `network` (both in sequence) and `optimizer` (Adam by default).

    Args:
        input_shape: (channels, height, width), or (D,) for vectors.
        num_classes: classes of the classifier.
        num_domains: training environments.
        hparams: see `default_hparams(name, dataset)`; a missing one is an InputError.
    """

    hyperparameters: tuple[Hyperparameter, ...] = ()
    reads_values = True
    """Whether `update` returns floats, as in DomainBed; otherwise tensors, without a wait for the GPU."""

    def __init__(self, input_shape: Shape, num_classes: int, num_domains: int, hparams: Mapping[str, Any]) -> None:
        super().__init__()
        settings(hparams, self.hyperparameters)
        self.hparams = hparams
        self.featurizer = make_featurizer(tuple(input_shape), hparams)
        self.classifier = make_classifier(
            self.featurizer.n_outputs, num_classes, require(hparams, "nonlinear_classifier")
        )
        self.network = nn.Sequential(self.featurizer, self.classifier)
        self.optimizer = self.new_optimizer()

    def new_optimizer(self) -> torch.optim.Optimizer:
        """A new optimizer for the network."""
        return make_optimizer(self.network.parameters(), self.hparams)

    def objective(self, features: list[Tensor], labels: list[Tensor]) -> dict[str, Tensor]:
        """The minimised value as "loss", and its parts by name, from features and labels by environment."""
        return {"loss": F.cross_entropy(self.classifier(torch.cat(features)), torch.cat(labels))}

    def update(self, minibatches: Minibatches, unlabeled: Any = None) -> dict[str, Any]:
        """One step on one minibatch (x, y) per training environment; returns the objective's values."""
        features = self.features_by_environment(self.featurizer, minibatches)
        labels = self.labels_by_environment(minibatches)
        # bfloat16 is too coarse for penalties: the classifier and the losses are computed in float32.
        with torch.autocast(features[0].device.type, enabled=False):
            exact = [z.to(torch.promote_types(z.dtype, torch.float32)) for z in features]
            values = self.objective(exact, labels)
            self.optimizer.zero_grad()
            values["loss"].backward()
        self.optimizer.step()
        return {name: value.item() if self.reads_values else value.detach() for name, value in values.items()}

    def predict(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of N inputs."""
        return self.network(x)
