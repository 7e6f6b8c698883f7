"""The plug-in in DomainBed itself: its algorithms with ours, its scripts, and its own tests."""

import contextlib
import importlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dg_batchformer import ALGORITHMS, default_hparams, get_algorithm_class
from dg_batchformer.algorithms.swad import LossValley, Segment
from dg_batchformer.batchformer import attend
from dg_batchformer.domainbed import register
from dg_batchformer.registry import split_name
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.training.trainer import run

from .conftest import checkout
from .tables import assert_same_table

pytestmark = [pytest.mark.domainbed, pytest.mark.filterwarnings("ignore")]

SHAPE, CLASSES, DOMAINS = (2, 28, 28), 10, 3
NAMES = (
    "ERM ERMPlusPlus Fish IRM GroupDRO Mixup MLDG CORAL MMD DANN CDANN MTL SagNet ARM VREx RSC SD ANDMask SANDMask IGA "
    "SelfReg Fishr TRM IB_ERM IB_IRM CAD CondCAD Transfer CausIRL_CORAL CausIRL_MMD EQRM RDM ADRMX URM"
)
THEIRS = NAMES.split()
ANNEALING = {"irm_penalty_anneal_iters", "vrex_penalty_anneal_iters", "ib_penalty_anneal_iters", "iters"}
ANNEALING |= {"rdm_penalty_anneal_iters", "eqrm_burnin_iters"}
# Environments of 13 images: with a larger batch DomainBed's loader waits for ever.
SMALL = ["--hparams", '{"batch_size": 4}']


@pytest.fixture(scope="module")
def registered(domainbed):
    """DomainBed with the registration done; where there is no GPU, what it puts on one stays where it is."""
    register()
    with pytest.MonkeyPatch.context() as patch:
        if not torch.cuda.is_available():
            for cls in (torch.Tensor, torch.nn.Module):
                patch.setattr(cls, "cuda", lambda self, *args: self)
        yield domainbed


def construct(registered, name, **given):
    hparams = registered.hparams_registry.default_hparams(name, "RotatedMNIST")
    # Its default masks every gradient, in SANDMask itself.
    hparams |= {"tau": 0.5} if "SANDMask" in name else {}
    hparams |= dict.fromkeys(ANNEALING & hparams.keys(), 2)
    torch.manual_seed(0)
    return getattr(registered.algorithms, name)(SHAPE, CLASSES, DOMAINS, {**hparams, **given})


def batches(seed):
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(8, *SHAPE, generator=generator), torch.randint(0, CLASSES, (8,), generator=generator))
        for _ in range(DOMAINS)
    ]


def test_they_are_the_34(registered):
    assert registered.algorithms.ALGORITHMS[:34] == THEIRS
    assert registered.algorithms.ALGORITHMS[34:] == [name for name in ALGORITHMS if name not in THEIRS]


@pytest.mark.parametrize("name", THEIRS)
def test_prediction_is_the_bases(registered, name):
    with contextlib.suppress(ValueError):  # the refused ones, which the table above lists
        algorithm = construct(registered, f"{name}_BatchFormer")
        algorithm.update(batches(0))
        base = construct(registered, name)
        base.update(batches(0))  # GroupDRO's buffer has its size from its first update
        base.load_state_dict(algorithm.state_dict())
        for one in (base, algorithm):
            one.eval()
        x = torch.randn(6, *SHAPE)
        torch.manual_seed(1)
        together = algorithm.predict(x)
        torch.manual_seed(1)
        assert torch.equal(together, base.predict(x))
        if name != "MTL":  # adds noise to every prediction, in itself
            torch.testing.assert_close(together[:1], algorithm.predict(x[:1]), rtol=1e-4, atol=1e-5)


# These report losses after a step of theirs, which an update on fixed features cannot follow.
@pytest.mark.parametrize("name", [name for name in THEIRS if name not in ("MLDG", "Transfer", "SagNet")])
def test_the_first_losses_are_those_of_its_own_update_on_both_branches(registered, name):
    try:
        algorithm = construct(registered, f"{name}_BatchFormer", batchformer_dropout=0.0)
    except ValueError:
        return  # refused, as the table above says
    base = construct(registered, name)
    base.load_state_dict(algorithm.state_dict())
    step = batches(0)
    z = list(torch.split(algorithm.featurizer(torch.cat([x for x, _ in step])), 8))
    h = attend(algorithm.batchformer, z, "all")
    both = [(torch.cat([a, b]).detach(), torch.cat([y, y])) for a, b, (_, y) in zip(z, h, step, strict=True)]
    parameters = list(base.featurizer.parameters())
    # Features as they come, but with a gradient by the featurizer's parameters, which some ask for.
    base.featurizer.forward = lambda x: x + sum(0 * parameter.sum() for parameter in parameters)
    values = []
    for one, minibatches in ((algorithm, step), (base, both)):
        random.seed(0), np.random.seed(0), torch.manual_seed(0)
        values.append(one.update(minibatches))
    assert values[0] == {key: pytest.approx(value, rel=1e-3, abs=1e-5) for key, value in values[1].items()}


@pytest.mark.parametrize(
    "name", ["ERM_BatchFormer", "CORAL_SWAD", "GroupDRO_BatchFormer", "MixStyle", "SWAD_BatchFormer"]
)
def test_draws_are_paired(registered, name):
    registry, base = registered.hparams_registry, split_name(name)[0]
    for dataset in ("RotatedMNIST", "PACS", "DomainNet", "VLCS"):
        for seed in range(12):
            drawn, of_base = (registry.random_hparams(one, dataset, seed) for one in (name, base))
            assert {key: drawn[key] for key in of_base} == of_base
            own = {key for key in drawn if key.startswith(("batchformer_", "mixstyle_", "swad_"))}
            assert drawn.keys() - of_base.keys() == own != set()
            assert {key: drawn[key] for key in own} == {
                key: registry.default_hparams(name, dataset)[key] for key in own
            }


def test_registering_twice_is_registering_once(registered):
    def state():
        return (
            dict(vars(registered.algorithms)),
            list(registered.algorithms.ALGORITHMS),
            registered.hparams_registry._hparams,
            dict(importlib.import_module("domainbed.command_launchers").REGISTRY),
        )

    before = state()
    register()
    assert state() == before
    for name in ("ERM", "CORAL", "IRM", "VREx", "GroupDRO"):
        assert getattr(registered.algorithms, name).__module__ == "domainbed.algorithms"
        assert not hasattr(getattr(registered.algorithms, name), "composition")


def plugin(environment, *argv):
    command = [sys.executable, "-m", "dg_batchformer.domainbed", *map(str, argv)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_swad_in_their_training_script(domainbed_environment, tmp_path):
    """Window and weights follow from what lies on the disk: the losses, and the weights of every step."""
    hparams = {"batch_size": 4, "swad_n_converge": 2, "swad_n_tolerance": 2, "swad_tolerance_ratio": 0.05}
    flags = [
        "--dataset",
        "Debug28",
        "--algorithm",
        "SWAD_BatchFormer",
        "--test_envs",
        0,
        "--hparams",
        json.dumps(hparams),
    ]
    flags += ["--steps", 30, "--checkpoint_freq", 1, "--save_model_every_checkpoint", "--output_dir", tmp_path]
    done = plugin(domainbed_environment, "train", *flags)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "done").exists()
    progress, (final,) = lines_of(tmp_path / "progress.jsonl"), lines_of(tmp_path / "results.jsonl")
    assert [record["step"] for record in progress] == list(range(30))
    assert final["step"] == 29
    models = [torch.load(tmp_path / f"model_step{step}.pkl", weights_only=True)["model_dict"] for step in range(29)]
    valley = LossValley(2, 2, 0.05)
    for step, record in enumerate(progress):
        # The last step's own weights are not on the disk, since `finish` came before.
        valley.add(Segment(models[step] if step < 29 else {}, step, step, record["validation_loss"]))
        if valley.dead:
            break
    expected, window = valley.result()
    assert valley.dead
    assert final["swad_window"] == list(window)
    model = torch.load(tmp_path / "model.pkl", weights_only=True)["model_dict"]
    assert not any(key.startswith("batchformer") for key in model)
    for key, value in expected.items():
        torch.testing.assert_close(model[key], value)
    assert any(not torch.equal(model[key], models[-1][key]) for key in expected)


def test_without_validation_losses_swad_refuses_to_pass_for_an_average(domainbed_environment, tmp_path):
    code = (
        "import runpy, sys; from dg_batchformer.domainbed import register; register(); "
        "runpy.run_module('domainbed.scripts.train', run_name='__main__')"
    )
    flags = ["--dataset", "Debug28", "--algorithm", "ERM_SWAD", "--steps", "3", "--output_dir", str(tmp_path), *SMALL]
    done = subprocess.run(
        [sys.executable, "-c", code, *flags], env=domainbed_environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    printed = done.stdout + done.stderr  # their script sends both to the first
    assert "ERM_SWAD averages weights by validation losses, and this script gives none" in printed
    assert not (tmp_path / "model.pkl").exists()


def test_a_sweep_of_theirs_and_both_tables(domainbed_environment, tmp_path):
    """Their launcher starts jobs that know our algorithms; both tables of the sweep agree, as do those of ours."""
    flags = ["--datasets", "Debug28", "--algorithms", "GroupDRO", "GroupDRO_BatchFormer", "SWAD_BatchFormer"]
    flags += ["--n_hparams", 1, "--n_trials", 1, "--steps", 4, "--single_test_envs", "--skip_confirmation"]
    flags += [*SMALL, "--data_dir", "", "--output_dir", tmp_path / "theirs"]
    environment = {**domainbed_environment, "CUDA_VISIBLE_DEVICES": "0"}
    done = plugin(environment, "sweep", "launch", *flags, "--command_launcher", "multi_gpu")
    assert done.returncode == 0, done.stderr
    folders = list((tmp_path / "theirs").iterdir())
    assert len(folders) == 9
    assert all((folder / "done").exists() for folder in folders)
    assert_same_table(tmp_path / "theirs", domainbed_environment, n_cells=2 * 3 * 3)
    ours = tmp_path / "both"
    shutil.copytree(tmp_path / "theirs", ours)
    for test_env in range(3):
        run(RunArguments("Debug28", "CORAL", [test_env], steps=4, output_dir=str(ours / f"ours{test_env}")), echo=False)
    assert_same_table(ours, domainbed_environment, n_cells=2 * 4 * 3)


def test_models_load_both_ways(registered, domainbed_environment, tmp_path):
    flags = ["--dataset", "Debug28", "--algorithm", "CORAL_BatchFormer", "--steps", 2, *SMALL]
    flags += ["--output_dir", tmp_path / "theirs"]
    assert plugin(domainbed_environment, "train", *flags).returncode == 0
    run(RunArguments("Debug28", "CORAL_BatchFormer", [0], steps=2, output_dir=str(tmp_path / "ours")), echo=False)
    x = torch.randn(4, 3, 28, 28)
    for writer in ("theirs", "ours"):
        saved = torch.load(tmp_path / writer / "model.pkl", weights_only=True)
        shape = (saved["model_input_shape"], saved["model_num_classes"], saved["model_num_domains"])
        hparams = {**registered.hparams_registry.default_hparams("CORAL", "Debug28"), **saved["model_hparams"]}
        readers = [
            registered.algorithms.CORAL(*shape, hparams),
            registered.algorithms.CORAL_BatchFormer(
                *shape, {**default_hparams("CORAL_BatchFormer", "Debug28"), **hparams}
            ),
            get_algorithm_class("CORAL")(*shape, {**default_hparams("CORAL", "Debug28"), **hparams}),
        ]
        for reader in readers:
            reader.load_state_dict(saved["model_dict"])
        logits = [reader.eval().predict(x) for reader in readers]
        assert torch.equal(logits[0], logits[1])
        assert torch.equal(logits[0], logits[2])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["train", "--algorithm", "GropDRO_BatchFormer"],
            "unknown algorithm 'GropDRO_BatchFormer': did you mean GroupDRO_B",
        ),
        (
            ["sweep", "launch", "--algorithms", "ERM", "Fish_BatchFormer"],
            "Fish does not work with BatchFormer: it has no `feat",
        ),
        (
            ["train", "--algo", "ARM_BatchFormer"],
            "ARM does not work with BatchFormer: its update fails when features repl",
        ),
    ],
)
def test_wrong_input_is_one_sentence_before_anything_is_launched(domainbed_environment, tmp_path, argv, message):
    done = plugin(domainbed_environment, *argv, "--output_dir", tmp_path / "out")
    assert done.returncode == 2
    assert f"error: {message}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_multi_gpu_without_a_gpu_is_refused_instead_of_waiting_for_one(domainbed_environment, tmp_path):
    environment = {key: value for key, value in domainbed_environment.items() if key != "CUDA_VISIBLE_DEVICES"}
    flags = ["--datasets", "Debug28", "--algorithms", "ERM", "--data_dir", "", "--output_dir", tmp_path]
    done = plugin(environment, "sweep", "launch", *flags, "--command_launcher", "multi_gpu", "--skip_confirmation")
    assert done.returncode == 2
    assert "error: multi_gpu finds no GPU here" in done.stderr


def test_another_package_called_domainbed_is_named():
    environment = {**os.environ, "PYTHONPATH": str(checkout("swad"))}
    done = plugin(environment, "train", "--algorithm", "ERM_BatchFormer")
    assert done.returncode == 2
    assert re.search(
        r"error: domainbed.algorithms \(.*swad.*\) has no ALGORITHMS.*expected facebookresearch/DomainBed", done.stderr
    )


def test_their_own_unit_tests(domainbed_environment):
    driver = Path(__file__).with_name("domainbed_unit_tests.py")
    environment = {key: value for key, value in domainbed_environment.items() if key != "DATA_DIR"}
    done = subprocess.run(
        [sys.executable, driver], cwd=checkout("DomainBed"), env=environment, capture_output=True, text=True, check=True
    )
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["ran"] > 800
    # Fishr needs BackPACK 1.3.0, which imports names that torch has dropped since.
    assert all("backpack" in reason for reason in result["bad"].values()), result
    assert len(result["bad"]) in (0, 2)
