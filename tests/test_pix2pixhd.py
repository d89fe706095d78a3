"""pix2pixHD from its checkpoint to ONNX: label maps in, photos out, in every command."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import LABELS, Called, Died
from originals import (
    global_generator_forward,
    global_generator_state_dict,
    multiscale_state_dict,
    patchgan_state_dict,
)
from PIL import Image
from torch import Tensor

import wkdc
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.data.example_input import example_input
from wkdc.data.images import load_pixels
from wkdc.distill import FAITHFUL, PAPER, Recipe, StepReport
from wkdc.errors import CheckpointError, DatasetError, OptionError
from wkdc.networks.complexity import count_params
from wkdc.pruning.width_search import TOLERANCE
from wkdc.train import recipe_for, stock_architecture
from wkdc.training.recipe import PIX2PIXHD

pytestmark = pytest.mark.usefixtures("small_validation")

Call = Callable[..., Called]

CHANNELS = LABELS + 1

# The same float32 sums, perhaps in another order: see test_checkpoint.py.
SAME_PICTURE = 1e-5


def file_of(path: Path, state_dict: dict[str, Tensor]) -> Path:
    torch.save(state_dict, path)
    return path


@pytest.fixture
def hd_teacher(tmp_path: Path) -> Path:
    """`latest_net_G.pth` of a small GlobalGenerator that reads the labels of `label_data`."""
    state_dict = global_generator_state_dict(0, ngf=4, blocks=3, in_channels=CHANNELS)
    return file_of(tmp_path / "latest_net_G.pth", state_dict)


@pytest.fixture
def hd_student(hd_teacher: Path) -> Path:
    output = hd_teacher.with_name("student.pth")
    return Path(wkdc.prune(hd_teacher, ratio=2, output=output, calibrate=0).output or "")


# Checkpoints


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("channels", [3, 35, 36])
def test_the_global_generator_generates_what_the_original_generates(
    channels: int, norm: str, tmp_path: Path
) -> None:
    state_dict = global_generator_state_dict(1, in_channels=channels, norm=norm)
    loaded = load_generator(file_of(tmp_path / "latest_net_G.pth", state_dict))
    options = loaded.architecture.options
    assert (loaded.architecture.family, len(options["encoder"]), options["norm"]) == (
        "resnet",
        4,
        norm,
    )
    assert (len(options["inner"]), options["affine"]) == (9, norm == "batch")
    images = example_input(channels, (64, 96))
    with torch.no_grad():
        generated = loaded.network(images)
    expected = global_generator_forward(state_dict, images, norm=norm)
    assert float(expected.std()) > 0.05
    assert float((expected.abs() > 0.99).float().mean()) < 0.2
    assert float((generated - expected).abs().max()) <= SAME_PICTURE


def test_the_stock_network_has_the_stock_names_and_shapes() -> None:
    for norm in ("instance", "batch"):
        ours = stock_architecture("pix2pixhd", ngf=2, blocks=9, norm=norm, side=256)  # type: ignore[arg-type]
        original = global_generator_state_dict(0, in_channels=3, norm=norm)
        found = {name: t.shape for name, t in ours.build().state_dict().items()}
        assert found == {name: t.shape for name, t in original.items()}


def test_a_local_enhancer_is_recognised_and_refused(tmp_path: Path) -> None:
    state_dict = global_generator_state_dict(0, downs=3, blocks=2)
    state_dict = {k: v for k, v in state_dict.items() if not k.startswith("model.26.")}
    for n, block in enumerate(("model1_1.1", "model1_1.4", "model1_2.0.conv_block.1")):
        state_dict[f"{block}.weight"] = torch.zeros(4, 4, 7 - 4 * (n > 0), 7 - 4 * (n > 0))
    path = file_of(tmp_path / "latest_net_G.pth", state_dict)
    with pytest.raises(CheckpointError, match=r"LocalEnhancer of pix2pixHD .*the global one alone"):
        load_generator(path)


# Pruning, and what leaves wkdc


@pytest.mark.parametrize(
    ("norm", "ratio"), [("instance", 1.5), ("instance", 7), ("instance", 25), ("batch", 7)]
)
def test_every_target_is_met(norm: str, ratio: float, tmp_path: Path) -> None:
    state_dict = global_generator_state_dict(2, ngf=8, blocks=1, in_channels=CHANNELS, norm=norm)
    teacher = file_of(tmp_path / "teacher.pth", state_dict)
    output = tmp_path / "student.pth"
    result = wkdc.prune(teacher, ratio=ratio, output=output, calibrate=0)
    student = load_generator(output)
    params = count_params(load_generator(teacher).network) / count_params(student.network)
    assert params == pytest.approx(ratio, rel=TOLERANCE)
    assert result.params_ratio == params
    assert student.in_channels == CHANNELS
    if norm == "batch":  # of the other norm a narrower one is exported in the chain below
        exported = wkdc.export(student)
        assert exported.max_abs_error <= exported.tolerance == 1e-4


def test_macs_are_met_too(tmp_path: Path) -> None:
    state_dict = global_generator_state_dict(2, ngf=8, blocks=3, in_channels=36)
    teacher = file_of(tmp_path / "teacher.pth", state_dict)
    result = wkdc.prune(teacher, ratio=7, by="macs", output=tmp_path / "s.pth", calibrate=0)
    assert result.macs_ratio == pytest.approx(7, rel=TOLERANCE)


def test_reconstructed_on_label_maps_it_starts_nearer(
    hd_teacher: Path, label_data: Path, tmp_path: Path
) -> None:
    found: list[float] = []
    for calibrate in (0, 4):
        output = tmp_path / f"{calibrate}.pth"
        data = label_data if calibrate else None
        wkdc.prune(hd_teacher, ratio=2, output=output, calibrate=calibrate, data=data)
        scores = wkdc.evaluate([output], label_data, teacher=hd_teacher, size=64).scores
        to_teacher = scores[-1].to_teacher
        assert to_teacher is not None
        found.append(to_teacher.psnr_db.mean)
    sliced, reconstructed = found
    assert reconstructed > sliced + 1  # random weights leave little that others could say


def test_examples_are_label_maps_of_photos() -> None:
    images = example_input(6, (40, 48), 2)
    assert images.shape == (1, 6, 40, 48)
    assert torch.equal(images[:, :5].sum(1), torch.ones(1, 40, 48))
    assert 0 < float(images[:, 5].mean()) < 1
    assert example_input(3, (40, 48)).shape == (1, 3, 40, 48)
    assert float(example_input(1, (40, 48)).min()) < 0


# Training


def small(recipe: Recipe, **changes: Any) -> Recipe:
    return dataclasses.replace(recipe, crop=32, load_size=48, ndf=4, **changes)


def weights_of(path: Path) -> list[Tensor]:
    return list(load_generator(path).network.state_dict().values())


HD = {"scales": 2, "feature_matching": 10.0, "truth": 0.0}


@pytest.mark.parametrize(
    "recipe",
    [
        small(PAPER, **HD),
        small(FAITHFUL),
        small(FAITHFUL, adversarial=0.1, scales=3, feature_matching=1.0),
    ],
    ids=["paper", "faithful", "both"],
)
def test_every_recipe_runs_on_label_maps(
    recipe: Recipe, hd_student: Path, label_data: Path, tmp_path: Path
) -> None:
    result = wkdc.distill(
        label_data, student=hd_student, recipe=recipe, steps=3, runs=tmp_path / "runs"
    )
    assert ("feature_matching" in result.losses) == (recipe.feature_matching > 0)
    assert result.losses["total"] > 0
    assert not result.held_out
    assert result.after.images == 2
    card = load_generator(hd_student).card
    assert card is not None
    assert card["history"][-1]["options"]["pictures"]["train"] == 4
    # Four columns would do; the first shows a label map in colours, whose edges are black.
    sheet = load_pixels(result.run / "samples" / "step-000003.png")
    assert bool((sheet[:, 22:, :200] == 0).all(0).any())


def test_a_run_goes_on_bit_for_bit(hd_student: Path, label_data: Path, tmp_path: Path) -> None:
    recipe = small(PAPER, **HD)

    def run(output: str, **options: Any) -> None:
        wkdc.distill(
            label_data,
            student=hd_student,
            output=tmp_path / output,
            recipe=recipe,
            steps=4,
            precision="float32",
            runs=tmp_path / "runs",
            **options,
        )

    def die(report: StepReport) -> None:
        if report.phase == "train" and report.step == 3:
            raise Died

    run("whole.pth")
    with pytest.raises(Died):
        run("died.pth", save_every=1e-9, on_step=die)
    wkdc.resume(tmp_path / "runs" / "distill-002")
    pairs = zip(weights_of(tmp_path / "whole.pth"), weights_of(tmp_path / "died.pth"), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not all(
        torch.equal(a, b)
        for a, b in zip(weights_of(tmp_path / "whole.pth"), weights_of(hd_student), strict=True)
    )


def test_other_instances_are_other_data(hd_student: Path, label_data: Path, tmp_path: Path) -> None:
    digests = []
    for run in ("a", "b"):
        result = wkdc.distill(
            label_data, student=hd_student, recipe=small(FAITHFUL), steps=1, runs=tmp_path / run
        )
        options = json.loads((result.run / "options.json").read_text())
        digests.append(options["digests"]["data_sha256"])
        path = next((label_data / "train_inst").iterdir())
        Image.new("I;16", (72, 64), 7).save(path)
    assert digests[0] != digests[1]


def test_the_discriminator_may_come_from_a_file(
    hd_student: Path, label_data: Path, tmp_path: Path
) -> None:
    weights = multiscale_state_dict(0, ndf=4, in_channels=CHANNELS + 3, apart=False)
    path = file_of(tmp_path / "latest_net_D.pth", weights)
    options: dict[str, Any] = {"student": hd_student, "steps": 2, "runs": tmp_path / "runs"}
    recipe = small(PAPER, feature_matching=10.0)
    result = wkdc.distill(label_data, recipe=recipe, discriminator=path, **options)
    assert result.losses["feature_matching"] > 0
    other = file_of(tmp_path / "d3.pth", multiscale_state_dict(0, ndf=4, in_channels=6))
    with pytest.raises(CheckpointError, match=f"would be shown {CHANNELS + 3}"):
        wkdc.distill(label_data, recipe=recipe, discriminator=other, **options)
    patch = file_of(tmp_path / "p.pth", patchgan_state_dict(0, ndf=4, in_channels=CHANNELS + 3))
    with pytest.raises(OptionError, match=r"p\.pth is a PatchGAN; give another, or --feature-ma"):
        wkdc.distill(label_data, recipe=recipe, discriminator=patch, **options)
    with pytest.raises(OptionError, match="needs a multi-scale discriminator: give --scales 2"):
        wkdc.distill(label_data, recipe=recipe, **options)


def test_features_need_a_picture_to_match(student: Path, photos: Path, tmp_path: Path) -> None:
    for part in ("trainA", "trainB"):
        shutil.copytree(photos, tmp_path / "unpaired" / part)
    with pytest.raises(OptionError, match="unpaired data has none"):
        wkdc.distill(
            tmp_path / "unpaired",
            student=student,
            recipe=small(PAPER, scales=2, feature_matching=1.0),
            steps=1,
        )


# The whole chain, by command


def test_from_label_maps_to_onnx(call_wkdc: Call, label_data: Path, tmp_path: Path) -> None:
    assert recipe_for(label_data) == PIX2PIXHD
    short = ("--crop", 32, "--load-size", 48, "--ndf", 4, "--device", "cpu", "--json")

    def call(*arguments: object) -> dict[str, Any]:
        done = call_wkdc(*arguments)
        assert done.code == 0, done.stderr
        return dict(json.loads(done.stdout))

    trained = call("train", "--data", label_data, "--ngf", 4, "--blocks", 2, "--steps", 3, *short)
    assert trained["losses"].keys() == {"adversarial", "feature_matching", "discriminator", "total"}
    teacher = load_generator(tmp_path / "teacher.pth")
    assert teacher.in_channels == CHANNELS
    assert len(teacher.architecture.options["encoder"]) == 4
    pruned = call("prune", "teacher.pth", "--ratio", 4, "--data", label_data, "--json")
    assert pruned["ratio"]["params"] == pytest.approx(4, rel=TOLERANCE)
    features = ("--recipe", "paper", "--scales", 2, "--feature-matching", 10, "--truth", 0)
    learned = call("distill", "--data", label_data, "--steps", 2, *features, *short)
    assert learned["steps"] == 2
    assert learned["losses"]["feature_matching"] > 0
    exported = call("export", "student.pth", "--onnx", "--json")
    assert exported["max_abs_error"] <= exported["tolerance"]
    timed = call("profile", "student.onnx", "--size", "64x64", "--rounds", 1, "--json")
    (model,) = timed["models"]
    assert model["params"] == count_params(load_generator(tmp_path / "student.pth").network)
    assert "onnx-cpu" in model["latency_ms"]
    few = ("--data", label_data, "--size", 64, "--json")
    scored = call("evaluate", "student.onnx", "student.pth", *few)
    assert scored["protocol"]["inputs"] == 2
    call("analyze", "student.pth", *few)
    call("compare", "student.pth", *few)
    assert (tmp_path / "comparison.png").exists()
    generated = call("translate", "student.onnx", label_data / "test_label", "-o", "out", "--json")
    assert len(generated["outputs"]) == 2
    assert load_pixels(Path(generated["outputs"][0])).shape == (3, 64, 72)


# What users get wrong: one line


def refused(called: Called, *phrases: str, code: int = 1) -> None:
    assert (called.code, called.stdout) == (code, "")
    (line,) = called.errors
    for phrase in phrases:
        assert phrase in line


@pytest.mark.usefixtures("hd_student", "hd_teacher")
def test_what_label_maps_and_their_generators_are_not(
    call_wkdc: Call, label_data: Path, photos: Path, tmp_path: Path
) -> None:
    reads = f"reads {CHANNELS} channels"
    refused(call_wkdc("distill", "--data", photos), reads, "train_label")
    refused(call_wkdc("evaluate", "student.pth", "--data", photos), reads, "train_label")
    refused(
        call_wkdc("prune", "latest_net_G.pth", "--ratio", 2, "--data", photos), reads, "train_label"
    )
    refused(
        call_wkdc("translate", "student.pth", photos, "-o", "out"),
        "has 3 channels (RGB), and 6 are read",
    )
    refused(call_wkdc("export", "student.pth", "--onnx", "--uint8-io"), reads, "--uint8-io", code=2)
    refused(
        call_wkdc("distill", "--data", label_data, "--direction", "BtoA"), "BtoA", "only be inputs"
    )
    path = sorted((label_data / "train_label").iterdir())[0]
    Image.new("L", (72, 64), LABELS).save(path)
    refused(
        call_wkdc("distill", "--data", label_data),
        str(path.relative_to(tmp_path)),
        f"label id {LABELS}",
        f"{CHANNELS} channels",
    )
    assert not (tmp_path / "runs").exists()
    quiet = call_wkdc("prune", "latest_net_G.pth", "--ratio", 2, "-o", "bare.pth")
    assert quiet.code == 0
    assert f"{reads} and the bundled photos have 3" in " ".join(quiet.stderr.split())


def test_two_directions_need_two_domains(
    hd_student: Path, label_data: Path, tmp_path: Path
) -> None:
    reverse = Path(shutil.copy(hd_student, tmp_path / "reverse.pth"))
    with pytest.raises((CheckpointError, DatasetError), match="to reverse"):
        wkdc.distill(label_data, student=hd_student, reverse_student=reverse, steps=1)
