"""The long-tail objectives and accuracies against those of multi-domain-imbalance (Yang et al., ECCV 2022)."""

import importlib

import numpy as np
import pytest
import torch
from factories import minibatches

from dg_batchformer import default_hparams, get_algorithm_class
from dg_batchformer.selection.shots import ClassCell, Thresholds, by_shot
from dg_batchformer.training.compute import class_accuracies
from dg_batchformer.training.retraining import ClassifierRetraining

pytestmark = [pytest.mark.domainbed, pytest.mark.filterwarnings("ignore")]

SHAPE, CLASSES = (3, 28, 28), 4
COUNTS = [[90, 9, 3, 1], [1, 3, 9, 90], [5, 50, 7, 0]]
LABELS = {f"env{i}": [k for k, n in enumerate(counts) for _ in range(n)] for i, counts in enumerate(COUNTS)}
THEIRS = {
    "BalancedSoftmax": ("BSoftmax", {}),
    "LDAM": ("LDAM", {"max_m": 0.5, "scale": 30.0}),
    "FocalLoss": ("Focal", {"gamma": 1}),
}


@pytest.mark.parametrize("name", THEIRS)
def test_ten_updates_are_theirs(multi_domain_imbalance, name):
    their_name, their_hparams = THEIRS[name]
    hparams = {**default_hparams(name, "RotatedMNIST"), "lr": 1e-3}
    torch.manual_seed(0)
    ours = get_algorithm_class(name)(SHAPE, CLASSES, len(COUNTS), hparams)
    if hasattr(ours, "set_class_counts"):
        ours.set_class_counts(torch.tensor(COUNTS))
    theirs = getattr(multi_domain_imbalance, their_name)(SHAPE, CLASSES, 3, {**hparams, **their_hparams}, LABELS)
    for seed in range(10):
        # The same weights at each step: Adam magnifies the rounding of their forward pass, one for each environment.
        theirs.load_state_dict(ours.state_dict())
        batches = minibatches((8, 8, 8), SHAPE, seed)
        assert ours.update(batches)["loss"] == pytest.approx(theirs.update(batches)["loss"], rel=1e-5)
        for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(own.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_boda_is_theirs(multi_domain_imbalance):
    """Across its start step and three times its centroids."""
    hparams = {**default_hparams("BoDA", "RotatedMNIST"), "lr": 1e-3, "boda_start_step": 3, "boda_feature_freq": 2}
    torch.manual_seed(0)
    ours = get_algorithm_class("BoDA")(SHAPE, CLASSES, len(COUNTS), hparams)
    ours.set_class_counts(torch.tensor(COUNTS))
    names = {"boda_start_step": "boda_start_step", "feat_update_freq": "boda_feature_freq", "nu": "boda_nu"}
    names |= {"boda_weight": "boda_weight", "temperature": "boda_temperature", "momentum": "boda_momentum"}
    their_hparams = {**hparams, **{theirs: hparams[own] for theirs, own in names.items()}, "macro_weight": 1.0}
    theirs = multi_domain_imbalance.BoDA(SHAPE, CLASSES, 3, their_hparams, LABELS)
    inputs = {env: torch.randn(len(labels), *SHAPE) for env, labels in LABELS.items()}
    for seed in range(8):
        theirs.load_state_dict(ours.state_dict(), strict=False)
        with torch.no_grad():
            features = {env: ours.featurizer(x) for env, x in inputs.items()}
        labels = {env: torch.tensor(own) for env, own in LABELS.items()}
        if ours.awaits_features:
            assert seed in (2, 4, 6)
            ours.see_features(list(features.values()), list(labels.values()))
        stacked = {"feats": {env: list(own) for env, own in features.items()}}
        stacked["labels"] = {env: list(own) for env, own in labels.items()}
        batches = minibatches((8, 8, 8), SHAPE, seed)
        # The last class has no training image in the last environment.
        batches[2] = (batches[2][0], batches[2][1] % 3)
        found, expected = ours.update(batches), theirs.update(batches, stacked)
        assert found["nll"] == pytest.approx(expected["loss"], rel=1e-5)
        assert found["penalty"] == pytest.approx(expected["penalty"], rel=1e-5)
        assert found.get("boda") == (pytest.approx(expected["boda_loss"], rel=1e-5) if seed >= 3 else None)
        for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(own.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_accuracies_by_shot_are_theirs(multi_domain_imbalance):
    """The same predictions of three environments, with the means of the cells as in their training script."""
    misc = importlib.import_module("mdlt.utils.misc")
    random = np.random.RandomState(0)
    expected, cells = [[], [], [], []], []
    for counts, labels in zip(COUNTS, LABELS.values(), strict=True):
        truth = np.arange(80) % CLASSES
        guesses = np.where(random.rand(80) < 0.6, truth, random.randint(0, CLASSES, 80))
        for own, theirs in zip(expected, misc.shot_accuracy(guesses, truth, labels, 40, 5), strict=True):
            own.extend(theirs)
        by_class = class_accuracies(torch.tensor(guesses == truth), torch.tensor(truth), CLASSES)
        cells += [ClassCell("", n, accuracy) for n, accuracy in zip(counts, by_class, strict=True)]
    found = by_shot(cells, Thresholds(40, 5))
    assert [found[name] for name in ("Many", "Medium", "Few", "Zero")] == pytest.approx(
        [np.mean(own) for own in expected]
    )


def test_the_second_stage_is_theirs(multi_domain_imbalance):
    """cRT: the classifier's loss and gradients, and no others."""
    hparams = {**default_hparams("ERM", "RotatedMNIST"), "lr": 1e-2}
    torch.manual_seed(0)
    base = get_algorithm_class("ERM")(SHAPE, CLASSES, len(COUNTS), hparams)
    ours = ClassifierRetraining(base.featurizer, CLASSES, hparams)
    theirs = multi_domain_imbalance.CRT(SHAPE, CLASSES, 3, hparams, LABELS)
    theirs.load_state_dict(ours.state_dict())
    for seed in range(10):
        batches = minibatches((8, 8, 8), SHAPE, seed)
        assert ours.update(batches)["loss"] == pytest.approx(theirs.update(batches)["loss"], rel=1e-5)
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert own.requires_grad == other.requires_grad
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6)
