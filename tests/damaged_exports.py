"""Exported networks, .onnx and ncnn's, damaged by a seed, and what reads and runs them."""

import contextlib
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from damage import Whole, mutated, mutated_json, outcome
from onnx import TensorProto, helper

import wkdc
from wkdc.inference.model import open_model
from wkdc.onnx.file import check_onnx


def make_onnx(folder: Path, exported: Path) -> None:
    """The student as wkdc exports it, and a small graph of somebody else."""
    shutil.copy(exported, folder / "student.onnx")
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, "h", "w"])
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3, 3, 1, 1], np.eye(3).ravel().tolist())
    shape = helper.make_tensor("s", TensorProto.INT64, [4], [1, 3, 1, 1])
    fill = helper.make_tensor("v", TensorProto.FLOAT, [1], [0.0])
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[1, 1]),
            helper.make_node("ConstantOfShape", ["s"], ["z"], value=fill),
            helper.make_node("Add", ["c", "z"], ["y"]),
        ],
        "other",
        [image],
        [made],
        [weight, shape],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save_model(model, str(folder / "other.onnx"))


def _promise(model: Any, pick: random.Random) -> None:
    """One part of a graph says something else than it holds."""
    graph = model.graph
    tensors = list(graph.initializer)
    tensors += [a.t for node in graph.node for a in node.attribute if a.HasField("t")]
    match pick.randrange(12):
        case 0 | 1 if tensors:
            tensor = pick.choice(tensors)
            del tensor.dims[:]
            tensor.dims.extend(pick.choice(([2**40], [10**5, 10**5], [-1, 3], [], [0], [3] * 9)))
        case 2 if tensors:
            pick.choice(tensors).data_type = pick.choice((0, 1, 2, 7, 8, 10, 16, 23, 99))
        case 3 if tensors:
            tensor = pick.choice(tensors)
            tensor.data_location = TensorProto.EXTERNAL
            where = pick.choice(
                ("../../../etc/passwd", "/etc/passwd", "weights.bin", "/dev/zero", ".")
            )
            tensor.external_data.add(key="location", value=where)
            if pick.random() < 0.5:
                tensor.external_data.add(key="length", value=pick.choice(("-1", "x", str(2**40))))
        case 4 if graph.node:
            node = pick.choice(graph.node)
            node.op_type = pick.choice(
                (
                    "Tile",
                    "Expand",
                    "Loop",
                    "If",
                    "Resize",
                    "Pad",
                    "NoSuch",
                    "",
                    "ConstantOfShape",
                    "Identity",
                )
            )
        case 5 if graph.node:
            node = pick.choice(graph.node)
            other = pick.choice(graph.node)
            if node.input:
                node.input[pick.randrange(len(node.input))] = pick.choice((*other.output, "x", ""))
        case 6:
            value = pick.choice([*graph.input, *graph.output])
            shape = value.type.tensor_type.shape
            dim = pick.choice(shape.dim) if shape.dim and pick.random() < 0.8 else shape.dim.add()
            dim.dim_value = pick.choice((0, 1, 2, 3, 2**31, -1, 2**40))
        case 7:
            value = pick.choice([*graph.input, *graph.output])
            value.type.tensor_type.elem_type = pick.choice((0, 2, 8, 10, 16, 99, 2**30))
        case 8 if model.metadata_props:
            entry = pick.choice(model.metadata_props)
            entry.value = mutated_json(entry.value, pick)
        case 9:  # a huge network, to count the MACs of
            for entry in model.metadata_props:
                with contextlib.suppress(ValueError):  # it is damaged already
                    if entry.key != "wkdc.options":
                        continue
                    options = json.loads(entry.value)
                    key = pick.choice(list(options))
                    options[key] = pick.choice((2**20, 10**9, [64] * 10**4, -1, None, "x"))
                    entry.value = json.dumps(options)
        case 10:
            for tensor in graph.initializer:  # the shape that something is filled to
                with contextlib.suppress(ValueError):  # it is damaged already
                    if tensor.data_type != TensorProto.INT64 or tensor.external_data:
                        continue
                    numbers = onnx.numpy_helper.to_array(tensor)
                    huge = np.full_like(numbers, pick.choice((10**5, 2**31, 2**15, -1, 0)))
                    tensor.CopyFrom(onnx.numpy_helper.from_array(huge, tensor.name))
        case _:
            model.opset_import[0].version = pick.choice((0, 1, 18, 99, -1))


def damaged_onnx(name: str, pick: random.Random, whole: Whole) -> bytes:
    if pick.random() < 0.4:
        return mutated(whole.bytes(name), pick)
    model = onnx.load_model_from_string(whole.bytes(name))
    for _ in range(pick.choice((1, 1, 2, 3))):
        _promise(model, pick)
    return model.SerializeToString()


def try_onnx(seed: int, folder: Path, whole: Whole) -> bool:
    pick = random.Random(seed)
    path = folder / "a.onnx"
    path.write_bytes(damaged_onnx(pick.choice(whole.names("onnx")), pick, whole))
    outcome(lambda: wkdc.info(path, size=(64, 64)))
    outcome(lambda: check_onnx(path))
    runtime = "openvino" if pick.random() < 0.05 else None
    return outcome(lambda: open_model(path, runtime=runtime).generate(torch.zeros(1, 3, 20, 24)))


def try_ncnn(seed: int, folder: Path, whole: Whole) -> bool:
    pick = random.Random(seed)
    names = whole.names("ncnn")
    for name in names:
        shutil.copy(whole.folder / name, folder)
    name = pick.choice(names)
    path = folder / Path(name).name
    match path.suffix:
        case ".json":
            path.write_text(mutated_json(whole.bytes(name).decode(), pick))
        case _:
            path.write_bytes(mutated(whole.bytes(name), pick))
    param = next(folder.glob("*.param"))
    return outcome(lambda: open_model(param).generate(torch.zeros(1, 3, 20, 24)))
