"""Other ways to make a generator smaller, on the clock: low-rank and depthwise-separable kernels.

    python tests/benchmarks/factorised.py --teacher teacher.pth --data FOLDER STUDENT.pth ...

Both keep the teacher's widths and split the 3x3 kernels of its residual blocks, where most of the
parameters are. Low rank: a 3x3 convolution to few channels and a 1x1 one back, the best for what
the layer puts out on FOLDER/trainA (its principal components). Depthwise-separable: for each input
channel the rank-1 kernel nearest to the teacher's. Printed: parameters, MACs, PSNR to the teacher
on FOLDER/testA without training, and ONNX Runtime's time, all in turn, beside the students.
"""

import argparse
import copy
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from wkdc.calibration import calibration_images
from wkdc.checkpoint import load_generator
from wkdc.complexity import measure_complexity
from wkdc.images import load_square
from wkdc.latency import onnx_calls, time_in_turn
from wkdc.metrics import mean_fidelity
from wkdc.networks.resnet import ResnetBlock
from wkdc.observation import observe

SIDE = 256
ROUNDS = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("students", nargs="*", type=Path)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rank", type=int, nargs="*", default=[18, 32, 64])
    options = parser.parse_args()
    teacher = load_generator(options.teacher)
    images = calibration_images(teacher, options.data, 24)
    outputs = observe(teacher.network, images).outputs
    networks = {"teacher": teacher.network}
    for rank in options.rank:
        networks[f"low rank, {rank}"] = factorised(
            teacher.network,
            lambda conv, made, rank=rank: low_rank(conv, principal(outputs[made], rank)),
        )
    networks["depthwise-separable"] = factorised(
        teacher.network, lambda conv, made: depthwise_separable(conv)
    )
    networks |= {path.stem: load_generator(path).network for path in options.students}

    pictures = [load_square(path, SIDE) for path in sorted((options.data / "testA").iterdir())]
    with onnx_calls(
        in_channels=3, multiple=4, smallest=8, strict=False, size=(SIDE, SIDE)
    ) as call_of:
        calls = {name: call_of(network) for name, network in networks.items()}
        times = time_in_turn(calls, ROUNDS)
    whole = measure_complexity(teacher.network, 3, (SIDE, SIDE))
    for name, network in networks.items():
        cost = measure_complexity(network, 3, (SIDE, SIDE))
        with torch.inference_mode():
            near = mean_fidelity((network(x), teacher.network(x)) for x in pictures)
        took = times[name].median
        print(
            f"{name}: parameters {whole.params / cost.params:.2f}x, MACs "
            f"{whole.macs / cost.macs:.2f}x, {near.psnr_db:.1f} dB, {took:.1f} ms, "
            f"{times['teacher'].median / took:.2f}x",
            flush=True,
        )


def factorised(network: nn.Module, split: Callable[[nn.Conv2d, str], nn.Module]) -> nn.Module:
    """A copy of `network` whose blocks' convolutions are what `split` makes of them."""
    network = copy.deepcopy(network)
    for name, block in list(network.named_modules()):
        if isinstance(block, ResnetBlock):
            for leaf, layer in list(block.conv_block.named_children()):
                if isinstance(layer, nn.Conv2d):
                    setattr(block.conv_block, leaf, split(layer, f"{name}.conv_block.{leaf}"))
    return network


def principal(rows: list[Tensor], rank: int) -> Tensor:
    """The directions in which a layer's outputs vary most: channels×rank."""
    apart = torch.cat([row.double() - row.double().mean(0) for row in rows])
    _, vectors = torch.linalg.eigh(apart.T @ apart)
    return vectors[:, -rank:].float()


def low_rank(conv: nn.Conv2d, basis: Tensor) -> nn.Module:
    """`conv` projected on `basis`, as two convolutions; InstanceNorm drops the bias behind them."""
    channels, rank = basis.shape
    few = nn.Conv2d(conv.in_channels, rank, conv.kernel_size, bias=False)
    back = nn.Conv2d(rank, channels, 1, bias=False)
    with torch.no_grad():
        few.weight.copy_(torch.einsum("or,oikl->rikl", basis, conv.weight))
        back.weight.copy_(basis[:, :, None, None])
    return nn.Sequential(few, back)


def depthwise_separable(conv: nn.Conv2d) -> nn.Module:
    """`conv` as one kernel for each input channel, and a 1x1 convolution."""
    outputs, inputs, high, wide = conv.weight.shape
    left, size, right = torch.linalg.svd(conv.weight.transpose(0, 1).flatten(2))
    alone = nn.Conv2d(inputs, inputs, (high, wide), groups=inputs, bias=False)
    mixed = nn.Conv2d(inputs, outputs, 1, bias=False)
    with torch.no_grad():
        alone.weight.copy_(right[:, 0].view(inputs, 1, high, wide))
        mixed.weight.copy_((left[:, :, 0] * size[:, :1]).T[:, :, None, None])
    return nn.Sequential(alone, mixed)


if __name__ == "__main__":
    main()
