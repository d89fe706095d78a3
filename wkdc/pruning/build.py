"""A plan -> the network of its student."""

from collections.abc import Callable
from dataclasses import replace

from torch import nn

from wkdc.checkpoints.recognition import recognise
from wkdc.networks.animegan import InvertedBlock
from wkdc.networks.architecture import Architecture
from wkdc.networks.custom import shapes_of
from wkdc.pruning.plan import Plan
from wkdc.pruning.reconstruction import LayerFit, reconstruct


def build(
    plan: Plan, *, on_layer: Callable[[float], None] | None = None
) -> tuple[nn.Module, Architecture, tuple[LayerFit, ...]]:
    """The student of `plan`, reconstructed where images were seen, what it is, and how well."""
    sliced = plan.sliced()
    layers: list[LayerFit] = []
    if plan.observed is not None:
        kept = {
            name: group.produced_channels(name, chosen)
            for group, chosen in zip(plan.groups, plan.kept, strict=True)
            for name in group.producers
        }
        layers = reconstruct(sliced, kept, plan.observed, on_layer=on_layer)
    student, architecture = rebuild(sliced, plan.teacher.architecture)
    return student, architecture, tuple(layers)


def rebuild(sliced: nn.Module, teacher: Architecture) -> tuple[nn.Module, Architecture]:
    """A fresh network of the widths that are left in `sliced`, with its weights."""
    if teacher.family == "custom":
        shapes = shapes_of(sliced.state_dict())
        architecture = replace(teacher, options={**teacher.options, "shapes": shapes})
        network = architecture.build()
        network.load_state_dict(sliced.state_dict())
        return network.eval(), architecture
    blocks = [block for block in sliced.modules() if isinstance(block, InvertedBlock)]
    recognition = recognise(
        sliced.state_dict(),
        norm=teacher.options.get("norm"),
        block_padding=teacher.options.get("block_padding"),
        upsampling=teacher.options.get("upsampling"),
        skips=[block.skips for block in blocks] if blocks else None,
    )
    student = recognition.architecture.build().eval()
    student.load_state_dict(recognition.state_dict)
    return student, recognition.architecture
