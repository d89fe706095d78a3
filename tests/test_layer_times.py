"""ONNX Runtime's nodes are told by the layers that they come from."""

from pathlib import Path

import pytest
import torch
from test_profile import write_convolution

from wkdc.checkpoints.checkpoint import load_generator
from wkdc.onnx.layer_times import time_layers


def test_every_convolution_is_there_under_its_own_name(
    made_once: Path, exported_once: Path
) -> None:
    found = time_layers(exported_once, torch.zeros(1, 3, 32, 32), 1, runs=2)
    network = load_generator(made_once / "student.pth").network
    kinds = (torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    expected = {name for name, layer in network.named_modules() if isinstance(layer, kinds)}
    # Those that the export writes in another form go by the name of the layer that they replace.
    assert {one.layer for one in found.layers if "convolution" in one.kind} == expected
    norms = {one.layer for one in found.layers if one.kind == "norm"}
    assert norms == {
        name for name, one in network.named_modules() if isinstance(one, torch.nn.InstanceNorm2d)
    }


def test_shares_are_of_the_whole_and_the_slowest_comes_first(exported_once: Path) -> None:
    found = time_layers(exported_once, torch.zeros(2, 3, 32, 48), 1, runs=2)
    assert sum(one.share for one in found.layers) == pytest.approx(1)
    assert sum(one.ms for one in found.layers) == pytest.approx(found.total_ms)
    assert sum(found.kinds.values()) == pytest.approx(found.total_ms)
    times = [one.ms for one in found.layers]
    assert times == sorted(times, reverse=True)
    assert found.runs == 2


def test_a_file_of_pixels_is_told_alike(pixels_once: Path) -> None:
    found = time_layers(pixels_once, torch.zeros(1, 3, 32, 32), 1, runs=1)
    assert "model.1" in {one.layer for one in found.layers if one.kind == "convolution"}


def test_a_file_of_somebody_else_has_kinds_only(tmp_path: Path) -> None:
    found = time_layers(write_convolution(tmp_path / "x.onnx"), torch.zeros(1, 3, 32, 32), 1)
    assert "convolution" in found.kinds
    assert {one.layer for one in found.layers} == {None}
