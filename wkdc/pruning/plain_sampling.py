"""A teacher without its fixed blurs: its convolutions solved again with strides in their place.

CUT's generators blur maps before they halve them and when they double them. Without that, a strided
convolution halves and a transposed one doubles, as in CycleGAN: a quarter of the multiplications in
these layers, of as many weights. Least squares makes them say what the blurred maps said.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from wkdc.checkpoints.checkpoint import Generator
from wkdc.errors import OptionError
from wkdc.metrics.fidelity import mean_fidelity
from wkdc.networks.blur import BlurDownsample, BlurUpsample
from wkdc.pruning.activations import Observation, at_places
from wkdc.pruning.channels import CONVOLUTIONS
from wkdc.pruning.plan import Plan
from wkdc.pruning.reconstruction import reconstruct

Antialias = Literal["keep", "down", "up", "none"]
"""Which of its teacher's fixed blurs a student keeps: all, one direction's, or none."""


@dataclass(frozen=True)
class PlainTeacher:
    """A teacher without blurs, and the one with them at work.

    Attributes:
        teacher: the one without; of the same file.
        generated: what the original makes of each calibration image.
        outputs: what each convolution should put out, by its name in `teacher`; see `Observation`.
        error: mean squared error between the images of both.
    """

    teacher: Generator
    generated: Sequence[Tensor]
    outputs: dict[str, list[Tensor]]
    error: float

    def follow(self, plan: Plan) -> Plan:
        """The plan of `teacher`'s student, which is to follow the original."""
        if plan.observed is None or plan.expected_error is None:
            raise ValueError("a plan without images")
        observed = replace(plan.observed, generated=self.generated, outputs=self.outputs)
        return replace(plan, observed=observed, expected_error=plan.expected_error + self.error)


@torch.no_grad()
def without_blurs(teacher: Generator, images: Sequence[Tensor], keep: Antialias) -> PlainTeacher:
    """Take the blurs out of `teacher` that `keep` does not name, and solve its layers again.

    Args:
        images: 1×C×H×W in [-1, 1], all of one size.

    Raises:
        OptionError: `teacher` has none to take out, or there are no images.
    """
    options = dict(teacher.architecture.options)
    down = options.get("downsampling") == "blurred" and keep in ("up", "none")
    up = options.get("upsampling") == "blurred" and keep in ("down", "none")
    if not (down or up):
        raise OptionError(
            f"antialias {keep}: {teacher.path} has no fixed blurs to drop there; leave it out"
        )
    if not images:
        raise OptionError(
            f"antialias {keep} needs images, which make up for the blurs; give --data"
        )
    options |= {"downsampling": "strided"} if down else {}
    options |= {"upsampling": "transposed"} if up else {}
    architecture = replace(teacher.architecture, options=options)
    plain = architecture.build().eval().requires_grad_(False)
    theirs, ours = _layers(teacher.network), _layers(plain)
    for old, new in zip(theirs.values(), ours.values(), strict=True):
        _copy(old, new)
    blurs = _blurs_behind(teacher.network) if down else {}
    outputs: dict[str, list[Tensor]] = {
        name: [] for name in ours if isinstance(ours[name], CONVOLUTIONS)
    }
    hooks = []
    for (name, layer), mine in zip(theirs.items(), ours, strict=True):
        if mine in outputs:

            def take(
                _: nn.Module, __: object, out: Tensor, name: str = name, mine: str = mine
            ) -> None:
                maps = blurs[name](out) if name in blurs else out
                outputs[mine].append(at_places(maps[0]).T.contiguous())

            hooks.append(layer.register_forward_hook(take))
    try:
        generated = [teacher.network(image) for image in images]
    finally:
        for hook in hooks:
            hook.remove()
    reconstruct(plain, {}, Observation(images, generated, {}, {}, {}, outputs, {}))
    made = mean_fidelity(
        (plain(image), wanted) for image, wanted in zip(images, generated, strict=True)
    )
    error = 4 / 10 ** (made.psnr_db / 10)
    found = replace(teacher, network=plain, architecture=architecture)
    return PlainTeacher(found, generated, outputs, error)


def _layers(network: nn.Module) -> dict[str, nn.Module]:
    """All that has weights or statistics of its own, in order; blurs have neither."""
    return {
        name: layer
        for name, layer in network.named_modules()
        if not list(layer.children())
        and layer.state_dict()
        and not isinstance(layer, BlurDownsample | BlurUpsample)
    }


def _copy(old: nn.Module, new: nn.Module) -> None:
    """The weights of `old`; of a transposed convolution in its place, what it adds to one pixel."""
    weights = old.state_dict()
    if isinstance(old, nn.Conv2d) and isinstance(new, nn.ConvTranspose2d):
        weights["weight"] = weights["weight"].flip(2, 3).transpose(0, 1)
    new.load_state_dict(weights)


def _blurs_behind(network: nn.Module) -> dict[str, nn.Module]:
    """The blur behind each convolution whose output it halves, by the convolution's name."""
    found: dict[str, nn.Module] = {}
    name = ""
    for other, layer in network.named_modules():
        if isinstance(layer, CONVOLUTIONS):
            name = other
        elif isinstance(layer, BlurDownsample):
            found[name] = layer
    return found
