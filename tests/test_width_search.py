"""Widths: their cost against networks that are really built, a search against brute force."""

import copy
import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from wkdc.errors import TargetError
from wkdc.networks.complexity import kernel_positions, measure_complexity
from wkdc.networks.resnet import ResnetGenerator
from wkdc.networks.unet import UnetGenerator
from wkdc.onnx.rewrites import LANES
from wkdc.pruning.channels import ChannelGroup, channel_groups, slice_channels
from wkdc.pruning.cost_model import COLUMN, WRITE, Cost
from wkdc.pruning.width_search import TOLERANCE, search_widths, smallest_widths, uniform_widths

NETWORKS = {
    "resnet": lambda: ResnetGenerator(
        encoder=(10, 18), stream=40, inner=(30, 18, 42), decoder=(16, 8), affine=True
    ),
    "resnet, batch norm": lambda: ResnetGenerator(
        encoder=(8, 16), stream=32, inner=(32,) * 4, decoder=(16, 8), norm="batch", bias=False
    ),
    "unet": lambda: UnetGenerator(down=[8, 16, 32, 64, 64], up=[8, 16, 32, 64]),
}


def priced(network: nn.Module) -> tuple[list[ChannelGroup], Cost, object, nn.Module]:
    network = copy.deepcopy(network).requires_grad_(True)
    graph, groups = channel_groups(network, in_channels=3, smallest=32)
    return groups, Cost(network, groups, kernel_positions(network, 3, (64, 64))), graph, network


@pytest.mark.parametrize("name", NETWORKS)
def test_costs_are_those_of_the_network_that_is_built(name: str) -> None:
    torch.manual_seed(0)
    teacher = NETWORKS[name]()
    for seed in range(4):
        groups, cost, graph, network = priced(teacher)
        generator = torch.Generator().manual_seed(seed)
        widths = [
            int(torch.randint(1, group.channels + 1, (), generator=generator)) for group in groups
        ]
        if seed % 2 and groups[3].block is not None:
            widths[3] = 0
        slice_channels(network, graph, groups, [list(range(width)) for width in widths])
        counted = measure_complexity(network, 3, (64, 64))
        assert cost.of("params", widths) == counted.params
        assert cost.of("macs", widths) == counted.macs


def test_the_clock_of_a_convolution_counts_padded_channels_and_what_is_written() -> None:
    _, cost, _, _ = priced(nn.Sequential(nn.Conv2d(3, 20, 3), nn.Conv2d(20, 5, 1)))
    place = 62 * 62  # of 64x64 images, after a 3x3 kernel

    for width in (1, 15, 16, 17, 20):
        padded = math.ceil(width / LANES) * LANES
        first = 9 * 3 * padded + WRITE * width
        second = (width if width < LANES else padded) * LANES + WRITE * 5
        assert cost.of("clock", [width]) == place * (first + second)


def test_the_clock_knows_what_the_export_makes_of_a_layer() -> None:
    # Transposed: in phases from as many channels as lanes on, over columns below. The last draws
    # four pixels at once with a kernel one larger.
    up, last = nn.ConvTranspose2d(3, 32, 4, 2, padding=1), nn.Conv2d(32, 3, 3, padding=1)
    _, cost, _, _ = priced(nn.Sequential(up, last))
    place = 64 * 64

    for width in (8, 16, 32):
        columns, phases = 16 * (3 + COLUMN) * width, 16 * 3 * width
        first = (columns if width < LANES else phases) + 4 * WRITE * width
        second = 4 * (16 / 4 * width * LANES + WRITE * 3)
        assert cost.of("clock", [width]) == place * (first + second)


def test_groups_come_in_the_order_of_the_forward_pass() -> None:
    groups, _, _, _ = priced(NETWORKS["resnet"]())
    first = [next(iter(group.producers)) for group in groups]
    assert [group.channels for group in groups] == [10, 18, 40, 30, 18, 42, 16, 8]
    assert [group.block for group in groups] == [
        *[None] * 3,
        *(f"model.{n}" for n in (10, 11, 12)),
        *[None] * 2,
    ]
    assert first[0] == "model.1"


def harm(channels: int, scale: float) -> torch.Tensor:
    """A convex curve that ends in nothing."""
    left = torch.arange(channels + 1).double() / channels
    curve = scale * (1 - left) ** 3
    curve[0] = torch.inf
    return curve


@pytest.mark.parametrize("pace", [math.inf, 1.0])
def test_a_search_finds_what_brute_force_finds(pace: float) -> None:
    network = nn.Sequential(nn.Conv2d(3, 24, 3), nn.Conv2d(24, 40, 3), nn.Conv2d(40, 3, 3))
    groups, cost, _, _ = priced(network)
    damage = [harm(24, 1.0), harm(40, 0.2)]
    target = cost.of("params", [24, 40]) / 3
    even = uniform_widths(groups, cost, "params", target)
    allowed = [
        list(widths)
        for widths in itertools.product(range(1, 25), range(1, 41))
        if 1 - TOLERANCE / 2 <= cost.of("params", widths) / target <= 1
        and cost.of("clock", widths) <= pace * cost.of("clock", even)
    ]
    best = min(allowed, key=lambda k: float(damage[0][k[0]] + damage[1][k[1]]))
    found = search_widths(groups, cost, damage, "params", target, pace=pace, step=1)
    assert found == best


def test_a_search_heeds_its_options() -> None:
    torch.manual_seed(0)
    network = ResnetGenerator(encoder=(32, 64), stream=128, inner=(128,) * 6, decoder=(64, 32))
    groups, cost, _, _ = priced(network)
    full = [group.channels for group in groups]
    damage = []
    for number, group in enumerate(groups):
        curve = harm(group.channels, 1 + number)
        if group.block is not None:
            curve[0] = 3.0
        damage.append(curve)
    target = cost.of("params", full) / 5

    def found(**options: object) -> list[int]:
        options = {"pace": math.inf} | options
        widths = search_widths(groups, cost, damage, "params", target, **options)  # type: ignore[arg-type]
        assert cost.of("params", widths) == pytest.approx(target, rel=TOLERANCE)
        return widths

    inner = [n for n, group in enumerate(groups) if group.block is not None]
    assert all(width % 8 == 0 for width in found(step=8))
    for count in (0, 2, 5):
        assert sum(found(drop=count)[n] == 0 for n in inner) == count
    even = cost.of("clock", uniform_widths(groups, cost, "params", target))
    # Padded widths move the clock in steps; the limit is soft, by a few thousandths.
    assert cost.of("clock", found(pace=1.0)) <= 1.01 * even
    assert cost.of("clock", found(pace=0.9)) <= 0.91 * even
    clock = cost.of("clock", full) / 4
    fast = search_widths(groups, cost, damage, "clock", clock, pace=math.inf)
    assert cost.of("clock", fast) == pytest.approx(clock, rel=TOLERANCE)


@pytest.mark.parametrize("name", NETWORKS)
def test_uniform_widths_are_whole_and_at_least_one(name: str) -> None:
    groups, cost, _, _ = priced(NETWORKS[name]())
    total = cost.of("params", [group.channels for group in groups])
    for ratio in (1.5, 5, 30):
        widths = uniform_widths(groups, cost, "params", total / ratio)
        assert all(
            1 <= width <= group.channels for width, group in zip(widths, groups, strict=True)
        )
        assert cost.of("params", widths) == pytest.approx(total / ratio, rel=TOLERANCE)
    even = uniform_widths(groups, cost, "params", total / 2, step=4)
    assert all(
        width % 4 == 0 or width == group.channels for width, group in zip(even, groups, strict=True)
    )


def test_what_cannot_be_had_names_the_smallest() -> None:
    groups, cost, _, _ = priced(NETWORKS["resnet"]())
    assert smallest_widths(groups, drop=0) == [1] * 8
    assert smallest_widths(groups, drop=2) == [1, 1, 1, 1, 0, 0, 1, 1]
    with pytest.raises(TargetError, match=r"infeasible: 10 parameters.*smallest network has"):
        uniform_widths(groups, cost, "params", 10)
    with pytest.raises(TargetError, match="multiples of 16"):
        uniform_widths(groups, cost, "params", cost.of("params", [1] * 8) * 2, step=16)
    curves = [harm(group.channels, 1.0) for group in groups]
    with pytest.raises(TargetError, match="multiples of 1024"):
        search_widths(groups, cost, curves, "params", 9000, pace=1.0, step=1024, drop=0)


def test_a_width_of_nothing_is_a_skip(tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher = NETWORKS["resnet"]()
    groups, _, graph, network = priced(teacher)
    kept = [list(range(group.channels)) for group in groups]
    kept[4] = []
    slice_channels(network, graph, groups, kept)
    assert isinstance(network.model[11], nn.Identity)
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        skipped = nn.Sequential(*[m for n, m in enumerate(teacher.model) if n != 11])(images)
        assert torch.equal(network(images), skipped)


def test_a_network_of_many_groups_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer matters more than the others, which make up for it."""
    monkeypatch.setattr("wkdc.pruning.width_search.MOVES", 16)  # as few beside 19 groups
    torch.manual_seed(0)
    network = nn.Sequential(*(nn.Conv2d(8 if n else 3, 8, 1) for n in range(20)))
    groups, cost, _, _ = priced(network)
    damage = [harm(group.channels, 3.0 if n == 4 else 1.0) for n, group in enumerate(groups)]
    target = cost.of("params", [group.channels for group in groups]) / 2
    even = uniform_widths(groups, cost, "params", target)
    found = search_widths(groups, cost, damage, "params", target, pace=math.inf, step=1)
    assert found[4] > even[4]
    harmed = [sum(float(d[k]) for d, k in zip(damage, w, strict=True)) for w in (even, found)]
    assert harmed[1] < harmed[0]
