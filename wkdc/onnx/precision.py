"""The precision of a .onnx file, and how far it may be from float32."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from wkdc.errors import DeviceError, OptionError

Precision = Literal["float32", "float16", "bfloat16", "int8"]
"""Precisions of `wkdc export`. ONNX Runtime has no bfloat16 on a CPU."""

TOLERANCE = 1e-4
"""Largest allowed difference of one pixel in float32, of [-1, 1]: an eightieth of an 8-bit step."""

PIXEL_TOLERANCE = 0.008
"""The same where images are bytes: one 8-bit step (2/255), which rounding alone can make."""

VISIBLE_DB = 40.0
"""PSNR below which a difference counts as visible: a root mean square error of 2.6/255."""

IN_FLOAT32 = ("ReduceMean", "Sub", "InstanceNormalization")
"""Operators of a norm, which stay in float32: over 256x256 positions of mean 1 the sum is 65536,
and the largest number in float16 is 65504."""


@dataclass(frozen=True)
class Limits:
    """How far a file may be from PyTorch in float32, on every image that it is checked on.

    Attributes:
        max_abs_error: largest difference of one pixel, in units of [-1, 1].
        psnr_db: lowest PSNR.
    """

    max_abs_error: float
    psnr_db: float


def limits_of(precision: Precision, *, pixels: bool, tolerance: float | None = None) -> Limits:
    """The limits of a precision, or with the `tolerance` of a pixel that was asked for.

    float32: `TOLERANCE`, or `PIXEL_TOLERANCE` where images are bytes (`pixels`). float16, which
    has 11 bits: four 8-bit steps, and 50 dB, a root mean square error below one step. int8: 30 dB,
    as far as a good student is from its teacher, and half the range from black to white, which
    only a broken file exceeds.

    Raises:
        OptionError: no such precision, or a tolerance that is not positive.
        DeviceError: ONNX Runtime does not compute in it.
    """
    if tolerance is not None:
        if not tolerance > 0:
            raise OptionError(f"tolerance {tolerance} is not allowed; give a positive number")
        return replace(limits_of(precision, pixels=pixels), max_abs_error=tolerance)
    match precision:
        case "float32":
            return Limits(PIXEL_TOLERANCE if pixels else TOLERANCE, 0.0)
        case "float16":
            return Limits(0.032, 50.0)
        case "int8":
            return Limits(1.0, 30.0)
        case "bfloat16":
            raise DeviceError(
                "ONNX Runtime does not compute in bfloat16 on a CPU; export in float32, and run it "
                "in OpenVINO: wkdc translate --runtime openvino-bf16"
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
    # The converter takes the types of weights from value_info, and does not update them there.
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
    """The model without casts to float16 and back, with every other cast once, before its readers.

    The converter puts casts around every node that stays in float32, at the end of the graph.
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
