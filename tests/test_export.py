"""An exported file is self-contained, says what it is, and gives the images of its source."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import Called
from originals import resnet_forward, resnet_state_dict, unet_forward, unet_state_dict
from torch import Tensor

import wkdc
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.data.images import load_pixels, pixels_to_images, resize_short_side
from wkdc.data.photos import photo_paths
from wkdc.errors import CheckpointError, OptionError, OutputError, ParityError
from wkdc.export import ExportResult
from wkdc.inference.runtimes import runtimes_on
from wkdc.networks.resnet import ResnetGenerator

# What the project promises: an eightieth of a step of 8 bits, in units of [-1, 1]. A right file is
# some 1e-5 away, with the rounding of float32 over ten norms; a wrong layer is beyond 1e-2.
SAME_PICTURE = 1e-4

RESNET_SIZES = [(256, 256), (192, 320), (250, 333)]
UNET_SIZES = [(256, 256), (256, 384), (384, 256)]

IRREGULAR = {"encoder": (5, 9), "stream": 14, "inner": (3, 11, 6), "decoder": (10, 7)}
IRREGULAR_UNET = {"down": (3, 6, 11, 5, 9, 7, 4), "up": (2, 5, 3, 10, 6, 8)}


@dataclass(frozen=True)
class Variant:
    """A generator: its weights, what its file cannot say, and the original network with them."""

    weights: dict[str, Tensor]
    translate: Callable[[Tensor], Tensor]
    options: dict[str, Any]
    sizes: list[tuple[int, int]]


def resnet(weights: dict[str, Any], options: dict[str, str] | None = None) -> Variant:
    state_dict = resnet_state_dict(0, **{"blocks": 3, "ngf": 4} | weights)
    options = options or {}
    padding = options.get("block_padding", weights.get("padding", "reflect"))
    norm = weights.get("norm", "instance")

    def translate(images: Tensor) -> Tensor:
        return resnet_forward(state_dict, images, blocks=3, norm=norm, padding=padding)

    return Variant(state_dict, translate, options, RESNET_SIZES)


def unet(weights: dict[str, Any]) -> Variant:
    state_dict = unet_state_dict(4, **{"downs": 7} | weights)
    norm = weights.get("norm", "batch")

    def translate(images: Tensor) -> Tensor:
        return unet_forward(state_dict, images, downs=7, norm=norm)

    return Variant(state_dict, translate, {}, UNET_SIZES)


def subpixel() -> Variant:
    """There is no original of this one; the module itself is the reference."""
    torch.manual_seed(5)
    network = ResnetGenerator(
        encoder=(4, 8), stream=12, inner=(12, 6), decoder=(7, 5), affine=True, upsampling="subpixel"
    ).eval()
    return Variant(network.state_dict(), network, {"upsampling": "subpixel"}, RESNET_SIZES)


GREY = {"in_channels": 1, "out_channels": 1, "affine": True, **IRREGULAR}

# Each axis turns up at least once: an export takes seconds, so they share files.
VARIANTS: dict[str, Callable[[], Variant]] = {
    "reflect": lambda: resnet({}),
    "grey, replicate, affine, irregular": lambda: resnet(GREY, {"block_padding": "replicate"}),
    "zero, batch": lambda: resnet({"padding": "zero", "norm": "batch"}),
    "sub-pixel": subpixel,
    "unet, grey to colour, irregular": lambda: unet({"in_channels": 1, **IRREGULAR_UNET}),
}


@dataclass(frozen=True)
class Exported:
    """A variant, and what became of it in a folder of its own."""

    variant: Variant
    source: Path
    result: ExportResult

    def run(self, images: Tensor) -> Tensor:
        # From memory: nothing that the file might lean on is in reach.
        session = onnxruntime.InferenceSession(
            self.result.output.read_bytes(), providers=["CPUExecutionProvider"]
        )
        (image,) = session.run(["picture"], {"image": images.numpy()})
        return torch.from_numpy(np.asarray(image))


@pytest.fixture(scope="module", params=VARIANTS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    variant = VARIANTS[request.param]()
    source = tmp_path_factory.mktemp("export") / "latest_net_G.pth"
    torch.save(variant.weights, source)
    generator = load_generator(source, **variant.options)
    # A tolerance that lets everything pass: how near it is, the tests find out for themselves.
    return Exported(variant, source, wkdc.export(generator, tolerance=2.0))


def batch_of_photos(
    channels: int, height: int, width: int, *, contrast: float = 1.0, brightness: float = 0.0
) -> Tensor:
    """Three different photos, N×C×H×W in [-1, 1]."""
    images = []
    for path in photo_paths()[:3]:
        pixels = resize_short_side(load_pixels(path, channels=channels), max(height, width))
        images.append(pixels_to_images(pixels[:, :height, :width]))
    return torch.stack(images) * contrast + brightness


def in_channels(variant: Variant) -> int:
    return next(iter(variant.weights.values())).shape[1]


@pytest.mark.parametrize("size", [0, 1, 2])
def test_onnx_gives_the_images_of_the_original(exported: Exported, size: int) -> None:
    height, width = exported.variant.sizes[size]
    images = batch_of_photos(in_channels(exported.variant), height, width)
    with torch.inference_mode():
        expected = exported.variant.translate(images)
    translated = exported.run(images)
    assert translated.shape == expected.shape
    assert float(expected.std()) > 0.01  # a flat image would hide a wrong layer
    assert float((translated - expected).abs().max()) <= SAME_PICTURE


def test_hazy_photos_lose_no_digits(exported: Exported) -> None:
    """Features that hardly vary lose digits in a norm; ONNX must not lose more than PyTorch."""
    images = batch_of_photos(
        in_channels(exported.variant), *exported.variant.sizes[0], contrast=0.1, brightness=0.8
    )
    exact = load_generator(exported.source, **exported.variant.options).network.double()
    with torch.inference_mode():
        expected = exact(images.double())
        least = float((exported.variant.translate(images) - expected).abs().max())
    # Either rounds its own way, so that one may be a little luckier; 1e-5 where both are exact.
    assert float((exported.run(images) - expected).abs().max()) <= 3 * least + 1e-5


def test_what_the_export_reports_is_within_the_promise(exported: Exported) -> None:
    result = exported.result
    assert [(c.height, c.width) for c in result.checks] == exported.variant.sizes
    assert 0 < result.max_abs_error <= SAME_PICTURE
    assert 0 < result.mean_abs_error < result.max_abs_error
    assert result.max_abs_error == max(check.max_abs_error for check in result.checks)


def test_images_in_a_batch_do_not_touch_each_other(exported: Exported) -> None:
    images = batch_of_photos(in_channels(exported.variant), *exported.variant.sizes[1])
    together = exported.run(images)
    alone = torch.cat([exported.run(image.unsqueeze(0)) for image in images])
    # The same sums, cut up among loops in another way: rounding apart, they are equal.
    assert float((together - alone).abs().max()) <= SAME_PICTURE


def test_one_file_holds_everything(exported: Exported) -> None:
    folder = exported.source.parent
    names = sorted(entry.name for entry in folder.iterdir())
    assert names == ["latest_net_G.onnx", "latest_net_G.pth"]
    assert exported.result.output == folder / "latest_net_G.onnx"
    assert exported.result.size_bytes == exported.result.output.stat().st_size
    model = onnx.load(str(exported.result.output), load_external_data=False)
    stored = [tensor.data_location for tensor in model.graph.initializer]
    assert stored == [onnx.TensorProto.DEFAULT] * len(stored)
    onnx.checker.check_model(model, full_check=True)


def test_the_interface_is_open_in_batch_and_size(exported: Exported) -> None:
    model = onnx.load(str(exported.result.output))
    assert [opset.version for opset in model.opset_import if not opset.domain] == [
        exported.result.opset
    ]
    assert [entry.name for entry in model.graph.input] == ["image"]
    assert [entry.name for entry in model.graph.output] == ["picture"]
    for entry in (*model.graph.input, *model.graph.output):
        assert entry.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        batch, channels, height, width = entry.type.tensor_type.shape.dim
        assert channels.dim_value in (1, 3)
        assert [batch.dim_value, height.dim_value, width.dim_value] == [0, 0, 0]  # not fixed


def metadata_of(path: Path) -> dict[str, Any]:
    entries = onnx.load(str(path)).metadata_props
    return {e.key: json.loads(e.value) for e in entries if e.key.startswith("wkdc.")}


def test_the_file_says_what_it_is(exported: Exported) -> None:
    stored = metadata_of(exported.result.output)
    generator = load_generator(exported.source, **exported.variant.options)
    assert stored["wkdc.source_sha256"] == hashlib.sha256(exported.source.read_bytes()).hexdigest()
    assert stored["wkdc.card"] is None  # a stock file has none
    assert stored["wkdc.family"] == generator.architecture.family
    options = json.loads(json.dumps(generator.architecture.options))  # tuples become lists
    assert stored["wkdc.options"] == options
    assert stored["wkdc.params"] == sum(p.numel() for p in generator.network.parameters())
    assert stored["wkdc.multiple"] == generator.architecture.multiple
    assert stored["wkdc.range"] == [-1, 1]


# --- The command -------------------------------------------------------------------------------

Call = Callable[..., Called]


def test_the_command_checks_and_reports(call_wkdc: Call, student: Path) -> None:
    called = call_wkdc("export", "student.pth", "--onnx", "--json")
    assert (called.code, called.stderr) == (0, "")  # a student's card leaves nothing to assume
    output = student.with_suffix(".onnx")
    report = json.loads(called.stdout)
    assert set(report) == {
        "output",
        "opset",
        "max_abs_error",
        "mean_abs_error",
        "tolerance",
        "size_bytes",
        "precision",
        "psnr_db",
        "high_band_error",
        "kept_in_float",
        "latency_ms",
        "float32_latency_ms",
        "float32_size_bytes",
        "warnings",
    }
    assert (report["output"], report["tolerance"]) == ("student.onnx", SAME_PICTURE)
    assert report["size_bytes"] == report["float32_size_bytes"] == output.stat().st_size
    assert (report["precision"], report["kept_in_float"], report["warnings"]) == ("float32", [], [])
    assert 0 < report["mean_abs_error"] < report["max_abs_error"] <= SAME_PICTURE
    stored = metadata_of(output)
    assert stored["wkdc.card"] == torch.load(student, weights_only=True)["wkdc"]
    assert stored["wkdc.source_sha256"] == hashlib.sha256(student.read_bytes()).hexdigest()


def test_the_command_shows_a_table_and_the_next_step(call_wkdc: Call, teacher: Path) -> None:
    output = teacher.with_name("small.onnx")
    output.write_bytes(b"the one from yesterday")
    # The looser tolerance keeps this test about what is shown and replaced.
    called = call_wkdc("export", "teacher.pth", "-o", "small.onnx", "--tolerance", "0.05")
    assert called.code == 0
    assert "small.onnx" in called.stdout
    for height, width in RESNET_SIZES:
        assert f"{height}x{width}" in called.stdout
    assert called.stdout.splitlines()[-1] == "next: wkdc profile teacher.pth"
    (note,) = called.stderr.splitlines()
    assert note.startswith("assumed, as the file cannot tell: ")
    assert metadata_of(output)["wkdc.family"] == "resnet"
    assert not teacher.with_suffix(".onnx").exists()


def test_a_file_that_differs_is_not_left(teacher: Path) -> None:
    """No exporter gets every bit right, so that 1e-12 is a promise that none can keep."""
    with pytest.raises(ParityError, match=r"differs .* at \d+x\d+, more than 1e-12"):
        wkdc.export(teacher, tolerance=1e-12)
    assert list(teacher.parent.iterdir()) == [teacher]


def test_a_file_that_differs_does_not_replace_an_old_one(call_wkdc: Call, teacher: Path) -> None:
    old = teacher.with_suffix(".onnx")
    old.write_bytes(b"the one from yesterday")
    called = call_wkdc("export", "teacher.pth", "--tolerance", "1e-12")
    (error,) = called.stderr.splitlines()
    assert (called.code, called.stdout) == (1, "")
    assert error.startswith("wkdc: the ONNX model differs from teacher.pth by ")
    assert sorted(teacher.parent.iterdir()) == [old, teacher]
    assert old.read_bytes() == b"the one from yesterday"


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("nowhere/student.onnx", "No such file or directory"),
        ("teacher.pth/student.onnx", "Not a directory"),
    ],
)
def test_an_output_where_no_file_can_be(student: Path, output: str, reason: str) -> None:
    names = sorted(student.parent.rglob("*"))
    with pytest.raises(OutputError, match=reason):
        wkdc.export(student, output=student.parent / output)
    assert sorted(student.parent.rglob("*")) == names


@pytest.mark.parametrize("output", ["student.pth", "student", "student.onnx.pb"])
def test_an_output_that_is_not_called_onnx(student: Path, output: str) -> None:
    before = student.read_bytes()
    names = sorted(student.parent.iterdir())
    with pytest.raises(OptionError, match=r"\.onnx"):
        wkdc.export(student, output=student.with_name(output))
    assert student.read_bytes() == before
    assert sorted(student.parent.iterdir()) == names


@pytest.mark.parametrize("tolerance", [0.0, -1e-4, float("nan")])
def test_a_tolerance_that_means_nothing(student: Path, tolerance: float) -> None:
    with pytest.raises(OptionError, match=str(tolerance)):
        wkdc.export(student, tolerance=tolerance)
    assert not student.with_suffix(".onnx").exists()


# --- Images as bytes -------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_bytes_go_in_and_come_out(channels: int, tmp_path: Path, request: Any) -> None:
    if channels == 1:
        weights = resnet_state_dict(5, blocks=3, ngf=4, in_channels=1, out_channels=1)
        torch.save(weights, tmp_path / "teacher.pth")
        result = wkdc.export(tmp_path / "teacher.pth", pixels=True)
        assert result.max_abs_error <= 0.008
        output = result.output
    else:
        output = request.getfixturevalue("pixels_once")
        weights = load_generator(output.with_name("student.pth")).network.state_dict()
    session = onnxruntime.InferenceSession(str(output))
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given.type, made.type) == ("tensor(uint8)", "tensor(uint8)")
    assert (given.shape[3], made.shape[3]) == (channels, channels)
    pixels = load_pixels(photo_paths()[1], channels=channels)[:, :64, :96]
    (out,) = session.run(None, {"image": pixels.permute(1, 2, 0).unsqueeze(0).numpy()})
    wanted = resnet_forward(weights, pixels_to_images(pixels).unsqueeze(0), blocks=3)
    steps = ((wanted[0].permute(1, 2, 0) + 1) * 127.5).detach().numpy()
    assert out.shape == (1, 64, 96, channels)
    # Half a step of rounding, and float32's own 1e-4 of 255.
    assert np.abs(out[0].astype(np.float64) - steps).max() <= 0.5 + 0.03


def test_every_command_takes_bytes(call_wkdc: Call, student: Path, photos: Path) -> None:
    called = call_wkdc("export", "student.pth", "--uint8-io", "-o", "bytes.onnx", "--json")
    assert called.code == 0, called.stderr
    assert json.loads(called.stdout)["tolerance"] == 0.008
    for runtime in ("onnx", "openvino"):
        arguments = ("bytes.onnx", photos, "-o", runtime, "--runtime", runtime)
        assert call_wkdc("translate", *arguments).code == 0
    assert call_wkdc("translate", "student.pth", photos, "-o", "torch").code == 0
    for path in photos.iterdir():
        wanted = load_pixels(Path("torch") / path.name).int()
        for folder in ("onnx", "openvino"):
            apart = (load_pixels(Path(folder) / path.name).int() - wanted).abs()
            assert int(apart.max()) <= 1  # what rounds to two sides of a step
    called = call_wkdc("profile", "bytes.onnx", "--size", 64, "--rounds", 1, "--json")
    assert called.code == 0, called.stderr
    called = call_wkdc("info", "bytes.onnx", "--json")
    assert "uint8" in json.loads(called.stdout)["interface"]["inputs"][0]


@pytest.mark.parametrize("target", ["web", "triton"])
def test_onnx_beside_a_page_or_a_repository(target: str, call_wkdc: Call, student: Path) -> None:
    done = call_wkdc("export", student, "--onnx", f"--{target}", "folder")
    assert (done.code, len(done.errors)) == (2, 1)
    assert f"--{target} writes a .onnx file into its folder" in done.errors[0]
    assert not (student.parent / "folder").exists()


def test_a_direction_is_that_of_images(call_wkdc: Call, student: Path, teacher: Path) -> None:
    for command in (("export", student), ("prune", teacher, "--ratio", 2, "-o", "s.pth")):
        done = call_wkdc(*command, "--direction", "BtoA")
        assert (done.code, len(done.errors)) == (2, 1)
        assert "--direction BtoA is that of images; give --data FOLDER" in done.errors[0]


def test_a_runtime_that_fails_is_not_timed_and_said(
    student: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise CheckpointError("OpenVINO is broken")

    monkeypatch.setattr("wkdc.benchmark.precision_times.OpenVinoNetwork", fail)
    done = wkdc.export(student, precision="int8", data=photos, tolerance=1.0)
    assert set(done.latency_ms) == {"onnx-cpu"}
    assert "OpenVINO is broken; it is not timed in OpenVINO" in done.warnings


def test_a_package_of_which_a_part_is_missing_is_no_runtime(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> bool:
        raise ImportError("libtbb.so.12")

    monkeypatch.setattr("wkdc.inference.runtimes._has_bfloat16", fail)
    assert runtimes_on(torch.device("cpu")) == ("torch", "onnx")
