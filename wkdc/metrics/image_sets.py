"""Folders of images compared as sets, each with the teacher's and with true images."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from wkdc.errors import OptionError
from wkdc.metrics.distribution import Distance, Extractor, measure_distance

SUBSET_SIZE = 1000
"""Images in a subset for KID, torch-fidelity's default; half of the images if there are fewer."""

LEAST = 8
"""Least images for KID, FID, precision and recall, which looks at third neighbours."""

Distances = tuple[Distance | None, Distance | None]
"""Of one model's images: from the teacher's, and from the true ones."""


def kid_subset_size(inputs: int, domain: int) -> int:
    """Images in a subset for KID: at most half of the images, so that the subsets differ.

    Args:
        inputs, domain: images in the sets; `domain` is 0 without true images.

    Raises:
        OptionError: there are too few images.
    """
    fewest = min(inputs, domain or inputs)
    if fewest < LEAST:
        raise OptionError(
            f"{fewest} images are too few for KID and FID; {LEAST} are the least, some hundreds "
            "a good start"
        )
    return min(SUBSET_SIZE, fewest // 2)


def compare_sets(
    outputs: Sequence[Path],
    targets: Path | None,
    extractor: Extractor,
    *,
    teacher: int | None,
    subset_size: int,
    seed: int,
    device: torch.device,
    on_progress: Callable[[float], None],
) -> list[Distances]:
    """Compare each folder of `outputs` with the teacher's and with `targets`.

    Features are kept in a folder beside the outputs, so that each is computed once.

    Args:
        targets: a folder of true images, None if there are none.
        teacher: index of the teacher's folder in `outputs`, None without a teacher.
        subset_size, seed: of KID's subsets.
        on_progress: called with the share that is done.

    Raises:
        MetricError: torch-fidelity failed.
    """

    def measure(folder: Path, other: Path) -> Distance:
        return measure_distance(
            folder,
            other,
            extractor,
            subset_size=subset_size,
            seed=seed,
            device=device,
            cache=outputs[0].parent / "features",
        )

    found: list[Distances] = []
    for index, folder in enumerate(outputs):
        on_progress(index / len(outputs))
        to_teacher = None if teacher in (None, index) else measure(folder, outputs[teacher])
        found.append((to_teacher, None if targets is None else measure(folder, targets)))
    on_progress(1.0)
    return found
