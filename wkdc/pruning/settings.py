"""What a teacher is to be pruned to, and how."""

from dataclasses import dataclass
from typing import get_args

from wkdc.data.calibration import CALIBRATE, JITTER
from wkdc.data.folders import ImageFolder
from wkdc.data.layouts import Direction
from wkdc.errors import OptionError
from wkdc.pruning.constraints import Widths
from wkdc.pruning.importance import Importance
from wkdc.pruning.plain_sampling import Antialias
from wkdc.pruning.target import Quantity
from wkdc.pruning.width_search import Prefer


@dataclass(frozen=True)
class PruneSettings:
    """What `wkdc.prune.prune` was asked for; see there. The card keeps all of it."""

    ratio: float | None = None
    by: Quantity | None = None
    params: int | None = None
    macs: int | None = None
    latency_ms: float | None = None
    size: tuple[int, int] | None = None
    device: str = "cpu"
    widths: Widths | None = None
    prefer: Prefer | None = None
    round_to: int | None = None
    drop_blocks: int | None = None
    importance: Importance | None = None
    seed: int = 0
    calibrate: int = CALIBRATE
    jitter: float = JITTER
    antialias: Antialias = "keep"
    data: ImageFolder | None = None
    direction: Direction = "AtoB"

    def __post_init__(self) -> None:
        """Check the calibration.

        Raises:
            OptionError: a negative number of images, no share, data that would not be used, or
                what does not go with dropping blurs.
        """
        if self.calibrate < 0:
            raise OptionError(f"calibrate is {self.calibrate}; give a number of images, 0 for none")
        if not 0 <= self.jitter <= 1:
            raise OptionError(f"jitter is {self.jitter}; give a share of the images, 0 to 1")
        if self.calibrate == 0 and self.data is not None:
            raise OptionError(
                f"data {self.data} would not be used: calibrate is 0; leave one of them out"
            )
        if self.antialias not in get_args(Antialias):
            known = ", ".join(get_args(Antialias))
            raise OptionError(f"antialias {self.antialias!r} is not known; give one of {known}")
        timed = self.by == "latency" or self.latency_ms is not None
        if self.antialias != "keep" and (timed or self.calibrate == 0):
            raise OptionError(
                f"antialias {self.antialias} needs images, which make up for the blurs, and a "
                "size to aim at: give --calibrate 1 or more, and --ratio, --params or --macs"
            )
