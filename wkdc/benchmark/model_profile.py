"""The figures of one model in a profile, and the speedup of one over another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wkdc.benchmark.latency import WARM_UP, Latency, ratio_interval
from wkdc.onnx.layer_times import LayerProfile

NOISY = 1.2
"""An interval whose ends differ by more than this factor gets a warning."""


@dataclass(frozen=True)
class ModelProfile:
    """One model's size and speed.

    Attributes:
        params: number of weights; None for a .tflite that wkdc did not write.
        macs, macs_output_resolution: for one batch, see `wkdc.networks.complexity`; None for an
            exported file that wkdc did not write.
        size_bytes: of the file; of ncnn, with the weights beside it.
        peak_memory_bytes: of one call beyond weights and inputs: on CUDA what PyTorch allocates,
            elsewhere the feature maps that are alive at once; None but for a .pth.
        latency_ms: by runtime and device, such as `torch-cpu`, `onnx-cpu`, `onnx-fp16-cuda`; see
            `wkdc.benchmark.calls.Engine`.
        agreement_db: PSNR of each runtime's output for a photo against that of the first runtime
            that the model ran in, which computes in `precision`.
        layers: time of each layer in ONNX Runtime; None unless asked for.
        precision: number format that the file computes in.
    """

    path: Path
    sha256: str
    params: int | None
    macs: int | None
    macs_output_resolution: int | None
    size_bytes: int
    peak_memory_bytes: int | None
    latency_ms: dict[str, Latency]
    agreement_db: dict[str, float]
    layers: LayerProfile | None
    precision: str = "float32"


def speedups(models: Sequence[ModelProfile]) -> dict[str, float]:
    """The first model's figures over the last one's."""
    if len(models) < 2:
        return {}
    first, last = models[0], models[-1]
    ratios = {}
    if first.params is not None and last.params is not None:
        ratios["params"] = first.params / last.params
    if first.macs is not None and last.macs is not None:
        ratios["macs"] = first.macs / last.macs
    for runtime, latency in first.latency_ms.items():
        if runtime in last.latency_ms:
            ratios[runtime] = latency.median / last.latency_ms[runtime].median
    return ratios


def speedup_intervals(models: Sequence[ModelProfile]) -> dict[str, tuple[float, float]]:
    """`ratio_interval` of the first model and the last, by runtime."""
    if len(models) < 2:
        return {}
    first, last = models[0].latency_ms, models[-1].latency_ms
    found = {name: ratio_interval(first[name], last[name]) for name in first if name in last}
    return {name: interval for name, interval in found.items() if interval is not None}


def time_warnings(
    models: Sequence[ModelProfile], intervals: dict[str, tuple[float, float]], rounds: int
) -> Iterator[str]:
    """Sentences on times that may be too long, and on wide intervals."""
    unsettled = {
        runtime: None
        for model in models
        for runtime, latency in model.latency_ms.items()
        if not latency.settled
    }
    if unsettled:
        yield (
            f"{', '.join(unsettled)} still got faster after {WARM_UP} untimed rounds; times may be "
            "too long"
        )
    wide = [
        f"{low:.1f} and {high:.1f} ({runtime})"
        for runtime, (low, high) in intervals.items()
        if high > NOISY * low
    ]
    if wide:
        yield (
            f"the machine was busy, or {rounds} rounds are too few: another run would find a "
            f"speedup between {', between '.join(wide)}; close other programs, or time more rounds"
        )
