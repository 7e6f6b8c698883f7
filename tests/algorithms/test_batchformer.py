"""What BatchFormer adds to an algorithm, and what it leaves as it was."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from factories import CLASSES, SHAPE, make, minibatches, weights

from dg_batchformer import default_hparams, get_algorithm_class
from dg_batchformer.algorithms.irm import irm_penalty
from dg_batchformer.batchformer import BatchFormer, attend

VARIANTS = ["ERM", "CORAL", "IRM", "VREx", "MixStyle", "SWAD"]


def without_dropout(name, **hparams):
    return make(f"{name}_BatchFormer", batchformer_dropout=0.0, **hparams)


def test_loss_is_that_of_both_branches_through_one_classifier():
    algorithm = without_dropout("ERM")
    batches = minibatches((4, 6, 5))
    x, y = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
    with torch.no_grad():
        z = algorithm.featurizer(x)
        h = algorithm.batchformer(z)
        expected = (F.cross_entropy(algorithm.classifier(z), y) + F.cross_entropy(algorithm.classifier(h), y)) / 2
    assert algorithm.update(batches)["loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_h_alone_where_the_classifier_is_not_shared():
    algorithm = without_dropout("ERM", batchformer_shared_classifier=False)
    batches = minibatches((4, 6, 5))
    with torch.no_grad():
        h = algorithm.batchformer(algorithm.featurizer(torch.cat([x for x, _ in batches])))
        expected = F.cross_entropy(algorithm.classifier(h), torch.cat([y for _, y in batches]))
    assert algorithm.update(batches)["loss"] == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["CORAL", "IRM", "VREx"])
@pytest.mark.parametrize("scope", ["all", "environment"])
def test_penalties_compare_environments_each_with_both_branches(name, scope):
    algorithm = without_dropout(name, batchformer_scope=scope)
    batches = minibatches((4, 6, 8))
    z = [algorithm.featurizer(x) for x, _ in batches]
    h = attend(algorithm.batchformer, z, scope)
    both = [torch.cat([before, after]) for before, after in zip(z, h, strict=True)]
    base = make(name)
    base.classifier = algorithm.classifier
    expected = base.objective(both, [torch.cat([y, y]) for _, y in batches])
    expected["penalty_z"] = base.objective(z, [y for _, y in batches])["penalty"]
    values = algorithm.update(batches)
    assert values == {key: pytest.approx(value.item(), rel=1e-4, abs=1e-6) for key, value in expected.items()}


@pytest.mark.parametrize("name", ["ERM", "CORAL", "IRM", "VREx", "BalancedSoftmax"])
@pytest.mark.parametrize("penalty", ["joint", "separate"])
@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_a_loss_weight_and_a_penalty_by_branch(name, penalty, weight):
    algorithm = without_dropout(name, batchformer_penalty=penalty, batchformer_loss_weight=weight)
    base = make(name)
    base.classifier = algorithm.classifier
    for one in (algorithm, base):
        if hasattr(one, "set_class_counts"):
            one.set_class_counts(torch.arange(1, 13).reshape(3, 4))
    batches = minibatches((4, 6, 8))
    z = [algorithm.featurizer(x) for x, _ in batches]
    h, y = attend(algorithm.batchformer, z, "all"), [y for _, y in batches]
    of_z, of_h = base.objective(z, y), base.objective(h, y)
    both = base.objective([torch.cat(one) for one in zip(z, h, strict=True)], [torch.cat([one, one]) for one in y])
    nll = "nll" if "nll" in of_z else "loss"
    expected = (of_z[nll] + weight * of_h[nll]) / (1 + weight)
    if "penalty" in of_z:
        separate = (of_z["penalty"] + weight * of_h["penalty"]) / (1 + weight)
        of_penalty = separate if penalty == "separate" else both["penalty"]
        # Before annealing the weight of the penalty is 1; CORAL's is 1 always.
        expected = expected + of_penalty
    values = algorithm.update(batches)
    assert values["loss"] == pytest.approx(expected.item(), rel=1e-4, abs=1e-6)
    if "penalty" in of_z:
        assert values["penalty"] == pytest.approx(of_penalty.item(), rel=1e-4, abs=1e-6)
        assert values["penalty_z"] == pytest.approx(of_z["penalty"].item(), rel=1e-4, abs=1e-6)


def test_with_an_odd_number_of_samples_irms_penalty_has_no_bias():
    """Over many batches in which h is z, the mean penalty is that of two independent halves, the squared slope."""
    torch.manual_seed(0)
    algorithm = without_dropout("IRM")
    drawn, n = 4000, 7
    logits = 2 * torch.randn(drawn, n, CLASSES, dtype=torch.double)
    labels = torch.randint(0, CLASSES, (drawn, n))
    slopes = ((torch.softmax(logits, 2) * logits).sum(2) - logits.gather(2, labels[..., None])[..., 0]).mean()
    penalties = torch.stack(
        [
            irm_penalty(algorithm._both([one], [one])[0], algorithm._both([y], [y])[0])
            for one, y in zip(logits, labels, strict=True)
        ]
    ).detach()
    naive = torch.stack(
        [irm_penalty(torch.cat([one, one]), torch.cat([y, y])) for one, y in zip(logits, labels, strict=True)]
    ).detach()
    truth, error = float(slopes) ** 2, float(naive.std()) / drawn**0.5
    assert abs(float(penalties.mean()) - truth) < 0.3 * abs(float(naive.mean()) - truth)
    assert float(naive.mean()) - truth > 10 * error


@pytest.mark.parametrize("weight_decay", [None, 0.25])
def test_a_weight_decay_of_its_own(weight_decay):
    algorithm = make(
        "IRM_BatchFormer", weight_decay=0.5, batchformer_weight_decay=weight_decay, irm_penalty_anneal_iters=1
    )
    for _ in range(2):
        algorithm.update(minibatches())
        base, own = algorithm.optimizer.param_groups
        assert (base["weight_decay"], own["weight_decay"]) == (0.5, weight_decay or 0.5)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("shared", [True, False])
def test_gradient_reaches_every_part_and_all_of_it_moves(name, shared):
    algorithm = make(f"{name}_BatchFormer", batchformer_shared_classifier=shared)
    before = weights(algorithm)
    algorithm.update(minibatches())
    for parameter_name, parameter in algorithm.batchformer.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name
    moved = {k for k, value in weights(algorithm).items() if not torch.equal(value, before[k])}
    assert moved == before.keys()


@pytest.mark.parametrize("name", VARIANTS)
def test_own_learning_rate_survives_annealing(name):
    anneal = {f"{name.lower()}_penalty_anneal_iters": 1} if name in ("IRM", "VREx") else {}
    algorithm = make(f"{name}_BatchFormer", batchformer_lr_scale=0.1, **anneal)
    first = algorithm.optimizer
    for _ in range(3):
        algorithm.update(minibatches())
        base, own = algorithm.optimizer.param_groups
        assert {id(p) for p in own["params"]} == {id(p) for p in algorithm.batchformer.parameters()}
        assert {id(p) for p in base["params"]} == {id(p) for p in algorithm.network.parameters()}
        assert own["lr"] == pytest.approx(0.1 * base["lr"])
    assert (algorithm.optimizer is not first) == bool(anneal)
    before = weights(algorithm)
    algorithm.update(minibatches())
    assert not torch.equal(
        algorithm.batchformer.layers[0].linear1.weight, before["batchformer.layers.0.linear1.weight"]
    )


def test_not_trainable_stays_at_its_start_but_passes_gradient_on():
    algorithm = make("ERM_BatchFormer", batchformer_trainable=False, batchformer_shared_classifier=False)
    before = weights(algorithm)
    algorithm.update(minibatches())
    for name, value in weights(algorithm).items():
        assert torch.equal(value, before[name]) == name.startswith("batchformer."), name


@pytest.mark.parametrize("name", VARIANTS)
def test_predict_never_uses_it(name):
    algorithm = make(f"{name}_BatchFormer")
    base = make(name)
    algorithm.update(minibatches())
    state = {k: v for k, v in algorithm.state_dict().items() if not k.startswith("batchformer.")}
    base.load_state_dict(state)  # strict: exactly the base's parameters remain
    algorithm.eval(), base.eval()
    x = torch.randn(64, *SHAPE)
    together = algorithm.predict(x)
    torch.testing.assert_close(together, base.predict(x))
    alone = torch.cat([algorithm.predict(one.unsqueeze(0)) for one in x])
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-6)


def test_the_featurizer_is_itself_again_after_an_update():
    algorithm = make("ERM_BatchFormer")
    x = torch.randn(2, *SHAPE)
    algorithm.update(minibatches())
    assert algorithm.featurizer(x).shape == (2, 64)
    with pytest.raises(ValueError, match="at least 2"):
        algorithm.update(minibatches((1,)))
    assert algorithm.featurizer(x).shape == (2, 64)


def test_same_initial_weights_as_the_base():
    base, variant = weights(make("ERM")), weights(make("ERM_BatchFormer"))
    for name, value in base.items():
        assert torch.equal(value, variant[name])


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ({"batchformer_heads": 5}, "'batchformer_heads' is 5: expected a divisor of 64, the width of the features"),
        ({"batchformer_layers": 0}, "'batchformer_layers' is 0: expected a finite number of at least 1"),
        ({"batchformer_heads": "4"}, "'batchformer_heads' is '4': expected int"),
        ({"batchformer_dropout": 1.0}, "dropout is 1.0"),
        ({"batchformer_scope": "domain"}, "'batchformer_scope' is 'domain': expected 'all' or 'environment'"),
        ({"batchformer_lr_scale": -1.0}, "'batchformer_lr_scale' is -1.0"),
        ({"batchformer_penalty": "own"}, "'batchformer_penalty' is 'own': expected 'joint' or 'separate'"),
        ({"batchformer_weight_decay": -1.0}, "'batchformer_weight_decay' is -1.0"),
        ({"batchformer_loss_weight": -1.0}, "'batchformer_loss_weight' is -1.0"),
        (
            {"batchformer_penalty": "separate", "batchformer_as_released": True},
            "expected 1.0 and 'joint', since hparam 'batchformer_as_released' is True",
        ),
        (
            {"batchformer_loss_weight": 0.5, "batchformer_shared_classifier": False},
            "expected 1.0 and 'joint', since hparam 'batchformer_shared_classifier' is False",
        ),
    ],
)
def test_wrong_hparams_are_named(hparams, message):
    with pytest.raises(ValueError, match=message):
        make("ERM_BatchFormer", **hparams)


@pytest.mark.parametrize("name", [k for k in default_hparams("ERM_BatchFormer", "PACS") if k.startswith("batchformer")])
def test_missing_hparam_is_named(name):
    hparams = default_hparams("ERM_BatchFormer", "RotatedDigits")
    del hparams[name]
    with pytest.raises(ValueError, match=f"'{name}' is missing"):
        get_algorithm_class("ERM_BatchFormer")(SHAPE, CLASSES, 3, hparams)


def test_construction_draws_weights_and_nothing_else():
    random.seed(1), np.random.seed(1)
    make("ERM_BatchFormer")
    drawn = random.random(), np.random.rand(), torch.rand(())
    random.seed(1), np.random.seed(1)
    make("ERM")
    BatchFormer(64)
    assert drawn == (random.random(), np.random.rand(), torch.rand(()))


@pytest.mark.parametrize("name", ["ERM", "CORAL", "VREx", "IRM"])
def test_as_released_it_stays_at_its_start_and_irm_with_two_environments_groups_by_branch(name):
    algorithm = without_dropout(name, batchformer_as_released=True)
    batches = minibatches((4, 6))
    z = [algorithm.featurizer(x) for x, _ in batches]
    h = attend(algorithm.batchformer, z, "all")
    labels = [y for _, y in batches]
    if name == "IRM":
        groups, labels = [torch.cat(z), torch.cat(h)], [torch.cat(labels)] * 2
    else:
        groups, labels = [torch.cat(both) for both in zip(z, h, strict=True)], [torch.cat([y, y]) for y in labels]
    expected = algorithm.objective(groups, labels)
    before = weights(algorithm)
    values = algorithm.update(batches)
    assert values == {key: pytest.approx(value.item(), rel=1e-4, abs=1e-6) for key, value in expected.items()}
    assert default_hparams(f"{name}_BatchFormer", "PACS")["batchformer_as_released"] is False
    moved = {key for key, value in weights(algorithm).items() if not torch.equal(value, before[key])}
    assert moved == {key for key in before if not key.startswith("batchformer.")}
