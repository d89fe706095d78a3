"""What the forms that the export writes layers in gain in ONNX Runtime.

    python tests/benchmarks/lowering.py MODEL.pth ...

Each model is exported as PyTorch has it (InstanceNorm centred), with the last layer in quads, with
transposed convolutions in phases too, and timed in turn at 256x256; the fastest of the rounds is
printed, because other programs only ever slow a call down.
"""

import argparse
import contextlib
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from wkdc.benchmark.latency import onnx_calls, time_in_turn
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.onnx import rewrites as lowering

ROUNDS = 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    for path in parser.parse_args().models:
        times = time_in_turn(forms(path), ROUNDS)
        print(path, {name: f"{found.fastest:.1f} ms" for name, found in times.items()}, flush=True)


def forms(path: Path) -> dict[str, Callable[[], object]]:
    """A call of the model in each form."""
    generator = load_generator(path)
    architecture = generator.architecture
    side = max(256, architecture.smallest)
    left_out = {"as it is": ["fits_quads", "fits_phases"], "quads": ["fits_phases"], "both": []}
    calls = {}
    for name, tests in left_out.items():
        with (
            contextlib.ExitStack() as patches,
            onnx_calls(architecture, (side, side)) as call_of,
        ):
            for test in tests:
                patches.enter_context(mock.patch.object(lowering, test, return_value=False))
            calls[name] = call_of(generator.network)
    return calls


if __name__ == "__main__":
    main()
