"""Precision, compilation and values that are read late; on a GPU, that nothing waits."""

import json

import pytest
import torch
from factories import image_tree, make, minibatches, weights

from dg_batchformer import ALGORITHMS
from dg_batchformer.algorithms import ERM
from dg_batchformer.data import load_dataset
from dg_batchformer.errors import InputError
from dg_batchformer.runs import resolve
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.training.compute import Compute, fuse
from dg_batchformer.training.setup import Setup
from dg_batchformer.training.state import RunState
from dg_batchformer.training.trainer import run

NOISE = load_dataset("Debug28")
original = torch.nn.Module.compile
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def train(folder, **arguments):
    given = {"dataset": "Debug28", "steps": 3, "checkpoint_freq": 2, "hparams": '{"batch_size": 8}', **arguments}
    run(RunArguments(**given, output_dir=str(folder)), NOISE, echo=False)
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_bf16_trains_close_to_fp32(tmp_path, algorithm):
    full, half = (
        train(tmp_path / precision, algorithm=algorithm, precision=precision) for precision in ("fp32", "bf16")
    )
    assert half[-1]["args"]["precision"] == "bf16"
    assert half[0]["loss"] == pytest.approx(full[0]["loss"], rel=0.02)
    assert half[-1]["loss"] != full[-1]["loss"]


def test_losses_are_exact_under_bf16(monkeypatch):
    """A covariance or a penalty in bfloat16 would have two digits."""
    seen = []
    objective = ERM.objective

    def watch(self, features, labels):
        values = objective(self, features, labels)
        seen.append((features[0].dtype, torch.is_autocast_enabled("cpu"), values["loss"].dtype))
        return values

    monkeypatch.setattr(ERM, "objective", watch)
    algorithm = make("ERM_BatchFormer")
    seen.clear()
    with Compute("cpu", "bf16").autocast():
        algorithm.update(minibatches())
    assert seen == [(torch.float32, False, torch.float32)]


class Twice(ERM):
    """An update of nine steps."""

    def update(self, minibatches, unlabeled=None):
        for _ in range(9):
            values = super().update(minibatches, unlabeled)
        return values


def test_bf16_sees_the_weights_of_each_step_of_an_update():
    """Autocast's cache of cast weights would keep those of the first."""
    full, half = (make(Twice, lr=1e-2) for _ in range(2))
    for _ in range(3):
        loss = full.update(minibatches())["loss"]
        with Compute("cpu", "bf16").autocast():
            in_half = half.update(minibatches())["loss"]
    assert loss < 0.5
    assert in_half == pytest.approx(loss, abs=0.1)


def test_gradients_of_the_losses_are_exact_under_bf16():
    full, half = (make("CORAL") for _ in range(2))
    frozen = [torch.randn(4, 64, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    for algorithm in (full, half):
        algorithm.features_by_environment = lambda featurizer, batches: [z.clone().requires_grad_() for z in frozen]
    full.update(minibatches((4, 4, 4)))
    with Compute("cpu", "bf16").autocast():
        half.update(minibatches((4, 4, 4)))
    for a, b in zip(full.classifier.parameters(), half.classifier.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-6, atol=1e-7)


def test_an_unknown_precision_is_refused():
    with pytest.raises(InputError, match="unknown precision 'fp16': did you mean bf16"):
        resolve(RunArguments(precision="fp16"))


def test_what_is_compiled_once_serves_all_updates(monkeypatch):
    """Recompiling at each update, of which BatchFormer's replaces the featurizer's `forward`, would cost minutes."""
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph

    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: original(self, backend=backend))
    given = {"shape": (3, 32, 32), "backbone": "resnet18", "weights": None, "batchformer_dropout": 0.0}
    algorithm, reference = (make("ERM_BatchFormer", **given) for _ in range(2))
    names = list(algorithm.state_dict())
    Compute("cpu", compile=True).place(algorithm)
    assert list(algorithm.state_dict()) == names
    for step in range(12):
        batches = minibatches(shape=(3, 32, 32), seed=step)
        loss = float(algorithm.update(batches)["loss"])
        if step == 0:
            first = len(compiled)
            assert loss == pytest.approx(reference.update(batches)["loss"], rel=1e-4)
    assert len(compiled) == first > 0


def test_a_network_of_a_few_layers_is_not_compiled():
    with pytest.raises(InputError, match="--compile is for pretrained backbones"):
        Compute("cpu", compile=True).place(make("ERM"))


def test_our_algorithms_give_tensors_that_are_read_late():
    algorithm = Compute("cpu").place(make("VREx_BatchFormer"))
    state = RunState(algorithm, values={step: algorithm.update(minibatches(seed=step)) for step in range(2)})
    assert all(isinstance(value, torch.Tensor) for row in state.values.values() for value in row.values())
    rows = state.read_values()
    assert state.values == rows
    assert list(rows) == [0, 1]
    assert all(set(row) == {"loss", "nll", "penalty", "penalty_z"} for row in rows.values())
    reference = make("VREx_BatchFormer")
    for step, row in rows.items():
        assert row == pytest.approx(reference.update(minibatches(seed=step)), rel=1e-3, abs=1e-5)
    assert all(isinstance(value, float) for value in reference.update(minibatches()).values())


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_update_waits_for_the_gpu(algorithm):
    algorithm = Compute("cuda", "bf16").place(make(algorithm))
    batches = [(x.cuda(), y.cuda()) for x, y in minibatches()]
    with Compute("cuda", "bf16").autocast():
        algorithm.update(batches)
        torch.cuda.set_sync_debug_mode("error")
        try:
            values = algorithm.update(batches)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert all(torch.isfinite(value) for value in values.values())


def test_optimizers_are_fused_as_they_are():
    """With what they train and how, also where a subclass made one of its own."""
    algorithm = make("IRM_BatchFormer", batchformer_lr_scale=0.1)
    parameters = [group["params"] for group in algorithm.optimizer.param_groups]
    fuse(algorithm.optimizer)
    assert all(group["fused"] for group in algorithm.optimizer.param_groups)
    assert [group["params"] for group in algorithm.optimizer.param_groups] == parameters
    before = weights(algorithm)
    algorithm.update(minibatches())  # torch has the kernel for CPUs too
    assert all(not torch.equal(value, before[name]) for name, value in weights(algorithm).items())
    other = torch.optim.RMSprop(algorithm.network.parameters())
    fuse(other)
    assert "fused" not in other.param_groups[0]


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("name", ["RotatedDigits", "images"])
def test_no_minibatch_makes_the_gpu_wait(tmp_path, name):
    dataset = f"folder:{image_tree(tmp_path / 'mine')}" if name == "images" else name
    hparams = json.dumps({"batch_size": 4, "weights": None})
    steps = Setup.from_run(resolve(RunArguments(dataset=dataset, hparams=hparams))).minibatches()
    next(steps)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step = next(steps)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(x.is_cuda and y.is_cuda for x, y in step)
