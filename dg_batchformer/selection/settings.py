"""The table of a run, by its setting, and its row, by the hyper-parameters that it was given."""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from dg_batchformer.data import benchmark_of, is_small
from dg_batchformer.registry import in_order
from dg_batchformer.runs.arguments import FIELDS, Role, names_of
from dg_batchformer.runs.protocols import DOMAINBED, DOMAINBED_PAPER, PROTOCOLS
from dg_batchformer.selection.methods import FinishedRun

UNKNOWN = "not known before a run is done"
"""The backbone of runs that are all planned; the hparams given for it follow."""

NOT_RECORDED = "not recorded"

SMALL_NETWORKS = {name: name for name in ("ConvNet", "WideResNet", "MLP")}
SMALL_NETWORKS |= {"MNIST_CNN": "ConvNet", "Wide_ResNet": "WideResNet"}
"""Networks without pretrained weights; the last two are DomainBed's names for ours."""

USUAL = {name: FIELDS[name].default for name in names_of(Role.SETTING) if name != "protocol"}
"""Arguments of which a table never mixes two values, with their defaults (None: the protocol's)."""

NETWORK_HPARAMS = (
    *("backbone", "weights", "resnet18", "resnet50_augmix", "image_size", "freeze_backbone", "freeze_until"),
    *("feature_views", "freeze_bn"),
)
"""hparams that choose the network: they belong to the setting, not to the row."""

NONE_LEFT_OUT = ("test_envs", "none")
"""In a setting: all environments are trained on and tested."""

NONE_GIVEN = "{}"


def environment_names(dataset: str, runs: Sequence[FinishedRun] = ()) -> tuple[str, ...]:
    """The environments of a dataset: those of a known one, else those in its runs, else numbers."""
    if benchmark := benchmark_of(dataset):
        return benchmark.environments
    for run in runs:
        names = run.made.get("environments") or ()
        if len(names) == run.n_environments:
            return tuple(names)
    return tuple(map(str, range(runs[0].n_environments))) if runs else ()


class Given(NamedTuple):
    """The given hparams of a run, of its algorithm and of its network, as JSON with sorted names; and its stage."""

    algorithm: str
    network: str = NONE_GIVEN


def given_hparams(args: Mapping[str, Any]) -> Given:
    given, stage = args.get("hparams"), args.get("stage")
    text = given if isinstance(given, str) and given else json.dumps(str(given)) if given else NONE_GIVEN
    return _divided(text, f"{stage}, {args['stage_steps']} steps" if stage and args.get("stage_steps") else stage)


@functools.lru_cache(maxsize=1024)
def _divided(text: str, stage: str | None) -> Given:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = text
    if not isinstance(given, dict):
        return Given(json.dumps(given))
    of_network = {name: given[name] for name in sorted(given) if name in NETWORK_HPARAMS}
    own = {name: given[name] for name in sorted(given) if name not in of_network}
    own |= {"stage": stage} if stage else {}
    return Given(json.dumps(own), json.dumps(of_network))


class Setting(NamedTuple):
    """What all runs of a table have in common; `others` are, by name, the differences from the protocol's defaults."""

    dataset: str
    protocol: str = DOMAINBED
    backbone: str = UNKNOWN
    others: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.dataset}, {self.words}"

    @property
    def words(self) -> str:
        """The setting in words, without the dataset."""
        named = [("protocol", self.protocol), ("backbone", self.backbone), *self.others]
        return ", ".join(f"{name} {value}" for name, value in named)

    @property
    def leaves_out(self) -> bool:
        """Whether its runs leave environments out."""
        return NONE_LEFT_OUT not in self.others

    def with_other(self, name: str, value: str) -> Setting:
        """The same setting with one more difference from the defaults."""
        return self._replace(others=tuple(sorted((*self.others, (name, value)))))

    def differences(self, other: Setting) -> list[str]:
        """The differences between two settings, in words."""
        mine, theirs = (
            {"dataset": one.dataset, "protocol": one.protocol, "backbone": one.backbone, **dict(one.others)}
            for one in (self, other)
        )
        pairs = [(name, mine.get(name, "default"), theirs.get(name, "default")) for name in mine | theirs]
        return [f"{name} {own} and {others}" for name, own, others in pairs if own != others]


def settings_of(runs: Sequence[FinishedRun]) -> list[Setting]:
    """The settings of finished runs; they include the data fingerprint where runs differ in it."""
    settings = list(map(setting_of, runs))
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
    setting = planned_setting(run.key.dataset, run.args)._replace(backbone=backbone_of(run))
    if _is_earlier_domainbed(run):
        return setting._replace(protocol=DOMAINBED_PAPER)
    if run.made.get("skipped_images"):
        setting = setting.with_other("skipped_images", json.dumps(run.made["skipped_images"]))
    if run.made.get("split_file"):
        setting = setting.with_other("splits", run.made["split_file"])
    usual = _usual_freeze_bn(run.key.protocol, run.key.algorithm, run.key.dataset)
    freeze_bn = bool(run.hparams.get("freeze_bn", usual))
    return setting if freeze_bn == usual else setting.with_other("freeze_bn", str(freeze_bn).lower())


def _is_earlier_domainbed(run: FinishedRun) -> bool:
    """Whether DomainBed before 3dfdc8e made a run: its ResNets always froze batch norm, without an hparam."""
    return not run.made and "resnet_dropout" in run.hparams and "freeze_bn" not in run.hparams


@functools.lru_cache(maxsize=1024)
def _usual_freeze_bn(protocol: str, algorithm: str, dataset: str) -> bool:
    known = PROTOCOLS.get(protocol)
    return bool(known and known.hparams(algorithm, dataset).get("freeze_bn", False))


def planned_setting(dataset: str, args: Mapping[str, Any]) -> Setting:
    """The setting of a run according to its arguments; the backbone is known once the run is done."""
    values = tuple(str(args.get(name, usual)) for name, usual in USUAL.items())
    planned = _planned(dataset, args.get("protocol", DOMAINBED), values, given_hparams(args).network)
    n = len(args["test_envs"])
    left_out = NONE_LEFT_OUT if not n else ("test_envs", f"{n} at once") if n > 2 else None
    return planned.with_other(*left_out) if left_out else planned


@functools.lru_cache(maxsize=1024)
def _planned(dataset: str, protocol: str, values: tuple[str, ...], network: str) -> Setting:
    benchmark, known = benchmark_of(dataset), PROTOCOLS.get(protocol)
    lengths = known.length(benchmark) if benchmark and known else (None, None)
    usual = {**USUAL, **dict(zip(("steps", "checkpoint_freq"), lengths, strict=True))}
    given = zip(USUAL, values, strict=True)
    others = [(name, value) for name, value in given if value not in ("None", str(usual[name]))]
    others = [(name, f"{value} (not tuned here)" if name == "preset" else value) for name, value in others]
    backbone = UNKNOWN if network == NONE_GIVEN else f"{UNKNOWN}, given {network}"
    return Setting(dataset, protocol, backbone, tuple(sorted(others)))


def backbone_of(run: FinishedRun) -> str:
    """The backbone of a run and the source of its weights, as recorded, else from DomainBed's hparams."""
    recorded, weights = run.made.get("backbone"), run.made.get("weights")
    if recorded in SMALL_NETWORKS:
        return SMALL_NETWORKS[recorded]
    if recorded and recorded != "ResNet":  # DomainBed's class of that name is any of the below
        return str(recorded) if weights in ("imagenet", "unknown") else f"{recorded}, weights {weights}"
    hparams = run.hparams
    if is_small(run.key.dataset):
        return "ConvNet"
    if hparams.get("vit"):
        return "DinoV2" if hparams.get("dinov2") else "vit"
    if hparams.get("resnet50_augmix"):
        return "timm:resnet50.ram_in1k"
    return "resnet18" if hparams.get("resnet18") else "resnet50"


class RowKey(NamedTuple):
    """A row of a table: an algorithm and the hparams that it was given, as `Given.algorithm` has them."""

    algorithm: str
    given: str = NONE_GIVEN

    @property
    def by_name(self) -> dict[str, str]:
        """Each given hparam with its value as JSON: 1 and 1.0 are two values and two rows.

        Invalid JSON becomes the value of the name "".
        """
        values = json.loads(self.given)
        return {k: json.dumps(value) for k, value in values.items()} if isinstance(values, dict) else {"": self.given}


def in_words(given: Mapping[str, str]) -> str:
    """Given hparams in the words of labels and captions."""
    return ", ".join(f"{name} {value}" if name else value for name, value in sorted(given.items()))


def _given_to_all(rows: Sequence[RowKey], algorithm: str | None = None) -> dict[str, str]:
    """The hparams that all rows were given with the same value."""
    found = [set(row.by_name.items()) for row in rows if algorithm in (None, row.algorithm)]
    return dict(set.intersection(*found)) if found else {}


def given_in_words(rows: Sequence[RowKey]) -> str:
    """The hparams given to all rows, then those given to all rows of an algorithm; labels omit both."""
    of_all = _given_to_all(rows)
    found = {"all runs": in_words(of_all)} if of_all else {}
    by_words: dict[str, list[str]] = defaultdict(list)
    for algorithm in dict.fromkeys(row.algorithm for row in rows):
        alike = _given_to_all(rows, algorithm)
        by_words[in_words({name: value for name, value in alike.items() if name not in of_all})].append(algorithm)
    found |= {", ".join(algorithms): words for words, algorithms in by_words.items() if words}
    return "; ".join(f"{who} given {what}" for who, what in found.items())


def labels(rows: Iterable[RowKey]) -> dict[RowKey, str]:
    """The labels of rows, in the order of a table; they name the hparams in which rows of one algorithm differ.

    The rows of an algorithm are sorted by the number of given hparams, then by length, so that 8 precedes 16.
    """
    rows = list(rows)
    found = {}
    for row in rows:
        alike = _given_to_all(rows, row.algorithm)
        own = {name: value for name, value in row.by_name.items() if name not in alike}
        found[row] = f"{row.algorithm} ({in_words(own)})" if own else row.algorithm
    said = list(found.values())
    order = in_order([row.algorithm for row in rows])
    rows.sort(key=lambda row: (order.index(row.algorithm), len(row.by_name), len(row.given), row.given))
    # Unusual names of hparams can give two rows the same label.
    return {row: found[row] if said.count(found[row]) == 1 else f"{row.algorithm} {row.given}" for row in rows}
