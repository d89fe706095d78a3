"""wkdc as people install it: built, installed into fresh environments, and tried; one last line.

    python tests/campaigns/packages.py FOLDER [--python PYTHON ...] [--lowest]

Builds wheel and sdist, and installs each without extras, the wheel for every PYTHON. There every
command works, or names what it lacks. `--lowest` instead installs the lowest versions that
pyproject.toml allows, with the packages of the tests, and runs a quick part of these. Needs a
package index, and some 10 GB in FOLDER for each PYTHON, which may be deleted then.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]

PREPARE = """
import pathlib
from PIL import Image
from wkdc.data.photos import photo_paths
folders = [pathlib.Path(name) for name in ("photos", "unpaired/trainA", "unpaired/trainB")]
for folder in folders:
    folder.mkdir(parents=True)
    for path in photo_paths()[:4]:
        Image.open(path).convert("RGB").resize((64, 64)).save(folder / f"{path.stem}.png")
pathlib.Path("video.mp4").touch()
"""
"""Makes the inputs, with what is installed."""

SMALL = ("--crop", "32", "--load-size", "40", "--steps", "2")

EVALUATED = ("student.pth", "--data", "photos", "--size", "64")

WORKS: tuple[tuple[str, ...], ...] = (
    ("--help",),
    ("--version",),
    (*("train", "--data", "unpaired", "--ngf", "4", "--ndf", "4", "--blocks", "1"), *SMALL),
    ("prune", "teacher.pth", "--ratio", "2", "--calibrate", "4"),
    ("distill", "--data", "photos", *SMALL),
    ("info", "student.pth"),
    ("export", "student.pth", "--onnx", "--tolerance", "0.05"),
    ("export", "student.pth", "--triton", "models", "--tolerance", "0.05"),
    ("profile", "teacher.pth", "student.onnx", "--size", "64", "--rounds", "2"),
    ("evaluate", *EVALUATED),
    ("analyze", *EVALUATED),
    ("compare", *EVALUATED),
    ("translate", "student.onnx", "photos", "-o", "out"),
)
"""In this order, in one folder."""

NAMES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("demo",), "wkdc[demo]"),
    (("report", *EVALUATED), "wkdc[report]"),
    (("analyze", *EVALUATED, "--figure", "a.svg"), "wkdc[figures]"),
    (("evaluate", *EVALUATED, "--features", "efficientnet"), "wkdc[offline]"),
    (("translate", "student.pth", "video.mp4", "-o", "a.mp4"), "wkdc[video]"),
    (
        ("translate", "student.onnx", "photos", "-o", "b", "--runtime", "openvino"),
        "wkdc[openvino]",
    ),
    (("export", "student.pth", "--litert"), "wkdc[litert]"),
    (("export", "student.pth", "--coreml"), "wkdc[coreml]"),
    (("export", "student.pth", "--ncnn"), "wkdc[ncnn]"),
    (("distill", "--data", "photos", *SMALL, "--tracker", "tensorboard"), "tensorboard"),
    (("distill", "--data", "photos", *SMALL, "--tracker", "mlflow"), "mlflow"),
    (("distill", "--data", "photos", *SMALL, "--tracker", "wandb"), "wandb"),
)
"""What each of these has to name, in one line."""

QUICK = (
    *("analyze", "checkpoint", "complexity", "containers", "data_on_disk", "export", "files"),
    *("images", "importance", "info", "losses", "metrics", "options", "phone", "plan", "prune"),
    *("spectrum", "temporary", "tracking", "translate", "video", "wavelet"),
)
"""Test files that together use every package that wkdc needs, and most extras."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", nargs="*", default=[sys.executable])
    parser.add_argument("--lowest", action="store_true")
    options = parser.parse_args()
    folder: Path = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["UV_CACHE_DIR"] = str(folder / "cache")
    os.environ.pop("PYTHONPATH", None)
    uv = tools(folder)
    wheel, sdist = build(folder)
    if options.lowest:
        print(f"lowest versions: {lowest(uv, folder, wheel)}")
        return
    tried = []
    for python in options.python:
        made = environment(uv, folder / f"wheel-{len(tried)}", python, str(wheel))
        version = said((made / "bin/python", "--version"), folder).split()[1]
        try_commands(made, folder / f"commands-{len(tried)}")
        tried.append(version)
        print(f"{wheel.name}, Python {version}: commands work, or name what they lack", flush=True)
    made = environment(uv, folder / "sdist", options.python[0], str(sdist))
    for command in WORKS[:2]:
        said((made / "bin/wkdc", *command), folder)
    said((uv, "pip", "install", "--python", made / "bin/python", f"{sdist}[demo]"), folder)
    said((made / "bin/wkdc", "demo", "demo", "--steps", "2", "--overwrite"), folder)
    print(
        f"wheel and sdist: no broken requirements; without extras {len(WORKS)} commands work and "
        f"{len(NAMES)} name what they lack, on Python {', '.join(tried)}; with the extra demo, "
        "the demo of 2 steps"
    )


def said(command: Sequence[object], folder: Path, code: int = 0) -> str:
    """Run a command, which has to end with `code`; what it printed."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode != code:
        line = " ".join(map(str, command))
        sys.exit(f"{line} ended with {done.returncode}, not {code}:\n{done.stdout[-3000:]}")
    return done.stdout


def tools(folder: Path) -> Path:
    """uv, in an environment of its own that also has build."""
    place = folder / "tools"
    if not (place / "bin/uv").exists():
        said((sys.executable, "-m", "venv", place), folder)
        said((place / "bin/pip", "install", "--quiet", "build", "uv"), folder)
    return place / "bin/uv"


def build(folder: Path) -> tuple[Path, Path]:
    """The sdist, and the wheel that is built from it."""
    shutil.rmtree(folder / "dist", ignore_errors=True)
    said((folder / "tools/bin/python", "-m", "build", "--outdir", folder / "dist", ROOT), folder)
    (wheel,), (sdist,) = (folder / "dist").glob("*.whl"), (folder / "dist").glob("*.tar.gz")
    return wheel, sdist


def environment(uv: Path, place: Path, python: str, *what: str) -> Path:
    """A fresh environment in which `what` is installed, without a conflict."""
    shutil.rmtree(place, ignore_errors=True)
    said((uv, "venv", "--seed", "--python", python, place), place.parent)
    said((uv, "pip", "install", "--python", place / "bin/python", *what), place.parent)
    said((place / "bin/python", "-m", "pip", "check"), place.parent)
    return place


def try_commands(made: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    said((made / "bin/python", "-c", PREPARE), folder)
    for command in WORKS:
        said((made / "bin/wkdc", *command), folder)
    for command, named in NAMES:
        printed = said((made / "bin/wkdc", *command), folder, code=1)
        errors = [line for line in printed.splitlines() if line.startswith("wkdc:")]
        if len(errors) != 1 or named not in errors[0]:
            sys.exit(f"wkdc {' '.join(command)} does not name {named}:\n{printed}")


def lowest(uv: Path, folder: Path, wheel: Path) -> str:
    """Run the quick part of the tests with the lowest versions; the line that counts them."""
    made = environment(
        uv, folder / "lowest", sys.executable, "--resolution", "lowest-direct", f"{wheel}[test]"
    )
    place = folder / "quick"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for part in ("tests", "docs"):
        shutil.copytree(ROOT / part, place / part)
    for part in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / part, place)
    files = [f"tests/test_{name}.py" for name in QUICK]
    printed = said((made / "bin/python", "-m", "pytest", "-q", "-n", "1", *files), place)
    counted = re.findall(r"^=*\s*(\d+ passed.*?)\s*=*$", printed, re.MULTILINE)
    return str(counted[-1])


if __name__ == "__main__":
    main()
