"""Transfer-Learning-Library's DANN and CDAN between rotations of RotatedDigits, with and without BatchFormer.

    python examples/tllib_adaptation.py --algorithm dann --source 0 --target 1

Unsupervised domain adaptation (B.5 of BatchFormer's paper): the target rotation is trained on without its labels. Needs
that library, importable as `tllib`: classifier, discriminator and losses are the library's, the loop, SGD and its
schedule are those of its scripts. BatchFormer adds a pooling layer and two lines: labels are duplicated, and rows
regrouped, so that each domain has its rows before and after BatchFormer.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from tllib.alignment.cdan import ConditionalDomainAdversarialLoss
from tllib.alignment.dann import DomainAdversarialLoss, ImageClassifier
from tllib.modules.domain_discriminator import DomainDiscriminator
from tllib_digits import WIDTH, accuracy, make_backbone

from dg_batchformer.data import load_dataset
from dg_batchformer.data.batches import Training, load, with_replacement
from dg_batchformer.data.environments import Dataset, Split
from dg_batchformer.data.splits import split_environments
from dg_batchformer.tllib import BatchFormerPool, by_environment, duplicate_labels, parameter_groups

ALGORITHMS = ("dann", "cdan")

if not hasattr(np, "float"):
    np.float = float  # the library's gradient reversal uses this name, which NumPy 1.24 removed


def train(
    args: argparse.Namespace, dataset: Dataset, splits: Sequence[Split], trade_off: float, batchformer: bool
) -> ImageClassifier:
    """One run of the library's loop; `trade_off` is the weight of the adversarial loss."""
    torch.manual_seed(args.seed)
    pool = BatchFormerPool(WIDTH) if batchformer else None
    backbone, n_classes = make_backbone(dataset), dataset.num_classes
    classifier = ImageClassifier(backbone, n_classes, bottleneck_dim=WIDTH, finetune=False, pool_layer=pool)
    conditional = args.algorithm == "cdan"
    discriminator = DomainDiscriminator(WIDTH * (n_classes if conditional else 1), hidden_size=WIDTH)
    adversarial = (ConditionalDomainAdversarialLoss if conditional else DomainAdversarialLoss)(discriminator)
    groups = parameter_groups(classifier) if batchformer else classifier.get_parameters()
    optimizer = torch.optim.SGD([*groups, *discriminator.get_parameters()], args.lr, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: args.lr * (1 + 1e-3 * step) ** -0.75)
    training = Training(dataset, splits, [args.source, args.target], args.batch_size, args.seed)
    classifier.train()
    adversarial.train()
    for _, ((x_source, labels), (x_target, _)) in zip(
        range(args.steps), load(dataset, with_replacement(training), "cpu"), strict=False
    ):
        predictions, features = classifier(torch.cat([x_source, x_target]))
        if batchformer:
            labels = duplicate_labels(labels)
            predictions, features = (by_environment(rows, 2) for rows in (predictions, features))
        (y_source, y_target), (f_source, f_target) = predictions.chunk(2), features.chunk(2)
        given = (y_source, f_source, y_target, f_target) if conditional else (f_source, f_target)
        loss = F.cross_entropy(y_source, labels) + trade_off * adversarial(*given)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return classifier.eval()


def main(argv: Sequence[str] | None = None) -> None:
    dataset = load_dataset("RotatedDigits")
    names = [environment.name for environment in dataset.environments]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--algorithm", choices=ALGORITHMS, default="dann")
    parser.add_argument("--source", type=int, choices=range(len(names)), default=0, help=f"of {', '.join(names)}")
    parser.add_argument("--target", type=int, choices=range(len(names)), default=1)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch_size", type=int, default=32, help="per domain")
    parser.add_argument("--lr", type=float, default=0.02)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # one thread: the layers are small

    splits = split_environments(dataset.sizes, 0.2, args.seed)
    chosen = [[(args.source, splits[args.source].out)], [(args.target, splits[args.target].out)]]
    rotations = f"rotation {names[args.source]} to {names[args.target]}"
    print(f"{args.algorithm}, {rotations}, {args.steps} steps: accuracy in percent")
    print(f"{'':12} {'source':>8} {'target':>8}")
    for name, trade_off, batchformer in (
        ("source only", 0.0, False),
        ("plain", 1.0, False),
        ("BatchFormer", 1.0, True),
    ):
        classifier = train(args, dataset, splits, trade_off, batchformer)
        scores = [accuracy(classifier, dataset, own) for own in chosen]
        print(f"{name:12} {scores[0]:8.1f} {scores[1]:8.1f}")


if __name__ == "__main__":
    main()
