"""What the protocols pin, against the defaults, splits and samplers in the peers' own code."""

import ast
import copy
import importlib.util
import itertools
import random
import re
import types

import numpy as np
import pytest
import torch

from dg_batchformer.data import BENCHMARKS
from dg_batchformer.data.batches import Split, Training, without_replacement
from dg_batchformer.data.environments import Dataset, TensorEnvironment
from dg_batchformer.networks import MOMENTUM
from dg_batchformer.runs.presets import PRESETS
from dg_batchformer.runs.protocols import find_protocol

from .peers import checkout, one_definition

pytestmark = pytest.mark.domainbed

TLLIB = find_protocol("tllib")
SCRIPTS = {"ERM": "baseline", "CORAL": "coral", "IRM": "irm", "VREx": "vrex", "MixStyle": "mixstyle"}


def library():
    """Folder of the Transfer-Learning-Library with which BatchFormer's authors ran."""
    return checkout("BatchFormer") / "domain_generalization" / "Transfer-Learning-Library"


def scripts():
    return library() / "examples" / "domain_generalization" / "image_classification"


def flags_of(path):
    """The defaults of a script's command line, by their longest names."""
    defaults = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            name = max((one.value for one in node.args), key=len)
            defaults[name.strip("-")] = ast.literal_eval(given["default"]) if "default" in given else None
    return defaults


def environments_of(script, flags):
    """Environments of a minibatch by what a script gives to its RandomDomainSampler, 0 where it has none."""
    for node in ast.walk(ast.parse((scripts() / script).read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "RandomDomainSampler":
            given = [*node.args, *(keyword.value for keyword in node.keywords)][2]
            return given.value if isinstance(given, ast.Constant) else flags["n-domains-per-batch"]
    return 0


@pytest.mark.parametrize("algorithm", SCRIPTS)
def test_tllib_has_the_scripts_defaults(algorithm):
    theirs = flags_of(scripts() / f"{SCRIPTS[algorithm]}.py")
    ours = TLLIB.hparams(algorithm, "PACS")
    assert (ours["lr"], ours["weight_decay"]) == (theirs["learning-rate"], theirs["weight-decay"])
    assert theirs["momentum"] == MOMENTUM
    assert (TLLIB.environments_per_step(algorithm) or 3) * ours["batch_size"] == theirs["batch-size"]
    assert TLLIB.length(BENCHMARKS["PACS"]) == (theirs["epochs"] * theirs["iters-per-epoch"], theirs["iters-per-epoch"])
    assert ours["resnet_dropout"] == theirs["dropout-p"]
    assert TLLIB.environments_per_step(algorithm) == environments_of(f"{SCRIPTS[algorithm]}.py", theirs)
    if algorithm in ("CORAL", "IRM", "VREx"):
        weight = {"CORAL": "mmd_gamma", "IRM": "irm_lambda", "VREx": "vrex_lambda"}[algorithm]
        assert ours[weight] == theirs["trade-off"]


def test_tllib_freezes_batch_norm_and_mixes_layers_as_the_recorded_commands_do():
    commands = (scripts() / "mixstyle.sh").read_text().splitlines()
    for dataset in ("PACS", "OfficeHome"):
        own = [line for line in commands if f"-d {dataset} " in line]
        layers = re.search(r"--mix-layers ((?:layer\d ?)+)", own[0]).group(1).split()
        ours = TLLIB.hparams("MixStyle", dataset)
        assert len(own) == 4
        assert (ours["mixstyle_layers"], ours["freeze_bn"]) == (layers, "--freeze-bn" in own[0])


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_tllibs_splits(seed):
    subset = lambda dataset, indices: indices  # noqa: E731
    theirs = one_definition(scripts() / "utils.py", "split_dataset", np=np, Subset=subset)
    sizes = [2048, 2344, 1670, 3929]
    ours = TLLIB.splits(sizes, 0.2, seed, [3])
    for size, split in zip(sizes[:3], ours, strict=False):
        inside, out = theirs(range(size), int(size * 0.8), seed)
        assert (split.inside.tolist(), split.out.tolist()) == (inside, out)
    assert len(ours[3].inside) == 3929


@pytest.mark.parametrize(("sizes", "n_environments"), [((40, 50, 61), 3), ((36, 36, 36), 3), ((30, 60), 2)])
def test_tllibs_passes_have_the_samplers_length(sizes, n_environments):
    path = library() / "dglib" / "modules" / "sampler.py"
    cls = one_definition(path, "RandomDomainSampler", Sampler=object, copy=copy, random=random, np=np)
    data = types.SimpleNamespace(cumulative_sizes=list(itertools.accumulate(sizes)))
    theirs = len(list(cls(data, 12 * n_environments, n_environments))) // (12 * n_environments)
    environments = [TensorEnvironment(str(n), torch.zeros(n, 1), torch.zeros(n).long()) for n in sizes]
    dataset = Dataset("sizes", environments, (1,), ("0", "1"))
    splits = [Split(torch.arange(n), torch.arange(0)) for n in sizes]
    steps = without_replacement(Training(dataset, splits, range(len(sizes)), 12, 0), n_environments)
    seen, length = [set() for _ in sizes], 0
    for step in steps:
        drawn = [(one.environment, set(one.indices.tolist())) for (one,) in step]
        if any(seen[i] & indices for i, indices in drawn):
            break
        length += 1
        for i, indices in drawn:
            seen[i] |= indices
    # The next pass may begin with samples that the last one left.
    assert theirs <= length <= theirs + 1


def swad_hparams(dataset):
    path = checkout("swad") / "domainbed" / "hparams_registry.py"
    spec = importlib.util.spec_from_file_location("swad_hparams_registry", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.default_hparams("ERM", dataset)


@pytest.mark.parametrize("dataset", ["PACS", "VLCS", "OfficeHome", "TerraIncognita"])
def test_swad_has_the_authors_defaults_and_commands(dataset):
    ours, theirs = find_protocol("swad").hparams("SWAD", dataset), swad_hparams(dataset)
    names = ("freeze_bn", "resnet_dropout", "lr", "weight_decay", "batch_size", "val_augment", "optimizer")
    assert {name: ours[name] for name in names} == {name: theirs[name] for name in names}
    root = checkout("swad")
    config = dict(re.findall(r"^  (\w+): ([\d.]+)$", (root / "config.yaml").read_text(), re.MULTILINE))
    (command,) = re.findall(rf"train_all.py \w+0 (--dataset {dataset} .*)", (root / "README.md").read_text())
    flags = {**config, **dict(re.findall(r"--(\w+) ([\w.]+)", command))}
    assert ours["swad_n_converge"] == int(flags["n_converge"])
    assert ours["swad_n_tolerance"] == int(flags["n_tolerance"])
    assert ours["swad_tolerance_ratio"] == float(flags["tolerance_ratio"])
    steps = re.search(r"N_STEPS = (\d+)", (root / "domainbed" / "datasets" / "datasets.py").read_text()).group(1)
    assert find_protocol("swad").length(BENCHMARKS[dataset]) == (int(steps), int(flags["checkpoint_freq"]))


def test_preset_of_miro():
    """The preset `resnet50` has the values in the README of MIRO."""
    readme = (checkout("miro") / "README.md").read_text()
    rows = {}
    for title, name in (("Learning rate", "lr"), ("Dropout", "resnet_dropout"), ("Weight decay", "weight_decay")):
        line = re.search(rf"^\| {title} +\|(.*)\|$", readme, re.MULTILINE)
        rows[name] = [ast.literal_eval(cell.strip()) for cell in line[1].split("|")]
    names = ("PACS", "VLCS", "OfficeHome", "TerraIncognita", "DomainNet")
    assert {one: {k: rows[k][i] for k in rows} for i, one in enumerate(names)} == PRESETS["resnet50"].by_dataset
