"""Networks of the user's own code: `--arch module:factory` through every command."""

import json
from collections.abc import Callable
from pathlib import Path

import custom_networks
import pytest
import torch
from conftest import Called
from torch import nn

import wkdc
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.checkpoints.weight_files import load_plain
from wkdc.data.images import load_square
from wkdc.data.photos import photo_paths
from wkdc.errors import CheckpointError, OptionError, TargetError
from wkdc.networks.custom import examine
from wkdc.pruning.channels import channel_groups, trace_flow

Call = Callable[..., Called]
STYLIST = "custom_networks:Stylist"


def saved(network: nn.Module, folder: Path) -> Path:
    """A weight file of `network`, with norms that are not all alike."""
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.InstanceNorm2d) and layer.affine:
            nn.init.normal_(layer.weight, 1.0, 0.2)
    torch.save(network.state_dict(), folder / "teacher.pth")
    return folder / "teacher.pth"


def test_the_four_commands_chain(tmp_path: Path, photos: Path, call_wkdc: Call) -> None:
    saved(custom_networks.Stylist(), tmp_path)

    done = call_wkdc("prune", "teacher.pth", "--ratio", 3, "--arch", STYLIST, "--data", photos)
    assert done.code == 0, done.stderr
    assert f"wkdc distill --data {photos} --arch {STYLIST}" in " ".join(done.stdout.split())
    card = load_plain(tmp_path / "student.pth")["wkdc"]
    assert (card["family"], card["options"]["factory"]) == ("custom", STYLIST)

    arch = ("--arch", STYLIST)
    done = call_wkdc("distill", "--data", photos, "--steps", 2, "--crop", 32, *arch, "--json")
    assert json.loads(done.stdout)["steps"] == 2
    done = call_wkdc("export", "student.pth", *arch, "--json")
    # As for the known families: float32 over a few layers, in another order.
    assert json.loads(done.stdout)["max_abs_error"] < 1e-4
    done = call_wkdc("profile", "--size", 64, "--rounds", 1, *arch, "--json")
    models = json.loads(done.stdout)["models"]
    assert models[0]["params"] / models[1]["params"] == pytest.approx(3, rel=0.02)
    done = call_wkdc("profile", "student.onnx", "--size", 64, "--rounds", 1, "--json")
    (model,) = json.loads(done.stdout)["models"]
    assert (model["params"], model["macs"]) == (models[1]["params"], None)
    for file, named in (("student.pth", arch), ("student.onnx", ())):
        done = call_wkdc("translate", file, photos, "-o", f"{file} images", *named, "--json")
        assert len(json.loads(done.stdout)["outputs"]) == len(list(photos.iterdir()))


def test_a_student_that_keeps_what_can_be_said_comes_back_exactly(tmp_path: Path) -> None:
    # Half of the channels of two layers say what the other half says: they can go, wherever their
    # layers are registered, and reconstruction makes up for them.
    network = custom_networks.Stylist().eval()
    path = saved(network, tmp_path)
    with torch.no_grad():
        for maker, norm in ((network.stem, network.stem_norm), (network.up, network.up_norm)):
            for part in (maker.conv.weight, maker.conv.bias, norm.weight, norm.bias):
                part[4:] = part[:4]
    torch.save(network.state_dict(), path)
    made = wkdc.prune(
        load_generator(path, arch=STYLIST),
        widths=[4, 12, 12, 4],
        output=tmp_path / "student.pth",
        calibrate=4,
    )
    assert list(made.widths) == ["stem.conv", "down.conv", "block.first.conv", "up.conv"]
    student = load_generator(tmp_path / "student.pth", arch=STYLIST).network
    image = load_square(photo_paths()[-1], 128)
    with torch.no_grad():
        difference = student(image) - network(image)
    # The ridge, a ten-thousandth of the inputs' squares, holds back kernels of 81 taps on smooth
    # photos, which leaves 0.003. Channels chosen by chance leave 0.14 and more, slicing alone 0.29.
    assert float(difference.square().mean().sqrt()) < 0.01


def test_the_flow_is_that_of_the_forward_pass() -> None:
    network = custom_networks.Stylist()
    flow = trace_flow(network, torch.zeros(1, 3, 32, 32))
    order = ["stem", "down", "block.first", "block.second", "up", "last"]
    assert flow.order == tuple(f"{name}.conv" for name in order)
    assert flow.usable == set(flow.order)
    norms = {layer: name for name, layer in network.named_modules()}
    assert {name: norms[norm] for name, norm in flow.norms.items()} == {
        "stem.conv": "stem_norm",
        "down.conv": "down_norm",
        "block.first.conv": "block.first_norm",
        "block.second.conv": "block.second_norm",
        "up.conv": "up_norm",
    }


def test_a_norm_behind_a_change_in_place_is_not_the_convolutions() -> None:
    conv, norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
    image = torch.zeros(1, 3, 8, 8)
    for between, found in ((nn.ReLU(inplace=True), {}), (nn.Identity(), {"0": norm})):
        assert trace_flow(nn.Sequential(conv, between, norm).eval(), image).norms == found


def test_layers_that_are_not_understood_are_left(tmp_path: Path) -> None:
    network = custom_networks.Grouped()
    flow = trace_flow(network, torch.zeros(1, 3, 32, 32))
    assert flow.usable == {"first", "depthwise", "wide", "narrow", "last"}
    _, groups = channel_groups(network.requires_grad_(True), in_channels=3, smallest=1)
    assert [list(group.producers) for group in groups] == [["first", "depthwise"], ["wide"]]

    notices: list[str] = []
    teacher = load_generator(saved(network, tmp_path), arch="custom_networks:Grouped")
    made = wkdc.prune(
        teacher,
        widths=[6, 5],
        output=tmp_path / "student.pth",
        calibrate=2,
        on_notice=notices.append,
    )
    assert made.widths == {"first": (8, 6), "wide": (12, 5)}
    assert {layer.name for layer in made.layers} == flow.usable
    assert notices == [
        "these keep their width: narrow, twice; see docs/custom.md",
    ]


def test_depthwise_layers_group_norms_and_fixed_filters_follow(tmp_path: Path) -> None:
    network = custom_networks.Mobile().eval()
    arch = "custom_networks:Mobile"
    path = saved(network, tmp_path)
    teacher = load_generator(path, arch=arch)
    output = tmp_path / "student.pth"
    notices: list[str] = []
    sliced = wkdc.prune(
        teacher, widths=[9, 7], calibrate=0, output=output, on_notice=notices.append
    )
    assert sliced.widths == {"stem": (16, 9), "narrow": (12, 7)}
    assert notices == ["these keep their width: wide; see docs/custom.md"]  # its norm has 4 groups
    student = load_generator(output, arch=arch).network
    stem, kept_stem = network.stem.weight, student.get_parameter("stem.weight")
    kept = [int((stem - row).abs().sum((1, 2, 3)).argmin()) for row in kept_stem]
    assert len(set(kept)) == 9
    assert torch.equal(student.get_buffer("blur.filters"), network.blur.filters[kept])
    torch.testing.assert_close(
        student.get_parameter("depthwise.weight"), network.depthwise.weight[kept]
    )

    solved = wkdc.prune(teacher, widths=[9, 7], calibrate=8, output=tmp_path / "solved.pth")
    assert {layer.name for layer in solved.layers} >= {"stem", "depthwise", "narrow"}
    image = load_square(photo_paths()[-1], 128)
    other = load_generator(tmp_path / "solved.pth", arch=arch).network
    with torch.no_grad():
        errors = [float((s(image) - network(image)).square().mean()) for s in (student, other)]
    assert errors[1] < errors[0] / 4  # 6 dB nearer than what slicing leaves


def test_what_only_looks_like_a_convolution_is_left(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    network = custom_networks.Unusual().eval()
    path, arch = saved(network, tmp_path), "custom_networks:Unusual"
    output = tmp_path / "student.pth"
    made = wkdc.prune(load_generator(path, arch=arch), widths=[7], output=output, calibrate=2)
    assert made.widths == {"wide": (12, 7)}
    # What subclasses and hooks do is not known, so they are not solved either.
    assert {layer.name for layer in made.layers} == {"gained", "wide", "last.0"}
    student = load_generator(output, arch=arch).network
    student(torch.zeros(1, 3, 32, 32))
    assert [str(w.message) for w in recwarn if "num_features" in str(w.message)] == []


def test_a_network_that_joins_its_scales_is_exported(tmp_path: Path) -> None:
    arch = "custom_networks:Concatenating"
    path = saved(custom_networks.Concatenating(), tmp_path)
    made = wkdc.prune(
        load_generator(path, arch=arch), ratio=1.5, output=tmp_path / "student.pth", calibrate=2
    )
    assert made.architecture.strict
    assert wkdc.export(load_generator(tmp_path / "student.pth", arch=arch)).max_abs_error < 1e-4
    with pytest.raises(OptionError, match="multiples of 4 only"):
        wkdc.profile([tmp_path / "student.pth"], size=(30, 32), arch=arch)


def test_what_a_network_reads_and_draws_is_found_by_trying() -> None:
    found = examine(custom_networks.Stylist().eval(), STYLIST)
    # Half the size has to be mirrored by one pixel, the whole one by four.
    assert found == {"in_channels": 3, "out_channels": 3, "multiple": 2, "smallest": 6}


@pytest.mark.parametrize(
    ("network", "error", "says"),
    [
        (custom_networks.Counting(), CheckpointError, "something in its forward pass counts them"),
        (custom_networks.Enlarger(), CheckpointError, "returns no image of the size of its input"),
        (custom_networks.bare(), TargetError, "nothing can be pruned"),
    ],
)
def test_networks_that_cannot_be_made_smaller(
    network: nn.Module, error: type[Exception], says: str, tmp_path: Path
) -> None:
    name = getattr(type(network), "__name__", "")
    factory = f"custom_networks:{'bare' if name == 'Sequential' else name}"
    path = saved(network, tmp_path)
    with pytest.raises(error, match=says):
        wkdc.prune(load_generator(path, arch=factory), ratio=2, output=tmp_path / "s.pth")
    assert not (tmp_path / "s.pth").exists()


@pytest.mark.parametrize(
    ("arch", "says"),
    [
        ("custom_networks", "is not understood; give package.module:factory"),
        ("custom_networks:Missing", "has no attribute 'Missing'"),
        ("no_such_module:make", "No module named 'no_such_module'"),
        ("custom_networks:Residual", "missing 1 required positional argument"),
        ("custom_networks:no_network", "returned a str, not a torch Module"),
        ("custom_networks:Grouped", "do not fit custom_networks:Grouped: 'last.conv.weight' is on"),
        ("custom_networks:Counting", "do not fit custom_networks:Counting"),
    ],
)
def test_an_arch_that_does_not_fit(arch: str, says: str, tmp_path: Path, call_wkdc: Call) -> None:
    saved(custom_networks.Stylist(), tmp_path)
    done = call_wkdc("prune", "teacher.pth", "--ratio", 3, "--arch", arch)
    assert done.code in (1, 2)
    assert len(done.errors) == 1
    assert says in done.errors[0]


def test_no_file_names_the_code_that_runs(tmp_path: Path, call_wkdc: Call) -> None:
    path = saved(custom_networks.Stylist(), tmp_path)
    wkdc.prune(
        load_generator(path, arch=STYLIST), ratio=2, output=tmp_path / "student.pth", calibrate=0
    )
    content = torch.load(tmp_path / "student.pth", weights_only=True)
    content["wkdc"]["options"]["factory"] = "no_such_module:make"
    torch.save(content, tmp_path / "student.pth")
    done = call_wkdc("export", "student.pth")
    assert done.code == 1
    assert "give --arch no_such_module:make" in done.errors[0]
    assert load_generator(tmp_path / "student.pth", arch=STYLIST).architecture.family == "custom"


def test_a_network_that_decides_by_values_is_told_so(tmp_path: Path, call_wkdc: Call) -> None:
    saved(custom_networks.ByValues(), tmp_path)
    arch = ("--arch", "custom_networks:ByValues")
    done = call_wkdc("prune", "teacher.pth", "--ratio", 2, *arch, "--calibrate", 0)
    assert (done.code, len(done.errors)) == (1, 1)
    assert "cannot be counted without running it" in done.errors[0]
    assert "may not decide by values" in done.errors[0]
