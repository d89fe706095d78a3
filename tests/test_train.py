"""Generators trained from scratch: the stock networks, what they learn, and what goes on."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Called, Died
from originals import resnet_state_dict, unet_state_dict

import wkdc
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.checkpoints.run_record import read_record
from wkdc.data.image_writing import save_pixels
from wkdc.data.images import load_pixels
from wkdc.distill import StepReport
from wkdc.errors import CheckpointError, DatasetError, OptionError, OutputError
from wkdc.train import recipe_for, stock_architecture, train
from wkdc.training.recipe import CYCLEGAN, PAPER, PIX2PIX, Recipe

pytestmark = pytest.mark.usefixtures("small_validation")


@pytest.fixture
def unpaired(photos: Path) -> Path:
    for n, path in enumerate(sorted(photos.iterdir())):
        part = photos.parent / "unpaired" / ("trainA", "trainB")[n % 2]
        part.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, part / path.name)
    return photos.parent / "unpaired"


@pytest.fixture
def paired(photos: Path) -> Path:
    """Each photo beside its negative."""
    folder = photos.parent / "paired"
    (folder / "train").mkdir(parents=True)
    for path in sorted(photos.iterdir()):
        photo = load_pixels(path)
        save_pixels(folder / "train" / path.name, torch.cat([photo, 255 - photo], -1))
    return folder


def small(recipe: Recipe, **changes: object) -> Recipe:
    return dataclasses.replace(recipe, **({"crop": 32, "load_size": 40, "ndf": 4} | changes))


def weights_of(path: Path) -> list[torch.Tensor]:
    return list(load_generator(path).network.state_dict().values())


def test_the_stock_networks_have_the_stock_names_and_shapes() -> None:
    """What comes out loads wherever a checkpoint of pytorch-CycleGAN-and-pix2pix does."""
    resnet = stock_architecture("resnet", ngf=8, blocks=6, norm="instance", side=256)
    unet = stock_architecture("unet", ngf=8, blocks=9, norm="batch", side=256)
    small_unet = stock_architecture("unet", ngf=8, blocks=9, norm="batch", side=128)
    for architecture, original in (
        (resnet, resnet_state_dict(0, blocks=6, ngf=8)),
        (unet, unet_state_dict(0, downs=8, ngf=8)),
        (small_unet, unet_state_dict(0, downs=7, ngf=8)),
    ):
        ours = {name: tuple(t.shape) for name, t in architecture.build().state_dict().items()}
        assert ours == {name: tuple(t.shape) for name, t in original.items()}
    with pytest.raises(OptionError, match="choose resnet, unet or pix2pixhd"):
        stock_architecture("vit", ngf=8, blocks=6, norm="batch", side=256)  # type: ignore[arg-type]


def test_unpaired_images_train_both_directions(unpaired: Path, tmp_path: Path) -> None:
    assert recipe_for(unpaired) == CYCLEGAN
    result = train(
        unpaired,
        output=tmp_path / "t.pth",
        ngf=4,
        blocks=1,
        recipe=small(CYCLEGAN),
        steps=3,
        runs=tmp_path / "runs",
    )
    forth = {"adversarial", "discriminator", "cycle", "identity", "total"}
    assert set(result.losses) == forth | {f"reverse_{name}" for name in forth}
    assert result.reverse == tmp_path / "t-reverse.pth"
    assert result.run == tmp_path / "runs" / "train-001"
    assert result.to_truth is None
    there, back = load_generator(result.output), load_generator(result.reverse)
    assert there.architecture == back.architecture
    assert there.sha256 != back.sha256
    assert there.card is not None
    assert there.card["teacher"] is None
    assert [entry["command"] for entry in there.card["history"]] == ["train"]
    # It is a teacher like any other, but no student.
    pruned = wkdc.prune(result.output, ratio=1.5, output=tmp_path / "s.pth", calibrate=0)
    assert pruned.params_ratio > 1.4
    wkdc.distill(unpaired, student=tmp_path / "s.pth", steps=1, runs=tmp_path / "runs")
    with pytest.raises(CheckpointError, match="does not say who its teacher is"):
        wkdc.distill(unpaired, student=result.output, steps=1)


def test_pairs_teach_what_they_show(
    paired: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A negative is one linear map of the colours, which convolutions learn in some hundred steps.

    They come 2 to 5 dB nearer on images set aside, by the seed; with fewer steps, or larger ones,
    some seeds hardly do.
    """
    monkeypatch.setattr("wkdc.training.direction.MEASURE_SIZE", 256)
    assert recipe_for(paired) == PIX2PIX
    figures = []
    for steps in (1, 300):
        result = train(
            paired,
            output=tmp_path / f"{steps}.pth",
            network="resnet",
            norm="none",
            ngf=8,
            blocks=1,
            recipe=small(PIX2PIX, learning_rate=2e-3),
            steps=steps,
            runs=tmp_path / "runs",
        )
        assert result.reverse is None
        assert set(result.losses) == {"truth", "adversarial", "discriminator", "total"}
        assert result.to_truth is not None
        figures.append(result.to_truth.psnr_db)
    assert figures[1] > figures[0] + 1


def test_a_killed_training_goes_on_bit_for_bit(unpaired: Path, tmp_path: Path) -> None:
    def run(output: str, on_step: Callable[[StepReport], None] | None = None) -> None:
        train(
            unpaired,
            output=tmp_path / output,
            ngf=4,
            blocks=1,
            recipe=small(CYCLEGAN),
            steps=5,
            precision="float32",
            runs=tmp_path / "runs",
            save_every=1e-9,
            on_step=on_step,
        )

    def die(report: StepReport) -> None:
        if report.step == 3:
            raise Died

    with pytest.raises(Died):
        run("killed.pth", die)
    folder = tmp_path / "runs" / "train-001"
    with pytest.raises(OptionError, match="a run of wkdc train; give it to that command"):
        wkdc.resume(folder)
    for name in ("killed.pth", "killed-reverse.pth"):
        path = tmp_path / name
        shutil.copy(folder / "checkpoints" / "start.pth", path)
        with pytest.raises(OutputError, match="is not what this run left there"):
            wkdc.resume_training(folder)
        path.unlink()
    assert read_record(folder).start is None  # random weights are no student

    def stop(report: StepReport) -> None:
        if report.step == 4:
            raise KeyboardInterrupt

    # It knows its own output again, whatever its folder is called.
    spelled = folder.parent / ".." / "runs" / folder.name
    assert wkdc.resume_training(spelled, on_step=stop).interrupted
    assert wkdc.resume_training(folder).steps == 5
    run("whole.pth")
    for ending in (".pth", "-reverse.pth"):
        whole, killed = (weights_of(tmp_path / f"{n}{ending}") for n in ("whole", "killed"))
        assert all(torch.equal(a, b) for a, b in zip(whole, killed, strict=True))


def test_what_cannot_be_trained(photos: Path, unpaired: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    with pytest.raises(DatasetError, match="there is no teacher to learn from"):
        train(photos, recipe=small(CYCLEGAN), steps=1, runs=runs)
    with pytest.raises(OptionError, match="ngf 0 asked for; 1 or more is needed"):
        train(unpaired, ngf=0, steps=1, runs=runs)
    with pytest.raises(OptionError, match="and a U-Net has none"):
        train(unpaired, network="unet", blocks=5, steps=1, runs=runs)
    with pytest.raises(OptionError, match="a run has one length"):
        train(unpaired, steps=1, minutes=1, runs=runs)
    nothing = {"adversarial": 0.0, "cycle": 0.0, "identity": 0.0, "truth": 1.0}
    with pytest.raises(OptionError, match="nothing would be learned"):
        train(unpaired, recipe=small(CYCLEGAN, **nothing), steps=1, runs=runs)
    with pytest.raises(OptionError, match="need a teacher"):
        train(unpaired, recipe=small(PAPER), steps=1, runs=runs)
    (tmp_path / "teacher-reverse.pth").write_bytes(b"someone's weeks")
    with pytest.raises(OutputError, match=r"teacher-reverse\.pth exists"):
        train(unpaired, output=tmp_path / "teacher.pth", steps=1, runs=runs)
    assert not runs.exists()


def test_the_command(
    unpaired: Path, paired: Path, tmp_path: Path, call_wkdc: Callable[..., Called]
) -> None:
    settings = ("--ngf", 4, "--crop", 32, "--load-size", 40, "--ndf", 4, "--steps", 2)
    done = call_wkdc("train", "--data", unpaired.name, "--blocks", 1, *settings, "--json")
    assert done.code == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["output"], told["reverse"]) == ("teacher.pth", "teacher-reverse.pth")
    done = call_wkdc("train", "--data", paired.name, *settings, "-o", "paired.pth")
    assert done.code == 0, done.stderr
    assert "dB to the true images" in done.stdout
    assert "wkdc prune paired.pth --ratio 7" in done.stdout
    assert load_generator(tmp_path / "paired.pth").architecture.family == "unet"
    done = call_wkdc("train", "--resume", "runs/train-001", "--steps", 3)
    assert done.code == 2
    assert "--steps cannot be given with --resume" in done.errors[0]
    done = call_wkdc("train", "--resume", "runs/train-001")
    assert done.code == 2
    assert "came to its end" in done.errors[0]
