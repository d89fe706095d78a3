"""Several networks in one file: nested dicts, or one dict whose names start with the network's."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from torch import Tensor

from wkdc.checkpoints.file_layers import shortened
from wkdc.checkpoints.recognition import Recognition
from wkdc.errors import CheckpointError
from wkdc.system.units import printable

Wanted = Literal["generator", "discriminator"]

WRAPPERS = ("state_dict", "model_state_dict", "params_ema", "params", "generator", "netG", "model")
"""Keys under which training scripts put a state dict, in the order they are looked for."""

DEPTH = 4
"""How many dicts, or parts of a name, a network is looked for below."""

WEIGHTS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
"""The last parts of names of weights, and of BatchNorm's statistics and counter."""

LONGEST_SHOWN = 100
"""Characters of a network's key that a message shows."""

PREFIXES = ("module.", "_orig_mod.")
"""What wrappers of PyTorch put before all names: data parallelism, torch.compile."""


@dataclass(frozen=True)
class Found:
    """A network in a file.

    Attributes:
        key: that it is under: `netG_A2B`, `state_dict.gen_AB`; empty where it is the file itself.
        alone: whether the file holds no other.
    """

    key: str
    recognition: Recognition
    alone: bool = False

    @property
    def kind(self) -> Wanted:
        return "discriminator" if self.recognition.architecture.is_discriminator else "generator"

    @property
    def shown(self) -> str:
        """The key as a message shows it."""
        return _shown(self.key)

    def __str__(self) -> str:
        weights = sum(value.numel() for value in self.recognition.state_dict.values())
        family = self.recognition.architecture.family
        return f"{self.shown} ({family} {self.kind}, {weights / 1e6:.2f} M)"


@dataclass(frozen=True)
class Unknown:
    """Convolutions in a file that are of no network that wkdc knows, and why not."""

    key: str
    problem: str


def choose_network(
    content: Mapping[str, Any],
    key: str | None,
    wanted: Wanted,
    read: Callable[[dict[str, Tensor]], Recognition],
) -> Found | None:
    """The network of `content` that `key` names, or the only one of the kind that is wanted.

    A discriminator is taken for a generator where all that the file holds are discriminators.

    Args:
        key: or its end, behind a dot, where only one has it.
        read: tells the network of a state dict, or raises CheckpointError.

    Returns:
        None where there is no network at all and no key was given.

    Raises:
        CheckpointError: there is none under `key`, or there are several and no key, or it holds
            discriminators and, where a generator is wanted, a network that wkdc does not know.
    """
    networks = list(_networks_in(content, read))
    found = [one for one in networks if isinstance(one, Found)]
    unknown = [one for one in networks if isinstance(one, Unknown)]
    listed = ", ".join(map(str, found)) or "no network that wkdc knows"
    if key is not None:
        named = [one for one in found if one.key == key]
        named = named or [one for one in found if one.key.endswith(f".{key}")]
        if len(named) != 1:
            number = "several networks" if named else "nothing"
            raise CheckpointError(f"holds {number} under --key {_shown(key)}; it holds {listed}")
        return named[0]
    for kind in sorted(get_args(Wanted), key=lambda kind: kind != wanted):
        fitting = [one for one in found if one.kind == kind]
        if len(fitting) > 1:
            raise CheckpointError(
                f"holds several networks: {listed}; choose one, such as --key "
                f"{fitting[0].shown} (of --reverse: --reverse-key)"
            )
        if fitting and kind != wanted == "generator" and unknown:
            other = _shown(unknown[0].key)
            raise CheckpointError(
                f"holds {listed}, which --key {fitting[0].shown} takes, and under {other} what "
                f"cannot be read: it {unknown[0].problem}"
            )
        if fitting:
            return replace(fitting[0], alone=len(networks) == 1)
    return None


def unwrap(content: Mapping[str, Any], depth: int = 3) -> dict[str, Any]:
    """The state dict inside `content`, without wrappers and prefixes.

    Raises:
        CheckpointError: there is none.
    """
    for key in WRAPPERS:
        inner = content.get(key)
        if isinstance(inner, Mapping) and depth:
            return unwrap(inner, depth - 1)
    if not any(isinstance(value, Tensor) for value in content.values()):
        keys = ", ".join(map(shortened, list(content)[:3])) or "nothing"
        raise CheckpointError(
            f"holds no state dict: it starts with {keys}; looked for tensors, or a dict under "
            + ", ".join(WRAPPERS)
        )
    return without_prefixes(content)


def _shown(key: str) -> str:
    """In one line, the start of a long one: nobody types such a key, and the file may say more."""
    return printable(key) if len(key) <= LONGEST_SHOWN else f"{printable(key[:LONGEST_SHOWN])}..."


def without_prefixes(weights: Mapping[str, Any]) -> dict[str, Any]:
    """The same entries without what wrappers put before all names."""
    names = dict(weights)
    while names:
        prefix = next((p for p in PREFIXES if all(str(n).startswith(p) for n in names)), None)
        if prefix is None:
            break
        names = {name.removeprefix(prefix): value for name, value in names.items()}
    return names


def _networks_in(
    content: Mapping[Any, Any],
    read: Callable[[dict[str, Tensor]], Recognition],
    path: tuple[str, ...] = (),
) -> Iterator[Found | Unknown]:
    """Every network in `content`, with its key."""
    tensors = {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }
    if tensors:
        weights = without_prefixes(
            {name: value for name, value in tensors.items() if not _is_counter(name, value)}
        )
        try:
            yield Found(".".join(path), read(weights))
        except CheckpointError as error:
            parts = _by_first_name(weights) if len(path) < DEPTH else {}
            inside = [
                one
                for first, part in parts.items()
                for one in _networks_in(part, read, (*path, first))
            ]
            if any(isinstance(one, Found) for one in inside):
                yield from inside
            elif any(value.dim() == 4 for value in weights.values()):
                yield Unknown(".".join(path), str(error))
    for name, value in content.items():
        if isinstance(name, str) and isinstance(value, Mapping) and len(path) < DEPTH:
            yield from _networks_in(value, read, (*path, name))


def _is_counter(name: str, value: Tensor) -> bool:
    """Whether it is a single number that is no weight: steps done, a decay."""
    return value.dim() == 0 and name.rpartition(".")[2] not in WEIGHTS


def _by_first_name(weights: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The tensors by the first part of their names, which the others then lack."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in weights.items():
        first, dot, rest = name.partition(".")
        if dot:
            parts.setdefault(first, {})[rest] = value
    return parts
