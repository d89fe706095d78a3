"""Core ML: a generator as an .mlpackage that takes and gives images. It runs on macOS and iOS."""

import json
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from wkdc.checkpoints.checkpoint import Generator
from wkdc.data.images import images_to_pixels, pixels_to_images
from wkdc.errors import CheckpointError, MissingExtraError
from wkdc.phones.sources import Pixels, described, quiet, reason_of
from wkdc.system.temporary import libraries_in_scratch, said_full
from wkdc.system.units import counted

ENDING = ".mlpackage"


def write_coreml(
    generator: Generator, path: Path, sizes: Sequence[tuple[int, int]], *, half: bool
) -> dict[str, int]:
    """Write an ML program from image to image (RGB or grey); its operations, counted by name.

    Scale and bias of the input, and the clamp to 0..255 of the output, are inside.

    Args:
        sizes: heights and widths that it takes; the first is the usual one.
        half: whether it computes in float16, as Core ML does by default.

    Raises:
        MissingExtraError: coremltools is not installed.
        CheckpointError: it does not convert the network, or images have other channels.
    """
    try:
        with quiet():
            import coremltools as ct
    except ImportError:
        raise MissingExtraError(
            "coremltools is not installed: pip install 'wkdc[coreml]'"
        ) from None
    colours = {1: ct.colorlayout.GRAYSCALE, 3: ct.colorlayout.RGB}
    channels = generator.in_channels, generator.out_channels
    if not all(count in colours for count in channels):
        raise CheckpointError(
            f"{generator.path} reads {counted(channels[0], 'channel')} and gives {channels[1]}; an "
            "image of Core ML has 1 or 3"
        )
    shapes = [(1, channels[0], *size) for size in sizes]
    shape: Any = shapes[0]
    if len(shapes) > 1:
        shape = ct.EnumeratedShapes(shapes, default=shapes[0])
    bias = -1.0 if channels[0] == 1 else [-1.0] * 3
    size = 4 * sum(one.nbytes for one in generator.network.state_dict().values())
    with (
        libraries_in_scratch(),
        said_full(size),
        warnings.catch_warnings(),
        quiet(),
        torch.no_grad(),
    ):
        warnings.simplefilter("ignore")
        network = Pixels(generator.network).eval()
        traced = torch.jit.trace(network, torch.zeros(shapes[0]), check_trace=False)  # type: ignore[no-untyped-call]
        try:
            model = ct.convert(
                traced,
                inputs=[
                    ct.ImageType(
                        name="image",
                        shape=shape,
                        scale=1 / 127.5,
                        bias=bias,
                        color_layout=colours[channels[0]],
                    )
                ],
                outputs=[ct.ImageType(name="output", color_layout=colours[channels[1]])],
                convert_to="mlprogram",
                compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
                minimum_deployment_target=ct.target.iOS16,
            )
        except Exception as error:  # of any of its passes
            raise CheckpointError(
                f"{generator.path} is not converted by coremltools: {reason_of(error)}"
            ) from None
        facts = described(generator, "float16" if half else "float32") | {"range": [0, 255]}
        model.short_description = f"An image-to-image generator, made by {facts['made_by']}"
        model.input_description["image"] = "The image to translate"
        model.output_description["output"] = "The image that the generator makes of it"
        model.user_defined_metadata["wkdc"] = json.dumps(facts)
        model.save(str(path))
    program = model.get_spec().mlProgram.functions["main"]
    block = program.block_specializations[program.opset]
    return dict(Counter(op.type for op in block.operations if op.type != "const"))


class CoreMlNetwork:
    """An .mlpackage at work, called with images N×C×H×W. On macOS alone.

    Attributes:
        pixels: it gives bytes, always.
    """

    pixels = True

    def __init__(self, path: Path) -> None:
        import coremltools as ct

        self._model = ct.models.MLModel(str(path))

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Translate float32 N×C×H×W in [-1, 1]."""
        made = []
        for image in images_to_pixels(images):
            array = image.permute(1, 2, 0).squeeze(-1).numpy()
            out = self._model.predict({"image": Image.fromarray(array)})["output"]
            mode = "L" if image.shape[0] == 1 else "RGB"
            pixels = torch.frombuffer(bytearray(out.convert(mode).tobytes()), dtype=torch.uint8)
            made.append(pixels.view(out.height, out.width, -1).permute(2, 0, 1))
        return pixels_to_images(torch.stack(made))


def runs_here() -> bool:
    """Whether this system runs Core ML."""
    return sys.platform == "darwin"
