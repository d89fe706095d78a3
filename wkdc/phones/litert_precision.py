"""A .tflite in float32 -> one whose convolutions are in float16 or int8, by LiteRT's quantizer."""

from pathlib import Path
from typing import Literal

from wkdc.errors import CheckpointError, MissingExtraError
from wkdc.phones.sources import quiet, reason_of


def requantise(path: Path, precision: Literal["float16", "int8"]) -> None:
    """Rewrite the file `path` with the weights of its convolutions in `precision`.

    In float16 they are widened before they are used. In int8 they have a scale for each output
    channel, and what a convolution reads becomes int8 by its range in that image (dynamic range
    quantisation), so that no calibration images are needed. Everything else stays in float32.

    Raises:
        MissingExtraError: ai-edge-quantizer is not installed.
        CheckpointError: it does not take the network.
    """
    try:
        with quiet():
            from ai_edge_quantizer import algorithm_manager, qtyping, quantizer
    except ImportError:
        raise MissingExtraError(
            "ai-edge-quantizer is not installed: pip install 'wkdc[litert]'"
        ) from None
    operations = qtyping.TFLOperationName
    halves = qtyping.OpQuantizationConfig(
        weight_tensor_config=qtyping.TensorQuantizationConfig(
            num_bits=16, dtype=qtyping.TensorDataType.FLOAT
        ),
        compute_precision=qtyping.ComputePrecision.FLOAT,
        explicit_dequantize=True,
    )
    try:
        with quiet():
            work = quantizer.Quantizer(str(path))
            for operation in (
                operations.CONV_2D,
                operations.DEPTHWISE_CONV_2D,
                operations.CONV_2D_TRANSPOSE,
            ):
                if precision == "int8":
                    work.add_dynamic_config(regex=".*", operation_name=operation, num_bits=8)
                else:
                    work.update_quantization_recipe(
                        regex=".*",
                        operation_name=operation,
                        op_config=halves,
                        algorithm_key=algorithm_manager.AlgorithmName.FLOAT_CASTING,
                    )
            work.quantize().export_model(str(path), overwrite=True)
    except Exception as error:  # of any of its layers
        raise CheckpointError(
            f"{path.name} is not written in {precision} by ai-edge-quantizer: {reason_of(error)}"
        ) from None
