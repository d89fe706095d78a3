"""How a weight file is to be read, where it cannot tell."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wkdc.checkpoints.weight_files import is_exported
from wkdc.errors import OptionError
from wkdc.networks.layers import Norm, Padding
from wkdc.networks.resnet import Upsampling


@dataclass(frozen=True)
class Reading:
    """What a user, or a student's card, says of a weight file; None where nothing is said.

    Attributes:
        norm, block_padding, upsampling: see `wkdc.checkpoints.recognition`.
        key: which of several networks in the file, see `wkdc.checkpoints.containers`.
        arch: `package.module:factory`, for a network of the user's own code.
    """

    norm: Norm | None = None
    block_padding: Padding | None = None
    upsampling: Upsampling | None = None
    key: str | None = None
    arch: str | None = None

    def for_card(self) -> dict[str, str]:
        """What was said, but for the code, which no file may name."""
        said = {
            "norm": self.norm,
            "block_padding": self.block_padding,
            "upsampling": self.upsampling,
            "key": self.key,
        }
        return {name: value for name, value in said.items() if value is not None}


def reading_on_card(said: Mapping[str, Any], arch: str | None) -> Reading:
    """The inverse of `Reading.for_card`.

    Raises:
        TypeError: another kind of content.
    """
    return Reading(**said, arch=arch)


def check_unread(path: str | Path, reading: Reading) -> None:
    """Make sure that nothing is said of how to read a file that was exported.

    Raises:
        OptionError: something is.
    """
    if is_exported(path) and (said := reading.for_card()):
        name, value = next(iter(said.items()))
        raise OptionError(
            f"{name} {value} is said of {path}, which is no weight file; leave it out"
        )
