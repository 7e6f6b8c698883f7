"""What each algorithm of a peer does with each modifier: python support.py PACKAGE (on PYTHONPATH).

A process of its own, since three peers have packages of one name. It prints JSON: algorithm to modifier to result.
Where there is no GPU, what an algorithm puts on one stays where it is.
"""

import json
import sys
import types

import numpy as np
import torch
import torch.utils.model_zoo
from torch.overrides import TorchFunctionMode

from dg_batchformer import contracts, default_hparams, registry
from dg_batchformer.errors import InputError, first_line

DOMAINS, CLASSES = 3, 10
LARGE = ("Mixstyle", "Mixstyle2", "MIRO")
# DomainBed's default masks every gradient, in SANDMask itself; the others begin early enough to be seen.
GIVEN = {"tau": 0.5, "irm_penalty_anneal_iters": 2, "vrex_penalty_anneal_iters": 2, "ib_penalty_anneal_iters": 2}
GIVEN |= {
    "iters": 2,
    "linear_steps": 1,
    "rdm_penalty_anneal_iters": 2,
    "eqrm_burnin_iters": 2,
    "pretrained": False,
    "resnet18": True,
}
# MTL adds noise to every prediction, and ARM's depends on the batch, in themselves.
OWN_PREDICTIONS = ("MTL", "ARM")


class OnCPU(TorchFunctionMode):
    """Makes tensors for "cuda" on the CPU."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if kwargs.get("device") == "cuda":
            kwargs["device"] = "cpu"
        return func(*args, **kwargs)


def without_gpu():
    """Lets the peers' code run on a CPU, with today's NumPy and without downloads."""
    if not torch.cuda.is_available():
        for cls in (torch.Tensor, torch.nn.Module):
            cls.cuda = lambda self, *args: self
        OnCPU().__enter__()
    np.int = int
    sys.modules.setdefault("clip", types.ModuleType("clip"))
    torch.utils.model_zoo.load_url = lambda *args, **kwargs: {}


def construct(cls, name):
    """An algorithm for small images, or for those of 224 pixels if it takes no others."""
    dataset, shape = ("PACS", (3, 224, 224)) if name in LARGE else ("RotatedDigits", (2, 28, 28))
    hparams = default_hparams(cls, dataset)
    hparams |= {
        key: value for key, value in GIVEN.items() if key in hparams and not (key == "tau" and name != "SANDMask")
    }
    torch.manual_seed(0)
    labels = [torch.arange(40) % CLASSES for _ in range(DOMAINS)]
    return contracts.contract_of(cls).construct(cls, (shape, CLASSES, DOMAINS), hparams, labels), shape


def batches(shape, seed):
    generator = torch.Generator().manual_seed(seed)
    n = 2 if shape[1] == 224 else 8
    return [(torch.randn(n, *shape, generator=generator), torch.arange(n) % CLASSES) for _ in range(DOMAINS)]


def support(objective, name, modifier):
    """Trains four steps; "trains", or why the algorithm cannot be constructed. Any other exception ends all."""
    try:
        construct(objective, name)
    except Exception as error:
        return f"no: it cannot be constructed without it either ({first_line(error)})"
    try:
        algorithm, shape = construct(registry.compose(objective, modifier), name)
    except InputError as error:
        return f"no: {str(error).partition(': ')[2] or error}"
    before = {key: value.detach().clone() for key, value in algorithm.named_parameters()}
    for step in range(4):
        contracts.update(algorithm, batches(shape, step), step)
        if modifier == "SWAD":
            algorithm.on_validation(step, 1.0)
    if modifier == "SWAD":
        algorithm.finish()
    now = dict(algorithm.named_parameters())
    still = [key for key, value in before.items() if torch.equal(value, now[key])]
    featurizer = {id(one) for one in algorithm.featurizer.parameters()} if hasattr(algorithm, "featurizer") else set()
    trained = [key for key in before if now[key].requires_grad]
    expected = [key for key in trained if key.startswith("batchformer.") or id(now[key]) in featurizer]
    assert not set(still) & set(expected), f"{name} with {modifier}: {still[:3]} did not move"
    assert len(still) < len(before), f"{name} with {modifier}: nothing moved"
    algorithm.eval()
    x = torch.randn(4, *shape)
    if name not in OWN_PREDICTIONS:
        together, alone = algorithm.predict(x), torch.cat([algorithm.predict(one[None]) for one in x])
        torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)
    return "trains"


def main():
    without_gpu()
    package = sys.argv[1]
    module = __import__(contracts.REGISTRIES[package].algorithms, fromlist=["*"])
    names = contracts.listed(module)
    table = {
        name: {
            modifier: support(getattr(module, name), name, modifier) for modifier in ("BatchFormer", "MixStyle", "SWAD")
        }
        for name in names
        if not registry.split_name(name)[1]
    }
    print(json.dumps(table))


if __name__ == "__main__":
    main()
