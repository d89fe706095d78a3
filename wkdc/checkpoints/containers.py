"""Several networks in one file: nested dicts, or one dict whose names start with the network's."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from wkdc.checkpoints.recognition import Recognition
from wkdc.errors import CheckpointError

Wanted = Literal["generator", "discriminator"]

DEPTH = 4
"""How many dicts, or parts of a name, a network is looked for below."""

WEIGHTS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
"""The last parts of names of weights, and of BatchNorm's statistics and counter."""

PREFIXES = ("module.", "_orig_mod.")
"""What wrappers of PyTorch put before all names: data parallelism, torch.compile."""


@dataclass(frozen=True)
class Found:
    """A network in a file, and the key that it is under: `netG_A2B`, `state_dict.gen_AB`."""

    key: str
    recognition: Recognition

    @property
    def is_generator(self) -> bool:
        return not self.recognition.architecture.is_discriminator

    @property
    def shown(self) -> str:
        """The key in one line."""
        return self.key if self.key.isprintable() else repr(self.key)

    def __str__(self) -> str:
        weights = sum(value.numel() for value in self.recognition.state_dict.values())
        kind = "generator" if self.is_generator else "discriminator"
        return (
            f"{self.shown} ({self.recognition.architecture.family} {kind}, {weights / 1e6:.2f} M)"
        )


def choose_network(
    content: Mapping[str, Any],
    key: str | None,
    wanted: Wanted,
    read: Callable[[dict[str, Tensor]], Recognition],
) -> Found | None:
    """The network of `content` that `key` names, or the only one of the kind that is wanted.

    Args:
        read: tells the network of a state dict, or raises CheckpointError.

    Returns:
        None where there is no network at all and no key was given.

    Raises:
        CheckpointError: there is none under `key`, or there are several and no key.
    """
    found = list(_networks_in(content, read))
    listed = ", ".join(map(str, found)) or "no network that wkdc knows"
    if key is not None:
        named = [one for one in found if one.key == key]
        if not named:
            raise CheckpointError(f"holds nothing under --key {key}; it holds {listed}")
        return named[0]
    for kind in (wanted == "generator", wanted != "generator"):
        fitting = [one for one in found if one.is_generator == kind]
        if len(fitting) > 1:
            raise CheckpointError(
                f"holds {len(fitting)} networks: {listed}; choose one, such as --key "
                f"{fitting[0].shown} (of --reverse: --reverse-key)"
            )
        if fitting:
            return fitting[0]
    return None


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
) -> Iterator[Found]:
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
        except CheckpointError:
            if len(path) < DEPTH:
                for first, part in _by_first_name(weights).items():
                    yield from _networks_in(part, read, (*path, first))
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
