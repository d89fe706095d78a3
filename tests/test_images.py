"""Files to tensors and back: what is listed, how it is read, turned, resized, padded and saved."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from wkdc.data.image_writing import save_pixels
from wkdc.data.images import (
    SUFFIXES,
    center_crop,
    grid,
    images_to_pixels,
    list_images,
    load_pixels,
    load_square,
    pad_to_multiple,
    pixels_to_images,
    readable_images,
    resize_short_side,
)
from wkdc.errors import ImageError, OutputError

# Geometry is cheap to compute; a busy machine must not fail it by the clock, nor leave a database.
geometry = settings(max_examples=60, deadline=None, database=None)

# JPEG and WebP at quality 95 are off by two levels on such flat and smooth images; 4 leaves room
# for other versions of their encoders.
LOSSY = 4


def noise(height: int, width: int, channels: int = 3) -> Tensor:
    random = torch.Generator().manual_seed(1000 * height + width)
    shape = (channels, height, width)
    return torch.randint(0, 256, shape, generator=random, dtype=torch.uint8)


def as_picture(pixels: Tensor) -> Image.Image:
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def flat(mode: str, colour: object, folder: Path, name: str, **options: object) -> Path:
    """An image of 16x16 pixels of one colour, saved as `name`."""
    path = folder / name
    Image.new(mode, (16, 16), colour).save(path, **options)  # type: ignore[arg-type]
    return path


def colours(pixels: Tensor) -> list[int]:
    """The one colour that all pixels have."""
    first = pixels[:, :1, :1]
    assert torch.equal(pixels, first.expand_as(pixels))
    return first.flatten().tolist()


class TestPixelsAndImages:
    def test_every_value_comes_back(self) -> None:
        pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
        images = pixels_to_images(pixels)
        assert images.dtype == torch.float32
        back = images_to_pixels(images)
        assert back.dtype == torch.uint8
        assert torch.equal(back, pixels)

    def test_the_range_by_hand(self) -> None:
        pixels = torch.tensor([0, 51, 255], dtype=torch.uint8)
        # 51 / 127.5 - 1 = -0.6, which float32 rounds.
        assert pixels_to_images(pixels).tolist() == pytest.approx([-1, -0.6, 1], abs=1e-6)
        assert images_to_pixels(torch.tensor([-1.0, -0.6, 0.6, 1.0])).tolist() == [0, 51, 204, 255]

    def test_values_are_rounded_to_the_nearest(self) -> None:
        values = torch.arange(256)
        for shift in (-0.49, 0.49):
            images = (values + shift) / 127.5 - 1
            assert torch.equal(images_to_pixels(images).long(), values)

    def test_what_lies_outside_the_range_is_clamped(self) -> None:
        assert images_to_pixels(torch.tensor([-3.0, -1.01, 1.01, 3.0])).tolist() == [0, 0, 255, 255]

    def test_mirrored_values_are_mirrored_pixels(self) -> None:
        pixels = torch.arange(256, dtype=torch.uint8)
        assert torch.equal(images_to_pixels(-pixels_to_images(pixels)), pixels.flip(0))

    def test_bfloat16_is_converted_in_float32(self) -> None:
        images = torch.linspace(-1, 1, 300).bfloat16()
        assert torch.equal(images_to_pixels(images), images_to_pixels(images.float()))


class TestListImages:
    def test_images_are_sorted_by_path(self, tmp_path: Path) -> None:
        names = ["b.png", "a.jpg", "10.webp", "9.bmp", "C.TIFF", "d.JpEg", "e.PPM", "f.tif"]
        others = ["notes.txt", "moving.mp4", "README", "x.jpg.part", ".jpg"]
        for name in names + others:
            (tmp_path / name).touch()
        (tmp_path / "folder.png").mkdir()
        (tmp_path / "inner").mkdir()
        (tmp_path / "inner" / "deep.png").touch()
        found = [str(path.relative_to(tmp_path)) for path in list_images(tmp_path)]
        assert found == sorted([*names, "inner/deep.png"])

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_each_ending_counts_in_either_case(self, tmp_path: Path, suffix: str) -> None:
        for path in (tmp_path / f"lower{suffix}", tmp_path / f"UPPER{suffix.upper()}"):
            path.touch()
        assert [p.stem for p in list_images(tmp_path)] == ["UPPER", "lower"]

    def test_an_animated_gif_is_no_image_to_learn_from(self, tmp_path: Path) -> None:
        frames = [Image.new("RGB", (4, 4), ink) for ink in ("red", "blue", "white")]
        frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
        flat("RGB", "red", tmp_path, "still.png")
        said: list[str] = []
        kept = readable_images(list_images(tmp_path), on_skip=said.append)
        assert [path.name for path in kept] == ["still.png"]
        assert "moving.gif is animated" in said[0]

    def test_a_folder_without_images_says_what_was_looked_for(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").touch()
        with pytest.raises(ImageError, match=r"holds no images; looked for \.jpg .*\.ppm") as e:
            list_images(tmp_path)
        assert str(tmp_path) in str(e.value)

    def test_no_folder_at_all(self, tmp_path: Path) -> None:
        (tmp_path / "file.png").touch()
        for path in (tmp_path / "missing", tmp_path / "file.png"):
            with pytest.raises(ImageError, match=rf"{path.name} is no folder"):
                list_images(path)


class TestLoadPixels:
    def test_a_lossless_image_is_read_as_it_is(self, tmp_path: Path) -> None:
        pixels = noise(5, 7)
        as_picture(pixels).save(tmp_path / "x.png")
        loaded = load_pixels(tmp_path / "x.png")
        assert loaded.dtype == torch.uint8
        assert loaded.is_contiguous()
        assert torch.equal(loaded, pixels)

    def test_grey_becomes_rgb(self, tmp_path: Path) -> None:
        grey = noise(5, 7, channels=1)
        Image.fromarray(grey[0].numpy()).save(tmp_path / "x.png")
        assert torch.equal(load_pixels(tmp_path / "x.png"), grey.expand(3, 5, 7))
        assert torch.equal(load_pixels(tmp_path / "x.png", channels=1), grey)

    @pytest.mark.parametrize(
        ("colour", "luma"),
        [("red", 0.299 * 255), ("lime", 0.587 * 255), ("blue", 0.114 * 255), ("white", 255)],
    )
    def test_rgb_becomes_grey_by_its_luma(self, tmp_path: Path, colour: str, luma: float) -> None:
        path = flat("RGB", colour, tmp_path, "x.png")
        (grey,) = colours(load_pixels(path, channels=1))
        assert grey == pytest.approx(luma, abs=1)  # ITU-R 601-2, rounded to a whole number

    @pytest.mark.parametrize("ending", ["png", "tif", "webp"])
    @pytest.mark.parametrize(
        ("orientation", "turn"),
        [  # from what is stored to what is seen: Exif 2.3, section 4.6.4, tag 274
            (1, lambda a: a),
            (2, np.fliplr),
            (3, lambda a: np.rot90(a, 2)),
            (4, np.flipud),
            (5, lambda a: a.swapaxes(0, 1)),
            (6, lambda a: np.rot90(a, -1)),  # clockwise
            (7, lambda a: np.rot90(a.swapaxes(0, 1), 2)),
            (8, lambda a: np.rot90(a, 1)),
        ],
    )
    def test_an_image_is_turned_as_its_exif_says(
        self,
        tmp_path: Path,
        orientation: int,
        turn: Callable[[np.ndarray], np.ndarray],
        ending: str,
    ) -> None:
        stored = noise(3, 5).permute(1, 2, 0).contiguous().numpy()
        exif = Image.Exif()
        exif[274] = orientation
        path = tmp_path / f"x.{ending}"
        options = {"lossless": True} if ending == "webp" else {}
        Image.fromarray(stored).save(path, exif=exif, **options)
        seen = load_pixels(path).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(seen, turn(stored))

    def test_a_jpeg_is_turned_too(self, tmp_path: Path) -> None:
        stored = Image.new("RGB", (32, 16), "black")
        stored.paste("white", (0, 0, 16, 16))  # the left half, which a clockwise turn puts on top
        exif = Image.Exif()
        exif[274] = 6
        stored.save(tmp_path / "x.jpg", exif=exif, quality=95)
        seen = load_pixels(tmp_path / "x.jpg").int()
        assert seen.shape == (3, 32, 16)
        assert seen[:, :16].min() > 255 - LOSSY
        assert seen[:, 16:].max() < LOSSY

    @pytest.mark.parametrize("orientation", [0, 9, 65535])
    def test_an_orientation_that_means_nothing_turns_nothing(
        self, tmp_path: Path, orientation: int
    ) -> None:
        exif = Image.Exif()
        exif[274] = orientation
        as_picture(noise(3, 5)).save(tmp_path / "x.png", exif=exif)
        assert torch.equal(load_pixels(tmp_path / "x.png"), noise(3, 5))

    @pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
    def test_exif_with_a_tag_of_the_wrong_type_does_not_crash(
        self, tmp_path: Path, ending: str
    ) -> None:
        turned = struct.pack("<HHII", 274, 3, 1, 6)  # orientation: a short
        wrong = struct.pack("<HHI4s", 296, 2, 2, b"2\0\0\0")  # resolution unit: text, not a short
        exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + turned + wrong + bytes(4)
        path = tmp_path / f"odd.{ending}"
        as_picture(noise(3, 5)).save(path, exif=exif)
        # The pixels are whole and the orientation is clear, whatever another tag holds.
        assert load_pixels(path).shape == (3, 5, 3)

    @pytest.mark.parametrize(
        ("mode", "colour", "expected"),
        [
            ("RGBA", (10, 20, 30, 255), [10, 20, 30]),
            ("RGBA", (10, 20, 30, 0), [255, 255, 255]),
            # 51 / 255 is a fifth: a fifth of the colour and four of white.
            ("RGBA", (0, 100, 255, 51), [204, 224, 255]),
            ("LA", (10, 255), [10, 10, 10]),
            ("LA", (10, 0), [255, 255, 255]),
            ("LA", (0, 51), [204, 204, 204]),
        ],
    )
    def test_transparency_is_laid_on_white(
        self, tmp_path: Path, mode: str, colour: object, expected: list[int]
    ) -> None:
        for name in ("x.png", "x.tif"):
            path = flat(mode, colour, tmp_path, name)
            # Pillow rounds the mixture to whole numbers, in two steps.
            assert colours(load_pixels(path)) == pytest.approx(expected, abs=1)

    def test_transparency_is_laid_on_white_in_grey_too(self, tmp_path: Path) -> None:
        path = flat("RGBA", (200, 0, 0, 0), tmp_path, "x.png")
        assert colours(load_pixels(path, channels=1)) == [255]

    def test_a_palette_with_a_transparent_entry(self, tmp_path: Path) -> None:
        image = Image.new("P", (2, 1))
        image.putpalette([10, 20, 30, 200, 100, 50])
        image.putpixel((1, 0), 1)
        image.save(tmp_path / "opaque.png")
        image.save(tmp_path / "x.png", transparency=0)
        opaque, laid = load_pixels(tmp_path / "opaque.png"), load_pixels(tmp_path / "x.png")
        assert opaque[:, 0].T.tolist() == [[10, 20, 30], [200, 100, 50]]
        assert laid[:, 0].T.tolist() == [[255, 255, 255], [200, 100, 50]]

    @pytest.mark.parametrize(
        ("mode", "colour", "other"), [("RGB", (1, 2, 3), (1, 2, 4)), ("L", 7, 8)]
    )
    def test_one_colour_declared_transparent(
        self, tmp_path: Path, mode: str, colour: object, other: object
    ) -> None:
        path = flat(mode, colour, tmp_path, "x.png", transparency=colour)
        assert colours(load_pixels(path)) == [255, 255, 255]
        path = flat(mode, colour, tmp_path, "x.png", transparency=other)
        assert colours(load_pixels(path)) != [255, 255, 255]

    @pytest.mark.parametrize("name", ["x.png", "x.tif"])
    @pytest.mark.parametrize(
        "values",
        [
            pytest.param([0, 255, 256, 32767, 32768, 65535], id="whole range"),
            pytest.param([0, 1, 100, 255], id="dark"),
        ],
    )
    def test_16_bits_are_kept(self, tmp_path: Path, values: list[int], name: str) -> None:
        Image.fromarray(np.array([values], dtype=np.uint16)).save(tmp_path / name)
        expected = [value / 257 for value in values]
        found = load_pixels(tmp_path / name, channels=1)
        assert found.flatten().tolist() == pytest.approx(expected, rel=1e-6)  # float32
        assert torch.equal(load_pixels(tmp_path / name), found.expand(3, -1, -1))

    @pytest.mark.parametrize(
        ("ink", "expected"),
        [
            ((0, 0, 0, 0), [255, 255, 255]),
            ((255, 0, 0, 0), [0, 255, 255]),
            ((0, 255, 0, 0), [255, 0, 255]),
            ((0, 0, 255, 0), [255, 255, 0]),
            ((0, 0, 0, 255), [0, 0, 0]),
        ],
    )
    def test_a_jpeg_of_four_inks(
        self, tmp_path: Path, ink: tuple[int, ...], expected: list[int]
    ) -> None:
        path = flat("CMYK", ink, tmp_path, "x.jpg", quality=95)
        assert colours(load_pixels(path)) == pytest.approx(expected, abs=LOSSY)

    def test_black_and_white(self, tmp_path: Path) -> None:
        image = Image.new("1", (2, 1))
        image.putpixel((1, 0), 1)
        image.save(tmp_path / "x.png")
        assert load_pixels(tmp_path / "x.png").tolist() == [[[0, 255]]] * 3

    @pytest.mark.parametrize("channels", [0, 2, 4])
    def test_other_numbers_of_channels_are_refused(self, tmp_path: Path, channels: int) -> None:
        path = flat("RGB", "red", tmp_path, "x.png")
        with pytest.raises(ImageError, match=f"has 3 channels .RGB., and {channels} are read"):
            load_pixels(path, channels=channels)

    @pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.webp", "x.tif", "x.bmp"])
    @pytest.mark.parametrize("kept", [0.9, 0.5, 0.02])
    def test_a_truncated_image_is_named(self, tmp_path: Path, name: str, kept: float) -> None:
        path = tmp_path / name
        as_picture(noise(64, 64)).save(path)
        content = path.read_bytes()
        path.write_bytes(content[: int(kept * len(content))])
        with pytest.raises(ImageError, match=rf"{name} (cannot be read|is no image)"):
            load_pixels(path)

    def test_a_text_file_called_jpg_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "fake.jpg"
        path.write_text("<html>404 Not Found</html>")
        with pytest.raises(ImageError, match=r"fake\.jpg is no image that can be read$"):
            load_pixels(path)

    def test_an_empty_a_missing_file_and_a_folder_are_named(self, tmp_path: Path) -> None:
        (tmp_path / "empty.png").touch()
        (tmp_path / "folder.png").mkdir()
        for name in ("empty.png", "missing.png", "folder.png"):
            with pytest.raises(ImageError, match=name):
                load_pixels(tmp_path / name)

    def test_an_image_that_would_fill_the_memory_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = flat("RGB", "red", tmp_path, "bomb.png")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # it refuses above twice that
        with pytest.raises(ImageError, match=r"bomb\.png cannot be read: .*exceeds limit"):
            load_pixels(path)


class TestReadableImages:
    @pytest.fixture
    def paths(self, tmp_path: Path) -> list[Path]:
        for name, height, width in (("a.png", 8, 8), ("c.png", 8, 3), ("d.png", 20, 8)):
            as_picture(noise(height, width)).save(tmp_path / name)
        (tmp_path / "b.png").write_text("no image")
        return list_images(tmp_path)

    def test_what_decodes_is_kept_with_its_size_and_the_rest_is_told(
        self, paths: list[Path]
    ) -> None:
        told: list[str] = []
        kept = readable_images(paths, on_skip=told.append)
        assert {path.name: size for path, size in kept.items()} == {
            "a.png": (8, 8),
            "c.png": (8, 3),
            "d.png": (20, 8),
        }
        assert told == [f"skipped: {paths[1]} is no image that can be read"]

    def test_both_sides_must_be_large_enough(self, paths: list[Path]) -> None:
        told: list[str] = []
        kept = readable_images(paths, smallest=(8, 8), on_skip=told.append)
        assert [path.name for path in kept] == ["a.png", "d.png"]
        assert told[1:] == [f"skipped: {paths[2]} is 3x8, smaller than the 8x8 needed; see --crop"]

    def test_nobody_need_be_told(self, paths: list[Path]) -> None:
        assert list(readable_images(paths[::-1])) == [paths[3], paths[2], paths[0]]

    def test_nothing_left_names_the_first_that_failed(self, paths: list[Path]) -> None:
        with pytest.raises(
            ImageError, match=r"none of 4 .*: .*a\.png is 8x8, smaller than the 98x99"
        ):
            readable_images(paths, smallest=(99, 98))
        with pytest.raises(ImageError, match=r"^[^:]*b\.png is no image"):
            readable_images([paths[1]])

    def test_nothing_given(self) -> None:
        with pytest.raises(ImageError, match=r"^no images were given"):
            readable_images([])


class TestResizeShortSide:
    @geometry
    @given(height=st.integers(1, 40), width=st.integers(1, 40), size=st.integers(1, 40))
    def test_the_short_side_is_asked_for_and_the_aspect_kept(
        self, height: int, width: int, size: int
    ) -> None:
        resized = resize_short_side(noise(height, width), size)
        assert resized.dtype == torch.uint8
        assert resized.shape[0] == 3
        tall, wide = resized.shape[-2:]
        assert min(tall, wide) == size
        # The long side is the nearest whole number: off by half a pixel at most.
        assert max(tall, wide) == pytest.approx(
            size * max(height, width) / min(height, width), abs=0.5
        )
        assert (tall > wide) <= (height > width)
        assert (wide > tall) <= (width > height)

    @pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 13), (13, 8)])
    def test_the_size_that_it_has_is_the_identity(self, height: int, width: int) -> None:
        pixels = noise(height, width)
        assert torch.equal(resize_short_side(pixels, 8), pixels)

    @pytest.mark.parametrize("size", [3, 8, 29])
    def test_one_colour_stays_that_colour(self, size: int) -> None:
        for value in (0, 7, 128, 255):
            pixels = torch.full((3, 11, 17), value, dtype=torch.uint8)
            assert colours(resize_short_side(pixels, size)) == [value] * 3

    def test_overshoot_at_a_sharp_edge_does_not_wrap_around(self) -> None:
        pixels = torch.zeros(3, 8, 8, dtype=torch.uint8)
        pixels[:, :, 4:] = 255
        row = resize_short_side(pixels, 64)[0, 32].int()
        # Bicubic undershoots by some 19 levels beside the edge, which would come out as 237, and
        # overshoots as much. Clamped, the row only ever grows.
        assert (row.diff() >= 0).all()
        assert row[0] == 0
        assert row[-1] == 255

    @pytest.mark.parametrize("size", [5, 16, 31, 50])
    def test_pillow_resizes_alike(self, size: int) -> None:
        # Values in the middle, since Pillow clamps between its two passes. It also rounds there, so
        # one level of difference is right; without antialiasing it would be some fifty.
        pixels = noise(32, 48) // 4 + 96
        ours = resize_short_side(pixels, size)
        theirs = as_picture(pixels).resize((ours.shape[2], size), Image.Resampling.BICUBIC)
        difference = ours.permute(1, 2, 0).int() - torch.from_numpy(np.array(theirs)).int()
        assert difference.abs().max() <= 1

    def test_turning_the_image_turns_the_result(self) -> None:
        pixels = noise(12, 20)
        turned = resize_short_side(pixels.transpose(1, 2).contiguous(), 8)
        # The two axes are filtered in another order: a rounding to whole levels may differ by one.
        difference = turned.transpose(1, 2).int() - resize_short_side(pixels, 8).int()
        assert difference.abs().max() <= 1


class TestCenterCrop:
    def test_the_middle_by_hand(self) -> None:
        pixels = torch.arange(20).reshape(1, 4, 5)
        assert center_crop(pixels, 2, 3).tolist() == [[[6, 7, 8], [11, 12, 13]]]

    @geometry
    @given(st.data())
    def test_margins_differ_by_one_at_most(self, data: st.DataObject) -> None:
        height, width = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 20))
        tall, wide = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
        places = torch.stack(
            torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        )
        crop = center_crop(places[None], tall, wide)[0]
        assert crop.shape == (2, tall, wide)
        (top, left), (bottom, right) = crop[:, 0, 0].tolist(), crop[:, -1, -1].tolist()
        assert 0 <= (height - 1 - bottom) - top <= 1
        assert 0 <= (width - 1 - right) - left <= 1


class TestLoadSquare:
    def test_the_middle_of_a_wide_image(self, tmp_path: Path) -> None:
        pixels = torch.zeros(3, 8, 20, dtype=torch.uint8)
        pixels[0, :, 6:14] = 255
        save_pixels(tmp_path / "x.png", pixels)
        images = load_square(tmp_path / "x.png", 8)
        assert images.shape == (1, 3, 8, 8)
        assert images.dtype == torch.float32
        expected = torch.tensor([1.0, -1.0, -1.0]).reshape(1, 3, 1, 1).expand(1, 3, 8, 8)
        assert torch.equal(images, expected)

    @pytest.mark.parametrize(("height", "width"), [(5, 9), (31, 17), (16, 16)])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_any_image_becomes_a_square_in_range(
        self, tmp_path: Path, height: int, width: int, channels: int
    ) -> None:
        as_picture(noise(height, width)).save(tmp_path / "x.png")
        images = load_square(tmp_path / "x.png", 16, channels=channels)
        assert images.shape == (1, channels, 16, 16)
        assert images.abs().max() <= 1

    def test_a_broken_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "broken.png").write_text("no image")
        with pytest.raises(ImageError, match=r"broken\.png"):
            load_square(tmp_path / "broken.png", 16)


class TestPadToMultiple:
    @geometry
    @given(
        height=st.integers(1, 20),
        width=st.integers(1, 20),
        multiple=st.integers(1, 16),
        at_least=st.integers(1, 40),
    )
    def test_the_smallest_multiples_and_the_image_unchanged(
        self, height: int, width: int, multiple: int, at_least: int
    ) -> None:
        images = pixels_to_images(noise(height, width))[None]
        padded = pad_to_multiple(images, multiple, at_least=at_least)
        for old, new in zip(images.shape[-2:], padded.shape[-2:], strict=True):
            assert new % multiple == 0
            assert new >= max(old, at_least) > new - multiple
        assert torch.equal(padded[..., :height, :width], images)
        assert set(padded.unique().tolist()) <= set(images.unique().tolist())  # nothing invented

    def test_the_added_part_mirrors_by_hand(self) -> None:
        images = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]]])
        assert pad_to_multiple(images, 5).tolist() == [
            [
                [
                    [1, 2, 3, 2, 1],
                    [4, 5, 6, 5, 4],
                    [7, 8, 9, 8, 7],
                    [4, 5, 6, 5, 4],
                    [1, 2, 3, 2, 1],
                ]
            ]
        ]

    def test_too_small_to_mirror_repeats_the_edge(self) -> None:
        images = torch.tensor([[[[1.0, 2.0]]]])
        assert pad_to_multiple(images, 4).tolist() == [[[[1, 2, 2, 2]] * 4]]

    def test_a_single_pixel(self) -> None:
        images = torch.tensor([0.1, 0.2, 0.3]).reshape(1, 3, 1, 1)
        padded = pad_to_multiple(images, 4, at_least=9)
        assert torch.equal(padded, images.expand(1, 3, 12, 12))

    def test_a_fitting_image_is_the_same_tensor(self) -> None:
        images = torch.zeros(1, 3, 8, 12)
        assert pad_to_multiple(images, 4) is images
        assert pad_to_multiple(images, 4, at_least=8) is images
        assert pad_to_multiple(images, 4, at_least=9).shape == (1, 3, 12, 12)


class TestGrid:
    HEIGHT, WIDTH = 30, 60

    def cell(self, value: int, channels: int = 3) -> Tensor:
        pixels = torch.full((1, channels, self.HEIGHT, self.WIDTH), value, dtype=torch.uint8)
        return pixels_to_images(pixels)

    def test_cells_stand_in_rows_and_columns_with_white_between(self) -> None:
        sheet = grid([[self.cell(10), self.cell(20)], [self.cell(30), self.cell(40)]])
        assert sheet.dtype == torch.uint8
        assert sheet.shape == (3, 2 * self.HEIGHT + 4, 2 * self.WIDTH + 4)
        rest = sheet.clone()
        for value, top, left in ((10, 0, 0), (20, 0, 1), (30, 1, 0), (40, 1, 1)):
            y, x = top * (self.HEIGHT + 4), left * (self.WIDTH + 4)
            place = (..., slice(y, y + self.HEIGHT), slice(x, x + self.WIDTH))
            assert colours(sheet[place]) == [value] * 3
            rest[place] = 255
        assert colours(rest) == [255] * 3

    def test_images_are_translated_pixel_by_pixel(self) -> None:
        pixels = noise(9, 13)
        assert torch.equal(grid([[pixels_to_images(pixels)[None]]]), pixels)

    def test_grey_cells_and_short_rows(self) -> None:
        sheet = grid([[self.cell(10), self.cell(20)], [self.cell(30, channels=1)]])
        assert colours(sheet[:, -self.HEIGHT :, : self.WIDTH]) == [30] * 3
        assert colours(sheet[:, -self.HEIGHT :, self.WIDTH :]) == [255] * 3

    def test_titles_stand_above_and_push_the_cells_down(self) -> None:
        row = [self.cell(10), self.cell(20)]
        plain, titled = grid([row]), grid([row], ("one", "two"))
        added = titled.shape[1] - plain.shape[1]
        assert added > 0
        assert titled.shape[2] == plain.shape[2]
        assert torch.equal(titled[:, added:], plain)
        for left in (0, self.WIDTH + 4):
            assert titled[:, :added, left : left + self.WIDTH].min() < 100  # ink above each column

    def test_each_title_is_written_above_its_own_column(self) -> None:
        row = [self.cell(10), self.cell(20)]
        first, second = grid([row], ("one", "")), grid([row], ("", "two"))
        for sheet, blank in ((first, slice(self.WIDTH + 4, None)), (second, slice(self.WIDTH))):
            strip = sheet[:, : -self.HEIGHT]
            assert strip.min() < 100
            assert colours(strip[..., blank]) == [255] * 3


class TestSavePixels:
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("name", ["x.png", "x.PNG", "x.bmp", "x.tif", "x.tiff", "x.ppm"])
    def test_lossless_formats_come_back_as_they_were(
        self, tmp_path: Path, name: str, channels: int
    ) -> None:
        pixels = noise(5, 7, channels)
        save_pixels(tmp_path / name, pixels)
        assert torch.equal(load_pixels(tmp_path / name, channels=channels), pixels)
        assert [path.name for path in tmp_path.iterdir()] == [name]

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("name", ["x.jpg", "x.JPEG", "x.webp"])
    def test_lossy_formats_come_back_nearly(self, tmp_path: Path, name: str, channels: int) -> None:
        ramp = torch.linspace(0, 255, 32).round().to(torch.uint8)
        pixels = ramp.expand(channels, 24, 32)
        save_pixels(tmp_path / name, pixels)
        difference = load_pixels(tmp_path / name, channels=channels).int() - pixels.int()
        assert difference.abs().max() <= LOSSY

    @pytest.mark.parametrize(
        ("name", "format"), [("x.jpg", "JPEG"), ("x.webp", "WEBP"), ("x.TIF", "TIFF")]
    )
    def test_the_ending_decides_the_format(self, tmp_path: Path, name: str, format: str) -> None:
        save_pixels(tmp_path / name, noise(5, 7))
        with Image.open(tmp_path / name) as image:
            assert image.format == format
            assert image.size == (7, 5)

    def test_a_view_that_is_not_contiguous_is_saved_as_it_looks(self, tmp_path: Path) -> None:
        pixels = noise(8, 9).flip(-1)[:, 1::2, ::2]
        save_pixels(tmp_path / "x.png", pixels)
        assert torch.equal(load_pixels(tmp_path / "x.png"), pixels)

    @pytest.mark.parametrize("name", ["x", "x.txt", "x.gif", "x.pth", ".png"])
    def test_another_ending_is_refused_and_writes_nothing(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ImageError, match=r"does not end like an image; choose \.jpg"):
            save_pixels(tmp_path / name, noise(5, 7))
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("name", "width"),
        [  # wider than the format can store: 65535 and 16383 pixels
            ("wide.jpg", 70_000),
            ("wide.webp", 17_000),
        ],
    )
    def test_a_failure_leaves_the_old_file_and_no_other(
        self, tmp_path: Path, name: str, width: int
    ) -> None:
        (tmp_path / name).write_bytes(b"old")
        with pytest.raises(OutputError, match=name):
            save_pixels(tmp_path / name, torch.zeros(3, 1, width, dtype=torch.uint8))
        assert [path.name for path in tmp_path.iterdir()] == [name]
        assert (tmp_path / name).read_bytes() == b"old"

    def test_a_missing_folder_is_an_output_error(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match=r"missing/x\.png"):
            save_pixels(tmp_path / "missing" / "x.png", noise(5, 7))
        assert not list(tmp_path.iterdir())


def test_hidden_files_are_no_images_of_the_user(tmp_path: Path) -> None:
    """What macOS leaves beside every file, and what a broken write leaves."""
    for name in ("._a.png", ".b.png.tmp.png", "a.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    assert [path.name for path in list_images(tmp_path)] == ["a.png"]
