"""The check of an algorithm on random images: what works, point by point."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from dg_batchformer.contracts import contract_of, update
from dg_batchformer.data.batches import Minibatches
from dg_batchformer.errors import InputError, first_line
from dg_batchformer.registry import MODIFIER_ORDER, compose, default_hparams, get_algorithm_class
from dg_batchformer.training.setup import seed_everything
from dg_batchformer.training.state import RunState

DOMAINS, CLASSES, SAMPLES, STEPS = 3, 7, 8, 3


class Point(NamedTuple):
    """One checked property: whether it holds, and what was seen or what to do."""

    name: str
    holds: bool
    found: str


def check_algorithm(name: str, hparams: dict[str, Any], size: int) -> Iterator[Point]:
    """The points of an algorithm by its name; the first that fails ends them, but for those of modifiers.

    Three environments of random images (3, size, size) with seven classes, and the default hparams with `hparams`.
    """
    cls = get_algorithm_class(name)
    yield Point("signature", True, str(contract_of(cls)))
    one = Checked(cls, hparams, size)
    points = {"trains": one.trains, "predicts": one.predicts, "state_dict": one.keeps_state, "resumes": one.resumes}
    for point, look in points.items():
        yield (seen := tried(point, look))
        if not seen.holds:
            return
    for modifier in MODIFIER_ORDER:
        yield tried(modifier, dataclasses.replace(one, modifier=modifier).trains)


def tried(point: str, look: Callable[[], str]) -> Point:
    """A point whose function returns what was seen, or raises anything."""
    try:
        return Point(point, True, look())
    except InputError as error:
        return Point(point, False, first_line(error))
    except Exception as error:  # an external algorithm may raise anything
        return Point(point, False, f"{type(error).__name__}: {first_line(error)}")


@dataclasses.dataclass(frozen=True)
class Checked:
    """An algorithm under check; its methods return what they saw, or raise an InputError."""

    cls: Any
    hparams: dict[str, Any]
    size: int
    modifier: str | None = None

    def construct(self) -> Any:
        """The algorithm with its initial weights, always the same."""
        seed_everything(0)
        cls = compose(self.cls, self.modifier) if self.modifier else self.cls
        labels = [torch.arange(40) % CLASSES for _ in range(DOMAINS)]
        hparams = {**default_hparams(cls, "RotatedDigits"), **self.hparams}
        return contract_of(cls).construct(cls, ((3, self.size, self.size), CLASSES, DOMAINS), hparams, labels)

    def minibatches(self, step: int) -> Minibatches:
        """Random minibatches, by step."""
        generator = torch.Generator().manual_seed(step)
        shape = SAMPLES, 3, self.size, self.size
        return [(torch.randn(shape, generator=generator), torch.arange(SAMPLES) % CLASSES) for _ in range(DOMAINS)]

    def trained(self, algorithm: Any, first: int = 0, end: int = STEPS) -> Any:
        """The algorithm after some steps."""
        for step in range(first, end):
            values = update(algorithm, self.minibatches(step), step)
            if not values or not all(torch.tensor(float(value)).isfinite() for value in values.values()):
                raise InputError(f"update returned {values}: expected a dict with finite numbers")
        return algorithm

    def trains(self) -> str:
        algorithm = self.construct()
        before = {name: one.detach().clone() for name, one in algorithm.named_parameters()}
        now = dict(self.trained(algorithm).named_parameters())
        moved = [name for name, value in before.items() if not torch.equal(value, now[name])]
        if not moved:
            raise InputError(f"no weight changed in {STEPS} updates: expected an optimizer step in update")
        return f"{len(moved)} of {len(before)} tensors of weights changed in {STEPS} updates"

    @torch.no_grad()
    def logits(self, algorithm: Any) -> Any:
        """Logits of one minibatch; random numbers are always the same."""
        seed_everything(0)
        return algorithm.eval().predict(self.minibatches(0)[0][0])

    @torch.no_grad()
    def predicts(self) -> str:
        with torch.enable_grad():
            algorithm = self.trained(self.construct())
        together = self.logits(algorithm)
        if together.shape != (SAMPLES, CLASSES):
            raise InputError(f"predict gives shape {tuple(together.shape)}: expected (N, num_classes)")
        alone = torch.cat([algorithm.predict(one[None]) for one in self.minibatches(0)[0][0]])
        if not torch.allclose(together, alone, rtol=1e-3, atol=1e-4):
            raise InputError("the prediction for an image is not the same alone and in a batch")
        return "one image as in a batch"

    def keeps_state(self) -> str:
        algorithm, other = self.trained(self.construct()), self.construct()
        state = algorithm.state_dict()
        if changed := sorted(state.keys() ^ other.state_dict().keys()):
            raise InputError(f"after an update the state_dict has other names than before, such as {changed[0]}")
        other.load_state_dict(state)
        if not torch.equal(self.logits(algorithm), self.logits(other)):
            raise InputError("with the loaded state_dict predictions differ: a weight or buffer is not in it")
        return f"{len(state)} entries, loaded by a new instance"

    def resumes(self) -> str:
        whole = self.trained(self.construct(), 0, 2 * STEPS).state_dict()
        state = RunState(self.trained(self.construct())).state_dict()
        resumed = self.construct()
        RunState(resumed).load_state_dict(state)
        now = self.trained(resumed, STEPS, 2 * STEPS).state_dict()
        if different := [name for name, one in now.items() if not torch.equal(one, whole[name])]:
            raise InputError(
                f"a resumed run differs from an uninterrupted one, for example in {different[0]}: keep what an update "
                "needs in buffers or plain attributes, or define resume_state and resume_from"
            )
        return "to the bit"
