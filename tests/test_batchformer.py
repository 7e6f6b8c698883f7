"""The module against an encoder layer written out by hand, and its limits."""

import math

import pytest
import torch
import torch.nn.functional as F

from dg_batchformer import BatchFormer
from dg_batchformer.batchformer import attend, without_batchformer


def encoder_layer(layer, z, heads):
    """Post-norm transformer encoder layer over the N rows of z, from the formulas of the paper."""
    n, c = z.shape
    q, k, v = (z @ layer.self_attn.in_proj_weight.T + layer.self_attn.in_proj_bias).split(c, dim=1)
    q, k, v = (t.view(n, heads, c // heads).transpose(0, 1) for t in (q, k, v))
    mixed = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(c // heads), dim=-1) @ v
    attended = layer.self_attn.out_proj(mixed.transpose(0, 1).reshape(n, c))
    z = F.layer_norm(z + attended, (c,), layer.norm1.weight, layer.norm1.bias)
    fed = layer.linear2(torch.relu(layer.linear1(z)))
    return F.layer_norm(z + fed, (c,), layer.norm2.weight, layer.norm2.bias)


@pytest.mark.parametrize(("layers", "heads"), [(1, 4), (3, 2)])
def test_is_the_post_norm_encoder_over_the_batch(layers, heads):
    module = BatchFormer(16, layers, heads, dropout=0.0)
    z = torch.randn(7, 16)
    expected = z
    for layer in module.layers:
        expected = encoder_layer(layer, expected, heads)
    torch.testing.assert_close(module(z), expected, rtol=1e-5, atol=1e-6)


def test_defaults_are_the_papers():
    layer = BatchFormer(32).layers[0]
    assert len(BatchFormer(32).layers) == 1
    assert layer.self_attn.num_heads == 4
    assert layer.linear1.out_features == 32
    assert {m.p for m in layer.modules() if isinstance(m, torch.nn.Dropout)} == {0.5}
    assert not layer.norm_first
    assert layer.activation is F.relu


def test_layers_start_from_different_weights():
    first, second = BatchFormer(8, num_layers=2).layers
    assert not torch.equal(first.linear1.weight, second.linear1.weight)


def test_permuting_the_batch_permutes_the_output():
    module = BatchFormer(16, dropout=0.0)
    z, order = torch.randn(9, 16), torch.randperm(9)
    torch.testing.assert_close(module(z)[order], module(z[order]))


def test_each_sample_sees_every_other():
    module = BatchFormer(8, dropout=0.0)
    z = torch.randn(5, 8, requires_grad=True)
    module(z)[0].square().sum().backward()
    assert (z.grad.abs().sum(1) > 0).all()


def test_scope_environment_keeps_environments_apart():
    module = BatchFormer(8, dropout=0.0)
    a, b, c = torch.randn(3, 8), torch.randn(4, 8), torch.randn(4, 8)
    torch.testing.assert_close(attend(module, [a, b], "environment")[0], attend(module, [a, c], "environment")[0])
    assert not torch.allclose(attend(module, [a, b], "all")[0], attend(module, [a, c], "all")[0])
    torch.testing.assert_close(torch.cat(attend(module, [a, b], "all")), module(torch.cat([a, b])))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"dim": 10}, ["dim is 10", "positive multiple of num_heads", "4"]),
        ({"dim": 0}, ["dim is 0", "positive multiple of num_heads"]),
        ({"dim": 8, "num_heads": 0}, ["num_heads is 0", "at least 1"]),
        ({"dim": 8, "num_layers": 0}, ["num_layers is 0", "at least 1"]),
        ({"dim": 8, "dropout": 1.5}, ["dropout is 1.5", "[0, 1)"]),
    ],
)
def test_wrong_arguments_are_named(arguments, named):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        BatchFormer(**arguments)
    assert all(part in str(error.value) for part in named)


@pytest.mark.parametrize(
    ("shape", "named"), [((1, 8), "1 sample"), ((4, 6), r"\(4, 6\): expected \(N, 8\)"), ((2, 3, 8), "expected")]
)
def test_wrong_features_are_named(shape, named):
    with pytest.raises(ValueError, match=named):
        BatchFormer(8)(torch.randn(shape))


def test_without_batchformer_drops_its_names_alone():
    named = {"batchformer.layers.0.linear1.weight": 1, "featurizer.batchformer_like": 2, "classifier.weight": 3}
    assert list(without_batchformer(named.items())) == ["featurizer.batchformer_like", "classifier.weight"]
