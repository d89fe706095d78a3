"""The teacher's targets on disk: taken again by the same run, and by no other."""

import dataclasses
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import custom_networks
import pytest
import torch
from conftest import Called, Died
from torch import Tensor

import wkdc
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.checkpoints.weight_files import load_sealed, save_sealed
from wkdc.data.folders import ImageFolder
from wkdc.distill import FAITHFUL, StepReport
from wkdc.training.device import Compute
from wkdc.training.teacher_targets import TargetCache, Targets

pytestmark = pytest.mark.usefixtures("small_validation")

SMALL = dataclasses.replace(FAITHFUL, crop=32, load_size=48)


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images networks generated in training steps or before, call by call."""
    calls: list[int] = []
    forward = Compute.forward

    def counted(self: Compute, network: torch.nn.Module, images: Tensor) -> Tensor:
        if not network.training:  # as teachers are
            calls.append(len(images))
        return forward(self, network, images)

    monkeypatch.setattr(Compute, "forward", counted)
    return calls


def run(student: Path, photos: Path, output: str = "out.pth", **options: Any) -> list[Tensor]:
    path = student.parent / output
    given = {"recipe": SMALL, "steps": 9, "cache": student.parent / "cache", "precision": "float32"}
    given |= {"data": photos, "student": student, "runs": student.parent / "runs"}
    wkdc.distill(output=path, **(given | options))
    return list(load_generator(path).network.state_dict().values())


def compute(student: Path, photos: Path, **options: Any) -> None:
    """The targets of a run that ends before it trains."""

    def die(report: StepReport) -> None:
        if report.phase == "train":
            raise Died

    with pytest.raises(Died):
        run(student, photos, on_step=die, **options)


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_same_run_computes_nothing_and_learns_the_same(
    student: Path, photos: Path, generated: list[int]
) -> None:
    without = run(student, photos, cache=None)
    assert generated == [4, 4]  # 36 images are wanted, each used six times
    generated.clear()
    first = run(student, photos)
    assert generated == [4, 4]
    generated.clear()
    again = run(student, photos)
    assert generated == []
    assert same(without, first)
    assert same(first, again)


def test_a_longer_run_computes_what_is_missing(
    student: Path, photos: Path, generated: list[int]
) -> None:
    compute(student, photos)
    generated.clear()
    longer = run(student, photos, steps=15)
    assert generated == [4]
    assert same(longer, run(student, photos, steps=15, cache=None))
    generated.clear()
    assert same(run(student, photos, steps=9), run(student, photos, steps=9, cache=None))
    assert generated == [4, 4]  # by the one without


def test_a_run_by_the_clock_takes_those_of_one_as_long(
    student: Path, photos: Path, generated: list[int]
) -> None:
    compute(student, photos, steps=None, minutes=0.01)
    assert generated
    generated.clear()
    run(student, photos, steps=None, minutes=0.01)
    assert generated == []


def test_other_targets_are_not_taken(student: Path, photos: Path, generated: list[int]) -> None:
    stored = torch.load(student.parent / "teacher.pth", weights_only=True)
    stored["model.1.bias"] += 1
    torch.save(stored, student.parent / "other.pth")
    changes: list[dict[str, Any]] = [
        {},
        {"seed": 1},
        {"recipe": dataclasses.replace(SMALL, crop=40)},
        {"recipe": dataclasses.replace(SMALL, features=0.0)},
        {"teacher": student.parent / "other.pth"},
        {"data": ImageFolder(photos, (0.0, 1.0))},
        {},  # with an image less
    ]
    for number, change in enumerate(changes, 1):
        if number == len(changes):
            next(photos.iterdir()).unlink()
        generated.clear()
        compute(student, photos, **change)
        assert generated == [4, 4], change
        assert len(list((student.parent / "cache").iterdir())) == number


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def of_another_key(path: Path) -> None:
    save_sealed(path, load_sealed(path) | {"key": "{}"})


def test_a_cache_that_does_not_match_is_named_and_computed_anew(
    student: Path, photos: Path, generated: list[int]
) -> None:
    whole = run(student, photos)
    (path,) = (student.parent / "cache").iterdir()
    for damage, said in ((cut, "cannot be read"), (of_another_key, "of another teacher")):
        damage(path)
        generated.clear()
        notices: list[str] = []
        assert same(run(student, photos, on_notice=notices.append), whole)
        assert generated == [4, 4]
        (notice,) = notices
        assert str(path) in notice
        assert said in notice
        assert notice.endswith("the teacher runs again")
        generated.clear()
        compute(student, photos)
        assert generated == []  # it was replaced


def some(count: int) -> Targets:
    return Targets((torch.zeros(count, 3, 32, 32).byte(),), torch.zeros(count, 3, 32, 32).half())


def test_the_ones_used_longest_ago_go_first(tmp_path: Path) -> None:
    notices: list[str] = []
    size = 3 * (1 + 2) * 32 * 32 * 8

    def cache(name: str) -> TargetCache:
        # Room for three, and for what a file has beside the images.
        return TargetCache(
            tmp_path, {"name": name}, most_bytes=7 * size // 2, on_notice=notices.append
        )

    for age, name in enumerate(("a", "b", "c")):
        cache(name).save(some(8), 0.0)
        os.utime(cache(name).path, (1e9 + age, 1e9 + age))
    assert cache("a").load() is not None  # it is used, so `b` is now the oldest
    cache("d").save(some(8), 0.0)
    assert [cache(name).path.exists() for name in "abcd"] == [True, False, True, True]
    assert notices == []
    cache("e").save(some(40), 0.0)
    assert not cache("e").path.exists()
    assert "are not cached" in notices[0]


def test_a_folder_that_cannot_be_written_is_said(
    student: Path, photos: Path, generated: list[int]
) -> None:
    (student.parent / "file").write_text("")
    notices: list[str] = []
    cache = student.parent / "file" / "cache"
    compute(student, photos, cache=cache, on_notice=notices.append)
    assert ["not cached" in notice for notice in notices] == [True]


@pytest.mark.usefixtures("photos", "student")
def test_the_command_keeps_them_in_its_cache(
    call_wkdc: Callable[..., Called], environment: dict[str, str], tmp_path: Path
) -> None:
    settings = ("--data", "photos", "--crop", 32, "--load-size", 48, "--steps", 2)
    home = Path(environment["WKDC_CACHE"]) / "targets"
    done = call_wkdc("distill", *settings, "--cache", "off")
    assert done.code == 0, done.stderr
    assert not home.exists()
    call_wkdc("distill", *settings)
    assert len(list(home.glob("targets-*.pth"))) == 1
    call_wkdc("distill", *settings, "--cache", "mine")
    assert len(list((tmp_path / "mine").iterdir())) == 1


def test_a_cache_on_a_disk_that_is_only_read(
    student: Path, photos: Path, generated: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    compute(student, photos)
    generated.clear()

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "utime", refuse)
    compute(student, photos)
    assert generated == []


def test_nothing_is_kept_of_a_network_of_ones_own_code(photos: Path, tmp_path: Path) -> None:
    """Nothing says whether its code is still the same."""
    arch = "custom_networks:Stylist"
    torch.save(custom_networks.Stylist().state_dict(), tmp_path / "teacher.pth")
    teacher = wkdc.load_generator(tmp_path / "teacher.pth", arch=arch)
    student = wkdc.prune(teacher, ratio=2, output=tmp_path / "student.pth", calibrate=0).output
    compute(student, photos, arch=arch)
    assert not (tmp_path / "cache").exists()
