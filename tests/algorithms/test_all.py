"""What holds for every registered objective under every modifier, the standard twelve among them."""

from itertools import combinations

import pytest
import torch
from factories import CLASSES, SHAPE, make, minibatches, weights

from dg_batchformer import ALGORITHMS, default_hparams, get_algorithm_class, random_hparams, registry

get_algorithm_class("ERM")  # fills the registry
MODIFIERS = [m for n in range(4) for m in combinations(registry.MODIFIER_ORDER, n)]
NAMES = ["_".join((objective, *modifiers)) for objective in sorted(registry._objectives) for modifiers in MODIFIERS]


def test_the_grid_covers_the_twelve():
    classes = {get_algorithm_class(name) for name in NAMES}
    assert {get_algorithm_class(name) for name in ALGORITHMS} <= classes
    assert len(classes) == len(NAMES) >= 32


@pytest.mark.parametrize("name", NAMES)
def test_contract(name):
    algorithm = make(name)
    assert isinstance(algorithm.network, torch.nn.Sequential)
    assert algorithm.network[0] is algorithm.featurizer
    assert algorithm.network[1] is algorithm.classifier
    before = weights(algorithm)
    values = algorithm.update(minibatches((6, 3, 5)))
    assert all(type(value) is float for value in values.values())
    moved = [key for key, value in weights(algorithm).items() if not torch.equal(value, before[key])]
    assert moved == list(before)
    assert algorithm.predict(torch.randn(7, *SHAPE)).shape == (7, CLASSES)
    assert hasattr(algorithm, "finish") == hasattr(algorithm, "on_validation") == ("SWAD" in name)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_one_predicts_as_a_batch_of_64(name):
    algorithm = make(name)
    algorithm.update(minibatches())
    algorithm.eval()
    x = torch.randn(64, *SHAPE)
    alone = torch.cat([algorithm.predict(one.unsqueeze(0)) for one in x])
    torch.testing.assert_close(alone, algorithm.predict(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_weights(name):
    results = []
    for _ in range(2):
        algorithm = make(name)
        for step in range(2):
            algorithm.update(minibatches(seed=step))
        results.append(weights(algorithm))
    assert all(torch.equal(value, results[1][key]) for key, value in results[0].items())


@pytest.mark.parametrize("name", [name for name in NAMES if "BatchFormer" in name])
def test_a_variant_has_its_bases_state_and_batchformer(name):
    base = name.replace("_BatchFormer", "")
    state, of_base = make(name).state_dict(), make(base).state_dict()
    assert state.keys() - of_base.keys() == {key for key in state if key.startswith("batchformer.")} != set()
    assert of_base.keys() <= state.keys()


@pytest.mark.parametrize("name", NAMES)
def test_every_hparam_it_declares_is_needed(name):
    cls, hparams = get_algorithm_class(name), default_hparams(name, "RotatedDigits")
    for declared in cls.hyperparameters:
        lacking = {key: value for key, value in hparams.items() if key != declared.name}
        with pytest.raises(ValueError, match=f"'{declared.name}' is missing"):
            cls(SHAPE, CLASSES, 3, lacking)


@pytest.mark.parametrize("name", NAMES)
def test_every_draw_can_be_constructed(name):
    hparams = random_hparams(name, "RotatedDigits", 3)
    assert hparams.keys() == default_hparams(name, "RotatedDigits").keys()
    get_algorithm_class(name)(SHAPE, CLASSES, 3, hparams).update(minibatches())
