"""The four protocols in which results are published: all that is fixed beside algorithm, benchmark and seeds.

Each is as its authors' code has it: DomainBed b93c22a, and before 3dfdc8e; swad 252190e; and
Transfer-Learning-Library's scripts in BatchFormer 305efaa. `docs/protocols.md` sets them side by side.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dg_batchformer.data import Benchmark
from dg_batchformer.errors import InputError, unknown
from dg_batchformer.registry import split_name

# What imports torch is imported where it is used: the table and a sweep's status need none of it.
if TYPE_CHECKING:
    from dg_batchformer.data.batches import Step, Training
    from dg_batchformer.data.environments import Dataset, Split


DOMAINBED, DOMAINBED_PAPER = "domainbed", "domainbed-paper"


class Protocol:
    """DomainBed's protocol, and the base of the others.

    `searches`: there is a random search over hyper-parameters. `optimizer`: the required optimizer ("": any).
    `freezes_batch_norm`: batch norm must be frozen. `has_schedule`: learning rates change. `balances`: classes can be
    drawn equally often. `keeps_order`: minibatch d of a step is always from training environment d.
    """

    name = DOMAINBED
    searches = True
    optimizer = ""
    freezes_batch_norm = False
    has_schedule = False
    balances = True
    keeps_order = True

    def hparams(self, algorithm: str, dataset: str) -> dict[str, Any]:
        """Defaults that are not DomainBed's; where there is a search, they replace its draws too."""
        return {}

    def length(self, benchmark: Benchmark) -> tuple[int, int]:
        """Steps of a run, and from one checkpoint to the next."""
        return benchmark.steps, benchmark.checkpoint_freq

    def is_checkpoint(self, step: int, checkpoint_freq: int) -> bool:
        """Whether a checkpoint follows the update at `step`, which counts from 0."""
        return step % checkpoint_freq == 0

    def splits(
        self, sizes: Sequence[int], holdout_fraction: float, trial_seed: int, test_envs: Sequence[int]
    ) -> list[Split]:
        """The split of each environment."""
        from dg_batchformer.data.splits import split_environments

        return split_environments(list(sizes), holdout_fraction, trial_seed)

    def steps(self, training: Training, algorithm: str, hparams: Mapping[str, Any]) -> Iterator[Step]:
        """The samples of each step."""
        from dg_batchformer.data.batches import with_replacement

        return with_replacement(training)

    def prepared(self, dataset: Dataset) -> Dataset:
        """The dataset with this protocol's transforms."""
        return dataset

    def learning_rate(self, step: int, steps: int) -> float:
        """Share of the learning rate at a step of so many, counted from when the optimizer was made."""
        return 1.0

    def check(self, name: str, algorithm: Any) -> None:
        """InputError where the algorithm called `name`, as constructed, does not keep the protocol."""
        from dg_batchformer.networks import has_free_batch_norm, optimizers_by_name

        kinds = {type(optimizer).__name__ for optimizer in optimizers_by_name(algorithm).values()}
        if self.optimizer and kinds != {self.optimizer}:
            raise InputError(
                f"protocol {self.name} trains with {self.optimizer}, but {name} uses {' and '.join(sorted(kinds))}: "
                "make its optimizer with `make_optimizer(parameters, hparams)`"
            )
        if self.freezes_batch_norm and has_free_batch_norm(algorithm):
            raise InputError(
                f"protocol {self.name} freezes batch norm, but {name} updates its statistics: use a network that "
                "respects hparam 'freeze_bn'"
            )
        if not self.keeps_order and hasattr(algorithm, "set_class_counts"):
            raise InputError(
                f"protocol {self.name} draws environments in random order, but {name} needs class counts by "
                "environment: use another --protocol"
            )


class DomainBedPaper(Protocol):
    """That of DomainBed's paper (Gulrajani and Lopez-Paz, ICLR 2021) and of its code before 3dfdc8e (July 2024).

    Batch norm is frozen, and the validation images of the training environments are augmented.
    """

    name = DOMAINBED_PAPER
    freezes_batch_norm = True

    def hparams(self, algorithm: str, dataset: str) -> dict[str, Any]:
        return {"freeze_bn": True, "resnet50_augmix": False, "val_augment": True}


class Swad(Protocol):
    """That of SWAD (Cha et al., NeurIPS 2021): DomainBed's with frozen batch norm and a checkpoint each 100 steps."""

    name = "swad"
    searches = False
    optimizer = "Adam"
    freezes_batch_norm = True

    def hparams(self, algorithm: str, dataset: str) -> dict[str, Any]:
        own: dict[str, Any] = {"optimizer": "adam", "freeze_bn": True, "resnet_dropout": 0.0, "swad_n_converge": 3}
        own |= {"swad_n_tolerance": 6, "swad_tolerance_ratio": 0.2 if dataset == "VLCS" else 0.3}
        own |= {"lr": 5e-5, "weight_decay": 0.0, "batch_size": 32, "val_augment": False}
        return own | {"mixstyle_layers": ["layer1", "layer2", "layer3"]}

    def length(self, benchmark: Benchmark) -> tuple[int, int]:
        return 5001, 50 if benchmark.name == "VLCS" else 100


class TransferLearningLibrary(Protocol):
    """That of Transfer-Learning-Library's scripts for domain generalization, from which the paper's most rows come.

    SGD with Nesterov momentum 0.9 on a cosine over 20 epochs of 500 steps, an evaluation after each; 36 images a step
    without replacement, 12 of each of 3 environments, or for ERM with MixStyle 18 of each of 2, which mix with each
    other, or for ERM without it of all together; batch norm frozen on PACS alone, with dropout 0.1; images resized
    bicubically in evaluation; all of the environment left out is tested on.
    """

    name = "tllib"
    searches = False
    optimizer = "SGD"
    has_schedule = True
    balances = False
    keeps_order = False
    images_per_step = 36

    def hparams(self, algorithm: str, dataset: str) -> dict[str, Any]:
        pacs = dataset == "PACS"
        layers = ["layer1", "layer2", "layer3"] if pacs else ["layer1", "layer2"]
        lr = 1e-3 if split_name(algorithm)[0] == "ERM" else 5e-4
        own: dict[str, Any] = {"optimizer": "sgd", "lr": lr, "weight_decay": 5e-4, "mixstyle_mix": "crossdomain"}
        own |= {"batch_size": self.images_per_step // (self.environments_per_step(algorithm) or 3)}
        own |= {"freeze_bn": pacs, "resnet_dropout": 0.1 if pacs else 0.0, "val_augment": False}
        return own | {"mmd_gamma": 1.0, "irm_lambda": 1.0, "vrex_lambda": 3.0, "mixstyle_layers": layers}

    def length(self, benchmark: Benchmark) -> tuple[int, int]:
        return 20 * 500, 500

    def is_checkpoint(self, step: int, checkpoint_freq: int) -> bool:
        return (step + 1) % checkpoint_freq == 0

    def splits(
        self, sizes: Sequence[int], holdout_fraction: float, trial_seed: int, test_envs: Sequence[int]
    ) -> list[Split]:
        from dg_batchformer.data.splits import split_with_one_seed

        return split_with_one_seed(sizes, holdout_fraction, trial_seed, test_envs)

    def steps(self, training: Training, algorithm: str, hparams: Mapping[str, Any]) -> Iterator[Step]:
        from dg_batchformer.data.batches import pooled, without_replacement

        n_environments = self.environments_per_step(algorithm)
        if n_environments:
            return without_replacement(training, n_environments)
        return pooled(training, 3 * training.batch_size)

    def environments_per_step(self, algorithm: str) -> int:
        """How many environments a minibatch comes from; 0: from all together, as for what does not look at them."""
        objective, modifiers = split_name(algorithm)
        if objective != "ERM":
            return 3
        return 2 if "MixStyle" in modifiers else 0

    def prepared(self, dataset: Dataset) -> Dataset:
        return dataclasses.replace(dataset, interpolation="bicubic")

    def learning_rate(self, step: int, steps: int) -> float:
        return (1 + math.cos(math.pi * step / steps)) / 2


PROTOCOLS: dict[str, Protocol] = {
    one.name: one for one in (Protocol(), DomainBedPaper(), Swad(), TransferLearningLibrary())
}


def find_protocol(name: str, hparams_seed: int = 0) -> Protocol:
    """The protocol called `name`; InputError also where it has no random search, of which `hparams_seed` is a row."""
    if name not in PROTOCOLS:
        raise InputError(unknown("protocol", name, PROTOCOLS))
    if hparams_seed and not PROTOCOLS[name].searches:
        raise InputError(
            f"protocol {name} has fixed hyper-parameters and no search: expected hparams_seed 0 (--n_hparams 1); "
            "--hparams replaces single ones"
        )
    return PROTOCOLS[name]
