"""Blocks' features beside the teacher's."""

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Called, Died
from originals import resnet_state_dict, unet_state_dict
from torch import Tensor, nn

import wkdc
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.distill import FAITHFUL, PAPER, StepReport
from wkdc.errors import OptionError
from wkdc.training.features import APART, LAYERS, BlockFeatures, FeatureLoss

pytestmark = pytest.mark.usefixtures("small_validation")

SMALL = dataclasses.replace(FAITHFUL, crop=32, load_size=48, features=1.0)

IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def features_of(network: nn.Module, images: Tensor) -> list[Tensor]:
    watched = BlockFeatures(network)
    with torch.no_grad():
        network(images)
    return watched.take()


def test_the_end_of_the_encoder_and_three_blocks_are_watched(student: Path) -> None:
    network = load_generator(student).network
    found = features_of(network, IMAGES)
    assert len(found) == LAYERS
    layers = network.model
    with torch.no_grad():
        first = layers[:10](IMAGES)  # stem and two halvings, each of three layers, and the padding
        blocks = [first]
        for block in layers[10:13]:
            blocks.append(block(blocks[-1]))
    for one, expected in zip(found, blocks, strict=True):  # of three blocks, all
        assert torch.equal(one, expected[..., ::APART, ::APART])


def test_least_squares_maps_are_the_best_there_are(student: Path) -> None:
    learner, guide = (
        load_generator(path).network for path in (student, student.parent / "teacher.pth")
    )
    wanted, ours = features_of(guide, IMAGES), features_of(learner, IMAGES)
    pairs = [(a.shape[1], b.shape[1]) for a, b in zip(ours, wanted, strict=True)]
    features = FeatureLoss(learner, pairs)
    features.fit([(lambda: learner(IMAGES), wanted)])
    learner(IMAGES)
    found = features.loss(wanted).item()
    expected = 0.0
    for a, b in zip(ours, wanted, strict=True):
        x, y = (one.movedim(1, -1).flatten(0, 2).double().numpy() for one in (a, b))
        solved = np.linalg.lstsq(x, y, rcond=None)[0]
        expected += ((x @ solved - y) ** 2).mean() / (y**2).mean()
    # float32 maps of float32 features.
    assert found == pytest.approx(expected, rel=1e-4)
    assert 0 < found < LAYERS  # maps of zeros miss all of each layer: 1 each


def test_a_copy_misses_nothing(student: Path) -> None:
    network = load_generator(student).network
    wanted = features_of(copy.deepcopy(network), IMAGES)
    features = FeatureLoss(network, [(one.shape[1],) * 2 for one in wanted])
    features.fit([(lambda: network(IMAGES), wanted)])
    network(IMAGES)
    assert features.loss(wanted).item() == pytest.approx(0, abs=1e-8)  # squares of roundings


def run(student: Path, photos: Path, output: str = "out.pth", **options: Any) -> wkdc.DistillResult:
    given = {"recipe": SMALL, "steps": 6, "precision": "float32"}
    return wkdc.distill(
        photos,
        student=student,
        output=student.parent / output,
        runs=student.parent / "runs",
        **(given | options),
    )


def weights_of(path: Path) -> list[Tensor]:
    return list(load_generator(path).network.state_dict().values())


@pytest.mark.parametrize("reuse", [1, 6])
def test_a_run_brings_features_nearer(reuse: int, student: Path, photos: Path) -> None:
    seen: list[float] = []
    recipe = dataclasses.replace(
        SMALL, crop=64, load_size=64, reuse=reuse, wavelet_weight=0.0, pixel=0.0, learning_rate=3e-3
    )
    result = run(
        student,
        photos,
        recipe=recipe,
        steps=60,
        on_step=lambda r: seen.append(r.losses["features"]) if r.phase == "train" else None,
    )
    assert set(result.losses) == {"features", "total"}
    # Of batches that differ by a tenth, ten each; a random teacher is learned slowly.
    assert sum(seen[-10:]) < 0.9 * sum(seen[:10])


def test_maps_are_part_of_the_state(student: Path, photos: Path) -> None:
    def die(report: StepReport) -> None:
        if report.phase == "train" and report.step == 4:
            raise Died

    with pytest.raises(Died):
        run(student, photos, "killed.pth", save_every=1e-9, on_step=die)
    resumed = wkdc.resume(student.parent / "runs" / "distill-001")
    whole = run(student, photos, "whole.pth")
    pairs = zip(weights_of(resumed.output), weights_of(whole.output), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_both_directions_with_a_cycle(student: Path, photos: Path) -> None:
    """Each student is called again by the other's cycle, and its features are its own image's."""
    folder = student.parent
    torch.save(resnet_state_dict(1, blocks=2, ngf=4), folder / "back.pth")
    wkdc.prune(folder / "back.pth", ratio=1.5, output=folder / "back-student.pth", calibrate=0)
    for part in ("trainA", "trainB", "testA"):
        (folder / "set" / part).mkdir(parents=True)
    for n, path in enumerate(sorted(photos.iterdir())):
        path.rename(folder / "set" / ("trainA", "trainB", "testA")[n % 3] / path.name)
    recipe = dataclasses.replace(PAPER, crop=32, load_size=48, ndf=4, features=1.0)
    first = []
    for changes in ({}, {"cycle": 0.0, "identity": 0.0, "adversarial": 0.0}):
        found = run(
            student,
            folder / "set",
            reverse_student=folder / "back-student.pth",
            reverse_teacher=folder / "back.pth",
            recipe=dataclasses.replace(recipe, learning_rate=1e-12, **changes),
            steps=1,
        )
        first.append({name: found.losses[name] for name in ("features", "reverse_features")})
        assert ("cycle" in found.losses) == (not changes)
    assert first[0] == pytest.approx(first[1], rel=1e-6)


@pytest.mark.usefixtures("photos")
def test_only_blocks_of_resnets_are_compared(
    tmp_path: Path, call_wkdc: Callable[..., Called]
) -> None:
    torch.save(unet_state_dict(0, downs=5, ngf=4), tmp_path / "unet.pth")
    wkdc.prune(tmp_path / "unet.pth", ratio=2, output=tmp_path / "student.pth", calibrate=0)
    done = call_wkdc("distill", "--data", "photos", "--features", 1, "--steps", 1)
    assert (done.code, len(done.errors)) == (2, 1)
    assert "features compares blocks of ResNets, of which a unet has none" in done.errors[0]
    done = call_wkdc("distill", "--data", "photos", "--steps", 1, "--json")
    assert (done.code, done.errors) == (0, [])
    assert set(json.loads(done.stdout)["losses"]) == {"wavelet", "pixel", "total"}
    with pytest.raises(OptionError, match="weight features is -1"):
        dataclasses.replace(FAITHFUL, features=-1.0)
