"""The processes that train one student together, as torchrun starts them."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar, cast

import torch
from torch import Tensor

from wkdc.errors import DeviceError, OptionError, WkdcError
from wkdc.system.units import counted

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among those of a run. A single one has nobody to ask, and pays nothing.

    Attributes:
        index: of this process, from 0; the first one writes all files.
        count: how many there are.
        device: where this process computes.
    """

    index: int
    count: int
    device: torch.device

    def check_image_count(self, images: int) -> None:
        """Make sure that every process has an image to train on.

        Raises:
            OptionError: there are more processes than `images`.
        """
        if self.count > images:
            raise OptionError(
                f"{self.count} processes would share {counted(images, 'image')}; start at most "
                f"{images}"
            )

    @classmethod
    def join(cls, device: torch.device) -> Self:
        """Meet the others that were started with this process, if there are any.

        Args:
            device: `cpu`, or `cuda` for the GPU of this process's number on its machine.

        Raises:
            DeviceError: a GPU by number for several processes, or processes that do not meet.
        """
        if int(os.environ.get("WORLD_SIZE") or 1) == 1:
            return cls(0, 1, device)
        from accelerate import PartialState

        if device.index is not None:
            raise DeviceError(
                f"device {device} was asked for by several processes; give cuda, and each takes "
                "the GPU of its number"
            )
        state = PartialState(cpu=device.type == "cpu")
        if str(state.num_processes) != os.environ["WORLD_SIZE"]:
            raise DeviceError(
                f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but "
                f"{counted(state.num_processes, 'process', 'processes')} met; start them with "
                "torchrun"
            )
        own = device if device.type == "cpu" else state.device
        return cls(state.process_index, state.num_processes, own)

    def wait(self) -> None:
        """Until all processes are here."""
        self.sum([0.0])

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.index == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sum over processes of each value."""
        if self.count == 1:
            return list(values)
        return self._sum(torch.tensor(values, dtype=torch.float64)).tolist()

    def mean(self, values: Iterable[float]) -> list[float]:
        """The mean over processes of each value."""
        return [value / self.count for value in self.sum(list(values))]

    def of_first(self, values: Sequence[float]) -> list[float]:
        """The values of the first process."""
        return self.sum([value if self.first else 0.0 for value in values])

    def mean_gradients(self, weights: Iterable[Tensor]) -> None:
        """Give every process the mean of all gradients."""
        grads = [weight.grad for weight in weights if weight.grad is not None]
        if self.count == 1 or not grads:
            return
        mean = self._sum(torch.cat([grad.flatten() for grad in grads])) / self.count
        parts = torch.split(mean, [grad.numel() for grad in grads])
        for grad, part in zip(grads, parts, strict=True):
            grad.copy_(part.view_as(grad))

    def gather(self, content: Any) -> list[Any]:
        """What every process has, in their order: plain types and tensors on the CPU."""
        if self.count == 1:
            return [content]
        from accelerate.utils import gather_object

        return list(gather_object([content]))

    def by_first(self, make: Callable[[], T]) -> T:
        """What `make` returns in the first process, for which the others wait.

        Raises:
            WkdcError: what it raises there; in every process.
        """
        found: T | WkdcError | None = None
        if self.first:
            try:
                found = make()
            except WkdcError as error:
                found = error
        found = self.share(found)
        if isinstance(found, WkdcError):
            raise found
        return cast("T", found)

    def share(self, content: Any) -> Any:
        """What the first process has."""
        if self.count == 1:
            return content
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([content])[0]

    def _sum(self, values: Tensor) -> Tensor:
        from accelerate.utils import reduce

        out: Tensor = reduce(values.to(self.device), reduction="sum")
        return out.cpu() if values.device.type == "cpu" else out
