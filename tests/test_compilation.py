"""torch.compile: that all is compiled, once, and that training with it learns the same."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Called
from originals import resnet_state_dict
from torch import Tensor, nn

import wkdc
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.distill import FAITHFUL, StepReport, distill
from wkdc.system.compilation import compiled
from wkdc.training.features import BlockFeatures

pytestmark = pytest.mark.usefixtures("small_validation")

COMPILER = any(map(shutil.which, ("g++", "clang++", "c++")))

# With --reuse 6, maps of features would fit the few crops exactly: noise is their loss.
RECIPE = dataclasses.replace(
    FAITHFUL,
    crop=32,
    load_size=48,
    batch=2,
    reuse=2,
    optimizer="adamw",
    learning_rate=5e-4,
)


@pytest.fixture
def small_student(tmp_path: Path) -> Path:
    """A student of one block, and its teacher beside it: compilers take seconds a layer."""
    torch.save(resnet_state_dict(0, blocks=1, ngf=4), tmp_path / "teacher.pth")
    output = tmp_path / "student.pth"
    wkdc.prune(tmp_path / "teacher.pth", ratio=2, output=output, calibrate=0)
    return output


class Doubled(nn.Module):
    """Doubles a matrix some times; says how often only when Python, not compiled code, runs it."""

    def __init__(self, times: int, ran: list[int]) -> None:
        super().__init__()
        self.times, self.ran = times, ran
        self.register_buffer("twice", 2 * torch.eye(8))

    def forward(self, matrix: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            self.ran.append(self.times)
        for _ in range(self.times):
            matrix = matrix @ self.get_buffer("twice")  # for which no C++ is compiled
        return matrix


def test_no_compiler_is_said(
    small_student: Path, photos: Path, run_wkdc: Callable[..., Called]
) -> None:
    """In a process of its own: PyTorch remembers for good that there is none."""
    before = small_student.read_bytes()
    lacking = {
        "CXX": "/nowhere/g++",
        "TORCHINDUCTOR_CACHE_DIR": str(small_student.parent / "made"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # others take seconds to start
    }
    done = run_wkdc("distill", "--data", photos, "--compile", "--steps", 1, set_=lacking)
    assert (done.code, len(done.errors)) == (1, 1), done.stderr
    assert "leave out --compile" in done.errors[0]
    assert "Traceback" not in done.stderr
    assert small_student.read_bytes() == before


@pytest.mark.skipif(not COMPILER, reason="there is no compiler")
def test_more_networks_than_pytorch_allows_are_compiled() -> None:
    """Its limit is 8 of one class; those after it would run as they are, without a word."""
    ran: list[int] = []
    matrix = torch.rand(8, 8)
    for times in range(1, 10):
        assert torch.equal(compiled(Doubled(times, ran))(matrix), matrix * 2**times)
    assert ran == []


@pytest.mark.skipif(not COMPILER, reason="there is no compiler")
def test_a_watched_network_is_none_that_was_compiled_before(small_student: Path) -> None:
    network = load_generator(small_student).network
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        compiled(network)(images)
        watched = BlockFeatures(network)
        compiled(network)(images)
        found = watched.take()
        network(images)
        wanted = watched.take()
    assert len(found) == len(wanted) == 4
    for one, other in zip(found, wanted, strict=True):
        # Sums of some hundred products in another order, through some layers.
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not COMPILER, reason="there is no compiler")
def test_compiled_steps_learn_the_same_and_go_on(small_student: Path, photos: Path) -> None:
    folder = small_student.parent

    def run(name: str, **more: Any) -> Path:
        result = distill(
            photos,
            student=small_student,
            output=folder / f"{name}.pth",
            recipe=RECIPE,
            steps=4,
            precision="float32",
            runs=folder / name,
            **more,
        )
        return result.run

    def stop(report: StepReport) -> None:
        if (report.phase, report.step) == ("train", 2):
            raise KeyboardInterrupt

    plain = run("plain")
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    ours = run("compiled", compiled=True)
    # Teacher and student, each once: not again after the student has made its samples.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
    losses, others = (
        [json.loads(line) for line in (one / "metrics.jsonl").read_text().splitlines()]
        for one in (ours, plain)
    )
    assert len(losses) == 4
    for one, other in zip(losses, others, strict=True):
        # The same sums in another order; Adam makes steps of equal size of gradients near zero.
        assert one == pytest.approx(other | {"seconds": one["seconds"]}, rel=1e-3)
    stopped = run("stopped", compiled=True, on_step=stop)
    assert wkdc.resume(stopped).steps == 4
    whole, resumed = (
        load_generator(folder / f"{name}.pth").network.state_dict().values()
        for name in ("compiled", "stopped")
    )
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))
