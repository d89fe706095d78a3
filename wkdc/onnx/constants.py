"""The constants that a .onnx file makes when it is run, before it is."""

import math
from pathlib import Path

from wkdc.data.decoding import FREE_BYTES, MOST_RATIO
from wkdc.errors import CheckpointError

SHAPE_NUMBERS = 1024
"""Constants of at most so many numbers may be shapes, whose values count."""


def check_constants(path: Path) -> None:
    """Refuse a small file that fills huge constants, by `ConstantOfShape`, `Expand` and the like.

    Raises:
        CheckpointError: it fills more bytes than `FREE_BYTES` and `MOST_RATIO` times its own.
    """
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
        for tensor in model.graph.initializer:
            if len(tensor.raw_data) > 8 * SHAPE_NUMBERS:
                tensor.ClearField("raw_data")  # weights say nothing of shapes
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:  # a broken file makes protobuf raise nearly anything; the runtime says what
        return
    constant = {tensor.name for tensor in graph.initializer} | {""}
    for node in graph.node:
        if constant.issuperset(node.input):
            constant.update(node.output)
    held = path.stat().st_size
    for value in graph.value_info:
        sides = [max(1, side.dim_value) for side in value.type.tensor_type.shape.dim]
        made = 4 * math.prod(sides)
        if value.name in constant and made > max(FREE_BYTES, MOST_RATIO * held):
            raise CheckpointError(
                f"{path} of {held} bytes fills {value.name!r} with {made}; export it again"
            )
