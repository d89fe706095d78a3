"""Any .pth becomes the generator that it is; anything else becomes one line that says why not."""

import dataclasses
import hashlib
import importlib.util
import os
import pickle
import re
import signal
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import HANG_S
from originals import (
    StateDict,
    patchgan_forward,
    patchgan_state_dict,
    resnet_forward,
    resnet_state_dict,
    unet_forward,
    unet_state_dict,
)
from torch import Tensor, nn

from wkdc.checkpoints.card import history_entry, make_card
from wkdc.checkpoints.checkpoint import Generator, load_generator, save_generator, teacher_path
from wkdc.errors import CheckpointError, OutputError
from wkdc.networks.patchgan import PatchGAN, patchgan_widths

# Both sides do the same float32 sums, perhaps in another order. One rounding is 6e-8; over some 25
# layers, with images in [-1, 1], that stays below 1e-5, and any wrong layer is beyond 1e-2.
SAME_IMAGE = 1e-5

SMALL = {"blocks": 3, "ngf": 4}


def example_images(channels: int, height: int = 32, width: int = 44, count: int = 2) -> Tensor:
    random = torch.Generator().manual_seed(height * width + channels)
    return torch.rand(count, channels, height, width, generator=random) * 2 - 1


def run(network: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return network(images)


def largest_difference(left: Tensor, right: Tensor) -> float:
    assert left.shape == right.shape
    return float((left - right).abs().max())


def assert_draws(network: nn.Module, images: Tensor, expected: Tensor) -> None:
    # An image that is black, flat or saturated would hide a wrong layer.
    assert float(expected.std()) > 0.05
    assert float((expected.abs() > 0.99).float().mean()) < 0.2
    output = run(network, images)
    assert output.dtype == torch.float32
    assert largest_difference(output, expected) <= SAME_IMAGE


def original_names(state_dict: StateDict, norm: str, block_name: str = "conv_block") -> set[str]:
    """The names that the original network with this norm has for the weights of `state_dict`."""
    norms = {
        name.removesuffix(".weight")
        for name, tensor in state_dict.items()
        if name.endswith(".weight") and tensor.ndim == 1
    }
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    return {
        name.replace(f".{block_name}.", ".conv_block.")
        for name in state_dict
        if not (norm == "none" and name.rpartition(".")[0] in norms)
        and not (norm != "batch" and name.endswith(statistics))
    }


def assert_holds(network: nn.Module, state_dict: StateDict, names: set[str]) -> None:
    """`network` has exactly these names, with the values of the file."""
    held = network.state_dict()
    assert set(held) == names
    canonical = {re.sub(r"^(model\.\d+)\.[a-z_]+\.", r"\1.conv_block.", n): n for n in state_dict}
    for name, tensor in held.items():
        in_file = state_dict[name] if name in state_dict else state_dict[canonical[name]]
        assert torch.equal(tensor, in_file.to(tensor.dtype)), name


def load(folder: Path, content: object, **overrides: Any) -> Generator:
    path = folder / "latest_net_G.pth"
    torch.save(content, path)
    return load_generator(path, **overrides)


# --- ResNet generators -------------------------------------------------------------------------

PRUNED = {
    "blocks": 4,
    "encoder": (5, 9),
    "stream": 14,
    "inner": (3, 11, 6, 8),
    "decoder": (10, 7),
}

# name: (how the weights are made, what the loader is told beyond the file)
RESNETS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "9 blocks": ({"blocks": 9}, {}),
    "6 blocks": ({"blocks": 6}, {}),
    "3 blocks": ({"blocks": 3}, {}),
    "1 block": ({"blocks": 1}, {}),
    "affine": ({"affine": True}, {}),
    "batch": ({"norm": "batch"}, {}),
    "none": ({"norm": "none"}, {}),
    "tracked instance": ({"tracked": True}, {}),
    "dropout": ({"dropout": True}, {}),
    "dropout, batch": ({"dropout": True, "norm": "batch"}, {}),
    "dropout, affine": ({"dropout": True, "affine": True}, {}),
    "dropout, none": ({"dropout": True, "norm": "none"}, {}),
    "zero padding": ({"padding": "zero"}, {}),
    "zero padding, batch": ({"padding": "zero", "norm": "batch"}, {}),
    "zero padding, dropout": ({"padding": "zero", "dropout": True}, {}),
    "zero padding, none": ({"padding": "zero", "norm": "none"}, {}),
    "replicate padding": ({}, {"block_padding": "replicate"}),
    "replicate padding, dropout": (
        {"dropout": True, "norm": "batch"},
        {"block_padding": "replicate"},
    ),
    "zero padding by override": ({}, {"block_padding": "zero"}),
    "reflect by override": ({"padding": "zero"}, {"block_padding": "reflect"}),
    "batch, read as instance": ({"norm": "batch"}, {"norm": "instance"}),
    "instance, read without": ({}, {"norm": "none"}),
    "tracked, read without": ({"tracked": True}, {"norm": "none"}),
    # What InstanceNorm2d(track_running_stats=True) computes in evaluation mode.
    "tracked, read by its statistics": ({"tracked": True}, {"norm": "batch"}),
    "tracked affine is instance": ({"affine": True, "tracked": True}, {"norm": "instance"}),
    "batch with biases": ({"norm": "batch", "bias": True}, {"norm": "batch"}),
    "instance without biases": ({"bias": False}, {"norm": "instance"}),
    "grey to grey": ({"in_channels": 1, "out_channels": 1}, {}),
    "grey to RGB": ({"in_channels": 1, "out_channels": 3, "norm": "batch"}, {}),
    "RGB to grey": ({"in_channels": 3, "out_channels": 1, "affine": True}, {}),
    "4 to 4 channels": ({"in_channels": 4, "out_channels": 4}, {}),
    "4 to RGB": ({"in_channels": 4, "out_channels": 3}, {}),
    "RGB to 4": ({"in_channels": 3, "out_channels": 4, "norm": "none"}, {}),
    "named block": ({"block_name": "block"}, {}),
    "named block, affine": ({"block_name": "block", "affine": True}, {}),
    "named layers": ({"block_name": "layers", "dropout": True}, {}),
    "pruned": (PRUNED, {}),
    "pruned, affine, named block": (PRUNED | {"affine": True, "block_name": "block"}, {}),
    "pruned, batch, dropout": (PRUNED | {"norm": "batch", "dropout": True}, {}),
    "pruned, zero padding": (PRUNED | {"padding": "zero", "in_channels": 1}, {}),
    "pruned to one channel": (
        {"blocks": 2, "encoder": (1, 3), "stream": 2, "inner": (1, 4), "decoder": (2, 1)},
        {},
    ),
}


def resnet(seed: int, weights: dict[str, Any]) -> StateDict:
    return resnet_state_dict(seed, **({"ngf": 5} | weights))


def resnet_picture(
    state_dict: StateDict, images: Tensor, weights: dict[str, Any], overrides: dict[str, str]
) -> Tensor:
    layout = weights.get("padding", "reflect")
    return resnet_forward(
        state_dict,
        images,
        blocks=weights.get("blocks", 9),
        norm=overrides.get("norm", weights.get("norm", "instance")),
        padding=overrides.get("block_padding", layout),
        layout=layout,
        dropout=weights.get("dropout", False),
        block_name=weights.get("block_name", "conv_block"),
    )


@pytest.mark.parametrize("name", RESNETS)
def test_resnet_draws_what_the_original_draws(name: str, tmp_path: Path) -> None:
    weights, overrides = RESNETS[name]
    state_dict = resnet(1, weights)
    images = example_images(weights.get("in_channels", 3))
    generator = load(tmp_path, state_dict, **overrides)
    assert generator.architecture.family == "resnet"
    expected = resnet_picture(state_dict, images, weights, overrides)
    assert_draws(generator.network, images, expected)


# Not here: padding that another layout of the names was made for, and statistics without the count
# of batches that nn.BatchNorm2d keeps.
OTHER_NAMES = (
    "zero padding by override",
    "reflect by override",
    "tracked, read by its statistics",
)


@pytest.mark.parametrize("name", [name for name in RESNETS if name not in OTHER_NAMES])
def test_resnet_keeps_the_original_names_and_values(name: str, tmp_path: Path) -> None:
    weights, overrides = RESNETS[name]
    state_dict = resnet(2, weights)
    generator = load(tmp_path, state_dict, **overrides)
    norm = overrides.get("norm", weights.get("norm", "instance"))
    named = weights.get("block_name", "conv_block")
    # PyTorch-GAN's name is kept; any other becomes that of pytorch-CycleGAN-and-pix2pix.
    names = original_names(state_dict, norm, "conv_block" if named == "block" else named)
    assert_holds(generator.network, state_dict, names)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("9 blocks", {"norm": "instance", "affine": False, "bias": True, "dropout": False}),
        ("affine", {"norm": "instance", "affine": True, "bias": True}),
        ("tracked instance", {"norm": "instance", "affine": False, "bias": True}),
        ("batch", {"norm": "batch", "bias": False}),
        ("none", {"norm": "none", "bias": False}),
        ("dropout", {"dropout": True, "block_padding": "reflect"}),
        ("zero padding", {"dropout": False, "block_padding": "zero"}),
        ("zero padding, dropout", {"dropout": True, "block_padding": "zero"}),
        ("replicate padding", {"dropout": False, "block_padding": "replicate"}),
        ("grey to RGB", {"in_channels": 1, "out_channels": 3}),
        ("RGB to 4", {"in_channels": 3, "out_channels": 4}),
        ("3 blocks", {"encoder": [5, 10], "stream": 20, "inner": [20] * 3, "decoder": [10, 5]}),
        ("pruned", {k: list(v) if isinstance(v, tuple) else v for k, v in PRUNED.items()}),
    ],
)
def test_resnet_options_say_what_the_file_holds(
    name: str, expected: dict[str, Any], tmp_path: Path
) -> None:
    weights, overrides = RESNETS[name]
    options = load(tmp_path, resnet(3, weights), **overrides).architecture.options
    wanted = {key: value for key, value in expected.items() if key != "blocks"}
    found = {k: list(v) if isinstance(v, tuple | list) else v for k, v in options.items()}
    assert {key: found[key] for key in wanted} == wanted


@pytest.mark.parametrize(
    ("weights", "override"),
    [
        ({}, {"block_padding": "replicate"}),
        ({}, {"block_padding": "zero"}),
        ({}, {"norm": "none"}),
        ({"norm": "batch"}, {"norm": "instance"}),
    ],
)
def test_an_override_changes_the_picture(
    weights: dict[str, Any], override: dict[str, str], tmp_path: Path
) -> None:
    state_dict, images = resnet(4, weights), example_images(3)
    read = load(tmp_path, state_dict)
    loaded = load(tmp_path, state_dict, **override)
    # Far above SAME_IMAGE: the cases above could not pass if the override were ignored.
    assert largest_difference(run(read.network, images), run(loaded.network, images)) > 1e-2


@pytest.mark.parametrize("height_width", [(16, 16), (60, 92), (128, 20)])
def test_resnet_takes_pictures_of_other_sizes(
    height_width: tuple[int, int], tmp_path: Path
) -> None:
    state_dict, images = resnet(5, SMALL), example_images(3, *height_width)
    generator = load(tmp_path, state_dict)
    assert_draws(generator.network, images, resnet_picture(state_dict, images, SMALL, {}))


def test_running_statistics_of_instance_norm_are_dropped(tmp_path: Path) -> None:
    tracked, images = resnet(6, {"tracked": True}), example_images(3)
    plain = OrderedDict((k, v) for k, v in tracked.items() if ".running_" not in k)
    assert len(plain) < len(tracked)
    with_statistics, without = load(tmp_path, tracked), load(tmp_path, plain)
    assert not [name for name in with_statistics.network.state_dict() if "running" in name]
    # The same weights in the same module: equal to the bit.
    assert torch.equal(run(with_statistics.network, images), run(without.network, images))


def test_batch_norm_from_before_it_counted_batches(tmp_path: Path) -> None:
    weights = {"norm": "batch", "blocks": 6}
    state_dict, images = resnet(7, weights), example_images(3)
    old = OrderedDict((k, v) for k, v in state_dict.items() if "num_batches" not in k)
    assert len(old) < len(state_dict)
    generator = load(tmp_path, old)
    assert generator.architecture.options["norm"] == "batch"
    assert_draws(generator.network, images, resnet_picture(state_dict, images, weights, {}))


# --- U-Net generators --------------------------------------------------------------------------

PRUNED_UNET = {"downs": 7, "down": (5, 7, 6, 9, 4, 8, 3), "up": (6, 4, 10, 7, 5, 9)}

UNETS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "256": ({"downs": 8}, {}),
    "128": ({"downs": 7}, {}),
    "64": ({"downs": 6}, {}),
    "32": ({"downs": 5}, {}),
    "256, instance": ({"downs": 8, "norm": "instance"}, {}),
    "128, instance": ({"downs": 7, "norm": "instance"}, {}),
    "128, affine": ({"downs": 7, "norm": "instance", "affine": True}, {}),
    "128, tracked": ({"downs": 7, "norm": "instance", "tracked": True}, {}),
    "128, none": ({"downs": 7, "norm": "none"}, {}),
    "128, batch, read as instance": ({"downs": 7}, {"norm": "instance"}),
    "128, instance, read without": ({"downs": 7, "norm": "instance"}, {"norm": "none"}),
    "128, grey to RGB": ({"downs": 7, "in_channels": 1, "out_channels": 3}, {}),
    "128, RGB to grey": ({"downs": 7, "in_channels": 3, "out_channels": 1}, {}),
    "128, 4 to 4 channels": ({"downs": 7, "in_channels": 4, "out_channels": 4}, {}),
    "128, pruned": (PRUNED_UNET, {}),
    "128, pruned, instance": (PRUNED_UNET | {"norm": "instance"}, {}),
}


def unet(seed: int, weights: dict[str, Any]) -> StateDict:
    return unet_state_dict(seed, **({"ngf": 4} | weights))


def unet_images(weights: dict[str, Any], wide: bool = False) -> Tensor:
    size = 2 ** weights["downs"]
    return example_images(weights.get("in_channels", 3), size, 2 * size if wide else size, count=1)


def unet_picture(
    state_dict: StateDict, images: Tensor, weights: dict[str, Any], overrides: dict[str, str]
) -> Tensor:
    norm = overrides.get("norm", weights.get("norm", "batch"))
    return unet_forward(state_dict, images, downs=weights["downs"], norm=norm)


@pytest.mark.parametrize("name", UNETS)
def test_unet_draws_what_the_original_draws(name: str, tmp_path: Path) -> None:
    weights, overrides = UNETS[name]
    state_dict, images = unet(8, weights), unet_images(weights)
    generator = load(tmp_path, state_dict, **overrides)
    assert generator.architecture.family == "unet"
    assert_draws(generator.network, images, unet_picture(state_dict, images, weights, overrides))
    names = original_names(state_dict, overrides.get("norm", weights.get("norm", "batch")))
    assert_holds(generator.network, state_dict, names)


def test_unet_takes_pictures_that_are_not_square(tmp_path: Path) -> None:
    weights = {"downs": 7}
    state_dict, images = unet(9, weights), unet_images(weights, wide=True)
    generator = load(tmp_path, state_dict)
    assert_draws(generator.network, images, unet_picture(state_dict, images, weights, {}))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("256", {"norm": "batch", "bias": False, "down": [4, 8, 16, 32, 32, 32, 32, 32]}),
        ("128, affine", {"norm": "instance", "affine": True, "bias": True}),
        ("128, tracked", {"norm": "instance", "affine": False, "bias": True}),
        ("128, none", {"norm": "none", "bias": False}),
        ("128, grey to RGB", {"in_channels": 1, "out_channels": 3}),
        ("128, RGB to grey", {"in_channels": 3, "out_channels": 1}),
        ("128, pruned", {"down": list(PRUNED_UNET["down"])}),
    ],
)
def test_unet_options_say_what_the_file_holds(
    name: str, expected: dict[str, Any], tmp_path: Path
) -> None:
    weights, overrides = UNETS[name]
    options = load(tmp_path, unet(10, weights), **overrides).architecture.options
    found = {k: list(v) if isinstance(v, tuple | list) else v for k, v in options.items()}
    assert {key: found[key] for key in expected} == expected


# --- Discriminators, which train beside a student ----------------------------------------------


@pytest.mark.parametrize("layers", [2, 3, 4])
@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_weights_of_the_original_discriminator_judge_the_same(norm: str, layers: int) -> None:
    state_dict = patchgan_state_dict(31, ndf=6, layers=layers, in_channels=4, norm=norm)
    discriminator = PatchGAN(4, widths=patchgan_widths(6, layers), norm=norm).eval()
    discriminator.load_state_dict(state_dict, strict=True)
    images = example_images(4, 96, 72)
    expected = patchgan_forward(state_dict, images, layers=layers, norm=norm)
    assert float(expected.std()) > 0.01  # a thousand times what may differ
    # Six layers and answers of about 1: the reasons of SAME_IMAGE hold.
    assert largest_difference(run(discriminator, images), expected) <= SAME_IMAGE


# --- What every loaded generator is ------------------------------------------------------------


def is_plain(value: object) -> bool:
    """Exactly a plain type: a subclass of `str` would be pickled as code."""
    if type(value) is dict:
        return all(type(key) is str and is_plain(inner) for key, inner in value.items())
    if type(value) in (list, tuple):
        return all(map(is_plain, value))
    return value is None or type(value) in (str, int, float, bool)


FAMILIES = {
    "resnet": (resnet, PRUNED | {"affine": True}, {}),
    "replicate resnet": (resnet, SMALL, {"block_padding": "replicate"}),
    "zero padded resnet": (resnet, SMALL | {"padding": "zero", "dropout": True}, {}),
    "unet": (unet, PRUNED_UNET, {}),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_options_alone_build_the_same_network(name: str, tmp_path: Path) -> None:
    make, weights, overrides = FAMILIES[name]
    generator = load(tmp_path, make(11, weights), **overrides)
    assert is_plain(generator.architecture.options)
    images = example_images(3, 128, 128, count=1)
    expected = run(generator.network, images)
    for twin in (
        type(generator.network)(**generator.architecture.options),
        generator.architecture.build(),
    ):
        twin.load_state_dict(generator.network.state_dict())
        assert torch.equal(run(twin.eval(), images), expected)  # one module twice: to the bit


@pytest.mark.parametrize("name", FAMILIES)
def test_a_generator_is_ready_to_draw(name: str, tmp_path: Path) -> None:
    make, weights, overrides = FAMILIES[name]
    state_dict = make(12, weights)
    generator = load(tmp_path, state_dict, **overrides)
    assert not any(module.training for module in generator.network.modules())
    for parameter in generator.network.parameters():
        assert (parameter.dtype, parameter.device.type) == (torch.float32, "cpu")
    assert generator.path == tmp_path / "latest_net_G.pth"
    assert generator.sha256 == hashlib.sha256(generator.path.read_bytes()).hexdigest()
    assert generator.card is None
    assert isinstance(generator.notes, tuple)
    assert all(note and "\n" not in note for note in generator.notes)
    with pytest.raises(dataclasses.FrozenInstanceError):
        generator.network = nn.Identity()


def test_notes_tell_that_the_padding_was_assumed_and_not_read(tmp_path: Path) -> None:
    # Reflected and replicated borders leave the same names: a file cannot tell them apart.
    assumed = load(tmp_path, resnet(13, SMALL))
    assert any("reflect" in note for note in assumed.notes)
    loaded = load(tmp_path, resnet(13, SMALL), block_padding="reflect")
    assert not any("reflect" in note for note in loaded.notes)


def test_the_original_weights_load_strictly(tmp_path: Path) -> None:
    images = example_images(3)
    for weights in (SMALL, SMALL | {"norm": "batch", "dropout": True}):
        network = load(tmp_path, resnet(14, weights)).network
        others = resnet(15, weights)
        network.load_state_dict(others, strict=True)
        assert_draws(network, images, resnet_picture(others, images, weights, {}))


# --- Wrapped, renamed, halved ------------------------------------------------------------------


def in_module(state_dict: StateDict) -> StateDict:
    return OrderedDict((f"module.{name}", tensor) for name, tensor in state_dict.items())


def with_siblings(state_dict: StateDict) -> dict[str, Any]:
    """As a training script writes it: the epoch and Adam's moments beside the weights."""
    moments = {0: {"step": torch.tensor(7.0), "exp_avg": torch.ones(2, 3)}}
    return {
        "epoch": 200,
        "best_fid": 61.5,
        "name": "horse2zebra",
        "optimizer": {"state": moments, "param_groups": [{"lr": 2e-4, "params": [0]}]},
        "state_dict": state_dict,
    }


WRAPPED: dict[str, Callable[[StateDict], object]] = {
    "raw": lambda weights: weights,
    "plain dict": dict,
    "state_dict": lambda weights: {"state_dict": weights},
    "model": lambda weights: {"model": weights},
    "netG": lambda weights: {"netG": weights},
    "generator": lambda weights: {"generator": weights},
    "params_ema": lambda weights: {"params_ema": weights},
    "nested": lambda weights: {"model": {"state_dict": weights}},
    "nested the other way": lambda weights: {"state_dict": {"netG": weights}},
    "module": in_module,
    "module twice": lambda weights: in_module(in_module(weights)),
    "wrapped module": lambda weights: {"state_dict": in_module(weights)},
    "nested module": lambda weights: {"netG": {"state_dict": in_module(weights)}},
    "siblings": with_siblings,
    "siblings, module": lambda weights: with_siblings(in_module(weights)),
    "a tensor beside it": lambda weights: {"state_dict": weights, "loss": torch.tensor(0.25)},
    "discriminator beside it": lambda weights: {
        "discriminator": patchgan_state_dict(0, ndf=4),
        "generator": weights,
    },
    "parameters": lambda weights: {name: nn.Parameter(value) for name, value in weights.items()},
}


@pytest.mark.parametrize("wrapping", WRAPPED)
def test_the_weights_are_found_inside(wrapping: str, tmp_path: Path) -> None:
    state_dict, images = resnet(16, SMALL), example_images(3)
    generator = load(tmp_path, WRAPPED[wrapping](state_dict))
    assert_holds(generator.network, state_dict, set(state_dict))
    assert_draws(generator.network, images, resnet_picture(state_dict, images, SMALL, {}))


@pytest.mark.parametrize("wrapping", ["netG", "module", "siblings, module"])
def test_the_weights_of_a_unet_are_found_inside(wrapping: str, tmp_path: Path) -> None:
    weights = {"downs": 5}
    state_dict, images = unet(17, weights), unet_images(weights)
    generator = load(tmp_path, WRAPPED[wrapping](state_dict))
    assert_draws(generator.network, images, unet_picture(state_dict, images, weights, {}))


def test_the_file_format_of_old_torch_is_read(tmp_path: Path) -> None:
    # The published CycleGAN weights are in it: no zip archive, but pickles one after another.
    state_dict, images = resnet(18, SMALL), example_images(3)
    path = tmp_path / "latest_net_G.pth"
    torch.save(state_dict, path, _use_new_zipfile_serialization=False)
    assert_draws(
        load_generator(path).network, images, resnet_picture(state_dict, images, SMALL, {})
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_weights_of_other_precision_become_float32(
    dtype: torch.dtype, norm: str, tmp_path: Path
) -> None:
    weights, images = SMALL | {"norm": norm}, example_images(3)
    converted = OrderedDict(
        (k, v.to(dtype) if v.is_floating_point() else v) for k, v in resnet(19, weights).items()
    )
    back = OrderedDict((k, v.float() if v.is_floating_point() else v) for k, v in converted.items())
    generator = load(tmp_path, converted)
    assert {p.dtype for p in generator.network.parameters()} == {torch.float32}
    assert_draws(generator.network, images, resnet_picture(back, images, weights, {}))


# --- What is no generator ----------------------------------------------------------------------


def error_of(path: Path, **overrides: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_generator(path, **overrides)
    message = str(caught.value)
    assert str(path) in message
    assert len(message.splitlines()) == 1
    return message


def write(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def test_a_missing_file(tmp_path: Path) -> None:
    error_of(tmp_path / "nowhere.pth")
    error_of(tmp_path / "no" / "folder" / "net.pth")


def test_a_folder(tmp_path: Path) -> None:
    assert "folder" in error_of(tmp_path)


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.pth"
    path.touch()
    assert "empty" in error_of(path)


@pytest.mark.parametrize("part", [0.02, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_file(part: float, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "half.pth"
    torch.save(resnet(20, SMALL), path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    error_of(path)


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html><html><body>404: not found</body></html>\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 45575747\n",
        "Fotos für später\n".encode(),
        b"\x89PNG\r\n\x1a\n" + bytes(64),
        b"PK\x03\x04" + bytes(64),
        b"PK\x05\x06" + bytes(18),
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x02K\x01.",
        b"\x80\x02t.",
        b"\x80\x02X\x01\x00.",
        b"\x80\x02K\x01Q.",
        bytes(1000),
    ],
    ids=["html", "lfs pointer", "text", "png", "cut zip", "empty zip", *"abcdef", "zeros"],
)
def test_a_file_of_another_kind(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "download.pth"
    path.write_bytes(content)
    error_of(path)


class Hostile:
    """Its pickle is a call: whoever unpickles it makes the marker file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.marker), "w")


@pytest.mark.parametrize("kind", ["pickle", "zip", "legacy", "beside weights", "in the card"])
def test_a_file_that_carries_code_is_refused_and_not_run(kind: str, tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "hostile.pth"
    match kind:
        case "pickle":
            path.write_bytes(pickle.dumps(Hostile(marker), protocol=2))
        case "zip":
            torch.save(Hostile(marker), path)
        case "legacy":
            torch.save(Hostile(marker), path, _use_new_zipfile_serialization=False)
        case "beside weights":
            torch.save({"state_dict": resnet(21, SMALL), "epoch": Hostile(marker)}, path)
        case "in the card":
            torch.save({"wkdc": {"history": [Hostile(marker)]}, "state_dict": {}}, path)
    error_of(path)
    assert not marker.exists()
    with suppress(Exception):  # the weapon is loaded: the unsafe way makes the marker
        torch.load(path, weights_only=False)
    assert marker.exists()


def test_a_whole_pickled_module_is_refused(tmp_path: Path) -> None:
    assert "state_dict" in error_of(write(tmp_path / "module.pth", nn.Conv2d(3, 4, 7)))


def shapes(**layers: tuple[int, ...]) -> StateDict:
    """A state dict from names (`__` for a dot) and the shapes of the weights."""
    return OrderedDict(
        (f"{name.replace('__', '.')}.weight", torch.zeros(*shape)) for name, shape in layers.items()
    )


OTHERS = {
    "ResNet-18": shapes(
        conv1=(8, 3, 7, 7),
        bn1=(8,),
        layer1__0__conv1=(8, 8, 3, 3),
        layer1__0__bn1=(8,),
        layer1__0__conv2=(8, 8, 3, 3),
        fc=(10, 8),
    ),
    "VGG": shapes(
        features__0=(8, 3, 3, 3),
        features__2=(8, 8, 3, 3),
        classifier__0=(16, 8),
        classifier__3=(10, 16),
    ),
    "DenseNet": shapes(
        features__conv0=(8, 3, 7, 7),
        features__denseblock1__denselayer1__conv1=(16, 8, 1, 1),
        features__denseblock1__denselayer1__conv2=(4, 16, 3, 3),
        classifier=(10, 12),
    ),
    "DenseNet without its head": shapes(
        features__conv0=(8, 3, 7, 7),
        features__denseblock1__denselayer1__conv1=(16, 8, 1, 1),
        features__denseblock1__denselayer1__conv2=(4, 16, 3, 3),
    ),
    "MobileNet": shapes(
        features__0__0=(8, 3, 3, 3),
        features__1__conv__0=(8, 8, 1, 1),
        features__1__conv__1=(8, 1, 3, 3),
        classifier__1=(10, 8),
    ),
    "super-resolution": shapes(
        conv__first=(8, 3, 3, 3),
        body__0__convs__0=(8, 8, 3, 3),
        body__0__convs__2=(8, 8, 3, 3),
        conv__last=(3, 8, 3, 3),
    ),
    "numbered like a generator": shapes(
        model__0=(8, 3, 3, 3),
        model__1__body__0=(8, 8, 3, 3),
        model__1__body__2=(8, 8, 3, 3),
        model__2=(3, 8, 3, 3),
    ),
    "transformer": shapes(
        patch_embed__proj=(8, 3, 16, 16),
        blocks__0__attn__qkv=(24, 8),
        blocks__0__mlp__fc1=(32, 8),
        head=(10, 8),
    ),
    "one layer": shapes(fc=(10, 8)),
    "audio": shapes(conv=(8, 1, 400)),
    "odd digits": shapes(**{"model__²__block__1": (8, 8, 3, 3)}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_networks_are_no_generators(name: str, tmp_path: Path) -> None:
    state_dict = OTHERS[name]
    message = error_of(write(tmp_path / "other.pth", state_dict))
    assert any(names(message, key.removesuffix(".weight")) for key in state_dict)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm": "batch"},
        {"norm": "instance", "affine": True},
        {"norm": "none"},
        {"in_channels": 6},
        {"layers": 4},
        {"layers": 2},
        {"ndf": 64},
    ],
    ids=str,
)
def test_a_discriminator_is_called_one(options: dict[str, Any], tmp_path: Path) -> None:
    state_dict = patchgan_state_dict(22, **({"ndf": 4} | options))
    path = tmp_path / "net_D.pth"
    assert "discriminator" in error_of(write(path, state_dict)).replace(str(path), "")
    assert "discriminator" in error_of(write(path, {"model": in_module(state_dict)}))


BLOCK = "model.12.conv_block"


def names(message: str, layer: str) -> bool:
    """`message` quotes a key of `layer`, or `layer` itself."""
    return re.search(rf"'{re.escape(layer)}['.]", message) is not None


def without(*names: str) -> Callable[[StateDict], None]:
    def change(state_dict: StateDict) -> None:
        for name in names:
            del state_dict[name]

    return change


def cut(axis: int, *names: str) -> Callable[[StateDict], None]:
    """Take the last channel along `axis` away from each."""

    def change(state_dict: StateDict) -> None:
        for name in names:
            size = state_dict[name].shape[axis]
            state_dict[name] = state_dict[name].narrow(axis, 0, size - 1).clone()

    return change


def replaced(name: str, *shape: int) -> Callable[[StateDict], None]:
    def change(state_dict: StateDict) -> None:
        state_dict[name] = torch.zeros(*shape)

    return change


# name: (options, what is done to the weights, the layer that the message names, or its parent)
UNFIT: dict[str, tuple[dict[str, Any], Callable[[StateDict], None], str]] = {
    "missing block convolution": ({}, without(f"{BLOCK}.5.weight", f"{BLOCK}.5.bias"), BLOCK),
    "missing convolutions of a block": (
        {"affine": True},
        without(*(f"{BLOCK}.{i}.{leaf}" for i in (1, 5) for leaf in ("weight", "bias"))),
        BLOCK,
    ),
    "missing block weight": ({}, without(f"{BLOCK}.5.weight"), BLOCK),
    "missing block bias": ({}, without(f"{BLOCK}.1.bias"), f"{BLOCK}.1"),
    "missing block norm": (
        {"affine": True},
        without(f"{BLOCK}.2.weight", f"{BLOCK}.2.bias"),
        BLOCK,
    ),
    "missing norm bias": ({"affine": True}, without("model.2.bias"), "model.2"),
    "missing running variance": (
        {"norm": "batch"},
        without(f"{BLOCK}.6.running_var"),
        f"{BLOCK}.6",
    ),
    "missing first convolution": ({}, without("model.1.weight", "model.1.bias"), "model.4"),
    "missing last convolution": ({}, without("model.23.weight", "model.23.bias"), "model.19"),
    "missing transposed": ({}, without("model.16.weight", "model.16.bias"), "model.19"),
    "block does not fit the stream": (
        {},
        cut(0, f"{BLOCK}.5.weight", f"{BLOCK}.5.bias"),
        f"{BLOCK}.5",
    ),
    "block reads another width": ({}, cut(1, f"{BLOCK}.1.weight"), f"{BLOCK}.1"),
    "inside of a block does not fit": ({}, cut(1, f"{BLOCK}.5.weight"), f"{BLOCK}.5"),
    "encoder does not fit": ({}, cut(1, "model.4.weight"), "model.4"),
    "decoder does not fit": ({}, cut(0, "model.16.weight"), "model.16"),
    "last layer does not fit": ({}, cut(1, "model.23.weight"), "model.23"),
    "short bias": ({}, cut(0, "model.7.bias"), "model.7"),
    "short norm": ({"affine": True}, cut(0, "model.5.weight"), "model.5"),
    "other kernel in a block": ({}, replaced(f"{BLOCK}.5.weight", 16, 16, 5, 5), f"{BLOCK}.5"),
    "other kernel at the end": ({}, replaced("model.23.weight", 3, 4, 3, 3), "model.23"),
    "a layer that nobody has": ({}, replaced("style.mapping.weight", 8, 8), "style.mapping"),
    "a convolution that nobody has": ({}, replaced("skip.0.weight", 3, 3, 1, 1), "skip.0"),
    "a value that nobody has": ({}, replaced("temperature", 1), "temperature"),
    "attention in a block": ({}, replaced(f"{BLOCK}.7.gamma", 16), f"{BLOCK}.7"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_weights_that_do_not_fit_are_named(name: str, tmp_path: Path) -> None:
    options, change, layer = UNFIT[name]
    state_dict = resnet(23, {"blocks": 6, "ngf": 4} | options)
    load(tmp_path, state_dict)  # it is the change that breaks them
    change(state_dict)
    assert names(error_of(write(tmp_path / "unfit.pth", state_dict)), layer)


@pytest.mark.parametrize(
    ("options", "norm"),
    [
        ({"norm": "batch"}, "none"),
        ({"affine": True}, "none"),
        ({}, "batch"),
        ({"affine": True}, "batch"),
        ({"norm": "none"}, "batch"),
    ],
)
def test_a_norm_that_the_file_contradicts(
    options: dict[str, Any], norm: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "latest_net_G.pth", resnet(23, SMALL | options))
    error_of(path, norm=norm)


UP = "model.model.1.model.3.model.5"


@pytest.mark.parametrize(
    ("change", "layer"),
    [
        (without(f"{UP}.weight"), "model.model.1.model.3.model"),
        (cut(0, f"{UP}.weight"), UP),
        (without("model.model.3.weight", "model.model.3.bias"), "model.model.0"),
        (cut(1, "model.model.1.model.1.weight"), "model.model.1.model.1"),
        (replaced("model.model.1.model.2.gain", 8), "model.model.1.model.2"),
        (replaced("model.model.0.weight", 4, 3, 3, 3), "model.model.0"),
        (replaced("model.attention.weight", 4, 4), "model.attention"),
    ],
)
def test_weights_of_a_unet_that_do_not_fit_are_named(
    change: Callable[[StateDict], None], layer: str, tmp_path: Path
) -> None:
    state_dict = unet(24, {"downs": 7})
    load(tmp_path, state_dict)
    change(state_dict)
    assert names(error_of(write(tmp_path / "unfit.pth", state_dict)), layer)


@pytest.mark.parametrize(
    "content",
    [
        [torch.zeros(3)],
        (),
        {},
        OrderedDict(),
        torch.zeros(3, 3),
        12,
        None,
        "weights",
        {"state_dict": {}},
        {"state_dict": [torch.zeros(3)]},
        {"state_dict": None, "epoch": 3},
        {"epoch": 3, "lr": 2e-4},
        {"model.1.weight": "not a tensor"},
        {"model.1.weight": [[0.1, 0.2]]},
        {1: torch.zeros(3), 2: torch.zeros(3)},
        {"a": torch.zeros(3)},
        {"weight": torch.tensor(3.0)},
    ],
    ids=str,
)
def test_plain_values_that_are_no_state_dict(content: object, tmp_path: Path) -> None:
    error_of(write(tmp_path / "odd.pth", content))


def test_a_value_among_the_weights_that_is_no_tensor(tmp_path: Path) -> None:
    for odd in ("text", [1.0, 2.0], None, 3):
        state_dict = resnet(25, SMALL) | {"model.11.conv_block.5.bias": odd}
        message = error_of(write(tmp_path / "odd.pth", state_dict))
        assert "model.11.conv_block.5.bias" in message


@contextmanager
def within(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"still busy after {seconds} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_a_dict_that_contains_itself(tmp_path: Path) -> None:
    content: dict[str, Any] = {"epoch": 3}
    content["model"] = content
    with within(5):
        error_of(write(tmp_path / "endless.pth", content))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "model.10.conv_block.1.weight"),
        ({}, "model.1.bias"),
        ({"norm": "batch"}, "model.5.running_var"),
        ({"norm": "instance", "affine": True}, "model.5.weight"),
    ],
)
def test_weights_that_are_not_finite(
    value: float, options: dict[str, Any], name: str, tmp_path: Path
) -> None:
    state_dict = resnet(26, SMALL | options)
    state_dict[name].view(-1)[-1] = value
    assert name in error_of(write(tmp_path / "diverged.pth", state_dict))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.bool, torch.complex64])
def test_weights_that_are_not_real_numbers(dtype: torch.dtype, tmp_path: Path) -> None:
    # Quantised weights mean nothing without their scales, and half of a complex one would be lost.
    name = "model.11.conv_block.5.weight"
    state_dict = resnet(25, SMALL)
    state_dict[name] = state_dict[name].to(dtype)
    assert name in error_of(write(tmp_path / "quantised.pth", state_dict))


# --- Saving ------------------------------------------------------------------------------------


def card_of(generator: Generator) -> dict[str, Any]:
    teacher = {"path": generator.path.name, "sha256": generator.sha256, "params": 1, "macs": 2}
    history = [history_entry("prune", ratio=7.0, teacher=generator.path, seed=0)]
    return make_card(generator.architecture, teacher, history)


@pytest.fixture
def teacher(tmp_path: Path) -> Generator:
    return load(tmp_path, resnet(27, SMALL))


SAVED = {
    "resnet": (resnet, resnet_picture, PRUNED, {}),
    "affine": (resnet, resnet_picture, PRUNED | {"affine": True, "block_name": "block"}, {}),
    "batch": (resnet, resnet_picture, PRUNED | {"norm": "batch", "dropout": True}, {}),
    "none": (resnet, resnet_picture, PRUNED | {"norm": "none"}, {}),
    "zero": (resnet, resnet_picture, PRUNED | {"padding": "zero"}, {}),
    "replicate": (resnet, resnet_picture, PRUNED, {"block_padding": "replicate"}),
    "overridden norm": (resnet, resnet_picture, PRUNED | {"norm": "batch"}, {"norm": "instance"}),
    "unbiased": (resnet, resnet_picture, PRUNED | {"bias": False}, {"norm": "instance"}),
    "tracked": (resnet, resnet_picture, PRUNED | {"tracked": True}, {}),
    "unet": (unet, unet_picture, PRUNED_UNET, {}),
    "unet, instance": (unet, unet_picture, PRUNED_UNET | {"norm": "instance"}, {}),
}


@pytest.mark.parametrize("name", SAVED)
def test_what_is_saved_draws_the_same_when_loaded(name: str, tmp_path: Path) -> None:
    make, expected_of, weights, overrides = SAVED[name]
    state_dict = make(28, weights)
    images = example_images(3, 128, 128, count=1)
    expected = expected_of(state_dict, images, weights, overrides)
    first = load(tmp_path, state_dict, **overrides)
    card = card_of(first)
    save_generator(tmp_path / "student.pth", first.network, card)

    again = load_generator(tmp_path / "student.pth")  # the card remembers what was told
    assert_draws(again.network, images, expected)
    assert again.architecture.family == first.architecture.family
    assert again.architecture.options == first.architecture.options
    assert again.card == card


@pytest.mark.parametrize("norm", ["none", "instance", "batch"])
@pytest.mark.parametrize(
    ("stream", "decoder"),
    [(10, (6, 3)), (16, (4, 4)), (4, (4, 4))],
    ids=["plain", "fits both readings", "square"],
)
@pytest.mark.parametrize("upsampling", ["transposed", "subpixel"])
def test_either_upsampling_is_told_from_the_file(
    upsampling: str, stream: int, decoder: tuple[int, int], norm: str, tmp_path: Path
) -> None:
    # Kernels of 16×16, 16×4 chain from 16 channels to 4 whichever way they are read.
    stock = resnet(30, SMALL | {"stream": stream, "decoder": decoder, "norm": norm})
    source = load(tmp_path, stock)
    options = source.architecture.options | {"upsampling": upsampling}
    architecture = dataclasses.replace(source.architecture, options=options)
    network = architecture.build().eval()
    card = card_of(dataclasses.replace(source, architecture=architecture))
    save_generator(tmp_path / "student.pth", network, card)
    again = load_generator(tmp_path / "student.pth")
    assert again.architecture.options["upsampling"] == upsampling
    images = example_images(3)
    # One module and the same weights twice: to the bit.
    assert torch.equal(run(again.network, images), run(network, images))


def test_the_file_loads_without_wkdc(tmp_path: Path, teacher: Generator) -> None:
    path, card = tmp_path / "student.pth", card_of(teacher)
    save_generator(path, teacher.network, card)
    content = torch.load(path, weights_only=True)
    assert set(content) == {"wkdc", "state_dict"}
    assert content["wkdc"] == card
    assert is_plain(content["wkdc"])
    original = resnet(27, SMALL)
    assert list(content["state_dict"]) == list(original)
    for name, tensor in content["state_dict"].items():
        assert torch.equal(tensor, original[name])


def test_the_weights_in_the_file_load_into_the_original(tmp_path: Path, teacher: Generator) -> None:
    path, images = tmp_path / "student.pth", example_images(3)
    save_generator(path, teacher.network, card_of(teacher))
    state_dict = torch.load(path, weights_only=True)["state_dict"]
    assert_draws(teacher.network, images, resnet_picture(state_dict, images, SMALL, {}))


def test_saving_leaves_the_network_as_it_was(tmp_path: Path, teacher: Generator) -> None:
    network = teacher.network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    save_generator(tmp_path / "student.pth", network, card_of(teacher))
    assert network.training
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


def test_an_existing_file_is_replaced_and_not_overwritten(
    tmp_path: Path, teacher: Generator
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    path, keepsake = folder / "student.pth", tmp_path / "keepsake"
    path.write_bytes(b"old")
    os.link(path, keepsake)  # a second name of the old file: writing into it would show here
    save_generator(path, teacher.network, card_of(teacher))
    assert keepsake.read_bytes() == b"old"
    assert load_generator(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [entry.name for entry in folder.iterdir()] == ["student.pth"]


def test_others_may_read_the_file_as_any_other(tmp_path: Path, teacher: Generator) -> None:
    previous = os.umask(0o027)
    try:
        save_generator(tmp_path / "student.pth", teacher.network, card_of(teacher))
    finally:
        os.umask(previous)
    assert (tmp_path / "student.pth").stat().st_mode & 0o777 == 0o640


def output_error_of(path: Path, teacher: Generator) -> None:
    with pytest.raises(OutputError) as caught:
        save_generator(path, teacher.network, card_of(teacher))
    message = str(caught.value)
    assert str(path) in message
    assert len(message.splitlines()) == 1


def test_saving_where_no_file_can_be(tmp_path: Path, teacher: Generator) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    names_before = sorted(tmp_path.iterdir())
    output_error_of(tmp_path / "nowhere" / "student.pth", teacher)
    output_error_of(tmp_path / "file" / "student.pth", teacher)
    output_error_of(tmp_path / "folder", teacher)
    assert sorted(tmp_path.iterdir()) == names_before
    assert not list((tmp_path / "folder").iterdir())


def test_saving_to_a_folder_that_is_read_only(tmp_path: Path, teacher: Generator) -> None:
    folder = tmp_path / "read-only"
    folder.mkdir()
    path = folder / "student.pth"
    path.write_bytes(b"old")
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:  # to whom modes mean nothing: be nobody for the while
        os.seteuid(65534)
    try:
        output_error_of(path, teacher)
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in folder.iterdir()] == ["student.pth"]


FULL_DISK = """
import resource, sys
import torch
from wkdc.checkpoints.checkpoint import load_generator, save_generator
from wkdc.errors import OutputError

path, room = sys.argv[1], int(sys.argv[2])
old = load_generator(path)
card = dict(old.card, history=[])
resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))  # Python ignores SIGXFSZ: writes fail
try:
    save_generator(path, old.network, card)
except OutputError as error:
    assert path in str(error) and len(str(error).splitlines()) == 1, error
    sys.exit(42)
"""


def test_a_full_disk_keeps_the_old_file(tmp_path: Path, teacher: Generator) -> None:
    path = tmp_path / "student.pth"
    save_generator(path, teacher.network, card_of(teacher))
    old, names = path.read_bytes(), sorted(tmp_path.iterdir())
    for room in (0, len(old) // 2):
        # In a process of its own: the limit cannot be taken back, and a crash is a failure here.
        done = subprocess.run(
            [sys.executable, "-c", FULL_DISK, str(path), str(room)],
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            timeout=HANG_S,
        )
        assert done.returncode == 42, done.stderr
        assert path.read_bytes() == old
        assert sorted(tmp_path.iterdir()) == names


# --- Cards -------------------------------------------------------------------------------------


def student_of(source: Generator, path: Path, **changes: Any) -> Path:
    save_generator(path, source.network, card_of(source) | changes)
    return path


@pytest.mark.parametrize(
    "card",
    [
        "text",
        [],
        {},
        {"format": 1},
        {"format": "one", "options": {}, "teacher": {}},
        {"format": 1, "options": None, "teacher": None},
        {"format": 1, "options": {"norm": "instance"}, "teacher": {}},
        {
            "format": 1,
            "options": {"norm": "spectral", "block_padding": "reflect"},
            "teacher": {"path": "teacher.pth", "sha256": "0" * 64},
        },
        {
            "format": 1,
            "options": {"norm": "instance", "block_padding": "mirror"},
            "teacher": {"path": "teacher.pth", "sha256": "0" * 64},
        },
    ],
    ids=str,
)
def test_a_broken_card(card: object, tmp_path: Path) -> None:
    content = {"wkdc": card, "state_dict": resnet(29, SMALL)}
    error_of(write(tmp_path / "student.pth", content))


def test_a_card_of_a_later_version(tmp_path: Path, teacher: Generator) -> None:
    path = student_of(teacher, tmp_path / "student.pth", format=99)
    assert "newer" in error_of(path)


def test_a_card_cannot_hold_what_would_not_load_again(tmp_path: Path, teacher: Generator) -> None:
    path = student_of(teacher, tmp_path / "student.pth")
    old = path.read_bytes()
    with pytest.raises((OutputError, TypeError, ValueError)):
        student_of(teacher, path, teacher={"path": Path("teacher.pth"), "sha256": "0" * 64})
    assert path.read_bytes() == old


def test_the_teacher_is_found_from_the_student(tmp_path: Path, teacher: Generator) -> None:
    student = load_generator(student_of(teacher, tmp_path / "student.pth"))
    assert teacher_path(student.path, student.card) == teacher.path
    teacher.path.write_bytes(b"something else")
    with pytest.raises(CheckpointError, match="changed"):
        teacher_path(student.path, student.card)
    teacher.path.unlink()
    with pytest.raises(CheckpointError, match="is not there; look in the cellar"):
        teacher_path(student.path, student.card, hint="look in the cellar")


def test_teacher_and_student_may_move_together(tmp_path: Path, teacher: Generator) -> None:
    named = {"path": "/gone/latest_net_G.pth", "sha256": teacher.sha256, "params": 1, "macs": 2}
    student = load_generator(student_of(teacher, tmp_path / "student.pth", teacher=named))
    assert teacher_path(student.path, student.card) == teacher.path


def test_a_stock_file_has_no_teacher(teacher: Generator) -> None:
    with pytest.raises(CheckpointError, match="does not say who its teacher is; name the teacher"):
        teacher_path(teacher.path, teacher.card)


# --- A generator that was really trained -------------------------------------------------------


@pytest.fixture(scope="module")
def vintage() -> Path:
    """A CycleGAN from photos to vintage images, of the package vintagify (in the test extra)."""
    spec = importlib.util.find_spec("vintagify")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "resources" / "G_A2B_epoch33.pth"


def test_a_trained_generator_is_recognised(vintage: Path) -> None:
    generator = load_generator(vintage)
    parameters = sum(parameter.numel() for parameter in generator.network.parameters())
    assert parameters == pytest.approx(11.39e6, rel=0.01)
    assert generator.architecture.family == "resnet"
    options = generator.architecture.options
    assert (options["norm"], options["affine"], options["bias"]) == ("instance", True, True)
    assert (options["dropout"], options["block_padding"]) == (False, "reflect")
    assert list(options["inner"]) == [256] * 9
    assert "vintagify" not in sys.modules  # its weights are used, not its code


@pytest.mark.parametrize("height_width", [(64, 64), (60, 92)])
def test_a_trained_generator_draws_what_the_original_draws(
    height_width: tuple[int, int], vintage: Path
) -> None:
    images = example_images(3, *height_width, count=1)
    state_dict = torch.load(vintage, weights_only=True, map_location="cpu")
    expected = resnet_forward(state_dict, images, block_name="block")
    assert_draws(load_generator(vintage).network, images, expected)
