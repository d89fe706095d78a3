"""The generator of AnimeGANv2, and any widths of it."""

from collections.abc import Sequence

from wkdc.checkpoints.file_layers import Layer, unfit
from wkdc.networks.architecture import Architecture


def is_animegan(layers: Sequence[Layer]) -> bool:
    """Inverted blocks: `layers` inside of `block_c`."""
    return any(layer.path[:1] == ("block_c",) and "layers" in layer.path[2:] for layer in layers)


def read_animegan(
    layers: Sequence[Layer], skips: Sequence[bool] | None
) -> tuple[Architecture, list[str]]:
    """The architecture, and notes on what was assumed.

    Args:
        skips: of each inverted block, whether it adds what it reads; by default where it makes as
            many channels as it reads, as the original code has it.

    Raises:
        CheckpointError: layers are missing; the message names the first ones.
    """
    made: dict[str, list[int]] = {}
    blocks: dict[int | str, list[Layer]] = {}
    plain: list[Layer] = []
    convs = [layer for layer in layers if layer.is_conv]
    for layer in convs:
        if "layers" in layer.path[2:]:
            blocks.setdefault(layer.path[1], []).append(layer)
            continue
        made.setdefault(str(layer.path[0]), []).append(layer.kernel.shape[0])
        plain.append(layer)
    counts = {"block_a": 3, "block_b": 2, "block_c": 2, "block_d": 2, "block_e": 3, "out_layer": 1}
    if {name: len(widths) for name, widths in made.items()} != counts:
        raise unfit([layer.name for layer in plain], family="animegan")
    odd = [layers_in[0].name for layers_in in blocks.values() if len(layers_in) != 3]
    if odd:
        raise unfit(odd, family="animegan")
    ends = [(block[0].kernel.shape[1], block[2].kernel.shape[0]) for block in blocks.values()]
    equal = [reads == makes for reads, makes in ends]
    if skips is not None and (
        len(skips) != len(equal) or any(s and not e for s, e in zip(skips, equal, strict=True))
    ):
        raise unfit([block[0].name for block in blocks.values()], family="animegan")
    options = {
        "in_channels": plain[0].kernel.shape[1],
        "out_channels": made["out_layer"][0],
        "block_a": made["block_a"],
        "block_b": made["block_b"],
        "enter": made["block_c"][0],
        "inner": [block[0].kernel.shape[0] for block in blocks.values()],
        "outer": [makes for _, makes in ends],
        "skips": equal if skips is None else list(skips),
        "leave": made["block_c"][1],
        "block_d": made["block_d"],
        "block_e": made["block_e"],
    }
    return Architecture("animegan", options), []
