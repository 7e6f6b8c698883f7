"""The BatchFormer module: samples of a batch attend to each other in training."""

from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn

from dg_batchformer.errors import InputError

PREFIX = "batchformer."
"""The prefix of BatchFormer's parameters in the `state_dict` of an algorithm."""

Named = TypeVar("Named")


class BatchFormer(nn.Module):
    """Transformer encoder over the batch axis (Hou et al., CVPR 2022, https://arxiv.org/abs/2203.01522).

    The batch is the sequence: `num_layers` standard post-norm encoder layers of width C, feed-forward width C
    and ReLU let each of the N samples attend to all N.

    Args:
        dim: C, the width of the features; a multiple of `num_heads`.
        num_layers: encoder layers, at least 1.
        num_heads: attention heads, at least 1.
        dropout: probability in [0, 1), in the attention and in the feed-forward part.

    Shape: input (N, C) with N >= 2, output (N, C).

    Raises InputError (a ValueError) for arguments out of these ranges and for inputs of another shape.
    """

    def __init__(self, dim: int, num_layers: int = 1, num_heads: int = 4, dropout: float = 0.5) -> None:
        super().__init__()
        if num_layers < 1:
            raise InputError(f"num_layers is {num_layers}: expected at least 1")
        if num_heads < 1:
            raise InputError(f"num_heads is {num_heads}: expected at least 1")
        if dim < 1 or dim % num_heads:
            raise InputError(f"dim is {dim}: expected a positive multiple of num_heads, which is {num_heads}")
        if not 0 <= dropout < 1:
            raise InputError(f"dropout is {dropout}: expected a probability in [0, 1)")
        self.dim = dim
        self.layers = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(dim, num_heads, dim_feedforward=dim, dropout=dropout)
                for _ in range(num_layers)
            )
        )

    def forward(self, features: Tensor) -> Tensor:
        if features.ndim != 2 or features.shape[1] != self.dim:
            raise InputError(f"features have shape {tuple(features.shape)}: expected (N, {self.dim})")
        if len(features) < 2:
            raise InputError(
                f"features have {len(features)} sample(s): expected at least 2, "
                "since BatchFormer attends between the samples of a batch; use a larger batch_size"
            )
        # (N, 1, C): N is the sequence, and there is one sequence.
        return self.layers(features.unsqueeze(1)).squeeze(1)


def without_batchformer(named: Iterable[tuple[str, Named]]) -> dict[str, Named]:
    """The named parameters or state that inference needs: all except BatchFormer's."""
    return {name: value for name, value in named if not name.startswith(PREFIX)}


def attend(module: nn.Module, features: list[Tensor], scope: str) -> list[Tensor]:
    """Features after BatchFormer, a tensor (n_d, C) for each environment d, from the features before it.

    `scope` "all": the samples of all environments of the step form one sequence; "environment": each
    environment is a sequence.
    """
    if scope == "environment":
        return [module(one) for one in features]
    return list(torch.split(module(torch.cat(features)), [len(one) for one in features]))
