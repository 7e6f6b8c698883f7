"""Our objectives, draws, splits, checkpoints and tables against DomainBed's own."""

import itertools
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import args, record, write_run

from dg_batchformer import default_hparams, get_algorithm_class, random_hparams
from dg_batchformer.data.splits import split_environments
from dg_batchformer.hparams import seed_hash
from dg_batchformer.networks import make_featurizer

from .conftest import checkout

pytestmark = [pytest.mark.domainbed, pytest.mark.filterwarnings("ignore")]

OBJECTIVES = ("ERM", "CORAL", "IRM", "VREx")
SHAPES = {"RotatedMNIST": (1, 28, 28), "PACS": (3, 32, 32)}


def both(domainbed, name, dataset):
    """DomainBed's algorithm and ours with the same weights, the annealing step after four updates."""
    given = {"irm_penalty_anneal_iters": 4, "vrex_penalty_anneal_iters": 4}
    theirs = getattr(domainbed.algorithms, name)(
        SHAPES[dataset], 10, 3, {**domainbed.hparams_registry.default_hparams(name, dataset), **given}
    )
    ours = get_algorithm_class(name)(SHAPES[dataset], 10, 3, {**default_hparams(name, dataset), **given})
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize("dataset", SHAPES)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_ten_updates_across_the_annealing_step(domainbed, name, dataset):
    theirs, ours = both(domainbed, name, dataset)
    generator = torch.Generator().manual_seed(1)
    for _ in range(10):
        batches = [
            (
                torch.randn(8, *SHAPES[dataset], generator=generator),
                torch.randint(0, 10, (8,), generator=generator),
            )
            for _ in range(3)
        ]
        theirs.update(batches)
        ours.update(batches)
    a, b = (torch.cat([p.detach().flatten() for p in one.parameters()]) for one in (theirs, ours))
    assert ((a - b).norm() / a.norm()).item() <= 1e-5


@pytest.mark.parametrize("dataset", SHAPES)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_checkpoints_load_both_ways(domainbed, name, dataset):
    theirs, ours = both(domainbed, name, dataset)
    assert list(theirs.state_dict()) == list(ours.state_dict())
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(4, *SHAPES[dataset])
    assert torch.equal(theirs.eval().predict(x), ours.eval().predict(x))


@pytest.mark.parametrize("small", [True, False])
def test_resnet_and_mlp_states(domainbed, monkeypatch, small):
    def shapes(module):
        return {name: tuple(value.shape) for name, value in module.state_dict().items()}

    # DomainBed's ResNet always asks for ImageNet weights, which need a download; their names do not depend on it.
    models = domainbed.networks.torchvision.models
    for name in ("resnet18", "resnet50"):
        original = getattr(models, name)
        monkeypatch.setattr(models, name, lambda pretrained, original=original: original(weights=None))
    hparams = {"resnet18": small, "resnet50_augmix": False, "freeze_bn": True, "resnet_dropout": 0.0, "weights": None}
    theirs = domainbed.networks.ResNet((3, 224, 224), hparams)
    assert shapes(make_featurizer((3, 224, 224), hparams)) == shapes(theirs)
    mlp = {"mlp_width": 8, "mlp_depth": 4, "mlp_dropout": 0.0}
    assert shapes(make_featurizer((5,), mlp)) == shapes(domainbed.networks.MLP(5, 8, mlp))


@pytest.mark.parametrize("dataset", ["RotatedMNIST", "PACS", "DomainNet", "VLCS"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_hyper_parameters(domainbed, name, dataset):
    for seed in range(12):
        theirs = domainbed.hparams_registry.random_hparams(name, dataset, seed)
        ours = random_hparams(name, dataset, seed)
        shared = (theirs.keys() & ours.keys()) - {"resnet50_augmix"}
        assert {"lr", "batch_size", "weight_decay", "resnet_dropout"} <= shared
        assert {key: ours[key] for key in shared} == {key: theirs[key] for key in shared}
    theirs, ours = domainbed.hparams_registry.default_hparams(name, dataset), default_hparams(name, dataset)
    assert {key for key in theirs.keys() & ours.keys() if theirs[key] != ours[key]} == {"resnet50_augmix"}


@pytest.mark.parametrize("trial_seed", range(12))
def test_splits_and_seeds(domainbed, trial_seed):
    for sizes in ([100, 57, 33], [2048, 2344, 1670, 3929]):
        for i, split in enumerate(split_environments(sizes, 0.2, trial_seed)):
            seed = domainbed.misc.seed_hash(trial_seed, i)
            assert seed == seed_hash(trial_seed, i)
            out, inside = domainbed.misc.split_dataset(range(sizes[i]), int(sizes[i] * 0.2), seed)
            assert (out.keys, inside.keys) == (split.out.tolist(), split.inside.tolist())


# DomainBed's collect_results imports its datasets, and they import wilds, for datasets that are not used here.
COLLECT = """
import runpy, sys, types
for name in ("camelyon17_dataset", "fmow_dataset"):
    module = types.ModuleType("wilds.datasets." + name)
    module.Camelyon17Dataset = module.FMoWDataset = object
    sys.modules.update({"wilds": module, "wilds.datasets": module, "wilds.datasets." + name: module})
sys.argv = ["collect_results", "--input_dir", sys.argv[1]]
runpy.run_module("domainbed.scripts.collect_results", run_name="__main__")
"""
METHODS = {
    "training-domain validation set": "training-domain",
    "leave-one-domain-out cross-validation": "leave-one-domain-out",
    "test-domain validation set (oracle)": "oracle",
}


def their_cells(printed):
    """(selection, dataset, algorithm, environment) to mean and error, of the tables that DomainBed prints."""
    cells, selection, dataset, columns = {}, "", "", []
    for line in printed.splitlines():
        if line.startswith("--------"):
            selection = METHODS[line.split("model selection method: ")[1].strip()]
            dataset = line.split("Dataset: ")[1].split(",")[0] if "Dataset:" in line else ""
        elif line.startswith("Algorithm"):
            columns = line.split()[1:-1]
        elif dataset and line.startswith(("ERM", "CORAL")):
            found = re.findall(r"([\d.]+) \+/- ([\d.]+)", line)
            for column, (mean, error) in zip(columns, found, strict=True):
                cells[selection, dataset, line.split()[0], column] = float(mean), float(error)
    return cells


def test_the_table_of_a_generated_sweep(domainbed, tmp_path):
    random = np.random.RandomState(0)
    sets = [(i,) for i in range(4)] + list(itertools.combinations(range(4), 2))
    grid = list(itertools.product(("PACS", "VLCS"), ("ERM", "CORAL"), range(3), sets, range(5)))
    for n, (dataset, algorithm, trial, test_envs, hparams_seed) in enumerate(grid):
        of = args(test_envs, algorithm, dataset, trial, hparams_seed)
        rows = [record(step, random.rand(4), random.rand(4).round(1), of) for step in range(0, 1500, 300)]
        write_run(tmp_path / f"{n:04d}", rows)
    assert len(grid) == 600
    environment = {**os.environ, "PYTHONPATH": str(checkout("DomainBed"))}
    theirs = subprocess.run(
        [sys.executable, "-c", COLLECT, str(tmp_path)], env=environment, capture_output=True, text=True, check=True
    )
    ours = subprocess.run(
        [sys.executable, "-m", "dg_batchformer", "collect", "--input_dir", str(tmp_path), "--format", "json"],
        capture_output=True,
        text=True,
        check=True,
    )
    expected = their_cells(theirs.stdout)
    assert len(expected) == 3 * 2 * 2 * 4
    cells = {
        (cell["selection"], cell["dataset"], cell["algorithm"], cell["environment"]): (cell["mean"], cell["stderr"])
        for cell in json.loads(ours.stdout)
    }
    for key, value in expected.items():
        assert cells[key] == pytest.approx(value, abs=0.0501), key  # they print one decimal
