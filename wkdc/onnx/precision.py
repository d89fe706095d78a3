"""What a .onnx file computes in, and how near to float32 it has to stay."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from wkdc.errors import DeviceError, OptionError

Precision = Literal["float32", "float16", "bfloat16", "int8"]
"""What `wkdc export` is asked for; of these, ONNX Runtime does not compute in bfloat16."""

TOLERANCE = 1e-4
"""Largest allowed difference of one pixel in float32, of [-1, 1]: an eightieth of an 8-bit step."""

PIXEL_TOLERANCE = 0.008
"""The same where images are bytes: a step of 2/255. What differs by less may be rounded apart."""

VISIBLE_DB = 40.0
"""Below it a difference is said to be visible: the error's root mean square is 2.6 of 255 steps."""

IN_FLOAT32 = ("ReduceMean", "Sub", "InstanceNormalization")
"""Operators of a norm, which float16 leaves in float32: the sum over an image of 256x256 that is
1 in the mean is 65536, and float16 ends at 65504."""


@dataclass(frozen=True)
class Limits:
    """How far a file may be from PyTorch in float32, on every image that it is checked on.

    Attributes:
        max_abs_error: of one pixel, of [-1, 1].
        psnr_db: at least.
    """

    max_abs_error: float
    psnr_db: float


def limits_of(precision: Precision, *, pixels: bool) -> Limits:
    """The limits of a precision, where images are bytes, too (`pixels`).

    float32: `TOLERANCE`, or `PIXEL_TOLERANCE`. float16: four steps, and 50 dB, an error of less
    than one step (root mean square): weights and features have 11 bits. int8: 30 dB, as far as a
    good student is from its teacher, and half the distance from black to white, which no rounding
    of a working file reaches.

    Raises:
        OptionError, DeviceError: no such precision, or one that ONNX Runtime does not compute in.
    """
    match precision:
        case "float32":
            return Limits(PIXEL_TOLERANCE if pixels else TOLERANCE, 0.0)
        case "float16":
            return Limits(0.032, 50.0)
        case "int8":
            return Limits(1.0, 30.0)
        case "bfloat16":
            raise DeviceError(
                "ONNX Runtime does not draw in bfloat16 on a processor; export in float32 and let "
                "OpenVINO compute in it: wkdc translate --runtime openvino-bf16"
            )
        case _:
            raise OptionError(
                f"precision {precision!r} is not known; give float32, float16 or int8"
            )


def to_float16(path: Path) -> None:
    """Rewrite the float32 file `path` with weights and layers in float16.

    Input, output and norms stay in float32.
    """
    import onnx
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    model = onnx.load(str(path))
    # The converter would take the types of weights from here, and these not change.
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in [value for value in model.graph.value_info if value.name in weights]:
        model.graph.value_info.remove(value)
    model = convert_float_to_float16(
        model,
        keep_io_types=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *IN_FLOAT32],
    )
    onnx.save(_tidy(model), str(path))


def _tidy(model: Any) -> Any:
    """The model without casts to float16 and back, each other cast once and before its readers.

    The converter surrounds every single node that stays in float32, and appends the casts.
    """
    import onnx_ir

    nodes = {node.output[0]: node for node in model.graph.node}  # casts of one name are one
    before = {
        name: node.input[0] for name, node in nodes.items() if node.name.endswith("_to_fp16_node")
    }
    around = {
        name: before[node.input[0]]
        for name, node in nodes.items()
        if node.name.endswith("_to_fp32_node") and node.input[0] in before
    }
    nodes = {name: node for name, node in nodes.items() if name not in around}
    for node in nodes.values():
        node.input[:] = [around.get(name, name) for name in node.input]
    read = {name for node in nodes.values() for name in node.input}
    read |= {value.name for value in model.graph.output}
    kept = [node for name, node in nodes.items() if name in read]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    ordered = onnx_ir.from_proto(model)
    ordered.graph.sort()
    return onnx_ir.to_proto(ordered)
