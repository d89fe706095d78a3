"""torch.compile, which says in one line that it does not work, and never runs uncompiled code."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from wkdc.errors import DeviceError

MOST = 64
"""Networks and shapes of one class that a process compiles. Two directions of two networks come
near PyTorch's own limit of 8, after which networks would run as they are, without a word. The
limit is the process's: what else is compiled there has it, too."""


def compiled(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """What calls `network` by torch.compile: faster, with other last digits.

    Each shape of images is compiled when it first comes, which takes up to a minute. What the
    backward pass lacks, PyTorch says when that is first run.

    Raises:
        DeviceError: by a call: torch.compile does not work there.
    """
    settings: Any = torch._dynamo.config
    settings.recompile_limit, settings.fail_on_recompile_limit_hit = MOST, True
    # A network that is watched by hooks is none that was compiled without them.
    settings.skip_nnmodule_hook_guards = False
    made = torch.compile(network, dynamic=False)

    def call(images: Tensor) -> Tensor:
        with _quiet_compiler():
            try:
                return made(images)  # type: ignore[no-any-return]
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # compilers raise nearly anything
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise DeviceError(
                    f"torch.compile does not work on device {images.device}: {reason}; leave out "
                    "--compile, or if a C++ compiler is missing (on a GPU Triton), install it"
                ) from None

    return call


@contextlib.contextmanager
def _quiet_compiler() -> Iterator[None]:
    """Keep the compiler's warnings off the console: what goes wrong is raised, too."""
    logger: Any = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
