"""The second stage of a run: a new classifier on the frozen features of the first."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dg_batchformer.data.batches import Minibatches
from dg_batchformer.errors import InputError
from dg_batchformer.hparams import require
from dg_batchformer.networks import make_classifier, make_optimizer


class ClassifierRetraining(nn.Module):
    """cRT (Kang et al., ICLR 2020, https://arxiv.org/abs/1910.09217): only a new classifier is trained.

    The featurizer is frozen and in evaluation mode. The loss is the cross-entropy over the samples of all environments,
    which are drawn with equal shares of all classes. The `state_dict` is that of ERM with the same networks.
    """

    reads_values = True

    def __init__(self, featurizer: nn.Module, num_classes: int, hparams: Mapping[str, Any]) -> None:
        super().__init__()
        self.featurizer = featurizer.requires_grad_(requires_grad=False)
        width: Any = featurizer.n_outputs
        self.classifier = make_classifier(width, num_classes, require(hparams, "nonlinear_classifier"))
        self.network = nn.Sequential(self.featurizer, self.classifier)
        self.optimizer = make_optimizer(self.classifier.parameters(), hparams)
        self.train()

    def train(self, mode: bool = True) -> "ClassifierRetraining":
        super().train(mode)
        self.featurizer.eval()
        return self

    def update(self, minibatches: Minibatches, unlabeled: Any = None) -> dict[str, Any]:
        """One step of the classifier on one minibatch (x, y) per training environment."""
        with torch.no_grad():
            features = self.featurizer(torch.cat([x for x, _ in minibatches]))
        with torch.autocast(features.device.type, enabled=False):
            loss = F.cross_entropy(self.classifier(features.float()), torch.cat([y for _, y in minibatches]))
            self.optimizer.zero_grad()
            loss.backward()
        self.optimizer.step()
        return {"loss": loss.item() if self.reads_values else loss.detach()}

    def predict(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of N inputs."""
        return self.network(x)


def check_stage(name: str, algorithm: Any) -> None:
    """InputError if the algorithm `name` has no features for a second stage."""
    if not hasattr(getattr(algorithm, "featurizer", None), "n_outputs"):
        raise InputError(f"--stage needs an algorithm with a `featurizer` that has `n_outputs`; {name} has none")
