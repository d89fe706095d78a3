"""Steps of several batches, and gradients in float16."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Called, Died
from test_distributed import COMMON, images_of, losses_of
from torch import Tensor, nn

import wkdc
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.distill import FAITHFUL, PAPER, Recipe, StepReport
from wkdc.errors import DeviceError, OptionError
from wkdc.networks.patchgan import PatchGAN, patchgan_widths
from wkdc.training.device import Compute, choose_dtype, trainable
from wkdc.training.distributed import Processes
from wkdc.training.objective import Batch, Objective
from wkdc.training.trainer import Averager, Learner, Trainer

pytestmark = pytest.mark.usefixtures("small_validation")

Call = Callable[..., Called]

CPU = torch.device("cpu")
ALONE = Processes(0, 1, CPU)

AGAINST = dataclasses.replace(PAPER, crop=32, load_size=48, ndf=4, pixel=1.0, identity=0.0)


def made(recipe: Recipe, student: Path, compute: Compute) -> Trainer:
    """A student with a discriminator, the same each time."""
    torch.manual_seed(0)
    network = trainable(compute.move(load_generator(student).network))
    discriminator = compute.move(PatchGAN(3, widths=patchgan_widths(recipe.ndf)))
    objective = Objective(recipe, discriminator, conditional=False, forward=compute.forward, seed=0)
    return Trainer(
        [Learner(network, objective, Averager(network))], recipe, ALONE, compute.scaler()
    )


def images(count: int, seed: int = 0) -> Batch:
    values = torch.Generator().manual_seed(seed)
    inputs, targets, real = torch.rand(3, count, 3, 32, 32, generator=values) * 2 - 1
    return Batch(inputs, targets, real)


def halves(batch: Batch) -> list[list[Batch]]:
    parts = zip(*(one.chunk(2) for one in (batch.inputs, batch.targets, batch.real)), strict=True)
    return [[Batch(*part)] for part in parts]


def gradients(networks: list[nn.Module]) -> list[Tensor]:
    return [weight.grad for network in networks for weight in network.parameters()]


def test_two_batches_are_a_step_of_one_twice_as_large(student: Path) -> None:
    """Losses, and gradients of student and discriminator, the pool of old fakes included."""
    compute = Compute.of(CPU, "float32", 2)
    whole, parts = (
        made(dataclasses.replace(AGAINST, image_pool=2), student, compute) for _ in range(2)
    )
    batch = images(4)
    first, second = whole.step([[batch]], 0.0), parts.step(halves(batch), 0.0)
    # float32 keeps seven digits, of which sums in another order eat some.
    assert second == pytest.approx(first, rel=1e-5)
    for one, other in (
        (whole.learners[0].student, parts.learners[0].student),
        (whole.learners[0].objective.discriminator, parts.learners[0].objective.discriminator),
    ):
        for a, b in zip(gradients([one]), gradients([other]), strict=True):
            if a.dim() == 4:  # biases in front of a norm have no gradient but rounding errors
                assert (a - b).abs().max() < 1e-4 * a.abs().max()


@pytest.mark.usefixtures("photos", "student")
def test_a_run_that_accumulates_sees_the_crops_of_one_that_does_not(
    call_wkdc: Call, tmp_path: Path
) -> None:
    for name, sizes in (
        ("whole", ("--batch", 4)),
        ("parts", ("--batch", 2, "--accumulate", 2)),
    ):
        done = call_wkdc(
            *("distill", *COMMON, *sizes, "--steps", 5, "--output", f"{name}.pth"),
            *("--runs", name),
        )
        assert done.code == 0, done.stderr
    first, second = (losses_of(tmp_path / name / "distill-001") for name in ("whole", "parts"))
    # As for two processes: sums in another order, which Adam passes on.
    for ours, theirs in zip(first, second, strict=True):
        assert theirs == pytest.approx(ours, rel=1e-3)
    gap = (images_of(tmp_path / "whole.pth") - images_of(tmp_path / "parts.pth")).abs().max()
    assert gap < 2e-3
    card = load_generator(tmp_path / "parts.pth").card
    assert card is not None
    assert card["history"][-1]["options"]["recipe"]["accumulate"] == 2


def test_a_run_that_accumulates_goes_on_bit_for_bit(student: Path, photos: Path) -> None:
    recipe = dataclasses.replace(AGAINST, accumulate=2)

    def run(output: str, on_step: Callable[[StepReport], None] | None = None) -> list[Tensor]:
        wkdc.distill(
            photos,
            student=student,
            output=student.parent / output,
            recipe=recipe,
            steps=4,
            precision="float32",
            save_every=1e-9,
            runs=student.parent / "runs",
            on_step=on_step,
        )
        return list(load_generator(student.parent / output).network.state_dict().values())

    def die(report: StepReport) -> None:
        if report.phase == "train" and report.step == 3:
            raise Died

    with pytest.raises(Died):
        run("killed.pth", die)
    resumed = wkdc.resume(student.parent / "runs" / "distill-001")
    weights = load_generator(resumed.output).network.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(weights, run("whole.pth"), strict=True))


def test_epochs_count_all_batches_of_a_step(student: Path, photos: Path) -> None:
    recipe = dataclasses.replace(FAITHFUL, crop=32, load_size=48, batch=1, accumulate=5)
    result = wkdc.distill(
        photos, student=student, recipe=recipe, epochs=2, runs=student.parent / "runs"
    )
    assert result.steps == 2  # two passes over five images, five a step


@pytest.mark.usefixtures("photos", "student")
def test_no_batches_are_no_step(call_wkdc: Call) -> None:
    done = call_wkdc("distill", "--data", "photos", "--accumulate", 0)
    assert (done.code, len(done.errors)) == (2, 1)
    assert "accumulate is 0; give 1 to 4096" in done.errors[0]


# float16: what a processor computes in it takes long, so networks and images are small.


def narrow() -> Compute:
    return Compute(CPU, torch.float16, torch.channels_last)


def test_losses_are_scaled_in_float16_and_steps_are_not(student: Path) -> None:
    """Gradients of float16 are those of float32 but for its ten bits; so is the scaled step."""
    exact, rounded = (
        made(AGAINST, student, Compute.of(CPU, "float32", 2)),
        made(AGAINST, student, narrow()),
    )
    state = rounded.state_dict()
    state["scaler"]["scale"] = 128.0  # at which nothing here comes near the end of float16
    rounded.load_state_dict(state)
    batch = images(2)
    first, second = exact.step([[batch]], 0.0), rounded.step([[batch]], 0.0)
    # Ten bits are a thousandth; a dozen layers pass it on.
    assert second == pytest.approx(first, rel=0.02)
    scaler = rounded.state_dict()["scaler"]
    assert scaler["_growth_tracker"] == 1  # no gradient was infinite
    ours, theirs = (gradients([one.learners[0].student]) for one in (exact, rounded))
    cosines = [
        torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), 0)
        for a, b in zip(ours, theirs, strict=True)
        if a.dim() == 4
    ]
    # An absolute difference has a gradient of signs, of which roundings turn some; 0.98 was seen.
    assert min(cosines) > 0.95
    # `step` leaves gradients unscaled: of the same size.
    assert ours[0].norm().item() == pytest.approx(theirs[0].norm().item(), rel=0.1)


def test_a_step_whose_gradients_are_infinite_is_left_out_and_the_scale_falls(
    student: Path,
) -> None:
    trainer = made(AGAINST, student, narrow())
    state = trainer.state_dict()
    state["scaler"]["scale"] = 1e30  # which float16, up to 65504, cannot hold
    trainer.load_state_dict(state)
    before = [weight.clone() for weight in trainer.learners[0].student.parameters()]
    trainer.step([[images(1)]], 0.0)
    after = trainer.learners[0].student.parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    # the state of a run has the scale, so that it goes on with it
    assert trainer.state_dict()["scaler"]["scale"] == pytest.approx(5e29)
    again = made(AGAINST, student, narrow())
    again.load_state_dict(trainer.state_dict())
    assert again.state_dict()["scaler"] == trainer.state_dict()["scaler"]


def test_what_float16_generates_is_compared_in_float32(student: Path) -> None:
    network = load_generator(student).network
    generated = narrow().forward(network, images(1).inputs)
    assert generated.dtype is torch.float32
    assert torch.equal(generated, generated.half().float())  # it was computed in float16


def test_float16_is_for_gpus(call_wkdc: Call) -> None:
    assert choose_dtype("float16", torch.device("cuda")) is torch.float16
    with pytest.raises(DeviceError, match="float16 is for GPUs"):
        choose_dtype("float16", CPU)
    with pytest.raises(OptionError, match="choose auto, float32, bfloat16 or float16"):
        choose_dtype("float8", CPU)
    for command in ("distill", "train"):
        done = call_wkdc(command, "--data", ".", "--precision", "float16", "--device", "cpu")
        assert (done.code, len(done.errors)) == (1, 1)
        assert "on the CPU choose bfloat16, float32 or auto" in done.errors[0]
