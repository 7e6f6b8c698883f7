"""The peers' own code, from checkouts in the folder that the environment variable PEERS names.

Expected there: `DomainBed` (facebookresearch), `swad` (khanrc), `BatchFormer` (zhihou7), `Transfer-Learning-Library`
(thuml), `multi-domain-imbalance` (YyzHarry). A missing one is skipped, by name. This repository has no code of theirs.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from .peers import PEERS, checkout, one_definition


def pytest_report_header(config):
    """The peers' commits, so that a result says what it was compared with."""
    if not PEERS:
        return None
    found = sorted(path for path in Path(PEERS).iterdir() if (path / ".git").exists())
    return f"peers: {', '.join(f'{path.name} {commit(path)}' for path in found)}"


def commit(path: Path) -> str:
    """The short hash of a checkout's commit."""
    command = ["git", "-C", str(path), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="session")
def domainbed():
    """DomainBed's modules; `wilds`, which it imports for two datasets of its own, is not needed here."""
    sys.path.insert(0, str(checkout("DomainBed")))
    try:
        return types.SimpleNamespace(
            **{
                name.rpartition(".")[2]: importlib.import_module(f"domainbed.{name}")
                for name in ("algorithms", "hparams_registry", "networks", "lib.misc")
            }
        )
    except ImportError as error:
        pytest.skip(f"DomainBed cannot be imported: {error}")


@pytest.fixture(scope="session")
def domainbed_environment(tmp_path_factory):
    """Environment variables with which DomainBed's scripts run; a stand-in for `wilds` has what they import of it."""
    folder = tmp_path_factory.mktemp("stand_in") / "wilds" / "datasets"
    folder.mkdir(parents=True)
    for module, name in (("camelyon17_dataset", "Camelyon17Dataset"), ("fmow_dataset", "FMoWDataset")):
        (folder / f"{module}.py").write_text(f"{name} = object\n")
    paths = [str(checkout("DomainBed")), str(folder.parents[1])]
    python = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "ignore", "PATH": python}


@pytest.fixture(scope="session")
def loss_valley():
    """The SWAD authors' LossValley; their package is called domainbed too, so it is loaded beside DomainBed's."""
    root = checkout("swad") / "domainbed"
    present = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "domainbed"}
    for name in present:
        del sys.modules[name]
    try:
        for name, folder in (("domainbed", root), ("domainbed.lib", root / "lib")):
            package = types.ModuleType(name)
            package.__path__ = [str(folder)]
            sys.modules[name] = package
        module = importlib.import_module("domainbed.swad")
        return module.LossValley, module.swa_utils.AveragedModel
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "domainbed"]:
            del sys.modules[name]
        sys.modules.update(present)


@pytest.fixture(scope="session")
def transformer_decorator():
    """The BatchFormer authors' decorator of a network's pooling layer."""
    import torch

    path = checkout("BatchFormer") / "domain_generalization" / "baseline.py"
    return one_definition(path, "TransformerDecorator", torch=torch)


@pytest.fixture(scope="session")
def released():
    """Runs the training loop of one of the BatchFormer authors' scripts, `baseline` or `irm`."""
    import torch
    import torch.nn.functional as F

    root = checkout("BatchFormer") / "domain_generalization"

    class Meter:
        def __init__(self, *args, **kwargs): ...

        update = display = __init__

    def run(name, features, classifier, optimizer, batches, hparams):
        path = root / ("irm.py" if name == "irm" else "baseline.py")
        names = {"torch": torch, "F": F, "time": time, "AverageMeter": Meter, "ProgressMeter": Meter, "device": "cpu"}
        train = one_definition(path, "train", accuracy=lambda *args: [torch.zeros(())], **names)
        args = types.SimpleNamespace(
            iters_per_epoch=len(batches), print_freq=100, trade_off=hparams.get("irm_lambda"), anneal_iters=100
        )
        joined = iter([(torch.cat([x for x, _ in one]), torch.cat([y for _, y in one]), None) for one in batches])

        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.features, self.classifier = features, classifier

            def forward(self, x):
                return self.classifier(self.features(x)), None

        scheduler = types.SimpleNamespace(step=lambda: None)
        extra = []
        if name == "irm":
            path = root / "Transfer-Learning-Library" / "dglib" / "generalization" / "irm.py"
            extra = [
                one_definition(path, "InvariancePenaltyLoss", torch=torch, nn=torch.nn, F=F, autograd=torch.autograd)(),
                len(batches[0]),
            ]
        train(joined, Model(), optimizer, scheduler, *extra, 0, args)

    return run


@pytest.fixture(scope="session")
def mixstyle_modules():
    """MixStyle and MixStyle2 (by domain) as the BatchFormer authors' SWAD code has them from MixStyle's authors."""
    import random

    import torch

    path = checkout("BatchFormer") / "domain_generalization" / "swad" / "domainbed" / "models" / "mixstyle.py"
    names = {"random": random, "torch": torch, "nn": torch.nn}
    return one_definition(path, "MixStyle", **names), one_definition(path, "MixStyle2", **names)


@pytest.fixture(scope="session")
def multi_domain_imbalance():
    """The algorithms of multi-domain-imbalance."""
    sys.path.insert(0, str(checkout("multi-domain-imbalance")))
    try:
        return importlib.import_module("mdlt.learning.algorithms")
    except ImportError as error:
        pytest.skip(f"multi-domain-imbalance cannot be imported: {error}")
