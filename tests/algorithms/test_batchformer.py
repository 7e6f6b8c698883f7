"""What BatchFormer adds to an algorithm, and what it leaves as it was."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from factories import CLASSES, SHAPE, make, minibatches, weights

from dg_batchformer import default_hparams, get_algorithm_class
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
    expected = algorithm.objective(both, [torch.cat([y, y]) for _, y in batches])
    values = algorithm.update(batches)
    assert values == {key: pytest.approx(value.item(), rel=1e-4, abs=1e-6) for key, value in expected.items()}


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
