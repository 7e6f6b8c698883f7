"""SWAD as a modifier: which weights are kept."""

import logging
import math
from collections import deque
from typing import Any

import torch
from torch import Tensor

from dg_batchformer.backbones import batch_norms
from dg_batchformer.batchformer import without_batchformer
from dg_batchformer.data.batches import Minibatches
from dg_batchformer.errors import InputError
from dg_batchformer.hparams import Hyperparameter, settings
from dg_batchformer.networks import has_free_batch_norm
from dg_batchformer.registry import register_modifier

from .loss_valley import Average, LossValley, Segment

HYPERPARAMETERS = (
    Hyperparameter("swad_n_converge", 3, minimum=1),
    Hyperparameter("swad_n_tolerance", 6, minimum=1),
    Hyperparameter("swad_tolerance_ratio", 0.3, minimum=0),
)

BATCH_NORM_STEPS = 10
"""Steps whose inputs re-estimate batch-norm statistics at the end, about a thousand images."""

logger = logging.getLogger(__name__)


@torch.no_grad()
def reestimate_batch_norm(algorithm: Any, inputs: list[Tensor]) -> None:
    """Sets the running statistics of free batch norm to those of `inputs` under the present weights."""
    norms: list[Any] = [norm for norm in batch_norms(algorithm) if norm.training]
    momenta = [norm.momentum for norm in norms]
    algorithm.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all inputs
        norm.train()
    for x in inputs:
        algorithm.predict(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    algorithm.train()


@register_modifier("SWAD", HYPERPARAMETERS)
def with_swad(cls: Any) -> Any:
    """The algorithm `cls` with SWAD (Cha et al., NeurIPS 2021, https://arxiv.org/abs/2102.08604).

    The weights of every step are averaged over segments between checkpoints, and the segments over the valley of
    the validation loss; only the weights that inference needs, not BatchFormer's. The trainer calls
    `on_validation(step, loss)` at each checkpoint and `finish()` after the last step, which leaves the averaged
    weights in the algorithm. hparams: `swad_n_converge`, `swad_n_tolerance`, `swad_tolerance_ratio`.

    `swad_window` is None until `finish()`, then (start step, end step) of the valley; without a
    valley it stays None, the last segment is kept, and the log reports it. Where batch norm is free its statistics are
    re-estimated at the end from the inputs of the last steps.
    """

    class WithSWAD(cls):
        def __init__(self, input_shape: Any, num_classes: int, num_domains: int, hparams: Any) -> None:
            valley = LossValley(*settings(hparams, HYPERPARAMETERS).values())
            super().__init__(input_shape, num_classes, num_domains, hparams)
            self.swad_window: tuple[int, int] | None = None
            self._valley = valley
            self._segment = Average()
            self._segment_start = 0
            self._recent_inputs: deque[Tensor] = deque(maxlen=BATCH_NORM_STEPS)

        def update(self, minibatches: Minibatches, unlabeled: Any = None) -> dict[str, float]:
            values = super().update(minibatches, unlabeled)
            if not self._valley.dead:
                self._segment.add(without_batchformer(self.named_parameters()))
            self.observe(minibatches)
            return values

        @property
        def remembers(self) -> int:
            """How many steps' inputs are kept; a resumed run gives them to `observe` again."""
            return BATCH_NORM_STEPS if has_free_batch_norm(self) else 0

        def observe(self, minibatches: Minibatches) -> None:
            """Keeps the inputs of a step where batch norm needs them at the end."""
            if self.remembers:
                self._recent_inputs.append(torch.cat([x for x, _ in minibatches]))

        def resume_state(self) -> dict[str, Any]:
            """What SWAD has gathered, as tensors and plain values."""
            return {"valley": self._valley.state(), "segment": self._segment.state()}

        def resume_from(self, state: dict[str, Any]) -> None:
            """Takes in what `resume_state` gave."""
            device = next(self.parameters()).device
            self._valley.restore(state["valley"], device)
            self._segment.restore(state["segment"], device)

        @property
        def awaits_validation(self) -> bool:
            """Whether weights were gathered for which no validation loss has come yet."""
            return self._segment.n > 0

        def on_validation(self, step: int, loss: float) -> None:
            """Ends a segment at a checkpoint; `loss` is the current weights' on the training out-splits."""
            if not math.isfinite(loss):
                raise InputError(f"the validation loss at step {step} is {loss}: expected a finite number")
            if self._segment.n:
                self._valley.add(Segment(self._segment.weights, self._segment_start, step, loss))
            self._segment, self._segment_start = Average(), step + 1

        def finish(self) -> None:
            """Puts the averaged weights in place of the last step's."""
            if not self._valley.converging:
                raise InputError(
                    "SWAD has seen no validation loss: expected on_validation(step, loss) at each checkpoint "
                    "before finish()"
                )
            weights, self.swad_window = self._valley.result()
            if self.swad_window:
                logger.info("SWAD averaged steps %d to %d", *self.swad_window)
            else:
                last = self._valley.converging[-1]
                logger.warning(
                    "SWAD found no valley of the validation loss: keeping the last segment, steps %d to %d",
                    last.start,
                    last.end,
                )
            with torch.no_grad():
                for name, parameter in without_batchformer(self.named_parameters()).items():
                    parameter.copy_(weights[name])
            if self._recent_inputs:
                reestimate_batch_norm(self, list(self._recent_inputs))

    return WithSWAD
