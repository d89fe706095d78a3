"""Run folders, archives and data-set folders, damaged by a seed, and what reads them."""

import contextlib
import dataclasses
import gzip
import io
import random
import shutil
import tarfile
import zipfile
from pathlib import Path

from conftest import Died
from damage import Whole, mutated, mutated_json, outcome

import wkdc
from wkdc.checkpoints.reading import Reading
from wkdc.checkpoints.run_record import read_record
from wkdc.data.inputs import part_loader
from wkdc.data.layouts import read_layout
from wkdc.data.unpack import unpack
from wkdc.distill import FAITHFUL, StepReport
from wkdc.reporting.subject import find_subject


def make_run(folder: Path, student: Path, photos: Path) -> None:
    """A run that died after its second step, with its files beside it; WHOLE is where it lies."""

    def die(report: StepReport) -> None:
        if report.phase == "train" and report.step == 2:
            raise Died

    for path in (student, student.with_name("teacher.pth")):
        shutil.copy(path, folder)
    shutil.copytree(photos, folder / "photos")
    recipe = dataclasses.replace(FAITHFUL, crop=32, load_size=36, batch=1)
    with contextlib.suppress(Died):
        wkdc.distill(
            folder / "photos",
            student=folder / student.name,
            recipe=recipe,
            steps=3,
            precision="float32",
            runs=folder / "runs",
            save_every=1e-9,
            on_step=die,
        )
    options = folder / "runs" / "distill-001" / "options.json"
    options.write_text(options.read_text().replace(str(folder), "WHOLE"))


def try_run(seed: int, folder: Path, whole: Whole) -> bool:
    """Whether a run goes on, or is shown, whose folder is damaged."""
    pick = random.Random(seed)
    shutil.copytree(whole.folder / "runs", folder, dirs_exist_ok=True)
    run = folder / "runs" / "distill-001"
    options = run / "options.json"
    options.write_text(options.read_text().replace("WHOLE", str(folder)))
    for _ in range(pick.choice((1, 1, 2))):
        path = pick.choice(sorted(path for path in run.rglob("*") if path.is_file()))
        if path.suffix == ".json":
            path.write_text(mutated_json(path.read_text(), pick))
        elif path.suffix == ".jsonl":
            lines = path.read_text().splitlines()
            at = pick.randrange(len(lines))
            lines[at] = mutated_json(lines[at], pick)
            path.write_text("\n".join(lines))
        elif pick.random() < 0.2:
            path.unlink()
        elif pick.random() < 0.1:
            path.rename(path.with_name(pick.choice(("step-99.pth", "step-x.state", "step-.pth"))))
        else:
            path.write_bytes(mutated(path.read_bytes(), pick))
    outcome(lambda: read_record(run))
    outcome(lambda: find_subject(run, None, Reading()))
    if pick.random() < 0.1:
        outcome(lambda: wkdc.evaluate([run], data=folder / "photos", size=32))
    return outcome(lambda: wkdc.resume(run))


def make_archives(folder: Path) -> None:
    content = {
        f"set/{part}/{n}.jpg": random.Random(n).randbytes(700) for part in "AB" for n in range(4)
    }
    for name, method in {"stored.zip": 0, "deflated.zip": 8, "bzip2.zip": 12}.items():
        with zipfile.ZipFile(folder / name, "w", method) as archive:
            for inside, data in content.items():
                archive.writestr(inside, data)
    for name, form in {"gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}.items():
        with tarfile.open(folder / f"{name}.tar.gz", "w:gz", format=form) as tar:
            for inside, data in content.items():
                info = tarfile.TarInfo(inside + "é" * 60)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def try_archive(seed: int, folder: Path, whole: Whole) -> bool:
    """Whether an archive is unpacked; if not, nothing is left of it."""
    pick = random.Random(seed)
    name = pick.choice(whole.names("archives"))
    content = whole.bytes(name)
    if name.endswith(".gz") and pick.random() < 0.8:  # damage that the checksum does not see
        plain = bytearray(mutated(gzip.decompress(content), pick))
        for at in range(0, len(plain) - 512, 512):
            block = plain[at : at + 512]
            if block[257:262] == b"ustar":
                block[148:156] = b" " * 8
                plain[at + 148 : at + 156] = b"%06o\0 " % sum(block)
        content = gzip.compress(bytes(plain), 1)
    else:
        content = mutated(content, pick)
    path = folder / f"a{'.zip' if name.endswith('.zip') else '.tar.gz'}"
    path.write_bytes(content)
    taken = outcome(lambda: unpack(path, folder / "out"))
    if taken != (folder / "out").exists():
        raise AssertionError("what was refused is there, or what was taken is not")
    others = {entry.name for entry in folder.iterdir()} - {path.name, "out"}
    if others:
        raise AssertionError(f"written beside the folder: {others}")
    return taken


def _fill(place: Path, pick: random.Random, whole: Whole) -> None:
    """Files as they may lie in a folder of images."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if pick.random() < 0.05:
        place.write_bytes(b"a file where a folder should be")
        return
    place.mkdir(exist_ok=True)
    images = whole.names("images")
    for number in range(pick.choice((0, 1, 2, 5))):
        name = pick.choice(images) if pick.random() < 0.4 else "images/grey.png"
        stem = pick.choice((f"{number}", f"{number}", "é", "a b", ".hidden", "x" * 200, "\udcff"))
        target = place / f"{stem}{Path(name).suffix}"
        match pick.randrange(12):
            case 0:
                target.write_bytes(mutated(whole.bytes(name), pick))
            case 1:
                links = ("/etc/passwd", "gone", "..", "/dev/zero", target.name)
                target.symlink_to(pick.choice(links))
            case 2:
                target.mkdir()
            case _:
                target.write_bytes(whole.bytes(name))


def try_data_folder(seed: int, folder: Path, whole: Whole) -> bool:
    """Whether a folder of images is read as a data set."""
    pick = random.Random(seed)
    parts = ("", "train", "test", "val", "trainA", "trainB", "testA", "testB", "train_A", "train_B")
    parts += ("train_label", "train_img", "train_inst", "test_label", "test_img", "test_inst")
    parts += ("A/train", "B/train", "A/test", "B/test", "trainA/deeper")
    for part in pick.sample(parts, pick.randrange(1, 7)):
        with contextlib.suppress(OSError):  # a file, or a link in a circle, is there already
            _fill(folder / "data" / part, pick, whole)
    direction = pick.choice(("AtoB", "BtoA"))
    options = {name: pick.random() < 0.2 for name in ("both", "select", "test")}
    smallest = pick.choice((1, 8, 20))

    def read() -> None:
        layout = read_layout(folder / "data", direction=direction, smallest=smallest, **options)
        load = part_loader(layout, pick.choice((1, 3, 4)), 3)
        for path in {*layout.train, *layout.validation}:
            outcome(lambda p=path: load(p))

    return outcome(read)
