"""Steps, evaluations and augmentation on a pretended GPU: tensors of two devices never meet, and nothing waits."""

import contextlib

import pytest
import torch
from factories import image_tree
from pretended import pretended_gpu

from dg_batchformer import ALGORITHMS, default_hparams, get_algorithm_class
from dg_batchformer.data import load_dataset, resident
from dg_batchformer.data.environments import Dataset, Samples, TensorEnvironment, augmentation
from dg_batchformer.data.resident import Resident
from dg_batchformer.training.compute import Compute, correct_and_loss, logits_of
from dg_batchformer.training.retraining import ClassifierRetraining

OTHERS = ("BalancedSoftmax", "LDAM", "FocalLoss", "BoDA")
NAMES = (*ALGORITHMS, *OTHERS, *(f"{name}_BatchFormer" for name in OTHERS))
CUDA = torch.device("cuda", 0)
SHAPES = {"RotatedDigits": (1, 16, 16), "PACS": (3, 64, 64)}


def made(gpu, name, dataset, **given):
    """An algorithm on the GPU as the trainer has it there."""
    defaults = {**default_hparams(name, dataset), "weights": None, "batch_size": 4}
    if dataset == "PACS":
        defaults |= {"backbone": "resnet18"}
    algorithm = get_algorithm_class(name)(SHAPES[dataset], 5, 3, {**defaults, **given})
    if hasattr(algorithm, "set_class_counts"):
        algorithm.set_class_counts(torch.tensor([[9, 5, 0, 1, 3]] * 3))
    if hasattr(algorithm, "reads_values"):
        algorithm.reads_values = False
    return gpu.moved(algorithm)


@contextlib.contextmanager
def gpu_of(gpu, *args, **given):
    """The mode of the GPU with an algorithm there."""
    algorithm = made(gpu, *args, **given)
    with gpu:
        yield algorithm


def minibatches(dataset, n=4):
    return [(torch.rand(n, *SHAPES[dataset], device="cuda"), torch.zeros(n, device="cuda").long()) for _ in range(3)]


@pytest.mark.parametrize("dataset", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_steps(name, dataset):
    """Three of them, so that penalties have their weight."""
    given = {key: 1 for key in default_hparams(name, dataset) if key.endswith(("anneal_iters", "start_step"))}
    given |= {"mixstyle_p": 1.0} if "MixStyle" in name else {}
    with pretended_gpu() as gpu, gpu_of(gpu, name, dataset, **given) as algorithm:
        for _ in range(3):
            if getattr(algorithm, "awaits_features", False):
                features = [torch.rand(20, algorithm.featurizer.n_outputs, device="cuda") for _ in range(3)]
                algorithm.see_features(features, [torch.zeros(20, device="cuda").long() for _ in range(3)])
            values = algorithm.update(minibatches(dataset))
        assert {name: value.device for name, value in values.items()} == dict.fromkeys(values, CUDA)
        assert "loss" in values


@pytest.mark.parametrize("n", [1, 7])
@pytest.mark.parametrize("name", NAMES)
def test_evaluation(name, n):
    with pretended_gpu() as gpu, gpu_of(gpu, name, "RotatedDigits") as algorithm:
        algorithm.eval()
        images = torch.rand(9, 1, 16, 16, device="cuda")
        dataset = Dataset("a", [TensorEnvironment("a", images, torch.arange(9))], (1, 16, 16), tuple("01234"))
        logits = logits_of(algorithm, dataset, Samples(0, torch.arange(n)), Compute("cuda"))
        correct, loss = correct_and_loss(logits, torch.arange(n).to("cuda"))
        assert (logits.shape, correct.shape, loss.device) == ((n, 5), (n,), CUDA)


def test_the_second_stage():
    hparams = default_hparams("CORAL_BatchFormer", "RotatedDigits")
    first = get_algorithm_class("CORAL_BatchFormer")((1, 16, 16), 5, 3, hparams)
    second = ClassifierRetraining(first.featurizer, 5, hparams)
    second.reads_values = False
    with pretended_gpu() as gpu:
        gpu.moved(second)
        with gpu:
            assert second.update(minibatches("RotatedDigits"))["loss"].device == CUDA


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("augmented", [True, False])
def test_augmentation(tmp_path, monkeypatch, augmented, interpolation):
    own = load_dataset(f"folder:{image_tree(tmp_path / 'mine', n=5)}").environments
    generator, indices = torch.Generator().manual_seed(0), torch.tensor([3, 9, 3])
    samples = [Samples(i, indices, augmentation(own[i], 3, generator) if augmented else None) for i in (0, 2)]
    images = torch.cat([one.images for one in own])
    with pretended_gpu() as gpu:
        there = gpu.there(images)
        if augmented:
            # It is made on the CPU, where values are real.
            monkeypatch.setattr(resident, "sent", lambda values, device: gpu.there(values))
            sizes = torch.cat([one.originals for one in own])[torch.cat([indices, 20 + indices])]
            plan = resident.planned(sizes, torch.cat([one.draws for one in samples]), there)
            monkeypatch.setattr(resident, "planned", lambda *args: plan)
        monkeypatch.setattr(resident, "sent", lambda values, device: values.to(device))
        with gpu:
            draws = torch.zeros(3, 1) if augmented else None
            samples = [Samples(one.environment, torch.arange(3), draws) for one in samples]
            found = Resident(there, torch.zeros(30, 2), [0, 10, 20], "cuda").inputs(samples, interpolation)
        assert [(one.shape, one.device) for one in found] == [((3, 3, 224, 224), CUDA)] * 2


def test_views_of_frozen_features():
    with pretended_gpu() as gpu, gpu:
        features, views = torch.rand(9, 4, device="cuda"), torch.rand(9, 3, 4, device="cuda")
        found = TensorEnvironment("a", features, torch.arange(9), views).inputs(torch.tensor([1, 8]), torch.rand(2, 1))
        assert (found.shape, found.device) == ((2, 4), CUDA)


def test_what_the_pretended_gpu_finds():
    """These tests could fail: a tensor of the CPU among those of the GPU, and values that are read."""
    with pretended_gpu() as gpu, gpu_of(gpu, "ERM", "RotatedDigits") as algorithm:
        there = torch.rand(4, device="cuda")
        with pytest.raises(RuntimeError, match="at least two devices, cuda:0 and cpu"):
            there + torch.ones(4)
        for read in (lambda: float(there.sum()), lambda: there.tolist(), lambda: there[there > 0], there.nonzero):
            with pytest.raises(Exception, match=r"data-dependent|aten\.(_local_scalar_dense|nonzero)"):
                read()
        algorithm.reads_values = True
        with pytest.raises(Exception, match=r"_local_scalar_dense"):
            algorithm.update(minibatches("RotatedDigits"))
