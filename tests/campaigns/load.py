"""Memory under load: many images, a long video, many photos in the web page; a line for each.

    python tests/campaigns/load.py [--parts images,video,page] [--images 10000] [--minutes 60]

A part's memory is looked at after a tenth of the load and at its end; a part that grew by more
than `MOST_MIB` in between ends the script with 1. Everything is made in a folder that is removed.
"""

import argparse
import functools
import http.server
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
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
print(json.dumps([seen[first], seen[last], peak, result.drawn]))
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", default="images,video,page")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--photos", type=int, default=200)
    options = parser.parse_args()
    grown = []
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
                case _:
                    parser.error(f"no part {part}")
            grown.append(last - first)
    sys.exit(int(max(grown) > MOST_MIB))


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
