"""Least squares whose equations come image by image, and that stays near a kernel that is there."""

import math

import torch
from torch import Tensor


class NormalEquations:
    """Least squares by its normal equations, whose size is the square of the unknowns."""

    def __init__(self) -> None:
        self._gram = torch.zeros(0)  # its upper triangle
        self._cross = torch.zeros(0)
        self._mirrored: Tensor | None = None
        self.square = torch.zeros(0)

    def add(self, given: Tensor, wanted: Tensor) -> None:
        """Add the equations `given` (N×D) x kernel = `wanted` (N×O)."""
        if not len(self._gram):
            unknowns, outputs = given.shape[1], wanted.shape[1]
            self._gram = torch.zeros(unknowns, unknowns).double()
            self._cross = torch.zeros(unknowns, outputs).double()
            self.square = torch.zeros(outputs).double()
        self._mirrored = None
        _add_gram(self._gram, given)
        self._cross += (given.T @ wanted.to(given.dtype)).double()
        self.square += wanted.double().square().sum(0)

    @property
    def energy(self) -> float:
        """The sum of squares of all that was given."""
        return float(self._gram.diagonal().sum())

    def solve(self, old: Tensor, ridge: float) -> Tensor:
        """The best kernel, D×O, where leaving `old` costs `ridge` times the squared distance."""
        gram = self._symmetric().clone()
        gram.diagonal().add_(ridge)
        new: Tensor = torch.linalg.solve(gram, self._cross + ridge * old)
        return new

    def against(self, kernel: Tensor) -> tuple[Tensor, Tensor]:
        """By output: what `kernel` puts out times what is wanted, and times itself."""
        return (kernel * self._cross).sum(0), (kernel * (self._symmetric() @ kernel)).sum(0)

    def _symmetric(self) -> Tensor:
        if self._mirrored is None:
            self._mirrored = self._gram.triu() + self._gram.triu(1).T
        return self._mirrored


class FewEquations:
    """The same with fewer equations than unknowns: the square of the equations is enough."""

    def __init__(self) -> None:
        self._given: list[Tensor] = []
        self._wanted: list[Tensor] = []

    def add(self, given: Tensor, wanted: Tensor) -> None:
        self._given.append(given.double())
        self._wanted.append(wanted.double())

    @property
    def square(self) -> Tensor:
        return torch.cat(self._wanted).square().sum(0)

    @property
    def energy(self) -> float:
        return sum(float(given.square().sum()) for given in self._given)

    def solve(self, old: Tensor, ridge: float) -> Tensor:
        given = torch.cat(self._given)
        inner = given @ given.T
        inner.diagonal().add_(ridge)
        left = torch.cat(self._wanted) - given @ old
        new: Tensor = old + given.T @ torch.linalg.solve(inner, left)
        return new

    def against(self, kernel: Tensor) -> tuple[Tensor, Tensor]:
        made = torch.cat(self._given) @ kernel
        return (made * torch.cat(self._wanted)).sum(0), made.square().sum(0)


def _add_gram(total: Tensor, rows: Tensor) -> None:
    """Add the upper triangle of rows' x rows (N×D) to `total` (D×D), in place.

    The lower one is the same; blocks of columns leave most of it out.
    """
    size = max(128, math.ceil(rows.shape[1] / 6))
    for start in range(0, rows.shape[1], size):
        block = rows[:, start : start + size]
        total[start : start + size, start:] += (block.T @ rows[:, start:]).double()
