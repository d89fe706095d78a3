"""Norms with one mean and spread for all images of a batch, kept for those that follow."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class PooledNorm(nn.Module):
    """A normalisation of N×C×H×W with what `learning` batches had, per channel or group of them.

    Args:
        norm: whose groups, weight, bias and epsilon it takes.

    Attributes:
        learning: whether mean and spread are taken from the batch at hand, over all its images.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, norm: nn.InstanceNorm2d | nn.GroupNorm) -> None:
        super().__init__()
        self.groups = norm.num_groups if isinstance(norm, nn.GroupNorm) else None
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.learning = True

    def forward(self, images: Tensor) -> Tensor:
        if self.learning:
            channels = images.shape[1]
            together = images.reshape(len(images), self.groups or channels, -1)
            found = torch.var_mean(together, (0, 2), correction=0)
            self.variance, self.mean = (
                one.repeat_interleave(channels // len(one)) for one in found
            )
        return functional.batch_norm(
            images, self.mean, self.variance, self.weight, self.bias, eps=self.eps
        )


def pool_norms(network: nn.Module) -> list[PooledNorm]:
    """Replace every InstanceNorm2d and GroupNorm by a `PooledNorm` in `network`; return them.

    One that keeps running statistics has no others, and stays.
    """
    pooled = []
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if not isinstance(child, nn.InstanceNorm2d | nn.GroupNorm):
                continue
            if isinstance(child, nn.InstanceNorm2d) and child.track_running_stats:
                continue
            pooled.append(PooledNorm(child))
            setattr(module, name, pooled[-1])
    return pooled
