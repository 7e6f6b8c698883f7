"""The plug-in in Transfer-Learning-Library itself: its classifier, its training loops, and the example end to end.

Expected in the folder that PEERS names: `Transfer-Learning-Library` (thuml). Its import needs prettytable and numba.
"""

import argparse
import ast
import importlib
import os
import re
import subprocess
import sys
import time
import types
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from factories import make
from torch import nn

from dg_batchformer.tllib import BatchFormerPool, by_environment, duplicate_labels, parameter_groups

pytestmark = pytest.mark.tllib

ROOT = Path(__file__).parents[2]
DIM, CLASSES, DOMAINS = 8, 4, 3


@pytest.fixture(scope="module")
def checkout():
    """Folder of the library's checkout."""
    path = Path(os.environ.get("PEERS", ""), "Transfer-Learning-Library")
    if not os.environ.get("PEERS") or not path.is_dir():
        pytest.skip(f"needs a checkout of {path.name} in the folder that PEERS names")
    return path


@pytest.fixture(scope="module")
def tllib(checkout):
    """The library's modules by their last name."""
    sys.path.insert(0, str(checkout))
    names = ("modules.classifier", "utils.meter", "utils.metric")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its strings have escapes that new Pythons warn of
            return types.SimpleNamespace(
                correlation=importlib.import_module("tllib.alignment.coral").CorrelationAlignmentLoss,
                **{name.rpartition(".")[2]: importlib.import_module(f"tllib.{name}") for name in names},
            )
    except ImportError as error:
        pytest.skip(f"tllib cannot be imported: {error}")


@pytest.fixture(scope="module")
def scripts(checkout, tllib):
    """What the library's training scripts define, by script; their imports need its whole set of packages."""

    def definitions(name):
        path = checkout / "examples" / "domain_generalization" / "image_classification" / f"{name}.py"
        tree = ast.parse(path.read_text())
        chosen = [n for n in tree.body if isinstance(n, ast.ClassDef) or getattr(n, "name", "") == "train"]
        names = {
            "accuracy": tllib.metric.accuracy,
            "argparse": argparse,
            "autograd": torch.autograd,
            "AverageMeter": tllib.meter.AverageMeter,
            "CorrelationAlignmentLoss": tllib.correlation,
            "CosineAnnealingLR": torch.optim.lr_scheduler.CosineAnnealingLR,
            "device": "cpu",
            "F": F,
            "ForeverDataIterator": object,
            "nn": nn,
            "ProgressMeter": tllib.meter.ProgressMeter,
            "time": time,
            "torch": torch,
        }
        exec(compile(ast.Module(chosen, []), str(path), "exec"), names)
        return types.SimpleNamespace(**names)

    return {name: definitions(name) for name in ("coral", "irm", "vrex")}


def classifier_of(tllib, pool_layer, **settings):
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(1, DIM, 3, padding=1), nn.ReLU())
    backbone.out_features = DIM
    head = nn.Linear(settings.get("bottleneck_dim", DIM), CLASSES)
    return tllib.classifier.Classifier(backbone, CLASSES, head=head, pool_layer=pool_layer, **settings)


def batch(n=12):
    return torch.randn(n, 1, 6, 6), torch.randint(CLASSES, (n,))


def moved(classifier, groups):
    """The parts of a classifier that three updates move."""
    before = {name: p.detach().clone() for name, p in classifier.named_parameters()}
    optimizer = torch.optim.SGD(groups, 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    classifier.train()
    for _ in range(3):
        x, y = batch()
        predictions, _ = classifier(x)
        optimizer.zero_grad()
        F.cross_entropy(predictions, duplicate_labels(y)).backward()
        optimizer.step()
    return {name.partition(".")[0] for name, p in classifier.named_parameters() if not torch.equal(p, before[name])}


def test_training_moves_everything(tllib):
    bottleneck = nn.Sequential(nn.Linear(DIM, 6), nn.BatchNorm1d(6), nn.ReLU())
    classifier = classifier_of(tllib, BatchFormerPool(DIM), bottleneck=bottleneck, bottleneck_dim=6)
    groups = parameter_groups(classifier, 0.1)
    assert [group["lr"] for group in groups] == pytest.approx([0.01, 0.1, 0.1, 0.1])
    assert moved(classifier, groups) == {"backbone", "pool_layer", "bottleneck", "head"}


def test_the_released_way_leaves_batchformer_unmoved(tllib):
    classifier = classifier_of(tllib, BatchFormerPool(DIM))
    assert moved(classifier, classifier.get_parameters(0.1)) == {"backbone", "head"}


def test_predicts_as_the_plain_classifier(tllib):
    ours = classifier_of(tllib, BatchFormerPool(DIM))
    moved(ours, parameter_groups(ours, 0.1))
    plain = classifier_of(tllib, None)
    plain.load_state_dict({k: v for k, v in ours.state_dict().items() if not k.startswith("pool_layer.")})
    x, _ = batch()
    assert torch.equal(ours.eval()(x), plain.eval()(x))
    torch.testing.assert_close(torch.cat([ours(one.unsqueeze(0)) for one in x]), ours(x))


class Regrouped(nn.Module):
    """A classifier whose rows come out by environment, for loops that chunk them."""

    def __init__(self, classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, x):
        return tuple(by_environment(rows, DOMAINS) for rows in self.classifier(x))


@pytest.mark.parametrize(("script", "name"), [("coral", "CORAL"), ("irm", "IRM"), ("vrex", "VREx")])
def test_the_librarys_loops_minimise_our_objectives(tllib, scripts, script, name, capsys):
    """One step of the library's `train`, and the gradients of our objective on [z_d ; h_d], put together by hand."""
    classifier = classifier_of(tllib, BatchFormerPool(DIM, dropout=0.0), finetune=False)
    x, y = batch()

    classifier.train()
    z = classifier.backbone(x).mean((2, 3))
    h = classifier.pool_layer.batchformer(z)
    n = len(x) // DOMAINS
    parts = [slice(d * n, (d + 1) * n) for d in range(DOMAINS)]
    ours = make(name)
    ours.classifier = classifier.head
    objective = ours.objective([torch.cat([z[p], h[p]]) for p in parts], [torch.cat([y[p], y[p]]) for p in parts])
    named = dict(classifier.named_parameters())
    expected = torch.autograd.grad(objective["loss"], list(named.values()))

    theirs = scripts[script]
    optimizer = torch.optim.SGD(parameter_groups(classifier, 0.1), 0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    steps = iter([(x, by_environment(duplicate_labels(y), DOMAINS), None)])
    settings = argparse.Namespace(iters_per_epoch=1, anneal_iters=500, trade_off=1.0, print_freq=1)
    penalty = {"coral": "CorrelationAlignmentLoss", "irm": "InvariancePenaltyLoss"}.get(script)
    loss = [getattr(theirs, penalty)()] if penalty else []
    theirs.train(steps, Regrouped(classifier), optimizer, schedule, *loss, DOMAINS, 0, settings)
    for (parameter, p), gradient in zip(named.items(), expected, strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-4, atol=1e-6, msg=lambda m, k=parameter: f"{k}: {m}")


def test_irm_without_regrouping_compares_other_things(scripts):
    """Why the regrouping is there: the library's penalty of [z ; h] as it comes is another number."""
    penalty = scripts["irm"].InvariancePenaltyLoss()
    rows, y = torch.randn(24, CLASSES), duplicate_labels(torch.randint(CLASSES, (12,)))

    def mean_penalty(rows, y):
        return torch.stack([penalty(a, b) for a, b in zip(rows.chunk(DOMAINS), y.chunk(DOMAINS), strict=True)]).mean()

    assert not torch.isclose(mean_penalty(rows, y), mean_penalty(by_environment(rows, DOMAINS), by_environment(y, 3)))


def printed_by(example, checkout, *flags):
    """The two accuracies of each line that an example prints."""
    paths = [str(checkout), os.environ.get("PYTHONPATH", "")]
    result = subprocess.run(
        [sys.executable, str(ROOT / "examples" / example), *flags],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path), "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    rows = re.findall(r"^(plain|BatchFormer|source only) +([\d.]+) +([\d.]+)$", result.stdout, re.MULTILINE)
    return {name: (float(trained), float(other)) for name, trained, other in rows}


@pytest.mark.parametrize("algorithm", ["coral", "irm"])
def test_example_trains(tllib, checkout, algorithm):
    rows = printed_by("tllib_digits.py", checkout, "--algorithm", algorithm, "--steps", "100")
    assert list(rows) == ["plain", "BatchFormer"]
    assert all(trained > 60 for trained, _ in rows.values()), rows


@pytest.mark.parametrize("algorithm", ["dann", "cdan"])
def test_example_of_domain_adaptation_trains(tllib, checkout, algorithm):
    """On the rotation without labels it is better than the classifier that never saw it."""
    rows = printed_by("tllib_adaptation.py", checkout, "--algorithm", algorithm)
    assert list(rows) == ["source only", "plain", "BatchFormer"]
    assert all(source > 80 for source, _ in rows.values()), rows
    assert all(rows[name][1] > rows["source only"][1] for name in ("plain", "BatchFormer")), rows
