"""What scores depend on, and what limits them."""

from collections.abc import Sequence
from dataclasses import dataclass

from wkdc.data.layouts import Direction
from wkdc.metrics.distribution import MEANINGFUL_FID
from wkdc.system.units import counted

NAMED = 5
"""At most so many images that could not be used are named."""


@dataclass(frozen=True)
class Protocol:
    """What the scores depend on.

    Attributes:
        data: the folder.
        inputs: how many images were translated.
        domain: how many true images of the target domain they were compared with.
        held_out: whether the inputs were held out from training images by `seed`, because the
            folder has no test set.
        size: height and width that images were compared at; `resize` how they were resized.
        teacher: its file, of the digest `teacher_sha256`.
        extractor, extractor_sha256: of the features; None without features.
        lpips_sha256: of LPIPS's weight files; None without LPIPS.
        kid_subsets, kid_subset_size: see `wkdc.metrics.distribution`.
    """

    data: str
    inputs: int
    domain: int
    held_out: bool
    direction: Direction
    size: int
    resize: str
    teacher: str | None
    teacher_sha256: str | None
    extractor: str | None
    extractor_sha256: str | None
    lpips_sha256: dict[str, str] | None
    kid_subsets: int | None
    kid_subset_size: int | None
    seed: int


def protocol_warnings(protocol: Protocol, left_out: Sequence[str]) -> tuple[str, ...]:
    """What a reader of the scores should know, in sentences.

    Args:
        left_out: one sentence for each image that could not be used.
    """
    said = [f"left out: {sentence}" for sentence in left_out[:NAMED]]
    if len(left_out) > NAMED:
        said.append(f"{counted(len(left_out) - NAMED, 'image')} more left out")
    if protocol.extractor is not None:
        fewest = min(protocol.inputs, protocol.domain or protocol.inputs)
        if fewest < MEANINGFUL_FID:
            said.append(
                f"FID of {counted(fewest, 'image')} is mostly bias: do not publish it, or compare "
                f"it with FID of another number of images (use {MEANINGFUL_FID} or more); KID is "
                "unbiased"
            )
        if fewest < 50:
            said.append(f"precision and recall of {counted(fewest, 'image')} are rough estimates")
        if protocol.teacher is not None:
            said.append(
                "the models' and the teacher's images come from the same inputs and are not "
                "independent samples: their KID can fall below 0; use it to rank models, not as "
                "an absolute value"
            )
    if protocol.held_out:
        said.append(
            "the folder has no test set: these images are those that training holds out with "
            f"seed {protocol.seed}"
        )
    return tuple(said)
