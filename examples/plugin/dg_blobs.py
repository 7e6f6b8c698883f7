"""An example of a plug-in: an algorithm and a dataset that every command of dg-batchformer knows by name."""

import torch
import torch.nn.functional as F

from dg_batchformer.algorithms import ERM
from dg_batchformer.data import Benchmark
from dg_batchformer.data.environments import Dataset, TensorEnvironment


class MeanEnvironment(ERM):
    """The mean of the environments' losses: an environment counts the same, whatever its number of samples."""

    def objective(self, features, labels):
        losses = [F.cross_entropy(self.classifier(z), y) for z, y in zip(features, labels, strict=True)]
        return {"loss": torch.stack(losses).mean()}


def load(benchmark, source):
    """Three environments of 60 images (1, 28, 28): a bright column by class, with more noise in each environment."""
    generator = torch.Generator().manual_seed(0)
    environments = []
    for i, name in enumerate(benchmark.environments):
        labels = torch.arange(60) % 4
        images = (0.5 + i) * torch.randn(60, 1, 28, 28, generator=generator)
        images[torch.arange(60), 0, :, 7 * labels] += 3
        environments.append(TensorEnvironment(name, images, labels))
    return Dataset(benchmark.name, environments, (1, 28, 28), ("0", "1", "2", "3"), fingerprint="blobs 1")


BLOBS = Benchmark("Blobs", ("little", "some", "much"), steps=101, checkpoint_freq=50, small=True, load=load)
