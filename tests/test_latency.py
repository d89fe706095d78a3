"""When timing begins, in which order, and how sure a ratio is.

How long anything took decides no test: the clocks here read what the test wrote.
"""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch

from wkdc.benchmark.latency import (
    BURSTS,
    WARM_UP,
    Latency,
    burst_lengths,
    clock_on,
    ratio_interval,
    time_in_bursts,
    time_in_turn,
    wall_clock,
)


def latency(times: Sequence[float]) -> Latency:
    return Latency(statistics.median(times), max(times), min(times), len(times), tuple(times))


def reading(times: Iterator[float]) -> Callable[[Callable[[], object]], float]:
    """A clock that calls, and reads what comes next."""

    def clock(call: Callable[[], object]) -> float:
        call()
        return next(times)

    return clock


def one_call(times: Sequence[float], rounds: int, **options: int) -> Latency:
    clock = reading(iter(times))
    return time_in_bursts({"": {"a": lambda: None}}, rounds, clock=clock, **options)[""]["a"]


@pytest.mark.parametrize(
    ("times", "warm_up"),
    [
        ([10, 10, 10], 3),
        ([100, 10, 11, 12], 4),  # slower is not faster
        ([100, 50, 30, 30, 29.9], 5),  # nor is a hundredth
        ([30, 30, 29, 29, 29], 5),
    ],
)
def test_it_warms_up_until_nothing_gets_faster(times: list[float], warm_up: int) -> None:
    found = one_call([*times, 1, 2, 3], 3, bursts=1)
    assert (found.warm_up, found.settled, found.times) == (warm_up, True, (1, 2, 3))


def test_it_gives_up_warming_up_and_says_so() -> None:
    falling = [0.9**n for n in range(WARM_UP)]
    found = one_call([*falling, 5], 1, bursts=1)
    assert (found.warm_up, found.settled, found.times) == (WARM_UP, False, (5,))


def test_all_calls_of_a_group_have_to_settle() -> None:
    # In turn a, b; then b, a; then a, b ...: only b gets faster, until the third round.
    times = [1, 9, 8, 1, 1, 7, 7, 1, 1, 7, 1, 7]
    found = time_in_bursts(
        {"": {"a": lambda: None, "b": lambda: None}}, 1, clock=reading(iter(times)), bursts=1
    )
    assert (found[""]["a"].warm_up, found[""]["b"].warm_up) == (5, 5)


def test_groups_come_back_in_every_burst() -> None:
    called: list[str] = []
    groups = {name: {name: lambda name=name: called.append(name)} for name in ("x", "y")}
    found = time_in_bursts(groups, 5, clock=lambda call: (call(), 1.0)[1], bursts=2)
    first = ["x"] * (3 + 3) + ["y"] * (3 + 3)  # three to warm up
    again = ["x"] * (1 + 2) + ["y"] * (1 + 2)  # one after another group
    assert called == first + again
    assert [found[name][name].rounds for name in groups] == [5, 5]


def test_the_order_turns_within_a_group() -> None:
    called: list[str] = []
    calls = {name: lambda name=name: called.append(name) for name in "abc"}
    time_in_bursts({"": calls}, 3, clock=lambda call: (call(), 1.0)[1], bursts=1)
    assert "".join(called[-9:]) == "abcbcacab"


def test_nothing_to_time() -> None:
    assert time_in_turn({}, 2) == {}


@pytest.mark.parametrize(("rounds", "lengths"), [(15, [3] * 5), (8, [2, 2, 2, 1, 1]), (2, [1, 1])])
def test_rounds_are_spread_evenly(rounds: int, lengths: list[int]) -> None:
    assert burst_lengths(rounds) == lengths


def test_energy_is_that_of_the_timed_calls() -> None:
    joules = iter([0.0, 2.0, 10.0, 13.0, 20.0, 24.0])  # before and after each of three
    found = time_in_bursts(
        {"": {"a": lambda: None}},
        3,
        clock=lambda call: 1.0,
        energy=lambda: next(joules),
        bursts=1,
    )
    assert found[""]["a"].energy_j == 3.0
    assert time_in_turn({"a": lambda: None}, 1)["a"].energy_j is None


def test_a_processor_has_a_wall_clock() -> None:
    assert clock_on(torch.device("cpu")) is wall_clock
    assert wall_clock(lambda: None) >= 0


def test_an_interval_by_hand() -> None:
    steady = [10.0, 11.0, 12.0, 13.0, 14.0]
    # Every burst says 2.
    assert ratio_interval(latency(steady), latency([t / 2 for t in steady])) == (2.0, 2.0)
    # Three bursts: logarithms 0.1, 0.2 and 0.3, spread 0.1, times sqrt(2 / 3), t of 4.303.
    found = ratio_interval(latency([math.exp(n / 10) for n in (1, 2, 3)]), latency([1.0] * 3))
    assert found is not None
    low, high = found
    assert high / low == pytest.approx(math.exp(2 * 4.303 * 0.1 * math.sqrt(2 / 3)))
    assert math.sqrt(low * high) == pytest.approx(math.exp(0.2))


def test_an_interval_does_not_take_a_drift_for_certainty() -> None:
    # Within a burst all rounds agree; from burst to burst the ratio moves by 10 %.
    drifting = [10.0 * 1.1**burst for burst in range(BURSTS) for _ in range(20)]
    found = ratio_interval(latency(drifting), latency([5.0] * len(drifting)))
    assert found is not None
    low, high = found
    assert high / low > 1.5  # a hundred single rounds would have said 1.1


@pytest.mark.parametrize("rounds", [1, 2])  # of two, an interval would span some millions
def test_one_or_two_rounds_have_no_interval(rounds: int) -> None:
    assert ratio_interval(latency([3.0, 3.1][:rounds]), latency([2.0] * rounds)) is None


def test_another_run_lands_in_the_interval_as_often_as_said() -> None:
    """Of pairs of runs whose bursts drift at random, 95 % agree."""
    torch.manual_seed(0)
    runs = 600

    def run() -> tuple[float, tuple[float, float]]:
        drift = torch.randn(BURSTS, dtype=torch.float64).repeat_interleave(3) * 0.05
        noise = torch.randn(2, 3 * BURSTS, dtype=torch.float64) * 0.02
        before, after = (drift + noise[0]).exp(), noise[1].exp()
        one, other = latency(before.tolist()), latency(after.tolist())
        found = ratio_interval(one, other)
        assert found is not None
        return one.median / other.median, found

    inside = 0
    for _ in range(runs):
        (_, (low, high)), (ratio, _) = run(), run()
        inside += low <= ratio <= high
    # The median of all is not the mean of bursts, so it is not exact: 3 standard deviations of a
    # share of 0.95 are 0.027, and as much again for that.
    assert inside / runs > 0.90
