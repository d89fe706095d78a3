"""How fast a training step is beside one in the manner of the reference implementation.

    python tests/benchmarks/reference_step.py [--size 128] [--size 256] [--device cuda]

Both directions, teachers of ngf 64, students of ngf 16, one image a step, and the same losses:
adversarial, wavelet, cycle, identity. The reference is written from the paper's description: plain
PyTorch in float32, discriminators of ndf 64, and each step lets both teachers also draw their own
images back, which nobody reads. Its images are in memory; ours read and cut theirs. Ours adds
one lever after the other. Steps are timed in turn, the fastest counts; memory is the peak of a
process of its own, or what PyTorch allocated on a GPU.
"""

import argparse
import dataclasses
import itertools
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.nn import functional

from wkdc.checkpoints.card import make_card
from wkdc.checkpoints.checkpoint import load_generator, save_generator
from wkdc.data.images import load_square
from wkdc.data.layouts import Layout
from wkdc.data.photos import photo_paths
from wkdc.metrics.wavelet import decompose
from wkdc.networks.layers import initialise
from wkdc.networks.patchgan import PatchGAN, patchgan_widths
from wkdc.networks.stock import stock_architecture
from wkdc.training.device import Compute
from wkdc.training.direction import Pair, TrainingDirection
from wkdc.training.distributed import Processes
from wkdc.training.recipe import PAPER, Precision, Recipe
from wkdc.training.trainer import Trainer

Step = Callable[[], object]

SAME = dataclasses.replace(PAPER, ndf=64)
REUSE = dataclasses.replace(SAME, reuse=6)
SMALL = dataclasses.replace(PAPER, reuse=6)
LEVERS: dict[str, tuple[Recipe, Precision, bool]] = {
    "no unread passes": (SAME, "float32", False),
    "and the precision that pays here": (SAME, "auto", False),
    "and the teachers draw ahead, a crop for 6 steps": (REUSE, "auto", False),
    "and torch.compile": (REUSE, "auto", True),
    "and compressed discriminators, ndf 32": (SMALL, "auto", True),
}
"""Recipe, precision, and whether it is compiled."""
AHEAD = 2
"""Crops that each teacher draws ahead here: enough to time it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, action="append")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    names = ["reference", *LEVERS]
    for size in options.size or [128, 256]:
        with TemporaryDirectory() as folder:
            steps = {name: made(name, size, options.device, Path(folder)) for name in names}
            times: dict[str, list[float]] = {name: [] for name in names}
            for number in range(options.rounds + 1):
                for name, (step, before) in steps.items():
                    took = timed(step, options.device) + before
                    if number:
                        times[name].append(took)
        slowest = min(times["reference"])
        most = peak_memory("reference", size, options.device)
        for name in names:
            took, memory = min(times[name]), peak_memory(name, size, options.device)
            print(
                f"| {size} | {name} | {1000 * took:.0f} ms | {1 / took:.2f} | "
                f"{slowest / took:.2f}x | {memory / 1e6:.0f} MB, {memory / most:.2f}x |",
                flush=True,
            )


def made(name: str, size: int, device: str, folder: Path) -> tuple[Step, float]:
    """A step, and the seconds that it costs in advance."""
    if name == "reference":
        return reference(size, device), 0.0
    return ours(*LEVERS[name], size, device, folder)


def timed(step: Step, device: str) -> float:
    started = time.perf_counter()
    step()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def peak_memory(name: str, size: int, device: str) -> float:
    """Bytes at the peak of two steps in a process of their own."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=run_alone, args=(name, size, device, queue))
    process.start()
    found: float = queue.get()
    process.join()
    return found


def run_alone(name: str, size: int, device: str, queue: "multiprocessing.Queue[float]") -> None:
    with TemporaryDirectory() as folder:
        step, _ = made(name, size, device, Path(folder))
        for _ in range(2):
            step()
    if device == "cpu":
        # Not getrusage, whose peak counts the process that this one was started from.
        lines = Path("/proc/self/status").read_text().splitlines()
        (line,) = (one for one in lines if one.startswith("VmHWM"))
        queue.put(1024.0 * int(line.split()[1]))
    else:
        queue.put(float(torch.cuda.max_memory_allocated()))


def generator(ngf: int) -> nn.Module:
    architecture = stock_architecture("resnet", ngf=ngf, blocks=9, norm="instance", side=256)
    network = architecture.build()
    initialise(network)
    return network


def reference(size: int, device: str) -> Step:
    """One step of both students, as the paper's code is described."""
    torch.manual_seed(0)
    teachers = [generator(64).to(device).eval().requires_grad_(False) for _ in range(2)]
    there, back = (generator(16).to(device) for _ in range(2))
    discriminators = [PatchGAN(3, widths=patchgan_widths(64)).to(device) for _ in range(2)]
    students = itertools.chain(there.parameters(), back.parameters())
    learn = torch.optim.Adam(students, 2e-4, (0.5, 0.999))
    tell_apart = torch.optim.Adam(
        itertools.chain(*(j.parameters() for j in discriminators)), 2e-4, (0.5, 0.999)
    )
    a, b = (load_square(path, size).to(device) for path in photo_paths()[:2])

    def wavelet(generated: Tensor, wanted: Tensor) -> Tensor:
        ours, theirs = decompose(generated).high, decompose(wanted).high
        pairs = zip(ours, theirs, strict=True)
        return torch.stack([functional.l1_loss(x, y) for x, y in pairs]).sum()

    def step() -> None:
        fake_b, fake_a = there(a), back(b)
        again_a, again_b = back(fake_b), there(fake_a)
        with torch.no_grad():
            taught_b, taught_a = teachers[0](a), teachers[1](b)
            teachers[1](taught_b), teachers[0](taught_a)
        for network in discriminators:
            network.requires_grad_(False)
        learn.zero_grad()
        same = functional.l1_loss(there(b), b) + functional.l1_loss(back(a), a)
        cycle = functional.l1_loss(again_a, a) + functional.l1_loss(again_b, b)
        fooled = (discriminators[0](fake_b) - 1).square().mean() + (
            discriminators[1](fake_a) - 1
        ).square().mean()
        near = wavelet(fake_b, taught_b) + wavelet(fake_a, taught_a)
        (5 * same + 10 * cycle + fooled + 0.4 * near).backward()
        learn.step()
        for network in discriminators:
            network.requires_grad_(True)
        tell_apart.zero_grad()
        for network, real, fake in zip(discriminators, (b, a), (fake_b, fake_a), strict=True):
            loss = (network(real) - 1).square().mean() + network(fake.detach()).square().mean()
            (loss / 2).backward()
        tell_apart.step()

    return step


def ours(
    recipe: Recipe, precision: Precision, compiled: bool, size: int, device: str, folder: Path
) -> tuple[Step, float]:
    """One step of both students as `wkdc distill` takes it, and its share of drawing ahead."""
    torch.manual_seed(0)
    recipe = dataclasses.replace(recipe, crop=size, load_size=size)
    paths = photo_paths()
    layout = Layout("unpaired", tuple(paths[:10]), tuple(paths[10:20]), tuple(paths[:1]), False)
    layout = dataclasses.replace(layout, real_validation=tuple(paths[10:11]))
    files = {}
    for name, ngf in (("teacher", 64), ("student", 16)):
        architecture = stock_architecture("resnet", ngf=ngf, blocks=9, norm="instance", side=size)
        files[name] = folder / f"{name}.pth"
        network = architecture.build()
        initialise(network)
        save_generator(files[name], network, make_card(architecture, None, []))
    processes = Processes(0, 1, torch.device(device))
    compute = Compute.of(processes.device, precision, recipe.batch, compiled=compiled)
    sides = [
        TrainingDirection(
            Pair(load_generator(files["student"]), load_generator(files["teacher"]), one),
            recipe,
            compute,
            processes,
            seed=seed,
        )
        for seed, one in enumerate((layout, layout.reversed()))
    ]
    there, back = (side.student for side in sides)
    learners = [sides[0].learner(back), sides[1].learner(there, prefix="reverse_")]
    trainer = Trainer(learners, recipe, processes)
    before = 0.0
    if recipe.reuse > 1:
        for number in range(AHEAD):
            started = time.perf_counter()
            for side in sides:
                side.compute_ahead(number)
            before = time.perf_counter() - started
        for side in sides:
            side.use_targets(AHEAD)
    numbers = itertools.count()

    def step() -> None:
        number = next(numbers)
        trainer.step([[side.batch(number) for side in sides]], 0.25)

    return step, before / recipe.reuse


if __name__ == "__main__":
    main()
