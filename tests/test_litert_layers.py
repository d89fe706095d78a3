"""Networks for LiteRT: the same function, in layers that its converter takes."""

import pytest
import torch
from originals import resnet_state_dict
from torch import nn

from wkdc.checkpoints.recognition import recognise
from wkdc.networks.blur import BlurUpsample
from wkdc.onnx.rewrites import PhasedConvTranspose2d
from wkdc.phones.litert_layers import (
    PhasedBlurUpsample,
    SlicedReflectionPad2d,
    WrittenInstanceNorm2d,
    lowered_for_litert,
)

# Float64 sums of a few hundred products of numbers near one, in another order.
SAME = 1e-12


def affine_norm() -> nn.InstanceNorm2d:
    norm = nn.InstanceNorm2d(4, affine=True)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 2.0, -1.0, 3.0]))
        norm.bias.copy_(torch.tensor([1.0, -2.0, 0.0, 5.0]))
    return norm


def blur() -> BlurUpsample:
    layer = BlurUpsample(4)
    with torch.no_grad():
        layer.filt *= torch.rand(4, 1, 4, 4)  # taps that are told apart
    return layer


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1), PhasedConvTranspose2d),
        (blur(), PhasedBlurUpsample),
        (nn.ReflectionPad2d(1), SlicedReflectionPad2d),
        (nn.ReflectionPad2d((3, 0, 2, 1)), SlicedReflectionPad2d),
        (nn.ReflectionPad2d(0), SlicedReflectionPad2d),
        (nn.InstanceNorm2d(4), WrittenInstanceNorm2d),
        (affine_norm(), WrittenInstanceNorm2d),
    ],
    ids=lambda value: str(value) if isinstance(value, nn.Module) else "",
)
def test_a_layer_is_the_same_function(layer: nn.Module, kind: type[nn.Module]) -> None:
    network = nn.Sequential(layer).double().eval()
    torch.manual_seed(1)
    images = 3 + torch.randn(2, 4, 7, 10, dtype=torch.float64)
    replaced = lowered_for_litert(network)
    assert type(replaced[0]) is kind
    torch.testing.assert_close(replaced(images), network(images), rtol=0, atol=SAME)


def test_a_norm_of_running_statistics_stays() -> None:
    norm = nn.InstanceNorm2d(4, track_running_stats=True)
    assert type(lowered_for_litert(nn.Sequential(norm))[0]) is nn.InstanceNorm2d


def test_a_whole_generator() -> None:
    network = recognise(resnet_state_dict(0, blocks=2, ngf=4)).architecture.build().double().eval()
    torch.manual_seed(1)
    images = torch.randn(1, 3, 20, 28, dtype=torch.float64)
    replaced = lowered_for_litert(network)
    torch.testing.assert_close(replaced(images), network(images), rtol=0, atol=SAME)
    assert not [m for m in replaced.modules() if isinstance(m, nn.ReflectionPad2d)]
