"""What users get wrong: one clear line, the right exit code, and nothing else happens."""

import importlib.util
import io
import json
import os
import pickle
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from conftest import HANG_S, PHOTOS, Called, wait_until
from originals import patchgan_state_dict, resnet_state_dict, unet_state_dict
from PIL import Image

import wkdc
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.data.photos import photo_paths
from wkdc.training import trainer

Call = Callable[..., Called]

# A run of moments: images of 64 pixels, cut to 32.
SHORT = ("--load-size", "64", "--crop", "32", "--steps", "2")

# What distill says of its plan before it has looked at the files; skipped images; progress.
NOTES = re.compile(r"recipe (faithful|paper) on |left out of recipe |skipped: | *\d+% ")


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder, hidden files too; None stands for a folder."""
    return {
        path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in folder.rglob("*")
    }


def assert_refused(called: Called, *phrases: str, code: int = 1) -> str:
    """One line says what was wrong, and it was foreseen; that line."""
    assert "Traceback" not in called.stderr
    assert called.code == code, called.stderr
    assert called.stdout == ""
    (error,) = called.errors
    others = [line for line in called.stderr.splitlines() if line != error]
    assert [line for line in others if not NOTES.match(line)] == []
    assert "unexpected" not in error
    for phrase in phrases:
        assert phrase in error
    return error


# --- Weight files ------------------------------------------------------------------------------


class Hostile:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, ("executed",)


def bytes_of(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def diverged() -> bytes:
    state_dict = resnet_state_dict(1, blocks=1, ngf=4)
    state_dict["model.4.weight"][0, 0, 0, 0] = float("nan")
    return bytes_of(state_dict)


def classifier() -> bytes:
    return bytes_of({"conv1.weight": torch.ones(8, 3, 3, 3), "fc.weight": torch.ones(10, 8)})


def truncated() -> bytes:
    whole = bytes_of(resnet_state_dict(2, blocks=1, ngf=4))
    return whole[: len(whole) * 2 // 3]


# name: (what is in the file, what the line says of it)
WEIGHTS: dict[str, tuple[Callable[[], bytes] | None, str]] = {
    "missing": (None, "does not exist"),
    "empty": (lambda: b"", "is empty"),
    "truncated": (truncated, "truncated"),
    "text": (lambda: b"404: Not Found\n", "no PyTorch file"),
    "hostile pickle": (lambda: pickle.dumps(Hostile()), "carries code"),
    "hostile text": (lambda: pickle.dumps(Hostile(), protocol=0), "no PyTorch file"),
    "hostile weights": (lambda: bytes_of({"state_dict": Hostile()}), "carries code"),
    "classifier": (classifier, "no generator"),
    "discriminator": (lambda: bytes_of(patchgan_state_dict(3, ndf=4)), "discriminator"),
    "diverged": (diverged, "NaN"),
}

COMMANDS = {
    "prune": ("prune", "bad.pth", "--ratio", "7"),
    "export": ("export", "bad.pth", "--onnx"),
    "profile": ("profile", "teacher.pth", "bad.pth"),
    "translate": ("translate", "bad.pth", "photos", "-o", "out"),
    "distill, student": ("distill", "--data", "photos", "--student", "bad.pth"),
    "distill, teacher": ("distill", "--data", "photos", "--teacher", "bad.pth"),
}


# Every kind in one command, and one kind in every command: they all read files the same way.
KINDS = [(kind, "prune") for kind in WEIGHTS if kind != "discriminator"] + [
    (kind, command)
    for kind in ("hostile weights", "discriminator")
    for command in COMMANDS
    if command not in ("prune", "profile")
]


@pytest.mark.parametrize(("kind", "command"), KINDS, ids=" - ".join)
def test_weight_files(
    call_wkdc: Call, student: Path, photos: Path, kind: str, command: str
) -> None:
    make, phrase = WEIGHTS[kind]
    if make is not None:
        student.with_name("bad.pth").write_bytes(make())
    before = contents(student.parent)
    assert_refused(call_wkdc(*COMMANDS[command]), "bad.pth", phrase)
    assert contents(student.parent) == before
    assert photos.is_dir()


def test_a_bad_file_is_found_before_the_good_one_is_measured(
    call_wkdc: Call, student: Path
) -> None:
    student.with_name("bad.pth").write_bytes(truncated())
    before = contents(student.parent)
    assert_refused(call_wkdc(*COMMANDS["profile"]), "bad.pth", "truncated")
    assert_refused(call_wkdc("profile", "bad.pth"), "bad.pth", "truncated")
    assert contents(student.parent) == before


@pytest.mark.parametrize("name", ["photo.jpg", "student.onnx"])
def test_harmless_files_are_not_accused_of_carrying_code(
    call_wkdc: Call, onnx_student: Path, name: str
) -> None:
    """The wrong file by mistake: a photo, or the ONNX beside the weights."""
    shutil.copy(photo_paths()[0], onnx_student.with_name("photo.jpg"))
    before = contents(onnx_student.parent)
    error = assert_refused(call_wkdc("prune", name, "--ratio", "2"), name)
    assert "code" not in error
    assert contents(onnx_student.parent) == before


@pytest.mark.parametrize("command", ["profile", "translate"])
@pytest.mark.parametrize("content", [None, b"", b"404: Not Found\n"], ids=["missing", "", "text"])
def test_onnx_files(
    call_wkdc: Call, photos: Path, content: bytes | None, command: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "bad.onnx").write_bytes(content)
    before = contents(tmp_path)
    rest = ("photos", "-o", "out") if command == "translate" else ()
    assert_refused(call_wkdc(command, "bad.onnx", *rest), "bad.onnx")
    assert contents(tmp_path) == before
    assert photos.is_dir()


def test_the_students_teacher_has_changed_or_gone(
    call_wkdc: Call, student: Path, teacher: Path, photos: Path
) -> None:
    torch.save(resnet_state_dict(4, blocks=3, ngf=4), teacher)
    for command in (("profile",), ("distill", "--data", "photos", *SHORT)):
        before = contents(student.parent)
        assert_refused(call_wkdc(*command), "teacher.pth", "changed")
        assert contents(student.parent) == before
    teacher.unlink()
    for command in (("profile",), ("distill", "--data", "photos", *SHORT)):
        before = contents(student.parent)
        assert_refused(call_wkdc(*command), "teacher.pth", "not there")
        assert contents(student.parent) == before
    assert photos.is_dir()


def test_teacher_and_student_of_different_channels(
    call_wkdc: Call, student: Path, photos: Path
) -> None:
    grey = resnet_state_dict(5, blocks=1, ngf=4, in_channels=1, out_channels=1)
    torch.save(grey, student.with_name("grey.pth"))
    before = contents(student.parent)
    called = call_wkdc("distill", "--data", photos.name, "--teacher", "grey.pth", *SHORT)
    assert_refused(called, "grey.pth", "student.pth", "channels")
    assert contents(student.parent) == before


def test_channels_that_no_picture_has(call_wkdc: Call, photos: Path, tmp_path: Path) -> None:
    torch.save(resnet_state_dict(5, blocks=1, ngf=4, in_channels=6), tmp_path / "six.pth")
    before = contents(tmp_path)
    options = ("--student", "six.pth", "--teacher", "six.pth")
    called = call_wkdc("distill", "--data", photos.name, *options, *SHORT)
    assert_refused(called, "6 channels")
    assert contents(tmp_path) == before  # no run folder without a run


def test_a_teacher_with_coarser_multiples_fits_all_the_same(
    call_wkdc: Call, student: Path, photos: Path
) -> None:
    """Crops must suit both: a ResNet takes multiples of 4, this U-Net of 64."""
    torch.save(unet_state_dict(6, downs=6, ngf=4), student.with_name("unet.pth"))
    called = call_wkdc("distill", "--data", photos.name, "--teacher", "unet.pth", *SHORT)
    assert (called.code, called.errors) == (0, [])


# --- Prune -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", ["0.5", "1", "0", "-1", "nan", "inf", "-inf", "seven", ""])
def test_ratios_that_are_none(call_wkdc: Call, teacher: Path, ratio: str) -> None:
    before = contents(teacher.parent)
    assert_refused(call_wkdc("prune", teacher.name, "--ratio", ratio), "ratio", code=2)
    assert contents(teacher.parent) == before


def test_a_ratio_out_of_reach_names_the_largest(call_wkdc: Call, teacher: Path) -> None:
    before = contents(teacher.parent)
    error = assert_refused(call_wkdc("prune", teacher.name, "--ratio", "1e9"), "1e+09")
    assert contents(teacher.parent) == before
    found = re.search(r"ratio ([\d.]+)$", error)
    assert found is not None
    done = call_wkdc("prune", teacher.name, "--ratio", found[1], "--json")  # taken at its word
    assert done.code == 0
    # As prune promises, within 2 %.
    assert json.loads(done.stdout)["ratio"]["params"] == pytest.approx(float(found[1]), rel=0.02)


def test_the_teacher_is_not_overwritten(call_wkdc: Call, teacher: Path) -> None:
    before = contents(teacher.parent)
    for output in ("teacher.pth", f"../{teacher.parent.name}/teacher.pth", teacher):
        called = call_wkdc("prune", "teacher.pth", "--ratio", "2", "-o", output)
        assert_refused(called, "teacher", code=2)
    assert contents(teacher.parent) == before


# --- Images ----------------------------------------------------------------------------------


def put(folder: Path, **pictures: tuple[int, int] | str) -> Path:
    """A folder of images, by width and height, and of files that are none, by content."""
    folder.mkdir(parents=True)
    for name, made in pictures.items():
        path = folder / f"{name}.png"
        if isinstance(made, str):
            path.write_text(made)
        else:
            Image.effect_noise(made, 60).convert("RGB").save(path)
    return folder


DATA: dict[str, tuple[dict[str, dict[str, tuple[int, int] | str]], str]] = {
    "empty": ({"": {}}, "holds no images"),
    "only broken": ({"": {"a": "text", "b": ""}}, "a.png"),
    "empty trainA": ({"trainA": {}, "trainB": {"a": (64, 64)}}, "trainA"),
    "broken trainA": ({"trainA": {"a": "text"}, "trainB": {"b": (64, 64)}}, "a.png"),
    "empty trainB": ({"trainA": {"a": (64, 64)}, "trainB": {}}, "trainB"),
    "empty testA": ({"trainA": {"a": (64, 64)}, "testA": {}}, "testA"),
    "broken testA": ({"trainA": {"a": (64, 64)}, "testA": {"b": "text"}}, "b.png"),
    "empty train": ({"train": {}}, "train"),
    "odd width": ({"train": {"a": (128, 64), "b": (127, 64)}}, "b.png is 127 pixels wide"),
    "odd width, test": ({"train": {"a": (128, 64)}, "test": {"b": (127, 64)}}, "b.png is 127"),
}


@pytest.mark.parametrize("kind", DATA)
def test_data_folders(call_wkdc: Call, student: Path, kind: str) -> None:
    parts, phrase = DATA[kind]
    for part, pictures in parts.items():
        put(student.parent / "data" / part, **pictures)
    before = contents(student.parent)
    called = call_wkdc("distill", "--data", "data", *SHORT)
    assert_refused(called, phrase)
    assert contents(student.parent) == before


def test_data_that_is_a_file_or_missing(call_wkdc: Call, student: Path) -> None:
    before = contents(student.parent)
    assert_refused(call_wkdc("distill", "--data", "student.pth"), "student.pth", "file")
    assert_refused(call_wkdc("distill", "--data", "./photos"), "./photos", "no such folder")
    assert contents(student.parent) == before


def test_an_unknown_data_set_suggests_the_nearest(call_wkdc: Call, student: Path) -> None:
    before = contents(student.parent)
    called = call_wkdc("distill", "--data", "horse2zebr")
    assert_refused(called, '"horse2zebr"', 'did you mean "horse2zebra"?', "monet2photo")
    assert contents(student.parent) == before


def test_a_known_data_set_without_a_network(call_wkdc: Call, student: Path) -> None:
    before = contents(student.parent)
    assert_refused(call_wkdc("distill", "--data", "horse2zebra"), "horse2zebra", "network")
    assert contents(student.parent) == before


def test_broken_pictures_among_good_ones_are_named_and_left_out(
    call_wkdc: Call, student: Path, photos: Path
) -> None:
    whole = sorted(photos.iterdir())[0].read_bytes()
    (photos / "half.png").write_bytes(whole[: len(whole) // 2])
    (photos / "text.jpg").write_text("no image")
    called = call_wkdc("distill", "--data", "photos", *SHORT, "--json")
    assert (called.code, called.errors) == (0, [])
    skipped = [line for line in called.stderr.splitlines() if line.startswith("skipped: ")]
    assert len(skipped) == 2
    assert "photos/half.png" in skipped[0]
    assert "photos/text.jpg" in skipped[1]
    run = student.parent / json.loads(called.stdout)["run"]
    pictures = json.loads((run / "options.json").read_text())["pictures"]
    assert pictures["train"] + pictures["validation"] == PHOTOS


def test_a_picture_much_smaller_than_the_crop_is_named_and_left_out(
    call_wkdc: Call, student: Path, photos: Path
) -> None:
    """Blown up, an icon would teach the student what a blur looks like."""
    Image.new("RGB", (16, 8), "red").save(photos / "icon.png")
    called = call_wkdc("distill", "--data", "photos", *SHORT, "--json")
    assert (called.code, called.errors) == (0, [])
    (skipped,) = [line for line in called.stderr.splitlines() if line.startswith("skipped: ")]
    assert "icon.png is 16x8, smaller than the 16x16 needed" in skipped  # half of the crop
    run = student.parent / json.loads(called.stdout)["run"]
    pictures = json.loads((run / "options.json").read_text())["pictures"]
    assert pictures["train"] + pictures["validation"] == PHOTOS


@pytest.mark.parametrize(("levels", "said"), [(4, "no multiple of 16"), (3, None)])
def test_crops_that_the_levels_do_not_halve_are_said_to_be_padded(
    call_wkdc: Call, student: Path, photos: Path, levels: int, said: str | None
) -> None:
    crops = ("--load-size", 64, "--crop", 40, "--levels", levels, "--steps", 1)
    called = call_wkdc("distill", "--data", photos, *crops)
    assert called.code == 0, called.stderr
    assert ("pads them with zeros" in called.stderr) == (said is not None)
    assert said is None or said in called.stderr


def test_nothing_but_pictures_much_smaller_than_the_crop(call_wkdc: Call, student: Path) -> None:
    put(student.parent / "data", a=(16, 8), b=(8, 600))
    before = contents(student.parent)
    called = call_wkdc("distill", "--data", "data", *SHORT)
    assert_refused(called, "a.png is 16x8", "16x16", "--crop")
    assert contents(student.parent) == before


# --- Options -----------------------------------------------------------------------------------

# arguments: what the line says
USAGE: dict[str, tuple[str, ...]] = {
    "prune teacher.pth": ("one of ratio, params, macs, latency",),
    "prune teacher.pth --ratio 2 --params 1k": ("ratio and params",),
    "prune teacher.pth --macs 7GB": ("7GB", "1.6M"),
    "prune teacher.pth --params -5": ("-5",),
    "prune teacher.pth --ratio 2 --by looks": ("--by",),
    "distill": ("--data",),
    "distill --data photos --recipe fast": ("fast", "faithful", "paper"),
    "distill --data photos --steps 5 --epochs 1": ("steps and epochs",),
    "distill --data photos --steps 5 --minutes 1": ("steps and minutes",),
    "distill --data photos --epochs 5 --minutes 1": ("epochs and minutes",),
    "distill --data photos --steps 0": ("steps is 0",),
    "distill --data photos --steps -3": ("steps is -3",),
    "distill --data photos --steps many": ("--steps", "integer"),
    "distill --data photos --epochs 0": ("epochs is 0",),
    "distill --data photos --minutes 0": ("minutes is 0",),
    "distill --data photos --minutes nan": ("minutes is nan",),
    "distill --data photos --minutes inf": ("minutes is inf",),
    "distill --data photos --minutes -1": ("minutes is -1",),
    "distill --data photos --steps 1 --learning-rate nan": ("learning rate nan",),
    "distill --data photos --steps 1 --learning-rate inf": ("learning rate inf",),
    "distill --data photos --steps 1 --learning-rate 0": ("learning rate 0",),
    "distill --data photos --steps 1 --learning-rate -1": ("learning rate -1",),
    "distill --data photos --steps 1 --learning-rate 1e38": ("learning rate 1e+38",),
    "distill --data photos --steps 1 --pixel nan": ("pixel is nan",),
    "distill --data photos --steps 1 --wavelet-weight -1": ("wavelet_weight is -1",),
    "distill --data photos --steps 1 --pixel 0 --wavelet-weight 0 --features 0": ("weights are 0",),
    "distill --data photos --steps 1 --batch 0": ("batch is 0",),
    "distill --data photos --steps 1 --crop 0": ("crop is 0",),
    "distill --data photos --steps 1 --crop 300": ("crop 300", "256"),
    "distill --data photos --recipe paper --crop 16": ("crop 16", "24"),
    "distill --data photos --steps 1 --ndf 0": ("ndf is 0",),
    "distill --data photos --steps 1 --direction up": ("up", "AtoB", "BtoA"),
    "distill --data photos --steps 1 --precision int4": ("int4", "bfloat16"),
    "distill --data photos --seed x": ("--seed", "integer"),
    "distill --data photos --seed -1": ("--seed",),
    "distill --data photos --seed 18446744073709551616": ("--seed",),
    "distill --data maps --data-url elsewhere": ("elsewhere",),
    "distill --data photos --recipe paper --cache here": ("cache here", "--reuse 1"),
    "prune": ("teacher",),
    "prune teacher.pth --ratio 2 --importance luck": ("luck", "magnitude", "random"),
    "prune teacher.pth --ratio 2 --calibrate 0 --range 0,1": ("--range",),
    "prune teacher.pth --ratio 2 --norm spectral": ("spectral", "instance"),
    "prune teacher.pth --ratio 2 --speed 9": ("--speed",),
    "export": ("model",),
    "export student.pth --tolerance 0": ("tolerance 0",),
    "export student.pth -o student.pth": ("student.pth", ".onnx"),
    "export student.pth --padding mirror": ("mirror", "reflect"),
    "profile --size 64x": ("64x", "192x320"),
    "profile --size 0": ("0x0",),
    "profile --batch 0": ("batch is 0",),
    "profile --rounds 0": ("rounds is 0",),
    "profile --threads 0": ("threads is 0",),
    "translate": ("model",),
    "translate teacher.pth": ("inputs",),
    "translate teacher.pth photos": ("--output",),
    "translate teacher.pth photos -o one.png": ("one.png", str(PHOTOS)),
    "demo --steps 0": ("steps is 0",),
    "demo --minutes nan": ("minutes is nan",),
    "demo --steps 1 --minutes 1": ("steps and minutes",),
    "fly": ("fly",),
}


@pytest.mark.parametrize("arguments", USAGE)
def test_options(call_wkdc: Call, student: Path, photos: Path, arguments: str) -> None:
    before = contents(student.parent)
    assert_refused(call_wkdc(*arguments.split()), *USAGE[arguments], code=2)
    assert contents(student.parent) == before
    assert photos.is_dir()


def test_without_a_command_there_is_help_and_no_error(call_wkdc: Call) -> None:
    called = call_wkdc()
    said = called.stdout + called.stderr
    for command in ("prune", "distill", "export", "profile", "translate", "demo"):
        assert command in said
    assert (called.code, called.errors) == (0, [])


DEVICES = [
    ("distill", "--data", "photos", "--steps", "1"),
    ("profile",),
    ("translate", "student.pth", "photos", "-o", "out"),
    ("demo",),
]


@pytest.mark.parametrize("command", DEVICES, ids=lambda command: command[0])
@pytest.mark.parametrize("device", ["cuda:99", "gpu", "mps", ""])
def test_devices_that_are_not_there(
    call_wkdc: Call, student: Path, photos: Path, command: Sequence[str], device: str
) -> None:
    before = contents(student.parent)
    assert_refused(call_wkdc(*command, "--device", device), device)
    assert contents(student.parent) == before
    assert photos.is_dir()


def test_a_gpu_where_there_is_none(run_wkdc: Call, student: Path, photos: Path) -> None:
    before = contents(student.parent)
    called = run_wkdc(
        *("translate", "student.pth", "photos", "-o", "out", "--device", "cuda"),
        set_={"CUDA_VISIBLE_DEVICES": ""},
    )
    assert_refused(called, "device cuda", "no CUDA device", "--device cpu")
    assert contents(student.parent) == before
    assert photos.is_dir()


def test_a_missing_extra_says_what_to_install(
    call_wkdc: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vintagify", None)  # how Python marks what is not to be had
    assert importlib.util.find_spec("vintagify") is None
    assert_refused(call_wkdc("demo"), "vintagify", "pip install 'wkdc[demo]'")
    assert contents(tmp_path) == {}


def test_errors_keep_stdout_clean_for_json(call_wkdc: Call, tmp_path: Path) -> None:
    for command in (
        ("prune", "gone.pth", "--ratio", "7"),
        ("export", "gone.pth"),
        ("profile", "gone.pth"),
        ("translate", "gone.pth", ".", "-o", "out"),
        ("distill", "--data", "."),
    ):
        assert_refused(call_wkdc(*command, "--json"), "does not exist")
    assert contents(tmp_path) == {}


def test_debug_shows_where(run_wkdc: Call, tmp_path: Path) -> None:
    called = run_wkdc("prune", "gone.pth", "--ratio", "7", "--debug")
    assert called.code == 1
    assert called.stderr.startswith("Traceback")
    assert "gone.pth does not exist" in called.stderr.splitlines()[-1]
    assert contents(tmp_path) == {}


# --- Outputs -----------------------------------------------------------------------------------


@contextmanager
def room_for(bytes_: int) -> Iterator[None]:
    """As on a full disk, every file ends after so many bytes: writing on is an error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, hard))  # Python ignores SIGXFSZ
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


FULL = {
    "prune": ("prune", "teacher.pth", "--ratio", "2"),
    "export": ("export", "student.pth", "--tolerance", "1"),
    "translate": ("translate", "student.pth", "photos", "-o", "old.png", "--overwrite"),
}


@pytest.mark.parametrize("command", FULL)
def test_a_full_disk_keeps_what_was_there(
    call_wkdc: Call, student: Path, photos: Path, command: str
) -> None:
    for path in sorted(photos.iterdir())[1:]:
        path.unlink()
    student.with_suffix(".onnx").write_bytes(b"the one from yesterday")
    student.with_name("old.png").write_bytes(b"the one from yesterday")
    before = contents(student.parent)
    with room_for(4000):
        called = call_wkdc(*FULL[command])
    assert_refused(called, "cannot write", "File too large", "room")  # what the system says
    assert contents(student.parent) == before


def test_a_full_disk_in_training_keeps_the_student(
    call_wkdc: Call, student: Path, photos: Path
) -> None:
    before = contents(student.parent)
    with room_for(4000):  # enough for options and metrics, not for images and weights
        called = call_wkdc("distill", "--data", photos.name, *SHORT)
    assert_refused(called, "cannot write")
    after = contents(student.parent)
    assert {name: after[name] for name in before} == before
    assert all(name.startswith("runs") for name in set(after) - set(before))
    assert not [name for name in after if Path(name).suffix in (".png", ".pth")] - before.keys()


# Folders in /proc and files below a file: not even root can make them.
UNWRITABLE: dict[str, tuple[str, ...]] = {
    "prune": ("prune", "teacher.pth", "--ratio", "2", "-o"),
    "export": ("export", "student.pth", "-o"),
    "translate": ("translate", "student.pth", "photos", "-o"),
    "distill": ("distill", "--data", "photos", *SHORT, "-o"),
    "distill, runs": ("distill", "--data", "photos", *SHORT, "--runs"),
    "demo": ("demo",),
}


@pytest.mark.parametrize("folder", ["/proc/wkdc", "teacher.pth/wkdc"])
@pytest.mark.parametrize("command", UNWRITABLE)
def test_places_where_nothing_can_be_written(
    call_wkdc: Call, student: Path, photos: Path, command: str, folder: str
) -> None:
    name = {"prune": "new.pth", "export": "new.onnx", "distill": "new.pth"}.get(command, "")
    before = contents(student.parent)
    called = call_wkdc(*UNWRITABLE[command], f"{folder}/{name}".rstrip("/"))
    assert_refused(called, folder)
    # For distill that is found out before the training, which may take hours.
    assert contents(student.parent) == before
    assert photos.is_dir()


def test_a_missing_folder_is_found_before_the_training(
    call_wkdc: Call, student: Path, photos: Path
) -> None:
    before = contents(student.parent)
    called = call_wkdc("distill", "--data", photos.name, *SHORT, "-o", "nowhere/new.pth")
    assert_refused(called, "nowhere/new.pth")
    assert contents(student.parent) == before


def test_a_student_is_not_written_over_its_teacher(
    call_wkdc: Call, student: Path, photos: Path
) -> None:
    before = contents(student.parent)
    called = call_wkdc("distill", "--data", photos.name, *SHORT, "-o", "teacher.pth")
    assert_refused(called, "teacher.pth", code=2)
    assert contents(student.parent) == before


def test_an_earlier_demo_is_kept(call_wkdc: Call, tmp_path: Path) -> None:
    (tmp_path / "wkdc-demo").mkdir()
    (tmp_path / "wkdc-demo" / "student.pth").write_bytes(b"the one from yesterday")
    before = contents(tmp_path)
    assert_refused(call_wkdc("demo", "--steps", "1"), "wkdc-demo/student.pth", "--overwrite")
    assert contents(tmp_path) == before


# --- Training that goes wrong ------------------------------------------------------------------


def assert_usable(path: Path) -> None:
    """A usable generator: it loads, and its images are finite."""
    network = load_generator(path).network
    with torch.inference_mode():
        output = network(torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32))
    assert bool(output.isfinite().all())
    assert float(output.std()) > 0.01


@pytest.fixture
def mad_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps so large that no student survives one; --learning-rate does not allow them."""
    monkeypatch.setattr(trainer, "rate_factor", lambda schedule, progress: 1e33)


@pytest.mark.usefixtures("mad_schedule")
@pytest.mark.parametrize("recipe", ["faithful", "paper"])
def test_a_loss_that_is_no_number_ends_the_run(
    call_wkdc: Call, student: Path, photos: Path, recipe: str
) -> None:
    before = contents(student.parent)
    options = ("--recipe", recipe, "--steps", "25")
    called = call_wkdc("distill", "--data", photos.name, *SHORT[:4], *options)
    error = assert_refused(called, "stopped being a number", "student.pth is untouched")
    after = contents(student.parent)
    assert {name: after[name] for name in before} == before
    found = re.search(r"runs/\S+\.pth", error)
    assert found is not None
    assert_usable(student.parent / found[0])
    card = load_generator(student.parent / found[0]).card
    assert card is not None
    assert [entry["command"] for entry in card["history"]] == ["prune"]  # as it started


@pytest.mark.usefixtures("mad_schedule")
@pytest.mark.parametrize(("recipe", "first"), [("faithful", 2), ("paper", 1)])
@pytest.mark.parametrize("more", [0, 7], ids=["at the end", "at a checkpoint"])
def test_no_student_is_written_with_images_of_nan(
    call_wkdc: Call, student: Path, photos: Path, more: int, recipe: str, first: int
) -> None:
    """The first move goes wrong, which no loss shows before the next step.

    SOAP only looks at the first gradients, and moves from the second step on.
    """
    before = contents(student.parent)
    options = ("--recipe", recipe, "--steps", first + more)
    called = call_wkdc("distill", "--data", photos.name, *SHORT[:4], *options)
    moved = f"after step {first};"
    error = assert_refused(called, "images stopped", moved, "student.pth is untouched")
    after = contents(student.parent)
    assert {name: after[name] for name in before} == before
    found = re.search(r"runs/\S+\.pth", error)
    assert found is not None
    assert_usable(student.parent / found[0])


def test_the_last_good_student_has_learned(
    call_wkdc: Call, student: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 20 steps, the 12th goes wrong; after the 10th a checkpoint was written."""
    monkeypatch.setattr(trainer, "rate_factor", lambda _, done: 1e33 if done >= 11 / 20 else 1.0)
    called = call_wkdc("distill", "--data", photos.name, *SHORT[:4], "--steps", 20)
    error = assert_refused(called, "after step 12", "step-000010.pth", "student.pth is untouched")
    found = re.search(r"runs/\S+\.pth", error)
    assert found is not None
    assert_usable(student.parent / found[0])
    weights = [load_generator(path).network for path in (student, student.parent / found[0])]
    first, learned = (network.state_dict()["model.1.weight"] for network in weights)
    assert not torch.equal(first, learned)


def start_training(
    folder: Path, environment: dict[str, str], log: Path, *options: str
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "wkdc", "distill", "--data", "photos", *SHORT[:4], *options],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=log.open("w"),
        text=True,
    )


def stop(process: "subprocess.Popen[str]", how: signal.Signals) -> str:
    """Send a signal, wait for the end, and return what was said on stdout."""
    process.send_signal(how)
    try:
        out, _ = process.communicate(timeout=HANG_S)  # ten minutes were asked for
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    return out


def test_ctrl_c_ends_the_training_with_a_usable_student(
    student: Path,
    photos: Path,
    environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder, log = student.parent, tmp_path_factory.mktemp("log") / "stderr"
    before = load_generator(student)
    options = ("--minutes", "10", "--recipe", "paper", "--json")
    process = start_training(folder, environment, log, *options)
    metrics = folder / "runs" / "distill-001" / "metrics.jsonl"
    wait_until(
        lambda: metrics.exists() and metrics.read_text().count("\n") >= 3, process, log.read_text
    )
    report = json.loads(stop(process, signal.SIGINT))
    assert process.returncode == 130
    assert "Traceback" not in log.read_text()
    assert "wkdc:" not in log.read_text()  # asked for, so no error
    assert report["interrupted"] is True
    assert report["steps"] == metrics.read_text().count("\n") >= 3

    assert_usable(student)
    after = load_generator(student)
    assert after.sha256 != before.sha256
    old, new = before.network.state_dict(), after.network.state_dict()
    assert not torch.equal(old["model.1.weight"], new["model.1.weight"])
    assert after.card is not None
    assert after.card["history"][-1]["options"]["steps"] == report["steps"]
    assert not list(folder.rglob(".*"))  # no half-written file is left
    assert photos.is_dir()
    # The chain goes on from here.
    assert wkdc.prune(student, ratio=2, output=folder / "smaller.pth").params_ratio > 1.9


def test_a_kill_while_targets_are_computed_keeps_the_student(
    student: Path,
    photos: Path,
    environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """SIGTERM, which a batch system sends: the same as Ctrl-C, also before the first step."""
    folder, log = student.parent, tmp_path_factory.mktemp("log") / "stderr"
    before = load_generator(student)
    process = start_training(folder, environment, log, "--minutes", "10", "--batch", "1")
    wait_until(lambda: "the teacher's outputs" in log.read_text(), process, log.read_text)
    stop(process, signal.SIGTERM)
    assert process.returncode == 130
    assert "Traceback" not in log.read_text()
    assert load_generator(student).sha256 == before.sha256  # nothing was learned, nothing written
    assert not list(folder.rglob(".*"))
    assert photos.is_dir()
