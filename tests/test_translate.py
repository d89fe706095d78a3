"""Any image of any size comes back translated, at its own size, in a file that was not there."""

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from conftest import PHOTO_SIZE, PHOTOS, Called, check_pace, interrupt
from originals import resnet_forward, resnet_state_dict, unet_forward, unet_state_dict
from PIL import Image

import wkdc
from wkdc.data.images import load_pixels
from wkdc.errors import ImageError, OptionError, OutputError
from wkdc.inference.runtimes import runtimes_on

Call = Callable[..., Called]
Array = np.ndarray

# Width and height. A ResNet halves twice and mirrors: 8 pixels are the least, multiples of 4 fit.
SIZES = [(1, 1), (2, 3), (7, 500), (8, 8), (64, 72), (63, 65), (66, 9), (121, 83)]

# Two ways to the same sum may fall on either side of a half before they are rounded to 8 bits.
ONE_STEP = 1


def image(width: int, height: int, channels: int = 3) -> Array:
    """Random but smooth enough to be an image: uint8 H×W×C."""
    random = np.random.default_rng(width * 1000 + height)
    coarse = random.integers(0, 256, (-(-height // 4), -(-width // 4), channels), dtype=np.uint8)
    return coarse.repeat(4, 0).repeat(4, 1)[:height, :width]


def save(path: Path, pixels: Array) -> Path:
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path)
    return path


def pixels_of(path: Path) -> Array:
    with Image.open(path) as opened:
        return np.array(opened)


def furthest(left: Array, right: Array) -> int:
    """Largest difference in steps of 8 bits."""
    assert left.shape == right.shape
    return int(np.abs(left.astype(int) - right.astype(int)).max())


def by_hand(
    pixels: Array,
    translate: Callable[[torch.Tensor], torch.Tensor],
    *,
    multiple: int = 4,
    smallest: int = 8,
) -> Array:
    """uint8 H×W×C through the original network: padded, translated, cropped, rounded."""
    height, width = pixels.shape[:2]
    down, right = (
        -(-max(side, smallest) // multiple) * multiple - side for side in (height, width)
    )
    mirrors = down < height and right < width  # a mirror shows no more than the image has
    padded = np.pad(pixels, ((0, down), (0, right), (0, 0)), mode="reflect" if mirrors else "edge")
    images = torch.from_numpy(padded.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)
    with torch.inference_mode():
        translated = translate(images.unsqueeze(0))[0].permute(1, 2, 0).numpy()
    return np.rint((translated[:height, :width] + 1) * 127.5).clip(0, 255).astype(np.uint8)


@pytest.fixture
def batch_teacher(tmp_path: Path) -> Path:
    """With batch norm: what it translates at one pixel does not hang on pixels far away."""
    torch.save(resnet_state_dict(6, blocks=2, ngf=4, norm="batch"), tmp_path / "batch.pth")
    return tmp_path / "batch.pth"


# --- What is translated --------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_the_image_is_that_of_the_original_network(norm: str, tmp_path: Path) -> None:
    state_dict = resnet_state_dict(7, blocks=2, ngf=4, norm=norm)
    torch.save(state_dict, tmp_path / "net.pth")
    inputs = [save(tmp_path / f"{w}x{h}.png", image(w, h)) for w, h in SIZES if w * h > 100]
    wkdc.translate(tmp_path / "net.pth", inputs, tmp_path / "out")
    for path in inputs:
        expected = by_hand(
            pixels_of(path), lambda images: resnet_forward(state_dict, images, blocks=2, norm=norm)
        )
        assert float(expected.std()) > 5  # a flat image would hide anything
        assert furthest(pixels_of(tmp_path / "out" / path.name), expected) <= ONE_STEP


def test_a_unet_gets_whole_multiples_and_the_size_comes_back(tmp_path: Path) -> None:
    state_dict = unet_state_dict(8, downs=5, ngf=4)
    torch.save(state_dict, tmp_path / "net.pth")
    inputs = [save(tmp_path / f"{w}x{h}.png", image(w, h)) for w, h in [(50, 41), (32, 64)]]
    wkdc.translate(tmp_path / "net.pth", inputs, tmp_path / "out")
    for path in inputs:
        expected = by_hand(
            pixels_of(path),
            lambda images: unet_forward(state_dict, images, downs=5),
            multiple=32,
            smallest=32,
        )
        assert furthest(pixels_of(tmp_path / "out" / path.name), expected) <= ONE_STEP


def test_padding_does_not_reach_the_interior(batch_teacher: Path) -> None:
    """Cut an image off anywhere, and far from the cut the same is translated."""
    folder = batch_teacher.parent
    whole = image(160, 96)
    save(folder / "whole.png", whole)
    save(folder / "cut.png", whole[:, :121])
    wkdc.translate(batch_teacher, [folder / "whole.png", folder / "cut.png"], folder / "out")
    # Two blocks see 4 convolutions of 3x3 at a quarter of the size, 16 pixels to either side; stem,
    # head, down and up add less than 16. So beyond 32 pixels from the cut nothing may differ.
    inside = slice(0, 121 - 32)
    translated = [pixels_of(folder / "out" / name)[:, inside] for name in ("whole.png", "cut.png")]
    assert furthest(*translated) <= ONE_STEP


def test_pth_and_onnx_translate_the_same(onnx_student: Path, photos: Path, tmp_path: Path) -> None:
    for width, height in SIZES:
        save(photos / f"{width}x{height}.png", image(width, height))
    student = onnx_student.with_suffix(".pth")
    for model in (student, onnx_student):
        result = wkdc.translate(model, [photos], tmp_path / model.suffix[1:])
        assert len(result.outputs) == PHOTOS + len(SIZES)
        assert result.skipped == ()
    for path in sorted(photos.iterdir()):
        given, translated = pixels_of(path), pixels_of(tmp_path / "pth" / path.name)
        assert translated.shape == given.shape
        if np.array_equal(given, np.broadcast_to(given[0, 0], given.shape)):
            # An image of one colour, such as 1x1: InstanceNorm divides by a deviation of 0 there,
            # and what remains is rounding noise made large.
            continue
        assert furthest(translated, pixels_of(tmp_path / "onnx" / path.name)) <= ONE_STEP


def test_openvino_translates_the_same(
    call_wkdc: Call, onnx_student: Path, photos: Path, tmp_path: Path
) -> None:
    for runtime in ("onnx", "openvino"):
        called = call_wkdc("translate", onnx_student, photos, "-o", runtime, "--runtime", runtime)
        assert called.code == 0, called.stderr
    for path in sorted(photos.iterdir()):
        translated = [pixels_of(tmp_path / folder / path.name) for folder in ("onnx", "openvino")]
        assert furthest(*translated) <= ONE_STEP
    called = call_wkdc("translate", onnx_student, photos, "-o", "b", "--runtime", "openvino-bf16")
    if "openvino-bf16" in runtimes_on(torch.device("cpu")):
        assert called.code == 0, called.stderr
    else:
        assert "does not compute in bfloat16" in called.errors[0]
    student = onnx_student.with_suffix(".pth")
    called = call_wkdc("translate", student, photos, "-o", "c", "--runtime", "openvino")
    assert called.code == 2
    assert f"wkdc export {student}" in called.errors[0]


def test_a_grey_network_translates_grey(tmp_path: Path) -> None:
    state_dict = resnet_state_dict(9, blocks=1, ngf=4, in_channels=1, out_channels=1)
    torch.save(state_dict, tmp_path / "grey.pth")
    colour = save(tmp_path / "colour.png", image(40, 24))
    grey = tmp_path / "grey.png"
    with Image.open(colour) as opened:
        opened.convert("L").save(grey)
    wkdc.translate(tmp_path / "grey.pth", [colour, grey], tmp_path / "out")
    translated = [pixels_of(tmp_path / "out" / name) for name in ("colour.png", "grey.png")]
    assert translated[0].shape == (24, 40)
    assert np.array_equal(*translated)
    expected = by_hand(
        pixels_of(grey)[..., None], lambda images: resnet_forward(state_dict, images, blocks=1)
    )
    assert furthest(translated[0][..., None], expected) <= ONE_STEP


@pytest.mark.parametrize("made", [2, 4, 5])
def test_other_channels_are_bands_of_a_tiff(tmp_path: Path, made: int) -> None:
    """Optical flow has 2 channels: no grey or RGB, but two bands."""
    weights = resnet_state_dict(10, blocks=1, ngf=4, in_channels=3, out_channels=made)
    torch.save(weights, tmp_path / "net.pth")
    given = image(16, 16)
    save(tmp_path / "in.png", given)
    wkdc.translate(tmp_path / "net.pth", [tmp_path / "in.png"], tmp_path / "out")
    written = tifffile.imread(tmp_path / "out" / "in.tif")
    expected = by_hand(
        pixels_of(tmp_path / "in.png"), lambda images: resnet_forward(weights, images, blocks=1)
    )
    assert furthest(written, expected) <= ONE_STEP


# --- What is read ------------------------------------------------------------------------------


def translated(model: Path, path: Path) -> Array:
    """One image, translated."""
    out = path.parent / "out"
    shutil.rmtree(out, ignore_errors=True)
    (output,) = wkdc.translate(model, [path], out).outputs
    return pixels_of(output)


def test_a_turned_photo_is_translated_upright(teacher: Path, tmp_path: Path) -> None:
    upright = image(48, 32)
    # Orientation 6: the camera was turned, what is stored must be turned right to be looked at.
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(upright).copy()).save(tmp_path / "turned.png", exif=exif)
    save(tmp_path / "upright.png", upright)
    drawn = translated(teacher, tmp_path / "turned.png")
    with Image.open(tmp_path / "out" / "turned.png") as opened:
        assert opened.getexif().get(0x0112, 1) == 1  # or viewers would turn it once more
    assert np.array_equal(drawn, translated(teacher, tmp_path / "upright.png"))


def on_white(pixels: Array, alpha: Array) -> Array:
    share = alpha[..., None] / 255
    return np.rint(pixels * share + 255 * (1 - share)).astype(np.uint8)


def test_transparent_parts_lie_on_white(teacher: Path, tmp_path: Path) -> None:
    pixels = image(40, 32)
    alpha = np.full((32, 40), 255, np.uint8)
    alpha[:12] = 0
    save(tmp_path / "layer.png", np.dstack([pixels, alpha]))
    save(tmp_path / "flat.png", on_white(pixels, alpha))
    drawn = translated(teacher, tmp_path / "layer.png")
    assert drawn.shape == pixels.shape
    assert np.array_equal(drawn, translated(teacher, tmp_path / "flat.png"))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "I;16", "CMYK"])
def test_other_kinds_of_images_are_read_as_rgb(teacher: Path, tmp_path: Path, mode: str) -> None:
    grey = image(40, 32, 1)[..., 0]
    if mode == "1":
        grey = np.where(grey > 127, 255, 0).astype(np.uint8)
    rgb = save(tmp_path / "rgb.png", np.dstack([grey] * 3))
    path = tmp_path / ("other.tif" if mode == "CMYK" else "other.png")
    if mode == "I;16":
        Image.fromarray(grey.astype(np.uint16) * 257).save(path)
    elif mode == "CMYK":  # no ink but black
        nothing = np.zeros_like(grey)
        Image.fromarray(np.dstack([nothing] * 3 + [255 - grey]), "CMYK").save(path)
    else:
        Image.fromarray(grey).convert(mode).save(path)
    with Image.open(path) as opened:
        assert opened.mode == mode
    assert np.array_equal(translated(teacher, path), translated(teacher, rgb))


def broken_files(folder: Path) -> list[str]:
    """A text, an empty file and half a photo, all called images; their names."""
    (folder / "a-text.png").write_text("no image")
    (folder / "empty.jpg").touch()
    whole = next(path for path in sorted(folder.iterdir()) if path.stat().st_size > 1000)
    (folder / "half.png").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    return ["a-text.png", "empty.jpg", "half.png"]


def test_broken_files_in_a_folder_are_named_and_left_out(
    call_wkdc: Call, teacher: Path, photos: Path, tmp_path: Path
) -> None:
    good = sorted(path.name for path in photos.iterdir())
    broken = broken_files(photos)
    called = call_wkdc("translate", teacher.name, "photos", "-o", "out", "--json")
    assert (called.code, called.errors) == (0, [])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == good
    report = json.loads(called.stdout)
    assert report["outputs"] == [f"out/{name}" for name in good]
    assert len(report["skipped"]) == len(broken)
    for name in broken:
        (line,) = [line for line in called.stderr.splitlines() if name in line]
        assert line.startswith("skipped: ")


def test_nothing_but_broken_files_is_an_error(
    call_wkdc: Call, teacher: Path, photos: Path, tmp_path: Path
) -> None:
    good = sorted(photos.iterdir())
    broken = broken_files(photos)
    for path in good:
        path.unlink()
    called = call_wkdc("translate", teacher.name, "photos", "-o", "out")
    assert (called.code, called.stdout) == (1, "")
    (error,) = called.errors
    assert broken[0] in error
    assert not (tmp_path / "out").exists()


def test_other_files_in_a_folder_are_no_images(teacher: Path, photos: Path) -> None:
    (photos / "LICENSE.txt").write_text("CC0")
    (photos / "more").mkdir()
    result = wkdc.translate(teacher, [photos], photos.parent / "out")
    assert (len(result.outputs), result.skipped) == (PHOTOS, ())


def test_inputs_that_are_not_there(teacher: Path, photos: Path) -> None:
    out = photos.parent / "out"
    with pytest.raises(ImageError, match=r"gone\.png"):
        wkdc.translate(teacher, [photos, photos / "gone.png"], out)
    (photos.parent / "none").mkdir()
    with pytest.raises(ImageError, match="none"):
        wkdc.translate(teacher, [photos, photos.parent / "none"], out)
    with pytest.raises(OptionError, match="no images"):
        wkdc.translate(teacher, [], out)
    assert not out.exists()


# --- What is written ---------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


def test_a_folder_keeps_names_and_sizes(call_wkdc: Call, teacher: Path, photos: Path) -> None:
    called = call_wkdc("translate", teacher.name, "photos", "-o", "a/new/folder", "--json")
    assert called.code == 0
    out = photos.parent / "a" / "new" / "folder"
    names = sorted(path.name for path in photos.iterdir())
    assert sorted(path.name for path in out.iterdir()) == names
    for path in out.iterdir():
        with Image.open(path) as opened:
            assert (opened.size, opened.mode, opened.format) == (PHOTO_SIZE, "RGB", "PNG")
    report = json.loads(called.stdout)
    assert list(report) == [
        *("outputs", "videos", "kept", "skipped", "translated", "seconds", "per_second", "tiling"),
        "interrupted",
    ]
    assert (report["translated"], report["videos"], report["tiling"]) == (PHOTOS, [], None)
    check_pace(report)
    assert report["outputs"] == [f"a/new/folder/{name}" for name in names]
    assert report["skipped"] == []


def test_the_command_says_what_it_did(call_wkdc: Call, onnx_student: Path, photos: Path) -> None:
    called = call_wkdc("translate", onnx_student.name, "photos", "-o", "out")
    assert (called.code, called.errors) == (0, [])
    (line,) = called.stdout.splitlines()
    assert line.startswith(f"{PHOTOS} images -> out in ")
    assert len(list((photos.parent / "out").iterdir())) == PHOTOS


def test_what_a_weight_file_cannot_tell_is_said_and_overridden(
    call_wkdc: Call, teacher: Path, photos: Path
) -> None:
    called = call_wkdc("translate", teacher.name, "photos", "-o", "one")
    (note,) = [line for line in called.stderr.splitlines() if line.startswith("assumed")]
    assert "--norm none" in note
    assert "--padding replicate" in note
    options = ("--norm", "none", "--padding", "replicate")
    called = call_wkdc("translate", teacher.name, "photos", "-o", "two", *options)
    assert "assumed" not in called.stderr
    translated = [
        pixels_of(photos.parent / out / next(photos.iterdir()).name) for out in ("one", "two")
    ]
    assert furthest(*translated) > 10


@pytest.mark.parametrize("name", ["new.png", "new.JPG", "new.webp", "deep/er/new.png"])
def test_a_single_image_may_name_its_file(teacher: Path, photos: Path, name: str) -> None:
    source = sorted(photos.iterdir())[0]
    output = photos.parent / name
    result = wkdc.translate(teacher, [source], output)
    assert result.outputs == (output,)
    with Image.open(output) as opened:
        opened.load()
        assert opened.size == PHOTO_SIZE
    assert [path.name for path in output.parent.iterdir() if path.name.startswith(".")] == []


def test_several_images_do_not_fit_into_one_file(teacher: Path, photos: Path) -> None:
    with pytest.raises(OptionError, match=r"one\.png"):
        wkdc.translate(teacher, [photos], photos.parent / "one.png")
    assert not (photos.parent / "one.png").exists()


@pytest.mark.parametrize("output", ["photos", "photos/taken.png", "."])
def test_originals_are_never_overwritten(
    call_wkdc: Call, teacher: Path, photos: Path, output: str
) -> None:
    source = photos / "taken.png"
    sorted(photos.iterdir())[0].rename(source)
    shutil.copy(source, photos.parent)
    before = contents(photos.parent)
    called = call_wkdc("translate", teacher.name, "photos/taken.png", "-o", output)
    (error,) = called.stderr.splitlines()
    assert (called.code, called.stdout) == (1, "")
    assert error.startswith("wkdc: ")
    assert "taken.png exists" in error
    assert "--overwrite" in error
    assert contents(photos.parent) == before


def test_one_file_that_exists_stops_all_before_anything_is_translated(
    teacher: Path, photos: Path
) -> None:
    out = photos.parent / "out"
    out.mkdir()
    last = out / sorted(photos.iterdir())[-1].name
    last.write_bytes(b"mine")
    with pytest.raises(OutputError, match=last.name):
        wkdc.translate(teacher, [photos], out)
    assert contents(out) == {last.name: b"mine"}


def test_overwriting_is_done_when_asked(call_wkdc: Call, teacher: Path, photos: Path) -> None:
    before = contents(photos)
    expected = photos.parent / "expected"
    wkdc.translate(teacher, [photos], expected)
    called = call_wkdc("translate", teacher.name, "photos", "-o", "photos", "--overwrite")
    assert called.code == 0
    after = contents(photos)
    assert set(after) == set(before)
    for name in before:
        assert after[name] != before[name]
        assert np.array_equal(pixels_of(photos / name), pixels_of(expected / name))


def test_a_photo_beside_its_translation_is_kept(teacher: Path, tmp_path: Path) -> None:
    """The translating of a .jpg is a .png, so that both have room in one folder."""
    photo = save(tmp_path / "a.jpg", image(24, 16))
    before = photo.read_bytes()
    result = wkdc.translate(teacher, [photo], tmp_path)
    assert result.outputs == (tmp_path / "a.png",)
    assert photo.read_bytes() == before


def test_images_of_one_name_keep_their_endings_apart(teacher: Path, tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "b.png"):
        save(tmp_path / name, image(24, 16))
    inputs = [tmp_path / name for name in ("a.jpg", "a.png", "b.png")]
    result = wkdc.translate(teacher, inputs, tmp_path / "out")
    assert [path.name for path in result.outputs] == ["a-jpg.png", "a-png.png", "b.png"]
    assert sorted(result.outputs) == sorted((tmp_path / "out").iterdir())


def test_two_folders_may_not_write_over_each_other(teacher: Path, photos: Path) -> None:
    more = shutil.copytree(photos, photos.parent / "more")
    with pytest.raises(OptionError, match=sorted(photos.iterdir())[0].stem):
        wkdc.translate(teacher, [photos, more], photos.parent / "out")
    assert not (photos.parent / "out").exists()


@pytest.mark.parametrize("names", [("a.png", "a-png.png"), ("a.jpg", "a.png", "a-png.jpg")])
def test_no_output_is_written_over_another(
    teacher: Path, tmp_path: Path, names: tuple[str, ...]
) -> None:
    inputs = [save(tmp_path / name, image(16, 16 + 4 * n)) for n, name in enumerate(names)]
    try:
        outputs = wkdc.translate(teacher, inputs, tmp_path / "out").outputs
    except OptionError:
        assert not (tmp_path / "out").exists()
    else:
        assert len(set(outputs)) == len(inputs)


def test_an_output_where_no_file_can_be(teacher: Path, photos: Path) -> None:
    before = contents(photos.parent)
    source = sorted(photos.iterdir())[0]
    for output in (teacher, teacher / "out", teacher / "out.png"):
        with pytest.raises(OutputError, match=r"teacher\.pth"):
            wkdc.translate(teacher, [source], output)
    assert contents(photos.parent) == before


def test_progress_ends_at_the_number_of_images(teacher: Path, photos: Path) -> None:
    (photos / "zz-broken.png").write_text("no image")
    seen: list[tuple[int, int]] = []
    wkdc.translate(
        teacher, [photos], photos.parent / "out", on_image=lambda *done: seen.append(done)
    )
    assert seen == [(n + 1, PHOTOS + 1) for n in range(PHOTOS + 1)]


# --- Parts of a folder, and the rest of one ----------------------------------------------------


def test_three_parts_at_once_translate_every_image_once(
    call_wkdc: Call, onnx_student: Path, photos: Path, tmp_path: Path
) -> None:
    for number in (1, 2):  # 8 images are no multiple of 3
        shutil.copy(next(photos.iterdir()), photos / f"more-{number}.png")
    wanted = {path.name for path in photos.iterdir()}

    def translate(part: int) -> wkdc.TranslateResult:
        return wkdc.translate(onnx_student, [photos], tmp_path / "out", shard=(part, 3))

    with ThreadPoolExecutor() as pool:
        done = list(pool.map(translate, (1, 2, 3)))
    outputs = [path for result in done for path in result.outputs]
    assert len(outputs) == len(set(outputs)) == PHOTOS + 2
    assert {path.name for path in (tmp_path / "out").iterdir()} == wanted
    for part, result in enumerate(done, 1):
        options = ("--shard", f"{part}/3", "--resume", "--json")
        called = call_wkdc("translate", onnx_student, photos, "-o", "out", *options)
        assert json.loads(called.stdout)["kept"] == [f"out/{path.name}" for path in result.outputs]


def test_ctrl_c_keeps_what_is_translated(
    call_wkdc: Call, teacher: Path, photos: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    for path in list(photos.iterdir()):
        for copy in range(50):
            shutil.copy(path, photos / f"{path.stem}-{copy}.png")
    code, stderr = interrupt(
        *("translate", teacher, "photos", "-o", "drawn"),
        when=lambda: list(tmp_path.glob("drawn/*.png")),
        folder=tmp_path,
        environment=environment,
    )
    assert code == 130
    assert "wkdc:" not in stderr  # asked for, so no error
    assert "--resume translates the others" in stderr
    translated = list((tmp_path / "drawn").iterdir())
    assert 0 < len(translated) < 51 * PHOTOS
    for path in translated:
        pixels_of(path)
    done = call_wkdc("translate", teacher, "photos", "-o", "drawn", "--resume", "--json")
    said = json.loads(done.stdout)
    assert (done.code, said["interrupted"]) == (0, False)
    assert len(said["kept"]) == len(translated)
    assert len(list((tmp_path / "drawn").iterdir())) == 51 * PHOTOS


def test_a_folder_goes_on_where_it_stopped(
    call_wkdc: Call, onnx_student: Path, photos: Path, tmp_path: Path
) -> None:
    first = sorted(photos.iterdir())[0]
    assert call_wkdc("translate", onnx_student, first, "-o", "drawn").code == 0
    before = (tmp_path / "drawn" / first.name).stat().st_mtime_ns
    called = call_wkdc("translate", onnx_student, photos, "-o", "drawn")
    assert called.code == 1
    assert "--resume" in called.errors[0]
    called = call_wkdc("translate", onnx_student, photos, "-o", "drawn", "--resume", "--json")
    said = json.loads(called.stdout)
    assert (len(said["outputs"]), said["kept"]) == (PHOTOS - 1, [f"drawn/{first.name}"])
    assert (tmp_path / "drawn" / first.name).stat().st_mtime_ns == before
    called = call_wkdc("translate", onnx_student, photos, "-o", "drawn", "--resume")
    assert called.code == 0
    assert called.stdout.startswith("0 images -> drawn")
    assert f"{PHOTOS} were there" in called.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--shard", "3of4"), "give a part of all: 3/16"),
        (("--shard", "0/4"), "give 1/4 to 4/4"),
        (("--shard", "5/4"), "give 1/4 to 4/4"),
        (("--resume", "--overwrite"), "give one of them"),
    ],
)
def test_parts_that_are_none(
    call_wkdc: Call, teacher: Path, photos: Path, arguments: tuple[str, ...], said: str
) -> None:
    called = call_wkdc("translate", teacher, photos, "-o", "drawn", *arguments)
    assert called.code == 2
    assert said in called.errors[0]
    assert not Path("drawn").exists()


def test_memory_stays_flat(tmp_path: Path) -> None:
    """In a process of its own, as the peak of this one lies behind it."""
    (tmp_path / "in").mkdir()
    for number in range(160):
        Image.new("RGB", (256, 192), (number, 0, 0)).save(tmp_path / "in" / f"{number:03d}.png")
    torch.save(resnet_state_dict(0, blocks=1, ngf=1), tmp_path / "tiny.pth")
    code = (
        "import psutil, wkdc\n"
        "seen = []\n"
        "look = lambda done, total: seen.append(psutil.Process().memory_info().rss)\n"
        "wkdc.translate('tiny.pth', ['in'], 'out', on_image=look)\n"
        "print(len(seen), max(seen[60:]) - max(seen[:60]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    count, growth = map(int, done.stdout.split())
    assert count == 160
    # 100 images kept would be 15 MB, and 59 MB as the network reads them; heaps settle by a few.
    assert growth < 10e6


def test_warnings_of_libraries_are_not_shown(
    teacher: Path, photos: Path, call_wkdc: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow warns of images of more than half as many pixels as it reads."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", PHOTO_SIZE[0] * PHOTO_SIZE[1] - 1)
    photo = sorted(photos.iterdir())[0]
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        load_pixels(photo)
        assert [one.category for one in shown] == [Image.DecompressionBombWarning]
        called = call_wkdc("translate", teacher, photo, "-o", "out.png")
    assert called.code == 0
    assert len(shown) == 1
