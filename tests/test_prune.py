"""Pruning: the ratio that was asked for, the channels that matter, networks that load again."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from originals import patchgan_state_dict, resnet_state_dict, unet_state_dict
from PIL import Image
from torch import nn

from wkdc.checkpoints.checkpoint import (
    Generator,
    load_discriminator,
    load_generator,
    save_generator,
)
from wkdc.data.calibration import read_calibration
from wkdc.data.images import load_square
from wkdc.distill import FAITHFUL, distill
from wkdc.errors import CheckpointError, DatasetError, ImageError, OptionError, TargetError
from wkdc.metrics.fidelity import mean_fidelity
from wkdc.networks.complexity import count_params
from wkdc.networks.resnet import ResnetGenerator
from wkdc.networks.unet import UnetGenerator
from wkdc.prune import prune
from wkdc.pruning.channels import ChannelGroup, channel_groups
from wkdc.pruning.importance import rank
from wkdc.pruning.width_search import TOLERANCE

SHORT = dataclasses.replace(FAITHFUL, crop=32, load_size=64)
HALF = {"encoder": (32, 64), "stream": 128, "decoder": (64, 32)}
RESNETS = {
    "nine blocks": HALF | {"inner": (128,) * 9},
    "batch norm": HALF | {"inner": (128,) * 6, "norm": "batch", "affine": True, "bias": False},
    "irregular": {"encoder": (50, 90), "stream": 200, "inner": (150, 90, 210), "decoder": (80, 40)},
}


def saved(network: nn.Module, path: Path) -> Path:
    """A checkpoint as other tools write it: weights alone."""
    torch.save(network.state_dict(), path)
    return path


def groups_of(generator: Generator) -> list[ChannelGroup]:
    _, groups = channel_groups(
        generator.network.requires_grad_(True),
        in_channels=generator.in_channels,
        smallest=generator.architecture.smallest,
    )
    return groups


@pytest.mark.parametrize("ratio", [1.1, 2, 7, 40])
@pytest.mark.parametrize("name", RESNETS)
def test_the_ratio_is_met(name: str, ratio: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher = saved(ResnetGenerator(**RESNETS[name]), tmp_path / "teacher.pth")
    result = prune(teacher, ratio=ratio, output=tmp_path / "student.pth", calibrate=0)
    student = load_generator(result.output)
    teachers = count_params(load_generator(teacher).network)
    assert teachers / count_params(student.network) == pytest.approx(ratio, rel=TOLERANCE)
    assert result.params_ratio == teachers / count_params(student.network)
    assert student.architecture == result.architecture
    with torch.no_grad():
        generated = student.network(torch.zeros(1, 3, 64, 96))
    assert generated.shape == (1, 3, 64, 96)
    assert bool(generated.isfinite().all())


@pytest.mark.parametrize("ratio", [2, 7, 40])
@pytest.mark.parametrize("levels", [7, 8])
def test_a_unet_keeps_both_readers_of_a_skip(levels: int, ratio: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    down = [16, 32, 64, *[128] * (levels - 3)]
    network = UnetGenerator(down=down, up=down[:-1])
    teacher = saved(network, tmp_path / "teacher.pth")
    result = prune(teacher, ratio=ratio, output=tmp_path / "student.pth", calibrate=0)
    assert result.params_ratio == pytest.approx(ratio, rel=TOLERANCE)
    size = 2**levels
    with torch.no_grad():
        generated = load_generator(result.output).network(torch.zeros(1, 3, size, size))
    assert generated.shape == (1, 3, size, size)


FAMILIES = {
    "resnet": lambda: ResnetGenerator(**RESNETS["irregular"]),
    "resnet, batch norm": lambda: ResnetGenerator(**RESNETS["batch norm"]),
    "unet": lambda: UnetGenerator(down=[16, 32, 64, 128, 128], up=[16, 32, 64, 128]),
}


@pytest.mark.parametrize("ratio", [1.5, 7, 30])
@pytest.mark.parametrize("family", FAMILIES)
def test_macs_are_met_too(family: str, ratio: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher = saved(FAMILIES[family](), tmp_path / "teacher.pth")
    output = tmp_path / "student.pth"
    result = prune(teacher, ratio=ratio, by="macs", output=output, calibrate=0)
    assert result.macs_ratio == pytest.approx(ratio, rel=TOLERANCE)
    wanted = round(result.teacher.macs / ratio)
    again = prune(teacher, macs=wanted, output=output, calibrate=0)
    assert again.student.macs == pytest.approx(wanted, rel=TOLERANCE)
    wanted = round(result.teacher.params / ratio)
    again = prune(teacher, params=wanted, output=output, calibrate=0)
    assert again.student.params == pytest.approx(wanted, rel=TOLERANCE)


def test_targets_that_are_none_or_two(tmp_path: Path) -> None:
    torch.save(resnet_state_dict(0, blocks=1, ngf=4), tmp_path / "teacher.pth")

    def attempt(**target: Any) -> None:
        prune(tmp_path / "teacher.pth", output=tmp_path / "s.pth", calibrate=0, **target)

    with pytest.raises(OptionError, match="nothing says how small"):
        attempt()
    with pytest.raises(OptionError, match="ratio and macs were given"):
        attempt(ratio=2, macs=1000)
    with pytest.raises(OptionError, match="params is 0"):
        attempt(params=0)
    with pytest.raises(OptionError, match=r"params is 9,000,000; .* teacher's"):
        attempt(params=9_000_000)
    with pytest.raises(OptionError, match="by 'bytes' is not known"):
        attempt(ratio=2, by="bytes")
    with pytest.raises(OptionError, match="params was given, no ratio"):
        attempt(params=1000, by="macs")
    with pytest.raises(TargetError, match="would remove nothing"):
        attempt(ratio=1.001)
    with pytest.raises(TargetError, match=r"infeasible: 10 MACs.*smallest network has [\d,]+ MACs"):
        attempt(macs=10)
    assert not (tmp_path / "s.pth").exists()


def test_a_uniform_seventh_has_the_widths_of_the_paper(tmp_path: Path) -> None:
    # ngf 24 against ngf 64 is the paper's 7.08x; 24, 48, 96 are its widths.
    teacher = saved(ResnetGenerator(), tmp_path / "teacher.pth")
    result = prune(teacher, ratio=7, output=tmp_path / "student.pth", calibrate=0)
    options = result.architecture.options
    assert (options["encoder"], options["stream"]) == ([24, 48], 96)
    assert options["inner"] == [96] * 9
    assert options["decoder"] == [48, 24]
    # The paper prints 7.08 and 6.80, of counts rounded to two decimals.
    assert result.params_ratio == pytest.approx(7.08, abs=0.01)
    assert result.macs_ratio == pytest.approx(6.80, abs=0.04)


def test_the_picture_keeps_its_channels(tmp_path: Path) -> None:
    teacher = saved(
        ResnetGenerator(1, 3, encoder=(8, 16), stream=32, inner=(32, 32), decoder=(16, 8)),
        tmp_path / "teacher.pth",
    )
    student = load_generator(prune(teacher, ratio=6, output=tmp_path / "s.pth", calibrate=2).output)
    assert (student.in_channels, student.out_channels) == (1, 3)


def test_dead_channels_go_first_and_their_loss_changes_nothing(tmp_path: Path) -> None:
    """Channels whose weights are all zero are removed, and the image stays the same."""
    torch.manual_seed(0)
    network = ResnetGenerator(
        encoder=(8, 16), stream=32, inner=(32,) * 3, decoder=(16, 8), norm="none"
    )
    path = saved(network, tmp_path / "teacher.pth")
    generator = load_generator(path, norm="none")
    groups = groups_of(generator)
    alive = {}
    with torch.no_grad():
        for group in groups:
            dead = list(range(0, group.channels, 2))
            alive[group.root] = set(range(group.channels)) - set(dead)
            for dependency, channels in group.members:
                layer = dependency.layer
                if not isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                    continue
                reads = "in_channels" in dependency.pruning_fn.__name__
                axis = int(reads) ^ int(isinstance(layer, nn.ConvTranspose2d))
                gone = [channels[i] for i in dead]
                layer.weight.index_fill_(axis, torch.tensor(gone), 0.0)
                if not reads:
                    layer.bias[gone] = 0.0
    assert all(
        set(
            rank(group, "magnitude", network=generator.network, moments={}).order[
                : group.channels // 2
            ]
        )
        == alive[group.root]
        for group in groups
    )
    halved = saved(generator.network, tmp_path / "halved.pth")
    total = count_params(generator.network)
    exact = ResnetGenerator(encoder=(4, 8), stream=16, inner=(16,) * 3, decoder=(8, 4), norm="none")
    result = prune(
        load_generator(halved, norm="none"),
        ratio=total / count_params(exact),
        output=tmp_path / "student.pth",
        calibrate=0,
    )
    images = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        expected = generator.network(images)
        generated = load_generator(result.output).network(images)
    # The same float32 sums without their zero terms, over a dozen layers.
    assert torch.allclose(generated, expected, atol=1e-5)


def test_kept_channels_keep_their_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = ResnetGenerator(encoder=(8, 16), stream=32, inner=(32,), decoder=(16, 8))
    teacher = saved(network, tmp_path / "teacher.pth")
    student = load_generator(prune(teacher, ratio=3, output=tmp_path / "s.pth", calibrate=0).output)
    rows = {tuple(row.flatten().tolist()) for row in network.model[1].weight}
    kept = [tuple(row.flatten().tolist()) for row in student.network.model[1].weight]
    assert set(kept) < rows
    norms = sorted((sum(v * v for v in row) for row in rows), reverse=True)
    assert len(kept) == len(set(kept)) < len(norms)


def test_random_is_seeded(tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.pth"
    torch.save(resnet_state_dict(0, blocks=3, ngf=8), teacher)

    def weights(seed: int) -> torch.Tensor:
        output = prune(
            teacher,
            ratio=3,
            importance="random",
            seed=seed,
            output=tmp_path / "s.pth",
            calibrate=0,
        ).output
        return load_generator(output).network.state_dict()["model.1.weight"]

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_the_card_says_how_it_was_made(tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.pth"
    torch.save(resnet_state_dict(0, blocks=3, ngf=8), teacher)
    output = prune(teacher, ratio=3, seed=5, output=tmp_path / "s.pth", calibrate=2).output
    card = torch.load(output, weights_only=True)["wkdc"]
    assert card["teacher"]["path"] == "teacher.pth"
    assert card["teacher"]["sha256"] == load_generator(teacher).sha256
    (entry,) = card["history"]
    assert entry["command"] == "prune"
    assert entry["options"] == {
        "ratio": 3,
        "by": None,
        "params": None,
        "macs": None,
        "latency_ms": None,
        "size": [256, 256],
        "device": "cpu",
        "widths": None,
        "prefer": None,
        "round_to": None,
        "drop_blocks": None,
        "importance": "readers",
        "jitter": 0.33,
        "antialias": "keep",
        "seed": 5,
        "calibrated_on": 2,
        "data": None,
    }


@pytest.mark.parametrize("ratio", [0.5, 1.0, -1.0, 0.0, math.nan, math.inf])
def test_a_ratio_that_makes_no_sense(ratio: float, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.pth"
    torch.save(resnet_state_dict(0, blocks=3, ngf=4), teacher)
    with pytest.raises(OptionError, match="number above 1"):
        prune(teacher, ratio=ratio, output=tmp_path / "s.pth")


def test_a_ratio_out_of_reach_names_the_largest(tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.pth"
    torch.save(resnet_state_dict(0, blocks=3, ngf=8), teacher)
    with pytest.raises(TargetError, match=r"smallest network has [\d,]+ parameters, ratio") as info:
        prune(teacher, ratio=1e9, output=tmp_path / "s.pth")
    largest = float(str(info.value).split()[-1])
    assert not (tmp_path / "s.pth").exists()
    result = prune(teacher, ratio=largest * 0.995, output=tmp_path / "s.pth", calibrate=1)
    assert result.architecture.options["inner"] == [1]  # of three blocks one is left


def test_a_teacher_is_never_overwritten(tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.pth"
    torch.save(unet_state_dict(0, downs=7, ngf=4), teacher)
    with pytest.raises(OptionError, match="overwrite its teacher"):
        prune(teacher, ratio=2, output=teacher)


def test_a_student_can_be_a_teacher(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = ResnetGenerator(encoder=(8, 16), stream=32, inner=(32,), decoder=(16, 8))
    save_generator(
        tmp_path / "a.pth",
        network,
        {
            "format": 1,
            "version": "0",
            "family": "resnet",
            "options": load_generator(saved(network, tmp_path / "t.pth")).architecture.options,
            "teacher": {"path": "t.pth", "sha256": "0"},
            "history": [],
        },
    )
    result = prune(tmp_path / "a.pth", ratio=2, output=tmp_path / "b.pth", calibrate=1)
    assert load_generator(result.output).card["teacher"]["path"] == "a.pth"


CALIBRATED = {
    "resnet": lambda: resnet_state_dict(0, blocks=3, ngf=8),
    "resnet, batch norm": lambda: resnet_state_dict(0, blocks=3, ngf=8, norm="batch"),
    "unet": lambda: unet_state_dict(0, downs=6, ngf=8),
}


@pytest.mark.parametrize("name", CALIBRATED)
def test_a_reconstructed_student_is_nearer_to_its_teacher(
    name: str, photos: Path, tmp_path: Path
) -> None:
    """On photos that it was not calibrated on."""
    torch.save(CALIBRATED[name](), tmp_path / "teacher.pth")
    paths = sorted(photos.iterdir())
    for path in paths[4:]:
        path.rename(tmp_path / path.name)
    unseen = [load_square(tmp_path / path.name, 64) for path in paths[4:]]
    teacher = load_generator(tmp_path / "teacher.pth")

    def fidelity(calibrate: int) -> float:
        output = tmp_path / "s.pth"
        data = photos if calibrate else None
        result = prune(teacher, ratio=4, output=output, data=data, calibrate=calibrate)
        assert result.params_ratio == pytest.approx(4, rel=TOLERANCE)
        assert result.calibrated_on == calibrate  # of four photos one is held out
        assert all(layer.after <= layer.before for layer in result.layers)
        student = load_generator(output).network
        with torch.inference_mode():
            pairs = [(student(image), teacher.network(image)) for image in unseen]
        return mean_fidelity(pairs).psnr_db

    # A network of random weights has no channel to spare, so the gain is small, but never none.
    assert fidelity(3) > fidelity(0)


def test_held_out_pictures_do_not_calibrate(photos: Path, tmp_path: Path) -> None:
    torch.save(resnet_state_dict(0, blocks=1, ngf=4), tmp_path / "teacher.pth")
    count = len(list(photos.iterdir()))
    result = prune(tmp_path / "teacher.pth", ratio=2, output=tmp_path / "s.pth", data=photos)
    assert (result.calibrated_on, result.source) == (count - 1, photos)


def test_without_pictures_magnitude_decides(tmp_path: Path) -> None:
    torch.save(resnet_state_dict(0, blocks=1, ngf=4, in_channels=6), tmp_path / "teacher.pth")
    result = prune(tmp_path / "teacher.pth", ratio=2, output=tmp_path / "s.pth")
    assert (result.importance, result.calibrated_on, result.layers) == ("magnitude", 0, ())


def test_calibration_that_cannot_be(photos: Path, tmp_path: Path) -> None:
    torch.save(resnet_state_dict(0, blocks=1, ngf=4), tmp_path / "teacher.pth")

    def attempt(**options: Any) -> None:
        prune(tmp_path / "teacher.pth", ratio=2, output=tmp_path / "s.pth", **options)

    with pytest.raises(OptionError, match="calibrate is -1"):
        attempt(calibrate=-1)
    with pytest.raises(OptionError, match="would not be used"):
        attempt(calibrate=0, data=photos)
    with pytest.raises(OptionError, match="readers needs images"):
        attempt(calibrate=0, importance="readers")
    with pytest.raises(DatasetError, match="no folder"):
        attempt(data=tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="holds no images"):
        attempt(data=tmp_path / "empty")
    assert not (tmp_path / "s.pth").exists()


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_sub_pixel_upsampling(norm: Any, photos: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = ResnetGenerator(
        encoder=(16, 32),
        stream=64,
        inner=(64,),
        decoder=(32, 16),
        upsampling="subpixel",
        norm=norm,
        affine=True,
        bias=norm == "instance",
    ).eval()
    path = saved(network, tmp_path / "teacher.pth")
    teacher = load_generator(path, upsampling="subpixel")
    output = tmp_path / "s.pth"

    def fidelity(calibrate: int) -> float:
        data = photos if calibrate else None
        result = prune(teacher, ratio=3, output=output, data=data, calibrate=calibrate)
        assert result.params_ratio == pytest.approx(3, rel=TOLERANCE)
        assert all(layer.after <= layer.before for layer in result.layers)
        student = load_generator(output)
        assert student.architecture.options["upsampling"] == "subpixel"
        images = [load_square(photo, 64) for photo in sorted(photos.iterdir())[:2]]
        with torch.inference_mode():
            pairs = [(student.network(image), teacher.network(image)) for image in images]
        return mean_fidelity(pairs).psnr_db

    assert fidelity(4) > fidelity(0)


def test_dead_channels_behind_a_pixel_shuffle_go_without_a_trace(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = ResnetGenerator(
        encoder=(8, 8), stream=8, inner=(8,), decoder=(8, 8), upsampling="subpixel", norm="none"
    )
    dead = [0, 3, 5]
    with torch.no_grad():
        convs = [layer for layer in network.model if isinstance(layer, nn.Conv2d)]
        make, read = convs[3:5]  # behind the stem and two strided ones; a shuffle is between
        for channel in dead:
            make.weight[4 * channel : 4 * channel + 4] = 0
            make.bias[4 * channel : 4 * channel + 4] = 0
            read.weight[:, channel] = 0
    teacher = load_generator(
        saved(network, tmp_path / "teacher.pth"), norm="none", upsampling="subpixel"
    )
    widths = [8, 8, 8, 8, 5, 8]
    result = prune(teacher, widths=widths, output=tmp_path / "s.pth", calibrate=0)
    student = load_generator(result.output)
    assert student.architecture.options["decoder"] == [5, 8]
    images = torch.rand(1, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        # The same float32 sums without their zero terms.
        assert torch.allclose(student.network(images), teacher.network(images), atol=1e-5)


def test_pictures_are_spread_evenly_over_their_names(tmp_path: Path) -> None:
    torch.save(resnet_state_dict(0, blocks=1, ngf=4), tmp_path / "teacher.pth")
    teacher = load_generator(tmp_path / "teacher.pth")
    (tmp_path / "trainA").mkdir()
    for value in range(10):
        Image.new("L", (64, 64), 20 * value).save(tmp_path / "trainA" / f"{value}.png")
    (tmp_path / "testA").mkdir()
    Image.new("L", (64, 64)).save(tmp_path / "testA" / "0.png")
    images = read_calibration(teacher, tmp_path, 6).images
    shades = [round((float(image.mean()) + 1) * 127.5) // 20 for image in images]
    assert shades == [0, 1, 3, 5, 6, 8]
    assert len(read_calibration(teacher, tmp_path, 100).images) == 10


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("shade", ["black", "grey"])
def test_pictures_without_contrast_do_no_harm(shade: str, affine: bool, tmp_path: Path) -> None:
    """They say nothing, so the student stays what slicing made it: alive."""
    torch.manual_seed(0)
    network = ResnetGenerator(
        encoder=(8, 16), stream=32, inner=(32,) * 2, decoder=(16, 8), affine=affine
    )
    teacher = saved(network, tmp_path / "teacher.pth")
    (tmp_path / "flat").mkdir()
    for number in range(3):
        Image.new("RGB", (64, 64), shade).save(tmp_path / "flat" / f"{number}.png")
    result = prune(teacher, ratio=3, output=tmp_path / "s.pth", data=tmp_path / "flat")
    student = load_generator(result.output).network
    with torch.no_grad():
        first, second = student(torch.rand(1, 3, 32, 32)), student(-torch.rand(1, 3, 32, 32))
    assert bool(first.isfinite().all())
    assert float((first - second).abs().mean()) > 0.01


@pytest.mark.parametrize("family", ["unet", "resnet"])
def test_deep_networks_are_measured_at_sizes_that_they_draw(family: str, tmp_path: Path) -> None:
    if family == "unet":  # 512 pixels at least
        network: nn.Module = UnetGenerator(down=[4, 4, 4, 4, 4, 4, 4, 4, 4], up=[4] * 8)
    else:  # one value a channel at 32 pixels
        network = ResnetGenerator(encoder=(4,) * 5, stream=8, inner=(8,), decoder=(4,) * 5)
    teacher = saved(network, tmp_path / "teacher.pth")
    result = prune(teacher, ratio=2, by="macs", output=tmp_path / "s.pth", calibrate=0)
    assert result.macs_ratio == pytest.approx(2, rel=TOLERANCE)
    assert result.size == ((512, 512) if family == "unet" else (256, 256))


def test_a_trained_student_is_kept_aside(photos: Path, tmp_path: Path) -> None:
    torch.save(resnet_state_dict(0, blocks=1, ngf=4), tmp_path / "teacher.pth")
    output, said = tmp_path / "student.pth", list[str]()

    def again() -> None:
        prune(tmp_path / "teacher.pth", ratio=2, output=output, calibrate=0, on_notice=said.append)

    again()
    again()  # what pruning made, pruning makes again
    assert not said
    distill(photos, student=output, steps=1, recipe=SHORT, runs=tmp_path / "runs")
    trained = output.read_bytes()
    again()
    assert said == [f"what {output} held is kept as {tmp_path / 'student.old.pth'}"]
    assert (tmp_path / "student.old.pth").read_bytes() == trained
    assert output.read_bytes() != trained
    newer = torch.load(output, weights_only=True)
    newer["wkdc"]["format"] = 99
    torch.save(newer, output)
    unread = output.read_bytes()
    again()
    assert said[1:] == [f"what {output} held is kept as {tmp_path / 'student.old2.pth'}"]
    assert (tmp_path / "student.old.pth").read_bytes() == trained
    assert (tmp_path / "student.old2.pth").read_bytes() == unread


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_a_discriminator_is_pruned_and_trained_on(norm: str, photos: Path, tmp_path: Path) -> None:
    torch.save(patchgan_state_dict(0, ndf=64, norm=norm), tmp_path / "net_D.pth")
    output = tmp_path / "judge.pth"
    result = prune(tmp_path / "net_D.pth", ratio=4, output=output, data=photos, calibrate=3)
    assert result.params_ratio == pytest.approx(4, rel=TOLERANCE)
    assert result.expected_psnr_db is None
    assert result.psnr_db is None
    assert all(layer.after <= layer.before for layer in result.layers)
    judge = load_discriminator(output)
    assert judge.architecture.options["widths"] == [32, 64, 128, 256]  # the paper's
    with torch.no_grad():
        assert judge.network(torch.rand(1, 3, 64, 64)).shape == (1, 1, 6, 6)

    torch.save(resnet_state_dict(0, blocks=1, ngf=4), tmp_path / "teacher.pth")
    student = prune(
        tmp_path / "teacher.pth", ratio=2, output=tmp_path / "student.pth", calibrate=0
    ).output
    recipe = dataclasses.replace(SHORT, adversarial=1.0)
    options: dict[str, Any] = {"student": student, "steps": 2, "runs": tmp_path / "runs"}
    done = distill(photos, recipe=recipe, discriminator=output, **options)
    assert done.losses["discriminator"] > 0
    with pytest.raises(OptionError, match="would not be used"):
        distill(photos, recipe=SHORT, discriminator=output, **options)
    with pytest.raises(CheckpointError, match="holds a generator"):
        distill(photos, recipe=recipe, discriminator=student, **options)


def test_a_conditional_discriminator_sees_both_halves(tmp_path: Path) -> None:
    torch.save(patchgan_state_dict(0, ndf=8, in_channels=6), tmp_path / "net_D.pth")
    (tmp_path / "pairs" / "train").mkdir(parents=True)
    for number in range(4):
        left, right = (torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8) for _ in range(2))
        pair = torch.cat([left, right], 2).permute(1, 2, 0).numpy()
        Image.fromarray(pair).save(tmp_path / "pairs" / "train" / f"{number}.png")
    judge = load_discriminator(tmp_path / "net_D.pth")
    (image, *_) = read_calibration(judge, tmp_path / "pairs", 3).images
    assert image.shape == (1, 6, 192, 192)
    assert not torch.equal(image[:, :3], image[:, 3:])
    with pytest.raises(CheckpointError, match="is shown 6 channels at once"):
        read_calibration(judge, tmp_path / "pairs" / "train", 3)
    bare = prune(tmp_path / "net_D.pth", ratio=3, output=tmp_path / "d.pth")
    assert (bare.calibrated_on, bare.importance) == (0, "magnitude")
