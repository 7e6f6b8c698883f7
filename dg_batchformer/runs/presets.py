"""Presets: hyper-parameters that others published for a family of networks, by dataset; none was tuned here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """The published values: `common` on all datasets, `by_dataset` those that differ by dataset."""

    source: str
    common: Mapping[str, Any]
    by_dataset: Mapping[str, Mapping[str, Any]]


PRESETS = {
    # The released network of GMoE has no dropout before the classifier, although its settings name one.
    "vit": Preset(
        "GMoE (Li et al., ICLR 2023), DeiT-S/16, Luodian/Generalizable-Mixture-of-Experts 0689d55",
        {"backbone": "timm:deit_small_patch16_224", "batch_size": 32, "resnet_dropout": 0.0, "optimizer": "adam"},
        {
            "PACS": {"lr": 3e-5, "weight_decay": 1e-6},
            "VLCS": {"lr": 3e-5, "weight_decay": 1e-6},
            "OfficeHome": {"lr": 1e-5, "weight_decay": 1e-6},
            "TerraIncognita": {"lr": 5e-5, "weight_decay": 1e-4},
            "DomainNet": {"lr": 5e-5, "weight_decay": 0.0},
        },
    ),
    "resnet50": Preset(
        "MIRO (Cha et al., ECCV 2022), ResNet-50, kakaobrain/miro 5238455",
        {"backbone": "resnet50", "batch_size": 32, "freeze_bn": True, "optimizer": "adam"},
        {
            "PACS": {"lr": 3e-5, "resnet_dropout": 0.0, "weight_decay": 0.0},
            "VLCS": {"lr": 1e-5, "resnet_dropout": 0.5, "weight_decay": 1e-6},
            "OfficeHome": {"lr": 3e-5, "resnet_dropout": 0.1, "weight_decay": 1e-6},
            "TerraIncognita": {"lr": 3e-5, "resnet_dropout": 0.0, "weight_decay": 1e-4},
            "DomainNet": {"lr": 3e-5, "resnet_dropout": 0.1, "weight_decay": 0.0},
        },
    ),
}


def preset_hparams(name: str | None, dataset: str) -> dict[str, Any]:
    """The values of a preset for a dataset; empty without a preset, or if its source does not have the dataset."""
    preset = PRESETS.get(name or "")
    return {**preset.common, **preset.by_dataset[dataset]} if preset and dataset in preset.by_dataset else {}


def preset_note(name: str) -> str:
    """The source of a preset, in words for logs."""
    return f"preset {name}: published by {PRESETS[name].source}; not tuned here"


def preset_problems(name: str | None, dataset: str, hparams_seed: int = 0) -> list[str]:
    """The errors of a known preset: a dataset without published values, or a random search beside it."""
    if name not in PRESETS:
        return []
    problems, known = [], PRESETS[name].by_dataset
    if dataset not in known:
        expected = f"expected one of {', '.join(known)}, or --hparams in place of --preset"
        problems.append(f"--preset {name} has no values for {dataset}: {expected}")
    if hparams_seed:
        problems.append(f"--preset {name} has no search: expected hparams_seed 0 (--n_hparams 1)")
    return problems
