"""wkdc demo."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wkdc.cli import options, render
from wkdc.cli.profile import show_profile
from wkdc.cli.training import show_step
from wkdc.system import units

if TYPE_CHECKING:
    from wkdc.demo import DemoResult


def demo(
    folder: Annotated[Path, typer.Argument(help="Where the files are written.")] = Path(
        "wkdc-demo"
    ),
    steps: Annotated[
        int | None,
        typer.Option(help="Training steps.", show_default="as many as fit into the time"),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="Minutes of training.", show_default="so that the whole takes about 4"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier demo's files.")
    ] = False,
    device: options.Device = None,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Run the whole chain on a real CycleGAN generator and bundled photos, in four minutes."""
    from wkdc.demo import demo as run_demo
    from wkdc.system.devices import default_device

    started = time.monotonic()
    with render.meter() as meter:
        result = run_demo(
            folder,
            steps=steps,
            minutes=minutes,
            seed=seed,
            device=default_device() if device is None else device,
            overwrite=overwrite,
            on_stage=render.say,
            on_prune=lambda stage, share: meter.show(share, stage),
            on_step=lambda report: show_step(meter, report),
        )
    seconds = time.monotonic() - started
    if json:
        render.print_json(_as_json(result, seconds))
    else:
        _show(result, seconds)
    if result.distilled.interrupted:
        raise typer.Exit(130)


def _show(result: "DemoResult", seconds: float) -> None:
    show_profile(result.profiled)
    before, after = result.distilled.before, result.distilled.after
    render.table(
        f"student against teacher on {units.counted(after.images, 'photo')} that it was not "
        "trained on",
        ("", "at start", "now"),
        [
            ("PSNR", f"{before.psnr_db:.2f} dB", f"{after.psnr_db:.2f} dB"),
            ("high-band error", f"{before.high_band_error:.3f}", f"{after.high_band_error:.3f}"),
        ],
    )
    render.tell(
        f"{units.duration(seconds)} in all; look at {result.comparison}: "
        "input | teacher | student at start | student"
    )
    render.say_next("wkdc", "translate", result.exported.output, "YOUR_PHOTOS", "-o", "vintage")


def _as_json(result: "DemoResult", seconds: float) -> dict[str, object]:
    after = result.distilled.after
    return {
        "folder": str(result.folder),
        "comparison": str(result.comparison),
        "seconds": round(seconds, 1),
        "steps": result.distilled.steps,
        "images_per_second": round(result.distilled.images_per_second, 3),
        "student_vs_teacher": {
            "psnr_db": after.psnr_db,
            "high_band_error": after.high_band_error,
            "images": after.images,
        },
        "onnx_max_abs_error": result.exported.max_abs_error,
        "profile": result.profiled,
        "interrupted": result.distilled.interrupted,
    }
