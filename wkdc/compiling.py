"""torch.compile, which says in one line that it does not work, and never draws uncompiled."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from wkdc.errors import DeviceError

MOST = 64
"""Networks and shapes of one class that a process compiles. Two directions of two networks come
near PyTorch's own limit of 8, after which networks would run as they are, without a word."""


def compiled(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """What calls `network` by torch.compile: faster, with other last digits.

    Each shape of pictures is compiled when it first comes, which takes up to a minute.

    Raises:
        DeviceError: by the first call: torch.compile does not work there.
    """
    made = torch.compile(network, dynamic=False)
    works = False

    def call(images: Tensor) -> Tensor:
        nonlocal works
        with _many_allowed():
            if works:
                return made(images)  # type: ignore[no-any-return]
            with _quiet_compiler():
                try:
                    drawn: Tensor = made(images)
                except Exception as error:  # compilers raise nearly anything
                    reason = str(error).strip().splitlines()[0]
                    raise DeviceError(
                        f"torch.compile does not work on device {images.device}: {reason}; install "
                        "a C++ compiler (on a GPU Triton, too), or leave out --compile"
                    ) from None
        works = True
        return drawn

    return call


def _many_allowed() -> contextlib.AbstractContextManager[None]:
    settings: Any = torch._dynamo.config
    limits = {"recompile_limit": MOST, "fail_on_recompile_limit_hit": True}
    return settings.patch(**limits)  # type: ignore[no-any-return]


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
