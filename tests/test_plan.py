"""Plans: the widths that were told, searched or measured for, and what does not go together."""

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Called
from originals import (
    multiscale_state_dict,
    patchgan_state_dict,
    resnet_state_dict,
    unet_state_dict,
)
from torch import nn

from wkdc.checkpoints.checkpoint import load_generator
from wkdc.errors import DeviceError, OptionError, TargetError
from wkdc.export import export
from wkdc.networks.complexity import Complexity
from wkdc.networks.resnet import ResnetGenerator
from wkdc.networks.unet import UnetGenerator
from wkdc.prune import PruneResult, prune
from wkdc.pruning.plan import Clock, Plan
from wkdc.pruning.target import read_target
from wkdc.pruning.width_search import TOLERANCE

FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "resnet": lambda: ResnetGenerator(
        encoder=(24, 40), stream=64, inner=(64, 48, 64), decoder=(40, 24), affine=True
    ),
    "resnet, batch norm": lambda: ResnetGenerator(
        encoder=(16, 32), stream=64, inner=(64,) * 6, decoder=(32, 16), norm="batch", bias=False
    ),
    "unet": lambda: UnetGenerator(down=[16, 32, 64, 64, 64, 64], up=[16, 32, 64, 64, 64]),
    "narrow unet": lambda: UnetGenerator(down=[8, 12, 16, 16], up=[8, 12, 16]),
    "unet, instance norm": lambda: UnetGenerator(
        down=[16, 32, 64, 64, 64], up=[16, 32, 64, 64], norm="instance", affine=False, bias=True
    ),
}


FURTHER = [
    *itertools.product(("resnet, batch norm", "unet", "narrow unet"), (1.3, 15), ("params",)),
    *itertools.product(sorted(set(FAMILIES) - {"resnet, batch norm"}), (3,), ("macs",)),
]


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    torch.save(resnet_state_dict(0, blocks=3, ngf=8), tmp_path / "teacher.pth")
    return tmp_path / "teacher.pth"


@pytest.mark.parametrize(
    ("name", "ratio", "by"),
    [
        *itertools.product(FAMILIES, (4,), ("params",)),
        *itertools.product(("resnet", "unet, instance norm"), (1.3, 15), ("params",)),
        *(pytest.param(*one, marks=pytest.mark.slow) for one in FURTHER),
        ("resnet, batch norm", 3, "macs"),
        ("narrow unet", 2, "params"),
    ],
)
def test_searched_widths_meet_the_target(
    name: str, ratio: float, by: Any, photos: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    torch.save(FAMILIES[name]().state_dict(), tmp_path / "teacher.pth")
    output = tmp_path / "s.pth"
    result = prune(
        tmp_path / "teacher.pth", ratio=ratio, by=by, output=output, data=photos, calibrate=2
    )
    reached = result.params_ratio if by == "params" else result.macs_ratio
    assert reached == pytest.approx(ratio, rel=TOLERANCE)
    assert load_generator(output).architecture == result.architecture
    assert all(layer.after <= layer.before + 1e-9 for layer in result.layers)
    if ratio == 4 and name in ("resnet", "unet"):
        exported = export(output)
        assert exported.max_abs_error <= exported.tolerance


def widths_of(result: PruneResult) -> list[int]:
    return [student for _, student in result.widths.values()]


@pytest.mark.parametrize(
    ("told", "widths"),
    [
        ([8, 12, 20, 5, 6, 7, 10, 4], [8, 12, 20, 5, 6, 7, 10, 4]),
        ([8, 12, 20, 5, 10, 4], [8, 12, 20, 5, 5, 5, 10, 4]),
        ([8, 16, 32, 5, 0, 7, 16, 8], [8, 16, 32, 5, 0, 7, 16, 8]),
    ],
)
@pytest.mark.parametrize("calibrate", [0, 2])
def test_widths_that_are_told(
    told: list[int], widths: list[int], calibrate: int, teacher: Path, tmp_path: Path
) -> None:
    result = prune(teacher, widths=told, output=tmp_path / "s.pth", calibrate=calibrate)
    assert widths_of(result) == widths
    options = load_generator(tmp_path / "s.pth").architecture.options
    assert options["encoder"] == widths[:2]
    assert options["stream"] == widths[2]
    assert options["inner"] == [width for width in widths[3:6] if width]
    assert options["decoder"] == widths[6:]
    assert (result.expected_psnr_db is None) == (calibrate == 0)
    assert (result.psnr_db is None) == (calibrate == 0)


def test_uniform_widths_can_drop_blocks(teacher: Path, tmp_path: Path) -> None:
    result = prune(
        teacher, ratio=3, widths="uniform", drop_blocks=1, output=tmp_path / "s.pth", calibrate=2
    )
    assert len(result.architecture.options["inner"]) == 2
    assert widths_of(result).count(0) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "nothing says how small"),
        ({"ratio": 2, "widths": [1] * 8}, "a target and widths in numbers"),
        ({"widths": [1, 2, 3]}, "3 widths were given; the teacher has 8,16,32,32,32,32,16,8"),
        ({"widths": [9, 12, 20, 5, 10, 4]}, "width 9 is not allowed for model.1; give 1 to 8"),
        ({"widths": [8, 0, 20, 5, 10, 4]}, "width 0 is not allowed for model.4"),
        ({"widths": [8, 16, 32, 32, 16, 8]}, "these are the teacher's widths"),
        ({"widths": [8, 16, 32, 0, 16, 8]}, "leave no residual block"),
        ({"widths": "narrow", "ratio": 2}, "widths 'narrow' is not known"),
        ({"prefer": "looks", "ratio": 2}, "prefer 'looks' is not known"),
        ({"prefer": "speed", "widths": "uniform", "ratio": 2}, "prefer speed is for a search"),
        ({"prefer": "speed", "latency_ms": 1.0}, "and so does a latency"),
        ({"widths": "search", "ratio": 2, "calibrate": 0}, "a search of widths needs images"),
        ({"drop_blocks": 1, "ratio": 2, "calibrate": 0}, "dropping blocks needs images"),
        ({"drop_blocks": 3, "ratio": 2}, "of 3 blocks, one has to stay"),
        ({"drop_blocks": -1, "ratio": 2}, "give 0 or more"),
        ({"round_to": 0, "ratio": 2}, "round_to is 0"),
        ({"round_to": 8, "widths": [8, 12, 20, 5, 10, 4]}, "taken as they are"),
        ({"ratio": 2, "size": (30, 64)}, "size 30x64 does not fit"),
        ({"ratio": 2, "latency_ms": 3.0}, "ratio and latency were given"),
        ({"latency_ms": 0.0}, "latency 0 is not allowed"),
        ({"latency_ms": 1e9, "calibrate": 1, "size": (64, 64)}, "no less than the teacher's"),
    ],
    ids=str,
)
def test_what_cannot_be_asked(
    options: dict[str, Any], said: str, teacher: Path, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=said):
        prune(teacher, output=tmp_path / "s.pth", **({"calibrate": 2} | options))
    assert not (tmp_path / "s.pth").exists()


def test_a_unet_has_no_blocks_to_drop(tmp_path: Path) -> None:
    torch.save(unet_state_dict(0, downs=5, ngf=4), tmp_path / "teacher.pth")
    with pytest.raises(OptionError, match="no residual blocks"):
        prune(tmp_path / "teacher.pth", ratio=2, drop_blocks=1, calibrate=1)


def test_a_latency_is_measured(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each attempt exports a student. How they are corrected is the next test's matter.
    monkeypatch.setattr("wkdc.pruning.latency_target.ATTEMPTS", 2)
    options: dict[str, Any] = {"size": (64, 64), "calibrate": 1, "output": tmp_path / "s.pth"}
    with pytest.raises(TargetError, match=r"infeasible: 1e-06 ms; the smallest network takes"):
        prune(teacher, latency_ms=1e-6, **options)
    assert not (tmp_path / "s.pth").exists()
    result = prune(teacher, ratio=1.3, by="latency", **options)
    assert result.clock is not None
    assert (result.clock.size, result.clock.device) == ((64, 64), "cpu")
    assert result.clock.expected_ms is not None
    assert min(result.clock.teacher_ms, result.clock.student_ms, result.clock.expected_ms) > 0
    # What a small network takes is mostly noise, so only the model's answer is certain.
    assert result.clock.expected_ms < result.clock.teacher_ms
    assert load_generator(tmp_path / "s.pth").architecture == result.architecture


@pytest.mark.parametrize("power", [0.8, 1.25])
@pytest.mark.parametrize("target", [{"latency_ms": 40.0}, {"ratio": 5, "by": "latency"}], ids=str)
def test_widths_are_corrected_by_what_is_measured(
    target: dict[str, Any],
    power: float,
    teacher: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a machine that the model does not know: it has overhead, and its time is no line."""

    @contextmanager
    def stopwatch(*_: object) -> Iterator[Callable[[Plan], Clock]]:
        def clock_of(plan: Plan) -> Clock:
            def took(widths: list[int]) -> float:
                full = [group.channels for group in plan.groups]
                share = plan.cost.of("clock", widths) / plan.cost.of("clock", full)
                return 5 + 195 * share**power

            student = took([len(kept) for kept in plan.kept])
            return Clock(200.0, student, student, (64, 64), "cpu")

        yield clock_of

    monkeypatch.setattr("wkdc.pruning.latency_target.stopwatch", stopwatch)
    torch.save(resnet_state_dict(0, blocks=3, ngf=32), teacher)
    said: list[str] = []
    result = prune(
        teacher,
        output=tmp_path / "s.pth",
        size=(64, 64),
        calibrate=1,
        on_notice=said.append,
        **target,
    )
    clock = result.clock
    assert clock is not None
    assert clock.wanted_ms == 40
    # Uncorrected it would be off by a quarter; padded widths come in steps of some percent.
    assert clock.student_ms == pytest.approx(40, rel=0.05)
    assert clock.met == (not said)


@pytest.mark.parametrize("kind", ["multiscale", pytest.param("patchgan", marks=pytest.mark.slow)])
def test_a_discriminator_can_be_planned(kind: str, tmp_path: Path) -> None:
    weights = (
        patchgan_state_dict(0, ndf=16)
        if kind == "patchgan"
        else multiscale_state_dict(0, scales=2, ndf=16, in_channels=3)
    )
    torch.save(weights, tmp_path / "net_D.pth")
    result = prune(tmp_path / "net_D.pth", ratio=4, calibrate=2, size=(64, 64), dry_run=True)
    assert result.clock is not None
    assert result.expected_psnr_db is None


def test_an_unknown_device(teacher: Path) -> None:
    with pytest.raises(DeviceError, match="device 'tpu' is not known"):
        prune(teacher, ratio=2, device="tpu")


def test_a_dry_run_writes_nothing(
    teacher: Path, tmp_path: Path, call_wkdc: Callable[..., Called], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(tmp_path.iterdir())
    size = (64, 64)
    result = prune(teacher, ratio=3, calibrate=2, dry_run=True, output=teacher, size=size)
    assert (result.output, result.student_bytes, result.layers) == (None, None, ())
    assert result.clock is not None
    monkeypatch.chdir(tmp_path)
    dry_run = ("--dry-run", "--size", 64)
    done = call_wkdc("prune", teacher, "--ratio", 3, "--calibrate", 2, *dry_run, "--json")
    plan = json.loads(done.stdout)
    assert done.code == 0
    assert plan["output"] is None
    assert plan["latency_ms"]["teacher"] > 0
    assert [student for _, student in plan["widths"].values()] == widths_of(result)
    assert sorted(tmp_path.iterdir()) == before
    shown = call_wkdc("prune", teacher, "--ratio", 3, "--calibrate", 2, *dry_run)
    assert "a dry run" in shown.stdout
    assert "without --dry-run" in shown.stdout


def test_targets() -> None:
    teacher = Complexity(1000, 8000, 9000)
    for given, quantity, amount, ratio in (
        ({"ratio": 4}, "params", 250, 4),
        ({"ratio": 4, "by": "macs"}, "macs", 2000, 4),
        ({"ratio": 4, "by": "latency"}, "latency", None, 4),
        ({"params": 100}, "params", 100, 10),
        ({"macs": 4000}, "macs", 4000, 2),
        ({"latency_ms": 20.0}, "latency", 20, None),
    ):
        target = read_target(teacher, **given)  # type: ignore[arg-type]
        assert target is not None
        assert (target.quantity, target.amount, target.ratio) == (quantity, amount, ratio)
    assert read_target(teacher) is None


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--latency", "80 parsecs", "give milliseconds, such as 80ms"),
        ("--widths", "32;96", "numbers with commas"),
        ("--round-to", "often", "give auto, or a number"),
        ("--params", "7 GB", "1.6M"),
    ],
)
def test_values_that_are_not_understood(
    option: str, value: str, said: str, teacher: Path, call_wkdc: Callable[..., Called]
) -> None:
    done = call_wkdc("prune", teacher, option, value)
    assert done.code == 2
    (line,) = done.errors
    assert said in line
    assert "is not understood" in line
