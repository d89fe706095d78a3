"""Commands that are killed, by the hundred; the last line counts what was lost.

    python tests/campaigns/kills.py FOLDER [--kills 200] [--seed 0] [--only prune ...]

Works in FOLDER, and goes on there if it was stopped itself. Of each kind that loses something, the
folder stays, with what the commands printed in log.txt.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import sys
from collections import Counter
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # no threads before a fork
sys.path.insert(0, str(Path(__file__).parents[1]))

import av  # noqa: F401  # so that the forked processes have them
import matplotlib.figure  # noqa: F401
import onnxruntime  # noqa: F401
import onnxscript  # noqa: F401
import pytorch_optimizer  # noqa: F401
import torch
import torch_pruning  # noqa: F401
from killing import IN_TURN, KINDS, Lost, Whole, kill_and_go_on, prepare, run_whole, two_at_once


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=list(KINDS), default=[])
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder: Path = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"kills-{options.seed}.jsonl"
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    prepared = folder / "prepared"
    if not prepared.exists():
        shutil.rmtree(folder / "preparing", ignore_errors=True)
        prepare(folder / "preparing")
        (folder / "preparing").rename(prepared)
    names = [name for name in IN_TURN if not options.only or name in options.only]
    wholes: dict[str, Whole] = {}

    def try_one(number: int, name: str, *, twice: bool) -> dict[str, object]:
        place = folder / f"{'twice' if twice else 'trial'}-{options.seed}-{number}"
        shutil.rmtree(place, ignore_errors=True)
        pick = random.Random(f"{options.seed} {number} {twice}")
        record: dict[str, object] = {"number": number, "name": name, "twice": twice, "kills": 0}
        try:
            if name not in wholes:
                wholes[name] = run_whole(KINDS[name], prepared, place)
                shutil.rmtree(place)
            if twice:
                record["outcome"] = two_at_once(name, wholes[name], prepared, place, pick)
            else:
                record["kills"] = kill_and_go_on(name, wholes[name], prepared, place, pick)
            shutil.rmtree(place)
        except Lost as error:
            print(f"{number} {name}: {error} (see {place})", flush=True)
            record["lost"] = str(error)
        with log.open("a") as file:
            file.write(json.dumps(record) + "\n")
        return record

    kills = sum(record["kills"] for record in done)
    for number, name in enumerate(itertools.cycle(names)):
        if kills >= options.kills:
            break
        if number >= sum(not record["twice"] for record in done):
            record = try_one(number, name, twice=False)
            done.append(record)
            kills += record["kills"]
    for number, name in enumerate(dict.fromkeys(names)):
        if number >= sum(record["twice"] for record in done):
            done.append(try_one(number, name, twice=True))
    by_kind: Counter[str] = Counter()
    for record in done:
        by_kind[record["name"]] += record["kills"]
    pairs = Counter(record.get("outcome") for record in done if record["twice"])
    lost = sum("lost" in record for record in done)
    print(
        f"kills {kills} {dict(by_kind)}, then the next command: lost {lost}; two at once: "
        f"both ended {pairs['both']}, one refused {pairs['refused']}"
    )
    sys.exit(lost > 0)


if __name__ == "__main__":
    main()
