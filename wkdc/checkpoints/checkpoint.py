"""Any .pth file <-> a network and its card."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wkdc.checkpoints.card import Card, card_in, check_plain, find_teacher, read_card
from wkdc.checkpoints.containers import WRAPPERS, Wanted, choose_network, unwrap
from wkdc.checkpoints.file_layers import check_entries
from wkdc.checkpoints.reading import Reading, reading_on_card
from wkdc.checkpoints.recognition import Recognition, recognise
from wkdc.checkpoints.weight_files import is_exported, load_plain, save_plain
from wkdc.errors import CheckpointError
from wkdc.networks.architecture import Architecture
from wkdc.networks.custom import build_custom, examine, shapes_of
from wkdc.networks.layers import Norm, Padding
from wkdc.networks.resnet import Upsampling
from wkdc.system.files import sha256_of


@dataclass(frozen=True)
class Generator:
    """A generator, or a discriminator, as a file has it.

    Attributes:
        network: the module, float32, in evaluation mode.
        architecture: what it is; `architecture.build()` makes another one.
        card: how it was made, where wkdc wrote the file; else None.
        notes: what the file could not tell and was assumed.
        path, sha256: the file and its digest.
        reading: how it was to be read.
    """

    network: nn.Module
    architecture: Architecture
    card: Card | None
    notes: tuple[str, ...]
    path: Path
    sha256: str
    reading: Reading = field(default_factory=Reading)

    @property
    def in_channels(self) -> int:
        return int(self.architecture.options["in_channels"])

    @property
    def out_channels(self) -> int:
        return int(self.architecture.options.get("out_channels", 1))


def load_generator(
    path: str | Path,
    *,
    norm: Norm | None = None,
    block_padding: Padding | None = None,
    upsampling: Upsampling | None = None,
    key: str | None = None,
    arch: str | None = None,
) -> Generator:
    """Load the generator of a .pth file, whichever training script wrote it.

    Nothing in the file is executed: it is read with `weights_only=True`.

    Args:
        path: a raw or wrapped state dict of a generator of docs/teachers.md, or a file of wkdc.
        norm, block_padding, upsampling: override what is read or assumed; see
            `wkdc.checkpoints.recognition`.
        key: which network, of a file that holds several.
        arch: `package.module:factory`, whose network the weights belong to, where it is none of
            these; see `wkdc.networks.custom`.

    Raises:
        CheckpointError: missing, broken or hostile file, or no generator that wkdc knows.
        OptionError: an override that is no known name, or an `arch` that cannot be made.
    """
    return check_generates(load_network(path, Reading(norm, block_padding, upsampling, key, arch)))


def check_generates(loaded: Generator) -> Generator:
    """`loaded`, if it is a generator.

    Raises:
        CheckpointError: it is a discriminator.
    """
    if loaded.architecture.is_discriminator:
        raise CheckpointError(
            f"{loaded.path}: these are the weights of a discriminator (latest_net_D.pth?), not "
            "of a generator; give the generator, usually latest_net_G.pth"
        )
    return loaded


def load_discriminator(path: str | Path) -> Generator:
    """Load the discriminator of a .pth file, a PatchGAN or a multi-scale one.

    Raises:
        CheckpointError: missing, broken or hostile file, or no discriminator that wkdc knows.
    """
    loaded = load_network(path, wanted="discriminator")
    if not loaded.architecture.is_discriminator:
        raise CheckpointError(
            f"{path} holds a generator, not a discriminator; give a PatchGAN or a multi-scale one, "
            "usually latest_net_D.pth, or what wkdc prune made of it"
        )
    return loaded


def load_network(
    path: str | Path, reading: Reading | None = None, *, wanted: Wanted = "generator"
) -> Generator:
    """Load the network of a .pth file, a generator or a discriminator; see `load_generator`.

    Args:
        wanted: which of them, of a file that holds both.
    """
    path, reading = Path(path), reading or Reading()
    content = load_plain(path)
    try:
        card = card_in(content, path)
        recognition = (
            _of_student(content, card, reading, path)
            if card is not None
            else _of_stranger(content, reading, wanted)
        )
    except CheckpointError as error:
        text = str(error)
        raise CheckpointError(text if text.startswith(str(path)) else f"{path}: {text}") from None
    broken = [k for k, v in recognition.state_dict.items() if not bool(v.isfinite().all())]
    if broken:
        raise CheckpointError(f"{path}: {broken[0]!r} holds NaN or infinity; the file is no use")
    network = recognition.architecture.build()
    network.load_state_dict(recognition.state_dict)
    return Generator(
        network.eval().requires_grad_(False),
        recognition.architecture,
        card,
        () if card else recognition.notes,
        path,
        sha256_of(path),
        reading,
    )


def load_beside(path: str | Path, reading: Reading, cards: Iterable[Card | None] = ()) -> Generator:
    """Load a generator, read as `reading_for` says."""
    return check_generates(load_network(path, reading_for(path, reading, cards)))


def reading_for(path: str | Path, reading: Reading, cards: Iterable[Card | None] = ()) -> Reading:
    """How one of several files is to be read: as is said, else as its student's card says.

    Which of several networks a student was made of, its card alone says.

    Args:
        reading: what is said of all of them; a file of wkdc holds one network, which has no key.
        cards: of students, which may name `path` as their teacher.
    """
    if reading.key is not None and not is_exported(path) and read_card(Path(path)) is not None:
        reading = replace(reading, key=None)
    for card in cards:
        named = None if card is None else card["teacher"]
        said = named.get("reading") if named is not None else None
        if named and said and Path(path).is_file() and sha256_of(Path(path)) == named["sha256"]:
            key = {name: said[name] for name in said if name == "key"}
            return reading_on_card({**said, **reading.for_card(), **key}, reading.arch)
    return reading


def _of_student(
    content: Mapping[str, Any], card: Card, reading: Reading, path: Path
) -> Recognition:
    """The network in a file of wkdc, as its card says."""
    options = card["options"]
    if reading.key is not None:
        raise CheckpointError("holds one network, of wkdc's own; leave out --key")
    if reading.norm == "batch" and options.get("norm") == "batch-per-image":
        raise CheckpointError(
            "takes each image's own statistics, as its card says, and holds no others; leave out "
            "--norm batch"
        )
    if card["family"] == "custom":
        if reading.arch is None:
            raise CheckpointError(
                f"{path} holds a network of your own code; give --arch {options['factory']}"
            )
        return _as_custom(reading.arch, _checked(unwrap(content)))
    found = recognise(
        _checked(unwrap(content)),
        norm=reading.norm or options.get("norm"),
        block_padding=reading.block_padding or options.get("block_padding"),
        upsampling=reading.upsampling or options.get("upsampling"),
        skips=options.get("skips"),
    )
    said = Architecture(card["family"], options)
    try:
        widths = said.widths()
    except KeyError as missing:
        raise CheckpointError(f"its card lacks {missing}; prune the teacher again") from None
    same = (found.architecture.family, found.architecture.widths()) == (said.family, widths)
    if not same and reading.upsampling is None:  # which widths depend on
        raise CheckpointError("its card is of another network than its weights; prune it again")
    return found


def _of_stranger(content: Mapping[str, Any], reading: Reading, wanted: Wanted) -> Recognition:
    """The network in a file of somebody else's code: the only one, or that of the key."""

    def read(weights: Mapping[str, Tensor]) -> Recognition:
        checked = _checked(weights)
        if reading.arch is not None:
            return _as_custom(reading.arch, checked)
        return recognise(
            checked,
            norm=reading.norm,
            block_padding=reading.block_padding,
            upsampling=reading.upsampling,
        )

    found = choose_network(content, reading.key, wanted, read)
    if found is None:
        return read(unwrap(content))  # which says why there is none
    if reading.key is not None or (found.alone and set(found.key.split(".")) <= {"", *WRAPPERS}):
        return found.recognition
    note = f"the {found.kind} {found.key!r} of this file (else --key)"
    return replace(found.recognition, notes=(note, *found.recognition.notes))


def _as_custom(factory: str, weights: dict[str, Tensor]) -> Recognition:
    """The network that `factory` makes, as wide as the weights are."""
    shapes = shapes_of(weights)
    network = build_custom(factory, shapes)
    network.load_state_dict(weights)
    options = {"factory": factory, "shapes": shapes, **examine(network, factory)}
    return Recognition(Architecture("custom", options), weights, ())


def save_generator(path: str | Path, network: nn.Module, card: Card) -> None:
    """Write `{"wkdc": card, "state_dict": ...}` to `path`, whole or not at all.

    BatchNorm that takes each image's statistics has fresh running ones in the file, which the
    original code asks for when it loads it, and does not use in training mode.

    Raises:
        OutputError: the file cannot be written.
    """
    weights = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    if card["options"].get("norm") == "batch-per-image":
        for name, layer in network.named_modules():
            if isinstance(layer, nn.InstanceNorm2d):
                fresh = nn.BatchNorm2d(layer.num_features, affine=False).state_dict()
                weights |= {f"{name}.{leaf}": value for leaf, value in fresh.items()}
    check_plain(card)
    save_plain(path, {"wkdc": card, "state_dict": weights})


def teacher_path(student: Path, card: Card | None, *, hint: str = "name the teacher") -> Path:
    """Where the teacher of `student` lies: the path on its card, as seen from the student's folder.

    Args:
        card: the student's.
        hint: what to try where the card does not help.

    Raises:
        CheckpointError: no card, no such file, or a file that is not the teacher any more.
    """
    if card is None or card["teacher"] is None:
        raise CheckpointError(f"{student} does not say who its teacher is; {hint}")
    path, same = find_teacher(student, card["teacher"])
    if same:
        return path
    if path.is_file():
        raise CheckpointError(
            f"{path} has changed since {student} was pruned from it; put the original back, "
            f"or {hint}"
        )
    named = card["teacher"]["path"]
    raise CheckpointError(f"the teacher of {student}, {named}, is not there; {hint}")


def _checked(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a state dict as float32.

    Raises:
        CheckpointError: some entry is no plain tensor of floating-point numbers.
    """
    check_entries(content)
    weights: dict[str, Tensor] = {}
    for key, value in content.items():
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise CheckpointError(
                f"{key!r} is sparse, quantized or empty of numbers; save dense weights instead"
            )
        if value.nbytes > value.untyped_storage().nbytes():
            raise CheckpointError(
                f"{key!r} promises {value.numel()} numbers, more than the file holds; save the "
                "network's state_dict() instead"
            )
        counter = key.endswith("num_batches_tracked")
        if not value.is_floating_point() and not (counter and not value.is_complex()):
            kind = str(value.dtype).removeprefix("torch.")
            raise CheckpointError(f"{key!r} holds {kind} numbers; weights are floating-point")
        weights[key] = value.float() if value.is_floating_point() else value
    return weights
