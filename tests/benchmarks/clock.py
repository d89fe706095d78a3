"""How well the model of time in `wkdc.pruning.cost_model` says what ONNX Runtime takes.

    python tests/benchmarks/clock.py

ResNet-9 generators of random widths are timed in turn at 256x256 with two threads; the fastest of
the rounds counts, because other programs only ever slow a call down. One factor fits the model to
the machine. Printed: each network, its time, and by how much the model is off.
"""

import random
import statistics

import torch

from wkdc.benchmark.latency import onnx_calls, time_in_turn
from wkdc.networks.complexity import kernel_positions
from wkdc.networks.resnet import ResnetGenerator
from wkdc.networks.stock import stock_architecture
from wkdc.pruning.channels import channel_groups
from wkdc.pruning.cost_model import Cost

NETWORKS = 14
ROUNDS = 25
SIZE = (256, 256)


def main() -> None:
    torch.set_num_threads(2)
    draw = random.Random(7)
    whole = [[ngf, 2 * ngf, 4 * ngf, 2 * ngf, ngf, *[4 * ngf] * 9] for ngf in (64, 32, 24, 16)]
    drawn = [[draw.choice(widths) for widths in CHOICES] for _ in range(NETWORKS)]
    networks = [(widths, built(widths)) for widths in [*whole, *drawn]]
    common = stock_architecture("resnet", ngf=64, blocks=9, norm="instance", side=SIZE[0])
    with onnx_calls(common, SIZE) as call_of:
        calls = {number: call_of(network) for number, (_, network) in enumerate(networks)}
        times = time_in_turn(calls, ROUNDS)
    took = [times[number].fastest for number in calls]
    model = [clock_of(network) for _, network in networks]
    each = statistics.median(ms / macs for ms, macs in zip(took, model, strict=True))
    for (widths, _), ms, macs in zip(networks, took, model, strict=True):
        print(f"{ms:6.1f} ms, model {each * macs / ms - 1:+.1%}: {widths}")
    print(f"{each * 1e9:.2f} ns for 1000 multiply-accumulates of the model")


CHOICES = [
    (8, 16, 24, 32, 40, 48, 64),
    (32, 48, 64, 80, 96, 128),
    (64, 80, 96, 112, 128, 144, 160),
    (32, 48, 64, 80, 96, 128),
    (8, 16, 24, 32, 40, 48, 64),
    *[(16, 24, 32, 48, 64, 96, 128)] * 9,
]
"""Of encoder, stream, decoder and the insides of the blocks."""


def built(widths: list[int]) -> ResnetGenerator:
    return ResnetGenerator(
        encoder=widths[:2], stream=widths[2], decoder=widths[3:5], inner=widths[5:]
    ).eval()


def clock_of(network: ResnetGenerator) -> float:
    traced = network.requires_grad_(True)
    _, groups = channel_groups(traced, in_channels=3, smallest=8)
    cost = Cost(traced, groups, kernel_positions(traced, 3, SIZE))
    return cost.of("clock", [group.channels for group in groups])


if __name__ == "__main__":
    main()
