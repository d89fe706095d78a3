"""Images that a run is not trained on, and how near the student comes there."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from wkdc.data.folders import evenly_spread
from wkdc.metrics.fidelity import Fidelity, mean_band_errors, mean_fidelity

IMAGES = 32
"""At most so many images are compared; see `wkdc.data.folders.evenly_spread`."""

WATCHED = 8
"""Of these, at most so many are also compared on the way."""

SAMPLE_ROWS = 4
"""Rows of a sample grid."""

Generate = Callable[[nn.Module, Tensor], Tensor]


class Validation:
    """Inputs, and the images that a student should make of them.

    Args:
        squares: of each input, 1×C×side×side as networks have it: itself, and the truth where it is
            paired.
        teacher: whose images are wanted; None takes the truth where there is one.
        generate: calls a network.
        show: makes of an input what people see of it.
    """

    def __init__(
        self,
        squares: Sequence[Sequence[Tensor]],
        teacher: nn.Module | None,
        generate: Generate,
        show: Callable[[Tensor], Tensor],
    ) -> None:
        self.inputs = [one[0] for one in squares]
        self._generate, self._show = generate, show
        self._wanted: list[Tensor] | None = None
        if teacher is not None:
            self._wanted = [generate(teacher, image) for image in self.inputs]
        elif all(len(one) > 1 for one in squares):
            self._wanted = [one[1] for one in squares]

    def fidelity(self, network: nn.Module) -> Fidelity | None:
        """How near `network` comes; None where there is nothing to compare with."""
        if self._wanted is None:
            return None
        pairs = zip(self.inputs, self._wanted, strict=True)
        return mean_fidelity((self._generate(network, image), wanted) for image, wanted in pairs)

    def watch(
        self, network: nn.Module
    ) -> tuple[Fidelity | None, dict[str, float], list[list[Tensor]]]:
        """Of a few images: how near, the error in each band, and rows for a sample grid."""
        chosen = evenly_spread(range(len(self.inputs)), WATCHED)
        generated = [self._generate(network, self.inputs[i]) for i in chosen]
        shown = [self._show(self.inputs[i]) for i in chosen]
        if self._wanted is None:
            rows = [[given, made] for given, made in zip(shown, generated, strict=True)]
            return None, {}, rows[:SAMPLE_ROWS]
        wanted = [self._wanted[i] for i in chosen]
        pairs = list(zip(generated, wanted, strict=True))
        rows = [[given, b, a] for given, (a, b) in zip(shown, pairs, strict=True)]
        return mean_fidelity(pairs), mean_band_errors(pairs), rows[:SAMPLE_ROWS]
