"""torch.compile with errors in one line, and without a silent fallback to uncompiled code."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from wkdc.errors import DeviceError, one_line

MOST = 64
"""Most compilations of one class of networks in a process, one for each network and shape. Two
directions of two networks come near PyTorch's own limit of 8, beyond which it silently runs
uncompiled code. The limit holds for everything that is compiled in the process."""


def compiled(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """`network` as a function compiled by torch.compile: faster, with other rounding.

    Each shape of images is compiled at its first call, which takes up to a minute. Errors of the
    backward pass are PyTorch's own, at its first run.

    Raises:
        DeviceError: raised by a call, if torch.compile does not work on its device.
    """
    settings: Any = torch._dynamo.config
    settings.recompile_limit, settings.fail_on_recompile_limit_hit = MOST, True
    # A network with hooks must be compiled again.
    settings.skip_nnmodule_hook_guards = False
    made = torch.compile(network, dynamic=False)

    def call(images: Tensor) -> Tensor:
        with _quiet_compiler():
            try:
                return made(images)  # type: ignore[no-any-return]
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # compilers raise nearly anything
                raise DeviceError(
                    f"torch.compile does not work on device {images.device}: {one_line(error)}; "
                    "leave out --compile, or if a C++ compiler is missing (on a GPU Triton), "
                    "install it"
                ) from None

    return call


@contextlib.contextmanager
def _quiet_compiler() -> Iterator[None]:
    """Keep the compiler's warnings off the console; errors are raised, too."""
    logger: Any = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
