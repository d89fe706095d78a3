"""Generators of other projects: read as they are, and smaller through all commands."""

from pathlib import Path

import numpy as np
import pytest
import torch
from original_families import (
    FAMILIES,
    anime_forward,
    cut_forward,
    cut_state_dict,
    pytorch_gan_forward,
    style_forward,
)
from PIL import Image

import wkdc
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.data.calibration import read_calibration
from wkdc.errors import CheckpointError, OptionError
from wkdc.inference.tiles import Tiling
from wkdc.metrics.fidelity import psnr_db
from wkdc.networks.architecture import residual_blocks
from wkdc.networks.complexity import kernel_positions, measure_complexity
from wkdc.pruning.cost_model import Cost
from wkdc.pruning.plain_sampling import Antialias, _copy, _layers, without_blurs
from wkdc.pruning.plan import traced
from wkdc.pruning.teacher_analysis import analyze_teacher
from wkdc.training.loop import StepReport

families = pytest.mark.parametrize("name", list(FAMILIES))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A teacher of each family, and the student of ratio 4 beside it."""
    folder = tmp_path_factory.mktemp("families")
    made = {}
    for name, family in FAMILIES.items():
        made[name] = folder / name / "teacher.pth"
        made[name].parent.mkdir()
        torch.save(family.weights(1), made[name])
        wkdc.prune(made[name], ratio=4, calibrate=4, output=made[name].with_name("student.pth"))
    return made


@families
def test_it_is_read_as_the_original_computes_it(name: str, files: dict[str, Path]) -> None:
    family = FAMILIES[name]
    teacher = load_generator(files[name])
    assert teacher.architecture.family == family.name
    for height, width in ((64, 64), (48, 96), (72, 44)):
        images = torch.rand(2, 3, height, width) * 2 - 1
        expected = family.forward(family.weights(1), images)
        assert expected.std() > 0.1  # a network that says something
        # Both are float32 sums of the same products; 1e-5 is an eight-hundredth of a grey level.
        torch.testing.assert_close(teacher.network(images), expected, atol=1e-5, rtol=0)


@families
def test_ratio_four_is_met_and_beats_slicing(name: str, files: dict[str, Path]) -> None:
    student = load_generator(files[name].with_name("student.pth"))
    teacher = load_generator(files[name])
    sizes = [measure_complexity(one.network, 3, (64, 64)).params for one in (teacher, student)]
    assert sizes[0] / sizes[1] == pytest.approx(4, rel=0.02)
    sliced = files[name].with_name("sliced.pth")
    wkdc.prune(files[name], ratio=4, calibrate=0, output=sliced)
    images = read_calibration(teacher, None, 28).images[-4:]

    def nearness(path: Path) -> float:
        other = load_generator(path).network
        return float(np.mean([psnr_db(other(image), teacher.network(image)) for image in images]))

    # Reconstruction alone is worth 2 dB and more on all of these random networks.
    assert nearness(student.path) > nearness(sliced) + 1


@families
def test_a_student_loads_into_the_original_code(name: str, files: dict[str, Path]) -> None:
    """The restated forward passes take any widths; only dropped blocks have to be told."""
    student = load_generator(files[name].with_name("student.pth"))
    weights = dict(student.network.state_dict())
    blocks = len(residual_blocks(student.network))
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    match name:
        case "pytorch-gan":
            output = pytorch_gan_forward(weights, image, blocks=blocks)  # type: ignore[arg-type]
        case "fast-neural-style":
            output = style_forward(weights, image, blocks=blocks)  # type: ignore[arg-type]
        case "animegan":
            output = anime_forward(weights, image, blocks=blocks + 1)  # type: ignore[arg-type]
        case _:
            antialias, up = name != "cut-no-antialias", name != "cut-no-antialias-up"
            output = cut_forward(
                weights,  # type: ignore[arg-type]
                image,
                blocks=blocks,
                antialias=antialias,
                antialias_up=up,
            )
    torch.testing.assert_close(output, student.network(image), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("cut", "animegan") else pytest.param(name, marks=pytest.mark.slow)
        for name in FAMILIES
    ],
)
def test_a_student_learns_and_is_exported(
    name: str, files: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    path = tmp_path / "student.pth"
    path.write_bytes(files[name].with_name("student.pth").read_bytes())
    losses: list[float] = []

    def note(report: StepReport) -> None:
        if report.phase == "train":
            losses.append(sum(report.losses.values()))

    wkdc.distill(
        photos,
        student=path,
        teacher=files[name],
        steps=20,
        runs=tmp_path / "runs",
        on_step=note,
    )
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    result = wkdc.export(path, output=tmp_path / "student.onnx")
    assert {(check.height, check.width) for check in result.checks} == {
        (256, 256),
        (192, 320),
        (250, 333),
    }
    # 1e-4 of [-1, 1] is an eightieth of a grey level: float32 in another order of summing.
    assert result.max_abs_error < 1e-4


@families
def test_a_photo_is_translated_as_by_the_original(
    name: str, files: dict[str, Path], tmp_path: Path
) -> None:
    family = FAMILIES[name]
    photo = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    wkdc.translate(files[name], [tmp_path / "photo.png"], tmp_path / "out.png")
    images = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 127.5 - 1
    expected = (family.forward(family.weights(1), images)[0] + 1) * 127.5
    found = np.asarray(Image.open(tmp_path / "out.png")).astype(np.float32)
    # One grey level: where the original lies between two, rounding may go either way.
    assert np.abs(found - expected.permute(1, 2, 0).numpy()).max() <= 1


def test_macs_against_a_hand_count(tmp_path: Path) -> None:
    """CUT at 256x256, ngf 64, 9 blocks: 11.378 M parameters and 64.05 G MACs, and the blurs."""
    torch.save(cut_state_dict(0, ngf=64, blocks=9), tmp_path / "cut.pth")
    network = load_generator(tmp_path / "cut.pth").network
    found = measure_complexity(network, 3, (256, 256))
    full, half, quarter = 256**2, 128**2, 64**2
    convolutions = (
        full * 49 * 3 * 64
        + full * 9 * 64 * 128  # stride 1: the blur behind it halves
        + half * 9 * 128 * 256
        + quarter * 18 * 9 * 256 * 256
        + half * 9 * 256 * 128
        + full * 9 * 128 * 64
        + full * 49 * 64 * 3
    )
    blurs = half * 9 * 128 + quarter * 9 * 256  # down
    blurs += (64 + 2) ** 2 * 16 * 256 + (128 + 2) ** 2 * 16 * 128  # up, at the padded input's size
    assert found.params == 11_378_179
    assert convolutions == 64_047_022_080
    assert found.macs == convolutions + blurs


@pytest.mark.parametrize("keep", ["down", "up", "none"])
def test_a_student_without_blurs(keep: Antialias, tmp_path: Path) -> None:
    """It is one that CUT reads with --no_antialias and --no_antialias_up, cheaper and as near."""
    path = tmp_path / "teacher.pth"
    torch.save(cut_state_dict(1, blocks=2), path)
    whole = wkdc.prune(path, ratio=4, calibrate=6, output=tmp_path / "whole.pth")
    found = wkdc.prune(path, ratio=4, calibrate=6, output=tmp_path / "s.pth", antialias=keep)
    assert found.params_ratio == pytest.approx(4, rel=0.02)
    assert found.macs_ratio > 1.1 * whole.macs_ratio
    student, teacher = load_generator(tmp_path / "s.pth"), load_generator(path)
    assert student.card is not None
    assert student.card["history"][0]["options"]["antialias"] == keep
    image = read_calibration(teacher, None, 8).images[-1]
    output = cut_forward(
        dict(student.network.state_dict()),
        image,
        blocks=len(residual_blocks(student.network)),
        antialias=keep == "down",
        antialias_up=keep == "up",
    )
    torch.testing.assert_close(output, student.network(image), atol=1e-5, rtol=0)
    wkdc.prune(path, ratio=4, calibrate=0, output=tmp_path / "sliced.pth")
    sliced = load_generator(tmp_path / "sliced.pth").network
    wanted = teacher.network(image)
    # Solving is worth more than the blurs, on an image that it did not see.
    assert psnr_db(student.network(image), wanted) > psnr_db(sliced(image), wanted) + 1


def test_without_blurs_and_channels_of_its_own_a_teacher_is_solved_not_copied(
    tmp_path: Path,
) -> None:
    torch.save(cut_state_dict(1, blocks=2), tmp_path / "teacher.pth")
    teacher = load_generator(tmp_path / "teacher.pth")
    images = read_calibration(teacher, None, 8).images
    found = without_blurs(teacher, images[:6], "none")
    options = found.teacher.architecture.options
    assert (options["downsampling"], options["upsampling"]) == ("strided", "transposed")
    copied = found.teacher.architecture.build().eval().requires_grad_(False)
    for old, new in zip(_layers(teacher.network).values(), _layers(copied).values(), strict=True):
        _copy(old, new)
    wanted = teacher.network(images[-1])
    solved = psnr_db(found.teacher.network(images[-1]), wanted)
    assert solved > psnr_db(copied(images[-1]), wanted) + 1
    assert found.error == pytest.approx(4 / 10 ** (solved / 10), rel=0.5)  # on other images


def test_what_dropping_blurs_needs(files: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "student.pth"
    for name, keep in (("pytorch-gan", "none"), ("cut-no-antialias-up", "down")):
        with pytest.raises(OptionError, match=f"antialias {keep}: .* no fixed blurs"):
            wkdc.prune(files[name], ratio=4, calibrate=2, antialias=keep, output=output)  # type: ignore[arg-type]
    for more in (
        {"ratio": 2.0, "by": "latency"},
        {"latency_ms": 5.0},
        {"ratio": 4, "calibrate": 0},
    ):
        with pytest.raises(OptionError, match="antialias none needs images"):
            wkdc.prune(files["cut"], antialias="none", output=output, **more)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="needs images, which make up for the blurs; give --data"):
        without_blurs(load_generator(files["cut"]), [], "none")
    with pytest.raises(OptionError, match="keep, down, up, none"):
        wkdc.prune(files["cut"], ratio=4, antialias="both", output=output)  # type: ignore[arg-type]
    assert not output.exists()


def test_depthwise_macs_against_a_hand_count(files: dict[str, Path]) -> None:
    """AnimeGANv2's inverted blocks, at a quarter of 64x64."""
    network = load_generator(files["animegan"]).network
    wide = 2 * 64  # inside of the blocks behind the first one, of width 8
    block = network.get_submodule("block_c.2")
    found = measure_complexity(block, 64, (16, 16))
    assert found.macs == 16 * 16 * (64 * wide + 9 * wide + wide * 64)


def test_widths_that_would_add_a_skip_are_kept_apart(
    files: dict[str, Path], tmp_path: Path
) -> None:
    """Original code adds a skip where a block makes as many channels as it reads."""
    student = load_generator(files["animegan"].with_name("student.pth"))
    options = student.architecture.options
    assert not options["skips"][0]
    assert options["enter"] != options["outer"][0]
    sliced = tmp_path / "sliced.pth"
    groups = wkdc.prune(files["animegan"], ratio=4, calibrate=0, output=sliced).widths
    equal = [12 if "block_c" in layer else 8 for layer in groups]
    with pytest.raises(OptionError, match="add a skip"):
        wkdc.prune(files["animegan"], widths=equal, calibrate=0, output=tmp_path / "s.pth")
    # Widths that are multiples of a step stay so.
    teacher = load_generator(files["animegan"])
    network, _, found = traced(teacher)
    cost = Cost(network, found, kernel_positions(teacher.network, 3, (64, 64)))
    analysis = analyze_teacher(
        teacher, network, found, cost, [], "magnitude", seed=0, tell=lambda *_: None
    )
    kept = analysis.plan([8] * len(found), step=4).kept
    assert {len(channels) for channels in kept} == {4, 8}


def test_group_norm_is_solved_for_what_is_left(files: dict[str, Path], tmp_path: Path) -> None:
    """GroupNorm of fewer channels has other statistics; without a solution for them it is far."""
    teacher = load_generator(files["animegan"])
    student = load_generator(files["animegan"].with_name("student.pth"))
    images = read_calibration(teacher, None, 28).images[-4:]
    db = [float(psnr_db(student.network(i), teacher.network(i))) for i in images]
    assert np.mean(db) > 22  # 27.8 as it is; about 10 with sliced weights


def test_tiles_take_group_norm_of_the_whole_image(files: dict[str, Path], tmp_path: Path) -> None:
    photo = np.tile(np.linspace(0, 255, 320, dtype=np.uint8)[None, :, None], (256, 1, 3))
    Image.fromarray(photo).save(tmp_path / "ramp.png")
    found = {}
    for statistics, tiling in (
        ("whole", Tiling(tile=512)),
        ("picture", Tiling(tile=128, overlap=32, statistics="picture")),
        ("tile", Tiling(tile=128, overlap=32, statistics="tile")),
    ):
        output = tmp_path / f"{statistics}.png"
        wkdc.translate(files["animegan"], [tmp_path / "ramp.png"], output, tiling=tiling)
        found[statistics] = np.asarray(Image.open(output)).astype(float)
    errors = {k: np.abs(v - found["whole"]).mean() for k, v in found.items()}
    assert errors["picture"] < errors["tile"]


@pytest.mark.parametrize("lost", ["conv2.conv2d.weight", "deconv3.conv2d.weight", "in3.weight"])
def test_a_style_file_without_a_layer_is_refused(lost: str, tmp_path: Path) -> None:
    weights = FAMILIES["fast-neural-style"].weights(0)
    del weights[lost]
    torch.save(weights, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="does not fit"):
        load_generator(tmp_path / "w.pth")


@pytest.mark.parametrize("lost", ["block_d.1.1.weight", "block_c.2.layers.2.weight"])
def test_an_anime_file_without_a_layer_is_refused(lost: str, tmp_path: Path) -> None:
    weights = FAMILIES["animegan"].weights(0)
    del weights[lost]
    torch.save(weights, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="does not fit"):
        load_generator(tmp_path / "w.pth")


def test_a_style_file_with_old_statistics_is_read(tmp_path: Path) -> None:
    """The published weights hold running statistics, which the original deletes before loading."""
    family = FAMILIES["fast-neural-style"]
    weights = family.weights(0)
    plain = dict(weights)
    for norm in ("in1", "res1.in1"):
        weights[f"{norm}.running_mean"] = torch.rand(len(weights[f"{norm}.weight"]))
        weights[f"{norm}.running_var"] = torch.rand(len(weights[f"{norm}.weight"]))
    torch.save(weights, tmp_path / "w.pth")
    images = torch.rand(1, 3, 32, 32)
    expected = family.forward(plain, images)  # type: ignore[arg-type]
    torch.testing.assert_close(
        load_generator(tmp_path / "w.pth").network(images), expected, atol=1e-5, rtol=0
    )
