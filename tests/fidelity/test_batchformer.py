"""BatchFormer's loss, gradients and updates against the authors' decorator."""

import pytest
import torch
import torch.nn.functional as F
from factories import make, minibatches

pytestmark = pytest.mark.domainbed


def decorated(transformer_decorator, base, ours):
    """The featurizer of `base` in the authors' decorator, without dropout and with our BatchFormer's weights."""
    theirs = transformer_decorator(base.featurizer, add_bt=1, dim=64)
    theirs.encoder_layers.load_state_dict(ours.batchformer.layers[0].state_dict())
    for module in theirs.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    theirs.encoder_layers.self_attn.dropout = 0.0
    return theirs


def test_loss_gradients_and_updates(transformer_decorator):
    ours = make("ERM_BatchFormer", batchformer_dropout=0.0)
    base = make("ERM")
    theirs = decorated(transformer_decorator, base, ours)
    adam = torch.optim.Adam([*theirs.parameters(), *base.classifier.parameters()], lr=1e-3)
    for step in range(5):
        batches = minibatches((4, 6, 5), seed=step)
        x, y = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
        loss = F.cross_entropy(base.classifier(theirs(x)), torch.cat([y, y]))
        adam.zero_grad()
        loss.backward()
        values = ours.update(batches)
        assert values["loss"] == pytest.approx(loss.item(), rel=1e-6)
        pairs = [
            *zip(base.network.parameters(), ours.network.parameters(), strict=True),
            *zip(theirs.encoder_layers.parameters(), ours.batchformer.layers[0].parameters(), strict=True),
        ]
        if step == 0:
            for a, b in pairs:
                torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-7)
        adam.step()
    # Adam magnifies the rounding of gradients near zero; as a whole the weights stay together.
    a, b = (torch.cat([pair[i].detach().flatten() for pair in pairs]) for i in (0, 1))
    assert ((a - b).norm() / a.norm()).item() < 1e-3


@pytest.mark.parametrize("sizes", [(6, 6), (6, 6, 6)])
@pytest.mark.parametrize("name", ["ERM", "IRM"])
def test_as_released(released, transformer_decorator, name, sizes):
    """The released scripts' own training loops, on two and three environments, against the preset."""
    ours = make(f"{name}_BatchFormer", batchformer_dropout=0.0, batchformer_as_released=True, lr=1e-2)
    base = make(name, lr=1e-2)
    theirs = decorated(transformer_decorator, base, ours)
    start = {key: value.clone() for key, value in theirs.encoder_layers.state_dict().items()}
    batches = [minibatches(sizes, seed=step) for step in range(5)]
    # What `get_parameters` hands to their optimizer: all but the pooling layer.
    optimizer = torch.optim.Adam(base.network.parameters(), lr=1e-2)
    released(name.lower(), theirs, base.classifier, optimizer, batches, ours.hparams)
    for step in batches:
        ours.update(step)
    a, b = (torch.cat([p.detach().flatten() for p in one.network.parameters()]) for one in (base, ours))
    assert ((a - b).norm() / a.norm()).item() < 1e-4
    assert (a - torch.cat([p.detach().flatten() for p in make(name).network.parameters()])).norm() > 0.1
    assert all(torch.equal(value, start[key]) for key, value in theirs.encoder_layers.state_dict().items())
    assert all(torch.equal(value, start[key]) for key, value in ours.batchformer.layers[0].state_dict().items())


def test_it_is_gone_in_evaluation(transformer_decorator):
    base = make("ERM")
    theirs = transformer_decorator(base.featurizer, add_bt=1, dim=64).eval()
    x = torch.randn(3, 1, 16, 16)
    assert torch.equal(theirs(x), base.featurizer(x))
