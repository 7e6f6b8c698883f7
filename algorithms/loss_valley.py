"""SWAD's averages: of the weights between two checkpoints, and of those over the valley of the validation loss."""

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_swa_multi_avg_fn


def moved(weights: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Named weights on a device."""
    return {name: weight.to(device) for name, weight in weights.items()}


class Average:
    """Running mean of named weights; empty until the first `add`."""

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] = {}
        self.n = 0

    def state(self) -> dict[str, Any]:
        """The mean and how many it is of."""
        return {"weights": self.weights, "n": self.n}

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Takes in what `state` gave."""
        self.weights, self.n = moved(state["weights"], device), state["n"]

    @torch.no_grad()
    def add(self, weights: dict[str, Tensor]) -> None:
        if self.n == 0:
            self.weights = {name: weight.detach().clone() for name, weight in weights.items()}
        else:
            # All weights in few kernels.
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

    The valley begins where a segment's loss is the lowest of the `n_converge` that begin with it, and ends where
    `n_tolerance` losses in a row are above (1 + `tolerance_ratio`) times their mean at that point. As in the authors'
    code, segments that enter the average when the valley is found enter it once more when they become the oldest of
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
        """Takes in the next segment."""
        if self.dead:
            return
        self.converging.append(segment)
        self.smoothing.append(segment)
        if self.lowest is None:
            self._look_for_valley()
        elif self.smoothing[0].end < self.lowest.end:
            # A segment enters the average when it is the oldest of those that smooth the loss; these came before.
            return
        elif self._left(self.smoothing):
            self.dead = True
        else:
            self._keep(self.smoothing[0])

    def result(self) -> tuple[dict[str, Tensor], tuple[int, int] | None]:
        """Final weights and the window of steps they cover; without a valley the last segment's and None."""
        if self.lowest is None:
            return self.converging[-1].weights, None
        rest = deque() if self.dead else deque(list(self.smoothing)[1:])
        while rest and not self._left(rest):
            self._keep(rest.popleft())
        if self.average.n == 0:
            self._keep(self.lowest)
        return self.average.weights, (self.start, self.end)

    def state(self) -> dict[str, Any]:
        """All that was gathered, each segment once."""
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
        """Takes in what `state` gave."""
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
            # The authors' average starts with an empty model at `first` and takes in those after it.
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
