"""Images and videos, damaged by a seed, or promising more than they hold; and what reads them."""

import io
import random
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from damage import Whole, mutated, outcome
from moving import make_video, photo_frames
from PIL import Image

from wkdc.data.animation import is_animated, read_frames
from wkdc.data.image_writing import save_pixels
from wkdc.data.images import SUFFIXES, load_alpha, load_pixels, readable_images
from wkdc.data.inputs import load_input
from wkdc.data.label_maps import load_maps
from wkdc.data.video_reading import VideoReader, open_video


def _with_checksums(png: bytes) -> bytes:
    """A PNG whose chunks have their right checksums again, so that what is damaged is read."""
    data, at = bytearray(png), 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + size > len(data):
            break
        checksum = zlib.crc32(data[at + 4 : at + 8 + size])
        data[at + 8 + size : at + 12 + size] = checksum.to_bytes(4, "big")
        at += 12 + size
    return bytes(data)


def make_images(folder: Path) -> None:
    """Small images of every kind that is read."""
    photo = Image.fromarray(photo_frames(1, (24, 16))[0])
    grey, alpha = photo.convert("L"), photo.convert("RGBA")
    alpha.putalpha(grey)
    others = [photo.rotate(90 * turn) for turn in (1, 2)]
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in (".png", ".jpg", ".webp", ".bmp", ".tif", ".ppm", ".gif", ".avif"):
        photo.save(folder / f"rgb{suffix}")
        grey.save(folder / f"grey{suffix}")
    photo.save(folder / "turned.jpg", exif=exif)
    photo.save(folder / "progressive.jpg", progressive=True)
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    photo.quantize(8).save(folder / "palette.png", transparency=3)
    for suffix in (".png", ".webp", ".tif", ".avif"):
        alpha.save(folder / f"alpha{suffix}")
    for suffix in (".gif", ".png", ".webp", ".avif"):
        photo.save(folder / f"moving{suffix}", save_all=True, append_images=others, duration=40)
    photo.save(folder / "pages.tif", save_all=True, append_images=others)
    grey.convert("1").save(folder / "fax.tif", compression="group4")
    photo.save(folder / "lzw.tif", compression="tiff_lzw")
    photo.save(folder / "jpeg.tif", compression="jpeg")
    generator = np.random.default_rng(0)
    deep = generator.integers(0, 2**16, (16, 24, 4)).astype(np.uint16)
    for name, array in {
        "deep3": deep[..., :3],
        "deep1": deep[..., 0],
        "deep2": deep[..., :2],
    }.items():
        pixels = torch.from_numpy(np.atleast_3d(array).copy()).permute(2, 0, 1)
        save_pixels(folder / f"{name}.png", pixels)
    tifffile.imwrite(folder / "bands.tif", deep, photometric="minisblack", planarconfig="contig")
    tifffile.imwrite(folder / "zlib.tiff", deep, compression="zlib", photometric="minisblack")
    tifffile.imwrite(
        folder / "float.tiff",
        (deep / 65535).astype(np.float32),
        tile=(16, 16),
        photometric="minisblack",
        planarconfig="contig",
    )
    for name, kind in {"u1": np.uint8, "u2": np.uint16, "f4": np.float32, "b1": np.bool_}.items():
        np.save(folder / f"{name}.npy", (deep[..., :3] / 65535).astype(kind))
    np.savez(folder / "plain.npz", image=deep)
    np.savez_compressed(folder / "deflated.npz", image=deep)


def _npy(shape: Any, kind: str, pick: random.Random) -> bytes:
    """A header of NumPy that promises what it likes, over a few bytes."""
    text = f"{{'descr': {kind!r}, 'fortran_order': {pick.random() < 0.5}, 'shape': {shape!r}, }}"
    header = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(300)


def promised_image(pick: random.Random) -> tuple[str, bytes]:
    """The name and content of a small file that says that it is a huge image."""
    side = pick.choice((0, 1, 9000, 20_000, 60_000, 2**31 - 1, 2**32 - 1))
    other = pick.choice((1, side, 60_000))
    match pick.randrange(6):
        case 0:
            depth, colour = pick.choice(
                ((8, 2), (16, 2), (16, 0), (16, 4), (1, 0), (8, 3), (16, 6))
            )
            header = struct.pack(">IIBBBBB", side, other, depth, colour, 0, 0, pick.randrange(2))
            chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(10**6))), (b"IEND", b"")]
            if pick.random() < 0.2:  # text that expands to a gigabyte
                chunks.insert(1, (b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8))))
            png = b"".join(struct.pack(">I", len(d)) + kind + d + bytes(4) for kind, d in chunks)
            return "a.png", _with_checksums(b"\x89PNG\r\n\x1a\n" + png)
        case 1:
            header = b"GIF89a" + struct.pack("<HHBBB", side % 2**16, other % 2**16, 0xF0, 0, 0)
            frame = struct.pack("<BHHHHB", 0x2C, 0, 0, side % 2**16, other % 2**16, 0)
            return "a.gif", header + bytes(6) + (frame + b"\x02\x02\x44\x01\x00") * 3 + b";"
        case 2:
            buffer = io.BytesIO()
            tifffile.imwrite(
                buffer, np.zeros((4, 4, 4), np.uint16), photometric="minisblack", compression="zlib"
            )
            data = bytearray(buffer.getvalue())
            for tag in (256, 257, 277, 278, 258):  # width, length, samples, rows of a strip, bits
                at = data.find(struct.pack("<H", tag), 8)
                if at > 0 and pick.random() < 0.6:
                    data[at + 8 : at + 12] = struct.pack("<I", pick.choice((side, other, 16)))
            return "a.tif", bytes(data)
        case 3:
            shape = pick.choice(
                (
                    (side, other, 3),
                    (10**12,),
                    (10**5, 10**5),
                    (-1, 5, 3),
                    (0, 5, 3),
                    (2**40, 2, 2),
                    (),
                )
            )
            kind = pick.choice(
                ("<f8", "|u1", "|O", "|b1", "<U9999", "<c16", "|V8", "<M8[s]", "<f2")
            )
            return "a.npy", _npy(shape, kind, pick)
        case 4:
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
                array = _npy((side % 10**5, other % 10**5, 3), "|u1", pick)
                archive.writestr("a.npy", array + bytes(pick.choice((0, 10**6, 10**8))))
            return "a.npz", buffer.getvalue()
        case _:
            head = struct.pack("<2sIHHIIIIHHI", b"BM", 100, 0, 0, 54, 40, side, other, 1, 24, 0)
            return "a.bmp", head + bytes(60)


def try_image(seed: int, folder: Path, whole: Whole) -> bool:
    """Whether an image is taken by anything that reads images."""
    pick = random.Random(seed)
    if pick.random() < 0.25:
        name, content = promised_image(pick)
    else:
        name = pick.choice(whole.names("images"))
        content = mutated(whole.bytes(name), pick)
        if name.endswith(".png") and pick.random() < 0.7:
            content = _with_checksums(content)
    path = folder / f"a{Path(name).suffix}"
    if pick.random() < 0.05:  # what is inside is another kind than the name says
        path = folder / f"a{pick.choice(SUFFIXES)}"
    path.write_bytes(content)
    taken = [
        outcome(lambda c=channels: load_pixels(path, channels=c)) for channels in (None, 1, 3, 4)
    ]
    outcome(lambda: load_alpha(path))  # of which a broken file has none
    taken.append(outcome(lambda: load_maps(path)))
    taken.append(outcome(lambda: load_input(path, 6)))
    taken.append(outcome(lambda: readable_images([path])))
    if is_animated(path):
        taken.append(outcome(lambda: [None for _ in read_frames(path)]))
    return any(taken)


def make_videos(folder: Path) -> None:
    frames = photo_frames(6, (64, 48))
    for name, codec in {"a.mp4": "libx264", "b.mkv": "libx264", "c.avi": "ffv1"}.items():
        make_video(folder / name, frames, codec=codec)
    make_video(folder / "d.mov", frames, codec="mpeg4", sound="aac")


def try_video(seed: int, folder: Path, whole: Whole) -> bool:
    pick = random.Random(seed)
    name = pick.choice(whole.names("videos"))
    path = folder / Path(name).name
    path.write_bytes(mutated(whole.bytes(name), pick))

    def read() -> None:
        with open_video(path) as (container, stream):
            reader = VideoReader(path, container, stream, pick.choice((1, 3)))
            for _ in reader.frames():
                pass
            reader.problems()

    return outcome(read)
