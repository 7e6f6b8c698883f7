"""LossValley on hand-made curves, worked out on paper from the authors' algorithm, and the averaging of weights."""

import logging

import pytest
import torch
from factories import make, minibatches, weights

from dg_batchformer.algorithms.swad import Average, LossValley, Segment, reestimate_batch_norm


def valley(losses, n_converge=3, n_tolerance=6, ratio=0.3):
    """Segment i has the weight i and the steps 10 i to 10 i + 9."""
    found = LossValley(n_converge, n_tolerance, ratio)
    for i, loss in enumerate(losses):
        found.add(Segment({"w": torch.tensor(float(i))}, 10 * i, 10 * i + 9, loss))
    weight, window = found.result()
    return weight["w"].item(), window


# `kept` are the segments of the average, in the order in which they enter it; those that enter when the valley is
# found enter once more when they become the oldest of the smoothing window, as in the authors' code.
@pytest.mark.parametrize(
    ("losses", "settings", "kept"),
    [
        # Falls to the end, so that no segment is the lowest of the three that begin with it.
        ([9, 8, 7, 6, 5, 4], (3, 6, 0.3), None),
        # Too few to tell.
        ([1, 2], (3, 6, 0.3), None),
        # Found at segment 2, when 4 has come: the threshold is 1.3 * (1 + 1.1 + 1.2) / 3 = 1.43. Of 0 to 3, as far as
        # the smoothing window reaches beyond the converging one, 1 is the last above it, the first below is left
        # out: 3 enters. At the end all that smooths, 0 to 4, enters but for its first.
        ([3, 2, 1, 1.1, 1.2], (3, 6, 0.3), [3, 1, 2, 3, 4]),
        # As before; the window 2 to 7 lets 2 in, 3 to 8 lets 3 in, and the end the rest of it.
        ([3, 2, 1, 1.1, 1.2, 1.1, 1.2, 1.1, 1.2], (3, 6, 0.3), [3, 2, 3, 4, 5, 6, 7, 8]),
        # Flat: found at 0; 1 and 2 enter at once.
        ([1, 1, 1, 1, 1, 1, 1], (3, 6, 0.3), [1, 2, 0, 0, 0, 1, 2, 3, 4, 5, 6]),
        # Dies early: the window 5 to 10 is all above the threshold.
        ([3, 2, 1, 1.1, 1.2, 5, 5, 5, 5, 5, 5, 5, 5], (3, 6, 0.3), [3, 2, 3, 4]),
        # Dies late.
        ([3, 2, 1, 1.1, 1.2, 1, 1, 5, 5, 5, 5, 5, 5, 5, 5, 5], (3, 6, 0.3), [3, 2, 3, 4, 5, 6]),
        # Windows of one length: what follows the lowest enters as it becomes the oldest.
        ([3, 2, 1, 1.1, 1.2, 1, 5, 5], (3, 3, 0.3), [3, 4, 5]),
        # A smoothing window shorter than the converging one: 3, 4 and 5 of 2 to 6 enter at once.
        ([4, 3, 1, 2, 1.5, 1.2, 1.1, 1.3, 5, 5], (5, 2, 0.3), [3, 4, 5, 6, 7]),
    ],
)
def test_window_and_weights(losses, settings, kept):
    weight, window = valley(losses, *settings)
    if kept is None:
        assert (weight, window) == (len(losses) - 1, None)
    else:
        assert weight == pytest.approx(sum(kept) / len(kept))
        assert window == (10 * kept[0], 10 * kept[-1] + 9)


def test_a_dead_valley_takes_nothing_in():
    found = LossValley(1, 1, 0.0)
    for i, loss in enumerate([1, 1, 2, 0, 0]):
        found.add(Segment({"w": torch.tensor(float(i))}, i, i, loss))
    assert found.dead
    assert found.result()[1] == (1, 1)


def test_average_is_the_mean():
    values = [torch.randn(3) for _ in range(5)]
    average = Average()
    for value in values:
        average.add({"w": value})
    torch.testing.assert_close(average.weights["w"], torch.stack(values).mean(0))


@pytest.mark.parametrize("name", ["SWAD", "SWAD_BatchFormer"])
def test_weights_of_every_step_are_averaged_over_segments_then_over_the_valley(name):
    algorithm = make(name, swad_n_converge=1, swad_n_tolerance=1)
    segments, steps_done = [], 0
    for segment, (n_steps, loss) in enumerate([(1, 2.0), (3, 2.0), (2, 2.0)]):
        after = []
        for step in range(n_steps):
            algorithm.update(minibatches(seed=10 * segment + step))
            after.append(weights(algorithm))
            steps_done += 1
        segments.append({k: torch.stack([one[k] for one in after]).mean(0) for k in after[0]})
        algorithm.on_validation(steps_done - 1, loss)
    last = weights(algorithm)
    assert algorithm.swad_window is None
    algorithm.finish()
    # Found at segment 0; each of the two others enters as it comes.
    assert algorithm.swad_window == (1, 5)
    for key, value in weights(algorithm).items():
        if key.startswith("batchformer."):
            assert torch.equal(value, last[key])
        else:
            torch.testing.assert_close(value, (segments[1][key] + segments[2][key]) / 2)


def test_without_a_valley_the_last_segment_stays_and_the_log_says_so(caplog):
    algorithm = make("SWAD")
    for step, loss in enumerate([3.0, 2.0]):
        algorithm.update(minibatches(seed=step))
        algorithm.on_validation(step, loss)
    last = weights(algorithm)
    algorithm.update(minibatches(seed=9))
    with caplog.at_level(logging.INFO):
        algorithm.finish()
    assert "no valley" in caplog.text
    assert "steps 1 to 1" in caplog.text
    assert algorithm.swad_window is None
    for key, value in weights(algorithm).items():
        torch.testing.assert_close(value, last[key])


def test_a_found_valley_is_said_in_the_log(caplog):
    algorithm = make("SWAD", swad_n_converge=1, swad_n_tolerance=1)
    for step in range(2):
        algorithm.update(minibatches())
        algorithm.on_validation(step, 1.0)
    with caplog.at_level(logging.INFO):
        algorithm.finish()
    assert "SWAD averaged steps 1 to 1" in caplog.text


def test_free_batch_norm_is_reestimated():
    algorithm = make("SWAD", shape=(3, 32, 32), swad_n_converge=1, swad_n_tolerance=1)
    batches = [minibatches(shape=(3, 32, 32), seed=seed) for seed in range(3)]
    for step, batch in enumerate(batches):
        algorithm.update(batch)
        algorithm.on_validation(step, 1.0)
    algorithm.finish()
    # The first norm sees the images after one convolution: its statistics can be had directly.
    norm, convolution = algorithm.featurizer.layer1[0].bn1, algorithm.featurizer.conv1
    maps = [convolution(torch.cat([x for x, _ in batch])).detach() for batch in batches]
    torch.testing.assert_close(norm.running_mean, torch.stack([m.mean((0, 2, 3)) for m in maps]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([m.var((0, 2, 3)) for m in maps]).mean(0))
    assert norm.momentum == 0.1
    assert algorithm.training


def test_frozen_batch_norm_is_left_alone():
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(2))
    network[0].eval()
    network.predict = network.forward
    before = network[0].running_mean.clone()
    reestimate_batch_norm(network, [torch.randn(4, 2, 3, 3) + 5])
    assert torch.equal(network[0].running_mean, before)


def test_plain_weights_are_never_passed_off_as_averaged():
    algorithm = make("SWAD")
    assert not algorithm.awaits_validation
    algorithm.update(minibatches())
    assert algorithm.awaits_validation
    with pytest.raises(ValueError, match=r"no validation loss.*on_validation"):
        algorithm.finish()
    with pytest.raises(ValueError, match="validation loss at step 3 is nan"):
        algorithm.on_validation(3, float("nan"))


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ({"swad_n_converge": 0}, "'swad_n_converge'"),
        ({"swad_n_tolerance": 0}, "'swad_n_tolerance'"),
        ({"swad_tolerance_ratio": -0.1}, "'swad_tolerance_ratio' is -0.1"),
    ],
)
def test_wrong_hparams_are_named(hparams, message):
    with pytest.raises(ValueError, match=message):
        make("SWAD", **hparams)


def test_state_dict_is_the_bases():
    assert make("SWAD").state_dict().keys() == make("ERM").state_dict().keys()
