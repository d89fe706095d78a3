"""Files in float16 and int8: near to float32, and honest about what is lost."""

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
from onnx import TensorProto, helper, numpy_helper
from originals import resnet_forward, resnet_state_dict, unet_state_dict
from torch import Tensor, nn

import wkdc
from wkdc.benchmark.precision_times import PrecisionTimes
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.data.images import load_square
from wkdc.data.photos import photo_paths
from wkdc.errors import DeviceError, OptionError, ParityError
from wkdc.export import ExportResult, Parity, _ranging_images, _warnings
from wkdc.metrics.fidelity import psnr_db
from wkdc.networks.resnet import ResnetGenerator
from wkdc.onnx.equalization import SAME_DB, equalised
from wkdc.onnx.file import count_onnx_params
from wkdc.onnx.parity import check_parity, parity_sizes
from wkdc.onnx.precision import IN_FLOAT32, Limits, Precision
from wkdc.onnx.quantization import MOST_KEPT, _fewest

Call = Callable[..., Called]

# Wide enough for the forms of wkdc.lowering: 16 channels at the end.
WEIGHTS = resnet_state_dict(3, blocks=3, ngf=16)
PRECISIONS: tuple[Precision, ...] = ("float16", "int8")


@dataclass(frozen=True)
class Exported:
    """One network in one precision, and what the library said of it."""

    precision: Precision
    pixels: bool
    result: ExportResult

    def translate(self, images: Tensor) -> Tensor:
        """With ONNX Runtime alone."""
        session = onnxruntime.InferenceSession(
            str(self.result.output), providers=["CPUExecutionProvider"]
        )
        if not self.pixels:
            return torch.from_numpy(np.asarray(session.run(None, {"image": images.numpy()})[0]))
        given = ((images + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
        (translated,) = session.run(None, {"image": given.contiguous().numpy()})
        return torch.from_numpy(np.asarray(translated)).permute(0, 3, 1, 2) / 127.5 - 1


@pytest.fixture(
    scope="module",
    params=[("float16", False), ("int8", True)],  # which share the seconds of an export
    ids=["float16", "int8-bytes"],
)
def exported(
    request: pytest.FixtureRequest, made_once: Path, tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    precision, pixels = request.param
    source = tmp_path_factory.mktemp("precision") / "student.pth"
    torch.save(WEIGHTS, source)
    result = wkdc.export(source, precision=precision, pixels=pixels, data=made_once / "photos")
    return Exported(precision, pixels, result)


def test_it_translates_what_the_original_translates(exported: Exported) -> None:
    """The library's own limits, found out anew: 50 dB in float16, 30 in int8."""
    floor = {"float16": 50.0, "int8": 30.0}[exported.precision]
    for path in photo_paths()[5:7]:
        images = load_square(path, 128)
        wanted = resnet_forward(WEIGHTS, images, blocks=3)
        assert psnr_db(exported.translate(images), wanted) >= floor


def test_what_is_reported_is_what_was_compared(exported: Exported) -> None:
    result = exported.result
    assert result.precision == exported.precision
    assert result.psnr_db == min(check.psnr_db for check in result.checks)
    assert 0 < result.high_band_error == max(check.high_band_error for check in result.checks)
    assert 0 < result.max_abs_error <= result.tolerance
    # A tenth of six photos is set aside, one; it stands for those that are translated later.
    assert len(result.checks) == 1
    assert set(result.latency_ms) == set(result.float32_latency_ms) >= {"onnx-cpu"}
    assert all(time > 0 for time in result.latency_ms.values())


def test_the_file_is_smaller(exported: Exported) -> None:
    share = exported.result.size_bytes / exported.result.float32_size_bytes
    # Names and shapes are a tenth of so small a file; int8 leaves up to half of the layers.
    assert share < {"float16": 0.65, "int8": 0.75}[exported.precision]


def test_the_interface_is_that_of_float32(exported: Exported) -> None:
    model = onnx.load(str(exported.result.output))
    kind = TensorProto.UINT8 if exported.pixels else TensorProto.FLOAT
    for entry in (*model.graph.input, *model.graph.output):
        assert entry.type.tensor_type.elem_type == kind
    assert [entry.name for entry in model.graph.input] == ["image"]
    assert [entry.name for entry in model.graph.output] == ["picture"]
    assert [o.version for o in model.opset_import if not o.domain] == [exported.result.opset]
    onnx.checker.check_model(model, full_check=True)


def kinds_of(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of every tensor."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    found = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)}
    return found | {tensor.name: tensor.data_type for tensor in graph.initializer}


def test_norms_are_in_float32(exported: Exported) -> None:
    model = onnx.load(str(exported.result.output))
    kinds = kinds_of(model)
    norms = [node for node in model.graph.node if node.op_type in IN_FLOAT32]
    assert sum(node.op_type == "InstanceNormalization" for node in norms) == 3 + 2 * 3 + 2
    for node in norms:
        assert kinds[node.output[0]] == kinds[node.input[0]] == TensorProto.FLOAT


def test_convolutions_are_not(exported: Exported) -> None:
    model = onnx.load(str(exported.result.output))
    kinds, made = kinds_of(model), {out: n for n in model.graph.node for out in n.output}
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    if exported.precision == "float16":
        assert exported.result.kept_in_float == ()
        assert {kinds[name] for conv in convs for name in conv.input} == {TensorProto.FLOAT16}
        return
    kept = exported.result.kept_in_float
    assert (kept[0], kept[-1]) == ("model.1", "model.20")  # the first and the last convolution
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    quantised = 0
    for conv in convs:
        weight = made.get(conv.input[1])
        if weight is None:
            name = conv.input[1].removeprefix("network.")  # what scales bytes is around it
            assert any(name.startswith(f"{layer}.") for layer in kept)
            continue
        quantised += 1
        assert weight.op_type == made[conv.input[0]].op_type == "DequantizeLinear"
        codes, scales, zeros = (numpy_helper.to_array(stored[name]) for name in weight.input)
        assert codes.dtype == np.int8
        assert scales.shape == (len(codes),)  # one for every channel
        assert not zeros.any()
    layers = 3 + 2 * 3 + 2 + 1
    assert 2 <= len(kept) <= 2 + MOST_KEPT * (layers - 2)
    assert quantised >= layers - len(kept)


def test_the_file_says_its_precision_and_counts_its_weights(
    exported: Exported, call_wkdc: Call
) -> None:
    path = exported.result.output
    found = json.loads(call_wkdc("info", path, "--json").stdout)
    weights = sum(tensor.numel() for tensor in WEIGHTS.values())
    assert (found["precision"], found["params"]) == (exported.precision, weights)
    assert found["macs"] == wkdc.info(path.with_suffix(".pth")).macs
    assert exported.precision in call_wkdc("info", path).stdout


def test_every_command_takes_it(exported: Exported, call_wkdc: Call, photos: Path) -> None:
    path = exported.result.output
    called = call_wkdc("profile", path, "--size", 64, "--rounds", 1, "--json")
    assert called.code == 0, called.stderr
    (profiled,) = json.loads(called.stdout)["models"]
    assert profiled["precision"] == exported.precision
    assert profiled["params"] == sum(tensor.numel() for tensor in WEIGHTS.values())
    called = call_wkdc("translate", path, photos, "-o", "translated", "--json")
    assert called.code == 0, called.stderr
    assert len(json.loads(called.stdout)["outputs"]) == len(list(photos.iterdir()))


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.INT8])
def test_weights_of_a_file_of_somebody_else(kind: int, tmp_path: Path) -> None:
    """A convolution from 3 to 4 channels: every weight counts once, a scale or zero point never."""
    quantised = kind == TensorProto.INT8
    given = TensorProto.FLOAT if quantised else kind
    stored = [
        helper.make_tensor("w", kind, (4, 3, 3, 3), [1] * 108),
        helper.make_tensor("b", TensorProto.INT32 if quantised else kind, (4,), [1] * 4),
    ]
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"])]
    if quantised:
        stored.append(helper.make_tensor("scale", given, (4,), [0.1] * 4))
        stored.append(helper.make_tensor("zero", kind, (4,), [0] * 4))
        nodes = [
            helper.make_node("DequantizeLinear", ["w", "scale", "zero"], ["weight"], axis=0),
            helper.make_node("DequantizeLinear", ["b", "scale"], ["bias"], axis=0),
            helper.make_node("Conv", ["x", "weight", "bias"], ["y"]),
        ]
    entry = helper.make_tensor_value_info("x", given, (1, 3, 8, 8))
    end = helper.make_tensor_value_info("y", given, (1, 4, 6, 6))
    model = helper.make_model(helper.make_graph(nodes, "conv", [entry], [end], stored))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, tmp_path / "theirs.onnx")
    assert count_onnx_params(tmp_path / "theirs.onnx") == 4 * 3 * 3 * 3 + 4


# --- What int8 does to make that so --------------------------------------------------------------


def test_equalised_channels_fill_one_range_and_translate_the_same() -> None:
    torch.manual_seed(0)
    network = (
        ResnetGenerator(encoder=(6, 8), stream=8, inner=(6, 8), decoder=(6, 5)).double().eval()
    )
    first = network.get_submodule("model.1")
    assert isinstance(first, nn.Conv2d)
    with torch.no_grad():
        first.weight[0] *= 50  # one channel that would leave the others a few steps
        assert first.bias is not None
        first.bias += 3
    # In float32 the sums of a channel are rounded by more than the ranges may differ.
    pictures = [load_square(path, 64).double() for path in photo_paths()[:3]]
    changed = equalised(network, pictures)
    seen: list[Tensor] = []
    changed.get_submodule("model.1").register_forward_hook(lambda *a: seen.append(a[2]))
    with torch.inference_mode():
        for images in pictures:
            assert psnr_db(changed(images), network(images)) >= SAME_DB
    high = torch.stack([out.amax((0, 2, 3)) for out in seen]).amax(0)
    low = torch.stack([out.amin((0, 2, 3)) for out in seen]).amin(0)
    torch.testing.assert_close(high, high[:1].expand_as(high))
    torch.testing.assert_close(low, -high)


class ReadTwice(nn.Module):
    """A convolution whose output is added to its own norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.InstanceNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        made = self.conv(images)
        translated: Tensor = self.norm(made) + made
        return translated


def test_what_equalising_would_change_is_left_alone() -> None:
    torch.manual_seed(0)
    images = load_square(photo_paths()[0], 64)
    for network in (
        ReadTwice(),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4, track_running_stats=True)),
    ):
        changed = equalised(network.eval(), [images])
        for one, other in zip(network.parameters(), changed.parameters(), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("needed", range(6))
def test_no_layer_more_than_needed_stays_in_float32(needed: int) -> None:
    order = list("abcdefgh")

    def worst_db(names: list[str]) -> float:
        return 50.0 if len(names) <= len(order) - needed else 20.0

    assert _fewest(order, 4, worst_db) == order[: min(needed, 4)]


# --- What cannot be had --------------------------------------------------------------------------


def error_of(called: Called, code: int) -> str:
    assert called.code == code, called.stderr
    assert called.stdout == ""
    (error,) = called.errors
    return error


def test_int8_without_images_takes_the_bundled_photos(call_wkdc: Call, student: Path) -> None:
    called = call_wkdc("export", "student.pth", "--int8", "--json")
    assert called.code == 0, called.stderr
    assert json.loads(called.stdout)["psnr_db"] >= 30  # int8's limit
    assert "bundled photos" in called.stderr
    assert "--data FOLDER" in called.stderr


def test_no_photo_sets_the_ranges_that_it_is_checked_by(student: Path) -> None:
    generator = load_generator(student)
    checked = len(parity_sizes(generator))
    ranging = _ranging_images(generator, None, "AtoB", checked=checked)
    side = ranging[0].shape[-1]
    expected = [load_square(path, side) for path in photo_paths()[checked:]]
    assert len(ranging) == len(expected) == len(photo_paths()) - checked
    assert all(torch.equal(a, b) for a, b in zip(ranging, expected, strict=True))


def test_int8_of_a_network_that_no_photo_fits(call_wkdc: Call, student: Path) -> None:
    torch.save(resnet_state_dict(0, blocks=2, ngf=4, in_channels=6), student.parent / "maps.pth")
    error = error_of(call_wkdc("export", "maps.pth", "--int8"), 2)
    assert "6 channels" in error
    assert "--data FOLDER" in error
    assert not (student.parent / "maps.onnx").exists()


@pytest.mark.parametrize("flags", [("--fp16", "--int8"), ("--bf16", "--fp16")])
def test_two_precisions_at_once(call_wkdc: Call, student: Path, flags: tuple[str, ...]) -> None:
    error = error_of(call_wkdc("export", "student.pth", "--data", ".", *flags), 2)
    assert "one of --fp16, --bf16 and --int8" in error


def test_bfloat16_is_openvinos(call_wkdc: Call, student: Path) -> None:
    error = error_of(call_wkdc("export", "student.pth", "--bf16"), 1)
    assert "--runtime openvino-bf16" in error
    with pytest.raises(DeviceError):
        wkdc.export(student, precision="bfloat16")
    assert not student.with_suffix(".onnx").exists()


def test_onnx_runtime_has_no_bfloat16_convolution() -> None:
    """What the error says; where this fails, --bf16 can be built."""
    weight = helper.make_tensor("w", TensorProto.BFLOAT16, (1, 1, 1, 1), [1.0])
    entry, end = (
        helper.make_tensor_value_info(name, TensorProto.BFLOAT16, (1, 1, 4, 4)) for name in "xy"
    )
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])], "conv", [entry], [end], [weight]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    onnx.checker.check_model(model)
    with pytest.raises(Exception, match="NOT_IMPLEMENTED"):
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_a_precision_that_is_none(student: Path) -> None:
    unknown: Any = "int4"
    with pytest.raises(OptionError, match="int4"):
        wkdc.export(student, precision=unknown)


@pytest.mark.parametrize("files", [{}, {"a.png": b"no image"}])
def test_images_that_cannot_be_used(
    call_wkdc: Call, student: Path, files: dict[str, bytes]
) -> None:
    folder = student.parent / "pictures"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    error = error_of(call_wkdc("export", "student.pth", "--int8", "--data", folder), 1)
    assert str(folder) in error
    assert not student.with_suffix(".onnx").exists()


def test_a_network_that_reads_no_images(call_wkdc: Call, photos: Path) -> None:
    torch.save(resnet_state_dict(0, blocks=2, ngf=4, in_channels=6), photos.parent / "maps.pth")
    error = error_of(call_wkdc("export", "maps.pth", "--int8", "--data", "photos"), 1)
    assert "6 channels" in error
    assert not (photos.parent / "maps.onnx").exists()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_file_that_loses_more_is_not_left(
    precision: Precision, tmp_path: Path, photos: Path
) -> None:
    # Networks that other tests export too: int8 changes none with batch norm before the export.
    weights = resnet_state_dict(0, blocks=3, ngf=4, padding="zero", norm="batch")
    torch.save(weights, tmp_path / "batch.pth")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ParityError, match=rf"in {precision} differs .* more than 1e-06"):
        wkdc.export(tmp_path / "batch.pth", precision=precision, data=photos, tolerance=1e-6)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("precision", "worst_db", "now_ms", "phrases"),
    [
        ("int8", 45.0, 50.0, []),
        ("int8", 35.0, 50.0, ["int8 loses visibly: an image is 35.0 dB"]),
        ("float16", 60.0, 110.0, ["not faster than float32 here in onnx-cpu (110.0 instead of"]),
        ("int8", 39.9, 100.0, ["int8 loses visibly", "int8 is not faster"]),
    ],
)
def test_what_it_costs_is_said(
    precision: Precision, worst_db: float, now_ms: float, phrases: list[str]
) -> None:
    checks = [Parity(64, 64, 0.1, 0.01, db, 0.02) for db in (50.0, worst_db)]
    times = PrecisionTimes({"onnx-cpu": now_ms}, {"onnx-cpu": 100.0}, 1000)
    warnings = _warnings(checks, times, precision)
    assert len(warnings) == len(phrases)
    for warning, phrase in zip(warnings, phrases, strict=True):
        assert phrase in warning


def test_images_that_are_no_numbers_are_not_within_limits() -> None:
    """As where features leave float16's range."""
    checks = [Parity(64, 64, db, db, db, db) for db in (0.001, float("nan"))]
    with pytest.raises(ParityError, match=r"in float16 differs from student\.pth by nan"):
        check_parity(checks, Limits(1.0, 0.0), Path("student.pth"), "the ONNX model in float16")


def test_a_unet_in_both(tmp_path: Path, photos: Path) -> None:
    """Of bytes, grey to colour: a network that another test exports too."""
    torch.save(unet_state_dict(4, downs=5, ngf=4, in_channels=1), tmp_path / "unet.pth")
    for precision in PRECISIONS:
        output = tmp_path / "unet.onnx"
        result = wkdc.export(
            tmp_path / "unet.pth", output=output, precision=precision, pixels=True, data=photos
        )
        assert result.psnr_db >= 30
        assert wkdc.info(output).precision == precision
    assert load_generator(tmp_path / "unet.pth").architecture.family == "unet"
