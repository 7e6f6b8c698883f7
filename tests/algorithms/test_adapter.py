"""Algorithms of others under a modifier: what the adapter trains, what it refuses, and that it changes no number."""

import copy
import functools
import gc

import pytest
import torch
import torch.nn.functional as F
from factories import CLASSES, SHAPE, Plain, make, minibatches, weights
from torch import nn

from dg_batchformer import get_algorithm_class, registry, with_batchformer
from dg_batchformer.algorithms.adapter import Adapter
from dg_batchformer.algorithms.adapter.rows import Rows
from dg_batchformer.batchformer import attend
from dg_batchformer.errors import InputError


def as_of_others(name):
    """The algorithm called `name`, on an objective whose update is not one of ours and does the same."""
    objective, modifiers = registry.split_name(name)

    class OfOthers(get_algorithm_class(objective)):
        def update(self, minibatches, unlabeled=None):
            return super().update(minibatches)

    return functools.reduce(registry.compose, modifiers, OfOthers)


def trained(cls, **hparams):
    """Values, weights, gradients and the next random number after a few steps across the annealing step."""
    algorithm = make(cls, **hparams)
    values = [algorithm.update(minibatches((4, 6, 5), seed=step)) for step in range(4)]
    # The penalty of z alone is computed beside the objective, and only for ours.
    values = [{key: value for key, value in one.items() if key != "penalty_z"} for one in values]
    gradients = {name: parameter.grad for name, parameter in algorithm.named_parameters()}
    if hasattr(algorithm, "finish"):
        algorithm.on_validation(3, 1.0)
        algorithm.finish()
    return {"values": values, **weights(algorithm), "gradients": gradients, "random": torch.rand(())}


OBJECTIVES = ("ERM", "CORAL", "IRM", "VREx")
OTHERWISE = [
    {"batchformer_scope": "environment"},
    {"batchformer_shared_classifier": False},
    {"batchformer_as_released": True},
    {"batchformer_lr_scale": 0.1, "optimizer": "sgd"},
]


@pytest.mark.parametrize(
    ("name", "hparams"),
    [
        *(
            (f"{one}{more}_BatchFormer", {})
            for one in OBJECTIVES
            for more in ("", "_MixStyle", "_SWAD", "_MixStyle_SWAD")
        ),
        *((f"{one}_BatchFormer", hparams) for one in OBJECTIVES for hparams in OTHERWISE),
        ("ERM_MixStyle", {}),
        ("CORAL_MixStyle_SWAD", {}),
    ],
    ids=str,
)
def test_our_objectives_take_the_same_steps_through_the_adapter_to_the_bit(name, hparams):
    ours, theirs = get_algorithm_class(name), as_of_others(name)
    assert [issubclass(cls, Adapter) for cls in (ours, theirs)] == [False, True]
    annealing = {hp.name: 2 for hp in ours.hyperparameters if hp.name.endswith("_penalty_anneal_iters")}
    one, other = (trained(cls, **hparams, **annealing) for cls in (ours, theirs))
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_the_loss_of_an_external_algorithm_has_no_branches():
    with pytest.raises(InputError, match="since the loss of an external algorithm cannot be split"):
        make(with_batchformer(Plain), batchformer_penalty="separate")


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


class NoWidth(Plain):
    def __init__(self, *args):
        super().__init__(*args)
        del self.featurizer.n_outputs


class ClassifierOnly(Plain):
    def __init__(self, *args):
        super().__init__(*args)
        self.optimizer = torch.optim.SGD(self.classifier.parameters(), lr=0.1)


class NotHere(Plain):
    def __init__(self, *args):
        raise AssertionError("needs another machine")


class NoCopy(Plain):
    def __init__(self, *args):
        super().__init__(*args)
        self.log = (line for line in ())


class CutOff(Plain):
    """Trains on features that it has cut off from the network they came from."""

    def update(self, minibatches, unlabeled=None):
        return super().update([(self.featurizer(x).detach(), y) for x, y in minibatches])

    def predict(self, x):
        return self.classifier(x)


class OnImages(Plain):
    """Looks at the inputs themselves."""

    def update(self, minibatches, unlabeled=None):
        nn.functional.avg_pool2d(minibatches[0][0].unflatten(1, (1, 16, 16)), 2)
        return super().update(minibatches)


class OwnGradients(Plain):
    """Steps along gradients of parameters that it noted down before BatchFormer was there."""

    def __init__(self, *args):
        super().__init__(*args)
        self.noted = list(self.network.parameters())

    def update(self, minibatches, unlabeled=None):
        loss = sum(F.cross_entropy(self.predict(x), y) for x, y in minibatches)
        for parameter, gradient in zip(self.noted, torch.autograd.grad(loss, self.noted), strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        return {"loss": loss.item()}


class Changes(Plain):
    """Changes its inputs as if they were images."""

    def update(self, minibatches, unlabeled=None):
        return super().update([(self.change(x), y) for x, y in minibatches])


CHANGES = {
    "Rescales": lambda x: 2 * x - 1,
    "Mirrors": lambda x: x.flip(-1),
    "Shifts": lambda x: x.roll(1, -1),
    "AddsNoise": lambda x: x + 0.1 * torch.randn_like(x),
    "Darkens": lambda x: 0.5 * x,
}
CHANGING = [type(name, (Changes,), {"change": staticmethod(change)}) for name, change in CHANGES.items()]


class KeepsACopy(Plain):
    """Trains toward an earlier state of the network, copied every second update."""

    updates = 0

    def update(self, minibatches, unlabeled=None):
        self.updates += 1
        if self.updates % self.every == 0:
            self.teacher = copy.deepcopy(self.network)
        return super().update(minibatches)


class KeepsOneAtOnce(KeepsACopy):
    every = 1


class KeepsOneLater(KeepsACopy):
    every = 2


class NoModule:
    def __init__(self, input_shape, num_classes, num_domains, hparams):
        self.featurizer = NoHidden()

    def update(self, minibatches, unlabeled=None): ...

    predict = update


class NoHidden(nn.Flatten):
    n_outputs = 256


@pytest.mark.parametrize(
    ("cls", "reason"),
    [
        *((cls, "its update changes the inputs") for cls in CHANGING),
        (KeepsOneAtOnce, "its update keeps a copy of the network"),
        (NoModule, "it is not a torch module"),
        (NoFeaturizer, "it has no `featurizer`"),
        (NoWidth, "its `featurizer` has no `n_outputs`"),
        (ClassifierOnly, "it has no optimizer that holds the parameters of its `featurizer`"),
        (NotHere, "its constructor fails .needs another machine"),
        (NoCopy, "it cannot be copied for a trial update .cannot pickle 'generator'"),
        (CutOff, "its update sends no gradient back to the features"),
        (OnImages, "its update fails when features replace the inputs .RuntimeError: "),
        (OwnGradients, "its update sends no gradient to BatchFormer"),
    ],
)
def test_what_cannot_be_wrapped_is_refused_by_name_with_the_reason(cls, reason):
    with pytest.raises(ValueError, match=f"{cls.__name__} does not work with BatchFormer: {reason}"):
        make(with_batchformer(cls))


def test_a_class_that_extends_a_variant_is_no_base_for_it():
    class Extended(with_batchformer(Plain)):
        pass

    assert make(Extended).update(minibatches())["loss"] > 0
    with pytest.raises(ValueError, match="Extended has BatchFormer from the class it extends"):
        with_batchformer(Extended)


class TwoOptimizers(Plain):
    """Makes one optimizer anew at each update, and has another under another name."""

    def __init__(self, *args):
        super().__init__(*args)
        self.of_features = torch.optim.SGD(self.featurizer.parameters(), lr=0.2, momentum=0.9)
        self.of_classifier = torch.optim.SGD(self.classifier.parameters(), lr=0.1)
        del self.optimizer

    def update(self, minibatches, unlabeled=None):
        self.of_features = torch.optim.SGD(self.featurizer.parameters(), lr=0.2, momentum=0.9)
        self.of_features.zero_grad()
        loss = sum(F.cross_entropy(self.predict(x), y) for x, y in minibatches)
        loss.backward()
        self.of_features.step(), self.of_classifier.step()
        return {"loss": loss.item()}


class BackwardTwice(Plain):
    """Goes backwards once an environment, with a step in between."""

    def update(self, minibatches, unlabeled=None):
        for x, y in minibatches:
            loss = F.cross_entropy(self.predict(x), y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return {"loss": loss.item()}


class SignsOfGradients(Plain):
    """Steps along gradients of all parameters of the network, environment by environment, as ANDMask does."""

    def update(self, minibatches, unlabeled=None):
        losses = [F.cross_entropy(self.network(x), y) for x, y in minibatches[:1]]
        gradients = torch.autograd.grad(losses[0], self.network.parameters())
        for parameter, gradient in zip(self.network.parameters(), gradients, strict=True):
            parameter.grad = gradient.sign()
        self.optimizer.step()
        return {"loss": losses[0].item()}


class OnACopy(Plain):
    """Takes the gradient of a copy of the network after a step of it, as MLDG does."""

    def update(self, minibatches, unlabeled=None):
        inner = copy.deepcopy(self.network)
        inner_optimizer = torch.optim.SGD(inner.parameters(), lr=0.5)
        self.losses = []
        for x, y in minibatches[:2]:
            loss = F.cross_entropy(inner(x), y)
            inner_optimizer.zero_grad()
            loss.backward()
            inner_optimizer.step()
            self.losses.append(loss.item())
        for parameter, of_copy in zip(self.network.parameters(), inner.parameters(), strict=True):
            parameter.grad = of_copy.grad
        self.optimizer.step()
        return {"loss": loss.item()}


class LooksFirst(Plain):
    """Looks at all features without gradient, in another order, before it trains on a mixture of them."""

    def update(self, minibatches, unlabeled=None):
        with torch.no_grad():
            assert not self.featurizer(torch.cat([x for x, _ in minibatches]).flip(0)).requires_grad
        (x, y), *_ = minibatches
        loss = F.cross_entropy(self.predict(0.25 * x + 0.75 * x.flip(0)), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.item()}


class Tidies(Plain):
    """Leaves no gradients behind, and looks at its loss once more."""

    def update(self, minibatches, unlabeled=None):
        super().update(minibatches)
        self.optimizer.zero_grad()
        with torch.no_grad():
            return {"loss": sum(F.cross_entropy(self.predict(x), y).item() for x, y in minibatches)}


class MovingAverage(Plain):
    """Keeps an average of the network beside it, parameter by parameter."""

    def __init__(self, *args):
        super().__init__(*args)
        self.average = copy.deepcopy(self.network).requires_grad_(False)

    def update(self, minibatches, unlabeled=None):
        values = super().update(minibatches)
        for mean, parameter in zip(self.average.parameters(), self.network.parameters(), strict=False):
            mean.data = 0.9 * mean.data + 0.1 * parameter.data
        self.average.load_state_dict(self.network.state_dict())
        return values


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize(
    "cls", [TwoOptimizers, BackwardTwice, SignsOfGradients, OnACopy, LooksFirst, Tidies, MovingAverage]
)
def test_updates_of_many_kinds_train_every_part(cls, trainable):
    algorithm = make(with_batchformer(cls), batchformer_lr_scale=0.5, batchformer_trainable=trainable)
    names = list(algorithm.state_dict())
    before = weights(algorithm)
    for step in range(2):
        algorithm.update(minibatches(seed=step))
    moved = {name for name, value in weights(algorithm).items() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if trainable or not name.startswith("batchformer.")}
    assert list(algorithm.state_dict()) == names
    x = torch.randn(5, *SHAPE)
    assert torch.equal(algorithm.predict(x), algorithm.classifier(algorithm.featurizer(x)))


def test_every_optimizer_of_the_featurizer_has_a_group_for_it_and_no_other():
    algorithm = make(with_batchformer(TwoOptimizers), batchformer_lr_scale=0.5)
    for _ in range(2):
        backbone, own = algorithm.of_features.param_groups
        assert {id(p) for p in backbone["params"]} == {id(p) for p in algorithm.featurizer.parameters()}
        assert [id(p) for p in own["params"]] == [id(p) for p in algorithm.batchformer.parameters()]
        assert (own["lr"], own["momentum"]) == (0.1, 0.9)
        assert len(algorithm.of_classifier.param_groups) == 1
        algorithm.update(minibatches())


def test_features_follow_the_weights_within_an_update():
    """Each loss of BackwardTwice and OnACopy is that of the weights after the step before."""
    batches = minibatches((4, 5))
    for cls in (BackwardTwice, OnACopy):
        algorithm = make(with_batchformer(cls), batchformer_dropout=0.0, lr=0.5)
        twin = copy.deepcopy(algorithm)
        x = torch.cat([x for x, _ in batches])
        optimizer = torch.optim.SGD([*twin.network.parameters(), *twin.batchformer.parameters()], lr=0.5)
        for i, (_, y) in enumerate(batches):
            z = twin.featurizer(x)
            z_d, h_d = (torch.split(both, [4, 5])[i] for both in (z, twin.batchformer(z)))
            loss = F.cross_entropy(twin.classifier(torch.cat([z_d, h_d])), torch.cat([y, y]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert algorithm.update(batches)["loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_a_copy_that_is_kept_is_refused_whenever_it_is_made():
    algorithm = make(with_batchformer(KeepsOneLater))
    algorithm.update(minibatches())
    with pytest.raises(
        ValueError, match="KeepsOneLater does not work with BatchFormer: its update keeps a copy of the net"
    ):
        algorithm.update(minibatches())
    assert algorithm.teacher(minibatches()[0][0]).shape == (6, CLASSES)  # itself again, as is the network
    assert algorithm.predict(minibatches()[0][0]).shape == (6, CLASSES)


def test_nothing_of_an_update_is_left_over():
    def alive():
        gc.collect()
        tensors = [one for one in gc.get_objects() if type(one) is torch.Tensor and one.grad_fn is not None]
        return len([one for one in gc.get_objects() if type(one) is Rows]), len(tensors)

    algorithm = make(with_batchformer(Tidies))
    before = alive()
    algorithm.update(minibatches())
    assert alive() == before


class NormLooksFirst(Plain):
    """Looks at its predictions in evaluation mode before it trains, with batch norm."""

    def build_featurizer(self, input_shape, hparams):
        featurizer = nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.BatchNorm1d(8))
        featurizer.n_outputs = 8
        return featurizer

    def update(self, minibatches, unlabeled=None):
        self.eval()
        with torch.no_grad():
            self.predict(minibatches[0][0])
        self.train()
        return super().update(minibatches)


def test_features_follow_the_mode_within_an_update():
    algorithm = make(with_batchformer(NormLooksFirst))
    norm = algorithm.featurizer[2]
    algorithm.update(minibatches())
    assert norm.num_batches_tracked == 1
    assert norm.running_mean.abs().max() > 0


@pytest.mark.parametrize("cls", [Plain, TwoOptimizers])
def test_its_learning_rate_follows_a_schedule_of_the_algorithms(cls):
    algorithm = make(with_batchformer(cls), batchformer_lr_scale=0.1)
    optimizer = getattr(algorithm, "optimizer", None) or algorithm.of_features
    for lr in (0.5, 0.25):
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        backbone, own = optimizer.param_groups
        assert (backbone["lr"], own["lr"]) == (lr, pytest.approx(0.1 * lr))
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.param_groups[0]["lr"] = 1.0
    optimizer.step()
    assert optimizer.param_groups[1]["lr"] == pytest.approx(0.1)


class UsesUnlabeled(Plain):
    def update(self, minibatches, unlabeled=None):
        for x in unlabeled or []:
            self.predict(x)
        return super().update(minibatches)


def test_unlabeled_samples_may_be_passed_over_and_not_used():
    unlabeled = [x for x, _ in minibatches()]
    assert make(with_batchformer(Plain)).update(minibatches(), unlabeled)["loss"] > 0
    with pytest.raises(
        ValueError, match="UsesUnlabeled does not work with BatchFormer: its update uses unlabeled samples"
    ):
        make(with_batchformer(UsesUnlabeled)).update(minibatches(), unlabeled)


def test_a_mixture_of_inputs_is_that_mixture_of_features():
    algorithm = make(with_batchformer(LooksFirst), batchformer_dropout=0.0)
    (x, y), *_ = batches = minibatches()
    with torch.no_grad():
        z = algorithm.featurizer(torch.cat([x for x, _ in batches]))
        both = torch.cat([z[: len(x)], algorithm.batchformer(z)[: len(x)]])
        mixed = 0.25 * both + 0.75 * both.flip(0)
        expected = F.cross_entropy(algorithm.classifier(mixed), torch.cat([y, y]))
    assert algorithm.update(batches)["loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_autocast_does_not_round_the_features_again():
    """Features in float32 stay what they are; the base's classifier sees them so too."""
    features = torch.randn(4, 8)
    rows = Rows(nn.Identity(), None, lambda featurizer, beside: [features], torch.arange(4))
    rows.featurizer.forward = rows
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(rows(torch.eye(4, 5)), features)
