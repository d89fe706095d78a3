"""Label maps: what networks read of them, what people see, and which files belong together."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import LABELS
from PIL import Image
from torch import Tensor

from wkdc.data.images import load_pixels, resize_short_side
from wkdc.data.inputs import Reader, channels_for, check_reads, load_input
from wkdc.data.label_maps import edges, images_to_colours, load_maps, maps_to_images
from wkdc.data.layouts import Layout, read_layout
from wkdc.errors import DatasetError, ImageError
from wkdc.training.crops import Crops

MAP = torch.tensor([[0, 0, 2], [0, 1, 2]], dtype=torch.int32)
PARTS = torch.tensor([[7, 7, 9], [7, 7, 9]], dtype=torch.int32)


def saved(path: Path, values: "np.typing.ArrayLike", kind: type = np.uint8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, dtype=kind)).save(path)
    return path


def layout_of(folder: Path) -> Layout:
    return read_layout(folder, smallest=16)


# What networks read


def test_one_channel_for_each_label_and_one_of_edges_by_hand() -> None:
    images = maps_to_images(torch.stack([MAP, PARTS]).unsqueeze(0), 5)
    assert images.dtype == torch.float32
    wanted = [
        [[1, 1, 0], [1, 0, 0]],
        [[0, 0, 0], [0, 1, 0]],
        [[0, 0, 1], [0, 0, 1]],
        [[0, 0, 0], [0, 0, 0]],  # a label that is not there
        [[0, 1, 1], [0, 1, 1]],  # both sides of the change from 7 to 9
    ]
    assert images[0].tolist() == wanted
    assert maps_to_images(MAP[None, None], 4)[0].tolist() == wanted[:4]


def test_edges_lie_on_both_sides_of_every_change() -> None:
    values = torch.randint(0, 3, (2, 1, 9, 11), generator=torch.Generator().manual_seed(0))
    found = edges(values)
    for n, row, column in np.ndindex(2, 9, 11):
        near = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        inside = [(a, b) for a, b in near if 0 <= a < 9 and 0 <= b < 11]
        here = values[n, 0, row, column]
        assert found[n, 0, row, column] == any(values[n, 0, a, b] != here for a, b in inside)
    assert not edges(torch.full((1, 1, 4, 4), 300)).any()


@pytest.mark.parametrize("mode", ["grey", "palette", "16 bits", "32 bits"])
def test_ids_are_read_as_they_are_stored(mode: str, tmp_path: Path) -> None:
    values = np.arange(12).reshape(3, 4) * (3000 if "bits" in mode else 20)
    path = tmp_path / "map.png"
    match mode:
        case "16 bits":
            saved(path, values, np.uint16)
        case "32 bits":
            path = saved(tmp_path / "map.tif", values, np.int32)
        case "palette":
            image = Image.fromarray(values.astype(np.uint8)).convert("P")
            image.putpalette([255 - n // 3 for n in range(768)])
            image.save(path)
        case _:
            saved(path, values)
    assert load_maps(path)[0].tolist() == values.tolist()


def test_maps_are_resized_without_new_ids(label_data: Path) -> None:
    maps = load_maps(*(label_data / f"train_{part}" / name_of(label_data) for part in PAIR))
    for size in (16, 50, 128):
        resized = resize_short_side(maps, size)
        assert resized.dtype == torch.int32
        assert min(resized.shape[-2:]) == size
        for before, after in zip(maps, resized, strict=True):
            assert set(after.unique().tolist()) <= set(before.unique().tolist())
    doubled = resize_short_side(maps, 2 * 64)
    assert torch.equal(doubled[:, ::2, ::2], maps)


PAIR = ("label", "inst")


def name_of(folder: Path, number: int = 0) -> str:
    return sorted((folder / "train_label").iterdir())[number].name


# What people see


def test_labels_are_shown_in_colours_and_edges_black() -> None:
    images = maps_to_images(torch.stack([MAP, PARTS]).unsqueeze(0), 5)
    shown = images_to_colours(images)
    assert shown.shape == (1, 3, 2, 3)
    assert float(shown.abs().max()) <= 1
    pixels = shown[0].permute(1, 2, 0)
    assert torch.equal(pixels[0, 0], pixels[1, 0])
    assert pixels[0, 1].tolist() == [-1, -1, -1]
    plain = images_to_colours(maps_to_images(MAP[None, None], 3))[0].permute(1, 2, 0)
    assert len({tuple(colour.tolist()) for colour in plain.flatten(0, 1)}) == 3


def test_colours_of_many_labels_stay_apart() -> None:
    ids = torch.arange(36, dtype=torch.int32).view(1, 1, 1, 36)
    colours = images_to_colours(maps_to_images(ids, 36))[0, :, 0].T
    apart = torch.cdist(colours, colours) + 10 * torch.eye(36)
    assert float(apart.min()) > 0.05  # six steps of 255


# Which files belong together


def test_the_folders_of_pix2pixhd(label_data: Path) -> None:
    layout = layout_of(label_data)
    assert (layout.kind, layout.labels, layout.held_out) == ("paired", True, False)
    assert (len(layout.train), len(layout.validation)) == (4, 2)
    assert channels_for(layout) == LABELS + 1
    reader = Reader(layout, LABELS + 1, 3)
    given, truth = reader.load(layout.train[0])
    assert (given.dtype, given.shape) == (torch.int32, (2, 64, 72))
    assert torch.equal(truth, load_pixels(label_data / "train_img" / layout.train[0].name))
    assert int(given[1].max()) >= 1000
    image, picture = reader.squares(layout.train[0], 64)
    assert (image.shape, picture.shape) == ((1, LABELS + 1, 64, 64), (1, 3, 64, 64))
    assert set(image.unique().tolist()) == {0, 1}
    assert torch.equal(image[:, :-1].sum(1), torch.ones(1, 64, 64))
    files = layout.parts(layout.train[:1])
    assert [path.parent.name for path in files] == ["train_label", "train_img", "train_inst"]


def test_without_instances_and_without_a_test_set(label_data: Path) -> None:
    shutil.rmtree(label_data / "train_inst")
    shutil.rmtree(label_data / "test_img")
    layout = layout_of(label_data)
    assert channels_for(layout) == LABELS
    assert layout.held_out
    assert (len(layout.train), len(layout.validation)) == (3, 1)
    assert Reader(layout, LABELS, 3).squares(layout.train[0], 32)[0].shape == (1, LABELS, 32, 32)


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_images_may_lie_in_folders_of_their_own_too(direction: str, label_data: Path) -> None:
    for phase in ("train", "test"):
        (label_data / f"{phase}_img").rename(label_data / f"{phase}_A")
        shutil.copytree(label_data / f"{phase}_A", label_data / f"{phase}_B")
        shutil.rmtree(label_data / f"{phase}_label")
    for path in (label_data / "train_B").iterdir():
        Image.open(path).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(path)
    layout = read_layout(label_data, direction=direction, smallest=16)  # type: ignore[arg-type]
    assert (layout.kind, layout.labels, len(layout.validation)) == ("paired", False, 2)
    assert layout.train[0].parent.name == ("train_A" if direction == "AtoB" else "train_B")
    given, truth = Reader(layout, 3, 3).load(layout.train[0])
    assert torch.equal(given, truth.flip(1))
    assert channels_for(layout) == 3


def test_files_belong_together_by_their_order(label_data: Path) -> None:
    """As in Cityscapes, where labels, instances and images end in names of their own."""
    for part in ("label", "inst", "img"):
        for path in (label_data / f"train_{part}").iterdir():
            path.rename(path.with_stem(f"{path.stem}_{part}"))
    layout = layout_of(label_data)
    assert layout.pairs is not None
    for path in layout.train:
        stem = path.stem.removesuffix("_label")
        assert layout.pairs.targets[path].name == f"{stem}_img.png"
        assert layout.pairs.instances[path].name == f"{stem}_inst.png"


def test_crops_cut_all_parts_alike(label_data: Path) -> None:
    """The photo is one of its label map, so that what is cut can be compared."""
    layout = layout_of(label_data)
    for path in layout.train:
        ids = load_maps(path)[0].numpy()
        saved(label_data / "train_img" / path.name, ids * 50)
    reader = Reader(layout, LABELS + 1, 3)
    crops = Crops(layout.train, reader.load, load_size=64, crop=32, seed=0)
    given, truth = crops.batch(0, 8)
    assert torch.equal(given[:, :1].expand(-1, 3, -1, -1) * 50, truth.int())
    images, pictures = reader.images((given, truth))
    assert (images.shape, pictures.shape) == ((8, LABELS + 1, 32, 32), (8, 3, 32, 32))


def test_an_input_from_its_own_file(label_data: Path) -> None:
    layout = layout_of(label_data)
    path = layout.train[1]
    whole = Reader(layout, LABELS + 1, 3).images([layout_part(layout, path)])[0]
    assert torch.equal(load_input(path, LABELS + 1), whole)
    shutil.rmtree(label_data / "train_inst")
    assert load_input(path, LABELS).shape == (1, LABELS, 64, 72)


def layout_part(layout: Layout, path: Path) -> Tensor:
    return Reader(layout, LABELS + 1, 3).load(path)[0].unsqueeze(0)


# What cannot be


def test_ids_beyond_the_channels_name_file_id_and_channels(label_data: Path) -> None:
    layout = layout_of(label_data)
    path = layout.train[0]
    values = np.asarray(Image.open(path)).copy()
    values[3, 5] = 255
    saved(path, values)
    with pytest.raises(ImageError) as caught:
        Reader(layout, LABELS + 1, 3).load(path)
    for phrase in (str(path), "label id 255", f"{LABELS + 1} channels", f"0 to {LABELS - 1}"):
        assert phrase in str(caught.value)
    with pytest.raises(ImageError, match=f"label id {LABELS - 1}.*reads 4 channels"):
        Reader(layout, 4, 3).load(layout.train[1])


def test_maps_that_are_none(label_data: Path, tmp_path: Path) -> None:
    photo = next((label_data / "train_img").iterdir())
    with pytest.raises(ImageError, match="is RGB, no map of ids"):
        load_maps(photo)
    with pytest.raises(ImageError, match="no image"):
        load_maps(Path(__file__))
    label = next((label_data / "train_label").iterdir())
    smaller = saved(tmp_path / "small.png", np.zeros((32, 36)))
    with pytest.raises(ImageError, match=r"small.png is 36x32, its label map .* 72x64"):
        load_maps(label, smaller)


def test_parts_that_do_not_belong_together(label_data: Path) -> None:
    photos = sorted((label_data / "train_img").iterdir())
    other = photos[0].rename(photos[0].with_stem("other"))
    with pytest.raises(DatasetError, match=r"has no image of its name in .*train_img,"):
        layout_of(label_data)
    other.unlink()
    with pytest.raises(DatasetError, match=r"has no image of its name in .*train_img,"):
        layout_of(label_data)
    for photo in photos[1:]:
        photo.rename(photo.with_stem(f"other-{photo.stem}"))
    with pytest.raises(DatasetError, match=r"holds 4 images and .*train_img 3"):
        layout_of(label_data)
    with pytest.raises(DatasetError, match="BtoA would generate the label maps"):
        read_layout(label_data, direction="BtoA")


def test_an_image_of_another_size(label_data: Path) -> None:
    layout = layout_of(label_data)
    saved(label_data / "train_img" / layout.train[0].name, np.zeros((64, 64, 3)))
    with pytest.raises(ImageError, match=r"is 72x64, its target .* 64x64"):
        Reader(layout, LABELS + 1, 3).load(layout.train[0])


def test_an_input_without_all_its_parts_is_left_out_and_named(label_data: Path) -> None:
    broken = sorted((label_data / "train_img").iterdir())[1]
    broken.write_bytes(b"no image")
    said: list[str] = []
    layout = read_layout(label_data, smallest=16, on_notice=said.append)
    assert broken.name not in [path.name for path in layout.train]
    assert len(layout.train) == 3
    (sentence,) = said
    assert str(broken) in sentence


def test_generators_that_read_something_else(label_data: Path, photos: Path) -> None:
    with pytest.raises(DatasetError, match=r"has 3 channels .RGB., and 36 are read"):
        check_reads(layout_of(photos), Path("g.pth"), 36)
    with pytest.raises(DatasetError, match="reads 1 channel,"):
        check_reads(layout_of(label_data), Path("g.pth"), 1)
    check_reads(layout_of(label_data), Path("g.pth"), 3)
