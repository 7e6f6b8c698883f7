"""BatchFormer in Transfer-Learning-Library: a pooling layer, its labels, its environments, its learning rate.

This module does not import that library (https://github.com/thuml/Transfer-Learning-Library). In its training scripts
for domain generalization, give `pool_layer=BatchFormerPool(backbone.out_features)` to the `Classifier`, and
`parameter_groups(classifier, lr)` to the optimizer. After the forward pass duplicate the labels and, if the loss has a
term over environments (CORAL, IRM, V-REx), regroup the rows; the code that then chunks by environment does not change:

    y_all, f_all = classifier(x_all)
    labels_all = duplicate_labels(labels_all)
    y_all, f_all, labels_all = (by_environment(rows, n_domains_per_batch) for rows in (y_all, f_all, labels_all))
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dg_batchformer.batchformer import BatchFormer
from dg_batchformer.errors import InputError


class BatchFormerPool(nn.Module):
    """Mean over the map, then BatchFormer (Hou et al., CVPR 2022, https://arxiv.org/abs/2203.01522) while training.

    In training the output is [z ; h], the features z and h = BatchFormer(z); the batch with all its environments is one
    sequence. In evaluation the output is z, without BatchFormer: a plain `Classifier` with the same weights (all whose
    names do not begin with `pool_layer.`) gives the same predictions.

    Args:
        dim: C, the `out_features` of the backbone; a multiple of `num_heads`.
        num_layers, num_heads, dropout: as in `BatchFormer`.

    Shape: input (N, C, height, width), or (N, C) from a backbone that pools its map; output (2N, C) in training (N at
    least 2), and (N, C) in evaluation.

    Raises InputError for invalid arguments of `BatchFormer` and for inputs of another shape.
    """

    def __init__(self, dim: int, num_layers: int = 1, num_heads: int = 4, dropout: float = 0.5) -> None:
        super().__init__()
        self.batchformer = BatchFormer(dim, num_layers, num_heads, dropout)

    def forward(self, maps: Tensor) -> Tensor:
        dim = self.batchformer.dim
        if maps.ndim not in (2, 4) or maps.shape[1] != dim:
            raise InputError(
                f"the backbone gives shape {tuple(maps.shape)}: expected (N, {dim}, height, width) or (N, {dim}); "
                "make BatchFormerPool with the backbone's out_features, and let the backbone end in such a shape"
            )
        features = F.adaptive_avg_pool2d(maps, 1).flatten(1) if maps.ndim == 4 else maps
        if not self.training:
            return features
        return torch.cat([features, self.batchformer(features)])


def duplicate_labels(labels: Tensor) -> Tensor:
    """Labels [y ; y] of the rows [z ; h]. Shape: input (N, ...), output (2N, ...)."""
    return torch.cat([labels, labels])


def by_environment(rows: Tensor, n_domains: int) -> Tensor:
    """Rows [z ; h], or labels [y ; y], reordered so that chunk d of `n_domains` is [z_d ; h_d], or [y_d ; y_d].

    The environments of the batch are contiguous and have equal numbers of samples, as in that library. Without the
    reordering, the rows of two environments chunk into "before BatchFormer" and "after BatchFormer", and a penalty over
    environments compares those. IRM's penalty splits a chunk into even and odd positions: if an environment has an odd
    number of samples, h_d and its labels are rotated by one row, so that z and h of a sample are in the same half.

    Shape: input and output (2N, ...), N a multiple of `n_domains`. Raises InputError for another number of rows.
    """
    if n_domains < 1 or len(rows) < 2 * n_domains or len(rows) % (2 * n_domains):
        raise InputError(
            f"{len(rows)} rows for {n_domains} environments: expected 2N rows, [z ; h] or [y ; y], N a multiple of "
            "n_domains, which is at least 1; give what the classifier returns in training, and the labels after "
            "duplicate_labels, and use a batch size that n_domains divides"
        )
    z, h = rows.unflatten(0, (2, n_domains, -1))
    return torch.stack([z, h.roll(z.shape[1] % 2, 1)], 1).flatten(0, 2)


def parameter_groups(classifier: Any, base_lr: float = 1.0, lr_scale: float = 1.0) -> list[dict[str, Any]]:
    """The groups for the optimizer: those of `classifier.get_parameters(base_lr)`, then BatchFormer's.

    `get_parameters` has backbone, bottleneck and head, but not `pool_layer`: with it alone BatchFormer keeps its random
    initial weights, as in the authors' released scripts.

    Args:
        classifier: a `Classifier` whose `pool_layer` is a `BatchFormerPool`.
        base_lr: learning rate of bottleneck and head; the backbone's is a tenth of it with `finetune`.
        lr_scale: BatchFormer's learning rate as a multiple of `base_lr`, at least 0.

    Raises InputError for another classifier or a negative `lr_scale`.
    """
    pool = getattr(classifier, "pool_layer", None)
    if not isinstance(pool, BatchFormerPool):
        raise InputError(
            f"{type(classifier).__name__} has {type(pool).__name__} as pool_layer: expected BatchFormerPool; "
            "construct it with pool_layer=BatchFormerPool(backbone.out_features)"
        )
    if lr_scale < 0:
        raise InputError(f"lr_scale is {lr_scale}: expected at least 0; 1 trains BatchFormer at base_lr")
    # Lists, because `get_parameters` returns generators, which can be read only once.
    own = [{**group, "params": list(group["params"])} for group in classifier.get_parameters(base_lr)]
    return [*own, {"params": list(pool.batchformer.parameters()), "lr": base_lr * lr_scale}]
