"""Pairs in separate folders, as pix2pixHD has them: which files belong together."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wkdc.data.images import list_images
from wkdc.errors import DatasetError, ImageError
from wkdc.system.units import counted

PHASES = ("train", "test", "val")
"""The parts of a data set; `val` counts where there is no `test`."""


@dataclass(frozen=True)
class SeparatePairs:
    """The files that belong to each input, where they lie in other folders.

    Attributes:
        labels: whether the inputs are label maps (`train_label`), not images (`train_A`).
        targets: the target image of every input.
        instances: the instance map of every label map; empty where there are none.
    """

    labels: bool
    targets: Mapping[Path, Path]
    instances: Mapping[Path, Path]

    def parts_of(self, path: Path) -> list[Path]:
        """The other files that belong to an input."""
        found = (self.targets.get(path), self.instances.get(path))
        return [part for part in found if part is not None]

    def complete(
        self, paths: Sequence[Path], usable: Callable[[Sequence[Path]], list[Path]]
    ) -> list[Path]:
        """Those of `paths` of which every part is `usable`.

        Raises:
            ImageError: there are `paths`, but none of them is complete.
        """
        if not paths:
            return []
        parts = {path: [path, *self.parts_of(path)] for path in paths}
        good = set(usable([part for path in paths for part in parts[path]]))
        complete = [path for path in paths if good.issuperset(parts[path])]
        if not complete:
            raise ImageError(f"none of {len(paths)} inputs in {paths[0].parent} has all its parts")
        return complete


def has_separate_pairs(folder: Path, *, test: bool = False) -> bool:
    """Whether pairs in `folder` lie in separate folders: `train_label`, `train_A` or `A/train`.

    Args:
        test: whether test images alone are enough.
    """
    return _telling_phase(folder, test=test) is not None


def has_pix2pixhd_pairs(folder: Path, phase: str = "train") -> bool:
    """Whether they lie as pix2pixHD has them, and not as pix2pix's `combine_A_and_B.py`."""
    return any((folder / f"{phase}_{name}").is_dir() for name in ("label", "A"))


def _telling_phase(folder: Path, *, test: bool) -> str | None:
    """The part that says what the set is: the training set, else with `test` the test set."""
    for phase in PHASES if test else PHASES[:1]:
        if has_pix2pixhd_pairs(folder, phase) or (folder / "A" / phase).is_dir():
            return phase
    return None


def find_separate_pairs(
    folder: Path,
    *,
    reverse: bool = False,
    test: bool = False,
    on_notice: Callable[[str], None] | None = None,
) -> tuple[SeparatePairs, list[Path], list[Path]]:
    """Which files belong together, the training inputs, and the test inputs where there are any.

    Args:
        reverse: whether inputs and targets change places.
        test: whether test images alone are enough.
        on_notice: called with what else than images is there.

    Raises:
        DatasetError: the parts do not belong together, or label maps are to be generated.
        ImageError: a folder is missing or holds no images.
    """
    told = _telling_phase(folder, test=test) or "train"
    labels = (folder / f"{told}_label").is_dir()
    given, wanted = ("label", "img") if labels else ("A", "B")
    if reverse:
        if labels:
            raise DatasetError(
                f"direction BtoA would generate the label maps of {folder}, which can only be "
                "inputs; leave --direction out"
            )
        given, wanted = wanted, given
    has_instances = labels and (folder / f"{told}_inst").is_dir()
    targets: dict[Path, Path] = {}
    instances: dict[Path, Path] = {}
    inputs: dict[str, list[Path]] = {"train": [], "test": []}
    names = [given, wanted, *["inst"] * has_instances]
    inside = not has_pix2pixhd_pairs(folder, told)
    for phase in PHASES:
        parts = [folder / (f"{n}/{phase}" if inside else f"{phase}_{n}") for n in names]
        paths = inputs["train" if phase == "train" else "test"]
        if phase != "train" and (paths or not all(part.is_dir() for part in parts)):
            continue
        if test and not parts[0].is_dir():
            continue
        paths += list_images(parts[0], on_notice=on_notice)
        targets |= match_files(paths, parts[1])
        if has_instances:
            instances |= match_files(paths, parts[2])
    if not targets:
        raise DatasetError(
            f"{folder} has no training set, and its test set lacks a part; give test images with "
            "their targets, or the folder of the inputs alone"
        )
    return SeparatePairs(labels, targets, instances), inputs["train"], inputs["test"]


def match_files(paths: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """The image in `folder` that belongs to each of `paths`: of its name, or else the n-th.

    Raises:
        DatasetError: there are not as many, some have names in common and others do not, or two
            have the same.
        ImageError: `folder` is missing or holds no images.
    """
    others = list_images(folder)
    ours, theirs = (Counter(path.stem for path in some) for some in (paths, others))
    if not ours & theirs:
        if len(others) != len(paths):
            raise DatasetError(
                f"{paths[0].parent} holds {counted(len(paths), 'image')} and {folder} "
                f"{len(others)}; the n-th of both belong together, so there have to be as many"
            )
        return dict(zip(paths, others, strict=True))
    if ours != theirs:
        raise _unmatched(paths, others, folder)
    # Of the same name, in sub-folders, the n-th to the n-th.
    by_name = [sorted(some, key=lambda path: path.stem) for some in (paths, others)]
    return dict(zip(*by_name, strict=True))


def _unmatched(paths: Sequence[Path], others: Sequence[Path], folder: Path) -> DatasetError:
    """The error of a name that is not as often among `paths` as among `others`, of `folder`."""
    ours, theirs = (Counter(path.stem for path in some) for some in (paths, others))
    name = min((ours - theirs) + (theirs - ours))
    if ours[name] and theirs[name]:
        return DatasetError(
            f"{name} is the name of {counted(ours[name], 'image')} in {paths[0].parent} and of "
            f"{theirs[name]} in {folder}; give each pair a name of its own"
        )
    lone = next(path for path in (*paths, *others) if path.stem == name)
    lacking = folder if ours[name] else paths[0].parent
    return DatasetError(
        f"{lone} has no image of its name in {lacking}, though others do; give both parts of a "
        "pair the same name"
    )
