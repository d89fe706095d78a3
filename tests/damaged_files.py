"""Files of every kind that commands are given, damaged by a seed, and what reads them.

Each of `KINDS` makes one input in an empty folder and gives it to the library. What is taken or
refused in one line is well; whatever else leaves wkdc is a fault.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from conftest import PHOTO_SIZE, PHOTOS
from damage import Whole
from damaged_checkpoints import make_checkpoints, try_checkpoint
from damaged_commands import try_command
from damaged_exports import make_onnx, try_ncnn, try_onnx
from damaged_folders import make_archives, make_run, try_archive, try_data_folder, try_run
from damaged_images import make_images, make_videos, try_image, try_video
from damaged_weights import try_card, try_weights
from originals import resnet_state_dict
from PIL import Image

import wkdc
from wkdc.data.photos import photo_paths
from wkdc.deploy.phone import export_phone

KINDS: dict[str, Callable[[int, Path, Whole], bool]] = {
    "weights": try_weights,
    "cards": try_card,
    "checkpoints": try_checkpoint,
    "images": try_image,
    "videos": try_video,
    "onnx": try_onnx,
    "ncnn": try_ncnn,
    "runs": try_run,
    "archives": try_archive,
    "folders": try_data_folder,
    "commands": try_command,
}


def make_whole(folder: Path, kinds: tuple[str, ...] = tuple(KINDS)) -> Whole:
    """Write the undamaged files of `kinds` below `folder`."""
    whole = Whole(folder)
    student, photos = folder / "student.pth", folder / "photos"
    torch.save(resnet_state_dict(0, blocks=1, ngf=2), folder / "teacher.pth")
    wkdc.prune(folder / "teacher.pth", ratio=2, output=student, calibrate=0)
    photos.mkdir()
    for path in photo_paths()[:PHOTOS]:
        with Image.open(path) as photo:
            photo.convert("RGB").resize(PHOTO_SIZE).save(photos / f"{path.stem}.png")
    for kind in kinds:
        (folder / kind).mkdir()
        match kind:
            case "checkpoints":
                make_checkpoints(folder / kind)
            case "images":
                make_images(folder / kind)
            case "videos":
                make_videos(folder / kind)
            case "onnx":
                make_onnx(folder / kind, wkdc.export(student, tolerance=0.05).output)
            case "ncnn":
                for path in export_phone(student, "ncnn").files:
                    shutil.move(path, folder / kind)
            case "archives":
                make_archives(folder / kind)
            case "runs":
                make_run(folder / kind, student, photos)
    if "folders" in kinds and "images" not in kinds:
        (folder / "images").mkdir()
        make_images(folder / "images")
    return whole
