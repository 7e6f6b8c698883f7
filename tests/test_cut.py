"""Both parts of a cut network together are the network, and train as it does with its first part frozen."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from dg_batchformer import default_hparams, get_algorithm_class
from dg_batchformer.backbones import batch_norms, fold_batch_norms, make_backbone
from dg_batchformer.cut import cut
from dg_batchformer.errors import InputError

CUTS = [
    ("resnet18", "layer2"),
    ("resnet18", "layer3.0"),
    ("timm:tf_efficientnet_lite0", "blocks.4"),
    ("timm:mobilenetv3_small_050", "blocks.2"),
    ("timm:convnext_atto", "stages.1"),
    ("timm:vit_tiny_patch16_224", "blocks.5"),
    ("timm:deit_tiny_patch16_224", "blocks.10"),
]


def hparams(**given):
    return {**default_hparams("ERM", "PACS"), "weights": None, "batch_size": 4, **given}


def backbone(name, **given):
    torch.manual_seed(0)
    return make_backbone((3, 224, 224), hparams(backbone=name, **given))


@pytest.mark.parametrize(("name", "path"), CUTS)
def test_both_parts_are_the_network(name, path):
    whole, rest = backbone(name).eval(), backbone(name)
    first = rest.cut(path).eval()
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(rest.eval()(first(x)), whole(x), rtol=1e-5, atol=1e-5)
    keys = [set(part.state_dict()) for part in (rest.network, first[1], whole.network)]
    assert keys[0] | keys[1] == keys[2]
    assert not keys[0] & keys[1]
    assert rest.n_outputs == whole.n_outputs
    assert rest.name == f"{whole.name}, frozen until {path}"
    assert set(rest.stages) <= set(whole.stages)


@pytest.mark.parametrize("freeze_bn", [True, False])
@pytest.mark.parametrize("algorithm", ["ERM", "ERM_BatchFormer", "CORAL_BatchFormer", "MixStyle"])
def test_it_trains_as_the_whole_network_with_its_first_part_frozen(algorithm, freeze_bn):
    """In double precision, ten updates; the first part of the whole network has frozen batch norm."""
    given = {"backbone": "resnet18", "freeze_bn": freeze_bn, "mixstyle_layers": ["layer3"], "image_size": 64}
    given = {**default_hparams(algorithm, "PACS"), **hparams(**given)}
    cls = get_algorithm_class(algorithm)

    def made(shape, **more):
        torch.manual_seed(1)
        return cls(shape, 5, 2, {**given, **more}).double()

    whole, rest = made((3, 224, 224)), made((128, 8, 8), freeze_until="layer2")
    torch.manual_seed(1)
    first = make_backbone((3, 224, 224), given).cut("layer2").double().eval()
    prefixes = ("conv1", "bn1", "layer1", "layer2")
    frozen = [module for name, module in whole.featurizer.network.named_children() if name in prefixes]
    for module in frozen:
        module.requires_grad_(requires_grad=False)
    generator = torch.Generator().manual_seed(2)
    for step in range(10):
        batches = [
            (torch.randn(4, 3, 64, 64, generator=generator).double(), torch.randint(0, 5, (4,), generator=generator))
            for _ in range(2)
        ]
        for norm in (norm for module in frozen for norm in batch_norms(module)):
            norm.eval()
        torch.manual_seed(step)  # MixStyle draws from the global generator
        expected = whole.update(batches)
        torch.manual_seed(step)
        with torch.no_grad():
            maps = [(first(x), y) for x, y in batches]
        assert rest.update(maps)["loss"] == pytest.approx(expected["loss"], rel=1e-9)
    own, others = rest.state_dict(), whole.state_dict()
    assert {name for name in others if name not in own and ".network.fc" not in name}
    for name, value in own.items():
        torch.testing.assert_close(value, others[name], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "n"), [("resnet18", 20), ("timm:tf_efficientnet_lite0", 49), ("timm:vit_tiny_patch16_224", 0)]
)
def test_folded_batch_norms(name, n):
    """The same outputs without batch norms; a network of two uses of one convolution stays as it is."""
    whole, folded = backbone(name).eval(), backbone(name).eval()
    for norms in zip(batch_norms(whole), batch_norms(folded), strict=True):
        mean, var = torch.randn_like(norms[0].running_mean), torch.rand_like(norms[0].running_var) + 0.5
        for norm in norms:
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(var)
    x = torch.randn(2, 3, 224, 224)
    assert len(batch_norms(whole)) == n
    fold_batch_norms(folded, x)
    assert batch_norms(folded) == []
    with torch.no_grad():
        torch.testing.assert_close(folded(x), whole(x), rtol=1e-4, atol=1e-4)


def test_a_convolution_with_two_uses_is_not_folded():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x):
            y = self.conv(x)
            return self.norm(y) + y

    network = Twice().eval()
    network.norm.running_mean.fill_(3)
    x = torch.randn(1, 3, 8, 8)
    expected = network(x)
    fold_batch_norms(network, x)
    assert torch.equal(network(x), expected)
    assert len(batch_norms(network)) == 1


class Skipping(nn.Module):
    """A network whose end needs its beginning."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.unused = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x):
        y = self.first(x)
        return self.second(y) + y


class Deciding(Skipping):
    """A network that looks at its values."""

    def forward(self, x):
        return self.first(x) if x.sum() > 0 else self.second(x)


@pytest.mark.parametrize(
    ("network", "path", "message"),
    [
        (Skipping(), "secnd", "unknown module of the backbone 'secnd': did you mean second"),
        (Skipping(), "", "unknown module of the backbone ''"),
        (Skipping(), "second", "cannot be cut after second: what follows needs more than its output"),
        (Skipping(), "unused", "cannot be cut after unused: the network does not call this module"),
        (Deciding(), "first", "cannot be cut after first: "),
        (resnet18(weights=None), "layer2.0.conv1", "cannot be cut after layer2.0.conv1: what follows needs more"),
    ],
)
def test_where_a_network_cannot_be_cut(network, path, message):
    with pytest.raises(InputError) as error:
        cut(network, path)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(("name", "size"), [("resnet18", 96), ("timm:tf_efficientnet_lite0", 128)])
def test_image_size(name, size):
    """Images are resized before the network, with antialiasing."""
    small, usual = backbone(name, image_size=size).eval(), backbone(name).eval()
    x = torch.randn(2, 3, 224, 224)
    resized = nn.functional.interpolate(x, (size, size), mode="bilinear", antialias=True)
    with torch.no_grad():
        torch.testing.assert_close(small(x), usual(resized), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(small(x), usual(x), rtol=1e-2, atol=1e-2)


def test_image_size_of_a_network_that_takes_one_only():
    assert backbone("timm:vit_tiny_patch16_224", image_size=224).prepare.size == (224, 224)
    with pytest.raises(InputError, match=r"'image_size' is 128: the backbone .* takes images of 224 only"):
        backbone("timm:vit_tiny_patch16_224", image_size=128)
