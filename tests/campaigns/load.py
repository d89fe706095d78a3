"""Memory under load: many images, a long video, many photos in the web page; a line for each.

    python tests/campaigns/load.py [--parts images,video,page,folder] [--images 10000]
        [--minutes 60] [--files 100000]

A part's memory is looked at after a tenth of the load and at its end; a part that grew by more
than `MOST_MIB` in between ends the script with 1. Of a folder of so many files, a few are used;
memory and time are compared with those of a folder of a few, and may be larger by `MOST_OF_FILES`
bytes and seconds a file. Everything is made in a folder that is removed.
"""

import argparse
import functools
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import psutil
import torch
from install_browser import installed_browser
from moving import make_video, photo_frames
from originals import resnet_state_dict
from PIL import Image
from playwright.sync_api import Page, sync_playwright

import wkdc

MOST_MIB = 32
"""Of growth. 9 000 images of 32 pixels are 26 MiB, and their names and results some more."""

MOST_OF_FILES = 2048, 1e-3
"""Bytes and seconds for each file of a folder: a path, its parts and its place in lists take up to
1000 bytes, and to look at a file some tenths of a millisecond on a slow disk."""

CHILD = """
import json, sys, psutil, wkdc
model, source, output, first, last = *sys.argv[1:4], *map(int, sys.argv[4:])
seen, peak = {}, 0
def look(done, total):
    global peak
    if done in (first, last) or done % 500 == 0:
        now = psutil.Process().memory_info().rss / 2**20
        peak = max(peak, now)
        if done in (first, last):
            seen[done] = now
result = wkdc.translate(model, [source], output, on_image=look)
print(json.dumps([seen[first], seen[last], peak, result.translated]))
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", default="images,video,page,folder")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--files", type=int, default=100_000)
    options = parser.parse_args()
    grown, failed = [0.0], False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save(resnet_state_dict(0, blocks=1, ngf=2), folder / "tiny.pth")
        for part in options.parts.split(","):
            match part:
                case "images":
                    first, last = translate_images(folder, options.images)
                case "video":
                    first, last = translate_hour(folder, options.minutes)
                case "page":
                    first, last = translate_photos(folder, options.photos)
                case "folder":
                    failed |= not read_folder(folder, options.files)
                    continue
                case _:
                    parser.error(f"no part {part}")
            grown.append(last - first)
    sys.exit(int(failed or max(grown) > MOST_MIB))


def in_a_child(folder: Path, source: Path, output: Path, count: int) -> tuple[float, float, str]:
    """MiB of a process that translates `count` images, after a tenth and at the end; and a line."""
    arguments = [folder / "tiny.pth", source, output, count // 10, count]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    first, last, peak, drawn = json.loads(done.stdout)
    said = f"{first:.0f} MiB after {count // 10}, {last:.0f} after {drawn}, at most {peak:.0f}"
    return first, last, said


def translate_images(folder: Path, count: int) -> tuple[float, float]:
    """A folder of small images."""
    (folder / "images").mkdir()
    generator = np.random.default_rng(0)
    for number in range(count):
        pixels = generator.integers(0, 256, (32, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number:06d}.png")
    first, last, said = in_a_child(folder, folder / "images", folder / "made", count)
    files = len(list((folder / "made").iterdir()))
    print(f"images: {files} of {count} translated; memory {said}", flush=True)
    return first, last


def translate_hour(folder: Path, minutes: int) -> tuple[float, float]:
    """A video of so many minutes, 25 small frames a second."""
    count = minutes * 60 * 25
    frames = photo_frames(25, (64, 48))
    video = make_video(folder / "in.mp4", [frames[n % 25] for n in range(count)], rate=25)
    first, last, said = in_a_child(folder, video, folder / "out.mp4", count)
    print(f"video: {minutes} minutes, {count} frames; memory {said}", flush=True)
    return first, last


def translate_photos(folder: Path, count: int) -> tuple[float, float]:
    """The web page in Chromium, one photo after the other."""
    wkdc.export_web(folder / "tiny.pth", folder / "page")
    photos = []
    for number, pixels in enumerate(photo_frames(10, (160, 120))):
        photos.append(folder / f"{number}.png")
        Image.fromarray(pixels).save(photos[-1])
    with served(folder / "page") as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=installed_browser(), args=["--no-sandbox", "--js-flags=--expose-gc"]
        )
        page = browser.new_page()
        page.goto(address)
        page.locator("#status", has_text="Ready").wait_for()
        seen = {}
        for number in range(1, count + 1):
            photo = photos[number % len(photos)]
            page.set_input_files("#file", photo)
            page.locator("#status", has_text=f"{photo.name} is translated").wait_for()
            if number in (count // 10, count):
                seen[number] = (renderer_mib(), heap_mib(page))
        browser.close()
    (first, first_heap), (last, last_heap) = seen[count // 10], seen[count]
    print(
        f"page: {count} photos; memory of the tab {first:.0f} MiB after {count // 10}, {last:.0f} "
        f"after {count}; of that JavaScript's {first_heap:.1f} and {last_heap:.1f}",
        flush=True,
    )
    return first, last


def read_folder(folder: Path, count: int) -> bool:
    """Commands that use a few of the files in a folder; whether the others cost little enough."""
    few = folder / "few"
    few.mkdir()
    for number, pixels in enumerate(photo_frames(20, (64, 64))):
        Image.fromarray(pixels).save(few / f"{number}.png")
    many = folder / "many"
    many.mkdir()
    originals = sorted(few.iterdir())
    for number in range(count):  # ext4 allows 65 000 links of a file
        os.link(originals[number % len(originals)], many / f"{number:06d}.png")
    wkdc.prune(folder / "tiny.pth", ratio=1.5, output=folder / "small.pth", calibrate=0)
    commands = {
        "evaluate --limit 8": ("evaluate", "small.pth", "--size", "64", "--limit", "8"),
        "prune": ("prune", "tiny.pth", "--ratio", "1.5", "--calibrate", "8", "-o", "new.pth"),
        "distill --steps 2": (
            *("distill", "--student", "small.pth", "--output", "new.pth", "--steps", "2"),
            *("--crop", "32", "--load-size", "40", "--cache", "off"),
        ),
        "translate --shard": ("translate", "tiny.pth"),
    }
    fine, said = True, []
    for name, command in commands.items():
        measured = []
        for source in (few, many):
            arguments = ("--data", source.name)
            if command[0] == "translate":
                parts = len(list(source.iterdir())) // 10
                arguments = (source.name, "-o", f"of-{source.name}", "--shard", f"1/{parts}")
            measured.append(in_a_process((*command, *arguments), folder))
        (few_s, few_mib), (many_s, many_mib) = measured
        fine &= (many_mib - few_mib) * 2**20 <= MOST_OF_FILES[0] * count
        fine &= many_s - few_s <= MOST_OF_FILES[1] * count
        said.append(f"{name} {many_s:.0f} s, {many_mib:.0f} MiB ({few_s:.0f} s, {few_mib:.0f} MiB)")
    print(f"folder: {count} images (and 20): {'; '.join(said)}", flush=True)
    return fine


def in_a_process(command: Sequence[str], folder: Path) -> tuple[float, float]:
    """Seconds and most MiB of a command that has to succeed."""
    began = time.monotonic()
    with (folder / "said.txt").open("w+") as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", "wkdc", *command], cwd=folder, stdout=printed, stderr=printed
        )
        _, status, usage = os.wait4(process.pid, 0)
        printed.seek(0)
        if status:
            sys.exit(f"{' '.join(command)} ended with {status}: {printed.read()}")
    return time.monotonic() - began, usage.ru_maxrss / 1024


def renderer_mib() -> float:
    """The memory of the tab's process and its workers."""
    mine = psutil.Process().children(recursive=True)
    tabs = [one for one in mine if "--type=renderer" in one.cmdline()]
    return max(one.memory_info().rss for one in tabs) / 2**20


def heap_mib(page: Page) -> float:
    page.evaluate("gc()")
    used: float = page.evaluate("performance.memory.usedJSHeapSize")
    return used / 2**20


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a plain static server."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    make = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), make) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


if __name__ == "__main__":
    main()
