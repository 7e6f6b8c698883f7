"""What two runs must have in common to stand in one table: all but algorithm, environments left out and seeds."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dg_batchformer.data.benchmarks import BENCHMARKS
from dg_batchformer.hparams import SMALL_IMAGES
from dg_batchformer.runs.arguments import FIELDS, Role, names_of
from dg_batchformer.runs.protocols import DOMAINBED, PROTOCOLS
from dg_batchformer.selection.given import NONE_GIVEN, given_network
from dg_batchformer.selection.read import FinishedRun

UNKNOWN = "not known before a run is done"
"""The backbone where only plans are there; what they give of it follows."""

NOT_RECORDED = "not recorded"

SMALL_NETWORKS = {name: name for name in ("ConvNet", "WideResNet", "MLP")}
SMALL_NETWORKS |= {"MNIST_CNN": "ConvNet", "Wide_ResNet": "WideResNet"}
"""Networks that always start at random; the last two are DomainBed's names for ours."""

USUAL = {name: FIELDS[name].default for name in names_of(Role.SETTING) if name != "protocol"}
"""The arguments that a table never mixes two values of; None is the protocol's and the dataset's."""


@dataclass(frozen=True, order=True)
class Setting:
    """A dataset, a protocol and a backbone, and `others`: by name what departs from the protocol's usual."""

    dataset: str
    protocol: str = DOMAINBED
    backbone: str = UNKNOWN
    others: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        named = [f"{name} {value}" for name, value in self.others]
        return ", ".join([self.dataset, f"protocol {self.protocol}", f"backbone {self.backbone}", *named])

    def on(self, dataset: str) -> Setting:
        """The same setting with another dataset."""
        return dataclasses.replace(self, dataset=dataset)

    def with_other(self, name: str, value: str) -> Setting:
        """The same setting with something more that departs from the usual."""
        return dataclasses.replace(self, others=tuple(sorted((*self.others, (name, value)))))

    def differences(self, other: Setting) -> list[str]:
        """What sets two settings apart, in words."""
        pairs = [(name, getattr(self, name), getattr(other, name)) for name in ("dataset", "protocol", "backbone")]
        names = dict.fromkeys(name for name, _ in (*self.others, *other.others))
        pairs += [
            (name, dict(self.others).get(name, "as usual"), dict(other.others).get(name, "as usual")) for name in names
        ]
        return [f"{name} {mine} and {theirs}" for name, mine, theirs in pairs if mine != theirs]


def settings_of(runs: Sequence[FinishedRun]) -> list[Setting]:
    """The settings of finished runs; where those of one setting are of different data, that is in it too."""
    known: dict[Setting, Setting] = {}  # one object for equal ones, which are looked up again and again
    settings = [known.setdefault(setting, setting) for setting in map(setting_of, runs)]
    values = {
        "environments": [str(run.n_environments) for run in runs],
        "data fingerprint": [run.made.get("data_fingerprint") or NOT_RECORDED for run in runs],
    }
    for name, own in values.items():
        found: dict[Setting, set[str]] = defaultdict(set)
        for setting, value in zip(settings, own, strict=True):
            found[setting].add(value)
        several = {setting for setting, different in found.items() if len(different - {NOT_RECORDED}) > 1}
        settings = [
            one.with_other(name, value) if one in several else one for one, value in zip(settings, own, strict=True)
        ]
    return settings


def setting_of(run: FinishedRun) -> Setting:
    """The setting of a finished run."""
    planned = planned_setting(run.key.dataset, run.args)
    others = {}
    if run.made.get("skipped_images"):
        others["skipped_images"] = json.dumps(run.made["skipped_images"])
    usual = _usual_freeze_bn(run.key.protocol, run.key.algorithm, run.key.dataset)
    freeze_bn = bool(run.hparams.get("freeze_bn", usual))
    if freeze_bn != usual:
        others["freeze_bn"] = str(freeze_bn).lower()
    departs = tuple(sorted((*planned.others, *others.items()))) if others else planned.others
    return Setting(planned.dataset, planned.protocol, backbone_of(run), departs)


@functools.lru_cache(maxsize=1024)
def _usual_freeze_bn(protocol: str, algorithm: str, dataset: str) -> bool:
    known = PROTOCOLS.get(protocol)
    return bool(known and known.hparams(algorithm, dataset).get("freeze_bn", False))


def planned_setting(dataset: str, args: Mapping[str, Any]) -> Setting:
    """What the arguments of a run say of its setting; its backbone shows once it is done."""
    given = tuple(str(args.get(name, usual)) for name, usual in USUAL.items())
    return _planned(dataset, args.get("protocol", DOMAINBED), given, given_network(args))


@functools.lru_cache(maxsize=1024)
def _planned(dataset: str, protocol: str, given: tuple[str, ...], network: str) -> Setting:
    benchmark, known = BENCHMARKS.get(dataset), PROTOCOLS.get(protocol)
    lengths = known.length(benchmark) if benchmark and known else (None, None)
    usual = {**USUAL, **dict(zip(("steps", "checkpoint_freq"), lengths, strict=True))}
    others = [
        (name, value) for name, value in zip(USUAL, given, strict=True) if value not in ("None", str(usual[name]))
    ]
    backbone = UNKNOWN if network == NONE_GIVEN else f"{UNKNOWN}, given {network}"
    return Setting(dataset, protocol, backbone, tuple(sorted(others)))


def backbone_of(run: FinishedRun) -> str:
    """The backbone of a run and where its weights come from, as recorded, else as DomainBed's hparams say."""
    recorded, weights = run.made.get("backbone"), run.made.get("weights")
    if recorded in SMALL_NETWORKS:
        return SMALL_NETWORKS[recorded]
    if recorded and recorded != "ResNet":  # DomainBed's class of that name is any of the below
        return str(recorded) if weights in ("imagenet", "unknown") else f"{recorded}, weights {weights}"
    hparams = run.hparams
    if run.key.dataset in SMALL_IMAGES:
        return "ConvNet"
    if hparams.get("vit"):
        return "DinoV2" if hparams.get("dinov2") else "vit"
    if hparams.get("resnet50_augmix"):
        return "timm:resnet50.ram_in1k"
    return "resnet18" if hparams.get("resnet18") else "resnet50"
