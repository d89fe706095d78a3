"""Features of residual blocks, the student's against the teacher's, through 1x1 maps."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from wkdc.networks.architecture import Architecture, residual_blocks

APART = 4
"""Features are compared in every fourth column and row: neighbours tell nearly the same."""

SHARES = (1 / 3, 2 / 3, 1)
"""After which part of the blocks features are compared, besides in front of the first."""


def why_incomparable(student: Architecture, teacher: Architecture) -> str | None:
    """Why the two have no features that can be compared; None if they have."""
    for one in (student, teacher):
        if one.family != "resnet" or not one.options["inner"]:
            return f"features compares blocks of ResNets, of which a {one.family} has none"
    if len(student.options["encoder"]) != len(teacher.options["encoder"]):
        return "features cannot be compared: student and teacher halve the image unlike often"
    return None


LAYERS = 1 + len(SHARES)


class BlockFeatures:
    """What some layers of a ResNet put out in its last call.

    They are the four of GAN-Compression (Li et al. 2020): the last of the encoder, and the blocks
    after a third, two thirds and all.
    """

    def __init__(self, network: nn.Module) -> None:
        blocks = list(residual_blocks(network))
        first = int(blocks[0].rpartition(".")[2])
        names = [f"model.{first - 1}", *(blocks[round(s * len(blocks)) - 1] for s in SHARES)]
        self.described = [APART, *names]
        """What is kept of which layers, as JSON has it."""
        # Always the same keys: new ones would let torch.compile begin anew.
        self._seen: dict[int, Tensor | None] = dict.fromkeys(range(LAYERS))
        for layer_number, name in enumerate(names):
            network.get_submodule(name).register_forward_hook(self._keeper(layer_number))

    def _keeper(self, layer_number: int) -> Callable[..., None]:
        def keep(_: nn.Module, __: object, out: Tensor) -> None:
            self._seen[layer_number] = out[..., ::APART, ::APART]

        return keep

    def take(self) -> list[Tensor]:
        """N×C×H×W of each layer; they are not kept any longer."""
        found = [one for one in self._seen.values() if one is not None]
        self._seen = dict.fromkeys(range(LAYERS))
        return found


class FeatureLoss:
    """How far a student's features, through a linear map for each layer, are from its teacher's.

    Args:
        student: the network that will be called.
        pairs: channels of student and teacher in each layer.
    """

    def __init__(self, student: nn.Module, pairs: Iterable[tuple[int, int]]) -> None:
        self._features = BlockFeatures(student)
        self.maps = nn.ModuleList(nn.Conv2d(ours, theirs, 1, bias=False) for ours, theirs in pairs)
        self.maps.register_buffer("energy", torch.ones(len(self.maps)))

    def loss(self, wanted: Sequence[Tensor]) -> Tensor:
        """Of the student's last call: the sum over layers of the mean squared difference.

        Each is over the mean square of the teacher's features in the images of `fit`, so that
        layers weigh alike, and a batch as its images one by one.

        Args:
            wanted: the teacher's features of the same images, N×C×H×W for each layer.
        """
        wrong = [
            (one(mine.float()) - theirs.float()).square().mean()
            for one, mine, theirs in zip(self.maps, self._features.take(), wanted, strict=True)
        ]
        return (torch.stack(wrong) / self.maps.get_buffer("energy")).sum()

    @torch.no_grad()
    def fit(self, calls: Iterable[tuple[Callable[[], object], Sequence[Tensor]]]) -> None:
        """Start from the maps that are the best for some images, by least squares.

        Args:
            calls: of each batch, what calls the student, and the teacher's features.
        """
        ours: list[list[Tensor]] = []
        theirs: list[list[Tensor]] = []
        for call, wanted in calls:
            call()
            ours.append([_rows(one) for one in self._features.take()])
            theirs.append([_rows(one) for one in wanted])
        for layer_number, layer in enumerate(self.maps):
            x, y = (torch.cat([batch[layer_number] for batch in side]) for side in (ours, theirs))
            weight = torch.linalg.lstsq(x, y).solution.T[:, :, None, None]
            layer.load_state_dict({"weight": weight.float()})
            energy = y.square().mean()
            self.maps.get_buffer("energy")[layer_number] = energy if energy > 0 else 1.0


def _rows(features: Tensor) -> Tensor:
    """N×C×H×W -> a row of C for each position, in float64 on the CPU: least squares of many."""
    return features.detach().movedim(1, -1).flatten(0, 2).double().cpu()
