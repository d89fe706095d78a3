"""Other ways to make a generator smaller, on the clock: low-rank and depthwise-separable kernels.

    python tests/benchmarks/factorised.py --teacher teacher.pth --data FOLDER STUDENT.pth ...

Both keep the teacher's widths and split the 3x3 kernels of its residual blocks, where most of the
parameters are. Low rank: a 3x3 convolution to few channels and a 1x1 one back, the best for what
the layer puts out on FOLDER/trainA (its principal components). Depthwise-separable: for each input
channel the rank-1 kernel nearest to the teacher's. Beside them stands STUDENT.pth, as `wkdc prune`
made it. All are timed in ONNX Runtime in turn, then learn for as many steps from FOLDER/trainA with
the default recipe's losses and rates. Printed: parameters, MACs, time, and PSNR to the teacher's
images of FOLDER/testA before and after.
"""

import argparse
import copy
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from wkdc.benchmark.latency import onnx_calls, time_in_turn
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.data.calibration import read_calibration
from wkdc.data.images import load_pixels, load_square, pixels_to_images
from wkdc.metrics.fidelity import mean_fidelity
from wkdc.networks.complexity import measure_complexity
from wkdc.networks.resnet import ResnetBlock
from wkdc.pruning.activations import observe
from wkdc.training.crops import Crops
from wkdc.training.distributed import Processes
from wkdc.training.objective import Batch, Objective
from wkdc.training.recipe import FAITHFUL
from wkdc.training.trainer import Averager, Learner, Trainer

SIDE = 256
ROUNDS = 15
ALONE = Processes(0, 1, torch.device("cpu"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("students", nargs="*", type=Path)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rank", type=int, nargs="*", default=[32, 64])
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    teacher = load_generator(options.teacher)
    images = read_calibration(teacher, options.data, 24).images
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

    with onnx_calls(teacher.architecture, (SIDE, SIDE)) as call_of:
        times = time_in_turn({name: call_of(made) for name, made in networks.items()}, ROUNDS)
    whole = measure_complexity(teacher.network, 3, (SIDE, SIDE))
    pictures = [load_square(path, SIDE) for path in sorted((options.data / "testA").iterdir())]
    with torch.inference_mode():
        pairs = [(picture, teacher.network(picture)) for picture in pictures]
    for name, network in networks.items():
        if network is teacher.network:
            continue
        cost = measure_complexity(network, 3, (SIDE, SIDE))
        before = near(network, pairs)
        after = near(taught(network, teacher.network, options.data, options.steps), pairs)
        took = times[name].fastest
        print(
            f"| {name} | {whole.params / cost.params:.2f}x | {whole.macs / cost.macs:.2f}x | "
            f"{took:.1f} ms, {times['teacher'].fastest / took:.2f}x | {before} | {after} |",
            flush=True,
        )


@torch.inference_mode()
def near(network: nn.Module, pairs: list[tuple[Tensor, Tensor]]) -> str:
    """How near what `network` generates is to the teacher's images."""
    found = mean_fidelity((network.eval()(image), wanted) for image, wanted in pairs)
    return f"{found.psnr_db:.1f} dB, {found.high_band_error:.3f}"


def taught(network: nn.Module, teacher: nn.Module, data: Path, steps: int) -> nn.Module:
    """`network` after the default recipe."""
    network = copy.deepcopy(network).requires_grad_(True).train()
    objective = Objective(
        FAITHFUL,
        None,
        conditional=False,
        forward=lambda generator, images: generator(images),
        seed=0,
    )
    trainer = Trainer([Learner(network, objective, Averager(network))], FAITHFUL, ALONE)
    paths = sorted((data / "trainA").iterdir())
    crops = Crops(
        paths,
        lambda path: (load_pixels(path),),
        load_size=FAITHFUL.load_size,
        crop=FAITHFUL.crop,
        seed=0,
    )
    for step in range(steps):
        (pixels,) = crops.batch(step * FAITHFUL.batch, FAITHFUL.batch)
        images = pixels_to_images(pixels)
        with torch.no_grad():
            targets = teacher(images)
        trainer.step([[Batch(images, targets)]], step / steps)
    return trainer.learners[0].result


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
