"""How near tiles come to images translated whole, what time they take, and what memory.

    python tests/benchmarks/tiles.py student.pth *.jpg --long-side 800 --tiles 256 384

Every image is translated by a process of its own, whose peak tells the memory beyond what the open
model takes. Printed: the unchanged image, and every way, in dB to the image translated whole.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from wkdc.data.image_writing import save_pixels
from wkdc.data.images import load_pixels, pixels_to_images, resize_short_side
from wkdc.inference.model import open_model
from wkdc.inference.tiles import Tiling, tiled_translator, translate_whole
from wkdc.metrics.fidelity import psnr_db


def translate(
    model_path: Path, source: Path, target: Path, tile: int, overlap: int, way: str
) -> None:
    """One image; its seconds and bytes go to stdout."""
    model = open_model(model_path)
    pixels = load_pixels(source)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    match way:
        case "whole":
            made = translate_whole(model, pixels)
        case "picture" | "tile":
            made = tiled_translator(model, Tiling(tile, overlap, way))(pixels)
        case _:
            raise SystemExit(f"{way} is none of whole, image, tile")
    seconds = time.perf_counter() - started
    save_pixels(target, made)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "bytes": (peak - before) * 1024}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--long-side", type=int, default=800)
    parser.add_argument("--tiles", nargs="+", type=int, default=[256, 384])
    parser.add_argument("--overlap", type=int, default=64)
    parser.add_argument("--once", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once is not None:
        way, target = options.once
        translate(
            options.model,
            options.pictures[0],
            Path(target),
            options.tiles[0],
            options.overlap,
            way,
        )
        return
    ways = [("whole", 0), *((way, tile) for tile in options.tiles for way in ("tile", "picture"))]
    found: dict[tuple[str, int], list[tuple[float, float, float]]] = {way: [] for way in ways}
    unchanged = []
    with tempfile.TemporaryDirectory() as folder:
        source, whole, target = (Path(folder) / f"{name}.png" for name in ("in", "whole", "out"))
        for picture in options.pictures:
            pixels = load_pixels(picture)
            short, long = sorted(pixels.shape[1:])
            save_pixels(source, resize_short_side(pixels, round(short * options.long_side / long)))
            for way, tile in ways:
                goal = whole if way == "whole" else target
                said = subprocess.run(
                    [
                        *(sys.executable, __file__, options.model, source),
                        *("--once", way, goal, "--tiles", str(tile)),
                        *("--overlap", str(options.overlap)),
                    ],
                    check=True,
                    capture_output=True,
                    text=True,
                )
                took = json.loads(said.stdout)
                near = psnr_db(images(goal), images(whole))
                found[way, tile].append((near, took["seconds"], took["bytes"] / 1e6))
            unchanged.append(psnr_db(images(source), images(whole)))
    print(f"unchanged: {statistics.fmean(unchanged):.1f} dB")
    for (way, tile), rows in found.items():
        near, seconds, megabytes = (statistics.fmean(column) for column in zip(*rows, strict=True))
        each = " ".join(f"{row[0]:.1f}" for row in rows)
        print(f"{way} {tile or ''}: {near:.1f} dB ({each}), {seconds:.1f} s, {megabytes:.0f} MB")


def images(path: Path) -> torch.Tensor:
    """An image, 1×C×H×W in [-1, 1]."""
    return pixels_to_images(load_pixels(path)).unsqueeze(0)


if __name__ == "__main__":
    main()
