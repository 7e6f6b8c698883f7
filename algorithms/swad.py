"""SWAD as a modifier: it changes the final weights."""

import logging
import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_swa_multi_avg_fn

from dg_batchformer.backbones import batch_norms
from dg_batchformer.batchformer import without_batchformer
from dg_batchformer.contracts import contract_of
from dg_batchformer.data.batches import Minibatches
from dg_batchformer.errors import InputError
from dg_batchformer.hparams import Hyperparameter, settings
from dg_batchformer.networks import has_free_batch_norm
from dg_batchformer.registry import register_modifier


def moved(weights: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Named weights on a device."""
    return {name: weight.to(device) for name, weight in weights.items()}


class Average:
    """Running mean of named weights; empty until the first `add`."""

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] = {}
        self.n = 0

    def state(self) -> dict[str, Any]:
        """The mean and the number of weights in it."""
        return {"weights": self.weights, "n": self.n}

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Restores a `state`."""
        self.weights, self.n = moved(state["weights"], device), state["n"]

    @torch.no_grad()
    def add(self, weights: dict[str, Tensor]) -> None:
        if self.n == 0:
            self.weights = {name: weight.detach().clone() for name, weight in weights.items()}
        else:
            # All weights in a few kernels.
            get_swa_multi_avg_fn()(list(self.weights.values()), list(weights.values()), self.n)
        self.n += 1


@dataclass(frozen=True)
class Segment:
    """Mean weights over the steps `start` to `end` between two checkpoints, and the validation loss at `end`."""

    weights: dict[str, Tensor]
    start: int
    end: int
    loss: float


class LossValley:
    """Finds the valley of the validation loss and averages its segments, as the authors' LossValley does.

    The valley begins where the loss of a segment is the lowest of the next `n_converge`, and ends where
    `n_tolerance` consecutive losses are above (1 + `tolerance_ratio`) times their mean at that point. As in their code,
    segments that enter the average when the valley is found enter it once more when they become the oldest of
    the last `n_tolerance`. The window is that of the segments in the average; where the first enters at the very end,
    the authors' log begins it at that segment's last step. Both counts are at least 1, the ratio at least 0.
    """

    def __init__(self, n_converge: int, n_tolerance: int, tolerance_ratio: float) -> None:
        self.tolerance_ratio = tolerance_ratio
        self.converging: deque[Segment] = deque(maxlen=n_converge)
        self.smoothing: deque[Segment] = deque(maxlen=n_tolerance)
        self.average = Average()
        self.start = self.end = -1
        self.lowest: Segment | None = None
        self.threshold = math.inf
        self.dead = False

    def add(self, segment: Segment) -> None:
        """Adds the next segment."""
        if self.dead:
            return
        self.converging.append(segment)
        self.smoothing.append(segment)
        if self.lowest is None:
            self._look_for_valley()
        elif self.smoothing[0].end < self.lowest.end:
            # A segment enters the average when it is the oldest of those that smooth the loss.
            return
        elif self._left(self.smoothing):
            self.dead = True
        else:
            self._keep(self.smoothing[0])

    def result(self) -> tuple[dict[str, Tensor], tuple[int, int] | None]:
        """Final weights and their window of steps; without a valley those of the last segment, and None."""
        if self.lowest is None:
            return self.converging[-1].weights, None
        rest = deque() if self.dead else deque(list(self.smoothing)[1:])
        while rest and not self._left(rest):
            self._keep(rest.popleft())
        if self.average.n == 0:
            self._keep(self.lowest)
        return self.average.weights, (self.start, self.end)

    def state(self) -> dict[str, Any]:
        """All collected segments, each once."""
        segments = list({id(one): one for one in [*self.converging, *self.smoothing, *self._lowest()]}.values())
        places = {id(one): place for place, one in enumerate(segments)}
        return {
            "segments": [vars(one) for one in segments],
            **{name: [places[id(one)] for one in getattr(self, name)] for name in ("converging", "smoothing")},
            "lowest": [places[id(one)] for one in self._lowest()],
            "average": self.average.state(),
            **{name: getattr(self, name) for name in ("start", "end", "threshold", "dead")},
        }

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Restores a `state`."""
        segments = [Segment(**{**one, "weights": moved(one["weights"], device)}) for one in state["segments"]]
        for name in ("converging", "smoothing"):
            queue: deque[Segment] = getattr(self, name)
            queue.clear()
            queue.extend(segments[place] for place in state[name])
        self.lowest = next((segments[place] for place in state["lowest"]), None)
        self.average.restore(state["average"], device)
        for name in ("start", "end", "threshold", "dead"):
            setattr(self, name, state[name])

    def _lowest(self) -> list[Segment]:
        return [self.lowest] if self.lowest else []

    def _look_for_valley(self) -> None:
        n_converge, n_tolerance = self.converging.maxlen or 0, self.smoothing.maxlen or 0
        losses = [segment.loss for segment in self.converging]
        if len(losses) < n_converge or losses[0] > min(losses):
            return
        self.lowest = self.converging[0]
        self.threshold = sum(losses) / len(losses) * (1 + self.tolerance_ratio)
        if n_tolerance < n_converge:
            keep = list(self.converging)[1 : 1 + n_converge - n_tolerance]
        elif n_tolerance > n_converge:
            before = list(self.smoothing)[: n_tolerance - n_converge + 1]
            above = [i for i, segment in enumerate(before) if segment.loss > self.threshold]
            first = above[-1] + 1 if above else 0
            # The authors' average starts with an empty model at `first` and adds the following ones.
            keep = before[first + 1 :]
        else:
            keep = []
        for segment in keep:
            self._keep(segment)

    def _left(self, segments: deque[Segment]) -> bool:
        return min(segment.loss for segment in segments) > self.threshold

    def _keep(self, segment: Segment) -> None:
        if self.average.n == 0:
            self.start = segment.start
        self.end = segment.end
        self.average.add(segment.weights)


HYPERPARAMETERS = (
    Hyperparameter("swad_n_converge", 3, minimum=1),
    Hyperparameter("swad_n_tolerance", 6, minimum=1),
    Hyperparameter("swad_tolerance_ratio", 0.3, minimum=0),
)

BATCH_NORM_STEPS = 10
"""The number of steps whose inputs re-estimate batch-norm statistics at the end, about a thousand images."""

logger = logging.getLogger(__name__)


@torch.no_grad()
def reestimate_batch_norm(algorithm: Any, inputs: list[Tensor]) -> None:
    """Sets the running statistics of batch norm that is not frozen to those of `inputs` under the current weights."""
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

    The weights of every step are averaged over segments between checkpoints, and the segments over the valley of the
    validation loss; only weights that inference needs, not BatchFormer's. The trainer calls `on_validation(step, loss)`
    at each checkpoint and `finish()` after the last step, which puts the averaged weights into the algorithm. hparams:
    `swad_n_converge`, `swad_n_tolerance`, `swad_tolerance_ratio`.

    `swad_window` is None until `finish()`, then (start step, end step) of the valley; without a valley it stays None,
    the last segment is kept, and the log reports it. If batch norm is not frozen its statistics are re-estimated at the
    end from the inputs of the last steps.
    """

    contract = contract_of(cls)

    class WithSWAD(cls):
        def __init__(self, input_shape: Any, num_classes: int, num_domains: int, hparams: Any, **more: Any) -> None:
            valley = LossValley(*settings(hparams, HYPERPARAMETERS).values())
            super().__init__(input_shape, num_classes, num_domains, hparams, **more)
            self.swad_window: tuple[int, int] | None = None
            self._valley = valley
            self._segment = Average()
            self._segment_start = 0
            self._recent_inputs: deque[Tensor] = deque(maxlen=BATCH_NORM_STEPS)
            self._names = tuple(without_batchformer(self.named_parameters()))

        def update(self, *given: Any, **named: Any) -> dict[str, float]:
            values: dict[str, float] = super().update(*given, **named)
            if not self._valley.dead:
                self._segment.add(self._averaged())
            self.observe(contract.minibatches(given, named))
            return values

        def _averaged(self) -> dict[str, Tensor]:
            """The weights of inference: those of the construction. Some algorithms later add networks for training."""
            named = dict(self.named_parameters())
            return {name: named[name] for name in self._names}

        @property
        def remembers(self) -> int:
            """The number of steps whose inputs are kept; a resumed run gives them to `observe` again."""
            return BATCH_NORM_STEPS if has_free_batch_norm(self) else 0

        def observe(self, minibatches: Minibatches) -> None:
            """Keeps the inputs of a step if batch norm needs them at the end."""
            if self.remembers:
                self._recent_inputs.append(torch.cat([x for x, _ in minibatches]))

        def resume_state(self) -> dict[str, Any]:
            """The collected segments as tensors and plain values."""
            return {"valley": self._valley.state(), "segment": self._segment.state()}

        def resume_from(self, state: dict[str, Any]) -> None:
            """Restores a `resume_state`."""
            device = next(self.parameters()).device
            self._valley.restore(state["valley"], device)
            self._segment.restore(state["segment"], device)

        @property
        def awaits_validation(self) -> bool:
            """Whether there are weights without a validation loss yet."""
            return self._segment.n > 0

        def on_validation(self, step: int, loss: float) -> None:
            """Ends a segment at a checkpoint; `loss` is that of the current weights on the training out-splits."""
            if not math.isfinite(loss):
                raise InputError(f"the validation loss at step {step} is {loss}: expected a finite number")
            if self._segment.n:
                self._valley.add(Segment(self._segment.weights, self._segment_start, step, loss))
            self._segment, self._segment_start = Average(), step + 1

        def finish(self) -> None:
            """Replaces the weights of the last step with the averaged ones."""
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
                for name, parameter in self._averaged().items():
                    parameter.copy_(weights[name])
            if self._recent_inputs:
                reestimate_batch_norm(self, list(self._recent_inputs))

    return WithSWAD
