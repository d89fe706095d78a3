"""Damaged weight files and cards by the thousand; the last line counts what became of them.

    python tests/campaigns/checkpoints.py [--inputs 10000] [--seed 0]

Two inputs of three are weights, one is a card. What leaves wkdc but its own errors is printed with
the seed that makes it again.
"""

import argparse
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from damage import try_card, try_weights


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged.pth"
        for seed in range(options.seed, options.seed + options.inputs):
            try_one = try_card if seed % 3 == 0 else try_weights
            try:
                counts["loaded" if try_one(seed, path) else "refused"] += 1
            except Exception as error:
                counts["tracebacks"] += 1
                frames = traceback.extract_tb(error.__traceback__)
                at = [f for f in frames if "/wkdc/" in f.filename or "damage" in f.filename][-1]
                place = f"{Path(at.filename).name}:{at.lineno} {type(error).__name__}"
                faults[place] += 1
                if faults[place] == 1:
                    print(f"{try_one.__name__} {seed}: {place}: {str(error)[:200]}")
    print(
        f"inputs {options.inputs}, refused {counts['refused']}, loaded {counts['loaded']}, "
        f"tracebacks {counts['tracebacks']} {dict(faults) or ''}"
    )


if __name__ == "__main__":
    main()
