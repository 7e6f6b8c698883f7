"""The plug-in for Transfer-Learning-Library, without that library."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dg_batchformer import tllib
from dg_batchformer.errors import InputError
from dg_batchformer.tllib import BatchFormerPool, by_environment, duplicate_labels, parameter_groups

DIM = 8


class Classifier(nn.Module):
    """What the plug-in needs of the library's classifier: the pooling layer, and groups that leave it out."""

    def __init__(self, pool_layer, finetune=False):
        super().__init__()
        self.backbone = nn.Conv2d(1, DIM, 3)
        self.pool_layer = pool_layer
        self.head = nn.Linear(DIM, 5)
        self.finetune = finetune

    def forward(self, x):
        features = self.pool_layer(self.backbone(x))
        return (self.head(features), features) if self.training else self.head(features)

    def get_parameters(self, base_lr=1.0):
        return [
            {"params": self.backbone.parameters(), "lr": base_lr * (0.1 if self.finetune else 1.0)},
            {"params": self.head.parameters(), "lr": base_lr},
        ]


def test_is_importable_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "tllib", None)
    assert "BatchFormerPool" in runpy.run_path(str(Path(tllib.__file__)))


@pytest.mark.parametrize("size", [(), (3, 5)])
def test_training_gives_features_before_and_after(size):
    pool = BatchFormerPool(DIM, dropout=0.0)
    maps = torch.randn(6, DIM, *size)
    z = maps.mean((2, 3)) if size else maps
    out = pool(maps)
    assert out.shape == (12, DIM)
    torch.testing.assert_close(out[:6], z)
    torch.testing.assert_close(out[6:], pool.batchformer(z))


def test_the_whole_batch_is_one_sequence():
    maps = torch.randn(6, DIM, 2, 2, requires_grad=True)
    BatchFormerPool(DIM, dropout=0.0)(maps)[6].square().sum().backward()
    assert (maps.grad.flatten(1).abs().sum(1) > 0).all()


@pytest.mark.parametrize("size", [(), (3, 5)])
def test_evaluation_never_uses_batchformer(size):
    pool = BatchFormerPool(DIM).eval()
    pool.batchformer.forward = None  # calling it would fail
    maps = torch.randn(6, DIM, *size)
    assert pool(maps).shape == (6, DIM)
    torch.testing.assert_close(torch.cat([pool(maps[i : i + 1]) for i in range(6)]), pool(maps))


def test_settings_reach_batchformer():
    ours = BatchFormerPool(DIM, num_layers=2, num_heads=2, dropout=0.25).batchformer
    assert len(ours.layers) == 2
    assert ours.layers[0].self_attn.num_heads == 2
    assert ours.layers[0].dropout.p == 0.25
    assert all(name.startswith("batchformer.") for name in BatchFormerPool(DIM).state_dict())


def test_labels_are_in_the_order_of_the_rows():
    classifier = Classifier(BatchFormerPool(DIM, dropout=0.0))
    y = torch.arange(5)
    predictions, features = classifier(torch.randn(5, 1, 6, 6))
    assert len(predictions) == len(features) == 10
    # Row i and row N + i are sample i before and after.
    assert duplicate_labels(y).tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]


@pytest.mark.parametrize(("n_domains", "n"), [(1, 4), (2, 3), (3, 2), (4, 1)])
def test_regrouping(n_domains, n):
    z = [torch.randn(n, DIM) for _ in range(n_domains)]
    h = [torch.randn(n, DIM) for _ in range(n_domains)]
    y = [torch.randint(5, (n,)) for _ in range(n_domains)]
    chunks = by_environment(torch.cat([*z, *h]), n_domains).chunk(n_domains)
    labels = by_environment(duplicate_labels(torch.cat(y)), n_domains).chunk(n_domains)
    assert len(chunks) == len(labels) == n_domains
    for d in range(n_domains):
        assert torch.equal(chunks[d], torch.cat([z[d], h[d].roll(len(h[d]) % 2, 0)]))
        assert torch.equal(labels[d], torch.cat([y[d], y[d].roll(len(y[d]) % 2, 0)]))


def test_regrouping_leaves_a_loss_over_all_samples_as_it_was():
    logits, y = torch.randn(24, 5, dtype=torch.double), duplicate_labels(torch.randint(5, (12,)))
    regrouped = F.cross_entropy(by_environment(logits, 3), by_environment(y, 3))
    torch.testing.assert_close(regrouped, F.cross_entropy(logits, y))


def test_gradient_reaches_everything():
    classifier = Classifier(BatchFormerPool(DIM))
    predictions, _ = classifier(torch.randn(6, 1, 6, 6))
    y = by_environment(duplicate_labels(torch.randint(5, (6,))), 3)
    losses = [
        F.cross_entropy(p, one) for p, one in zip(by_environment(predictions, 3).chunk(3), y.chunk(3), strict=True)
    ]
    torch.stack(losses).var().backward()
    assert [name for name, p in classifier.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(("finetune", "backbone_lr"), [(False, 0.5), (True, 0.05)])
def test_parameter_groups(finetune, backbone_lr):
    classifier = Classifier(BatchFormerPool(DIM), finetune)
    groups = parameter_groups(classifier, 0.5, lr_scale=0.1)
    assert [group["lr"] for group in groups] == pytest.approx([backbone_lr, 0.5, 0.05])
    parts = (classifier.backbone, classifier.head, classifier.pool_layer.batchformer)
    for group, part in zip(groups, parts, strict=True):
        assert [id(p) for p in group["params"]] == [id(p) for p in part.parameters()]
    # Every parameter of the classifier once; the optimizer would refuse one that comes twice.
    optimizer = torch.optim.SGD(groups, 0.5)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(classifier.parameters()))


def test_parameter_groups_by_default():
    """Multiples of a learning rate that a schedule gives, BatchFormer's as that of the head."""
    assert [group["lr"] for group in parameter_groups(Classifier(BatchFormerPool(DIM)))] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("shape", [(6, DIM, 3), (6, DIM + 1, 3, 3), (6, DIM + 1), (DIM,)])
@pytest.mark.parametrize("training", [True, False])
def test_refuses_other_maps(shape, training):
    with pytest.raises(InputError, match=rf"expected \(N, {DIM}, height, width\) or \(N, {DIM}\); make") as error:
        BatchFormerPool(DIM).train(training)(torch.randn(shape))
    assert str(shape) in str(error.value)


def test_refuses_what_batchformer_refuses():
    with pytest.raises(InputError, match="multiple of num_heads"):
        BatchFormerPool(6)
    with pytest.raises(InputError, match=r"1 sample\(s\): expected at least 2"):
        BatchFormerPool(DIM)(torch.randn(1, DIM, 3, 3))


@pytest.mark.parametrize(("rows", "n_domains"), [(7, 1), (12, 4), (0, 2), (6, 6), (8, 0), (8, -2)])
def test_refuses_environments_of_unequal_size(rows, n_domains):
    with pytest.raises(InputError, match=f"^{rows} rows for {n_domains} environments: expected 2N rows.* batch size"):
        by_environment(torch.zeros(rows, DIM), n_domains)


def test_refuses_a_classifier_without_batchformer():
    with pytest.raises(InputError, match="Classifier has Flatten as pool_layer: expected BatchFormerPool; construct"):
        parameter_groups(Classifier(nn.Flatten()))
    with pytest.raises(InputError, match="Linear has NoneType as pool_layer"):
        parameter_groups(nn.Linear(2, 2))


def test_refuses_a_negative_learning_rate():
    with pytest.raises(InputError, match=r"lr_scale is -0.1: expected at least 0; 1 trains"):
        parameter_groups(Classifier(BatchFormerPool(DIM)), 0.1, lr_scale=-0.1)
