"""MixStyle's formula, its partners, and when it fires."""

import copy

import pytest
import torch
from factories import SHAPE, Plain, make, minibatches, weights
from torch import nn

from dg_batchformer import with_batchformer, with_mixstyle
from dg_batchformer.algorithms import CORAL, ERM
from dg_batchformer.algorithms.mixstyle import StyleMixer, cross_domain_partners, mix_styles
from dg_batchformer.networks import make_featurizer


def style(maps):
    return maps.mean(dim=(2, 3)), maps.var(dim=(2, 3)).sqrt()


def test_content_stays_and_style_is_the_mixture():
    maps = torch.randn(3, 2, 5, 4) * torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1) + 1
    partners, weights = torch.tensor([2, 0, 1]), torch.tensor([1.0, 0.0, 0.25])
    mixed = mix_styles(maps, partners, weights, eps=0.0)
    mean, deviation = style(maps)
    own = weights.view(3, 1)
    torch.testing.assert_close(style(mixed)[0], own * mean + (1 - own) * mean[partners])
    torch.testing.assert_close(style(mixed)[1], own * deviation + (1 - own) * deviation[partners])
    torch.testing.assert_close(mixed[0], maps[0])
    normal = [(m - m.mean((2, 3), keepdim=True)) / m.std((2, 3), keepdim=True) for m in (maps, mixed)]
    torch.testing.assert_close(*normal)


def test_statistics_carry_no_gradient():
    maps = torch.randn(4, 3, 6, 6, requires_grad=True)
    partners, weights = torch.tensor([1, 0, 3, 2]), torch.rand(4)
    mix_styles(maps, partners, weights).sum().backward()
    # Of x_normed * sigma_mix + mu_mix only x depends on the maps: the slope is sigma_mix / sigma.
    deviation = (maps.detach().var(dim=(2, 3), keepdim=True) + 1e-6).sqrt()
    own = weights.view(-1, 1, 1, 1)
    expected = (own * deviation + (1 - own) * deviation[partners]) / deviation
    torch.testing.assert_close(maps.grad, expected.expand_as(maps))


@pytest.mark.parametrize("sizes", [(4, 4), (3, 5, 2), (1, 7), (6, 6, 6, 6)])
def test_cross_domain_partners_are_of_another_environment(sizes):
    environment = torch.cat([torch.full((n,), d) for d, n in enumerate(sizes)])
    met = set()
    for _ in range(50):
        partners = cross_domain_partners(sizes)
        assert len(partners) == sum(sizes)
        assert (environment[partners] != environment).all()
        met |= set(zip(environment.tolist(), environment[partners].tolist(), strict=True))
    assert len(met) == len(sizes) * (len(sizes) - 1)


def test_two_equal_environments_swap_as_a_permutation():
    partners = cross_domain_partners((5, 5))
    assert sorted(partners.tolist()) == list(range(10))


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_random_mixing_takes_any_batch_size(n):
    mixer, stage = StyleMixer(1.0, 0.1, "random"), nn.Identity()
    maps = torch.randn(n, 3, 4, 4)
    assert mixer(stage, (), maps).shape == maps.shape
    assert sorted(mixer.partners(n).tolist()) == list(range(n))


def test_fires_in_training_with_its_probability_and_never_in_evaluation():
    mixer, stage, maps = StyleMixer(0.5, 0.1, "random"), nn.Identity(), torch.randn(4, 3, 4, 4)
    fired = sum(mixer(stage, (), maps) is not maps for _ in range(400))
    assert 160 < fired < 240
    stage.eval()
    assert all(mixer(stage, (), maps) is maps for _ in range(20))
    assert StyleMixer(0.0, 0.1, "random")(stage.train(), (), maps) is maps


def test_torchs_generator_governs_it():
    outputs = []
    for _ in range(2):
        torch.manual_seed(3)
        mixer = StyleMixer(0.5, 0.1, "random")
        maps = torch.arange(4.0 * 3 * 16).reshape(4, 3, 4, 4).sin()
        outputs.append(torch.stack([mixer(nn.Identity(), (), maps) for _ in range(10)]))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("mix", ["random", "crossdomain"])
@pytest.mark.parametrize("name", ["ERM", "CORAL", "IRM_BatchFormer", "VREx_SWAD"])
def test_training_changes_the_features_and_prediction_does_not(name, mix):
    algorithm = make(f"{name}_MixStyle", mixstyle_p=1.0, mixstyle_mix=mix, mixstyle_layers=["layer1", "layer2"])
    batches = minibatches((4, 5, 6))
    x = torch.cat([x for x, _ in batches])
    plain = algorithm.featurizer.eval()(x)
    algorithm.train()
    with algorithm.style_mixer.over(batches):
        assert not torch.allclose(algorithm.featurizer(x), plain)
    algorithm.update(batches)
    algorithm.eval()
    x = torch.randn(3, *SHAPE)
    assert torch.equal(algorithm.predict(x), algorithm.predict(x))


def test_all_environments_are_mixed_together_also_for_coral():
    seen = []
    algorithm = make(with_mixstyle(CORAL))
    algorithm.featurizer.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    algorithm.update(minibatches((4, 5, 6)))
    assert seen == [15]


def test_state_dict_is_the_bases():
    assert make("ERM_MixStyle").state_dict().keys() == make("ERM").state_dict().keys()


class OneByOne(Plain):
    """Takes environments one by one, through a featurizer with stages."""

    def build_featurizer(self, input_shape, hparams):
        return make_featurizer(input_shape, hparams)


@pytest.mark.parametrize("modify", [with_mixstyle, lambda cls: with_batchformer(with_mixstyle(cls))])
@pytest.mark.parametrize("mix", ["random", "crossdomain"])
def test_an_algorithm_that_takes_environments_one_by_one_mixes_them_all_the_same(mix, modify):
    algorithm = make(modify(OneByOne), mixstyle_mix=mix, mixstyle_p=1.0)
    seen = []
    algorithm.featurizer.stages["layer1"].register_forward_hook(lambda stage, x, output: seen.append(len(output)))
    before = weights(algorithm)
    algorithm.update(minibatches((4, 5, 6)))
    assert seen == [15]
    assert all(not torch.equal(value, before[name]) for name, value in weights(algorithm).items())


def test_cross_domain_needs_the_environments_together():
    algorithm = make(with_mixstyle(ERM), mixstyle_mix="crossdomain", mixstyle_p=1.0)
    with pytest.raises(ValueError, match=r"'crossdomain', but 4 samples.*of \[\].*use 'random'"):
        algorithm.featurizer(torch.randn(4, *SHAPE))


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ({"mixstyle_layers": ["layer9"]}, r"\['layer9'\]: expected some of layer1, layer2, layer3"),
        ({"mixstyle_layers": []}, "expected some of"),
        ({"mixstyle_p": 1.5}, "'mixstyle_p' is 1.5: expected a finite number of at least 0 and at most 1"),
        ({"mixstyle_alpha": 0.0}, "'mixstyle_alpha' is 0.0: expected a finite number of at least 0.001"),
        ({"mixstyle_mix": "domain"}, "'mixstyle_mix' is 'domain': expected 'random' or 'crossdomain'"),
    ],
)
def test_wrong_hparams_are_named(hparams, message):
    with pytest.raises(ValueError, match=message):
        make("MixStyle", **hparams)


def test_a_network_without_maps_is_refused():
    with pytest.raises(ValueError, match="MLP"):
        make("MixStyle", shape=(5,), mlp_width=8, mlp_depth=3, mlp_dropout=0.0)


class OnACopy(OneByOne):
    """Trains on the gradient of a copy of the network."""

    def update(self, minibatches, unlabeled=None):
        inner = copy.deepcopy(self.network)
        loss = sum(nn.functional.cross_entropy(inner(x), y) for x, y in minibatches)
        loss.backward()
        for parameter, of_copy in zip(self.network.parameters(), inner.parameters(), strict=True):
            parameter.grad = of_copy.grad
        self.optimizer.step()
        return {"loss": loss.item()}


@pytest.mark.parametrize("modify", [with_mixstyle, lambda cls: with_batchformer(with_mixstyle(cls))])
@pytest.mark.parametrize("mix", ["random", "crossdomain"])
def test_a_copy_of_the_network_mixes_too(mix, modify):
    algorithm = make(modify(OnACopy), mixstyle_mix=mix, mixstyle_p=1.0)
    before = weights(algorithm)
    algorithm.update(minibatches((4, 5, 6)))
    assert all(not torch.equal(value, before[name]) for name, value in weights(algorithm).items())


class ExtendsOurs(ERM):
    """Extends one of ours with an update that takes environments one by one."""

    def update(self, minibatches, unlabeled=None):
        for x, y in minibatches:
            loss = nn.functional.cross_entropy(self.predict(x), y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return {"loss": loss.item()}


def test_a_class_that_extends_ours_with_an_update_of_its_own_mixes_all_environments():
    algorithm = make(with_mixstyle(ExtendsOurs), mixstyle_mix="crossdomain", mixstyle_p=1.0)
    seen = []
    algorithm.featurizer.stages["layer1"].register_forward_hook(lambda stage, x, output: seen.append(len(output)))
    algorithm.update(minibatches((4, 5, 6)))
    assert seen == [15, 15, 15]
