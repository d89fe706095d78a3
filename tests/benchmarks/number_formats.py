"""What a training step takes in float32 and in bfloat16, and how long the teacher takes for it.

    python tests/benchmarks/number_formats.py teacher.pth student.pth

Forward, backward and optimiser of the default losses on noise, 4 crops of 128x128, all in turn; the
fastest of 8.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from wkdc.benchmark.latency import time_in_turn
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.training.device import Compute, trainable
from wkdc.training.objective import Batch, Objective
from wkdc.training.recipe import FAITHFUL, Precision
from wkdc.training.trainer import make_optimizer

ROUNDS = 8
FORMATS: tuple[Precision, ...] = ("float32", "bfloat16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("teacher", type=Path)
    parser.add_argument("student", type=Path)
    given = parser.parse_args()
    shape = (FAITHFUL.batch, 3, FAITHFUL.crop, FAITHFUL.crop)
    inputs, targets = (torch.rand(shape) * 2 - 1 for _ in range(2))
    calls: dict[str, Callable[[], object]] = {}
    for precision in FORMATS:
        compute = Compute.of(torch.device("cpu"), precision, FAITHFUL.batch)
        student = trainable(compute.move(load_generator(given.student).network))
        teacher = compute.move(load_generator(given.teacher).network)
        objective = Objective(
            FAITHFUL,
            None,
            conditional=False,
            forward=compute.forward,
            layer_outputs=compute.layer_outputs,
            seed=0,
        )
        optimizer = make_optimizer([student], FAITHFUL)

        def step(
            student: torch.nn.Module = student,
            objective: Objective = objective,
            optimizer: torch.optim.Optimizer = optimizer,
        ) -> None:
            optimizer.zero_grad()
            generated = objective.forward(student, inputs)
            losses = objective.student_losses(student, generated, Batch(inputs, targets))
            losses["total"].backward()
            optimizer.step()

        def translate(teacher: torch.nn.Module = teacher, compute: Compute = compute) -> None:
            with torch.no_grad():
                compute.forward(teacher, inputs)

        calls |= {
            f"student's step, {precision}": step,
            f"teacher, {precision}": translate,
        }
    for name, latency in time_in_turn(calls, ROUNDS).items():
        print(f"{name}: {latency.fastest:.0f} ms")


if __name__ == "__main__":
    main()
