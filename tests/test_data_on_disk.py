"""Images and folders as they lie on disk: sub-folders, leftovers, depth, bands and alpha."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from conftest import Called
from originals import resnet_forward, resnet_state_dict
from PIL import Image

import wkdc
from wkdc.data.animation import read_frames
from wkdc.data.images import images_to_numbers, list_images, load_alpha, load_pixels, save_pixels
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
        (["1.png", "2.png"], ["1.png"], r"A/train holds 2 images and .*B/train 1; .* as many"),
        (
            ["1.png", "1.jpg"],
            ["1.png", "2.png"],
            r"1 is the name of 2 in .*A/.* of 1 in .*B/",
        ),
        (
            ["1.png", "2.png"],
            ["1.png", "3.png"],
            r"2 is the name of 1 in .*A/.* of 0 in .*B/",
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


def test_pairs_of_different_sizes_are_told(tmp_path: Path, teacher: Path) -> None:
    both_parts(tmp_path, ["1.png", "2.png"], ["1.png"])
    photo(tmp_path / "B" / "train" / "2.png", size=(44, 32))
    with pytest.raises(ImageError, match=r"A/train/2.png is 40x32, its target .*2.png 44x32"):
        check_inputs(read_layout(tmp_path), 3, 3)


def test_single_images_where_pairs_are_read_are_told(tmp_path: Path) -> None:
    """The stock code cuts them in halves, too, and says nothing."""
    said: list[str] = []
    photo(tmp_path / "train" / "pair.png", size=(80, 40))
    assert read_layout(tmp_path, on_notice=said.append).kind == "paired"
    assert said == []
    (tmp_path / "train" / "pair.png").unlink()
    photo(tmp_path / "train" / "single.png", size=(48, 40))
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
    assert any("1 images have 16 bits a value" in line for line in done.stderr.splitlines())
    done = call_wkdc("translate", teacher, "deep.png", "-o", "out16", "--depth", 16)
    assert done.code == 0, done.stderr
    assert "16 bits" not in done.stderr
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
    with pytest.raises(ImageError, match="has 6 channels, and 3 are read"):
        load_pixels(tmp_path / name)


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
    assert "bands 6,2,1 are to be shown of images of 5" in done.errors[0]


def test_a_count_that_does_not_fit_says_both(tmp_path: Path) -> None:
    torch.save(resnet_state_dict(1, blocks=2, ngf=6, in_channels=6), tmp_path / "teacher.pth")
    photo(tmp_path / "photos" / "x.png", size=(70, 66))
    with pytest.raises(DatasetError, match=r"reads 6 channels: .*x.png has 3 channels"):
        wkdc.prune(
            tmp_path / "teacher.pth", ratio=2, data=tmp_path / "photos", output=tmp_path / "s.pth"
        )


# --- alpha --------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [8, 16])
def test_translate_gives_alpha_back(tmp_path: Path, teacher: Path, depth: int) -> None:
    values = np.random.default_rng(0).integers(0, 256, (32, 40, 4), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "x.png")
    wkdc.translate(teacher, [tmp_path / "x.png"], tmp_path / "out.png", alpha="keep", depth=depth)
    alpha = load_alpha(tmp_path / "out.png")
    assert alpha is not None
    assert np.array_equal(alpha[0].numpy(), values[..., 3])
    wkdc.translate(teacher, [tmp_path / "x.png"], tmp_path / "plain.png")
    assert Image.open(tmp_path / "plain.png").mode == "RGB"


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
