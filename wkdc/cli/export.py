"""wkdc export."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wkdc.cli import options, phones, render, values
from wkdc.errors import CheckpointError, OptionError
from wkdc.system import units

if TYPE_CHECKING:
    from wkdc.checkpoints.checkpoint import Generator
    from wkdc.export import ExportResult
    from wkdc.onnx.precision import Precision

TARGETS = "For a browser or a server"

Model = Annotated[Path, typer.Argument(help="The generator, such as student.pth.")]
Onnx = Annotated[
    bool, typer.Option("--onnx", help="Write ONNX: what is written without another format, too.")
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="The .onnx file.", show_default="the model's path, as .onnx"
    ),
]
Uint8Io = Annotated[
    bool,
    typer.Option("--uint8-io", help="Take and return uint8 N×H×W×C, as cameras and screens do."),
]
Fp16 = Annotated[
    bool, typer.Option("--fp16", help="Compute in float16: half the size, meant for GPUs.")
]
Bf16 = Annotated[
    bool, typer.Option("--bf16", help="Say how to compute in bfloat16, which OpenVINO does.")
]
Int8 = Annotated[
    bool,
    typer.Option(
        "--int8",
        help="Compute convolutions in int8, calibrated on images of --data, or on bundled photos.",
    ),
]
Tolerance = Annotated[
    float | None,
    typer.Option(
        help="Largest allowed difference of a pixel from PyTorch, in units of [-1, 1].",
        show_default="the precision's, 0.0001 in float32",
    ),
]
Web = Annotated[
    Path | None,
    typer.Option(
        "--web",
        metavar="DIR",
        help="Write a web page that translates photos in the browser.",
        rich_help_panel=TARGETS,
    ),
]
RuntimeFiles = Annotated[
    Path | None,
    typer.Option(
        help="onnxruntime-web for the page, as a folder or .tgz.",
        show_default="what npm fetches",
        rich_help_panel=TARGETS,
    ),
]
Triton = Annotated[
    Path | None,
    typer.Option(
        "--triton",
        metavar="DIR",
        help="Write into a model repository, for Triton or KServe.",
        rich_help_panel=TARGETS,
    ),
]
MaxBatch = Annotated[
    int | None,
    typer.Option(
        help="Most images in one of Triton's batches.", show_default="8", rich_help_panel=TARGETS
    ),
]


def export(
    model: Model,
    onnx: Onnx = False,
    output: Output = None,
    uint8_io: Uint8Io = False,
    fp16: Fp16 = False,
    bf16: Bf16 = False,
    int8: Int8 = False,
    data: options.Images = None,
    data_url: options.DataUrl = None,
    range_: options.Range = None,
    direction: options.Direction = "AtoB",
    tolerance: Tolerance = None,
    web: Web = None,
    runtime_files: RuntimeFiles = None,
    triton: Triton = None,
    max_batch: MaxBatch = None,
    litert: phones.Litert = False,
    coreml: phones.Coreml = False,
    ncnn: phones.Ncnn = False,
    size: phones.Sizes = None,
    norm: options.Norm = None,
    padding: options.BlockPadding = None,
    upsampling: options.Upsampling = None,
    key: options.Key = None,
    arch: options.Arch = None,
    json: options.Json = False,
) -> None:
    """Write a generator as ONNX or for a phone, and compare its images with PyTorch's."""
    import wkdc

    precision = _precision(fp16=fp16, bf16=bf16, int8=int8)
    targets = {"output": output, "web": web, "triton": triton}
    _check_targets(targets, runtime_files, max_batch, onnx=onnx)
    if web is not None and (uint8_io or precision != "float32"):
        raise OptionError(
            "a page takes float32; give --web without --uint8-io, --fp16, --bf16 and --int8"
        )
    formats = phones.asked(litert=litert, coreml=coreml, ncnn=ncnn)
    if formats or size:
        phones.check(formats, precision, targets, onnx)
    generator = wkdc.load_generator(
        model, norm=norm, block_padding=padding, upsampling=upsampling, key=key, arch=arch
    )
    folder = options.find_images_if_any(data, data_url, range_, direction=direction)
    shared: dict[str, Any] = {"tolerance": tolerance, "data": folder, "direction": direction}
    form: dict[str, Any] = {"pixels": uint8_io, "precision": precision}
    more: dict[str, Any] = {}
    then: list[str | Path]
    sizes = [values.parse_size(one) for one in size or []]
    for name in formats:
        made = phones.write(generator, name, output, sizes, form, shared)
        more[name] = phones.as_json(made)
        if not json:
            phones.show(model, made)
    if formats and not onnx:
        if json:
            render.print_json(more)
        return
    with render.meter() as meter:
        shared["on_progress"] = lambda text, share: meter.show(share, text)
        if web is not None:
            page = wkdc.export_web(generator, web, runtime_files=runtime_files, **shared)
            result, then = page.exported, ["python3", "-m", "http.server", "--directory", web]
            more = {"web": {"size_bytes": page.size_bytes, "runtime": page.runtime}}
        elif triton is not None:
            form |= {} if max_batch is None else {"max_batch": max_batch}
            served = wkdc.export_triton(generator, triton, **form, **shared)
            result, then = served.exported, ["tritonserver", "--model-repository", triton]
            more = {"triton": {"repository": served.repository, "config": served.config}}
        else:
            result = wkdc.export(generator, output=output, **form, **shared)
            then = ["wkdc", "profile", *_profiled(generator), *options.again(arch)]
    render.say_notes(result.notes)
    for warning in result.warnings:
        render.say(f"note: {warning}")
    if json:
        render.print_json(_as_json(result) | more)
        return
    _show(model, result)
    render.say_next(*then)


def _check_targets(
    targets: dict[str, Path | None],
    runtime_files: Path | None,
    max_batch: int | None,
    *,
    onnx: bool,
) -> None:
    """Raises: OptionError: there are several targets, or an option belongs to another one."""
    named = [name for name, path in targets.items() if path is not None]
    if len(named) > 1:
        raise OptionError(f"give one of --{' and --'.join(named)}: each says where the file goes")
    if onnx and named and named != ["output"]:
        raise OptionError(
            f"--{named[0]} writes a .onnx file into its folder; for another give --onnx alone"
        )
    if targets["web"] is None and runtime_files is not None:
        raise OptionError("--runtime-files are those of a page; give --web DIR, too")
    if targets["triton"] is None and max_batch is not None:
        raise OptionError("--max-batch is for a repository; give --triton DIR, too")


def _precision(*, fp16: bool, bf16: bool, int8: bool) -> "Precision":
    """The one that was asked for.

    Raises:
        OptionError: there are several.
    """
    match fp16, bf16, int8:
        case False, False, False:
            return "float32"
        case True, False, False:
            return "float16"
        case False, True, False:
            return "bfloat16"
        case False, False, True:
            return "int8"
        case _:
            raise OptionError("a file has one precision; give one of --fp16, --bf16 and --int8")


def _profiled(generator: "Generator") -> list[Path]:
    """What `wkdc profile` has to be given to time it: nothing for student.pth and its teacher."""
    from wkdc.checkpoints.checkpoint import teacher_path

    if generator.path == Path("student.pth"):
        return []
    try:
        return [teacher_path(generator.path, generator.card), generator.path]
    except CheckpointError:  # it is a teacher, or its own is gone
        return [generator.path]


def _as_json(result: "ExportResult") -> dict[str, object]:
    return {
        "output": str(result.output),
        "opset": result.opset,
        "max_abs_error": result.max_abs_error,
        "mean_abs_error": result.mean_abs_error,
        "tolerance": result.tolerance,
        "size_bytes": result.size_bytes,
        "precision": result.precision,
        "psnr_db": result.psnr_db,
        "high_band_error": result.high_band_error,
        "kept_in_float": result.kept_in_float,
        "latency_ms": result.latency_ms,
        "float32_latency_ms": result.float32_latency_ms,
        "float32_size_bytes": result.float32_size_bytes,
        "warnings": result.warnings,
    }


def _show(model: Path, result: "ExportResult") -> None:
    made = f"{units.megabytes(result.size_bytes)}, opset {result.opset}, {result.precision}"
    title = f"{model} -> {result.output} ({made})"
    phones.show_checks(title, "ONNX Runtime against PyTorch", result.checks)
    if result.kept_in_float:
        render.tell(f"in float32: {', '.join(result.kept_in_float)} and all norms")
    for runtime, before in result.float32_latency_ms.items():
        now = result.latency_ms[runtime]
        render.tell(f"{runtime}: {now:.1f} ms, in float32 {before:.1f} ms ({before / now:.2f}x)")
