"""Precision, compilation and values that are read late; on a GPU, that nothing waits."""

import json

import pytest
import torch
from helpers import make, minibatches

from dg_batchformer import ALGORITHMS
from dg_batchformer.algorithms import ERM
from dg_batchformer.data.benchmarks import load_dataset
from dg_batchformer.errors import InputError
from dg_batchformer.training.arguments import RunArguments, check
from dg_batchformer.training.compute import Compute, Values
from dg_batchformer.training.run import run

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


def test_an_unknown_precision_is_refused():
    with pytest.raises(InputError, match="unknown precision 'fp16': did you mean bf16"):
        check(RunArguments(precision="fp16"))


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
    values = Values()
    for step in range(2):
        values.add(step, algorithm.update(minibatches(seed=step)))
    assert all(isinstance(value, torch.Tensor) for _, row in values.unread for value in row.values())
    rows = values.read()
    assert [set(row) for row in rows] == [{"loss", "nll", "penalty"}] * 2
    assert (values.unread, values.steps) == ([], [0, 1])
    reference = make("VREx_BatchFormer")
    assert rows == [pytest.approx(reference.update(minibatches(seed=step)), rel=1e-3, abs=1e-5) for step in range(2)]
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


@pytest.mark.gpu
@needs_gpu
def test_our_optimizers_are_fused_on_a_gpu():
    algorithm = Compute("cuda").place(make("IRM_BatchFormer"))
    assert all(group["fused"] for group in algorithm.optimizer.param_groups)
    assert len(algorithm.optimizer.param_groups) == 2
