"""What two runs must have in common to stand in one table: all but algorithm, environments left out and seeds."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dg_batchformer.data.benchmarks import BENCHMARKS
from dg_batchformer.hparams import SMALL_IMAGES
from dg_batchformer.runs.protocols import DOMAINBED, PROTOCOLS
from dg_batchformer.selection.runs import Run

UNKNOWN = "not known before a run is done"
"""The backbone where only plans are there; what they give of it follows."""

NOT_RECORDED = "not recorded"

NETWORK_HPARAMS = ("backbone", "weights", "resnet18", "resnet50_augmix", "freeze_backbone", "freeze_bn")
"""hparams that say what network is trained, so that they are the setting's and not the algorithm's."""

SMALL_NETWORKS = {name: name for name in ("ConvNet", "WideResNet", "MLP")}
SMALL_NETWORKS |= {"MNIST_CNN": "ConvNet", "Wide_ResNet": "WideResNet"}
"""Networks that always start at random; the last two are DomainBed's names for ours."""

NONE_GIVEN = "{}"
"""What `given_hparams` says of a run that was given none."""

USUAL = {"holdout_fraction": 0.2, "precision": "fp32", "fixed_hparams": False}


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


def settings_of(runs: Sequence[Run]) -> list[Setting]:
    """The settings of finished runs; where those of one setting are of different data, that is in it too."""
    known: dict[Setting, Setting] = {}  # one object for equal ones, which are looked up again and again
    settings = [known.setdefault(setting, setting) for setting in map(setting_of, runs)]
    for name, value_of in (("environments", _size), ("data fingerprint", _fingerprint)):
        values = [value_of(run) for run in runs]
        found: dict[Setting, set[str]] = defaultdict(set)
        for setting, value in zip(settings, values, strict=True):
            found[setting].add(value)
        several = {setting for setting, own in found.items() if len(own - {NOT_RECORDED}) > 1}
        if several:
            settings = [
                setting.with_other(name, value) if setting in several else setting
                for setting, value in zip(settings, values, strict=True)
            ]
    return settings


def _size(run: Run) -> str:
    return str(run.n_environments)


def _fingerprint(run: Run) -> str:
    return run.shared.get("data_fingerprint") or NOT_RECORDED


def setting_of(run: Run) -> Setting:
    """The setting of a finished run."""
    planned = planned_setting(run.key.dataset, run.shared["args"])
    others = {}
    if run.shared.get("skipped_images"):
        others["skipped_images"] = json.dumps(run.shared["skipped_images"])
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
    given = tuple(str(args.get(name, USUAL.get(name))) for name in (*USUAL, "steps", "checkpoint_freq"))
    return _planned(dataset, args.get("protocol", DOMAINBED), given, _given(args)[1])


@functools.lru_cache(maxsize=1024)
def _planned(dataset: str, protocol: str, given: tuple[str, ...], network: str) -> Setting:
    benchmark, known = BENCHMARKS.get(dataset), PROTOCOLS.get(protocol)
    lengths = known.length(benchmark) if benchmark and known else (None, None)
    usual = {**USUAL, **dict(zip(("steps", "checkpoint_freq"), lengths, strict=True))}
    others = [
        (name, value)
        for (name, usually), value in zip(usual.items(), given, strict=True)
        if value not in ("None", str(usually))
    ]
    backbone = UNKNOWN if network == NONE_GIVEN else f"{UNKNOWN}, given {network}"
    return Setting(dataset, protocol, backbone, tuple(sorted(others)))


def backbone_of(run: Run) -> str:
    """The backbone of a run and where its weights come from, as recorded, else as DomainBed's hparams say."""
    recorded, weights = run.shared.get("backbone"), run.shared.get("weights")
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


def given_hparams(args: Mapping[str, Any]) -> str:
    """The hparams that a run was given, but for those of the network, as JSON with sorted names."""
    return _given(args)[0]


def by_name(given: str) -> dict[str, str]:
    """Each hparam that a row was given, its value as JSON: 1 and 1.0 are two values, as they are two rows.

    What is no JSON object is the value of "", which is no hparam's name.
    """
    values = json.loads(given)
    return {name: json.dumps(value) for name, value in values.items()} if isinstance(values, dict) else {"": given}


def given_to_all(rows: Iterable[str]) -> dict[str, str]:
    """The hparams that all of some rows were given alike."""
    found = [by_name(given) for given in rows]
    return dict(set.intersection(*(set(own.items()) for own in found))) if found else {}


def given_in_words(rows: Sequence[tuple[str, str]]) -> str:
    """What all rows were given, and beyond that what all of some algorithms' rows were, as no label says it."""
    of_all = given_to_all(given for _, given in rows)
    found = {"all runs": in_words(of_all)} if of_all else {}
    by_words: dict[str, list[str]] = defaultdict(list)
    for algorithm in dict.fromkeys(name for name, _ in rows):
        alike = given_to_all(given for name, given in rows if name == algorithm)
        by_words[in_words({name: value for name, value in alike.items() if name not in of_all})].append(algorithm)
    found |= {", ".join(algorithms): words for words, algorithms in by_words.items() if words}
    return "; ".join(f"{who} given {what}" for who, what in found.items())


def in_words(given: Mapping[str, str]) -> str:
    """Given hparams as labels and captions name them."""
    return ", ".join(f"{name} {value}" if name else value for name, value in sorted(given.items()))


def labels(rows: Sequence[tuple[str, str]]) -> list[str]:
    """What rows, each an algorithm and the hparams that it was given, are called: by what sets an algorithm's apart."""
    found = []
    for algorithm, given in rows:
        alike = given_to_all(other for name, other in rows if name == algorithm)
        own = {name: value for name, value in by_name(given).items() if name not in alike}
        found.append(f"{algorithm} ({in_words(own)})" if own else algorithm)
    # Odd names of hparams can make two rows sound alike.
    return [
        label if found.count(label) == 1 else f"{algorithm} {given}"
        for label, (algorithm, given) in zip(found, rows, strict=True)
    ]


def _given(args: Mapping[str, Any]) -> tuple[str, str]:
    """The hparams that a run was given, as JSON: those of the algorithm, and those of the network."""
    given = args.get("hparams")
    return _divided(given if isinstance(given, str) and given else json.dumps(str(given)) if given else NONE_GIVEN)


@functools.lru_cache(maxsize=1024)
def _divided(text: str) -> tuple[str, str]:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = text
    if not isinstance(given, dict):
        return json.dumps(given), NONE_GIVEN
    of_network = {name: given[name] for name in sorted(given) if name in NETWORK_HPARAMS}
    return json.dumps({name: given[name] for name in sorted(given) if name not in of_network}), json.dumps(of_network)
