"""What BatchFormer adds to an algorithm, and what it leaves as it was."""

import copy

import pytest
import torch
import torch.nn.functional as F
from helpers import CLASSES, SHAPE, Plain, make, minibatches, weights
from torch import nn

from dg_batchformer import default_hparams, get_algorithm_class, with_batchformer
from dg_batchformer.batchformer import attend

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


def test_any_algorithm_with_the_contract_is_wrapped():
    algorithm = make(with_batchformer(Plain), batchformer_dropout=0.0)
    batches = minibatches()
    with torch.no_grad():
        z = [algorithm.featurizer(x) for x, _ in batches]
        h = attend(algorithm.batchformer, z, "all")
        expected = sum(
            F.cross_entropy(algorithm.classifier(torch.cat([a, b])), torch.cat([y, y]))
            for a, b, (_, y) in zip(z, h, batches, strict=True)
        )
    before = weights(algorithm)
    assert algorithm.update(batches)["loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert all(not torch.equal(value, before[name]) for name, value in weights(algorithm).items())


class NoFeaturizer(Plain):
    def __init__(self, *args):
        super().__init__(*args)
        del self.featurizer


class OtherOptimizerName(nn.Module):
    def __init__(self, input_shape, num_classes, num_domains, hparams):
        super().__init__()
        self.featurizer, self.classifier = NoHidden(), nn.Linear(256, num_classes)
        self.network = nn.Sequential(self.featurizer, self.classifier)
        self.opt = torch.optim.SGD(self.network.parameters(), lr=0.1)


class NoHidden(nn.Flatten):
    n_outputs = 256


class NoWidth(Plain):
    def __init__(self, *args):
        super().__init__(*args)
        del self.featurizer.n_outputs


class OtherNetwork(Plain):
    def __init__(self, *args):
        super().__init__(*args)
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(256, 4))


class TwoOptimizers(Plain):
    def __init__(self, *args):
        super().__init__(*args)
        self.second_optimizer = torch.optim.SGD(self.classifier.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("cls", "reason"),
    [
        (NoFeaturizer, "NoFeaturizer cannot be given BatchFormer: it has no `featurizer`"),
        (OtherOptimizerName, "it has no `optimizer`"),
        (NoWidth, "NoWidth cannot be given BatchFormer: its `featurizer` has no `n_outputs`"),
        (OtherNetwork, r"`network` is not Sequential\(featurizer, classifier\)"),
        (TwoOptimizers, "more optimizers than `optimizer`: second_optimizer"),
    ],
)
def test_what_cannot_be_wrapped_is_refused_by_name_with_the_reason(cls, reason):
    with pytest.raises(ValueError, match=reason):
        make(with_batchformer(cls))


class CutOff(Plain):
    """Trains on features that it has cut off from the network they came from."""

    def update(self, minibatches, unlabeled=None):
        return super().update([(self.featurizer(x).detach(), y) for x, y in minibatches])

    def predict(self, x):
        return self.classifier(x)


def test_an_update_that_trains_the_classifier_alone_is_never_taken_for_training():
    with pytest.raises(
        ValueError, match="CutOff_BatchFormer cannot be given BatchFormer: its update sends no gradient back"
    ):
        make(with_batchformer(CutOff)).update(minibatches())


def test_a_class_that_extends_a_variant_is_no_base_for_it():
    class Extended(with_batchformer(Plain)):
        pass

    assert make(Extended).update(minibatches())["loss"] > 0
    with pytest.raises(ValueError, match="Extended has BatchFormer from the class it extends"):
        with_batchformer(Extended)


class OnACopy(Plain):
    """Takes an inner step on a copy of the network, as MLDG and Fish do."""

    def update(self, minibatches, unlabeled=None):
        copy.deepcopy(self.network)
        return super().update(minibatches)


class OnImages(Plain):
    """Looks at the inputs themselves."""

    def update(self, minibatches, unlabeled=None):
        nn.functional.avg_pool2d(minibatches[0][0].unflatten(1, (1, 16, 16)), 2)
        return super().update(minibatches)


@pytest.mark.parametrize(
    ("cls", "reason"),
    [
        (OnACopy, "OnACopy_BatchFormer cannot be given BatchFormer: its update copies the network"),
        (OnImages, "OnImages_BatchFormer cannot be given BatchFormer: its update fails on features in place of inputs"),
    ],
)
def test_an_update_that_cannot_run_on_features_is_refused_with_the_reason(cls, reason):
    algorithm = make(with_batchformer(cls))
    with pytest.raises(ValueError, match=reason):
        algorithm.update(minibatches())
    assert algorithm.featurizer(minibatches()[0][0]).shape == (6, 8)  # itself again
