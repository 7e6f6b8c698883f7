"""ERM against a step written out by hand."""

import pytest
import torch
import torch.nn.functional as F
from factories import make, minibatches, weights

from dg_batchformer import default_hparams, get_algorithm_class


def test_a_step_is_adams_on_the_mean_cross_entropy():
    algorithm = make("ERM", weight_decay=0.01)
    batches = minibatches((3, 5, 7))
    reference = make("ERM", weight_decay=0.01)
    adam = torch.optim.Adam(reference.network.parameters(), lr=1e-3, weight_decay=0.01)
    for _ in range(3):
        x, y = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
        loss = F.cross_entropy(reference.classifier(reference.featurizer(x)), y)
        adam.zero_grad()
        loss.backward()
        adam.step()
        assert algorithm.update(batches) == {"loss": pytest.approx(loss.item())}
    expected = weights(reference)
    for name, value in weights(algorithm).items():
        torch.testing.assert_close(value, expected[name])


def test_state_has_domainbeds_names():
    names = make("ERM").state_dict().keys()
    heads = {".".join(name.split(".")[:2]) for name in names if name.startswith("network.")}
    featurizer = {name.removeprefix("featurizer.") for name in names if name.startswith("featurizer.")}
    assert {name.removeprefix("network.0.") for name in names if name.startswith("network.0.")} == featurizer
    assert {name for name in names if name.startswith("classifier.")} == {"classifier.weight", "classifier.bias"}
    assert heads == {"network.0", "network.1"}
    assert {name.split(".")[0] for name in names} == {"featurizer", "classifier", "network"}


@pytest.mark.parametrize("missing", ["lr", "weight_decay", "nonlinear_classifier"])
def test_missing_hparam_is_named(missing):
    hparams = default_hparams("ERM", "RotatedDigits")
    del hparams[missing]
    with pytest.raises(ValueError, match=f"'{missing}' is missing"):
        get_algorithm_class("ERM")((1, 16, 16), 4, 3, hparams)
