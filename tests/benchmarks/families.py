"""A teacher of each family of generators, made here, and its students at a ratio: dB and times.

    python tests/benchmarks/families.py teach --like teacher.pth --data photo2vintage
    python tests/benchmarks/families.py shrink --data photo2vintage
    python tests/benchmarks/families.py time

Nobody publishes weights of all families for one task, so `teach` trains a network of each, half as
wide as stock, to generate what `--like` generates. `shrink` prunes it and trains the student.
`time` should run alone on the machine. What is there is not made again.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

import wkdc
from wkdc.checkpoints.card import make_card
from wkdc.checkpoints.checkpoint import save_generator
from wkdc.networks.architecture import Architecture
from wkdc.networks.layers import initialise
from wkdc.training.recipe import FAITHFUL

PLAIN = {"in_channels": 3, "out_channels": 3}
RESNET = PLAIN | {"encoder": [32, 64], "stream": 128, "inner": [128] * 9, "decoder": [64, 32]}
BLURRED = {"downsampling": "blurred", "upsampling": "blurred"}
FAMILIES = {
    "cut": Architecture("resnet", RESNET | BLURRED),
    "pytorch-gan": Architecture(
        "resnet", RESNET | {"upsampling": "nearest", "block_name": "block"}
    ),
    "fast-neural-style": Architecture(
        "fast_neural_style",
        PLAIN | {"encoder": [16, 32], "stream": 64, "inner": [64] * 5, "decoder": [32, 16]},
    ),
    "animegan": Architecture(
        "animegan",
        PLAIN
        | {"block_a": [16, 32, 32], "block_b": [64, 64], "enter": 64, "inner": [128, 256, 256, 256]}
        | {"outer": [128] * 4, "skips": [False, True, True, True], "leave": 64}
        | {"block_d": [64, 64], "block_e": [32, 32, 16]},
    ),
}
RECIPE = dataclasses.replace(FAITHFUL, wavelet_weight=0.0, features=0.0, name="taught")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["teach", "shrink", "time"])
    parser.add_argument("--like", type=Path, help="the generator that all teachers imitate")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/families"))
    parser.add_argument("--steps", type=int, default=400, help="of teach")
    parser.add_argument("--student-steps", type=int, default=150)
    parser.add_argument("--ratio", type=float, default=4.0)
    given = parser.parse_args()
    for name, architecture in FAMILIES.items():
        folder = given.work / name
        folder.mkdir(parents=True, exist_ok=True)
        match given.part:
            case "teach":
                teach(folder, architecture, given)
            case "shrink":
                shrink(folder, given)
            case "time":
                time(folder)


def teach(folder: Path, architecture: Architecture, given: argparse.Namespace) -> None:
    """Train `folder`/teacher.pth to generate what `--like` does."""
    output = folder / "teacher.pth"
    if output.exists():
        return
    torch.manual_seed(0)
    network = architecture.build()
    initialise(network)
    save_generator(folder / "fresh.pth", network, make_card(architecture, None, []))
    recipe = dataclasses.replace(RECIPE, learning_rate=1e-3, batch=8, crop=128, load_size=160)
    wkdc.distill(
        given.data,
        student=folder / "fresh.pth",
        teacher=given.like,
        output=folder / "taught.pth",
        recipe=recipe,
        steps=given.steps,
        runs=folder / "runs",
    )
    # As the original code would have written it: a plain state dict.
    content = torch.load(folder / "taught.pth", weights_only=True)
    torch.save(content["state_dict"], output)
    print(folder.name, "taught:", scores([output], given.data, teacher=given.like), flush=True)


def shrink(folder: Path, given: argparse.Namespace) -> None:
    """Prune the teacher, train the student, and score both students on the test images."""
    if (folder / "scores.json").exists():
        return
    teacher = folder / "teacher.pth"
    made = wkdc.prune(teacher, ratio=given.ratio, data=given.data, output=folder / "untrained.pth")
    wkdc.distill(
        given.data,
        student=folder / "untrained.pth",
        teacher=teacher,
        output=folder / "student.pth",
        steps=given.student_steps,
        runs=folder / "runs",
    )
    found = scores([folder / "untrained.pth", folder / "student.pth"], given.data, teacher=teacher)
    found |= {"params_ratio": made.params_ratio, "macs_ratio": made.macs_ratio}
    found |= {"params": made.teacher.params, "macs": made.teacher.macs}
    (folder / "scores.json").write_text(json.dumps(found, indent=1))
    print(folder.name, found, flush=True)


def scores(models: list[Path], data: Path, *, teacher: Path) -> dict[str, Any]:
    """PSNR in dB to the teacher's images of the test images."""
    result = wkdc.evaluate(models, data, teacher=teacher)
    return {
        Path(score.name).stem: round(score.to_teacher.psnr_db.mean, 2)
        for score in result.scores
        if score.to_teacher is not None and Path(score.name) in models
    }


def time(folder: Path) -> None:
    """Teacher and student in ONNX Runtime, in turn."""
    result = wkdc.profile([folder / "teacher.pth", folder / "student.pth"])
    for model in result.models:
        print(folder.name, model, flush=True)


if __name__ == "__main__":
    main()
