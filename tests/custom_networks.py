"""Networks of a user's own code, for `--arch custom_networks:...`."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Padded(nn.Module):
    """A convolution that mirrors edges, as style-transfer networks have it."""

    def __init__(self, channels: int, outputs: int, size: int, stride: int = 1) -> None:
        super().__init__()
        self.pad = nn.ReflectionPad2d(size // 2)
        self.conv = nn.Conv2d(channels, outputs, size, stride)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.conv(self.pad(images))
        return out


class Residual(nn.Module):
    """After Johnson et al. (2016); its layers are registered last to first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.second_norm = nn.InstanceNorm2d(channels, affine=True)
        self.second = Padded(channels, channels, 3)
        self.first_norm = nn.InstanceNorm2d(channels, affine=True)
        self.first = Padded(channels, channels, 3)

    def forward(self, images: Tensor) -> Tensor:
        inner = functional.relu(self.first_norm(self.first(images)))
        out: Tensor = images + self.second_norm(self.second(inner))
        return out


class Stylist(nn.Module):
    """A style-transfer network: 9x9 ends, one residual block, nearest upsampling."""

    def __init__(self) -> None:
        super().__init__()
        self.last = Padded(8, 3, 9)
        self.stem, self.stem_norm = Padded(3, 8, 9), nn.InstanceNorm2d(8, affine=True)
        self.down, self.down_norm = Padded(8, 12, 3, 2), nn.InstanceNorm2d(12, affine=True)
        self.block = Residual(12)
        self.up, self.up_norm = Padded(12, 8, 3), nn.InstanceNorm2d(8, affine=True)

    def forward(self, images: Tensor) -> Tensor:
        maps = functional.relu(self.stem_norm(self.stem(images)))
        maps = self.block(functional.relu(self.down_norm(self.down(maps))))
        maps = functional.interpolate(maps, scale_factor=2)
        return torch.tanh(self.last(functional.relu(self.up_norm(self.up(maps)))))


class Grouped(nn.Module):
    """A depthwise convolution between two plain ones, and one convolution that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.wide = nn.Conv2d(8, 12, 3, padding=1)
        self.narrow = nn.Conv2d(12, 6, 1)
        self.twice = nn.Conv2d(6, 6, 3, padding=1)
        self.last = nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.depthwise(functional.relu(self.first(images)))
        maps = self.narrow(functional.relu(self.wide(maps)))
        return torch.tanh(self.last(self.twice(functional.relu(self.twice(maps)))))


class Blur(nn.Module):
    """A fixed filter for each channel, and every second pixel."""

    filters: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        # Unlike for each channel, so that taking away the wrong one shows.
        kernel = torch.rand(channels, 1, 3, 3, generator=torch.Generator().manual_seed(0))
        self.register_buffer("filters", kernel / kernel.sum((2, 3), keepdim=True))

    def forward(self, images: Tensor) -> Tensor:
        groups = images.shape[1]
        return functional.conv2d(images, self.filters, stride=2, padding=1, groups=groups)


class Mobile(nn.Module):
    """Depthwise convolutions, GroupNorm of one group and of one for each channel, a blur, resizing.

    The norm of four groups cannot be narrowed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(1, 16)
        self.blur = Blur(16)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.depthwise_norm = nn.GroupNorm(16, 16)
        self.wide, self.wide_norm = nn.Conv2d(16, 24, 1), nn.GroupNorm(4, 24)
        self.narrow, self.narrow_norm = nn.Conv2d(24, 12, 3, padding=1), nn.GroupNorm(1, 12)
        self.last = nn.Conv2d(12, 3, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.blur(functional.relu(self.stem_norm(self.stem(images))))
        maps = functional.relu(self.depthwise_norm(self.depthwise(maps)))
        maps = functional.relu(self.wide_norm(self.wide(maps)))
        maps = functional.interpolate(maps, images.shape[-2:], mode="bilinear")
        maps = functional.relu(self.narrow_norm(self.narrow(maps)))
        return torch.tanh(self.last(maps))


class Same(nn.Conv2d):
    """Pads by itself, so that its padding of 0 is not the whole truth."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(functional.pad(images, (1, 1, 1, 1), mode="replicate"))


class Unusual(nn.Module):
    """A subclass of a convolution, a parameter for each channel, a hook, a shuffle by four."""

    def __init__(self) -> None:
        super().__init__()
        self.same = Same(3, 8, 3)
        self.gained, self.gain = nn.Conv2d(8, 8, 3, padding=1), nn.Parameter(torch.ones(8, 1, 1))
        self.hooked = nn.Conv2d(8, 8, 3, padding=1)
        self.hooked.register_forward_pre_hook(lambda layer, inputs: None)
        self.norm, self.wide = nn.InstanceNorm2d(8), nn.Conv2d(8, 12, 3, stride=4)
        self.wide_norm = nn.InstanceNorm2d(12)
        self.last = nn.Sequential(nn.Conv2d(12, 48, 1), nn.PixelShuffle(4))

    def forward(self, images: Tensor) -> Tensor:
        maps = functional.relu(self.same(images))
        maps = self.hooked(functional.relu(self.gain * self.gained(maps)))
        maps = functional.relu(self.wide_norm(self.wide(self.norm(maps))))
        return torch.tanh(self.last(maps))


class Concatenating(nn.Module):
    """Joins its scales, so that it takes multiples of four only."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.down = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 20, 3, 2, 1)
        self.up = nn.ConvTranspose2d(20, 16, 4, 2, 1)
        self.last = nn.ConvTranspose2d(32, 3, 4, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        half = functional.relu(self.first(images))
        quarter = functional.relu(self.down(half))
        up = functional.relu(self.up(quarter, output_size=half.shape[-2:]))
        return torch.tanh(self.last(torch.cat([half, up], 1)))


class Counting(nn.Module):
    """Its forward pass names the number of channels, so that none can go."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.first(images)
        weights = torch.linspace(0.5, 1.5, 8, device=maps.device).view(1, 8, 1, 1)
        return torch.tanh(self.last(maps * weights))


class Enlarger(nn.Module):
    """Generates twice the size."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 1), nn.ConvTranspose2d(4, 3, 2, 2)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.last(self.first(images))
        return out


class ByValues(nn.Module):
    """What it computes depends on the numbers that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        if images.max() > 1:
            images = images / 255
        out: Tensor = self.last(self.first(images))
        return out


def bare() -> nn.Module:
    """Nothing in it can be pruned."""
    return nn.Sequential(nn.Conv2d(3, 3, 3, padding=1))


def no_network() -> str:
    return "a string"
