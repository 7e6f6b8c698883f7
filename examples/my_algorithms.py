"""An example of your own algorithm: it minimises the loss of the worst environment."""

import torch
import torch.nn.functional as F
from torch import nn

from dg_batchformer import register_algorithm
from dg_batchformer.networks import make_classifier, make_featurizer


@register_algorithm
class WorstEnvironment(nn.Module):
    """DomainBed's contract: a constructor of four arguments, `update`, `predict`, a featurizer and an optimizer."""

    def __init__(self, input_shape, num_classes, num_domains, hparams):
        super().__init__()
        self.featurizer = make_featurizer(input_shape, hparams)
        self.classifier = make_classifier(self.featurizer.n_outputs, num_classes, nonlinear=False)
        self.network = nn.Sequential(self.featurizer, self.classifier)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=hparams["lr"])

    def update(self, minibatches, unlabeled=None):
        loss = torch.stack([F.cross_entropy(self.predict(x), y) for x, y in minibatches]).max()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.item()}

    def predict(self, x):
        return self.network(x)
