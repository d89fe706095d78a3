"""Latency of calls, timed in turn so that their ratio is fair."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import nn

from wkdc.networks.architecture import Architecture
from wkdc.onnx.file import onnx_feed, write_onnx
from wkdc.onnx.providers import open_session, provider_on
from wkdc.system.temporary import scratch_folder

FASTER = 0.98
"""A call that takes less than this share of its shortest time so far is still warming up."""

STEADY = 2
"""Rounds in a row without a faster call, after which timing begins."""

WARM_UP = 12
"""Most untimed rounds."""

BURSTS = 5
"""Stretches that the timed rounds are spread over, so that a drift shows as their spread."""

STUDENT_T = (4.303, 3.182, 2.776)
"""Student's t for 95 %, by degrees of freedom from 2."""

Key = TypeVar("Key")
Group = TypeVar("Group")
Call = Callable[[], object]
Clock = Callable[[Call], float]


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one call: median, 90th percentile and fastest of `rounds`.

    Attributes:
        fastest: least disturbed by other programs, which only slow a call down.
        times: of each round, in order.
        warm_up: untimed rounds before the first.
        settled: whether calls had stopped getting faster by then.
        energy_j: median energy of the processor during a call, other programs included; None if
            the system does not report it.
    """

    median: float
    p90: float
    fastest: float
    rounds: int
    times: tuple[float, ...]
    warm_up: int = 0
    settled: bool = True
    energy_j: float | None = None


def wall_clock(call: Call) -> float:
    """Milliseconds of one call on the processor."""
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)


def clock_on(device: torch.device) -> Clock:
    """The clock of a device: on a GPU two CUDA events around the call, the second waited for."""
    if device.type == "cpu":
        return wall_clock

    def event_clock(call: Call) -> float:
        with torch.cuda.device(device):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            start.record()
            call()
            end.record()
            end.synchronize()
            return float(start.elapsed_time(end))

    return event_clock


def time_in_turn(calls: Mapping[Key, Call], rounds: int) -> dict[Key, Latency]:
    """Time each call once a round, the rounds starting with different calls."""
    return time_in_bursts({"": calls}, rounds, bursts=1)[""]


def time_in_bursts(
    groups: Mapping[Group, Mapping[Key, Call]],
    rounds: int,
    on_round: Callable[[], None] = lambda: None,
    *,
    clock: Clock = wall_clock,
    energy: Callable[[], float | None] = lambda: None,
    bursts: int = BURSTS,
) -> dict[Group, dict[Key, Latency]]:
    """Time the calls of each group in turn, in several bursts.

    Each group warms up first: at least three rounds, until no call got faster in the last two. In
    later bursts the first round of a group is not timed.

    Args:
        groups: calls that are timed in turn, such as those of one runtime.
        rounds: timed rounds of each group.
        on_round: called after each timed round.
        clock: milliseconds of a call.
        energy: a meter in joules, read before and after each call.
        bursts: number of stretches that the rounds are spread over.
    """
    found = {group: {key: _Record() for key in calls} for group, calls in groups.items()}
    for burst, length in enumerate(burst_lengths(rounds, bursts)):
        for group, calls in groups.items():
            if burst:
                _run_round(calls, 0, clock)
            else:
                warm_up = _warm_up(calls, clock)
                for record in found[group].values():
                    record.warm_up = warm_up
            for number in range(length):
                _run_round(calls, number, clock, found[group], energy)
                on_round()
    return {
        group: {key: record.latency() for key, record in records.items()}
        for group, records in found.items()
    }


def burst_lengths(rounds: int, bursts: int = BURSTS) -> list[int]:
    """Timed rounds of each burst."""
    bursts = min(bursts, rounds)
    return [rounds // bursts + (number < rounds % bursts) for number in range(bursts)]


@dataclass
class _Record:
    """Measurements of one call so far."""

    times: list[float] = field(default_factory=list)
    joules: list[float] = field(default_factory=list)
    warm_up: tuple[int, bool] = (0, True)

    def latency(self) -> Latency:
        values = self.times
        return Latency(
            statistics.median(values),
            statistics.quantiles(values, n=10, method="inclusive")[-1]
            if len(values) > 1
            else values[0],
            min(values),
            len(values),
            tuple(values),
            *self.warm_up,
            statistics.median(self.joules) if self.joules else None,
        )


def _run_round(
    calls: Mapping[Key, Call],
    number: int,
    clock: Clock,
    records: Mapping[Key, _Record] | None = None,
    energy: Callable[[], float | None] = lambda: None,
) -> dict[Key, float]:
    """Run each call once, starting with another call in each round."""
    order, found = list(calls), {}
    first = number % len(order) if order else 0
    for key in order[first:] + order[:first]:
        before = energy()
        found[key] = clock(calls[key])
        after = energy()
        if records is not None:
            records[key].times.append(found[key])
            if before is not None and after is not None:
                records[key].joules.append(after - before)
    return found


def _warm_up(calls: Mapping[Key, Call], clock: Clock) -> tuple[int, bool]:
    """Run untimed rounds; their number, and whether calls stopped getting faster."""
    fastest: dict[Key, float] = {}
    steady = 0
    for number in range(WARM_UP):
        times = _run_round(calls, number, clock)
        faster = any(ms < FASTER * fastest.get(key, math.inf) for key, ms in times.items())
        fastest = {key: min(ms, fastest.get(key, ms)) for key, ms in times.items()}
        steady = 0 if faster else steady + 1
        if steady == STEADY:
            return number + 1, True
    return WARM_UP, False


def ratio_interval(before: Latency, after: Latency) -> tuple[float, float] | None:
    """95 % prediction interval of the ratio of medians in another run; None below three rounds.

    Successive rounds are correlated, so that resampling them would hide a drift. The interval is
    therefore Student's t over the logarithms of the bursts' ratios (batch means, Law and Kelton),
    sqrt(2) wider than for their mean, as the other run has the same error.
    """
    lengths = burst_lengths(before.rounds)
    if len(lengths) < 3:  # two bursts would give a factor of some millions
        return None
    medians = (_burst_medians(latency, lengths) for latency in (before, after))
    ratios = [math.log(one / other) for one, other in zip(*medians, strict=True)]
    spread = statistics.stdev(ratios) * math.sqrt(2 / len(ratios))
    half = math.exp(STUDENT_T[len(ratios) - 3] * spread)
    ratio = before.median / after.median
    return ratio / half, ratio * half


def _burst_medians(latency: Latency, lengths: Sequence[int]) -> list[float]:
    ends = [sum(lengths[: n + 1]) for n in range(len(lengths))]
    return [
        statistics.median(latency.times[end - length : end])
        for end, length in zip(ends, lengths, strict=True)
    ]


@contextmanager
def onnx_calls(
    architecture: Architecture, size: tuple[int, int], device: str = "cpu"
) -> Iterator[Callable[[nn.Module], Callable[[], object]]]:
    """For the time of the block, a function network -> a call of it in ONNX Runtime.

    The call translates one image of `size` (height, width), with as many threads as PyTorch uses.

    Args:
        architecture: of the networks, see `write_onnx`.
        device: `cpu` or `cuda`.

    Raises:
        DeviceError: from the function, if ONNX Runtime cannot use the device.
    """
    image = torch.rand(1, int(architecture.options["in_channels"]), *size) * 2 - 1
    threads, on = torch.get_num_threads(), torch.device(device)
    with scratch_folder() as folder:

        def call_of(network: nn.Module) -> Callable[[], object]:
            path = folder / "network.onnx"
            write_onnx(network, path, architecture)
            session = open_session(path, threads=threads, device=on, provider=provider_on(on))
            feed = onnx_feed(image, pixels=False)
            return lambda: session.run(None, feed)

        yield call_of
