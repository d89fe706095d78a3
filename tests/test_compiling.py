"""torch.compile: that all is compiled, and that training with it learns the same."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Called
from torch import Tensor, nn

from wkdc.checkpoint import load_generator
from wkdc.compiling import compiled
from wkdc.errors import DeviceError

TRAINING = (
    *("distill", "--data", "photos", "--crop", 32, "--load-size", 48, "--precision", "float32"),
    *("--steps", 4, "--cache", "off"),
)


class Times(nn.Module):
    """Says what it is multiplied by only when Python, not compiled code, runs it."""

    def __init__(self, number: int, ran: list[int]) -> None:
        super().__init__()
        self.number, self.ran = number, ran

    def forward(self, images: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            self.ran.append(self.number)
        return images * self.number


def test_more_networks_than_pytorch_allows_are_compiled() -> None:
    """Its limit is 8 of one class; those after it would run as they are, without a word."""
    ran: list[int] = []
    images = torch.rand(1, 3, 8, 8)
    for number in range(10):
        call = compiled(Times(number, ran))
        try:
            assert torch.equal(call(images), images * number)
        except DeviceError as error:  # no compiler here
            assert "leave out --compile" in str(error)  # noqa: PT017
            return
    assert ran == []


def losses_of(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in line if key != "seconds"} for line in lines]


@pytest.mark.usefixtures("student", "photos")
def test_compiled_steps_learn_the_same(run_wkdc: Callable[..., Called], tmp_path: Path) -> None:
    plain = run_wkdc(*TRAINING, "--output", "plain.pth", "--runs", "plain")
    assert plain.code == 0, plain.stderr
    done = run_wkdc(*TRAINING, "--output", "compiled.pth", "--runs", "compiled", "--compile")
    if done.code == 2:  # no compiler here
        (error,) = done.errors
        assert "leave out --compile" in error
        return
    assert done.code == 0, done.stderr
    ours, theirs = (losses_of(tmp_path / name / "distill-001") for name in ("compiled", "plain"))
    assert len(ours) == 4
    for one, other in zip(ours, theirs, strict=True):
        # The same sums in another order; Adam makes steps of equal size of gradients near zero.
        assert one == pytest.approx(other, rel=1e-3)
    assert load_generator(tmp_path / "compiled.pth").card is not None
    again = run_wkdc(*TRAINING, "--output", "again.pth", "--runs", "again", "--compile")
    assert again.code == 0, again.stderr
    whole, same = (
        load_generator(tmp_path / name).network.state_dict().values()
        for name in ("compiled.pth", "again.pth")
    )
    assert all(torch.equal(a, b) for a, b in zip(whole, same, strict=True))
