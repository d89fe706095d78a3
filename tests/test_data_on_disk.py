"""Images and folders as they lie on disk: sub-folders, leftovers, depth, bands and alpha."""

import json
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from conftest import Called
from moving import make_video, photo_frames
from originals import resnet_forward, resnet_state_dict
from PIL import Image

import wkdc
from wkdc.data.animation import Frame, read_frames, save_frames
from wkdc.data.image_writing import save_pixels
from wkdc.data.images import images_to_numbers, list_images, load_alpha, load_pixels
from wkdc.data.inputs import check_inputs
from wkdc.data.layouts import read_layout
from wkdc.errors import DatasetError, ImageError, OptionError
from wkdc.train import recipe_for
from wkdc.training.recipe import PIX2PIX

Call = Callable[..., Called]


def photo(path: Path, seed: int = 0, size: tuple[int, int] = (40, 32)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


# --- folders ------------------------------------------------------------------------------------


def test_folders_are_walked_into_as_by_the_stock_code(tmp_path: Path) -> None:
    for number, name in enumerate(("b.png", "a/x.png", "a/deep/y.png", "c/x.png")):
        photo(tmp_path / "trainA" / name, number)
    layout = read_layout(tmp_path)
    assert len({*layout.train, *layout.validation}) == 4


def test_what_systems_leave_is_passed_over_and_the_rest_is_counted(tmp_path: Path) -> None:
    photo(tmp_path / "x.png")
    left = (".DS_Store", "._x.jpg", "__MACOSX/x.jpg", "Thumbs.db", ".ipynb_checkpoints/x.png")
    for name in (*left, "a.txt", "b.txt", "c.psd", "README"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    said: list[str] = []
    assert [path.name for path in list_images(tmp_path, on_notice=said.append)] == ["x.png"]
    (line,) = said
    assert line.startswith(f"passed over in {tmp_path}: 1 .psd, 2 .txt, 1 without an ending;")


def test_translate_mirrors_folders_and_leaves_its_outputs_alone(
    tmp_path: Path, teacher: Path, call_wkdc: Call
) -> None:
    for number, name in enumerate(("x.png", "a/x.png", "a/b/x.jpg")):
        photo(tmp_path / "given" / name, number)
    (tmp_path / "given" / "notes.txt").touch()
    done = call_wkdc("translate", teacher, "given", "-o", "given/out", "--json")
    assert done.code == 0, done.stderr
    assert any("passed over in given: 1 .txt" in line for line in done.stderr.splitlines())
    written = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.glob("given/out/**/*.png"))
    assert written == ["given/out/a/b/x.png", "given/out/a/x.png", "given/out/x.png"]
    done = call_wkdc("translate", teacher, "given", "-o", "given/out", "--resume", "--json")
    assert len(json.loads(done.stdout)["kept"]) == 3
    assert json.loads(done.stdout)["outputs"] == []


def test_folders_of_combine_a_and_b(tmp_path: Path) -> None:
    for part in "AB":
        for number in range(4):
            photo(tmp_path / part / "train" / f"{number}.png", number)
            photo(tmp_path / part / "test" / f"{number}.png", number)
    layout = read_layout(tmp_path)
    assert layout.kind == "paired"
    assert layout.pairs is not None
    assert layout.pairs.targets[layout.train[0]] == tmp_path / "B" / "train" / "0.png"
    assert len(layout.validation) == 4
    assert recipe_for(tmp_path) == PIX2PIX  # whose script it is


def both_parts(folder: Path, a: Sequence[str], b: Sequence[str]) -> Path:
    """Pairs as `combine_A_and_B.py` takes them; an image is grey by its place in the list."""
    for part, names in (("A", a), ("B", b)):
        for number, name in enumerate(names):
            path = folder / part / "train" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (40, 32), 10 * number).save(path)
    return folder


def pairs_in(folder: Path) -> dict[str, str]:
    layout = read_layout(folder)
    assert layout.pairs is not None
    return {
        str(given.relative_to(folder / "A" / "train")): str(
            target.relative_to(folder / "B" / "train")
        )
        for given, target in layout.pairs.targets.items()
    }


def test_pairs_in_two_folders_belong_together_by_name(tmp_path: Path) -> None:
    """As in `combine_A_and_B.py`; also where endings change the order of the names."""
    folder = both_parts(tmp_path, ["a.bmp", "a.c.bmp"], ["a.jpg", "a.c.jpg"])
    assert pairs_in(folder) == {"a.bmp": "a.jpg", "a.c.bmp": "a.c.jpg"}


def test_pairs_in_two_folders_may_end_in_a_and_b(tmp_path: Path) -> None:
    """`combine_A_and_B.py --use_AB`."""
    folder = both_parts(tmp_path, ["1_A.png", "2_A.png"], ["1_B.png", "2_B.png"])
    assert pairs_in(folder) == {"1_A.png": "1_B.png", "2_A.png": "2_B.png"}


def test_equal_names_in_sub_folders_belong_together(tmp_path: Path) -> None:
    folder = both_parts(tmp_path, ["x/1.png", "y/1.png"], ["x/1.png", "y/1.png"])
    assert pairs_in(folder) == {"x/1.png": "x/1.png", "y/1.png": "y/1.png"}


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (["1.png", "2.png"], ["8.png"], r"A/train holds 2 images and .*B/train 1; .* as many"),
        (["1.png", "2.png"], ["1.png"], r"A/train/2.png has no image of its name in .*B/train,"),
        (["1.png"], ["1.png", "2.png"], r"B/train/2.png has no image of its name in .*A/train,"),
        (
            ["1.png", "1.jpg"],
            ["1.png", "2.png"],
            r"1 is the name of 2 images in .*A/.* of 1 in .*B/",
        ),
        (
            ["1.png", "2.png"],
            ["1.png", "3.png"],
            r"A/train/2.png has no image of its name in .*B/train,",
        ),
    ],
)
def test_pairs_that_are_none_are_told(
    tmp_path: Path, a: list[str], b: list[str], said: str
) -> None:
    with pytest.raises(DatasetError, match=said):
        read_layout(both_parts(tmp_path, a, b))


def test_a_folder_without_its_other_half_is_told(tmp_path: Path) -> None:
    both_parts(tmp_path, ["1.png"], [])
    with pytest.raises(ImageError, match="B/train is no folder"):
        read_layout(tmp_path)


def test_a_and_b_may_be_validated_on_val(tmp_path: Path) -> None:
    both_parts(tmp_path, ["1.png", "2.png"], ["1.png", "2.png"])
    for part in "AB":
        photo(tmp_path / part / "val" / "9.png")
    layout = read_layout(tmp_path)
    assert layout.validation == (tmp_path / "A" / "val" / "9.png",)
    assert len(layout.train) == 2


@pytest.mark.parametrize("name", ["A/test", "test_A", "val_label"])
def test_pairs_in_two_folders_to_test_on_alone(tmp_path: Path, name: str) -> None:
    other = {"A/test": "B/test", "test_A": "test_B", "val_label": "val_img"}[name]
    with pytest.raises(ImageError):
        read_layout(tmp_path, test=True)
    for number in range(2):
        photo(tmp_path / name / f"{number}.png", number)
    with pytest.raises(DatasetError, match="no training set, and its test set lacks a part"):
        read_layout(tmp_path, test=True)
    for number in range(2):
        photo(tmp_path / other / f"{number}.png", number)
    layout = read_layout(tmp_path, test=True)
    assert layout.pairs is not None
    assert (layout.train, len(layout.validation)) == ((), 2)
    assert [layout.pairs.targets[path].parent for path in layout.validation] == [
        tmp_path / other,
        tmp_path / other,
    ]


def test_a_training_set_says_what_its_test_set_holds(tmp_path: Path) -> None:
    """Instance maps that only the test set has are none that the generator was trained with."""
    for name in ("train_label", "train_img", "test_label", "test_inst"):
        photo(tmp_path / name / "1.png")
    layout = read_layout(tmp_path, test=True)
    assert layout.pairs is not None
    assert not layout.pairs.instances
    assert [path.parent.name for path in layout.validation] == ["train_label"]


def test_pairs_of_different_sizes_are_told(tmp_path: Path, teacher: Path) -> None:
    both_parts(tmp_path, ["1.png", "2.png"], ["1.png"])
    photo(tmp_path / "B" / "train" / "2.png", size=(44, 32))
    with pytest.raises(ImageError, match=r"A/train/2.png is 40x32, its target .*2.png 44x32"):
        check_inputs(read_layout(tmp_path), 3, 3)


def test_single_images_where_pairs_are_read_are_told(tmp_path: Path) -> None:
    """The stock code cuts them in halves, too, and says nothing."""
    said: list[str] = []
    for number in range(2):
        photo(tmp_path / "train" / f"{number}.png", size=(80, 40))
    assert read_layout(tmp_path, on_notice=said.append).kind == "paired"
    assert said == []
    for number in range(2):
        photo(tmp_path / "train" / f"{number}.png", size=(48, 40))
    assert read_layout(tmp_path, on_notice=said.append).kind == "paired"
    assert said == [
        f"{tmp_path}/train is read as pairs side by side, but no image there is as wide as two; "
        f"if they are single images, give --data {tmp_path}/train"
    ]


def test_a_and_b_without_train_are_told(tmp_path: Path) -> None:
    for part in "AB":
        photo(tmp_path / part / "1.png")
    said: list[str] = []
    assert read_layout(tmp_path, on_notice=said.append).kind == "inputs"
    (line,) = said
    assert "read as inputs; for pairs give A/train and B/train" in line


def test_links_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    photo(tmp_path / "far" / "x.png")
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "link").symlink_to(tmp_path / "far")
    (tmp_path / "near" / "loop").symlink_to(tmp_path / "near")
    found = [str(path.relative_to(tmp_path / "near")) for path in list_images(tmp_path / "near")]
    assert found == ["link/x.png"]


# --- depth --------------------------------------------------------------------------------------

RAMP = np.array([[0, 1, 255, 256, 32767, 65535]], dtype=np.uint16)


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_16_bits_are_read_at_full_depth(tmp_path: Path, name: str, bands: int) -> None:
    pixels = torch.from_numpy(RAMP).expand(bands, -1, -1).contiguous()
    save_pixels(tmp_path / name, pixels)
    found = load_pixels(tmp_path / name, channels=bands)
    expected = torch.from_numpy(RAMP / 65535 * 255).float().expand(bands, -1, -1)
    # float32 has 24 bits, so a value of 16 is kept to a two-hundred-and-fiftieth of its step.
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert (found / 255 * 65535).round().to(torch.int32).tolist() == pixels.int().tolist()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_16_bits_are_turned_as_8_bits_are(tmp_path: Path, name: str, orientation: int) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (5, 7), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(grey).save(tmp_path / "8.png", exif=exif)
    deep = grey.astype(np.uint16) * 257
    if name == "x.png":
        Image.fromarray(deep).save(tmp_path / name, exif=exif)
    else:
        tags = [(0x0112, "H", 1, orientation, True)]
        tifffile.imwrite(tmp_path / name, deep, photometric="minisblack", extratags=tags)
    found, expected = (load_pixels(tmp_path / one, channels=1) for one in (name, "8.png"))
    assert found.dtype == torch.float32
    assert torch.equal(found.round().to(torch.uint8), expected)


def test_a_tiff_whose_0_is_white(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (5, 7), dtype=np.uint8)
    for name, values in (("8.tif", grey), ("16.tif", grey.astype(np.uint16) * 257)):
        tifffile.imwrite(tmp_path / name, values, photometric="miniswhite")
    shallow, deep = (load_pixels(tmp_path / name, channels=1) for name in ("8.tif", "16.tif"))
    assert torch.equal(shallow, torch.from_numpy(255 - grey)[None])
    assert torch.equal(deep.round().to(torch.uint8), shallow)


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0, 1, (0, 255)), (-1, 1, (0, 255)), (0, 200, (0, 200))]
)
@pytest.mark.parametrize("name", ["x.tif", "x.npy"])
def test_floats_are_read_by_their_range(
    tmp_path: Path, low: float, high: float, expected: tuple[float, float], name: str
) -> None:
    values = np.linspace(low, high, 60, dtype=np.float32).reshape(6, 10)
    if name == "x.tif":
        tifffile.imwrite(tmp_path / name, values)
    else:
        np.save(tmp_path / name, values)
    found = load_pixels(tmp_path / name, channels=1)
    assert (float(found.min()), float(found.max())) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("values", [[-5.0, 3.0], [0.0, 4000.0], [0.0, np.nan]])
def test_floats_of_no_known_range_are_refused(tmp_path: Path, values: list[float]) -> None:
    np.save(tmp_path / "x.npy", np.array([values]))
    with pytest.raises(ImageError, match=r"holds (numbers|NaN)"):
        load_pixels(tmp_path / "x.npy")


@pytest.mark.parametrize("name", ["x.tif", "x.npy", "x.npz"])
def test_floats_of_a_range_that_is_named(tmp_path: Path, name: str) -> None:
    values = np.array([[-100.0, 0.0, 1000.0, 4000.0, 9000.0]], dtype=np.float32)
    match name:
        case "x.tif":
            tifffile.imwrite(tmp_path / name, values)
        case "x.npz":
            np.savez(tmp_path / name, values)
        case _:
            np.save(tmp_path / name, values)
    found = load_pixels(tmp_path / name, channels=1, value_range=(0, 4000))
    assert found[0, 0].tolist() == pytest.approx([0, 0, 63.75, 255, 255])
    with pytest.raises(ImageError, match="give --range LOW,HIGH"):
        load_pixels(tmp_path / name, channels=1)
    images = torch.tensor([-2.0, -1.0, -0.5, 1.0])  # and back
    assert images_to_numbers(images, (0, 4000)).tolist() == [0, 0, 1000, 4000]


def test_a_range_through_the_commands(tmp_path: Path, call_wkdc: Call) -> None:
    weights = resnet_state_dict(1, blocks=2, ngf=6, in_channels=5, out_channels=5)
    torch.save(weights, tmp_path / "teacher.pth")
    (tmp_path / "scenes").mkdir()
    values = np.random.default_rng(0).uniform(0, 4000, (6, 64, 72, 5)).astype(np.float32)
    for number, scene in enumerate(values):
        np.save(tmp_path / "scenes" / f"{number}.npy", scene)
    done = call_wkdc("prune", "teacher.pth", "--ratio", 2, "--data", "scenes")
    assert done.code == 1
    assert "give --range LOW,HIGH" in done.errors[0]
    named, data = ("--range", "0,4000"), ("--data", "scenes", "--range", "0,4000")
    for command in (
        ("prune", "teacher.pth", "--ratio", 2, *data),
        ("distill", *data, "--steps", 2, "--crop", 32),
        ("evaluate", "student.pth", *data, "--size", 64),
        ("analyze", "student.pth", *data, "--size", 64),
        ("compare", "student.pth", *data, "--size", 64),
        ("report", "--size", 64),  # which finds images and range on the card
        ("export", "student.pth", "--onnx", *data),
        ("translate", "teacher.pth", "scenes", "-o", "out", *named),
    ):
        done = call_wkdc(*command)
        assert done.code == 0, (command, done.stderr)
    images = torch.from_numpy(values[0] / 2000 - 1).permute(2, 0, 1)[None]
    expected = (resnet_forward(weights, images, blocks=2)[0] + 1) * 2000
    written = tifffile.imread(tmp_path / "out" / "0.tif")
    assert (written.shape, written.dtype) == ((64, 72, 5), np.float32)
    # 1e-4 of [-1, 1]: float32 in another order.
    assert np.abs(written - expected.permute(1, 2, 0).numpy()).max() < 0.2


def test_ranges_and_bands_that_are_none(tmp_path: Path, call_wkdc: Call) -> None:
    photo(tmp_path / "photos" / "x.png")
    for option, said in (
        (("--range", "5"), "give LOW,HIGH"),
        (("--range", "0,inf"), "give LOW,HIGH"),
        (("--range", "4,1"), "give a lower and a higher number"),
        (("--bands", "1,2"), "give one or three"),
        (("--bands", "0"), "counted from 1"),
        (("--bands", "red"), "such as 3,2,1"),
    ):
        done = call_wkdc("compare", "a.pth", "--data", "photos", *option)
        assert done.code == 2
        assert said in done.errors[0]
    torch.save(resnet_state_dict(1, blocks=2, ngf=6), tmp_path / "a.pth")
    for command in (("report",), ("export", "a.pth"), ("prune", "a.pth", "--ratio", 2)):
        done = call_wkdc(*command, "--range", "0,1")
        assert (done.code, "give --data FOLDER with them" in done.errors[0]) == (2, True)
    with pytest.raises(OptionError, match="give a lower and a higher"):
        wkdc.translate(tmp_path / "a.pth", [tmp_path / "photos"], tmp_path, value_range=(1, 1))


def test_translate_writes_16_bits_back(tmp_path: Path, teacher: Path, call_wkdc: Call) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (3, 32, 40)).astype(np.uint16)
    save_pixels(tmp_path / "deep.png", torch.from_numpy(deep))
    done = call_wkdc("translate", teacher, "deep.png", "-o", "out8")
    assert "cut to 8 bits a value: 1 image; see --depth 16" in done.stderr.splitlines()
    done = call_wkdc("translate", teacher, "deep.png", "-o", "out16", "--depth", 16)
    assert done.code == 0, done.stderr
    assert "8 bits" not in done.stderr
    images = torch.from_numpy(deep.astype(np.float32) / 32767.5 - 1)[None]
    expected = (wkdc.load_generator(teacher).network(images)[0] + 1) * 127.5
    found = load_pixels(tmp_path / "out16" / "deep.png")
    assert found.is_floating_point()
    # Half a step of 16 bits, and float32's rounding of the network: far below a step of 8 bits.
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0)


# --- bands --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.tif", "x.npy", "x.npz", "first.npy"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_files_of_six_bands(tmp_path: Path, name: str, dtype: type) -> None:
    top = np.iinfo(dtype).max
    values = np.random.default_rng(0).integers(0, top + 1, (33, 40, 6)).astype(dtype)
    match name:
        case "x.tif":
            tifffile.imwrite(
                tmp_path / name, values, photometric="minisblack", planarconfig="contig"
            )
        case "x.npz":
            np.savez(tmp_path / name, values)
        case "first.npy":
            np.save(tmp_path / name, values.transpose(2, 0, 1))
        case _:
            np.save(tmp_path / name, values)
    found = load_pixels(tmp_path / name, channels=6)
    expected = torch.from_numpy(values.astype(np.float32) / top * 255).permute(2, 0, 1)
    torch.testing.assert_close(found.float(), expected, atol=1e-4, rtol=0)
    said = "has 6 channels, and 3 are read; give images of 3 channels"
    with pytest.raises(ImageError, match=said):
        load_pixels(tmp_path / name)
    with pytest.raises(ImageError, match=r"and 1 is read; give images of 1 channel$"):
        load_pixels(tmp_path / name, channels=1)


def bytes_of(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("photometric", ["minisblack", "rgb"])
@pytest.mark.parametrize("bands", [2, 3, 4, 5])
def test_bands_of_8_bits_in_a_tiff(
    tmp_path: Path, bands: int, photometric: str, planar: str
) -> None:
    """Those that no tag calls alpha are bands, and none of them is dropped."""
    if bands == 2 and photometric == "rgb":
        photometric = "miniswhite"
    values, path = bytes_of(33, 40, bands), tmp_path / "x.tif"
    stored = values if planar == "contig" else values.transpose(2, 0, 1)
    colours = 3 if photometric == "rgb" else 1
    extra = ["unspecified"] * (bands - colours)
    tifffile.imwrite(
        path, stored, photometric=photometric, planarconfig=planar, extrasamples=extra or None
    )
    found = load_pixels(path, channels=bands)
    if photometric == "miniswhite":
        values[..., 0] = 255 - values[..., 0]
    assert np.array_equal(found.permute(1, 2, 0).numpy(), values)
    assert load_alpha(path) is None
    if bands != 3:
        with pytest.raises(ImageError, match=f"has {bands} channels, and 3 are read"):
            load_pixels(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_alpha_of_a_tiff_is_what_its_tag_says(tmp_path: Path, planar: str, dtype: type) -> None:
    values, path = bytes_of(33, 40, 4), tmp_path / "x.tif"
    stored = values.astype(dtype) * (np.iinfo(dtype).max // 255)
    if planar == "separate":
        stored = stored.transpose(2, 0, 1)
    tifffile.imwrite(
        path, stored, photometric="rgb", planarconfig=planar, extrasamples=["unassalpha"]
    )
    alpha = load_alpha(path)
    assert alpha is not None
    assert np.array_equal(alpha[0].numpy(), values[..., 3])
    share = values[..., 3:] / 255
    on_white = values[..., :3] * share + 255 * (1 - share)
    # Pillow rounds to whole steps of 8 bits.
    assert np.abs(load_pixels(path).permute(1, 2, 0).numpy() - on_white).max() <= 1


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_an_array_has_no_alpha(tmp_path: Path, name: str) -> None:
    """Its fourth band may as well be infrared."""
    values = bytes_of(33, 40, 4)
    np.save(tmp_path / name, values) if name == "x.npy" else np.savez(tmp_path / name, values)
    with pytest.raises(ImageError, match=r"has 4 channels, and 3 are read; .*as alpha in a PNG"):
        load_pixels(tmp_path / name)


def bands_teacher(path: Path, given: int, made: int) -> Path:
    weights = resnet_state_dict(1, blocks=1, ngf=4, in_channels=given, out_channels=made)
    torch.save(weights, path)
    return path


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_translate_reads_the_bands_that_it_writes(tmp_path: Path, channels: int) -> None:
    model = bands_teacher(tmp_path / "net.pth", channels, channels)
    np.save(tmp_path / "x.npy", bytes_of(33, 40, channels))
    wkdc.translate(model, [tmp_path / "x.npy"], tmp_path / "one")
    again = wkdc.translate(model, [tmp_path / "one"], tmp_path / "two")
    assert [path.name for path in again.outputs] == ["x.tif"]


def test_translate_decides_for_each_file_what_it_is(tmp_path: Path, call_wkdc: Call) -> None:
    """Whichever comes first; what is neither bands nor a label map is left out with its reason."""
    bands_teacher(tmp_path / "net.pth", 4, 3)
    folder = tmp_path / "given"
    photo(folder / "a-photo.png")
    np.save(folder / "b-five.npy", bytes_of(33, 40, 5))
    np.save(folder / "c-floats.npy", np.full((33, 40, 4), 4000, dtype=np.float32))
    np.savez(folder / "d-two.npz", bytes_of(3, 3), bytes_of(3, 3))
    np.save(folder / "e-good.npy", bytes_of(33, 40, 4))
    Image.fromarray(bytes_of(33, 40) % 4).save(folder / "f-labels.png")
    frames = [Image.fromarray(bytes_of(33, 40, 3, seed=n)) for n in range(2)]
    frames[0].save(folder / "g.gif", save_all=True, append_images=frames[1:])
    make_video(folder / "h.mp4", photo_frames(2))
    done = call_wkdc("translate", "net.pth", "given", "-o", "out", "--json")
    assert done.code == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["outputs"] == ["out/e-good.png", "out/f-labels.png"]
    expected = (
        "a-photo.png has 3 channels (RGB), and 4 are read; give images of 4 channels, or label",
        "b-five.npy has 5 channels, and 4 are read; give images of 4 channels, or label maps",
        "c-floats.npy holds numbers from 4000 to 4000; floats are read as",
        "d-two.npz holds 2 arrays; save one image a file",
        "g.gif has 3 channels (an animation), and 4 are read",
        "h.mp4 has 3 channels (a video), and 4 are read",
    )
    for reason, start in zip(said["skipped"], expected, strict=True):
        assert reason.startswith(f"given/{start}")
    done = call_wkdc("translate", "net.pth", "given/f-labels.png", "-o", "tiled", "--tile", 128)
    assert (done.code, "cannot be tiled; leave out --tile" in done.errors[0]) == (1, True)


@pytest.mark.parametrize(("mode", "channels"), [("RGBA", 4), ("LA", 2)])
def test_alpha_is_a_channel_where_the_network_has_as_many(
    tmp_path: Path, mode: str, channels: int
) -> None:
    values = np.random.default_rng(0).integers(0, 256, (8, 9, channels), dtype=np.uint8)
    Image.fromarray(values, mode).save(tmp_path / "x.png")
    found = load_pixels(tmp_path / "x.png", channels=channels)
    assert np.array_equal(found.permute(1, 2, 0).numpy(), values)


@pytest.mark.parametrize("bands", [2, 4, 6])
def test_a_generator_of_many_bands_through_the_commands(
    tmp_path: Path, bands: int, call_wkdc: Call
) -> None:
    weights = resnet_state_dict(1, blocks=2, ngf=6, in_channels=bands, out_channels=bands)
    torch.save(weights, tmp_path / "teacher.pth")
    folder = tmp_path / "scenes" / "north"
    folder.mkdir(parents=True)
    values = np.random.default_rng(0).integers(0, 65536, (6, 64, 72, bands)).astype(np.uint16)
    for number, scene in enumerate(values):
        tifffile.imwrite(
            folder / f"{number}.tif", scene, photometric="minisblack", planarconfig="contig"
        )
    done = call_wkdc("prune", "teacher.pth", "--ratio", 2, "--data", "scenes")
    assert done.code == 0, done.stderr
    for command in (
        ("distill", "--data", "scenes", "--steps", 2, "--crop", 32),
        ("evaluate", "student.pth", "--data", "scenes", "--size", 64),
        ("analyze", "student.pth", "--data", "scenes", "--size", 64),
        ("compare", "student.pth", "--data", "scenes", "--size", 64),
        ("translate", "teacher.pth", "scenes", "-o", "out", "--depth", 16),
    ):
        done = call_wkdc(*command)
        assert done.code == 0, (command, done.stderr)
    images = torch.from_numpy(values[0].astype(np.float32) / 32767.5 - 1).permute(2, 0, 1)[None]
    expected = (resnet_forward(weights, images, blocks=2)[0] + 1) * 32767.5
    written = tifffile.imread(tmp_path / "out" / "north" / "0.tif")
    assert (written.shape, written.dtype) == ((64, 72, bands), np.uint16)
    # Two of 65536 steps: rounding, and float32 in another order.
    assert np.abs(written - expected.permute(1, 2, 0).numpy()).max() <= 2


def test_sheets_show_the_bands_that_are_named(tmp_path: Path, call_wkdc: Call) -> None:
    weights = resnet_state_dict(1, blocks=2, ngf=6, in_channels=5, out_channels=5)
    torch.save(weights, tmp_path / "a.pth")
    torch.save(resnet_state_dict(2, blocks=2, ngf=6, in_channels=5, out_channels=5), tmp_path / "b")
    (tmp_path / "b").rename(tmp_path / "b.pth")
    (tmp_path / "scenes").mkdir()
    scene = np.zeros((64, 64, 5), dtype=np.uint8) + np.arange(40, 240, 40, dtype=np.uint8)
    np.save(tmp_path / "scenes" / "0.npy", scene)
    command = ("compare", "a.pth", "b.pth", "--data", "scenes", "--size", 64, "--count", 1)
    corner = (40, 40)  # of the input, below the titles
    for bands, colour in (((), (40, 80, 120)), ((5, 3, 1), (200, 120, 40)), ((4,), (160,) * 3)):
        named = ("--bands", ",".join(map(str, bands))) if bands else ()
        done = call_wkdc(*command, *named)
        assert done.code == 0, done.stderr
        assert Image.open(tmp_path / "comparison.png").getpixel(corner) == colour
    done = call_wkdc(*command, "--bands", "6,2,1")
    assert done.code == 1
    assert "bands 6,2,1 are to be shown of images of 5; give bands from 1 to 5" in done.errors[0]


def test_a_count_that_does_not_fit_says_both(tmp_path: Path) -> None:
    torch.save(resnet_state_dict(1, blocks=2, ngf=6, in_channels=6), tmp_path / "teacher.pth")
    photo(tmp_path / "photos" / "x.png", size=(70, 66))
    with pytest.raises(DatasetError, match=r"reads 6 channels: .*x.png has 3 channels"):
        wkdc.prune(
            tmp_path / "teacher.pth", ratio=2, data=tmp_path / "photos", output=tmp_path / "s.pth"
        )


# --- alpha --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "depth"),
    [*((f"out{e}", 8) for e in (".png", ".tif", ".webp", ".avif")), ("o.png", 16), ("o.tif", 16)],
)
def test_translate_gives_alpha_back(tmp_path: Path, teacher: Path, name: str, depth: int) -> None:
    values = bytes_of(32, 40, 4)
    values[..., 3] = np.where(values[..., 3] > 127, 255, 0)
    Image.fromarray(values).save(tmp_path / "x.png")
    out = tmp_path / name
    wkdc.translate(teacher, [tmp_path / "x.png"], out, alpha="keep", depth=depth)
    alpha = load_alpha(out)
    assert alpha is not None
    # AVIF is lossy, in its alpha, too; all else is exact.
    furthest = np.abs(alpha[0].numpy().astype(int) - values[..., 3]).max()
    assert furthest <= (64 if out.suffix == ".avif" else 0)
    if depth == 8:
        assert Image.open(out).mode == "RGBA"
    wkdc.translate(teacher, [tmp_path / "x.png"], tmp_path / "plain.png")
    assert Image.open(tmp_path / "plain.png").mode == "RGB"


@pytest.mark.parametrize("name", ["o.png", "o.tif"])
def test_alpha_of_16_bits_keeps_them(tmp_path: Path, teacher: Path, name: str) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (32, 40, 4), dtype=np.uint16)
    pixels = torch.from_numpy(values).permute(2, 0, 1)
    save_pixels(tmp_path / "x.png", pixels)
    wkdc.translate(teacher, [tmp_path / "x.png"], tmp_path / name, alpha="keep", depth=16)
    alpha = load_alpha(tmp_path / name)
    assert alpha is not None
    assert np.array_equal((alpha[0] * 257).round().int().numpy(), values[..., 3].astype(int))


def with_transparent_colour(path: Path, colours: np.ndarray, chunk: bytes) -> Path:
    """A PNG whose tRNS says that one colour is transparent; Pillow writes none of 16 bits."""
    save_pixels(path, torch.from_numpy(colours).permute(2, 0, 1))
    data = path.read_bytes()
    at = data.index(b"IDAT") - 4
    crc = zlib.crc32(b"tRNS" + chunk)
    part = struct.pack(">I", len(chunk)) + b"tRNS" + chunk + struct.pack(">I", crc)
    path.write_bytes(data[:at] + part + data[at:])
    return path


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_colour_that_is_transparent_is_alpha(
    tmp_path: Path, teacher: Path, channels: int, depth: int
) -> None:
    dtype = np.uint8 if depth == 8 else np.uint16
    colours = np.full((32, 40, channels), 2**depth - 56, dtype)
    colours[5:20, 7:30] = 2**depth - 156
    chunk = struct.pack(">H", 2**depth - 156) * channels
    path = with_transparent_colour(tmp_path / "x.png", colours, chunk)
    assert load_pixels(path)[:, 5:20, 7:30].min() == 255  # on white
    wkdc.translate(teacher, [path], tmp_path / "out.png", alpha="keep", depth=depth)
    alpha = load_alpha(tmp_path / "out.png")
    assert alpha is not None
    expected = np.full((32, 40), 255)
    expected[5:20, 7:30] = 0
    assert np.array_equal(alpha[0].numpy(), expected)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("x.jpg", ("--depth", 16), "with 16 bits a value; choose .png .tif .tiff .npy"),
        ("x.jpg", ("--alpha", "keep"), "with its transparency; choose .png .webp .avif .tif"),
        ("x.webp", ("--alpha", "keep", "--depth", 16), "a value and its transparency; choose .png"),
        ("x.png", ("--range", "0,1"), "with floating-point numbers; choose .tif .tiff .npy"),
        ("x", ("--depth", 12), "depth 12 cannot be written; give 8 or 16"),
    ],
)
def test_files_that_cannot_hold_it_are_told_before(
    tmp_path: Path, teacher: Path, call_wkdc: Call, name: str, options: Sequence[object], said: str
) -> None:
    photo(tmp_path / "in.png")
    done = call_wkdc("translate", teacher, "in.png", "-o", name, *options)
    assert (done.code, said in done.errors[0]) == (2, True), done.stderr
    assert ".part" not in done.stderr
    assert "1 of 1" not in done.stderr  # before anything is translated


def test_transparency_of_other_than_grey_or_rgb_is_told(tmp_path: Path) -> None:
    model = bands_teacher(tmp_path / "net.pth", 4, 4)
    with pytest.raises(OptionError, match=r"turns 4 channels into 4, .* leave out --alpha"):
        wkdc.translate(model, [photo(tmp_path / "x.png")], tmp_path / "out", alpha="keep")


# --- animated images ----------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".gif", ".png", ".webp"])
def test_an_animated_image_is_translated_frame_by_frame(
    tmp_path: Path, teacher: Path, ending: str
) -> None:
    random = np.random.default_rng(0)
    frames = [
        Image.fromarray(random.integers(0, 256, (32, 40, 3), dtype=np.uint8)) for _ in range(3)
    ]
    (tmp_path / "given").mkdir()
    path = tmp_path / "given" / f"moving{ending}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[40, 80, 120], loop=0)
    photo(tmp_path / "given" / "still.png")
    wkdc.translate(teacher, [tmp_path / "given"], tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"moving{ending}", "still.png"]
    read, written = list(read_frames(path)), list(read_frames(tmp_path / "out" / path.name))
    assert [frame.duration_ms for frame in written] == [frame.duration_ms for frame in read]
    if ending == ".png":  # the only one of them that loses nothing
        for given, made in zip(read, written, strict=True):
            images = given.pixels.float()[None] / 127.5 - 1
            expected = (wkdc.load_generator(teacher).network(images)[0] + 1) * 127.5
            assert (made.pixels - expected).abs().max() <= 1  # rounding may go either way


def test_a_still_gif_is_an_image(tmp_path: Path, teacher: Path) -> None:
    Image.fromarray(np.full((32, 40, 3), 200, dtype=np.uint8)).save(tmp_path / "x.gif")
    result = wkdc.translate(teacher, [tmp_path / "x.gif"], tmp_path / "out")
    assert [path.name for path in result.outputs] == ["x.png"]


def moving(path: Path, channels: int = 3, **options: Any) -> Path:
    """An animation of three frames; of RGBA ones, an opaque rectangle moves over nothing."""
    frames = []
    for number in range(3):
        values = bytes_of(32, 40, channels, seed=number)
        if channels == 4:
            values[..., 3] = 0
            values[8:24, 4 + 8 * number : 16 + 8 * number, 3] = 255
        frames.append(Image.fromarray(values))
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".gif":
        options["disposal"] = 2
    options |= {"lossless": True, "duration": 40}  # of WebP, which else forgets that it has alpha
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    return path


def test_animations_and_videos_have_8_bits(tmp_path: Path, teacher: Path, call_wkdc: Call) -> None:
    photo(tmp_path / "given" / "a.png")
    path = moving(tmp_path / "given" / "b.png")
    make_video(tmp_path / "given" / "c.mp4", photo_frames(2))
    photo(tmp_path / "given" / "d.png")
    done = call_wkdc("translate", teacher, "given", "-o", "out", "--depth", 16)
    assert done.code == 0, done.stderr
    assert "animations and videos are written with 8 bits a value" in done.stderr.splitlines()
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a.png", "b.png", "c.mp4", "d.png"]
    wkdc.translate(teacher, [path], tmp_path / "8.png")
    frames = [read_frames(tmp_path / name) for name in ("out/b.png", "8.png")]
    for deep, plain in zip(*frames, strict=True):
        # Rounded to 16 bits first, a value may fall on the other side of a half.
        assert (deep.pixels.int() - plain.pixels.int()).abs().max() <= 1


def test_a_range_is_for_still_images(tmp_path: Path, teacher: Path, call_wkdc: Call) -> None:
    moving(tmp_path / "given" / "a.gif")
    photo(tmp_path / "given" / "b.png")
    done = call_wkdc("translate", teacher, "given", "-o", "out", "--range", "0,1", "--json")
    assert json.loads(done.stdout)["outputs"] == ["out/b.tif"]
    said = (
        "given/a.gif is an animation, which has no floating-point numbers; translate it without "
        "--range"
    )
    assert json.loads(done.stdout)["skipped"] == [said]
    done = call_wkdc("translate", teacher, "given/a.gif", "-o", "x.gif", "--range", "0,1")
    assert done.errors == [f"wkdc: {said}"]


@pytest.mark.parametrize("made", [".gif", ".png", ".webp", ".avif"])
@pytest.mark.parametrize("given", [".gif", ".png", ".webp"])
def test_frames_keep_their_transparency(
    tmp_path: Path, teacher: Path, given: str, made: str
) -> None:
    path = moving(tmp_path / f"in{given}", 4)
    wkdc.translate(teacher, [path], tmp_path / f"out{made}", alpha="keep")
    wkdc.translate(teacher, [path], tmp_path / f"white{made}")
    frames = list(read_frames(tmp_path / f"out{made}"))
    for before, after in zip(read_frames(path), frames, strict=True):
        assert before.alpha is not None
        assert after.alpha is not None
        # AVIF is lossy, in its alpha, too.
        assert torch.equal(after.alpha > 127, before.alpha > 127)
        assert made == ".avif" or torch.equal(after.alpha, before.alpha)
    assert all(frame.alpha is None for frame in read_frames(tmp_path / f"white{made}"))


def test_transparency_of_a_gif_is_all_or_nothing(tmp_path: Path) -> None:
    frames = [
        Frame(torch.from_numpy(values[:3]), 40, torch.from_numpy(values[3:]))
        for values in (bytes_of(4, 64, 80, seed=number) for number in range(3))
    ]
    save_frames(tmp_path / "x.gif", frames)
    for before, after in zip(frames, read_frames(tmp_path / "x.gif"), strict=True):
        assert before.alpha is not None
        assert after.alpha is not None
        assert torch.equal(after.alpha, (before.alpha > 127) * torch.tensor(255).byte())


PLAYS: dict[str, dict[int | None, int]] = {
    ".gif": {None: 1, 0: 0, 1: 2, 2: 3},
    ".png": {0: 0, 1: 1, 2: 2, 3: 3},
    ".webp": {0: 0, 1: 1, 2: 2, 3: 3},
}
"""How often an animation is shown by the number in its file, which GIF may lack."""


@pytest.mark.parametrize("made", PLAYS)
@pytest.mark.parametrize(
    ("given", "loop"), [(ending, loop) for ending, loops in PLAYS.items() for loop in loops]
)
def test_an_animation_is_shown_as_often(
    tmp_path: Path, teacher: Path, given: str, loop: int | None, made: str
) -> None:
    path = moving(tmp_path / f"in{given}", **({} if loop is None else {"loop": loop}))
    wkdc.translate(teacher, [path], tmp_path / f"out{made}")
    with Image.open(tmp_path / f"out{made}") as opened:
        assert PLAYS[made][opened.info.get("loop")] == PLAYS[given][loop]


@pytest.mark.parametrize("name", ["x.avif", "x.npy"])
def test_a_still_image_may_become_any_file_that_is_read(
    tmp_path: Path, teacher: Path, name: str
) -> None:
    path = photo(tmp_path / "in.png")
    wkdc.translate(teacher, [path], tmp_path / name)
    assert load_pixels(tmp_path / name).shape == (3, 32, 40)


def test_what_a_folder_is_looked_through_for(
    tmp_path: Path, teacher: Path, call_wkdc: Call
) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "a.txt").touch()
    done = call_wkdc("translate", teacher, "given", "-o", "out")
    assert "holds no images or videos; looked for" in done.errors[0]
    assert "1 .txt; images or videos end in .jpg" in done.stderr
