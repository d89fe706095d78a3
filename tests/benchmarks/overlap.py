"""What reading ahead and writing behind gains in `wkdc translate`: photos, and a video of them.

    python tests/benchmarks/overlap.py student.onnx tiny.pth --rounds 3

Every model translates the bundled photos, and a video made of them, with and without threads beside
it, in turn; the median of the rounds is shown.
"""

import argparse
import contextlib
import importlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))

from moving import make_video, photo_frames

import wkdc
from wkdc.data.photos import photo_paths
from wkdc.inference.model import ImageModel, open_model


class _InTurn:
    """What `ordered_map` does, without threads."""

    def __init__(self, work: Callable[[Any], Any], items: Iterable[Any], **_: int) -> None:
        self._made = map(work, items)

    def __iter__(self) -> Iterator[Any]:
        return self._made

    def close(self) -> None:
        """There is nothing to stop."""


def seconds(model: ImageModel, inputs: list[Path], *, overlapped: bool) -> float:
    """Of one run."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        if not overlapped:
            video, still = map(importlib.import_module, ("wkdc.inference.video", "wkdc.translate"))
            for module, name, stand_in in (
                (video, "ordered_map", _InTurn),
                (still, "ordered_map", _InTurn),
                (video, "prefetch", lambda items, ahead: _InTurn(lambda item: item, items)),
            ):
                stack.enter_context(mock.patch.object(module, name, stand_in))
        started = time.perf_counter()
        wkdc.translate(model, inputs, folder)
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=96)
    options = parser.parse_args()
    models = [open_model(path) for path in options.models]
    with tempfile.TemporaryDirectory() as folder:
        frames = photo_frames(options.frames, (480, 360))
        clip = make_video(Path(folder) / "clip.mp4", frames, sound="aac")
        for name, inputs, count in (
            ("photos", photo_paths(), len(photo_paths())),
            ("frames", [clip], options.frames),
        ):
            for model in models:
                times: dict[bool, list[float]] = {False: [], True: []}
                for _ in range(options.rounds):
                    for overlapped in (False, True):
                        times[overlapped].append(seconds(model, inputs, overlapped=overlapped))
                before, after = (count / statistics.median(times[key]) for key in (False, True))
                print(
                    f"{model.path.name} {name}: {before:.2f} a second in turn, {after:.2f} "
                    f"overlapped, {after / before:.2f}x",
                    flush=True,
                )


if __name__ == "__main__":
    main()
