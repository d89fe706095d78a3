"""A trained discriminator, made smaller with the student."""

from collections.abc import Callable
from pathlib import Path

from wkdc.checkpoints.card import read_card
from wkdc.data.layouts import Direction
from wkdc.errors import OptionError, WkdcError
from wkdc.prune import prune
from wkdc.system.devices import check_device
from wkdc.system.files import sha256_of
from wkdc.training.distributed import Ranks
from wkdc.training.recipe import Recipe


def smaller_discriminator(
    given: Path | None,
    ratio: float,
    *,
    student: Path,
    recipe: Recipe,
    data: Path,
    direction: Direction,
    device: str,
    seed: int,
    on_notice: Callable[[str], None],
) -> Path:
    """`given` with `ratio` times fewer parameters, in a file beside `student`.

    Of several processes the first one makes it, calibrated on the `data` of the run to come. One
    that was made of the same file before is taken as it is.

    Raises:
        OptionError: no discriminator is given, or the `recipe` has no adversarial loss.
        WkdcError: see `wkdc.prune.prune`; in every process.
    """
    if given is None or not recipe.adversarial:
        lacks = "no --discriminator is given" if given is None else "the adversarial weight is 0"
        raise OptionError(f"disc-ratio {ratio:g} would not be used: {lacks}")
    made = student.with_name(f"{given.stem}-{ratio:g}x.pth")
    ranks = Ranks.join(check_device(device))
    wrong: WkdcError | None = None
    if ranks.first and not _is_made_of(given, made):
        try:
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
        except WkdcError as error:
            wrong = error
    wrong = ranks.share(wrong)  # the others wait for it here
    if wrong is not None:
        raise wrong
    return made


def _is_made_of(given: Path, made: Path) -> bool:
    card = (read_card(made) if made.is_file() else None) or {}
    digest = (card.get("teacher") or {}).get("sha256")
    return given.is_file() and digest == sha256_of(given)
