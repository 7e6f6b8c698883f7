"""Signatures of `update`: which are known, and that variants and our trainer keep them."""

import sys

import pytest
import torch
import torch.nn.functional as F
from factories import CLASSES, DOMAINS, SHAPE, Plain, minibatches, weights
from torch import nn

from dg_batchformer import default_hparams, get_algorithm_class, with_batchformer, with_mixstyle, with_swad
from dg_batchformer.contracts import contract_of, update
from dg_batchformer.errors import InputError
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.training.trainer import run


class Lists(Plain):
    """As in khanrc/swad."""

    def update(self, x, y, **kwargs):
        self.steps = [*getattr(self, "steps", []), kwargs["step"]]
        return super().update(list(zip(x, y, strict=True)))


class WithTwin(Lists):
    """As MIRO: maps beside the features, and a frozen network of the same class that takes the images too."""

    def __init__(self, input_shape, num_classes, num_domains, hparams, **kwargs):
        self.rate = hparams.lr
        super().__init__(input_shape, num_classes, num_domains, hparams)
        self.before = Maps().requires_grad_(requires_grad=False)

    def build_featurizer(self, input_shape, hparams):
        return Maps()

    def update(self, x, y, **kwargs):
        features, maps = self.featurizer(torch.cat(x), with_maps=True)
        _, before = self.before(torch.cat(x), with_maps=True)
        distance = sum((one - other).pow(2).mean() for one, other in zip(maps, before, strict=True))
        loss = F.cross_entropy(self.classifier(features), torch.cat(y)) + distance
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.item(), "distance": distance.item(), "maps": len(maps[0])}


class Maps(nn.Module):
    n_outputs = 8

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3)

    def forward(self, x, with_maps=False):
        one = self.first(x)
        other = self.second(one.relu())
        features = other.mean((2, 3))
        return (features, [one, other]) if with_maps else features


class Labels(Plain):
    """As in multi-domain-imbalance."""

    def __init__(self, input_shape, num_classes, num_domains, hparams, env_labels=None):
        super().__init__(input_shape, num_classes, num_domains, hparams)
        self.n_images = {name: len(labels) for name, labels in env_labels.items()}

    def update(self, minibatches, env_feats=None):
        return super().update(minibatches)


class OtherName(Plain):
    """As SagNet: the featurizer has another name."""

    def __init__(self, *shapes_and_hparams):
        super().__init__(*shapes_and_hparams)
        self.network_f = self.featurizer
        del self.featurizer
        self.network = nn.Sequential(self.network_f, self.classifier)


class Later(Plain):
    """As Fish: networks for training appear in the first update."""

    def update(self, minibatches, unlabeled=None):
        self.inner = nn.Linear(2, 2)
        return super().update(minibatches)


MODIFIERS = {"BatchFormer": with_batchformer, "MixStyle": with_mixstyle, "SWAD": with_swad}


def construct(cls, **given):
    torch.manual_seed(0)
    hparams = default_hparams(cls, "RotatedDigits") | {"mixstyle_layers": ["first"]} | given
    labels = [torch.arange(5 + i) for i in range(DOMAINS)]
    return contract_of(cls).construct(cls, (SHAPE, CLASSES, DOMAINS), hparams, labels)


@pytest.mark.parametrize(
    ("cls", "modifier"),
    [(cls, one) for cls in (Plain, Lists, WithTwin, Labels, OtherName, Later) for one in ("BatchFormer", "SWAD")]
    + [(WithTwin, "MixStyle")],
)
def test_a_variant_of_any_contract_trains(cls, modifier):
    algorithm = construct(MODIFIERS[modifier](cls))
    before = weights(algorithm)
    for step in range(3):
        update(algorithm, minibatches(seed=step), step)
        if modifier == "SWAD":
            algorithm.on_validation(step, 1.0)
    if modifier == "SWAD":
        algorithm.finish()
    still = {name for name, value in before.items() if torch.equal(value, algorithm.get_parameter(name))}
    assert {name for name in still if not name.startswith("before.")} == set()
    assert algorithm.state_dict().keys() >= construct(cls).state_dict().keys()
    x = torch.randn(4, *SHAPE)
    alone = torch.cat([algorithm.eval().predict(one[None]) for one in x])
    torch.testing.assert_close(alone, algorithm.predict(x), rtol=1e-4, atol=1e-5)


def test_a_variant_is_called_as_its_base_is():
    x, y = zip(*minibatches(), strict=True)
    algorithm = construct(with_swad(with_batchformer(Lists)))
    algorithm.update(list(x), list(y), step=7)
    algorithm.update(x=list(x), y=list(y), step=8)
    assert algorithm.steps == [7, 8]
    labels = construct(with_batchformer(Labels))
    assert labels.n_images == {"env0": 5, "env1": 6, "env2": 7}
    labels.update(minibatches(), {})


def test_maps_and_frozen_networks_are_those_of_the_images():
    """h has the maps of its image, so that a mean over both branches is that over the images."""
    variant, base = construct(with_batchformer(WithTwin)), construct(WithTwin)
    base.load_state_dict({k: v for k, v in variant.state_dict().items() if not k.startswith("batchformer.")})
    batches = minibatches((4, 3, 5))
    theirs, ours = (update(one, batches) for one in (base, variant))
    assert (theirs["maps"], ours["maps"]) == (12, 24)
    assert ours["distance"] == pytest.approx(theirs["distance"], rel=1e-5)


def test_weights_that_appear_later_are_not_averaged():
    algorithm = construct(with_swad(Later))
    names = weights(algorithm).keys()
    for step in range(2):
        update(algorithm, minibatches(seed=step))
    assert algorithm._segment.weights.keys() == names < weights(algorithm).keys()


@pytest.mark.parametrize("parameters", ["self, batch", "self, minibatches, rate", "self, y, x", "self", "self, *given"])
def test_an_unknown_signature_is_an_error_with_the_known_ones(parameters):
    names = {}
    exec(f"def update({parameters}): ...", names)
    cls = type("Unknown", (nn.Module,), {"update": names["update"], "predict": None})
    known = (
        r"Unknown has update\(.*\), which is not a known signature: expected one of "
        r"update\(minibatches, unlabeled\) of DomainBed; update\(x, y, \*\*kwargs\) of SWAD and MIRO; "
        r"update\(minibatches, env_feats\) of multi-domain-imbalance"
    )
    for modify in MODIFIERS.values():
        with pytest.raises(InputError, match=known):
            modify(cls)


@pytest.mark.parametrize("name", ["Lists", "Labels"])
@pytest.mark.parametrize("variant", ["", "_BatchFormer", "_BatchFormer_SWAD"])
def test_our_trainer_runs_them(name, variant, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mine", sys.modules[__name__])
    algorithm = f"mine:{name}{variant}"
    assert issubclass(get_algorithm_class(algorithm), Plain)
    run(RunArguments(algorithm=algorithm, dataset="RotatedDigits", test_envs=[0], steps=3, output_dir=str(tmp_path)))
    assert (tmp_path / "done").exists()
