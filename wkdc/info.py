"""What a weight file is: its network, what that costs, and how the file was made."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from wkdc.checkpoints.card import BROKEN, Card, find_teacher
from wkdc.checkpoints.checkpoint import load_network
from wkdc.checkpoints.reading import Reading, check_unread
from wkdc.errors import CheckpointError, OptionError
from wkdc.networks.architecture import Architecture, measured_size
from wkdc.networks.complexity import Complexity, measure_complexity
from wkdc.networks.layers import Norm
from wkdc.onnx.file import OnnxInterface, count_onnx_params, read_interface
from wkdc.system.files import sha256_of

Presence = Literal["there", "changed", "missing"]


@dataclass(frozen=True)
class TeacherFile:
    """The teacher that a card names: where, and whether it is still the one it was."""

    path: Path
    sha256: str
    presence: Presence


@dataclass(frozen=True)
class InfoResult:
    """What a file is.

    Attributes:
        architecture: None for a .onnx that wkdc did not write.
        params: number of weights; `macs` and `macs_output_resolution` for one image of `size`
            (height, width), see `wkdc.networks.complexity`; None where the network is not known.
        size_bytes, sha256: of the file; `source_sha256` of the .pth that a .onnx was made from.
        card: see docs/checkpoint-format.md; None for a file that wkdc did not write.
        teacher: None where the card names none.
        precision: what a .onnx of wkdc computes in; None for other files.
        interface: of a .onnx.
        notes: what the file could not tell and was assumed.
    """

    path: Path
    architecture: Architecture | None
    params: int
    macs: int | None
    macs_output_resolution: int | None
    size: tuple[int, int] | None
    size_bytes: int
    sha256: str
    source_sha256: str | None
    card: Card | None
    teacher: TeacherFile | None
    precision: str | None
    interface: OnnxInterface | None
    notes: tuple[str, ...]


def info(
    path: str | Path,
    *,
    size: tuple[int, int] | None = None,
    norm: Norm | None = None,
    key: str | None = None,
    arch: str | None = None,
) -> InfoResult:
    """Say what `path` holds, without running it.

    Args:
        path: a .pth of a generator or discriminator, or a .onnx.
        size: height and width that MACs are counted at.
        norm, key, arch: see `load_generator`.

    Raises:
        CheckpointError: the file cannot be read, or is no network that wkdc knows.
        OptionError: the network does not take `size`; or a .onnx, which needs no `norm` or `key`.
    """
    path = Path(path)
    if path.suffix.lower() == ".onnx":
        check_unread(path, Reading(norm=norm, key=key))
        return _info_of_onnx(path, size)
    loaded = load_network(path, Reading(norm=norm, key=key, arch=arch))
    side = measured_size(size, loaded.architecture)
    cost = measure_complexity(loaded.network, loaded.in_channels, side)
    return InfoResult(
        path=path,
        architecture=loaded.architecture,
        params=cost.params,
        macs=cost.macs,
        macs_output_resolution=cost.macs_output_resolution,
        size=side,
        size_bytes=path.stat().st_size,
        sha256=loaded.sha256,
        source_sha256=None,
        card=loaded.card,
        teacher=_teacher(loaded.card, path),
        precision=None,
        interface=None,
        notes=loaded.notes,
    )


def _info_of_onnx(path: Path, size: tuple[int, int] | None) -> InfoResult:
    interface = read_interface(path)
    said = interface.metadata
    architecture, cost, side = None, None, None
    if "family" in said and "options" in said:
        architecture = Architecture(said["family"], said["options"])
        side = measured_size(size, architecture)
        if architecture.family != "custom":  # whose code is the user's
            try:
                channels = int(architecture.options["in_channels"])
                cost = measure_complexity(architecture.build_empty(), channels, side)
            except (*BROKEN, CheckpointError):
                raise CheckpointError(
                    f"{path}: what wkdc wrote into it is broken; export it again"
                ) from None
    elif size is not None:
        raise OptionError(
            f"{path} does not say which network it holds, so no MACs are counted; leave --size out"
        )
    card = said.get("card")
    return InfoResult(
        path=path,
        architecture=architecture,
        params=int(said.get("params") or count_onnx_params(path)),
        macs=None if cost is None else cost.macs,
        macs_output_resolution=None if cost is None else cost.macs_output_resolution,
        size=side if isinstance(cost, Complexity) else None,
        size_bytes=path.stat().st_size,
        sha256=sha256_of(path),
        source_sha256=said.get("source_sha256"),
        card=card,
        teacher=_teacher(card, path),
        precision=said.get("precision", "float32" if said else None),
        interface=interface,
        notes=(),
    )


def _teacher(card: dict[str, Any] | None, path: Path) -> TeacherFile | None:
    named = (card or {}).get("teacher")
    if named is None:
        return None
    found, same = find_teacher(path, named)
    presence: Presence = "there" if same else "changed" if found.is_file() else "missing"
    return TeacherFile(found, named["sha256"], presence)
