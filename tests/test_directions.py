"""Runs of two directions, and of one whose cycle a frozen generator closes."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Called, Died
from originals import resnet_state_dict

import wkdc
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.checkpoints.lineage import record_of
from wkdc.data.layouts import read_layout
from wkdc.distill import FAITHFUL, PAPER, Recipe, StepReport, distill
from wkdc.errors import CheckpointError, DatasetError, OptionError

pytestmark = pytest.mark.usefixtures("small_validation")


@pytest.fixture
def folder(student: Path, photos: Path) -> Path:
    """teacher.pth, student.pth, back.pth, back-student.pth and the unpaired photos `set`."""
    folder = student.parent
    torch.save(resnet_state_dict(1, blocks=2, ngf=4), folder / "back.pth")
    wkdc.prune(folder / "back.pth", ratio=1.5, output=folder / "back-student.pth", calibrate=0)
    for n, path in enumerate(sorted(photos.iterdir())):
        part = folder / "set" / ("trainA", "trainB", "testA")[n % 3]
        part.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, part / path.name)
    return folder


def small(recipe: Recipe, **changes: object) -> Recipe:
    return dataclasses.replace(
        recipe, **({"crop": 32, "load_size": 48, "ndf": 4, "reuse": 1} | changes)
    )


def weights_of(path: Path) -> list[torch.Tensor]:
    return list(load_generator(path).network.state_dict().values())


def same(first: Path, second: Path) -> bool:
    pairs = zip(weights_of(first), weights_of(second), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("recipe", [small(PAPER), small(FAITHFUL, reuse=2)])
def test_both_students_learn_and_say_from_whom(recipe: Recipe, folder: Path) -> None:
    before = {name: weights_of(folder / name) for name in ("student.pth", "back-student.pth")}
    teachers = {name: (folder / name).read_bytes() for name in ("teacher.pth", "back.pth")}
    result = distill(
        folder / "set",
        student=folder / "student.pth",
        reverse_student=folder / "back-student.pth",
        recipe=recipe,
        steps=3,
        runs=folder / "runs",
    )
    forth = {"wavelet", "total"} | (
        {"adversarial", "discriminator", "cycle", "identity"}
        if recipe.adversarial
        else {"pixel", "features"}
    )
    assert set(result.losses) == forth | {f"reverse_{name}" for name in forth}
    assert result.reverse is not None
    assert result.output == folder / "student.pth"
    assert result.reverse.output == folder / "back-student.pth"
    assert result.before != result.reverse.before
    for name, teacher in (("student.pth", "teacher.pth"), ("back-student.pth", "back.pth")):
        assert any(
            not torch.equal(a, b)
            for a, b in zip(before[name], weights_of(folder / name), strict=True)
        )
        card = load_generator(folder / name).card
        assert card is not None
        assert card["teacher"]["sha256"] == load_generator(folder / teacher).sha256
        assert card["history"][-1]["options"]["directions"] == 2
        direction = "AtoB" if name == "student.pth" else "BtoA"
        assert card["history"][-1]["options"]["direction"] == direction
        assert (folder / teacher).read_bytes() == teachers[teacher]
    watched = [
        json.loads(line) for line in (result.run / "validation.jsonl").read_text().splitlines()
    ]
    assert watched[-1]["reverse_psnr_db"] == pytest.approx(result.reverse.after.psnr_db)
    assert {"lh1", "hh4", "ll4", "reverse_hl2"} <= set(watched[-1])
    samples = {path.name for path in (result.run / "samples").iterdir()}
    assert {"step-000003.png", "step-000003-reverse.png"} <= samples
    back = record_of(load_generator(folder / "back-student.pth"))
    assert back is not None
    assert back.start == result.run / "checkpoints" / "start-reverse.pth"
    assert back.validation[-1]["psnr_db"] == pytest.approx(result.reverse.after.psnr_db)
    assert [set(line) - {"step", "seconds"} for line in back.losses] == [forth] * 3
    checkpoints = sorted(path.name for path in (result.run / "checkpoints").glob("*.pth"))
    assert checkpoints == [  # the beginning and the two latest
        *("start-reverse.pth", "start.pth"),
        *("step-000001-reverse.pth", "step-000001.pth"),
        *("step-000002-reverse.pth", "step-000002.pth"),
    ]


def test_without_a_cycle_the_directions_are_two_runs(folder: Path) -> None:
    """Then nothing passes between them, so the first is the one that it is alone."""
    recipe = small(PAPER, cycle=0.0, adversarial=0.0)
    common = {"recipe": recipe, "steps": 2, "runs": folder / "runs", "precision": "float32"}
    data, student = folder / "set", folder / "student.pth"
    distill(data, student=student, output=folder / "alone.pth", **common)
    distill(
        data,
        student=student,
        output=folder / "both.pth",
        reverse_student=folder / "back-student.pth",
        **common,
    )
    # With both, an image of the second domain is kept for measuring, which the identity loss of
    # the first direction reads else.
    assert not same(folder / "alone.pth", folder / "both.pth")
    recipe = dataclasses.replace(recipe, identity=0.0)
    common["recipe"] = recipe
    distill(data, student=student, output=folder / "alone.pth", **common)
    distill(
        data,
        student=student,
        output=folder / "both.pth",
        reverse_student=folder / "back-student.pth",
        **common,
    )
    assert same(folder / "alone.pth", folder / "both.pth")


def test_a_frozen_way_back_closes_the_cycle(folder: Path) -> None:
    kept = (folder / "back.pth").read_bytes()
    common = {"recipe": small(PAPER), "steps": 2, "runs": folder / "runs"}
    result = distill(
        folder / "set",
        student=folder / "student.pth",
        output=folder / "closed.pth",
        reverse_teacher=folder / "back.pth",
        **common,
    )
    assert "cycle" in result.losses
    assert result.reverse is None
    assert (folder / "back.pth").read_bytes() == kept
    open_ = distill(
        folder / "set", student=folder / "student.pth", output=folder / "open.pth", **common
    )
    assert "cycle" not in open_.losses
    assert not same(folder / "closed.pth", folder / "open.pth")


@pytest.mark.parametrize("closing", [False, True])
def test_two_directions_go_on_bit_for_bit(closing: bool, folder: Path) -> None:
    back = {"reverse_teacher": folder / "back.pth"}
    if not closing:
        back["reverse_student"] = folder / "back-student.pth"

    def run(output: str, on_step: Callable[[StepReport], None] | None = None) -> None:
        if not closing:
            back["reverse_student"] = Path(
                shutil.copy(folder / "back-student.pth", folder / f"back-{output}")
            )
        distill(
            folder / "set",
            student=folder / "student.pth",
            output=folder / output,
            recipe=small(PAPER),
            steps=4,
            precision="float32",
            save_every=1e-9,
            runs=folder / "runs",
            on_step=on_step,
            **back,
        )

    def die(report: StepReport) -> None:
        if report.phase == "train" and report.step == 3:
            raise Died

    with pytest.raises(Died):
        run("killed.pth", die)
    assert wkdc.resume(folder / "runs" / "distill-001").steps == 4
    run("whole.pth")
    assert same(folder / "whole.pth", folder / "killed.pth")
    if not closing:
        assert same(folder / "back-whole.pth", folder / "back-killed.pth")


def test_what_is_measured_on_is_trained_on_by_neither(folder: Path) -> None:
    layout = read_layout(folder / "set", both=True)
    assert layout.validation == tuple(sorted((folder / "set" / "testA").iterdir()))
    assert not layout.held_out  # of the first domain; the second brings no test set
    back = layout.reversed()
    assert (back.train, back.real) == (layout.real, layout.train)
    assert not set(back.validation) & {*layout.train, *layout.real}
    assert back.reversed() == layout
    assert back.held_out
    shutil.rmtree(folder / "set" / "testA")
    layout = read_layout(folder / "set", both=True)
    assert layout.held_out
    measured = {*layout.validation, *layout.real_validation}
    assert len(measured) == 2
    assert not measured & {*layout.train, *layout.real}


def test_what_cannot_be_reversed(folder: Path, photos: Path) -> None:
    def run(**options: object) -> None:
        given = {"student": folder / "student.pth", "steps": 1, "runs": folder / "runs"}
        distill(**({"data": folder / "set", "recipe": small(PAPER)} | given | options))

    back, back_student = folder / "back.pth", folder / "back-student.pth"
    with pytest.raises(OptionError, match="the cycle's weight is 0"):
        run(recipe=small(FAITHFUL), reverse_teacher=back)
    with pytest.raises(DatasetError, match="images of both domains"):
        run(data=photos, reverse_student=back_student)
    with pytest.raises(OptionError, match="both students would be written to"):
        run(reverse_student=back_student, output=back_student)
    with pytest.raises(OptionError, match="overwrite its teacher"):
        run(reverse_student=back_student, output=back)
    with pytest.raises(OptionError, match="is for one direction"):
        run(reverse_student=back_student, discriminator=folder / "discriminator.pth")
    torch.save(resnet_state_dict(1, blocks=2, ngf=4, in_channels=1), folder / "grey.pth")
    with pytest.raises(CheckpointError, match=r"to reverse .* it has to turn 3 into 3"):
        run(reverse_teacher=folder / "grey.pth")
    with pytest.raises(OptionError, match="identity: trainB"):
        run(
            data=photos,
            recipe=small(PAPER, wavelet_weight=0.0, adversarial=0.0, truth=0.0),
        )
    assert not (folder / "runs").exists()


def test_the_command(folder: Path, call_wkdc: Callable[..., Called]) -> None:
    settings = ("--recipe", "paper", "--crop", 32, "--load-size", 40, "--ndf", 4, "--steps", 1)
    both = ("--reverse", "back.pth", "--reverse-student", "back-student.pth")
    done = call_wkdc("distill", "--data", "set", *both, *settings, "--json")
    assert done.code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["reverse"]["output"] == "back-student.pth"
    assert set(told["reverse"]["student_vs_teacher"]) == set(told["student_vs_teacher"])
    done = call_wkdc("distill", "--data", "set", "--reverse", "back.pth", *settings)
    assert done.code == 0, done.stderr
    assert "back-student.pth" not in done.stdout
    done = call_wkdc("distill", "--data", "set", *both, *settings)
    assert "back-student.pth against its teacher" in done.stdout
