"""LossValley against the SWAD authors': window and weights."""

import contextlib
import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dg_batchformer.algorithms.swad import LossValley, Segment

pytestmark = pytest.mark.domainbed

STEPS = 10
LOGGER = SimpleNamespace(logger=SimpleNamespace(error=lambda message: None))


def curves():
    """Loss curves by name: the shapes that matter, then noise."""
    random = np.random.RandomState(0)
    named = {
        "never converged": np.linspace(2, 1, 15),
        "dies early": np.r_[2, 1.5, 1, 1.1, 1.2, np.full(10, 5.0)],
        "dies late": np.r_[2, 1.5, np.full(14, 1.0), np.full(8, 5.0)],
        "flat": np.ones(12),
        "converged at the end": np.r_[np.linspace(3, 1, 10), 1.1, 1.2],
        "converged at once": np.r_[1.0, 1.1, 1.2, np.full(9, 1.1)],
        "too short": np.array([2.0, 1.0]),
    }
    return {**named, **{f"noise {i}": random.uniform(0.5, 2, random.randint(3, 25)) for i in range(40)}}


@pytest.mark.parametrize("settings", [(3, 6, 0.3), (3, 6, 0.2), (3, 3, 0.3), (5, 2, 0.1), (1, 1, 0.3)], ids=str)
@pytest.mark.parametrize("name", curves())
def test_window_and_weights(loss_valley, name, settings):
    their_valley, averaged_model = loss_valley
    theirs, ours = their_valley(LOGGER, *settings), LossValley(*settings)
    for i, loss in enumerate(curves()[name]):
        network = torch.nn.Linear(2, 1)
        start, end = (0, 0) if i == 0 else ((i - 1) * STEPS + 1, i * STEPS)
        segment = averaged_model(network)
        segment.update_parameters(network, step=start)
        segment.end_step = end
        with contextlib.redirect_stdout(io.StringIO()):
            theirs.update_and_evaluate(segment, 0.0, float(loss), None)
        weights = {key: value.detach().clone() for key, value in network.named_parameters()}
        ours.add(Segment(weights, start, end, float(loss)))
    if not theirs.is_converged:
        expected, window = theirs.converge_Q[-1], None
    else:
        # get_final_model moves the model to a GPU, which there need not be.
        theirs_cuda, torch.nn.Module.cuda = torch.nn.Module.cuda, lambda self: self
        try:
            expected = theirs.get_final_model()
        finally:
            torch.nn.Module.cuda = theirs_cuda
        window = (expected.start_step, expected.end_step)
    weights, ours_window = ours.result()
    assert theirs.dead_valley == ours.dead
    for key, value in expected.module.named_parameters():
        torch.testing.assert_close(weights[key], value.detach(), rtol=1e-6, atol=1e-6)
    if window and expected.n_averaged == 0:
        # Nothing has entered their average, which then is the lowest segment; they give it no window.
        assert window == (-1, -1)
        assert ours_window == (ours.lowest.start, ours.lowest.end)
    elif window and window[0] != ours_window[0]:
        # A segment that enters first at the very end starts, for them, at its own last step.
        assert window[0] == ours_window[0] + STEPS - 1
        assert window[1] == ours_window[1]
    else:
        assert ours_window == window


def test_the_curves_meet_every_case():
    ends = {"never": 0, "dead": 0, "alive": 0}
    for losses in curves().values():
        valley = LossValley(3, 6, 0.3)
        for i, loss in enumerate(losses):
            valley.add(Segment({"w": torch.zeros(1)}, i, i, float(loss)))
        ends["never" if valley.lowest is None else "dead" if valley.dead else "alive"] += 1
    assert min(ends.values()) >= 3
