"""What the teachers draw before training, so that each drawing serves several steps."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from wkdc.training.direction import Side
from wkdc.training.distributed import Ranks
from wkdc.training.loop import StepReport
from wkdc.training.recipe import Recipe
from wkdc.training.run_config import Request

MAX_PIXELS = 4096 * 128 * 128
"""Of all crops that a teacher draws ahead: 0.6 GB, and for a ResNet-9 0.5 GB of its features."""

DRAWING_SHARE = 0.2
"""Share of a time budget that the teachers may spend on drawing ahead."""


def batches_of(step: int, recipe: Recipe) -> range:
    """The numbers of the batches that a step is made of."""
    return range(step * recipe.accumulate, (step + 1) * recipe.accumulate)


def draw_ahead(
    sides: Sequence[Side],
    request: Request,
    ranks: Ranks,
    *,
    started: float,
    again: int | None,
    on_step: Callable[[StepReport], None],
    on_notice: Callable[[str], None],
) -> int:
    """Let the teachers draw before training, if the recipe says so; how many crops each drew.

    Args:
        started: `time.monotonic()` of the run's start.
        again: how many they drew when the run began, where it goes on.
    """
    recipe, budget = request.recipe, request.budget
    if recipe.reuse == 1 or any(side.teacher is None for side in sides):
        return 0
    wanted = again or max(1, MAX_PIXELS // recipe.crop**2)
    together = recipe.images_per_step * ranks.count
    cached, enough_for = _open_caches(sides, request, ranks, on_notice)
    if budget.steps is not None and again is None:
        wanted = min(wanted, -(-budget.steps * together // recipe.reuse))
    count = 0
    while count < wanted:
        (share,) = ranks.of_first([budget.progress(0, time.monotonic() - started)])
        enough = share > DRAWING_SHARE or enough_for >= (budget.seconds or math.inf)
        if count >= max(1, cached) and again is None and enough:
            break
        for number in batches_of(count // together, recipe):
            for side in sides:
                side.draw_ahead(number)
        count += together
        on_step(StepReport("draw", count, share, {}, 0.0, 0.0))
    for side in sides:
        if count > cached:
            side.fill_cache(max(enough_for, budget.seconds or 0.0))
        side.keep_drawings(count // (recipe.batch * ranks.count))
    return count


def _open_caches(
    sides: Sequence[Side], request: Request, ranks: Ranks, on_notice: Callable[[str], None]
) -> tuple[int, float]:
    """How many crops all sides of all processes have cached, and for how long a run."""
    if request.cache is None:
        return 0, 0.0
    mine = [side.open_cache(Path(request.cache), on_notice) for side in sides]
    found = [one for process in ranks.gather(mine) for one in process]
    fewest = min(batches for batches, _ in found)
    return fewest * request.recipe.batch * ranks.count, min(seconds for _, seconds in found)
