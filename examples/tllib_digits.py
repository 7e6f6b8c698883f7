"""Transfer-Learning-Library's CORAL and IRM on RotatedDigits, with and without BatchFormer.

    python examples/tllib_digits.py --algorithm coral --test_env 3

Needs that library, importable as `tllib`. `Classifier` and CORAL's loss are the library's. IRM's penalty is not in its
package but in a script of its examples, so the same formula comes from `dg_batchformer.algorithms.irm`. Objectives, SGD
and cosine are those of its scripts for domain generalization.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import combinations

import torch
import torch.nn.functional as F
from tllib.alignment.coral import CorrelationAlignmentLoss
from tllib.modules.classifier import Classifier
from torch import Tensor, nn

from dg_batchformer.algorithms.irm import irm_penalty
from dg_batchformer.data import load_dataset
from dg_batchformer.data.batches import Split, Training, load, with_replacement
from dg_batchformer.data.environments import Dataset
from dg_batchformer.data.splits import split_environments
from dg_batchformer.tllib import BatchFormerPool, by_environment, duplicate_labels, parameter_groups

WIDTH = 64


def make_backbone(dataset: Dataset) -> nn.Module:
    """A small convolutional network that ends in a map."""
    layers: list[nn.Module] = []
    channels = dataset.input_shape[0]
    for width, stride in ((32, 2), (WIDTH, 2), (WIDTH, 1)):
        layers += [nn.Conv2d(channels, width, 3, stride, padding=1), nn.GroupNorm(8, width), nn.ReLU()]
        channels = width
    backbone = nn.Sequential(*layers)
    backbone.out_features = WIDTH  # required by Classifier
    return backbone


def make_classifier(seed: int, dataset: Dataset, batchformer: bool) -> Classifier:
    """The library's classifier; backbone and head start from the same weights with BatchFormer as without."""
    torch.manual_seed(seed)
    backbone = make_backbone(dataset)
    head = nn.Linear(WIDTH, dataset.num_classes)
    pool = BatchFormerPool(WIDTH) if batchformer else None
    return Classifier(backbone, dataset.num_classes, head=head, finetune=False, pool_layer=pool)


def coral(predictions: Sequence[Tensor], features: Sequence[Tensor], labels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The mean of the environments' cross-entropies, and the mean distance of their pairs."""
    distance = CorrelationAlignmentLoss()
    losses = [F.cross_entropy(p, y) for p, y in zip(predictions, labels, strict=True)]
    return torch.stack(losses).mean(), torch.stack([distance(f, g) for f, g in combinations(features, 2)]).mean()


def irm(predictions: Sequence[Tensor], features: Sequence[Tensor], labels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The cross-entropy of all samples, and the mean penalty of the environments."""
    penalties = [irm_penalty(p, y) for p, y in zip(predictions, labels, strict=True)]
    return F.cross_entropy(torch.cat(list(predictions)), torch.cat(list(labels))), torch.stack(penalties).mean()


# Each with the penalty's weight. The library's is 1, for pretrained networks; with it IRM hardly trains this one.
OBJECTIVES = {"coral": (coral, 1.0), "irm": (irm, 0.1)}


def train(args: argparse.Namespace, dataset: Dataset, splits: Sequence[Split], batchformer: bool) -> Classifier:
    """One run of the library's training loop; BatchFormer changes the optimizer's groups and the order of the rows."""
    objective, weight = OBJECTIVES[args.algorithm]
    classifier = make_classifier(args.seed, dataset, batchformer)
    groups = parameter_groups(classifier, args.lr, args.lr_scale) if batchformer else classifier.get_parameters(args.lr)
    optimizer = torch.optim.SGD(groups, args.lr, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
    trained = [i for i in range(len(splits)) if i != args.test_env]
    steps = load(dataset, with_replacement(Training(dataset, splits, trained, args.batch_size, args.seed)), "cpu")
    classifier.train()
    for _, step in zip(range(args.steps), steps, strict=False):
        n_domains = len(step)
        labels = torch.cat([y for _, y in step])
        predictions, features = classifier(torch.cat([x for x, _ in step]))
        if batchformer:
            labels = duplicate_labels(labels)
            predictions, features, labels = (by_environment(t, n_domains) for t in (predictions, features, labels))
        nll, penalty = objective(*(t.chunk(n_domains) for t in (predictions, features, labels)))
        optimizer.zero_grad()
        (nll + weight * penalty).backward()
        optimizer.step()
        schedule.step()
    return classifier.eval()


@torch.no_grad()
def accuracy(classifier: Classifier, dataset: Dataset, chosen: Sequence[tuple[int, Tensor]]) -> float:
    """Accuracy in percent, averaged over the given environments with their indices."""
    rights = []
    for i, indices in chosen:
        environment = dataset.environments[i]
        right = classifier(environment.inputs(indices)).argmax(1) == environment.labels[indices]
        rights.append(right.float().mean())
    return 100 * torch.stack(rights).mean().item()


def main(argv: Sequence[str] | None = None) -> None:
    dataset = load_dataset("RotatedDigits")
    names = [environment.name for environment in dataset.environments]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--algorithm", choices=sorted(OBJECTIVES), default="coral")
    parser.add_argument("--test_env", type=int, choices=range(len(names)), default=3, help=f"of {', '.join(names)}")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch_size", type=int, default=32, help="per environment")
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--lr_scale", type=float, default=1.0, help="BatchFormer's learning rate as a multiple of --lr")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # one thread: the layers are small

    splits = split_environments(dataset.sizes, 0.2, args.seed)
    held_out = [(i, split.out) for i, split in enumerate(splits) if i != args.test_env]
    left_out = [(args.test_env, torch.arange(dataset.sizes[args.test_env]))]
    print(f"{args.algorithm}, rotation {names[args.test_env]} left out, {args.steps} steps: accuracy in percent")
    print(f"{'':12} {'trained rotations':>18} {'rotation left out':>18}")
    for name, batchformer in (("plain", False), ("BatchFormer", True)):
        classifier = train(args, dataset, splits, batchformer)
        scores = [accuracy(classifier, dataset, chosen) for chosen in (held_out, left_out)]
        print(f"{name:12} {scores[0]:18.1f} {scores[1]:18.1f}")


if __name__ == "__main__":
    main()
