"""Distillation: what is minimised, in which order, on which images, and what is left behind."""

import copy
import dataclasses
import json
import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Called, Died
from originals import patchgan_state_dict
from torch import Tensor, nn

from wkdc.checkpoints.card import make_card
from wkdc.checkpoints.checkpoint import load_discriminator, load_generator, save_generator
from wkdc.data.image_writing import save_pixels
from wkdc.data.images import load_pixels, load_square
from wkdc.data.inputs import part_loader
from wkdc.data.layouts import read_layout
from wkdc.data.photos import photo_paths
from wkdc.distill import FAITHFUL, PAPER, Recipe, StepReport, distill, recipe_named, resume
from wkdc.errors import CheckpointError, DatasetError, ImageError, OptionError
from wkdc.metrics.fidelity import psnr_db
from wkdc.networks.patchgan import PatchGAN, patchgan_widths
from wkdc.training.crops import Crops, ImagePool, shuffled
from wkdc.training.device import Compute, trainable
from wkdc.training.loop import Budget
from wkdc.training.objective import Batch, Forward, Objective
from wkdc.training.recipe import FAR_DB, HALVED_DB, RATES, rate_for
from wkdc.training.setup import MOST_ENLARGED
from wkdc.training.trainer import MAX_DECAY, Averager, rate_factor

pytestmark = pytest.mark.usefixtures("small_validation")

SMALL = {"crop": 32, "load_size": 48}


def small(recipe: Recipe, **changes: object) -> Recipe:
    return dataclasses.replace(recipe, **(SMALL | {"ndf": 4} | changes))


def save_noise(folder: Path, name: str, height: int, width: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    values = torch.Generator().manual_seed(sum(map(ord, name)))
    path = folder / name
    save_pixels(path, torch.randint(0, 256, (3, height, width), generator=values).byte())
    return path


@pytest.fixture
def unpaired(photos: Path) -> Path:
    folder = photos.parent / "unpaired"
    for n, path in enumerate(sorted(photos.iterdir())):
        part = folder / ("trainA", "trainB", "testA")[n % 3]
        part.mkdir(parents=True, exist_ok=True)
        path.rename(part / path.name)
    return folder


@pytest.fixture
def paired(tmp_path: Path) -> Path:
    folder = tmp_path / "paired"
    for n in range(3):
        save_noise(folder / "train", f"{n}.png", 48, 96)
    save_noise(folder / "val", "v.png", 48, 96)
    return folder


# What is minimised


def test_the_total_is_the_weighted_sum() -> None:
    torch.manual_seed(0)
    recipe = small(PAPER, pixel=2.0, truth=3.0, wavelet_weight=0.5, adversarial=0.25)
    objective = Objective(
        recipe,
        PatchGAN(3, widths=patchgan_widths(4)),
        conditional=False,
        forward=lambda net, x: net(x),
        seed=0,
    )
    inputs, targets, truth, generated = torch.rand(4, 2, 3, 32, 32)
    batch = Batch(inputs, targets, None, truth)
    losses = objective.student_losses(nn.Identity(), generated, batch)
    assert set(losses) == {"wavelet", "pixel", "truth", "adversarial", "total"}
    expected = (
        0.5 * losses["wavelet"]
        + 2 * losses["pixel"]
        + 3 * losses["truth"]
        + 0.25 * losses["adversarial"]
    )
    # Four float32 numbers of about 1 are summed in another order.
    assert losses["total"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("conditional", [False, True])
def test_each_side_trains_its_own_network_only(conditional: bool) -> None:
    torch.manual_seed(0)
    discriminator = PatchGAN(6 if conditional else 3, widths=patchgan_widths(4))
    objective = Objective(
        small(PAPER), discriminator, conditional=conditional, forward=lambda net, x: net(x), seed=0
    )
    student = nn.Conv2d(3, 3, 1)
    inputs, targets, real = torch.rand(3, 1, 3, 32, 32)
    batch = Batch(inputs, targets, real, None)
    generated = student(inputs)
    objective.student_losses(student, generated, batch)["total"].backward()
    assert student.weight.grad is not None
    assert student.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in discriminator.parameters())
    student.zero_grad()
    loss = objective.discriminator_loss(generated, batch)
    assert loss is not None
    loss.backward()
    assert student.weight.grad is None
    assert all(parameter.grad is not None for parameter in discriminator.parameters())


def test_cycle_and_identity_by_hand() -> None:
    """The student halves, the way back triples: an input x comes back as 1.5 x."""
    recipe = small(PAPER, wavelet_weight=0.0, adversarial=0.0)
    objective = Objective(
        recipe,
        None,
        conditional=False,
        back=scaled(3.0),
        forward=lambda net, x: net(x),
        seed=0,
    )
    student, inputs, same = scaled(0.5), torch.full((1, 3, 4, 4), 0.5), torch.ones(1, 3, 4, 4)
    batch = Batch(inputs, same=same)
    losses = objective.student_losses(student, student(inputs), batch)
    assert {name: loss.item() for name, loss in losses.items()} == {
        "cycle": 0.25,
        "identity": 0.5,
        "total": 10 * 0.25 + 5 * 0.5,
    }


def scaled(factor: float) -> nn.Module:
    layer = nn.Conv2d(3, 3, 1, groups=3, bias=False)
    nn.init.constant_(layer.weight, factor)
    return layer


@pytest.mark.parametrize("frozen", [False, True])
def test_the_cycle_teaches_both_but_no_frozen_one(frozen: bool) -> None:
    student, back = scaled(0.5), scaled(3.0).requires_grad_(not frozen)
    recipe = small(PAPER, adversarial=0.0)
    objective = Objective(
        recipe, None, conditional=False, back=back, forward=lambda net, x: net(x), seed=0
    )
    inputs = torch.rand(1, 3, 16, 16)
    objective.student_losses(student, student(inputs), Batch(inputs))["total"].backward()
    for network, learns in ((student, True), (back, not frozen)):
        (weight,) = network.parameters()
        assert (weight.grad is not None) == learns


@pytest.mark.parametrize("recipe", [PAPER, FAITHFUL], ids=["paper", "faithful"])
def test_gradients_are_those_of_float64(recipe: Recipe, student: Path) -> None:
    """In the layout that images have in a step; InstanceNorm is wrong in some."""
    network = load_generator(student).network
    images = torch.rand(2, recipe.batch, 3, 32, 32) * 2 - 1
    compute = Compute.of(torch.device("cpu"), "float32", recipe.batch)
    found = gradients_of(compute.move(copy.deepcopy(network)), images, compute.forward)
    exact = gradients_of(copy.deepcopy(network).double(), images.double(), lambda net, x: net(x))
    for name, ours in found.items():
        if ours.dim() == 4:  # biases in front of a norm have no gradient but rounding errors
            # float32 keeps seven digits, of which a dozen layers and sums of 1e4 terms eat some.
            assert (ours - exact[name]).abs().max() < 1e-3 * exact[name].abs().max(), name


def gradients_of(network: nn.Module, images: Tensor, forward: Forward) -> dict[str, Tensor]:
    network = trainable(network)
    pixel = (forward(network, images[0]) - images[1]).square().mean()
    pixel.backward()
    return {name: weight.grad for name, weight in network.named_parameters()}


def test_the_pool_shows_old_and_new_fakes() -> None:
    pool = ImagePool(3, seed=0)
    shown = [float(pool.exchange(torch.full((1, 1, 1, 1), float(n)))) for n in range(200)]
    assert shown[:3] == [0.0, 1.0, 2.0]
    assert all(value <= n for n, value in enumerate(shown))
    old = sum(value < n for n, value in enumerate(shown[3:], 3))
    # A fair coin over 197 draws: six standard deviations are 42.
    assert abs(old - 197 / 2) < 42
    assert [float(ImagePool(0, 0).exchange(torch.ones(1, 1, 1, 1)))] == [1.0]


# Time and averages


def test_learning_rates() -> None:
    assert [rate_factor("linear", p) for p in (0, 0.25, 0.5, 0.75, 1)] == [1, 1, 1, 0.5, 0]
    assert rate_factor("cosine", 0) == 1
    assert rate_factor("cosine", 0.5) == pytest.approx(0.5)
    assert rate_factor("cosine", 1) == pytest.approx(0)


def test_a_near_student_has_a_lower_rate() -> None:
    for optimizer, rate in RATES.items():
        assert rate_for(-math.inf, optimizer) == rate_for(FAR_DB, optimizer) == rate
        assert rate_for(FAR_DB + HALVED_DB, optimizer) == pytest.approx(rate / 2)
        assert rate_for(FAR_DB + 3 * HALVED_DB, optimizer) == pytest.approx(rate / 8)
        assert rate_for(50.0, optimizer) == rate_for(math.inf, optimizer) == rate / 32


def test_budgets() -> None:
    assert [Budget(steps=4).progress(n, 99.0) for n in (0, 2, 4)] == [0, 0.5, 1]
    assert [Budget(seconds=60).progress(9, s) for s in (0, 30, 60, 90)] == [0, 0.5, 1, 1]


def test_the_average_starts_as_a_copy_and_forgets_slowly() -> None:
    network = nn.Conv2d(1, 1, 1, bias=False)
    average = Averager(network)
    expected = 0.0
    for n in range(50):
        nn.init.constant_(network.weight, float(n))
        average.update(network)
        decay = min(MAX_DECAY, n / (10 + n))
        expected = decay * expected + (1 - decay) * n
        # float32 against float64: 50 steps of relative 6e-8.
        assert average.network.weight.item() == pytest.approx(expected, rel=1e-5)


def test_presets() -> None:
    assert recipe_named("paper") is PAPER
    assert recipe_named("faithful") is FAITHFUL
    # Zhang et al. 2022 and the authors' code.
    assert (PAPER.adversarial, PAPER.ndf, PAPER.wavelet_weight, PAPER.levels) == (1, 32, 0.4, 4)
    assert (PAPER.learning_rate, PAPER.beta1, PAPER.batch, PAPER.crop) == (2e-4, 0.5, 1, 256)
    with pytest.raises(OptionError, match="faithful or paper"):
        recipe_named("fast")


@pytest.mark.parametrize(
    "wrong",
    [
        {"pixel": -1.0},
        {"wavelet_weight": float("nan")},
        {"batch": 0},
        {"crop": 300, "load_size": 256},
        {"learning_rate": 0.0},
        {"learning_rate": 1.001},
        {"adversarial": 1.0, "crop": 23},
        {"wavelet_weight": 0.0, "pixel": 0.0, "features": 0.0},
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        dataclasses.replace(FAITHFUL, **wrong)


# Images


def test_an_endless_order_is_a_permutation_each_time() -> None:
    order = [shuffled(7, i, seed=3) for i in range(28)]
    passes = [order[n : n + 7] for n in range(0, 28, 7)]
    assert all(sorted(one) == list(range(7)) for one in passes)
    assert len({tuple(one) for one in passes}) > 1
    assert order == [shuffled(7, i, seed=3) for i in range(28)]


def test_crops_repeat_and_lie_inside(photos: Path) -> None:
    layout = read_layout(photos)

    def crops(seed: int) -> Crops:
        return Crops(layout.train, part_loader(layout, 3, 3), load_size=48, crop=32, seed=seed)

    (first,) = crops(0).batch(5, 3)
    (again,) = crops(0).batch(5, 3)
    (other,) = crops(1).batch(5, 3)
    assert first.shape == (3, 3, 32, 32)
    assert first.dtype == torch.uint8
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_paired_halves_are_cut_alike(direction: str, tmp_path: Path) -> None:
    """The right half is the left one in negative: so it must be after every cut and flip."""
    left = load_pixels(save_noise(tmp_path, "left.png", 40, 52))
    (tmp_path / "left.png").unlink()
    for n in range(2):
        (tmp_path / "set" / "train").mkdir(parents=True, exist_ok=True)
        save_pixels(tmp_path / "set" / "train" / f"{n}.png", torch.cat([left, 255 - left], -1))
    layout = read_layout(tmp_path / "set", direction=direction)
    assert layout.kind == "paired"
    crops = Crops(layout.train, part_loader(layout, 3, 3), load_size=40, crop=16, seed=0)
    inputs, truth = crops.batch(0, 8)
    assert torch.equal(inputs, 255 - truth)
    whole = part_loader(layout, 3, 3)(layout.train[0])
    assert torch.equal(whole[0], left if direction == "AtoB" else 255 - left)


def test_the_three_layouts(unpaired: Path, paired: Path, tmp_path: Path) -> None:
    layout = read_layout(unpaired)
    assert (layout.kind, layout.held_out) == ("unpaired", False)
    assert {path.parent.name for path in layout.train} == {"trainA"}
    assert {path.parent.name for path in layout.real} == {"trainB"}
    assert {path.parent.name for path in layout.validation} == {"testA"}

    (unpaired / "testA").rename(unpaired / "testB")
    turned = read_layout(unpaired, direction="BtoA")
    assert {path.parent.name for path in turned.train} == {"trainB"}
    assert {path.parent.name for path in turned.validation} == {"testB"}

    layout = read_layout(paired)
    assert (layout.kind, len(layout.train), len(layout.validation)) == ("paired", 3, 1)

    for n in range(20):
        save_noise(tmp_path / "plain", f"{n}.png", 8, 8)
    layout = read_layout(tmp_path / "plain", seed=1)
    assert (layout.kind, layout.held_out, len(layout.validation)) == ("inputs", True, 2)
    assert not set(layout.train) & set(layout.validation)
    assert layout == read_layout(tmp_path / "plain", seed=1)
    assert layout.validation != read_layout(tmp_path / "plain", seed=2).validation


def test_small_images_are_left_out_and_named(tmp_path: Path) -> None:
    for name, height, width in (("a.png", 16, 99), ("b.png", 15, 99), ("c.png", 99, 15)):
        save_noise(tmp_path / "plain", name, height, width)
    notices: list[str] = []
    layout = read_layout(tmp_path / "plain", smallest=16, on_notice=notices.append)
    assert [path.name for path in layout.train] == ["a.png"]
    assert [notice.split(",")[0] for notice in notices] == [
        f"skipped: {tmp_path}/plain/b.png is 99x15",
        f"skipped: {tmp_path}/plain/c.png is 15x99",
        f"{tmp_path}/plain/a.png is the only image",
    ]
    assert layout.train == layout.validation
    assert not layout.held_out


def test_what_is_held_out_is_so_for_every_size_that_is_asked_for(tmp_path: Path) -> None:
    """`evaluate` takes smaller images than a training with large crops."""
    random.seed(0)
    for n in range(40):
        save_noise(tmp_path / "set" / "trainA", f"{n}.png", *random.choice([(20, 20), (40, 40)]))
    every = read_layout(tmp_path / "set", test=True)
    trained = read_layout(tmp_path / "set", smallest=32)
    assert len(every.validation) == 4
    assert trained.validation
    assert set(trained.validation) < set(every.validation)
    assert not set(trained.train) & set(every.validation)
    # Where no usable image is among them, others are held out.
    alone = tmp_path / "set" / "trainA" / "large.png"
    save_noise(alone.parent, "larger.png", 60, 60)
    save_noise(alone.parent, alone.name, 60, 60)
    found = read_layout(tmp_path / "set", smallest=60)
    assert (len(found.train), len(found.validation)) == (1, 1)
    assert found.train != found.validation


def test_test_images_alone(unpaired: Path, paired: Path, tmp_path: Path) -> None:
    (unpaired / "trainB").rename(unpaired / "testB")
    for path in (unpaired / "trainA").iterdir():  # which nobody needs to read
        path.write_bytes(b"broken")
    for _ in range(2):
        found = read_layout(unpaired, test=True)
        assert (found.kind, found.train, found.held_out) == ("unpaired", (), False)
        assert {path.parent.name for path in found.validation} == {"testA"}
        assert {path.parent.name for path in found.real_validation} == {"testB"}
        shutil.rmtree(unpaired / "trainA", ignore_errors=True)
    back = read_layout(unpaired, direction="BtoA", test=True)
    assert {path.parent.name for path in back.validation} == {"testB"}
    with pytest.raises(ImageError, match="trainA is no folder"):
        read_layout(unpaired)
    found = read_layout(paired, test=True)
    assert (found.kind, found.train, len(found.validation)) == ("paired", (), 1)
    shutil.rmtree(paired / "train")
    assert read_layout(paired, test=True) == found
    for n in range(3):
        save_noise(tmp_path / "plain", f"{n}.png", 8, 8)
    found = read_layout(tmp_path / "plain", test=True)
    assert (found.kind, found.held_out, len(found.validation)) == ("inputs", False, 3)


def test_of_paired_images_each_half_must_be_large_enough(tmp_path: Path) -> None:
    for name, height, width in (("a.png", 16, 32), ("b.png", 16, 30), ("c.png", 15, 32)):
        save_noise(tmp_path / "set" / "train", name, height, width)
    notices: list[str] = []
    layout = read_layout(tmp_path / "set", smallest=16, on_notice=notices.append)
    assert [path.name for path in layout.train] == ["a.png"]
    assert len(notices) == 3
    assert all("smaller than the 32x16 needed" in notice for notice in notices[:2])
    assert "the only image" in notices[2]


def test_the_bundled_photos_are_large_enough_for_every_recipe() -> None:
    largest = max(recipe.crop for recipe in (PAPER, FAITHFUL))
    layout = read_layout(photo_paths()[0].parent, smallest=largest // MOST_ENLARGED)
    assert len(layout.train) + len(layout.validation) == len(photo_paths())


def test_layouts_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no folder"):
        read_layout(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="no images"):
        read_layout(tmp_path / "empty")
    save_noise(tmp_path / "odd" / "train", "a.png", 8, 17)
    with pytest.raises(ImageError, match="17 pixels wide"):
        read_layout(tmp_path / "odd")


# Whole runs


def weights_of(path: Path) -> list[Tensor]:
    return list(load_generator(path).network.state_dict().values())


def test_a_student_comes_nearer_to_its_teacher(student: Path, photos: Path) -> None:
    """A random teacher generates noise, which is learned slowly; noise alone gains nothing."""
    result = distill(
        photos,
        student=student,
        recipe=small(FAITHFUL, learning_rate=3e-3),
        steps=80,
        runs=student.parent / "runs",
    )
    assert result.after.psnr_db > result.before.psnr_db + 1
    assert result.after.high_band_error < result.before.high_band_error
    assert result.steps == 80
    assert not result.interrupted


def test_a_student_that_starts_near_learns_at_a_lower_rate(teacher: Path, photos: Path) -> None:
    opened = load_generator(teacher)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in opened.network.parameters():
            weight *= 1 + 0.003 * torch.randn_like(weight)
    student = teacher.parent / "near.pth"
    made_from = {"path": str(teacher), "sha256": opened.sha256}
    save_generator(student, opened.network, make_card(opened.architecture, made_from, []))

    def run(
        name: str, on_step: Callable[[StepReport], None] | None = None, **changes: object
    ) -> tuple[float, float, list[str]]:
        """What is gained, the rate on the card, and what is said of it."""
        notices: list[str] = []
        output = student.parent / name
        result = distill(
            photos,
            student=student,
            output=output,
            recipe=small(FAITHFUL, **changes),
            steps=20,
            runs=student.parent / "runs",
            precision="float32",
            save_every=5.0 if on_step is None else 1e-9,
            on_step=on_step,
            on_notice=notices.append,
        )
        card = load_generator(output).card
        assert card is not None
        rate = card["history"][-1]["options"]["learning_rate"]
        return result.after.psnr_db - result.before.psnr_db, rate, notices

    gained, rate, said = run("gentle.pth")
    usual = RATES[FAITHFUL.optimizer]
    lost, told, nothing = run("told.pth", learning_rate=usual)
    assert (told, nothing) == (usual, [])
    assert rate < usual / 2
    assert [f"the learning rate is {rate:.1e}, as {usual:.1e}" in one for one in said] == [True]
    assert gained > lost

    def die(report: StepReport) -> None:
        if report.phase == "train" and report.step == 8:
            raise Died

    with pytest.raises(Died):
        run("killed.pth", on_step=die)
    resume(max((student.parent / "runs").iterdir()))
    pairs = zip(
        *(weights_of(student.parent / f"{n}.pth") for n in ("gentle", "killed")), strict=True
    )
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("recipe", [PAPER, dataclasses.replace(FAITHFUL, adversarial=0.5)])
@pytest.mark.parametrize("kind", ["unpaired", "paired", "inputs"])
def test_every_recipe_runs_on_every_layout(
    recipe: Recipe, kind: str, student: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue("photos" if kind == "inputs" else kind)
    before = weights_of(student)
    result = distill(
        folder, student=student, recipe=small(recipe), steps=3, runs=student.parent / "runs"
    )
    expected = {"wavelet", "adversarial", "discriminator", "total"}
    expected |= {"pixel", "features"} if recipe.pixel else set()
    expected |= {"truth"} if kind == "paired" and recipe.truth else set()
    expected |= {"identity"} if kind == "unpaired" and recipe.identity else set()
    assert set(result.losses) == expected
    after = weights_of(student)
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True) if a.dim() == 4)


def test_the_same_seed_is_the_same_student(student: Path, photos: Path) -> None:
    def run(name: str, seed: int) -> list[Tensor]:
        output = student.parent / name
        distill(
            photos,
            student=student,
            output=output,
            recipe=small(FAITHFUL, adversarial=1.0),
            steps=4,
            precision="float32",
            seed=seed,
            runs=student.parent / "runs",
        )
        return weights_of(output)

    first, again, other = run("a.pth", 0), run("b.pth", 0), run("c.pth", 1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_caller_does_not_change_the_run(student: Path, photos: Path) -> None:
    """Global random state that the caller uses has no say in the weights."""

    def run(name: str) -> list[Tensor]:
        output = student.parent / name
        torch.rand(random.randint(1, 9))
        distill(
            photos,
            student=student,
            output=output,
            recipe=small(FAITHFUL),
            steps=2,
            precision="float32",
            runs=student.parent / "runs",
            on_step=lambda _: torch.rand(3),
        )
        return weights_of(output)

    assert all(torch.equal(a, b) for a, b in zip(run("a.pth"), run("b.pth"), strict=True))


def test_larger_crops_have_fewer_targets(
    student: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept is bounded in pixels, so that it fits into memory whatever the crops are."""
    monkeypatch.setattr("wkdc.training.teacher_targets.MAX_PIXELS", 8 * 32 * 32)

    def generated(crop: int) -> int:
        counts: list[int] = []

        def step(report: StepReport) -> None:
            if report.phase == "train":
                raise Died
            counts.append(report.step)

        with pytest.raises(Died):
            distill(
                photos,
                student=student,
                recipe=small(FAITHFUL, crop=crop, load_size=64, batch=1, reuse=2),
                steps=20,
                runs=student.parent / "runs",
                on_step=step,
            )
        return counts[-1]

    assert (generated(32), generated(64)) == (8, 2)


def test_what_a_run_leaves_behind(
    student: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wkdc.training.direction.MEASURE_SIZE", 256)  # as it is for users
    seen: list[tuple[str, int]] = []
    result = distill(
        photos,
        student=student,
        recipe=small(FAITHFUL),
        steps=20,
        runs=student.parent / "runs",
        on_step=lambda report: seen.append((report.phase, report.step)),
    )
    assert result.run == student.parent / "runs" / "distill-001"
    assert [step for phase, step in seen if phase == "train"] == list(range(1, 21))
    assert seen[0][0] == "targets"
    lines = [json.loads(line) for line in (result.run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 21))
    assert {"seconds", "wavelet", "pixel", "total"} <= set(lines[0])
    watched = [
        json.loads(line) for line in (result.run / "validation.jsonl").read_text().splitlines()
    ]
    assert [watched[0]["step"], watched[-1]["step"]] == [0, 20]
    assert len(watched) == 11  # nine on the way
    # The one validation image of this data is all that is watched, too.
    for line, found in ((watched[0], result.before), (watched[-1], result.after)):
        assert line["psnr_db"] == pytest.approx(found.psnr_db)
        assert line["high_band_error"] == pytest.approx(found.high_band_error)
    options = json.loads((result.run / "options.json").read_text())
    assert options["recipe"]["wavelet_weight"] == FAITHFUL.wavelet_weight
    assert options["pictures"] == {
        "train": 5,
        "real": 0,
        "validation": 1,
        "selection": 0,
        "held_out": True,
    }
    samples = sorted((result.run / "samples").iterdir())
    assert samples[0].name == "step-000000.png"
    assert samples[-1].name == "step-000020.png"
    # One row of three 256-pixel squares with 4 pixels between.
    assert load_pixels(samples[0]).shape == (3, 256, 3 * 256 + 2 * 4)
    checkpoints = sorted((result.run / "checkpoints").iterdir())
    assert checkpoints[0].name == "start.pth"  # and the two latest
    assert len(checkpoints) == 3
    assert load_generator(checkpoints[-1]).card is not None
    card = load_generator(student).card
    assert card is not None
    assert [entry["command"] for entry in card["history"]] == ["prune", "distill"]
    assert card["history"][1]["options"]["after"]["psnr_db"] == result.after.psnr_db
    second = distill(
        photos, student=student, recipe=small(FAITHFUL), steps=1, runs=student.parent / "runs"
    )
    assert second.run.name == "distill-002"


def test_the_best_is_picked_on_images_set_aside(student: Path, photos: Path) -> None:
    """At an absurd learning rate the first of ten students is better than the last."""
    result = distill(
        photos,
        student=student,
        recipe=small(FAITHFUL, learning_rate=0.1, average_from=0.0, schedule="linear"),
        steps=20,
        select="best",
        runs=student.parent / "runs",
    )
    assert result.selected is not None
    assert result.selected.step in range(2, 19, 2)
    (path,) = (result.run / "checkpoints").glob("best-*.pth")
    best = load_generator(path)
    weights = weights_of(path)
    assert path.name == f"best-{result.selected.step:06d}.pth"
    assert all(torch.equal(a, b) for a, b in zip(weights, weights_of(student), strict=True))
    card = load_generator(student).card
    assert card is not None
    assert card["history"][-1]["options"]["selected"] == dataclasses.asdict(result.selected)
    options = json.loads((result.run / "options.json").read_text())
    assert options["pictures"]["selection"] == 1
    assert options["pictures"]["train"] == 4  # and one is measured on
    layout = read_layout(photos, select=True)
    assert len({*layout.train, *layout.selection, *layout.validation}) == 6
    teacher = load_generator(student.parent / "teacher.pth").network
    image = load_square(layout.selection[0], 32)
    with torch.no_grad():
        found = psnr_db(best.network(image), teacher(image))
    assert found == pytest.approx(result.selected.psnr_db, abs=1e-3)


def test_a_step_is_profiled_on_demand(student: Path, photos: Path) -> None:
    tables: list[str] = []
    steps: list[int] = []
    distill(
        photos,
        student=student,
        recipe=small(FAITHFUL),
        steps=5,
        runs=student.parent / "runs",
        on_step=lambda report: steps.append(len(tables)) if report.phase == "train" else None,
        on_profile=tables.append,
    )
    assert steps == [0, 0, 1, 1, 1]
    assert "convolution_backward" in tables[0]


def test_epochs_count_images(student: Path, photos: Path) -> None:
    result = distill(
        photos,
        student=student,
        recipe=small(FAITHFUL, batch=2),
        epochs=2,
        runs=student.parent / "runs",
    )
    assert result.steps == 5  # two passes over five images, two a step


@pytest.mark.parametrize("recipe", [FAITHFUL, PAPER], ids=["faithful", "paper"])
def test_the_smallest_crops_are_translated(recipe: Recipe, student: Path, photos: Path) -> None:
    """A ResNet that halves twice mirrors edges of two pixels, so it needs 8; a PatchGAN 24."""
    recipe = small(recipe, crop=1 if recipe is FAITHFUL else 24)
    distill(photos, student=student, recipe=recipe, steps=1, runs=student.parent / "runs")


def test_a_student_without_a_teacher(student: Path, photos: Path) -> None:
    (student.parent / "teacher.pth").unlink()
    with pytest.raises(CheckpointError, match="--teacher"):
        distill(photos, student=student, recipe=small(FAITHFUL), steps=1)


def test_the_discriminator_is_made_smaller_in_the_run(
    student: Path, photos: Path, call_wkdc: Callable[..., Called]
) -> None:
    folder = student.parent
    torch.save(patchgan_state_dict(0, ndf=16), folder / "latest_net_D.pth")
    settings = (
        *("distill", "--data", photos, "--recipe", "paper", "--crop", 32, "--load-size", 40),
        *("--steps", 1, "--discriminator", "latest_net_D.pth", "--disc-ratio", 4),
    )
    files = {path.name for path in folder.iterdir()}
    done = call_wkdc(*settings)
    assert done.code == 0, done.stderr
    assert {path.name for path in folder.iterdir()} == files | {"runs"}
    run = folder / "runs" / "distill-001"
    given = load_discriminator(folder / "latest_net_D.pth")
    small = load_discriminator(run / "checkpoints" / "discriminator.pth")
    ratio = count(given.network) / count(small.network)
    assert ratio == pytest.approx(4, rel=0.02)  # as prune promises
    options = json.loads((run / "options.json").read_text())
    assert options["digests"]["discriminator_sha256"] == small.sha256
    torch.save(patchgan_state_dict(1, ndf=16), folder / "latest_net_D.pth")
    call_wkdc(*settings)  # of another one
    other = load_discriminator(run.with_name("distill-002") / "checkpoints" / "discriminator.pth")
    assert other.sha256 != small.sha256


def count(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--ndf", 8), "ndf 8 would not be used: the adversarial weight is 0"),
        (("--gan", "hinge"), "gan hinge would not be used: the adversarial weight is 0"),
        (
            ("--wavelet-weight", 0, "--bands", "low"),
            "bands low would not be used: the wavelet-weight is 0",
        ),
        (
            ("--recipe", "paper", "--jitter", 0.5),
            "jitter 0.5 would not be used: beside losses to true images",
        ),
    ],
)
def test_options_that_would_not_be_used(
    given: tuple[object, ...], said: str, photos: Path, call_wkdc: Callable[..., Called]
) -> None:
    done = call_wkdc("distill", "--data", photos, *given, "--steps", 1)
    assert (done.code, len(done.errors)) == (2, 1)
    assert said in done.errors[0]


def test_weights_that_the_data_does_not_allow_are_named_and_change_nothing(
    student: Path, photos: Path
) -> None:
    """Beside losses to true images crops keep their colours; here there are none."""
    recipe, said = small(FAITHFUL, features=0.0), list[str]()
    found = []
    for changes in ({}, {"truth": 10.0, "identity": 5.0, "cycle": 10.0}):
        output = student.parent / f"{len(found)}.pth"
        distill(
            photos,
            student=student,
            output=output,
            recipe=dataclasses.replace(recipe, **changes),
            steps=2,
            runs=student.parent / "runs",
            on_notice=said.append,
        )
        found.append(weights_of(output))
    assert said == [
        "left out of recipe faithful: truth 10, which needs true images of pairs; identity 5, "
        "which needs trainB; cycle 10, which needs a generator of the other direction"
    ]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (("--recipe", "paper"), "no --discriminator is given"),
        (("--discriminator", "latest_net_D.pth"), "the adversarial weight is 0"),
    ],
)
def test_a_disc_ratio_that_would_not_be_used(
    given: tuple[str, ...], why: str, student: Path, photos: Path, call_wkdc: Callable[..., Called]
) -> None:
    done = call_wkdc("distill", "--data", photos, *given, "--disc-ratio", 4, "--steps", 1)
    assert (done.code, len(done.errors)) == (2, 1)
    assert f"disc-ratio 4 would not be used: {why}" in done.errors[0]
