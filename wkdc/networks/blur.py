"""Fixed low-pass filters around a change of resolution (Zhang, 2019), as CUT has them.

Each holds its filter as a buffer with one entry a channel, all alike.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class BlurDownsample(nn.Module):
    """Blur by [1 2 1] in both directions, and keep every second pixel: C×H×W -> C×H/2×W/2."""

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", _filter([1, 2, 1], channels) / 16)

    def forward(self, images: Tensor) -> Tensor:
        padded = functional.pad(images, (1, 1, 1, 1), mode="reflect")
        return functional.conv2d(padded, self.filt, stride=2, groups=len(self.filt))


class BlurUpsample(nn.Module):
    """Zeros between the pixels, blurred by [1 3 3 1] in both directions: C×H×W -> C×2H×2W."""

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", _filter([1, 3, 3, 1], channels) / 16)

    def forward(self, images: Tensor) -> Tensor:
        padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
        # The original's padding is 2, and then it cuts one pixel off each side.
        return functional.conv_transpose2d(
            padded, self.filt, stride=2, padding=3, groups=len(self.filt)
        )


def _filter(taps: list[int], channels: int) -> Tensor:
    """C×1×K×K: the taps in both directions."""
    row = torch.tensor(taps, dtype=torch.float32)
    return torch.outer(row, row).repeat(channels, 1, 1, 1)
