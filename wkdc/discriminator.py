"""A trained discriminator, made smaller with the student."""

from collections.abc import Callable
from pathlib import Path

from wkdc.checkpoint import read_card
from wkdc.errors import OptionError
from wkdc.files import sha256_of
from wkdc.layouts import Direction
from wkdc.prune import prune
from wkdc.training.ranks import Ranks
from wkdc.training.recipe import Recipe


def smaller_discriminator(
    given: Path | None,
    ratio: float,
    *,
    student: Path,
    recipe: Recipe,
    data: Path,
    direction: Direction,
    seed: int,
    ranks: Ranks,
    on_notice: Callable[[str], None],
) -> Path:
    """`given` with `ratio` times fewer parameters, in a file beside `student`.

    The first process makes it, calibrated on the run's `data`. One that an earlier run made of the
    same file is taken as it is.

    Raises:
        OptionError: no discriminator is given, or the `recipe` has no adversarial loss.
        CheckpointError, TargetError, OutputError: see `wkdc.prune.prune`.
    """
    if given is None or not recipe.adversarial:
        lacks = "no --discriminator is given" if given is None else "the adversarial weight is 0"
        raise OptionError(f"disc-ratio {ratio:g} would not be used: {lacks}")
    made = student.with_name(f"{given.stem}-{ratio:g}x.pth")
    if ranks.first and not _is_made_of(given, made):
        result = prune(
            given,
            ratio=ratio,
            output=made,
            data=data,
            direction=direction,
            seed=seed,
            on_notice=on_notice,
        )
        on_notice(f"{given} -> {made}: {result.params_ratio:.2f}x fewer parameters")
    ranks.wait()  # for the file
    return made


def _is_made_of(given: Path, made: Path) -> bool:
    card = (read_card(made) if made.is_file() else None) or {}
    digest = (card.get("teacher") or {}).get("sha256")
    return given.is_file() and digest == sha256_of(given)
