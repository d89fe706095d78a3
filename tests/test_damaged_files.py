"""Damaged files of every kind: taken, or refused in one line, without memory for what is not there.

tests/campaigns/damage.py tries thousands more, in processes with limits.
"""

import io
import json
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tifffile
import torch
from conftest import Called
from damage import Whole, check_refusal
from damaged_checkpoints import make_checkpoints
from damaged_exports import make_onnx
from damaged_files import KINDS
from damaged_folders import make_archives, make_run
from damaged_images import make_images, make_videos
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import wkdc
from wkdc.checkpoints.run_record import read_log, read_record
from wkdc.data.animation import read_frames
from wkdc.data.images import load_alpha, load_pixels
from wkdc.data.label_maps import may_hold_ids
from wkdc.errors import CheckpointError, ImageError, OptionError
from wkdc.inference.model import open_model
from wkdc.training.setup import read_config

Call = Callable[..., Called]

TRIES = {
    "weights": 120,
    "cards": 60,
    "checkpoints": 100,
    "images": 60,
    "videos": 10,
    "onnx": 15,
    "archives": 60,
    "folders": 15,
    "runs": 2,
}
TRIES |= {"commands": 4}


@pytest.fixture(scope="session")
def whole(made_once: Path, exported_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Undamaged files of all kinds."""
    folder = tmp_path_factory.mktemp("whole")
    for kind in TRIES:
        (folder / kind).mkdir()
    for name in ("student.pth", "teacher.pth"):
        shutil.copy(made_once / name, folder)
    shutil.copytree(made_once / "photos", folder / "photos")
    make_checkpoints(folder / "checkpoints")
    make_images(folder / "images")
    make_videos(folder / "videos")
    make_onnx(folder / "onnx", exported_once)
    make_archives(folder / "archives")
    make_run(folder / "runs", folder / "student.pth", folder / "photos")
    return Whole(folder)


@pytest.mark.usefixtures("small_validation")
@pytest.mark.parametrize("kind", TRIES)
def test_only_foreseen_errors_leave_damaged_input(
    kind: str,
    whole: Whole,
    tmp_path: Path,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for seed in range(TRIES[kind]):
        (tmp_path / str(seed)).mkdir()
        KINDS[kind](seed, tmp_path / str(seed), whole)


# Images


def png_of(width: int, height: int, depth: int, colour: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(10**6))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


def npy_of(shape: object, kind: str) -> bytes:
    text = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    header = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(300)


def npz_of(array: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", array)
    return buffer.getvalue()


def tiff_of(width: int, height: int) -> bytes:
    """16 numbers, said to be more."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((4, 4), np.uint16), compression="zlib")
    data = bytearray(buffer.getvalue())
    for tag, value in ((256, width), (257, height), (278, height)):
        at = data.find(struct.pack("<H", tag), 8)
        data[at + 2 : at + 12] = struct.pack("<HII", 4, 1, value)
    return bytes(data)


PROMISES: dict[str, tuple[Callable[[], bytes], str]] = {
    "rgb.png": (lambda: png_of(60_000, 60_000, 8, 2), "exceeds limit"),
    "deep.png": (lambda: png_of(60_000, 60_000, 16, 2), "exceeds limit"),
    "grey.png": (lambda: png_of(60_000, 60_000, 16, 0), "exceeds limit"),
    "a.gif": (lambda: b"GIF89a" + struct.pack("<HHBBB", 60_000, 60_000, 0, 0, 0), "limit|no image"),
    "a.tif": (lambda: tiff_of(60_000, 60_000), "promises 7200000000 bytes of numbers"),
    "terabytes.npy": (lambda: npy_of((10**6, 10**6, 3), "|u1"), "cannot be read: mmap length"),
    "code.npy": (lambda: npy_of((4, 4, 3), "|O"), "cannot be read: .*Python objects"),
    "negative.npy": (lambda: npy_of((-4, 4, 3), "|u1"), "cannot be read|numbers"),
    "long.npz": (lambda: npz_of(npy_of((20_000, 20_000, 3), "|u1")), "cannot be read"),
    "bomb.npz": (lambda: npz_of(bytes(2**21)), "promises 2097152 bytes of numbers"),
}


@pytest.mark.parametrize("name", PROMISES)
def test_an_image_that_promises_more_than_the_file_holds(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wkdc.data.decoding.FREE_BYTES", 2**20)  # so that a small bomb is one
    make, said = PROMISES[name]
    (tmp_path / name).write_bytes(make())
    with pytest.raises(ImageError, match=said) as caught:
        load_pixels(tmp_path / name)
    check_refusal(caught.value)
    assert load_alpha(tmp_path / name) is None


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.tif", "a.npy", "a.npz"])
def test_an_image_that_is_longer_than_any(name: str, tmp_path: Path) -> None:
    """Of a damaged header; a few million rows of four pixels took half a minute to read."""
    path, pixels = tmp_path / name, np.zeros((65_536, 2, 3), np.uint16)
    match path.suffix:
        case ".tif":
            tifffile.imwrite(path, pixels)
        case ".npy":
            np.save(path, pixels)
        case ".npz":
            np.savez_compressed(path, pixels)
        case ".gif":  # whose sides have 16 bits
            Image.new("P", (2, 65_535)).save(path)
            assert load_pixels(path).shape == (3, 65_535, 2)
            return
        case _:
            Image.new("L", (2, 65_536)).save(path)
    with pytest.raises(ImageError, match="sides of at most 65535 are read") as caught:
        load_pixels(path)
    check_refusal(caught.value)
    assert load_alpha(path) is None
    assert not may_hold_ids(path)


@pytest.mark.parametrize(
    "kind", ["<U4", "|S8", "|V8", "<c16", "<M8[s]", [("a", "<i4"), ("b", "<f4")]]
)
def test_arrays_of_no_numbers(kind: Any, tmp_path: Path) -> None:
    """Some of them cannot even become numbers."""
    np.save(tmp_path / "a.npy", np.zeros((4, 4, 3), np.dtype(kind)))
    with pytest.raises(ImageError, match="give integers or floating-point numbers"):
        load_pixels(tmp_path / "a.npy")


def test_what_a_decoder_says_is_one_line_that_can_be_shown(tmp_path: Path) -> None:
    """Pillow raises ValueError here, with what the file holds."""
    (tmp_path / "a.ppm").write_bytes(b"P6 \x1b[31m" + b"9" * 5000)
    with pytest.raises(ImageError, match="cannot be read") as caught:
        load_pixels(tmp_path / "a.ppm")
    check_refusal(caught.value)
    assert str(caught.value).isprintable()


def test_an_animation_of_huge_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png_of(60_000, 60_000, 8, 2))
    with pytest.raises(ImageError, match="exceeds limit"):
        next(read_frames(path))


# ONNX


@pytest.fixture
def other(whole: Whole) -> Any:
    return onnx.load(str(whole.folder / "onnx" / "other.onnx"))


def test_a_graph_whose_constants_would_fill_the_memory(other: Any, tmp_path: Path) -> None:
    (shape,) = (one for one in other.graph.initializer if one.name == "s")
    shape.CopyFrom(numpy_helper.from_array(np.array([1, 3, 20_000, 20_000]), "s"))
    path = tmp_path / "a.onnx"
    onnx.save_model(other, str(path))
    with pytest.raises(CheckpointError, match="bytes fills 'z' with 4800000000") as caught:
        open_model(path)
    check_refusal(caught.value)


@pytest.mark.parametrize("place", ["../secret.bin", "{}/secret.bin", "/etc/passwd"])
def test_weights_that_lie_outside_the_folder_are_not_read(
    other: Any, place: str, tmp_path: Path
) -> None:
    """Whole as they are: they would be read if they lay beside the file."""
    weight = np.eye(3, dtype=np.float32)
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.onnx"
    for folder in (tmp_path, path.parent):
        (folder / "secret.bin").write_bytes(weight.tobytes())
    (tensor,) = (one for one in other.graph.initializer if one.name == "w")
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    where = tensor.external_data.add(key="location", value=place.format(tmp_path))
    tensor.external_data.add(key="length", value="36")
    path.write_bytes(other.SerializeToString())
    with pytest.raises(CheckpointError, match=r"External data path|cannot be read"):
        open_model(path)
    assert wkdc.info(path).params == 9  # counted by its shape
    where.value = "secret.bin"
    path.write_bytes(other.SerializeToString())
    assert torch.equal(open_model(path).generate(torch.ones(1, 3, 4, 4)), torch.ones(1, 3, 4, 4))


BROKEN_FACTS = (
    {"options": "{"},
    {"options": "[" * 100_000},
    {"options": "null"},
    {"options": '{"stream": -1}'},
    {"family": '"unet"'},
    {"family": "[]"},
    {"params": '"x"'},
    {"multiple": "0"},
    {"multiple": "2147483648"},
    {"smallest": "null"},
    {"precision": "5"},
    {"card": '{"format": 1}'},
    {"card": "[1]"},
)


@pytest.mark.parametrize("wrong", BROKEN_FACTS, ids=str)
def test_facts_in_a_file_that_make_no_sense(
    wrong: dict[str, str], exported_once: Path, tmp_path: Path
) -> None:
    model = onnx.load(str(exported_once))
    for entry in model.metadata_props:
        entry.value = wrong.get(entry.key.removeprefix("wkdc."), entry.value)
    path = tmp_path / "a.onnx"
    onnx.save_model(model, str(path))
    for read in (wkdc.info, open_model):
        with pytest.raises(CheckpointError, match=r"is broken; (export it|prune the)") as caught:
            read(path)
        check_refusal(caught.value)


def test_a_network_of_more_layers_than_any_is_not_counted(
    exported_once: Path, tmp_path: Path
) -> None:
    """It would take minutes to make."""
    model = onnx.load(str(exported_once))
    for entry in model.metadata_props:
        if entry.key == "wkdc.options":
            entry.value = json.dumps(json.loads(entry.value) | {"inner": [64] * 10**4})
    path = tmp_path / "a.onnx"
    onnx.save_model(model, str(path))
    with pytest.raises(CheckpointError, match="is broken; export it again"):
        wkdc.info(path)


def test_an_element_type_that_there_is_not(other: Any, tmp_path: Path) -> None:
    other.graph.input[0].type.tensor_type.elem_type = 2**30
    path = tmp_path / "a.onnx"
    path.write_bytes(other.SerializeToString())
    assert "type 1073741824" in wkdc.info(path).interface.inputs[0]  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["value", "key", "h", "x", "Conv"])
def test_names_that_are_no_text(name: str, other: Any, tmp_path: Path) -> None:
    """Of metadata, a side, an input and an operator."""
    path = tmp_path / "a.onnx"
    other.metadata_props.add(key="key", value="value")
    spoilt = other.SerializeToString().replace(name.encode(), b"\xff" * len(name))
    path.write_bytes(spoilt)
    with pytest.raises(CheckpointError, match=r"cannot be read|no text") as caught:
        open_model(path)
    check_refusal(caught.value)
    if name == "h":
        with pytest.raises(CheckpointError, match="is no ONNX file, or a broken one"):
            wkdc.info(path)
    else:
        assert wkdc.info(path).params == 9


def test_a_graph_of_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    onnx.save_model(helper.make_model(helper.make_graph([], "g", [], [])), str(path))
    with pytest.raises(CheckpointError, match="is no ONNX file, or a broken one"):
        wkdc.info(path)


# Run folders


@pytest.fixture
def run(whole: Whole, tmp_path: Path) -> Path:
    """A run that died, in the test's folder."""
    shutil.copytree(whole.folder / "runs", tmp_path, dirs_exist_ok=True)
    run = tmp_path / "runs" / "distill-001"
    options = run / "options.json"
    options.write_text(options.read_text().replace("WHOLE", str(tmp_path)))
    return run


def change(run: Path, wrong: Callable[[dict[str, Any]], object]) -> None:
    options = json.loads((run / "options.json").read_text())
    wrong(options)
    (run / "options.json").write_text(json.dumps(options))


@pytest.mark.parametrize("text", ["5", "null", "[]", "[" * 100_000, '{"request": 5}', "\x00", ""])
def test_options_that_are_none(run: Path, text: str) -> None:
    (run / "options.json").write_text(text)
    for read in (read_record, wkdc.resume):
        with pytest.raises((CheckpointError, OptionError), match=r"options\.json is broken"):
            read(run)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda options: options["request"].update(seed="x"),
        lambda options: options["request"].update(data=5),
        lambda options: options["request"].update(device=None),
        lambda options: options["request"].update(precision="float1"),
        lambda options: options["request"].update(extra=1),
        lambda options: options["request"].pop("teacher") and options["request"].pop("data"),
        lambda options: options["request"]["recipe"].update(batch=10**30),
        lambda options: options["request"]["recipe"].update(crop="128"),
        lambda options: options["request"]["budget"].update(steps=[3]),
        lambda options: options.pop("processes"),
        lambda options: options.update(digests=[]),
    ],
)
def test_options_of_wrong_types(run: Path, wrong: Callable[[dict[str, Any]], object]) -> None:
    change(run, wrong)
    with pytest.raises(CheckpointError, match=r"options\.json is broken"):
        read_config(run, "distill", None)


@pytest.mark.parametrize(
    "line",
    ["5", "[]", "null", '{"step": "1"}', '{"loss": 1}', '{"step": 1, "x": "y"}', "[" * 10**5],
)
def test_a_log_ends_where_it_is_damaged(line: str, tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_text(f'{{"step": 1, "loss": null}}\n{line}\n{{"step": 3}}\n')
    assert read_log(log) == [{"step": 1, "loss": None}]
