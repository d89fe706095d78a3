"""Whether losses of other compression methods bring a student nearer than the default's alone.

    python tests/benchmarks/peers.py --student student.pth --data photo2vintage default features:1

FOLDER holds trainA, trainB and testA. Each row is a loss, and the weight at which it is added to
those of `--recipe faithful` without features. All see the same crops, each translated once by the
teacher, whose features are kept beside the image. Weights are to be chosen by `selection`, a tenth
of trainA that is set aside; `testA` decides nothing. Rows go to a JSON file as they are made; the
table is of all that it holds.

- `features`: blocks' features through 1x1 maps, mean squared difference (GAN-Compression, Li et
  al. 2020). The maps start as least squares over the first crops and learn along.
- `alignment`: one less the kernel alignment of blocks' features, over images and places (CAT,
  Jin et al. 2021). It needs no maps.
- `discriminator`: absolute difference of the images in the features of the teacher's discriminator,
  after DCD (Hu et al. 2023), which passes the generators' features through it, too. There is no
  such file for a teacher by itself, so one is trained here on trainB and the teacher's images.
- `energy`: how far the energy of each image's details is from the teacher's, by level and
  direction: the difference of logarithms. The other losses favour less energy where it is not sure
  where detail belongs.

Differences of features are over the teacher's own size, so that layers count alike.
"""

import argparse
import dataclasses
import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wkdc.checkpoints.reading import Reading
from wkdc.data.images import load_square, pixels_to_images
from wkdc.data.inputs import part_loader
from wkdc.data.layouts import read_layout
from wkdc.metrics.fidelity import mean_fidelity
from wkdc.metrics.wavelet import decompose
from wkdc.networks.layers import initialise
from wkdc.networks.patchgan import PatchGAN, patchgan_widths
from wkdc.training.crops import Crops, shuffled
from wkdc.training.device import Compute, trainable
from wkdc.training.losses import discriminator_loss, pixel_loss, wavelet_loss
from wkdc.training.recipe import FAITHFUL, RATES
from wkdc.training.setup import load_pair
from wkdc.training.trainer import Averager, make_optimizer, rate_factor

SIDE = 256
STAGES = (9, 12, 15, 18)
"""Layers of a ResNet-9 whose features are compared, as GAN-Compression has them: the last of the
encoder, and every third block."""

COMPARED = (1, 4, 7, 10)
"""Layers of the discriminator whose features are compared: all but the scores."""

DISCRIMINATOR_STEPS = 100

Loss = Callable[[Tensor, list[int]], Tensor]
"""What is added to the loss of what the student drew from these crops."""


@dataclasses.dataclass(frozen=True)
class Pool:
    """Crops, what the teacher makes of them, and its features there, a tensor for each stage."""

    inputs: Tensor
    targets: Tensor
    features: list[Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "rows", nargs="*", help="default, or features|alignment|discriminator|energy:WEIGHT"
    )
    parser.add_argument("--student", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("peers.json"))
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seed", type=int, action="append")
    options = parser.parse_args()
    rows = json.loads(options.output.read_text()) if options.output.exists() else {}
    for name, seed in itertools.product(options.rows, options.seed or [0]):
        key = f"{name}, seed {seed}"
        if key not in rows:
            rows[key] = run(options, name, seed)
            options.output.write_text(json.dumps(rows, indent=1))
            print(key, json.dumps(rows[key]), flush=True)
    print_table(rows)


def run(options: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """Train the student with one more loss; what it then generates, and how long that took."""
    torch.manual_seed(seed)
    learner, guide = load_pair(options.student, None, Reading())
    compute = Compute.of(torch.device("cpu"), "auto", FAITHFUL.batch)
    teacher, student = compute.move(guide.network), trainable(compute.move(learner.network))
    layout = read_layout(options.data, select=True)
    crops, real = (
        Crops(
            paths,
            part_loader(layout, 3, 3),
            load_size=FAITHFUL.load_size,
            crop=FAITHFUL.crop,
            seed=seed,
        )
        for paths in (layout.train, layout.real)
    )
    seen, features = watched(student, STAGES)
    pool = targets_of(teacher, compute, crops, -(-options.steps * FAITHFUL.batch // FAITHFUL.reuse))
    kind, _, weight = name.partition(":")
    learning = [student]
    started = time.monotonic()
    match kind:
        case "default":
            more: Loss | None = None
        case "features":
            with torch.no_grad():
                compute.forward(student, pool.inputs[:16])
            maps = mapped(features(), [one[:16].float() for one in pool.features])
            learning.append(maps)
            more = features_loss(maps, features, pool)
        case "alignment":
            more = alignment_loss(features, pool)
        case "discriminator":
            more = discriminator_features_loss(
                trained_discriminator(compute, pool, real), compute, pool
            )
        case "energy":
            more = energy_loss(pool)
        case _:
            raise SystemExit(f"{name} is no row; give default, or KIND:WEIGHT (see --help)")
    prepared = time.monotonic()
    optimizer, average = make_optimizer(learning, FAITHFUL), Averager(student)
    for step in range(options.steps):
        start = step * FAITHFUL.batch
        places = [shuffled(len(pool.inputs), i, seed) for i in range(start, start + FAITHFUL.batch)]
        for group in optimizer.param_groups:
            rate = rate_factor(FAITHFUL.schedule, step / options.steps)
            group["lr"] = RATES[FAITHFUL.optimizer] * rate
        generated = compute.forward(student, pool.inputs[places])
        loss = default_loss(generated, pool.targets[places])
        if more is not None:
            loss = loss + float(weight) * more(generated, places)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step >= FAITHFUL.average_from * options.steps:
            average.update(student)
    trained = time.monotonic()
    seen.clear()
    return {
        "steps": options.steps,
        "prepared_seconds": round(prepared - started, 1),
        "seconds": round(trained - prepared, 1),
        "selection": near(average.network, teacher, layout.selection),
        "testA": near(average.network, teacher, layout.validation),
    }


def default_loss(generated: Tensor, targets: Tensor) -> Tensor:
    """What `--recipe faithful` minimises."""
    recipe = FAITHFUL
    details = wavelet_loss(generated, targets, levels=recipe.levels, reduction=recipe.reduction)
    return recipe.wavelet_weight * details + recipe.pixel * pixel_loss(generated, targets)


def watched(
    network: nn.Module, layers: tuple[int, ...]
) -> tuple[dict[int, Tensor], Callable[[], list[Tensor]]]:
    """Where the outputs of these layers of `network.model` lie after a call, and as a list."""
    seen: dict[int, Tensor] = {}

    def keep(layer: int) -> Callable[..., None]:
        def hook(_: nn.Module, __: object, out: Tensor) -> None:
            seen[layer] = out

        return hook

    for layer in layers:
        network.get_submodule(f"model.{layer}").register_forward_hook(keep(layer))
    return seen, lambda: [seen[layer].float() for layer in layers]


@torch.no_grad()
def targets_of(teacher: nn.Module, compute: Compute, crops: Crops, count: int) -> Pool:
    """`count` crops as the teacher translates them."""
    seen, features = watched(teacher, STAGES)
    inputs, targets, kept = [], [], []
    for start in range(0, count, FAITHFUL.batch):
        (pixels,) = crops.batch(start, min(FAITHFUL.batch, count - start))
        inputs.append(pixels_to_images(pixels))
        targets.append(compute.forward(teacher, inputs[-1]))
        kept.append([one.half() for one in features()])
    seen.clear()
    stages = [torch.cat(stage) for stage in zip(*kept, strict=True)]
    return Pool(torch.cat(inputs), torch.cat(targets), stages)


def rows_of(features: Tensor) -> Tensor:
    """N×C×H×W -> a row of C for each place of each image."""
    return features.movedim(1, -1).flatten(0, 2)


def mapped(ours: list[Tensor], theirs: list[Tensor]) -> nn.ModuleList:
    """1x1 maps from the student's features to the teacher's, the best for these."""
    maps = nn.ModuleList()
    for mine, wanted in zip(ours, theirs, strict=True):
        conv = nn.Conv2d(mine.shape[1], wanted.shape[1], 1, bias=False)
        found = torch.linalg.lstsq(rows_of(mine), rows_of(wanted)).solution
        with torch.no_grad():
            conv.weight.copy_(found.T[:, :, None, None])
        maps.append(conv)
    return maps


def features_loss(maps: nn.ModuleList, features: Callable[[], list[Tensor]], pool: Pool) -> Loss:
    def loss(generated: Tensor, places: list[int]) -> Tensor:
        wrong = []
        for one, mine, stage in zip(maps, features(), pool.features, strict=True):
            wanted = stage[places].float()
            wrong.append((one(mine) - wanted).square().mean() / wanted.square().mean())
        return torch.stack(wrong).sum()

    return loss


def alignment_loss(features: Callable[[], list[Tensor]], pool: Pool) -> Loss:
    def loss(generated: Tensor, places: list[int]) -> Tensor:
        pairs = zip(features(), pool.features, strict=True)
        return torch.stack(
            [1 - alignment(rows_of(x), rows_of(y[places].float())) for x, y in pairs]
        ).sum()

    return loss


def alignment(x: Tensor, y: Tensor) -> Tensor:
    """Of two sets of features, a row for each place: 1 where one is the other, turned or scaled."""
    return (y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())


def trained_discriminator(compute: Compute, pool: Pool, real: Crops) -> nn.Module:
    """A discriminator of true images against the teacher's."""
    discriminator = PatchGAN(3, widths=patchgan_widths(64))
    initialise(discriminator)
    discriminator = compute.move(discriminator).train()
    optimizer = torch.optim.Adam(discriminator.parameters(), 2e-4, (0.5, 0.999))
    for step in range(DISCRIMINATOR_STEPS):
        (pixels,) = real.batch(step * FAITHFUL.batch, FAITHFUL.batch)
        places = [(step * FAITHFUL.batch + i) % len(pool.targets) for i in range(FAITHFUL.batch)]
        scores = [
            compute.forward(discriminator, images)
            for images in (pixels_to_images(pixels), pool.targets[places])
        ]
        loss = discriminator_loss(*scores)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return discriminator.eval().requires_grad_(False)


def discriminator_features_loss(discriminator: nn.Module, compute: Compute, pool: Pool) -> Loss:
    _, features = watched(discriminator, COMPARED)

    def loss(generated: Tensor, places: list[int]) -> Tensor:
        with torch.no_grad():
            compute.forward(discriminator, pool.targets[places])
        wanted = features()
        compute.forward(discriminator, generated)
        pairs = zip(features(), wanted, strict=True)
        return torch.stack([(x - y).abs().mean() / y.abs().mean() for x, y in pairs]).sum()

    return loss


def energy_loss(pool: Pool) -> Loss:
    def loss(generated: Tensor, places: list[int]) -> Tensor:
        made, wanted = energies(generated), energies(pool.targets[places])
        return (made / wanted).log().abs().mean()

    return loss


def energies(images: Tensor) -> Tensor:
    """Mean square of each image's details by channel, level and direction; never quite 0."""
    details = decompose(images.float()).high
    return torch.cat([level.square().mean((-2, -1)).flatten(1) for level in details], 1) + 1e-6


@torch.inference_mode()
def near(student: nn.Module, teacher: nn.Module, paths: tuple[Path, ...]) -> dict[str, float]:
    """How near the student's images are to the teacher's."""

    images = [load_square(path, SIDE) for path in paths]
    pairs = [(student(image), teacher(image)) for image in images]
    found = mean_fidelity(iter(pairs))
    shares = [finest(made) / finest(wanted) for made, wanted in pairs]
    return {
        "psnr_db": found.psnr_db,
        "high_band_error": found.high_band_error,
        "energy": statistics.mean(shares),
    }


def finest(image: Tensor) -> float:
    """The energy of the finest level's diagonal details."""
    return float(decompose(image).high[0][:, :, 2].square().mean())


def print_table(rows: dict[str, Any]) -> None:
    """Each row over its seeds in Markdown: mean, and largest less smallest."""
    for name in dict.fromkeys(key.partition(", seed")[0] for key in rows):
        found = [row for key, row in rows.items() if key.partition(", seed")[0] == name]
        cells = [name, str(len(found))]
        for part in ("selection", "testA"):
            for key, digits in (("psnr_db", 2), ("high_band_error", 4), ("energy", 3)):
                values = [row[part][key] for row in found]
                spread = max(values) - min(values)
                cells.append(f"{statistics.mean(values):.{digits}f} ({spread:.{digits}f})")
        cells.append(f"{statistics.mean(row['seconds'] for row in found):.0f} s")
        cells.append(f"{statistics.mean(row['prepared_seconds'] for row in found):.0f} s")
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
