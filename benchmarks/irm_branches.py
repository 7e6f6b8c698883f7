"""The gradients of IRM in the two branches of BatchFormer: python benchmarks/irm_branches.py [DATA_DIR]

Each environment is left out in three trials, by IRM, IRM_BatchFormer and IRM_BatchFormer with penalties by branch, with
weight 100 from step 100 of 1,001 on. From then on, for each training environment and step, it notes the gradient of the
cross-entropy with respect to a scale on the logits, for z and for h. It prints the mean square of that gradient for z
alone and for both together, the share of opposite signs, and the correlation of the two branches. Without DATA_DIR on
RotatedDigits; with it on PACS with features of a frozen network (needs dg-batchformer[offline]), as in results/.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dg_batchformer.runs import resolve
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.training.setup import Setup, load_data

STEPS, ANNEALED, TRIALS = 1001, 100, 3
FROZEN = {"backbone": "timm:tf_efficientnet_lite0", "weights": "offline", "freeze_backbone": True, "lr": 0.001}


def slope(logits: Tensor, labels: Tensor) -> float:
    """The gradient of the cross-entropy with respect to a scale of 1 on the logits (n, K), in closed form."""
    mean = (torch.softmax(logits, 1) * logits).sum(1)
    return float((mean - logits.gather(1, labels[:, None])[:, 0]).mean())


def slopes(arguments: RunArguments, dataset: Any) -> list[tuple[float, float]]:
    """For each step after annealing and each training environment, the gradients in z and in h (without it, in z)."""
    setup = Setup.from_run(resolve(arguments), dataset)
    algorithm, found = setup.algorithm, []
    objective, branches = algorithm.objective, 2 if "BatchFormer" in arguments.algorithm else 1

    def watched(features: list[Tensor], labels: list[Tensor]) -> dict[str, Tensor]:
        if algorithm.n_updates >= ANNEALED:
            with torch.no_grad():
                for own, y in zip(features, labels, strict=True):
                    of = [
                        slope(*one)
                        for one in zip(algorithm.classifier(own).chunk(branches), y.chunk(branches), strict=True)
                    ]
                    found.append((of[0], of[-1]))
        return objective(features, labels)

    algorithm.objective = watched
    for _, minibatches in zip(range(STEPS), setup.minibatches(), strict=False):
        algorithm.update(minibatches)
    return found


def main() -> None:
    """Prints a line for each kind."""
    data_dir = sys.argv[1] if len(sys.argv) > 1 else None
    given: dict[str, Any] = {"dataset": "PACS" if data_dir else "RotatedDigits", "data_dir": data_dir}
    hparams = {**(FROZEN if data_dir else {}), "irm_penalty_anneal_iters": ANNEALED, "irm_lambda": 100.0}
    first = RunArguments(**given, algorithm="IRM", test_envs=[0])
    dataset = load_data(first)
    kinds = (("IRM", {}), ("IRM_BatchFormer", {}), ("IRM_BatchFormer", {"batchformer_penalty": "separate"}))
    for algorithm, more in kinds:
        pairs = np.array(
            [
                pair
                for env in range(4)
                for trial in range(TRIALS)
                for pair in slopes(
                    RunArguments(
                        **given,
                        algorithm=algorithm,
                        test_envs=[env],
                        trial_seed=trial,
                        seed=trial,
                        hparams=json.dumps(hparams | more),
                    ),
                    dataset,
                )
            ]
        )
        z, h = pairs.T
        print(f"{algorithm} {more or ''}: mean square of the gradient in z {np.square(z).mean():.4f}", end="")
        if "BatchFormer" in algorithm:
            print(
                f", of the mean of both {np.square((z + h) / 2).mean():.4f}, opposite signs {np.mean(z * h < 0):.0%}, "
                f"correlation {np.corrcoef(z, h)[0, 1]:.2f}",
                end="",
            )
        print(flush=True)


if __name__ == "__main__":
    main()
