"""Lowered networks: the same function, in other layers."""

import copy

import pytest
import torch
from torch import nn

from wkdc.networks.resnet import ResnetGenerator
from wkdc.networks.unet import UnetGenerator
from wkdc.onnx.rewrites import (
    LANES,
    CentredInstanceNorm,
    PhasedConvTranspose2d,
    QuadConv2d,
    lowered,
)

# Float64 sums of a few hundred products of numbers near one, in another order.
SAME = 1e-12


def maps(channels: int, height: int, width: int) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(2, channels, height, width, dtype=torch.float64)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("kernel", "padding", "output_padding"),
    [(2, 0, 0), (3, 1, 1), (4, 1, 0), (5, 2, 1), (6, 2, 0), ((3, 4), (1, 1), (1, 0))],
)
def test_a_transposed_convolution_in_phases(
    kernel: int, padding: int, output_padding: int, bias: bool
) -> None:
    conv = nn.ConvTranspose2d(
        3, LANES, kernel, 2, padding=padding, output_padding=output_padding, bias=bias
    ).double()
    network = lowered(nn.Sequential(conv))
    assert isinstance(network[0], PhasedConvTranspose2d)
    for height, width in ((5, 4), (1, 1), (2, 7)):
        images = maps(3, height, width)
        torch.testing.assert_close(network(images), conv(images), rtol=0, atol=SAME)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kernel", "padding"), [(7, 0), (7, 3), (4, 1), (2, 0), ((3, 5), (0, 2))])
def test_a_convolution_to_few_channels_in_quads(kernel: int, padding: int, bias: bool) -> None:
    conv = nn.Conv2d(5, 3, kernel, padding=padding, bias=bias).double()
    network = lowered(nn.Sequential(conv))
    assert isinstance(network[0], QuadConv2d)
    for height, width in ((12, 8), (9, 11), (8, 9)):  # an odd row or column is cut off again
        images = maps(5, height, width)
        torch.testing.assert_close(network(images), conv(images), rtol=0, atol=SAME)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 5, 3),  # four times five do not fit the lanes
        nn.Conv2d(8, 3, 3, stride=2),
        nn.Conv2d(8, 2, 3, groups=2),
        nn.Conv2d(8, 3, 3, dilation=2),
        nn.Conv2d(8, 3, 1),
        nn.Conv2d(8, 3, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(8, 3, 3, padding="same"),
        nn.ConvTranspose2d(8, LANES - 1, 4, 2, padding=1),  # phases would be padded four times
        nn.ConvTranspose2d(8, LANES, 3, 2),  # does not double
        nn.ConvTranspose2d(8, LANES, 3, 1, padding=1),
        nn.ConvTranspose2d(8, LANES, 4, 2, padding=1, groups=2),
    ],
)
def test_what_does_not_fit_stays(layer: nn.Module) -> None:
    network = lowered(nn.Sequential(layer))
    assert type(network[0]) is type(layer)
    images = torch.randn(1, 8, 6, 6)
    assert torch.equal(network(images), layer(images))


def test_whole_generators_and_the_original_is_left_alone() -> None:
    torch.manual_seed(0)
    cases = {
        ResnetGenerator(encoder=(16, 24), stream=20, inner=(8,), decoder=(32, 16)): 3,
        UnetGenerator(down=(16, 24, 24, 24, 24), up=(16, 24, 24, 24)): 4,
    }
    for generator, replaced in cases.items():
        network = generator.double().eval()
        before = copy.deepcopy(network)
        lower = lowered(network)
        images = maps(3, 64, 32)
        torch.testing.assert_close(lower(images), network(images), rtol=0, atol=SAME)
        kinds = [type(module) for module in lower.modules()]
        assert kinds.count(PhasedConvTranspose2d) + kinds.count(QuadConv2d) == replaced
        assert str(network) == str(before)
        norms = [m for m in network.modules() if isinstance(m, nn.InstanceNorm2d)]
        assert kinds.count(CentredInstanceNorm) == len(norms)
