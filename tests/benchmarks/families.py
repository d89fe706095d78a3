"""Every family of generators at a ratio: students sliced, solved and trained in dB, and times.

    python tests/benchmarks/families.py shrink --data photo2vintage
    python tests/benchmarks/families.py time

The teachers have random weights, as nobody publishes one of each family for one task: what is
compared is what pruning and training do, not one family with another. PSNR is to the teacher's
images of the test images. `time` should run alone on the machine. What is there is not made again.
"""

import argparse
import json
import sys
from pathlib import Path

import torch

import wkdc

sys.path.insert(0, str(Path(__file__).parents[1]))
from original_families import FAMILIES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["shrink", "time"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/families"))
    parser.add_argument("--steps", type=int, default=150, help="0 leaves training out")
    parser.add_argument("--ratio", type=float, default=4.0)
    given = parser.parse_args()
    for name, family in FAMILIES.items():
        folder = given.work / name
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(family.weights(1), folder / "teacher.pth")
        if given.part == "time":
            for model in wkdc.profile([folder / "teacher.pth", folder / "student.pth"]).models:
                print(name, model, flush=True)
        elif not (folder / "scores.json").exists():
            shrink(folder, given)


def shrink(folder: Path, given: argparse.Namespace) -> None:
    """Prune the teacher, train the student, and score all students on the test images."""
    teacher = folder / "teacher.pth"
    sliced, untrained, student = (
        folder / f"{name}.pth" for name in ("sliced", "untrained", "student")
    )
    wkdc.prune(teacher, ratio=given.ratio, calibrate=0, output=sliced)
    made = wkdc.prune(teacher, ratio=given.ratio, data=given.data, output=untrained)
    if given.steps:
        wkdc.distill(
            given.data,
            student=untrained,
            output=student,
            steps=given.steps,
            runs=folder / "runs",
        )
    files = [sliced, untrained, *([student] if given.steps else [])]
    result = wkdc.evaluate(files, given.data, teacher=teacher)
    found: dict[str, float] = {
        Path(score.name).name: round(score.to_teacher.psnr_db.mean, 2)
        for score in result.scores
        if score.to_teacher is not None
    }
    found |= {"params": made.params_ratio, "macs": made.macs_ratio}
    (folder / "scores.json").write_text(json.dumps(found, indent=1))
    print(folder.name, found, flush=True)


if __name__ == "__main__":
    main()
