"""Our objectives, draws, splits, checkpoints and tables against DomainBed's own."""

import itertools
import shutil

import numpy as np
import pytest
import torch
from factories import args, record, write_run

from dg_batchformer import default_hparams, get_algorithm_class, random_hparams
from dg_batchformer.data.splits import split_environments
from dg_batchformer.hparams import seed_hash
from dg_batchformer.networks import make_featurizer

from .conftest import checkout
from .tables import assert_same_table

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


@pytest.fixture
def double():
    """Double precision for new tensors too: DomainBed's VREx collects its losses in one."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("dataset", SHAPES)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_ten_updates_across_the_annealing_step(domainbed, double, name, dataset):
    """In double precision: in single, Adam magnifies rounding, which depends on the processor."""
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
    assert ((a - b).norm() / a.norm()).item() <= 1e-10


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


def test_the_table_of_a_generated_sweep(domainbed_environment, tmp_path):
    random = np.random.RandomState(0)
    sets = [(i,) for i in range(4)] + list(itertools.combinations(range(4), 2))
    grid = list(itertools.product(("PACS", "VLCS"), ("ERM", "CORAL"), range(3), sets, range(5)))
    for n, (dataset, algorithm, trial, test_envs, hparams_seed) in enumerate(grid):
        of = args(test_envs, algorithm, dataset, trial, hparams_seed)
        rows = [record(step, random.rand(4), random.rand(4).round(1), of) for step in range(0, 1500, 300)]
        write_run(tmp_path / f"{n:04d}", rows)
    assert len(grid) == 600
    assert_same_table(tmp_path, domainbed_environment, n_cells=3 * 2 * 2 * 4)


def test_the_table_of_the_sweep_that_lies_in_their_checkout(domainbed_environment, tmp_path):
    theirs = checkout("DomainBed") / "domainbed" / "misc" / "test_sweep_data"
    # Their script writes its table into the folder.
    shutil.copytree(theirs, tmp_path / "sweep")
    assert_same_table(tmp_path / "sweep", domainbed_environment, n_cells=12)
