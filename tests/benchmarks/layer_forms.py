"""Other forms of the layers around the convolutions, in ONNX Runtime: time and error.

    python tests/benchmarks/layer_forms.py

InstanceNorm as it is, behind a subtraction of the mean, and as LayerNormalization over rows; four
phases of a transposed convolution interleaved by two concatenations, and by DepthToSpace. Time is
that of the processor on one thread, the least of `CALLS`, so that other programs count little. The
error is the largest, against float64, on maps of the given mean and deviation.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

CALLS = 15
CHANNELS = 64
SIDES = (64, 128, 256)
MAPS = ((0.0, 1.0), (3.0, 1.0), (30.0, 1.0), (300.0, 1.0))
"""Mean and standard deviation."""

PHASES = ((128, 32, 128), (96, 128, 64))
"""Channels read, channels made, side before it is doubled."""

Array = np.ndarray[Any, np.dtype[np.float32]]


def session(nodes: Sequence[Any], channels: int, constants: Sequence[Any]) -> Any:
    """A model of `nodes` from `x`, 1×channels×height×width, to `y`."""
    shape: list[str | int | None] = [1, channels, "height", "width"]
    graph = helper.make_graph(
        list(nodes),
        "forms",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        list(constants),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def norm(form: str) -> Any:
    """InstanceNorm without scale and shift, in one of three forms."""
    ones = helper.make_tensor("ones", TensorProto.FLOAT, [CHANNELS], [1.0] * CHANNELS)
    zeros = helper.make_tensor("zeros", TensorProto.FLOAT, [CHANNELS], [0.0] * CHANNELS)
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    if form == "layer norm":
        rows = helper.make_tensor("rows", TensorProto.INT64, [3], [0, 0, -1])
        one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
        nodes = [
            helper.make_node("Reshape", ["x", "rows"], ["flat"]),
            helper.make_node("LayerNormalization", ["flat", "one"], ["normed"], epsilon=1e-5),
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("Reshape", ["normed", "shape"], ["y"]),
        ]
        return session(nodes, CHANNELS, [rows, one])
    if form == "plain":
        nodes = [helper.make_node("InstanceNormalization", ["x", "ones", "zeros"], ["y"])]
        return session(nodes, CHANNELS, [ones, zeros])
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"]),
        helper.make_node("Sub", ["x", "mean"], ["apart"]),
        helper.make_node("InstanceNormalization", ["apart", "ones", "zeros"], ["y"]),
    ]
    return session(nodes, CHANNELS, [ones, zeros, axes])


def doubled(form: str, read: int, made: int, side: int) -> Any:
    """Four convolutions, and their outputs interleaved; `apart` adds them up instead."""
    random = np.random.default_rng(0)
    constants, nodes = [], []
    for phase in range(4):
        kernel = (random.normal(size=(made, read, 2, 2)) / read).astype(np.float32)
        constants.append(
            helper.make_tensor(
                f"kernel{phase}", TensorProto.FLOAT, kernel.shape, kernel.tobytes(), raw=True
            )
        )
        nodes.append(
            helper.make_node("Conv", ["x", f"kernel{phase}"], [f"c{phase}"], pads=[0, 0, 1, 1])
        )
    names = [f"c{phase}" for phase in range(4)]
    if form == "apart":
        return session([*nodes, helper.make_node("Sum", names, ["y"])], read, constants)
    if form == "depth to space":
        nodes += [
            helper.make_node("Concat", names, ["joined"], axis=1),
            helper.make_node("DepthToSpace", ["joined"], ["y"], blocksize=2, mode="DCR"),
        ]
        return session(nodes, read, constants)
    for name, values in (("last", [4]), ("fourth", [3]), ("line", [0, 0, 0, -1])):
        constants.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
    shape = helper.make_tensor("shape", TensorProto.INT64, [4], [0, 0, -1, 2 * side])
    for row in (0, 1):
        for phase in (2 * row, 2 * row + 1):
            nodes.append(helper.make_node("Unsqueeze", [f"c{phase}", "last"], [f"u{phase}"]))
        nodes += [
            helper.make_node("Concat", [f"u{2 * row}", f"u{2 * row + 1}"], [f"p{row}"], axis=4),
            helper.make_node("Reshape", [f"p{row}", "line"], [f"r{row}"]),
            helper.make_node("Unsqueeze", [f"r{row}", "fourth"], [f"v{row}"]),
        ]
    nodes.append(helper.make_node("Concat", ["v0", "v1"], ["joined"], axis=3))
    nodes.append(helper.make_node("Reshape", ["joined", "shape"], ["y"]))
    return session(nodes, read, [*constants, shape])


def seconds(run: Any, maps: Array) -> float:
    """Of the processor, for one call."""
    times = []
    for _ in range(CALLS):
        started = time.process_time()
        run.run(None, {"x": maps})
        times.append(time.process_time() - started)
    return min(times)


def noise(channels: int, side: int, mean: float = 0.0, deviation: float = 1.0) -> Array:
    """1×channels×side×side values of a normal distribution."""
    shape = (1, channels, side, side)
    return np.random.default_rng(0).normal(mean, deviation, shape).astype(np.float32)


def largest_error(run: Any, side: int, mean: float, deviation: float) -> float:
    maps = noise(CHANNELS, side, mean, deviation)
    exact = maps.astype(np.float64)
    exact -= exact.mean((2, 3), keepdims=True)
    exact /= np.sqrt(exact.var((2, 3), keepdims=True) + 1e-5)
    return float(np.abs(run.run(None, {"x": maps})[0] - exact).max())


def main() -> None:
    print(f"ONNX Runtime {onnxruntime.__version__}, one thread")
    errors = ", ".join(f"{mean:g} ± {deviation:g}" for mean, deviation in MAPS)
    for side in SIDES:
        for form in ("plain", "centred", "layer norm"):
            run = norm(form)
            maps = noise(CHANNELS, side)
            each = 1e9 * seconds(run, maps) / maps.size
            found = ", ".join(f"{largest_error(run, side, *one):.1e}" for one in MAPS)
            print(f"norm {side}x{side} {form}: {each:.2f} ns a value; error at {errors}: {found}")
    for read, made, side in PHASES:
        maps = noise(read, side)
        for form in ("apart", "concatenated", "depth to space"):
            each = 1e3 * seconds(doubled(form, read, made, side), maps)
            print(f"{read} to {made} channels, {side} to {2 * side}, {form}: {each:.1f} ms")


if __name__ == "__main__":
    main()
