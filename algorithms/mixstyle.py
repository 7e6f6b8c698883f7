"""MixStyle as a modifier: it changes the features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dg_batchformer.data.batches import Minibatches
from dg_batchformer.data.environments import sent
from dg_batchformer.errors import InputError
from dg_batchformer.hparams import Hyperparameter, settings
from dg_batchformer.registry import register_modifier

from .adapter import adapted
from .adapter.dry_run import dry_run
from .erm import ByEnvironment

HYPERPARAMETERS = (
    Hyperparameter("mixstyle_layers", ["layer1", "layer2"]),
    Hyperparameter("mixstyle_p", 0.5, minimum=0, maximum=1),
    Hyperparameter("mixstyle_alpha", 0.1, minimum=1e-3),
    Hyperparameter("mixstyle_mix", "random", choices=("random", "crossdomain")),
)


def mix_styles(maps: Tensor, partners: Tensor, weights: Tensor, eps: float = 1e-6) -> Tensor:
    """Maps with a mixture of their style and a partner's style.

    The style is the mean and the standard deviation of each channel over the map, without gradient; `weights` is the
    share of the map's style.

    Shape: maps (N, C, H, W), partners (N,) indices, weights (N,); result (N, C, H, W).
    """
    mean = maps.mean(dim=(2, 3), keepdim=True).detach()
    deviation = (maps.var(dim=(2, 3), keepdim=True) + eps).sqrt().detach()
    own = weights.view(-1, 1, 1, 1)
    mixed_mean = own * mean + (1 - own) * mean[partners]
    mixed_deviation = own * deviation + (1 - own) * deviation[partners]
    return (maps - mean) / deviation * mixed_deviation + mixed_mean


def cross_domain_partners(sizes: Sequence[int]) -> Tensor:
    """For each sample of a batch sorted by environment, the index of a sample of another environment.

    The environments are shifted by a random number of places, and each takes the samples of its partner environment in
    random order (repeated if the partner is smaller). With two environments of equal size this is the authors' swap of
    halves.
    """
    starts = [sum(sizes[:d]) for d in range(len(sizes))]
    shift = int(torch.randint(1, len(sizes), ()))
    partners = []
    for d, size in enumerate(sizes):
        other = (d + shift) % len(sizes)
        order = torch.randperm(sizes[other])
        partners.append(starts[other] + order[torch.arange(size) % sizes[other]])
    return torch.cat(partners)


class StyleMixer:
    """Forward hook that mixes the styles of a stage's output in training, with probability `p` for each call.

    All random numbers come from torch's generator.
    """

    def __init__(self, p: float, alpha: float, mix: str) -> None:
        self.p, self.alpha, self.mix = p, alpha, mix
        self.sizes: list[int] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> StyleMixer:
        """A copy of the network shares the environments."""
        return self

    @contextmanager
    def over(self, minibatches: Minibatches) -> Iterator[None]:
        """Sets the sizes of the environments in the batch during the context."""
        self.sizes = [len(x) for x, _ in minibatches]
        try:
            yield
        finally:
            self.sizes = []

    def partners(self, n: int) -> Tensor:
        if self.mix == "random":
            return torch.randperm(n)
        if len(self.sizes) < 2 or n != sum(self.sizes):
            raise InputError(
                f"hparam 'mixstyle_mix' is 'crossdomain', but {n} samples came through the featurizer at once for "
                f"environments of {self.sizes}: expected those of at least 2 environments together; use 'random'"
            )
        return cross_domain_partners(self.sizes)

    def __call__(self, stage: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        if not stage.training or torch.rand(()) >= self.p:
            return output
        if output.ndim != 4:
            raise InputError(f"a MixStyle layer gives {tuple(output.shape)}: expected maps (N, C, H, W)")
        # No check of values and no copy, which would wait for the GPU.
        concentration = torch.full((), self.alpha, device=output.device)
        beta = torch.distributions.Beta(concentration, concentration, validate_args=False)
        weights = beta.sample((len(output),)).to(output.dtype)
        return mix_styles(output, sent(self.partners(len(output)), output.device), weights)


def stages_of(featurizer: nn.Module) -> dict[str, nn.Module]:
    """Modules that MixStyle can follow: the featurizer's `stages`, else any of its modules by last name."""
    own: dict[str, nn.Module] | None = getattr(featurizer, "stages", None)
    if own is not None:
        return own
    if type(featurizer).__name__ == "MNIST_CNN":  # DomainBed's CNN: ours has names for the stages
        return {f"layer{i + 1}": featurizer.get_submodule(f"bn{i}") for i in range(4)}
    found: dict[str, nn.Module] = {}
    for path, module in list(featurizer.named_modules())[1:]:
        found.setdefault(path.rpartition(".")[2], module)
    return found


@register_modifier("MixStyle", HYPERPARAMETERS)
def with_mixstyle(cls: Any) -> Any:
    """The algorithm `cls` with MixStyle (Zhou et al., ICLR 2021, https://arxiv.org/abs/2104.02008).

    After each stage in `mixstyle_layers`, with probability `mixstyle_p`, every sample gets a mixture of its style and a
    partner's, with shares from Beta(`mixstyle_alpha`, `mixstyle_alpha`). The partners are a random permutation of the
    batch (`mixstyle_mix` "random"), or samples of another environment ("crossdomain"). Off in evaluation; any batch
    size. All environments pass the featurizer together, even if the algorithm takes them one by one.

    Args:
        cls: an algorithm class that `with_batchformer` accepts, whose `featurizer` has stages with outputs
            (N, C, H, W). The constructor raises an InputError for another one.
    """
    cls = adapted(cls, "MixStyle")

    class WithMixStyle(cls):
        def __init__(self, input_shape: Any, num_classes: int, num_domains: int, hparams: Any, **more: Any) -> None:
            own = settings(hparams, HYPERPARAMETERS)
            super().__init__(input_shape, num_classes, num_domains, hparams, **more)
            stages, layers = stages_of(self.featurizer), own["mixstyle_layers"]
            if not layers or not set(layers) <= stages.keys():
                raise InputError(
                    f"hparam 'mixstyle_layers' is {layers}: expected some of {', '.join(stages) or 'no stage'}, "
                    f"the stages of {type(self.featurizer).__name__} that give maps"
                )
            self.style_mixer = StyleMixer(own["mixstyle_p"], own["mixstyle_alpha"], own["mixstyle_mix"])
            for layer in layers:
                stages[layer].register_forward_hook(self.style_mixer)
            dry_run(self, WithMixStyle)

        def features_by_environment(self, featurizer: nn.Module, minibatches: Minibatches) -> list[Tensor]:
            with self.style_mixer.over(minibatches):
                return ByEnvironment.features_by_environment(self, featurizer, minibatches)

    return WithMixStyle
