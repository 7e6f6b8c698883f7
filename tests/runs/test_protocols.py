"""What each protocol pins, against the numbers in its authors' code."""

import itertools
import json

import numpy as np
import pytest
import torch
from factories import Plain, image_tree

from dg_batchformer import ALGORITHMS, register_algorithm, registry
from dg_batchformer.algorithms import ERM
from dg_batchformer.data import BENCHMARKS, find_benchmark, load_dataset
from dg_batchformer.data.environments import Samples
from dg_batchformer.errors import InputError
from dg_batchformer.runs import resolve
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.runs.protocols import PROTOCOLS, find_protocol
from dg_batchformer.training import trainer
from dg_batchformer.training.compute import Schedule
from dg_batchformer.training.setup import Setup

DIGITS, NOISE = load_dataset("RotatedDigits"), load_dataset("Debug28")


def train(folder, **arguments):
    given = {"steps": 5, "checkpoint_freq": 2, "hparams": '{"batch_size": 4}', **arguments}
    trainer.run(RunArguments(**given, dataset="Debug28", output_dir=str(folder)), NOISE, echo=False)
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def hparams(protocol, algorithm, dataset="PACS", **given):
    return resolve(RunArguments(protocol=protocol, algorithm=algorithm, dataset=dataset, **given)).hparams


def test_swad():
    own = hparams("swad", "SWAD_BatchFormer", "PACS", hparams='{"weights": null}')
    assert (own["freeze_bn"], own["optimizer"], own["lr"], own["batch_size"]) == (True, "adam", 5e-5, 32)
    assert (own["swad_n_converge"], own["swad_n_tolerance"], own["swad_tolerance_ratio"]) == (3, 6, 0.3)
    assert hparams("swad", "SWAD", "VLCS")["swad_tolerance_ratio"] == 0.2
    protocol = find_protocol("swad")
    assert {name: protocol.length(find_benchmark(name)) for name in ("PACS", "VLCS", "OfficeHome")} == {
        "PACS": (5001, 100),
        "VLCS": (5001, 50),
        "OfficeHome": (5001, 100),
    }
    assert [step for step in range(201) if protocol.is_checkpoint(step, 100)] == [0, 100, 200]


def test_domainbed_paper():
    """DomainBed before 3dfdc8e: batch norm is frozen in every row of the search; validation images are augmented."""
    for seed in (0, 1, 7):
        own, usual = (
            hparams(name, "CORAL_BatchFormer", hparams_seed=seed) for name in ("domainbed-paper", "domainbed")
        )
        assert own == {**usual, "freeze_bn": True, "val_augment": True}
        assert usual["freeze_bn"] is False
    protocol = find_protocol("domainbed-paper")
    assert protocol.searches
    assert protocol.length(BENCHMARKS["PACS"]) == (5001, 300)
    (own, _), (usual, _) = (
        find_protocol(name).splits([50, 40], 0.2, 3, [1]) for name in ("domainbed-paper", "domainbed")
    )
    assert own.out.equal(usual.out)


def test_tllib():
    erm, irm, vrex, mixstyle = (hparams("tllib", name) for name in ("ERM_BatchFormer", "IRM", "VREx", "MixStyle"))
    assert (erm["optimizer"], erm["lr"], erm["weight_decay"], erm["batch_size"]) == ("sgd", 1e-3, 5e-4, 12)
    assert (erm["freeze_bn"], erm["resnet_dropout"]) == (True, 0.1)
    assert (irm["lr"], irm["irm_lambda"], irm["irm_penalty_anneal_iters"]) == (5e-4, 1.0, 500)
    assert (vrex["lr"], vrex["vrex_lambda"], vrex["vrex_penalty_anneal_iters"]) == (5e-4, 3.0, 500)
    assert (mixstyle["lr"], mixstyle["mixstyle_layers"]) == (1e-3, ["layer1", "layer2", "layer3"])
    assert (mixstyle["mixstyle_mix"], mixstyle["batch_size"]) == ("crossdomain", 18)
    home = hparams("tllib", "MixStyle", "OfficeHome")
    assert hparams("swad", "MixStyle")["mixstyle_layers"] == ["layer1", "layer2", "layer3"]
    assert (home["freeze_bn"], home["resnet_dropout"], home["mixstyle_layers"]) == (False, 0.0, ["layer1", "layer2"])
    protocol = find_protocol("tllib")
    assert protocol.length(BENCHMARKS["PACS"]) == (10000, 500)
    assert [step for step in range(1500) if protocol.is_checkpoint(step, 500)] == [499, 999, 1499]


def test_tllibs_splits_have_one_seed_and_test_on_everything():
    splits = find_protocol("tllib").splits([50, 50, 30], 0.2, 3, [2])
    expected = list(range(50))
    np.random.RandomState(3).shuffle(expected)
    for split in splits[:2]:
        assert (split.inside.tolist(), split.out.tolist()) == (expected[:40], expected[40:])
    assert splits[2].inside.tolist() == list(range(30))
    assert len(splits[2].out) == 6


def test_tllib_resizes_bicubically_in_evaluation(tmp_path):
    from PIL import Image
    from torchvision import transforms

    dataset = load_dataset(f"folder:{image_tree(tmp_path / 'mine')}")
    first = [Samples(0, torch.arange(1))]
    ((ours,),) = find_protocol("tllib").prepared(dataset).inputs(first, "cpu")
    with Image.open(tmp_path / "mine" / "a" / "cat" / "0.jpg") as image:
        resized = image.resize((224, 224), Image.Resampling.BICUBIC)
    theirs = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])]
    )(resized)
    assert (ours - theirs).abs().max() <= 1.01 / 255 / 0.224
    assert (dataset.inputs(first, "cpu")[0][0] - theirs).abs().max() > 0.1


@pytest.mark.parametrize("algorithm", ["ERM_BatchFormer", "IRM_BatchFormer"])
def test_tllibs_rates_are_those_of_its_scripts(algorithm):
    """Against torch's CosineAnnealingLR as the scripts use it; IRM's optimizer is made anew at its annealing step."""
    steps, anneal = 12, 5
    given = {**hparams("tllib", algorithm, "RotatedDigits"), "batchformer_lr_scale": 0.1, "lr": 1e-3}
    given["irm_penalty_anneal_iters"] = anneal
    algorithm = registry.get_algorithm_class(algorithm)((1, 16, 16), 10, 3, given)
    schedule = Schedule(algorithm, find_protocol("tllib").learning_rate, steps)
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, steps)
    batches = [(torch.randn(4, 1, 16, 16), torch.arange(4))] * 3
    for step in range(steps):
        if hasattr(algorithm, "n_updates") and step == anneal:
            theirs = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
            scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, steps - anneal)
        expected = theirs.param_groups[0]["lr"]
        algorithm.update(batches)
        used = [group["lr"] for group in algorithm.optimizer.param_groups]
        assert used == pytest.approx([expected, 0.1 * expected], rel=1e-9)
        theirs.step()
        scheduler.step()
        schedule.after(step)


def test_tllibs_batches():
    sizes_of = {"ERM": [12], "MixStyle_BatchFormer": [4] * 2, "CORAL": [4] * 3, "IRM_MixStyle_SWAD": [4] * 3}
    for algorithm, sizes in sizes_of.items():
        arguments = RunArguments(protocol="tllib", algorithm=algorithm, hparams='{"batch_size": 4}')
        drawn = itertools.islice(Setup.from_run(resolve(arguments), DIGITS).minibatches(), 3)
        assert [[len(x) for x, _ in step] for step in drawn] == [sizes] * 3


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_trains_under_every_protocol(tmp_path, protocol, algorithm):
    last = train(tmp_path / "run", algorithm=algorithm, protocol=protocol)[-1]
    assert (last["step"], last["args"]["protocol"]) == (4, protocol)
    assert last["hparams"]["optimizer"] == ("sgd" if protocol == "tllib" else "adam")


def test_tllib_cannot_balance_classes():
    with pytest.raises(InputError, match="'class_balanced' is true, and protocol tllib draws without replacement"):
        hparams("tllib", "ERM", "RotatedDigits", hparams='{"class_balanced": true}')


def test_checkpoints_of_tllib_come_after_each_epoch(tmp_path):
    assert [record["step"] for record in train(tmp_path / "run", protocol="tllib")] == [1, 3, 4]


def test_a_protocol_without_a_search_refuses_one():
    with pytest.raises(InputError, match="protocol swad has fixed hyper-parameters and no search"):
        resolve(RunArguments(protocol="swad", hparams_seed=1))
    with pytest.raises(InputError, match="unknown protocol 'domainbet': did you mean domainbed"):
        resolve(RunArguments(protocol="domainbet"))


class OwnSGD(Plain):
    """An algorithm that makes its optimizer itself."""


class FreeBatchNorm(ERM):
    """Its network does not know `freeze_bn`."""

    def __init__(self, *given):
        super().__init__(*given)
        self.featurizer.norm = torch.nn.BatchNorm2d(3)


@pytest.mark.parametrize(
    ("algorithm", "reason"),
    [
        (OwnSGD, "protocol swad trains with Adam, but OwnSGD uses SGD: make its optimizer"),
        (FreeBatchNorm, "protocol swad freezes batch norm, but FreeBatchNorm updates"),
    ],
)
def test_an_algorithm_that_does_not_keep_a_protocol_is_refused(tmp_path, monkeypatch, algorithm, reason):
    monkeypatch.setattr(registry, "_objectives", dict(registry._objectives))
    register_algorithm(algorithm)
    with pytest.raises(InputError, match=reason):
        train(tmp_path / "run", algorithm=algorithm.__name__, protocol="swad")
    assert not (tmp_path / "run").exists()
