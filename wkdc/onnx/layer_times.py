"""The time of every layer of a .onnx file, as ONNX Runtime's profiler measures it."""

import ast
import collections
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from wkdc.onnx.file import images_to_nhwc
from wkdc.onnx.providers import open_session
from wkdc.system.temporary import said_full, scratch_folder

UNTIMED = 2
"""Warm-up runs."""

TRACE_BYTES = 2**20
"""More than ONNX Runtime's record of the nodes' times; it does not say where it could not write."""

Kind = Literal[
    "convolution",
    "transposed convolution",
    "norm",
    "padding",
    "layout",
    "activation",
    "sum",
    "shuffle",
    "conversion",
    "other",
]
"""What a node does. `layout` reorders channels for the next layer, `shuffle` rearranges channels
into pixels or joins parts, `conversion` is between number formats."""


@dataclass(frozen=True)
class LayerTime:
    """Time of the nodes of one kind in one layer, for one image.

    Attributes:
        layer: its name in the network, such as `model.10.conv_block.1`; None where the file does
            not name it.
        nodes: their number in ONNX Runtime's optimised graph.
        share: of the total, 0 to 1.
    """

    layer: str | None
    kind: Kind
    nodes: int
    ms: float
    share: float


@dataclass(frozen=True)
class LayerProfile:
    """How the time of one call in ONNX Runtime is spent.

    Attributes:
        total_ms: the sum over all nodes of the median of `runs` calls. Profiling takes time, too,
            so it is more than a call takes otherwise.
        kinds: milliseconds by kind, slowest first.
        layers: slowest first.
    """

    runs: int
    total_ms: float
    kinds: dict[Kind, float]
    layers: tuple[LayerTime, ...]


def time_layers(path: Path, images: Tensor, threads: int, *, runs: int = 5) -> LayerProfile:
    """Measure every node on N×C×H×W `images`, on the CPU.

    Args:
        runs: how many are measured, after a warm-up.

    Raises:
        CheckpointError: the file cannot be read.
    """
    with scratch_folder() as folder, said_full(TRACE_BYTES):
        session = open_session(
            path,
            threads=threads,
            device=torch.device("cpu"),
            provider="cpu",
            trace=folder / "trace",
        )
        into = session.get_inputs()[0]
        given = images_to_nhwc(images) if into.type == "tensor(uint8)" else images
        for _ in range(UNTIMED + runs):
            session.run(None, {into.name: given.contiguous().numpy()})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return _summed(_node_times(events), _owners(path), runs)


@dataclass(frozen=True)
class _Node:
    """A node of the optimised graph, and its milliseconds in a call."""

    name: str
    operator: str
    ms: float


def _node_times(events: Sequence[Mapping[str, Any]]) -> list[_Node]:
    """The median of every node over the runs after the warm-up."""
    found: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            key = event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]
            found[key].append(event["dur"] / 1000)
    return [
        _Node(name, operator, statistics.median(times[UNTIMED:]))
        for (name, operator), times in found.items()
    ]


@dataclass(frozen=True)
class _Owner:
    """The layer that a node belongs to, and its class; `layer` is None for the network itself."""

    layer: str | None
    class_: str


def _owners(path: Path) -> dict[str, _Owner]:
    """The layer that the exporter recorded for each node, by the names of node and outputs.

    The parts of a replacement count as the layer that it replaced.
    """
    import onnx

    found: dict[str, _Owner] = {}
    for node in onnx.load(str(path), load_external_data=False).graph.node:
        noted = {entry.key: entry.value for entry in node.metadata_props}
        scopes = _listed(noted.get("pkg.torch.onnx.name_scopes"))
        classes = _listed(noted.get("pkg.torch.onnx.class_hierarchy"))
        if len(scopes) < 2 or len(scopes) != len(classes) or scopes[0] != "":
            continue
        last = len(scopes) - 2  # the operator itself comes last
        for number, class_ in enumerate(classes[:-1]):
            if class_.startswith("wkdc.onnx.rewrites."):
                last = number
                break
        # In a file of bytes the network is the layer `network`.
        layer = scopes[last].removeprefix("network.") if scopes[1] == "network" else scopes[last]
        owner = _Owner(layer or None, classes[last].rpartition(".")[2])
        for name in (node.name, *node.output):
            found[name] = owner
    return found


def _listed(text: str | None) -> list[str]:
    """A list of strings as the exporter records it; empty where it is none."""
    try:
        return [str(entry) for entry in ast.literal_eval(text or "")]
    except (SyntaxError, ValueError, TypeError):
        return []


def _summed(nodes: Sequence[_Node], owners: Mapping[str, _Owner], runs: int) -> LayerProfile:
    total = sum(node.ms for node in nodes)
    grouped: dict[tuple[str | None, Kind], list[float]] = collections.defaultdict(list)
    kinds: dict[Kind, float] = collections.defaultdict(float)
    for node in nodes:
        # ONNX Runtime names a replaced node after the output of the original.
        owner = owners.get(node.name) or owners.get(node.name.removesuffix("_nchwc"))
        kind = _kind(node.operator, owner.class_ if owner else "")
        grouped[owner.layer if owner else None, kind].append(node.ms)
        kinds[kind] += node.ms
    layers = [
        LayerTime(layer, kind, len(times), sum(times), sum(times) / total if total else 0.0)
        for (layer, kind), times in grouped.items()
    ]
    return LayerProfile(
        runs,
        total,
        dict(sorted(kinds.items(), key=lambda entry: -entry[1])),
        tuple(sorted(layers, key=lambda layer: -layer.ms)),
    )


def _kind(operator: str, class_: str) -> Kind:
    if "Norm" in class_ and operator not in ("ReorderInput", "ReorderOutput"):
        return "norm"
    match operator:
        case "Conv" | "FusedConv" | "NhwcFusedConv" | "QLinearConv" | "ConvInteger":
            return "convolution"
        case "ConvTranspose":
            return "transposed convolution"
        case "InstanceNormalization" | "BatchNormalization" | "GroupNorm" | "LayerNormalization":
            return "norm"
        case "Pad":
            return "padding"
        case "ReorderInput" | "ReorderOutput" | "Transpose":
            return "layout"
        case "Relu" | "LeakyRelu" | "Tanh" | "Sigmoid" | "Clip" | "Elu" | "PRelu":
            return "activation"
        case "Add" | "Sum":
            return "sum"
        case "Concat" | "DepthToSpace" | "Slice" | "Reshape" | "Unsqueeze" | "Squeeze":
            return "shuffle"
        case "Cast" | "QuantizeLinear" | "DequantizeLinear" | "DynamicQuantizeLinear":
            return "conversion"
        case _:
            return "other"
