"""How long networks take in ONNX Runtime, measured in turn so that a ratio of them is fair."""

import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import torch
from torch import nn

from wkdc.onnx_file import OnnxNetwork, write_onnx

WARM_UP = 3
"""Untimed rounds before the timed ones."""

RESAMPLES = 1000
"""Bootstrap samples that an interval comes from."""

Key = TypeVar("Key")


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one call: the median, the 90th percentile and the fastest of `rounds`.

    The fastest says what the machine can do: other programs only ever slow a call down.

    Attributes:
        times: of each round, in their order.
    """

    median: float
    p90: float
    fastest: float
    rounds: int
    times: tuple[float, ...]


def time_in_turn(
    calls: Mapping[Key, Callable[[], object]],
    rounds: int,
    on_round: Callable[[], None] = lambda: None,
) -> dict[Key, Latency]:
    """Call each once a round; the order turns from round to round."""
    times: dict[Key, list[float]] = {key: [] for key in calls}
    order = list(calls)
    for number in range(WARM_UP + rounds):
        for key in order[number % len(order) :] + order[: number % len(order)] if order else []:
            started = time.perf_counter()
            calls[key]()
            if number >= WARM_UP:
                times[key].append(1000 * (time.perf_counter() - started))
        on_round()
    return {
        key: Latency(
            statistics.median(values),
            statistics.quantiles(values, n=10)[-1] if len(values) > 1 else values[0],
            min(values),
            len(values),
            tuple(values),
        )
        for key, values in times.items()
    }


def ratio_interval(before: Latency, after: Latency) -> tuple[float, float]:
    """The 95 % interval of the ratio of medians, from resampling rounds (Efron 1979).

    A round counts with both of its calls, as a busy moment hits both.
    """
    draw, rounds = random.Random(0), range(before.rounds)
    found = []
    for _ in range(RESAMPLES):
        chosen = draw.choices(rounds, k=len(rounds))
        one, other = (statistics.median(of.times[n] for n in chosen) for of in (before, after))
        found.append(one / other)
    found.sort()
    return found[round(0.025 * RESAMPLES)], found[round(0.975 * RESAMPLES) - 1]


@contextmanager
def onnx_calls(
    *,
    in_channels: int,
    multiple: int,
    smallest: int,
    strict: bool,
    size: tuple[int, int],
    device: str = "cpu",
) -> Iterator[Callable[[nn.Module], Callable[[], object]]]:
    """For the time of the block, a function that makes of a network a call of it in ONNX Runtime.

    The call draws one picture of `size` (height, width), with as many threads as PyTorch uses.

    Args:
        multiple, smallest, strict: see `write_onnx`.
        device: `cpu` or `cuda`.

    Raises:
        DeviceError: from the function, where ONNX Runtime cannot use the device.
    """
    picture = torch.rand(1, in_channels, *size) * 2 - 1
    threads = torch.get_num_threads()
    with TemporaryDirectory() as folder:

        def call_of(network: nn.Module) -> Callable[[], object]:
            path = Path(folder, "network.onnx")
            write_onnx(
                network,
                path,
                in_channels=in_channels,
                multiple=multiple,
                smallest=smallest,
                strict=strict,
                metadata={},
            )
            drawn = OnnxNetwork(path, threads=threads, device=device)
            return lambda: drawn(picture)

        yield call_of
