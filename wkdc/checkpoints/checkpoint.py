"""Any .pth <-> a generator and its card. The only home of torch.load and torch.save."""

import datetime
import hashlib
import io
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wkdc.checkpoints.recognition import Recognition, recognise
from wkdc.errors import CheckpointError, OptionError
from wkdc.networks.architecture import Architecture
from wkdc.networks.custom import build_custom, examine, shapes_of
from wkdc.networks.layers import Norm, Padding
from wkdc.networks.resnet import Upsampling
from wkdc.system.files import sha256_of, write_atomically
from wkdc.system.version import __version__

FORMAT = 1
"""Version of the layout of a card; docs/checkpoint-format.md describes it."""

WRAPPERS = ("state_dict", "model_state_dict", "params_ema", "params", "generator", "netG", "model")
"""Keys under which training scripts put a state dict, in the order they are looked for."""

Card = dict[str, Any]


@dataclass(frozen=True)
class Generator:
    """A generator, or a discriminator, that came out of a file.

    Attributes:
        network: the module, float32, in evaluation mode.
        architecture: what it is; `architecture.build()` makes another one.
        card: how it was made, where wkdc wrote the file; else None.
        notes: what the file could not tell and was assumed.
        path, sha256: the file and its digest.
    """

    network: nn.Module
    architecture: Architecture
    card: Card | None
    notes: tuple[str, ...]
    path: Path
    sha256: str

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
    arch: str | None = None,
) -> Generator:
    """Load the generator of a .pth file, whichever training script wrote it.

    Nothing in the file is executed: it is read with `weights_only=True`.

    Args:
        path: a raw or wrapped state dict of a ResNet or U-Net generator, or a file of wkdc.
        norm, block_padding, upsampling: override what is read or assumed; see
            `wkdc.checkpoints.recognition`.
        arch: `package.module:factory`, whose network the weights belong to, where it is none of
            these; see `wkdc.networks.custom`.

    Raises:
        CheckpointError: missing, broken or hostile file, or no generator that wkdc knows.
        OptionError: an override that is no known name, or an `arch` that cannot be made.
    """
    loaded = load_network(
        path, norm=norm, block_padding=block_padding, upsampling=upsampling, arch=arch
    )
    if loaded.architecture.is_discriminator:
        raise CheckpointError(
            f"{path}: these are the weights of a discriminator (latest_net_D.pth?), not "
            "of a generator; give the generator, usually latest_net_G.pth"
        )
    return loaded


def load_discriminator(path: str | Path) -> Generator:
    """Load the discriminator of a .pth file, a PatchGAN or a multi-scale one.

    Raises:
        CheckpointError: missing, broken or hostile file, or no discriminator that wkdc knows.
    """
    loaded = load_network(path)
    if not loaded.architecture.is_discriminator:
        raise CheckpointError(
            f"{path} holds a generator, not a discriminator; give a PatchGAN or a multi-scale one, "
            "usually latest_net_D.pth, or what wkdc prune made of it"
        )
    return loaded


def load_network(
    path: str | Path,
    *,
    norm: Norm | None = None,
    block_padding: Padding | None = None,
    upsampling: Upsampling | None = None,
    arch: str | None = None,
) -> Generator:
    """Load the network of a .pth file, whether it draws or judges; see `load_generator`."""
    path = Path(path)
    content = load_plain(path)
    card = _card_in(content, path)
    if card is not None:
        options = card["options"]
        if card["family"] == "custom" and arch is None:
            raise CheckpointError(
                f"{path} holds a network of your own code; give --arch {options['factory']}"
            )
        norm = norm or options.get("norm")
        block_padding = block_padding or options.get("block_padding")
        upsampling = upsampling or options.get("upsampling")
    try:
        weights = _unwrap(content)
        if arch is not None and (card is None or card["family"] == "custom"):
            recognition = _as_custom(arch, weights)
        else:
            recognition = recognise(
                weights, norm=norm, block_padding=block_padding, upsampling=upsampling
            )
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
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
    )


def _as_custom(factory: str, weights: dict[str, Tensor]) -> Recognition:
    """The network that `factory` makes, as wide as the weights are."""
    shapes = shapes_of(weights)
    network = build_custom(factory, shapes)
    network.load_state_dict(weights)
    options = {"factory": factory, "shapes": shapes, **examine(network, factory)}
    return Recognition(Architecture("custom", options), weights, ())


def read_card(path: Path) -> Card | None:
    """The card of a .pth file, where it has one; its network is not made.

    Raises:
        CheckpointError: the file is missing or broken, or its card is.
    """
    return _card_in(load_plain(path), path)


def save_generator(path: str | Path, network: nn.Module, card: Card) -> None:
    """Write `{"wkdc": card, "state_dict": ...}` to `path`, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    weights = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    _check_plain(card)
    save_plain(path, {"wkdc": card, "state_dict": weights})


def make_card(
    architecture: Architecture,
    teacher: Card | None,
    history: list[Card],
) -> Card:
    """The card of a student: format, architecture, its teacher, and the commands that made it.

    Args:
        teacher: `path` and `sha256` of the teacher, `params` and `macs` of its network; None for a
            network that was not pruned from one.
        history: one entry per command, from `history_entry`, oldest first.
    """
    return {
        "format": FORMAT,
        "version": __version__,
        "family": architecture.family,
        "options": architecture.options,
        "teacher": teacher,
        "history": history,
    }


def history_entry(command: str, **options: Any) -> Card:
    """One line of a card's history: which command, when, with which version and options."""
    return {
        "command": command,
        "version": __version__,
        "torch": str(torch.__version__),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "options": {k: str(v) if isinstance(v, Path) else v for k, v in options.items()},
    }


def teacher_path(student: Generator, *, hint: str = "name the teacher") -> Path:
    """Where the teacher of `student` lies: the path on its card, as seen from the student's folder.

    Args:
        hint: what to try where the card does not help.

    Raises:
        CheckpointError: no card, no such file, or a file that is not the teacher any more.
    """
    if student.card is None or student.card["teacher"] is None:
        raise CheckpointError(f"{student.path} does not say who its teacher is; {hint}")
    path, same = find_teacher(student.path, student.card["teacher"])
    if same:
        return path
    if path.is_file():
        raise CheckpointError(
            f"{path} has changed since {student.path} was pruned from it; put the original back, "
            f"or {hint}"
        )
    named = student.card["teacher"]["path"]
    raise CheckpointError(f"the teacher of {student.path}, {named}, is not there; {hint}")


def find_teacher(student: Path, named: Card) -> tuple[Path, bool]:
    """Where the teacher lies that a card names, and whether that is still the same file.

    It is looked for beside the student and in the folders above: a run's checkpoints lie deeper
    than the student that the run writes.

    Args:
        named: `path` and `sha256`, from the card.
    """
    folder, wanted = student.parent, Path(named["path"])
    above = [one / wanted for one in list(folder.parents)[:3]]
    places = [folder / wanted, folder / wanted.name, *above]
    there = [path for path in places if path.is_file()]
    for path in there:
        if sha256_of(path) == named["sha256"]:
            return path, True
    return (there or places)[0], False


def relative_to(path: Path, folder: Path) -> str:
    """`path` as a card keeps it: relative where it lies below `folder`, else absolute."""
    path, folder = path.resolve(), folder.resolve()
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def save_plain(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain types to `path`, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    buffer = io.BytesIO()  # on a full disk torch.save itself does not say what went wrong
    torch.save(dict(content), buffer)
    write_atomically(Path(path), lambda temporary: temporary.write_bytes(buffer.getbuffer()))


def save_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain types with their digest, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
    sealed = torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8)
    save_plain(path, {"sha256": digest, "content": sealed})


def load_sealed(path: Path) -> dict[str, Any]:
    """What `save_sealed` wrote, on the CPU.

    Raises:
        CheckpointError: the file is missing, or not byte for byte what was written.
    """
    outer = load_plain(path)
    sealed = outer.get("content")
    content = sealed.numpy().tobytes() if isinstance(sealed, Tensor) else b""
    if hashlib.sha256(content).hexdigest() != outer.get("sha256"):
        raise CheckpointError(f"{path} is damaged: its digest is another")
    return dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))


def load_plain(path: Path) -> dict[str, Any]:
    """The dict of tensors and plain types in a .pth file, on the CPU.

    Raises:
        CheckpointError: the file is missing, is not one, or carries code.
    """
    if not path.is_file():
        what = "is a folder, not a weight file" if path.is_dir() else "does not exist"
        raise CheckpointError(f"{path} {what}; give a .pth file, or make one with wkdc prune")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty; copy or download it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the age of the format
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} {_refusal(path, str(error))}") from None
    except Exception:  # a broken file makes torch.load raise nearly anything
        raise CheckpointError(
            f"{path} cannot be read: it is truncated, or no PyTorch file; copy or download it again"
        ) from None
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, not a state dict; save the network's "
            "state_dict() instead"
        )
    return dict(content)


def _refusal(path: Path, message: str) -> str:
    """Why the file is refused; text read as a pickle seems to carry code, so its start decides."""
    with path.open("rb") as file:
        pickled = file.read(2).startswith((b"PK", b"\x80"))
    if pickled and any(sign in message for sign in ("GLOBAL", "Unsupported", "not an allowed")):
        return (
            "carries code, not only weights, and is refused; save the network's state_dict() "
            "in the environment that made the file"
        )
    return "cannot be read: it is truncated, or no PyTorch file; copy or download it again"


def _unwrap(content: Mapping[str, Any], depth: int = 3) -> dict[str, Tensor]:
    """The state dict inside `content`, without wrappers and `module.` prefixes, as float32."""
    for key in WRAPPERS:
        inner = content.get(key)
        if isinstance(inner, Mapping) and depth:
            return _unwrap(inner, depth - 1)
    if not any(isinstance(value, Tensor) for value in content.values()):
        keys = ", ".join(repr(k) for k in list(content)[:3]) or "nothing"
        raise CheckpointError(
            f"holds no state dict: it starts with {keys}; looked for tensors, or a dict under "
            + ", ".join(WRAPPERS)
        )
    weights: dict[str, Tensor] = {}
    for key, value in content.items():
        if not isinstance(value, Tensor) or not isinstance(key, str):
            raise CheckpointError(f"{key!r} is no tensor; save the network's state_dict() instead")
        if not value.is_floating_point() and not key.endswith("num_batches_tracked"):
            kind = str(value.dtype).removeprefix("torch.")
            raise CheckpointError(f"{key!r} holds {kind} numbers; weights are floating-point")
        weights[key] = value.float() if value.is_floating_point() else value
    while all(name.startswith("module.") for name in weights):
        weights = {name.removeprefix("module."): value for name, value in weights.items()}
    return weights


def _card_in(content: Mapping[str, Any], path: Path) -> Card | None:
    card = content.get("wkdc")
    if card is None:
        return None
    try:
        if card["format"] > FORMAT:
            raise CheckpointError(
                f"{path} was written by a newer wkdc (card format {card['format']}, this one "
                f"reads up to {FORMAT}); upgrade wkdc"
            )
        if card["family"] != "custom":  # whose code is the user's to name
            Architecture(card["family"], card["options"]).build_empty()
        if card["teacher"] is not None:
            _ = card["teacher"]["path"], card["teacher"]["sha256"]
    except (TypeError, KeyError, ValueError, IndexError, RuntimeError, OptionError):
        raise CheckpointError(f"{path}: its card is broken; prune the teacher again") from None
    return dict(card)


def _check_plain(value: Any) -> None:
    """Raise TypeError unless `weights_only=True` loads `value` again anywhere: built-in types."""
    if type(value) is dict:
        for key, entry in value.items():
            _check_plain(key)
            _check_plain(entry)
    elif type(value) in (list, tuple):
        for entry in value:
            _check_plain(entry)
    elif value is not None and type(value) not in (str, int, float, bool):
        raise TypeError(f"a card cannot hold a {type(value).__name__}")
