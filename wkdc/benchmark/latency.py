"""How long networks take, measured in turn so that a ratio of them is fair."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import torch
from torch import nn

from wkdc.onnx.file import OnnxNetwork, write_onnx

FASTER = 0.98
"""While a call takes less than this share of its shortest time so far, it is still warming up."""

STEADY = 2
"""Rounds in a row in which no call got faster, after which the timed ones begin."""

WARM_UP = 12
"""Untimed rounds at most."""

BURSTS = 5
"""Over how many stretches the timed rounds are spread: what drifts is different in each."""

STUDENT = (12.706, 4.303, 3.182, 2.776)
"""Student's t for 95 %, by degrees of freedom from 1."""

Key = TypeVar("Key")
Group = TypeVar("Group")
Call = Callable[[], object]
Clock = Callable[[Call], float]


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one call: the median, the 90th percentile and the fastest of `rounds`.

    The fastest says what the machine can do: other programs only ever slow a call down.

    Attributes:
        times: of each round, in their order.
        warm_up: untimed rounds before the first; `settled`, whether it had stopped getting faster.
        energy_j: median of what the processor took during a call, other programs included; None
            where the system does not tell.
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


def clock_on(place: torch.device) -> Clock:
    """What times a call: on a GPU two events around it, the second waited for."""
    if place.type == "cpu":
        return wall_clock

    def event_clock(call: Call) -> float:
        with torch.cuda.device(place):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            start.record()
            call()
            end.record()
            end.synchronize()
            return float(start.elapsed_time(end))

    return event_clock


def time_in_turn(calls: Mapping[Key, Call], rounds: int) -> dict[Key, Latency]:
    """Call each once a round; the order turns from round to round."""
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
    """Time the calls of one group in turn, then those of the next, and all groups several times.

    Each group first warms up: at least three rounds, until no call got faster in the last two. In
    the later bursts its first round is not timed.

    Args:
        rounds: timed ones of each group.
        on_round: called after each of them.
        clock: how long a call takes, in milliseconds.
        energy: a meter in joules, read before and after each call.
        bursts: over how many the rounds are spread.
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
    """What is known of one call so far."""

    times: list[float] = field(default_factory=list)
    joules: list[float] = field(default_factory=list)
    warm_up: tuple[int, bool] = (0, True)

    def latency(self) -> Latency:
        values = self.times
        return Latency(
            statistics.median(values),
            statistics.quantiles(values, n=10)[-1] if len(values) > 1 else values[0],
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
    """Each call once, beginning with another one in each round."""
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
    """Untimed rounds; how many, and whether the calls stopped getting faster."""
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
    """Where the ratio of medians of another such run lies, 95 %; None for a single round.

    Rounds that follow each other are alike, and resampling them would take a drift for certainty.
    So the bursts count: from the spread of the logarithms of their ratios, Student's t (batch
    means, Law and Kelton), and sqrt(2) wider than for the mean, as the other run errs as much.
    """
    lengths = burst_lengths(before.rounds)
    if len(lengths) < 2:
        return None
    medians = (_burst_medians(latency, lengths) for latency in (before, after))
    ratios = [math.log(one / other) for one, other in zip(*medians, strict=True)]
    spread = statistics.stdev(ratios) * math.sqrt(2 / len(ratios))
    half = math.exp(STUDENT[len(ratios) - 2] * spread)
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
    *,
    in_channels: int,
    multiple: int,
    smallest: int,
    strict: bool,
    size: tuple[int, int],
    device: str = "cpu",
) -> Iterator[Callable[[nn.Module], Callable[[], object]]]:
    """For the time of the block, a function that makes of a network a call of it in ONNX Runtime.

    The call draws one image of `size` (height, width), with as many threads as PyTorch uses.

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
