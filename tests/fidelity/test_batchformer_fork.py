"""BatchFormer around ERM in the authors' SWAD fork, whose trainer wraps the classifier, against `with_batchformer`."""

import types

import pytest
import torch
import torch.nn.functional as F
from factories import CLASSES, DOMAINS, SHAPE, make, minibatches

from dg_batchformer import default_hparams, with_batchformer
from dg_batchformer.contracts import update

from .peers import checkout, one_definition

pytestmark = pytest.mark.domainbed


@pytest.fixture
def fork():
    """Their ERM on one of our featurizers, and the decorator of their trainer."""
    root = checkout("BatchFormer") / "domain_generalization" / "swad" / "domainbed"
    names = {"torch": torch, "nn": torch.nn, "F": F}
    optimizer = one_definition(root / "optimizers.py", "get_optimizer", **names)
    algorithms = root / "algorithms" / "algorithms.py"
    names |= {"get_optimizer": optimizer, "Algorithm": one_definition(algorithms, "Algorithm", **names)}
    names["networks"] = types.SimpleNamespace(Featurizer=lambda shape, hparams: make("ERM").featurizer)
    decorator = one_definition(root / "trainer.py", "TransformerDecorator", torch=torch)
    return one_definition(algorithms, "ERM", **names), decorator, optimizer


def construct(cls, **given):
    torch.manual_seed(0)
    hparams = default_hparams(cls, "RotatedDigits") | given
    return cls(SHAPE, CLASSES, DOMAINS, hparams).double()


def decorated(algorithm, decorator, get_optimizer, lr_scale):
    """As their trainer does: BatchFormer in the classifier, and a group of its own for what is called encoder."""
    algorithm.classifier = decorator(algorithm.classifier, add_bt=16).double()
    algorithm.network = torch.nn.Sequential(algorithm.featurizer, algorithm.classifier)
    lr, named = algorithm.hparams["lr"], list(algorithm.network.named_parameters())
    groups = [
        {"params": [one for name, one in named if "encoder" in name], "lr": lr * lr_scale},
        {"params": [one for name, one in named if "encoder" not in name], "lr": lr},
    ]
    algorithm.optimizer = get_optimizer("adam", groups, lr=lr, weight_decay=algorithm.hparams["weight_decay"])
    return algorithm


@pytest.mark.parametrize("lr_scale", [1.0, 0.1])
def test_ten_updates(fork, lr_scale):
    """With the same seeds dropout is the same too."""
    erm, decorator, get_optimizer = fork
    ours = construct(with_batchformer(erm), batchformer_lr_scale=lr_scale)
    theirs = decorated(construct(erm), decorator, get_optimizer, lr_scale)
    theirs.classifier.encoder_layers.load_state_dict(ours.batchformer.layers[0].state_dict())
    pairs = [
        *zip(theirs.featurizer.parameters(), ours.featurizer.parameters(), strict=True),
        *zip(theirs.classifier.fc.parameters(), ours.classifier.parameters(), strict=True),
        *zip(theirs.classifier.encoder_layers.parameters(), ours.batchformer.parameters(), strict=True),
    ]
    start = [one.detach().clone() for one, _ in pairs]
    for step in range(10):
        batches = [(x.double(), y) for x, y in minibatches((6, 4, 8), seed=step)]
        losses = []
        for algorithm in (theirs, ours):
            torch.manual_seed(step)
            losses.append(update(algorithm, batches, step)["loss"])
        assert losses[1] == pytest.approx(losses[0], rel=1e-9)
        for a, b in pairs:
            torch.testing.assert_close(b.grad, a.grad, rtol=1e-5, atol=1e-8)
            torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-8)
    assert all(not torch.equal(before, after) for before, (after, _) in zip(start, pairs, strict=True))


def test_it_is_gone_in_evaluation(fork):
    erm, decorator, get_optimizer = fork
    base, x = construct(erm), torch.randn(3, *SHAPE).double()
    expected = base.eval().predict(x)
    assert torch.equal(decorated(base, decorator, get_optimizer, 1.0).eval().predict(x), expected)
