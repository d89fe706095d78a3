"""Every command that writes, on a disk that fills at every point; the last line counts.

    python tests/campaigns/full_disk.py FOLDER [--growth 4] [--only prune ...]

Works in FOLDER, and goes on there if it was stopped. Of each kind that loses something, the folder
stays, with what the command printed in log.txt. Needs root, which may mount disks in memory.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # no threads before a fork
sys.path.insert(0, str(Path(__file__).parents[1]))

import av  # noqa: F401  # so that the forked processes have them
import coremltools  # noqa: F401
import matplotlib.figure  # noqa: F401
import onnxruntime  # noqa: F401
import onnxscript  # noqa: F401
import pytorch_optimizer  # noqa: F401
import torch
import torch_pruning  # noqa: F401
from full_disk import fill, kinds
from killing import Lost, prepare
from PIL import Image
from shared_exports import shared_exports

from wkdc.deploy.web_runtime import fetch_archive


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--growth", type=int, default=4, help="more are more points")
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder: Path = options.folder.absolute()
    prepared = folder / "prepared"
    if not prepared.exists():
        shutil.rmtree(folder / "preparing", ignore_errors=True)
        prepare(folder / "preparing")
        frames = [Image.open(path) for path in sorted((folder / "preparing/photos").iterdir())]
        frames[0].save(folder / "preparing/moving.gif", save_all=True, append_images=frames[1:4])
        for number, frame in enumerate(frames):
            Path(str(frame.filename)).rename(folder / f"preparing/photos/{number}.png")
        (folder / "preparing").rename(prepared)
    (folder / "exports").mkdir(exist_ok=True)
    log = folder / "full-disk.jsonl"
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    known = {(one["name"], one["files"]) for one in done}
    with shared_exports(folder / "exports"):
        for name, kind in kinds(fetch_archive()).items():
            for files in (False, True):
                if (name, files) in known or (options.only and name not in options.only):
                    continue
                place = folder / f"{name.replace(', ', '-')}-{'files' if files else 'bytes'}"
                shutil.rmtree(place, ignore_errors=True)
                shutil.copytree(prepared, place)
                (place / "tmp").symlink_to("disk/tmp")
                record: dict[str, object] = {"name": name, "files": files, "full": 0}
                try:
                    found = fill(kind, place, options.growth, files=files)
                    record |= {"full": found.full, "said": sorted(found.said)}
                    shutil.rmtree(place)
                except Lost as error:
                    print(f"{name}, {error} (see {place})", flush=True)
                    record["lost"] = str(error)
                with log.open("a") as file:
                    file.write(json.dumps(record) + "\n")
                done.append(record)
    counts = {"bytes": 0, "files": 0}
    for record in done:
        counts["files" if record["files"] else "bytes"] += record["full"]
    lost = sum("lost" in record for record in done)
    print(
        f"{len({one['name'] for one in done})} commands, full disks {sum(counts.values())} "
        f"({counts['bytes']} by bytes, {counts['files']} by files), then with room: lost {lost}"
    )
    sys.exit(lost > 0)


if __name__ == "__main__":
    main()
