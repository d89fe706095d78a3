"""Plans by the time that their students take in ONNX Runtime, measured beside the teacher."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from wkdc.benchmark.latency import onnx_calls, time_in_turn
from wkdc.checkpoints.checkpoint import Generator
from wkdc.errors import OptionError, TargetError
from wkdc.pruning.plan import Clock, Plan
from wkdc.pruning.target import Target
from wkdc.pruning.width_search import TOLERANCE

ATTEMPTS = 5
"""How often widths are corrected by the time that they really take."""

ROUNDS = 7
"""How often each is timed for it."""


def measure_clock(plan: Plan, teacher: Generator, size: tuple[int, int], device: str) -> Clock:
    """`teacher` and the student of `plan` in ONNX Runtime, in turn."""
    with stopwatch(teacher, size, device) as clock_of:
        return clock_of(plan)


@contextmanager
def stopwatch(
    teacher: Generator, size: tuple[int, int], device: str
) -> Iterator[Callable[[Plan], Clock]]:
    """A function that measures the student of a plan beside its teacher."""
    with onnx_calls(teacher.architecture, size, device) as call_of:
        teacher_call = call_of(teacher.network)

        def clock_of(plan: Plan) -> Clock:
            calls = {"teacher": teacher_call, "student": call_of(plan.sliced())}
            times = time_in_turn(calls, ROUNDS)
            before, after = times["teacher"].median, times["student"].median
            whole = plan.cost.of("clock", [group.channels for group in plan.groups])
            share = plan.cost.of("clock", [len(kept) for kept in plan.kept]) / whole
            # The model is of the network that was pruned, which may lack the teacher's blurs.
            expected = before * share if plan.teacher is teacher else None
            return Clock(before, after, expected, size, device)

        yield clock_of


def meet_latency(
    plan_of: Callable[[float], Plan],
    least: Plan,
    target: Target,
    size: tuple[int, int],
    device: str,
    tell: Callable[[str, float], None],
) -> Plan:
    """The plan whose student takes so long, found by measuring and correcting.

    The model of `Cost` says how times relate; the measured student says how far it is off.

    Args:
        plan_of: makes the plan that takes so much time by the model.
        least: the plan of the smallest network.
        tell: called with what is being done, and the share of it that is done.

    Raises:
        OptionError: the target is no less than the teacher's time.
        TargetError: the smallest network takes longer.
        DeviceError: ONNX Runtime cannot use the device.
    """
    where = f"on this machine ({device}, {size[0]}x{size[1]})"
    with stopwatch(least.teacher, size, device) as clock_of:
        tell("measuring the teacher in ONNX Runtime", 0.0)
        floor = clock_of(least)
        wanted = target.amount or floor.teacher_ms / (target.ratio or 1)
        if wanted >= floor.teacher_ms:
            raise OptionError(
                f"latency {wanted:.4g} ms is no less than the teacher's {floor.teacher_ms:.4g} ms "
                f"{where}; give less"
            )
        if wanted < floor.student_ms:
            raise TargetError(
                f"infeasible: {wanted:.4g} ms; the smallest network takes {floor.student_ms:.3g} "
                f"ms {where}, its teacher {floor.teacher_ms:.4g}"
            )
        whole = least.cost.of("clock", [group.channels for group in least.groups])
        bounds = least.cost.of("clock", [len(kept) for kept in least.kept]), 0.99 * whole
        budget = whole * wanted / floor.teacher_ms
        found: list[tuple[float, Plan]] = []
        tried: list[tuple[float, float]] = []
        for attempt in range(ATTEMPTS):
            tell(f"choosing widths and measuring, {attempt + 1}", (attempt + 1) / (ATTEMPTS + 1))
            budget = min(max(budget, bounds[0]), bounds[1])
            plan = plan_of(budget)
            clock = clock_of(plan)
            # A ratio does not care how fast the machine is just now.
            now = target.amount or clock.teacher_ms / (target.ratio or 1)
            over = clock.student_ms / now
            found.append((abs(over - 1), replace(plan, clock=replace(clock, wanted_ms=now))))
            if found[-1][0] <= TOLERANCE:
                break
            tried.append((budget, over))
            budget = _corrected(tried)
    return min(found, key=lambda pair: pair[0])[1]


def _corrected(tried: Sequence[tuple[float, float]]) -> float:
    """The next budget, from those tried and how many times too long each one's student took.

    Between the nearest that was too short and the nearest that was too long, where there are both.
    """
    short = max((pair for pair in tried if pair[1] < 1), default=None)
    long = min((pair for pair in tried if pair[1] >= 1), default=None)
    if short is None or long is None or short[0] >= long[0]:
        budget, over = tried[-1]
        return budget / over
    share = math.log(1 / short[1]) / math.log(long[1] / short[1])
    between: float = short[0] * (long[0] / short[0]) ** share
    return between
