"""DomainBed's three ways to choose hyper-parameters and a checkpoint, as pure functions over runs.

Each takes the finished runs of one algorithm in one trial that leave environment `env` out, alone (`singles`) or
with another (`pairs`), and returns what it chooses. The reported accuracy is always that on `env`'s in-split. Ties
fall as in DomainBed: to the earliest checkpoint, and to the highest hparams_seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dg_batchformer.selection.runs import Run


@dataclass(frozen=True)
class Choice:
    """A chosen run and checkpoint: its accuracy on the left-out environment and the value it was chosen by."""

    accuracy: float
    validation: float
    hparams_seed: int
    step: int


Method = Callable[[Sequence[Run], Sequence[Run], int], Choice | None]


def training_domain(singles: Sequence[Run], pairs: Sequence[Run], env: int) -> Choice | None:
    """The checkpoint of the highest mean accuracy on the training environments' out-splits."""
    choices = []
    for run in singles:
        others = [f"env{i}_out_acc" for i in range(run.n_environments) if i != env]
        scored = [(float(np.mean([record[name] for name in others])), record) for record in run.records]
        validation, record = max(scored, key=lambda pair: pair[0])
        choices.append(Choice(record[f"env{env}_in_acc"], validation, run.key.hparams_seed, record["step"]))
    return best(choices)


def leave_one_domain_out(singles: Sequence[Run], pairs: Sequence[Run], env: int) -> Choice | None:
    """The checkpoint whose runs with one environment more left out do best on that environment, on average.

    Needs, for the same hyper-parameters and step, a run that leaves out `env` and e for every other e.
    """
    choices = []
    for run in singles:
        others = [i for i in range(run.n_environments) if i != env]
        by_env = {
            next(i for i in pair.key.test_envs if i != env): {record["step"]: record for record in pair.records}
            for pair in pairs
            if pair.key.hparams_seed == run.key.hparams_seed
        }
        if any(e not in by_env for e in others):
            continue
        scored = [
            (
                float(np.sum([by_env[e][record["step"]][f"env{e}_in_acc"] for e in others])) / len(others),
                record,
            )
            for record in run.records
            if all(record["step"] in by_env[e] for e in others)
        ]
        if scored:
            validation, record = max(scored, key=lambda pair: pair[0])
            choices.append(Choice(record[f"env{env}_in_acc"], validation, run.key.hparams_seed, record["step"]))
    return best(choices)


def oracle(singles: Sequence[Run], pairs: Sequence[Run], env: int) -> Choice | None:
    """The last checkpoint of the run with the highest accuracy on the left-out environment's own out-split."""
    choices = []
    for run in singles:
        last = run.records[-1]
        choices.append(Choice(last[f"env{env}_in_acc"], last[f"env{env}_out_acc"], run.key.hparams_seed, last["step"]))
    return best(choices)


def best(choices: Sequence[Choice]) -> Choice | None:
    """The choice of the highest validation value, the highest hparams_seed among equals."""
    return max(choices, key=lambda choice: (choice.validation, choice.hparams_seed), default=None)


METHODS: dict[str, Method] = {
    "training-domain": training_domain,
    "leave-one-domain-out": leave_one_domain_out,
    "oracle": oracle,
}

TITLES = {
    "training-domain": "training-domain validation",
    "leave-one-domain-out": "leave-one-domain-out cross-validation",
    "oracle": "oracle (chosen on the test environment itself: not a fair number)",
}
