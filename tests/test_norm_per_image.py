"""BatchNorm that takes the statistics of each image, as the stock test script leaves U-Nets."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Called
from originals import StateDict, resnet_state_dict, unet_state_dict
from PIL import Image
from torch import Tensor, nn

import wkdc
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.checkpoints.weight_files import load_plain
from wkdc.errors import CheckpointError, OptionError
from wkdc.inference.batch_statistics import VISIBLE_DB, doubt_statistics, statistics_psnr_db
from wkdc.inference.tiles import Tiling
from wkdc.networks.layers import norm_layer

Call = Callable[..., Called]

NETWORKS: dict[str, StateDict] = {
    "unet": unet_state_dict(1, downs=5, ngf=6),
    "resnet": resnet_state_dict(1, blocks=2, ngf=6, norm="batch"),
}
networks = pytest.mark.parametrize("name", list(NETWORKS))


def saved(name: str, folder: Path) -> Path:
    torch.save(NETWORKS[name], folder / "teacher.pth")
    return folder / "teacher.pth"


def in_training_mode(path: Path, image: Tensor) -> Tensor:
    """What PyTorch's own BatchNorm makes of one image in training mode; there is no dropout."""
    network = load_generator(path, norm="batch").network
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    with torch.no_grad():
        out: Tensor = network.train()(image)
    return out


@networks
def test_it_is_batch_norm_in_training_mode(name: str, tmp_path: Path) -> None:
    path = saved(name, tmp_path)
    network = load_generator(path, norm="batch-per-image").network
    images = torch.rand(3, 3, 64, 96) * 2 - 1
    expected = torch.cat([in_training_mode(path, image[None]) for image in images])
    # The same sums in float32; and a batch of three is three images.
    torch.testing.assert_close(network(images), expected, atol=1e-5, rtol=0)
    assert not torch.allclose(load_generator(path).network(images), expected, atol=0.05)


@pytest.mark.parametrize("name", ["unet", pytest.param("resnet", marks=pytest.mark.slow)])
def test_it_holds_through_all_commands(name: str, tmp_path: Path, photos: Path) -> None:
    path = saved(name, tmp_path)
    teacher = load_generator(path, norm="batch-per-image")
    student = tmp_path / "student.pth"
    wkdc.prune(teacher, ratio=2, calibrate=8, output=student)
    assert load_generator(student).architecture.options["norm"] == "batch-per-image"
    wkdc.distill(photos, student=student, steps=10, runs=tmp_path / "runs")
    score = wkdc.evaluate([student], photos, size=64).scores[-1]
    assert score.to_teacher is not None
    other = load_generator(path).network  # had the teacher been read the other way
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    assert not torch.allclose(other(image), teacher.network(image), atol=0.05)
    # As for InstanceNorm: float32 in another order.
    assert wkdc.export(student, output=tmp_path / "student.onnx").max_abs_error < 1e-4
    photo = np.tile(np.linspace(0, 255, 320, dtype=np.uint8)[None, :, None], (256, 1, 3))
    Image.fromarray(photo).save(tmp_path / "ramp.png")
    made = {}
    for statistics, tiling in (
        ("whole", Tiling(tile=512)),
        ("picture", Tiling(tile=128, overlap=32, statistics="picture")),
        ("tile", Tiling(tile=128, overlap=32, statistics="tile")),
    ):
        output = tmp_path / f"{statistics}.png"
        wkdc.translate(student, [tmp_path / "ramp.png"], output, tiling=tiling)
        made[statistics] = np.asarray(Image.open(output)).astype(float)
    errors = {kind: np.abs(one - made["whole"]).mean() for kind, one in made.items()}
    assert errors["picture"] < errors["tile"]


@networks
def test_a_student_loads_into_the_original_code(name: str, tmp_path: Path) -> None:
    """Strictly, and means the same in training mode, as the test script leaves it."""
    teacher = load_generator(saved(name, tmp_path), norm="batch-per-image")
    wkdc.prune(teacher, ratio=2, calibrate=4, output=tmp_path / "student.pth")
    student = load_generator(tmp_path / "student.pth")
    options = student.architecture.options | {"norm": "batch"}
    original = replace(student.architecture, options=options).build()  # PyTorch's own BatchNorm
    original.load_state_dict(load_plain(tmp_path / "student.pth")["state_dict"])
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        expected = original.train()(image)
    torch.testing.assert_close(student.network(image), expected, atol=1e-5, rtol=0)
    with pytest.raises(CheckpointError, match="leave out --norm batch"):  # of fresh statistics
        load_generator(tmp_path / "student.pth", norm="batch")


def test_a_norm_that_the_file_has_not_is_refused_as_such(tmp_path: Path) -> None:
    torch.save(resnet_state_dict(1, blocks=2, ngf=4), tmp_path / "teacher.pth")
    with pytest.raises(CheckpointError, match="no layers of norm batch, but those of instance;"):
        load_generator(tmp_path / "teacher.pth", norm="batch")


def test_a_file_that_may_be_meant_the_other_way_is_said(tmp_path: Path, call_wkdc: Call) -> None:
    saved("unet", tmp_path)  # whose running statistics are random, and fit no image
    done = call_wkdc("prune", "teacher.pth", "--ratio", 2, "--calibrate", 4)
    (line,) = [one for one in done.stderr.splitlines() if "--norm batch-per-image" in one]
    assert "running statistics" in line
    command = ("prune", "teacher.pth", "--ratio", 2, "--calibrate", 4)
    done = call_wkdc(*command, "--norm", "batch-per-image")
    assert done.code == 0, done.stderr
    assert "running statistics" not in done.stderr


def test_statistics_of_the_image_itself_are_not_doubted(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = saved("resnet", tmp_path)
    generator = load_generator(path)
    images = [torch.rand(1, 3, 64, 64) * 2 - 1]
    network = generator.network.train()
    with torch.no_grad():
        for _ in range(60):  # a momentum of 0.1 forgets what was there
            network(torch.cat(images))
    network.eval()
    found = statistics_psnr_db(generator, images)
    assert found is not None
    assert found > VISIBLE_DB
    assert statistics_psnr_db(load_generator(path, norm="instance"), images) is None


def test_unknown_norms_name_it() -> None:
    with pytest.raises(OptionError, match="batch-per-image"):
        norm_layer("layer", 3, affine=True)  # type: ignore[arg-type]


def test_distill_says_it_once_and_its_student_remembers_the_answer(
    tmp_path: Path, photos: Path, call_wkdc: Call
) -> None:
    saved("unet", tmp_path)
    call_wkdc("prune", "teacher.pth", "--ratio", 2, "--calibrate", 0)
    command = ("distill", "--data", photos, "--steps", 1, "--crop", 32)
    done = call_wkdc(*command)
    assert done.code == 0, done.stderr
    (line,) = [one for one in done.stderr.splitlines() if "--norm batch-per-image" in one]
    assert "running statistics" in line
    done = call_wkdc(*command, "--norm", "batch-per-image")
    assert done.code == 0, done.stderr
    assert "running statistics" not in done.stderr
    card = load_plain(tmp_path / "student.pth")["wkdc"]
    assert card["options"]["norm"] == "batch-per-image"
    assert card["teacher"]["reading"] == {"norm": "batch-per-image"}
    assert "running statistics" not in call_wkdc(*command).stderr


def test_running_statistics_that_were_asked_for_are_not_doubted(tmp_path: Path) -> None:
    images = [torch.rand(1, 3, 64, 64) * 2 - 1]
    path = saved("unet", tmp_path)
    assert doubt_statistics(load_generator(path), images) is not None
    assert doubt_statistics(load_generator(path, norm="batch"), images) is None
