"""What the converters are given: the network behind an image's door, and facts for the file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from wkdc.checkpoints.checkpoint import Generator
from wkdc.errors import one_line
from wkdc.onnx.conversion import facts_of
from wkdc.system.version import __version__


class ChannelsLast(nn.Module):
    """A network that takes and gives N×H×W×C instead of N×C×H×W."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        made: Tensor = self.network(images.permute(0, 3, 1, 2))
        return made.permute(0, 2, 3, 1)


class Pixels(nn.Module):
    """A network that takes images in [-1, 1] and gives numbers from 0 to 255, as screens do."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        made: Tensor = self.network(images)
        return ((made + 1.0) * 127.5).clamp(0, 255)


def described(generator: Generator, precision: str) -> dict[str, Any]:
    """What the file should say of its network, and the precision it is in, as JSON has it."""
    return {
        "made_by": f"wkdc {__version__}",
        "precision": precision,
        "in_channels": generator.in_channels,
        "out_channels": generator.out_channels,
        **facts_of(generator),
    }


def reason_of(error: Exception) -> str:
    """The first line of what a converter or runtime says, without the graph behind it."""
    return one_line((str(error).strip().splitlines() or [type(error).__name__])[0])


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what converters write to the streams of the process, from C++ too, off the terminal."""
    kept = [os.dup(number) for number in (1, 2)]
    with Path(os.devnull).open("wb") as sink:
        try:
            for number in (1, 2):
                os.dup2(sink.fileno(), number)
            yield
        finally:
            for number, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, number)
                os.close(copy)
