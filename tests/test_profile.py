"""What models cost: counted exactly, timed fairly, told as the contract has it.

How long anything took decides no test: times are only held against each other's arithmetic.
"""

import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from conftest import Called
from onnx import TensorProto, helper, numpy_helper
from originals import resnet_state_dict, unet_state_dict

import wkdc
from wkdc.benchmark.latency import WARM_UP
from wkdc.benchmark.model_profile import time_warnings
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.errors import CheckpointError, DeviceError, OptionError, WkdcError
from wkdc.inference.runtimes import OpenVinoNetwork, runtimes_on
from wkdc.networks.complexity import measure_complexity
from wkdc.networks.resnet import ResnetGenerator

Call = Callable[..., Called]


def resnet_macs(height: int, width: int) -> tuple[int, int]:
    """The teacher's MACs by hand: 3 blocks, 4, 8 and 16 channels, at a multiple of 4 pixels.

    The second figure charges transposed convolutions at the resolution that they write.
    """
    full = height * width
    half, quarter = full // 4, full // 16
    ends = 2 * 49 * 3 * 4 * full
    down = 9 * 4 * 8 * half + 9 * 8 * 16 * quarter
    blocks = 3 * 2 * 9 * 16 * 16 * quarter
    up = 9 * 16 * 8 * quarter + 9 * 8 * 4 * half
    return ends + down + blocks + up, ends + down + blocks + 4 * up


# Weights and biases of the same layers, one by one.
RESNET_PARAMS = (
    (49 * 3 * 4 + 4)
    + (9 * 4 * 8 + 8)
    + (9 * 8 * 16 + 16)
    + 6 * (9 * 16 * 16 + 16)
    + (9 * 16 * 8 + 8)
    + (9 * 8 * 4 + 4)
    + (49 * 4 * 3 + 3)
)


def write_convolution(
    path: Path,
    *,
    shape: tuple[str | int, ...] = ("n", 3, "h", "w"),
    type_: int = TensorProto.FLOAT,
    outputs: int = 1,
) -> Path:
    """A .onnx file of somebody else: one 3x3 convolution, and as many outputs as asked."""
    weight = np.full((3, 3, 3, 3), 0.05, dtype=helper.tensor_dtype_to_np_dtype(type_))
    nodes = [helper.make_node("Conv", ["x", "weight"], ["y0"], pads=[1, 1, 1, 1])]
    nodes += [helper.make_node("Relu", ["y0"], [f"y{n}"]) for n in range(1, outputs)]
    graph = helper.make_graph(
        nodes,
        "somebody's",
        [helper.make_tensor_value_info("x", type_, shape)],
        [helper.make_tensor_value_info(f"y{n}", type_, shape) for n in range(outputs)],
        [numpy_helper.from_array(weight, "weight")],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), str(path))
    return path


# --- The numbers -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(made_once: Path, exported_once: Path) -> wkdc.ProfileResult:
    """The teacher as .pth, the student as .onnx, measured once."""
    models = [made_once / "teacher.pth", exported_once]
    return wkdc.profile(models, size=(32, 48), batch=2, rounds=3)


def test_the_models_come_in_the_order_given(
    measured: wkdc.ProfileResult, made_once: Path, exported_once: Path
) -> None:
    paths = [model.path for model in measured.models]
    assert paths == [made_once / "teacher.pth", exported_once]
    assert (measured.size, measured.batch) == ((32, 48), 2)


def test_a_small_network_is_counted_by_hand(measured: wkdc.ProfileResult) -> None:
    macs, macs_output_resolution = resnet_macs(32, 48)
    teacher = measured.models[0]
    assert teacher.params == RESNET_PARAMS
    assert teacher.macs == 2 * macs  # for the batch
    assert teacher.macs_output_resolution == 2 * macs_output_resolution
    assert teacher.size_bytes == teacher.path.stat().st_size


@pytest.mark.parametrize("number", [0, 1])
def test_the_counts_are_those_of_the_library(
    measured: wkdc.ProfileResult, made_once: Path, number: int
) -> None:
    model = measured.models[number]
    generator = load_generator(made_once / f"{model.path.stem}.pth")  # of the .onnx, too
    cost = measure_complexity(generator.network, 3, (32, 48))
    assert model.params == cost.params
    assert model.macs == 2 * cost.macs
    assert model.macs_output_resolution == 2 * cost.macs_output_resolution
    assert model.size_bytes == model.path.stat().st_size


def test_an_interval_holds_the_ratio_of_medians(measured: wkdc.ProfileResult) -> None:
    assert "torch-cpu" not in measured.interval  # which both did not run in
    low, high = measured.interval["onnx-cpu"]
    assert low <= measured.speedup["onnx-cpu"] <= high


def test_a_busy_machine_is_said() -> None:
    (said,) = time_warnings((), {"onnx-cpu": (4.0, 5.2), "torch-cpu": (3.0, 3.1)}, 15)
    assert "would find a speedup between 4.0 and 5.2 (onnx-cpu); close other programs" in said
    assert list(time_warnings((), {"torch-cpu": (3.0, 3.1)}, 15)) == []


def test_what_never_settled_is_said(measured: wkdc.ProfileResult) -> None:
    (model, _) = measured.models
    unsettled = replace(model.latency_ms["onnx-cpu"], settled=False)
    model = replace(model, latency_ms=model.latency_ms | {"onnx-cpu": unsettled})
    said = list(time_warnings((model,), {}, 15))
    # On a busy machine others did not settle either.
    assert any("onnx-cpu" in line and "still got faster" in line for line in said)


def test_conditions_are_recorded(measured: wkdc.ProfileResult) -> None:
    assert {"torch", "openvino"} <= set(measured.conditions.versions)
    assert measured.made.processor
    for model in measured.models:
        assert model.layers is None
        for latency in model.latency_ms.values():
            assert 3 <= latency.warm_up <= WARM_UP
            assert latency.energy_j is None or latency.energy_j >= 0


def test_each_model_runs_where_it_can(measured: wkdc.ProfileResult) -> None:
    runtimes = [set(model.latency_ms) for model in measured.models]
    places = {f"{runtime}-cpu" for runtime in runtimes_on(torch.device("cpu"))}
    assert places >= {"torch-cpu", "onnx-cpu", "openvino-cpu"}
    assert runtimes == [places, places - {"torch-cpu"}]
    for model in measured.models:
        for latency in model.latency_ms.values():
            assert latency.rounds == 3
            assert 0 < latency.median <= latency.p90 <= max(latency.times)
    first, second = measured.models
    assert first.peak_memory_bytes is not None
    assert first.peak_memory_bytes > 0
    assert second.peak_memory_bytes is None


def test_speedup_is_the_first_model_over_the_last(measured: wkdc.ProfileResult) -> None:
    first, last = measured.models
    assert first.macs is not None
    assert last.macs is not None
    assert measured.speedup == {
        "params": first.params / last.params,
        "macs": first.macs / last.macs,
    } | {name: first.latency_ms[name].median / of.median for name, of in last.latency_ms.items()}
    assert measured.speedup["params"] == pytest.approx(2, rel=0.02)  # as it was pruned


def test_one_round_has_no_interval(exported_once: Path) -> None:
    result = wkdc.profile([exported_once, exported_once], size=(32, 32), rounds=1)
    assert set(result.speedup) > {"onnx-cpu"}
    assert result.interval == {}


def test_layers_are_timed_on_request(exported_once: Path) -> None:
    (model,) = wkdc.profile([exported_once], size=(32, 32), rounds=1, layers=True).models
    assert model.layers is not None
    assert model.layers.total_ms > 0
    assert "model.1" in {one.layer for one in model.layers.layers}


def test_of_three_models_the_middle_one_is_just_shown(exported_once: Path, tmp_path: Path) -> None:
    foreign = write_convolution(tmp_path / "foreign.onnx")
    result = wkdc.profile([exported_once, foreign, exported_once], size=(32, 32), rounds=1)
    assert [model.path for model in result.models] == [exported_once, foreign, exported_once]
    assert result.speedup["params"] == 1


def test_a_model_alone_has_no_speedup(exported_once: Path) -> None:
    result = wkdc.profile([exported_once], size=(32, 32), rounds=1)
    assert result.speedup == {}
    assert len(result.models) == 1


@pytest.mark.parametrize("size", [(192, 320), (16, 16), (33, 50)])
def test_sizes_and_batches_are_counted_alike(
    exported_once: Path, made_once: Path, size: tuple[int, int]
) -> None:
    one = wkdc.profile([exported_once], size=size, rounds=1).models[0]
    three = wkdc.profile([exported_once], size=size, batch=3, rounds=1).models[0]
    cost = measure_complexity(load_generator(made_once / "student.pth").network, 3, size)
    assert one.macs == cost.macs
    assert three.macs == 3 * cost.macs
    assert one.params == three.params == cost.params


def test_progress_counts_every_round(exported_once: Path) -> None:
    seen: list[tuple[int, int]] = []
    wkdc.profile([exported_once], size=(16, 16), rounds=2, on_round=lambda *done: seen.append(done))
    total = seen[0][1]
    assert seen == [(n + 1, total) for n in range(total)]


def test_threads_are_lent_and_given_back(exported_once: Path) -> None:
    before = torch.get_num_threads()
    result = wkdc.profile([exported_once], size=(16, 16), rounds=1, threads=before + 1)
    assert result.threads == before + 1
    assert torch.get_num_threads() == before


def test_a_file_of_somebody_else_has_no_macs(exported_once: Path, tmp_path: Path) -> None:
    foreign = write_convolution(tmp_path / "foreign.onnx")
    result = wkdc.profile([exported_once, foreign], size=(32, 32), rounds=2)
    model = result.models[1]
    assert model.params == 3 * 3 * 3 * 3
    assert (model.macs, model.macs_output_resolution) == (None, None)
    assert model.size_bytes == foreign.stat().st_size
    assert {"onnx-cpu", "openvino-cpu"} <= set(model.latency_ms)
    assert set(result.speedup) == {"params", *model.latency_ms}


def test_signals_survive_openvino(exported_once: Path) -> None:
    for bfloat16 in (False, "openvino-bf16" in runtimes_on(torch.device("cpu"))):
        OpenVinoNetwork(exported_once, threads=1, bfloat16=bfloat16)
    networks = [OpenVinoNetwork(exported_once, threads=1) for _ in range(2)]
    del networks[0], networks[0]  # the first one made goes first
    gc.collect()
    caught: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: caught.append(number))
    signal.raise_signal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)
    assert caught == [signal.SIGTERM]


def test_openvino_reports_nothing(tmp_path: Path) -> None:
    """Its package asks nobody and tells Google Analytics of the import, but not for wkdc."""
    code = (
        "import sys, torch\n"
        "sys.addaudithook(lambda event, _: event.startswith('socket.') and print(event))\n"
        "from wkdc.inference.runtimes import runtimes_on\n"
        "print(len(runtimes_on(torch.device('cpu'))), 'openvino' in sys.modules)\n"
    )
    outside = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=outside | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == "True"
    assert len(done.stdout.splitlines()) == 1
    assert not (tmp_path / "intel").exists()


def test_what_openvino_cannot_read_is_left_out_and_said(tmp_path: Path) -> None:
    foreign = write_convolution(tmp_path / "foreign.onnx", type_=TensorProto.FLOAT)
    model = onnx.load(foreign)
    # ONNX Runtime has this operator of its own, and OpenVINO does not.
    node = helper.make_node("Inverse", ["y0"], ["y1"], domain="com.microsoft")
    model.graph.node.append(node)
    model.graph.output[0].name = "y1"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, foreign)
    result = wkdc.profile([foreign], size=(32, 32), rounds=1)
    assert set(result.models[0].latency_ms) == {"onnx-cpu"}
    assert any("cannot be read by OpenVINO" in warning for warning in result.warnings)


def test_runtimes_agree_on_a_image(measured: wkdc.ProfileResult) -> None:
    teacher, student = measured.models
    assert set(teacher.agreement_db) == set(teacher.latency_ms) - {"torch-cpu"}
    assert set(student.agreement_db) == set(student.latency_ms) - {"onnx-cpu"}
    for model in (teacher, student):
        for runtime, near in model.agreement_db.items():
            # Float32 in another order: a relative error of 1e-5 at most is 100 dB; bfloat16 keeps
            # 8 bits of each number, and layers add their errors up.
            assert near > (20 if "bf16" in runtime else 90), runtime


# --- What cannot be measured -------------------------------------------------------------------


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("unet") / "unet.pth"
    torch.save(unet_state_dict(4, downs=5, ngf=4, in_channels=1), path)
    return path


def test_a_unet_takes_multiples_only(unet: Path) -> None:
    with pytest.raises(OptionError, match=r"unet\.pth .*32 .*48x64"):
        wkdc.profile([unet], size=(48, 64), rounds=1)


def test_a_unet_as_onnx_takes_multiples_only(unet: Path) -> None:
    exported = wkdc.export(unet, tolerance=0.05, pixels=True).output  # as other tests do
    assert wkdc.profile([exported], size=(32, 64), rounds=1).models[0].macs is not None
    with pytest.raises(WkdcError, match=r"unet\.onnx .*48x64"):
        wkdc.profile([exported], size=(48, 64), rounds=1)


def test_a_deep_network_needs_a_larger_image(tmp_path: Path) -> None:
    deep = ResnetGenerator(encoder=[2] * 4, stream=2, inner=[2], decoder=[2] * 4)
    torch.save(deep.state_dict(), tmp_path / "deep.pth")
    with pytest.raises(OptionError, match=r"deep\.pth takes 32x32 or more, not 16x64"):
        wkdc.profile([tmp_path / "deep.pth"], size=(16, 64), rounds=1)


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"shape": (1, 3, 64, 64)}, (32, 32)),
        ({"type_": TensorProto.FLOAT16}, (32, 32)),
        ({"shape": ("n", "c", "h", "w")}, (32, 32)),
    ],
    ids=["another size", "half precision", "any channels"],
)
def test_a_file_of_somebody_else_that_cannot_be_run(
    tmp_path: Path, changes: dict[str, Any], size: tuple[int, int]
) -> None:
    foreign = write_convolution(tmp_path / "foreign.onnx", **changes)
    with pytest.raises(WkdcError, match=r"foreign\.onnx"):
        wkdc.profile([foreign], size=size, rounds=1)


def test_a_file_of_somebody_else_that_fails_says_so_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    foreign = write_convolution(tmp_path / "foreign.onnx")
    model = onnx.load(str(foreign))
    convolution = model.graph.node[0]
    convolution.attribute.append(helper.make_attribute("strides", [2, 2]))
    convolution.output[0] = "half"  # of the size, so that it cannot be added to the whole
    model.graph.node.append(helper.make_node("Add", ["x", "half"], ["y0"]))
    onnx.save(model, str(foreign))
    with pytest.raises(CheckpointError, match=r"foreign\.onnx cannot translate \(1, 3, 32, 32\)"):
        wkdc.profile([foreign], size=(32, 32), rounds=1)
    assert capfd.readouterr().err == ""  # ONNX Runtime would log it as well


def test_a_file_of_somebody_else_with_two_outputs(tmp_path: Path) -> None:
    """It is measured all the same, or refused by name."""
    foreign = write_convolution(tmp_path / "foreign.onnx", outputs=2)
    try:
        (model,) = wkdc.profile([foreign], size=(32, 32), rounds=1).models
    except WkdcError as error:
        assert "foreign.onnx" in str(error)  # noqa: PT017
    else:
        assert model.params == 81


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"batch": 0}, "batch is 0"),
        ({"batch": -1}, "batch is -1"),
        ({"rounds": 0}, "rounds is 0"),
        ({"threads": 0}, "threads is 0"),
        ({"threads": -2}, "threads is -2"),
        ({"size": (0, 0)}, "0x0"),
        ({"size": (8, 320)}, "8x320"),
    ],
    ids=str,
)
def test_numbers_out_of_range(exported_once: Path, options: dict[str, Any], named: str) -> None:
    with pytest.raises(OptionError, match=named):
        wkdc.profile([exported_once], **{"size": (32, 32), "rounds": 1} | options)


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "mps"])
def test_devices_that_are_not_there(exported_once: Path, device: str) -> None:
    with pytest.raises(DeviceError, match=device):
        wkdc.profile([exported_once], size=(32, 32), rounds=1, device=device)


@pytest.mark.parametrize("content", [None, b"", b"not a graph"], ids=["missing", "empty", "text"])
def test_onnx_files_that_are_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"broken\.onnx"):
        wkdc.profile([path], size=(32, 32), rounds=1)


# --- The command -------------------------------------------------------------------------------


def test_the_command_takes_the_student_and_its_teacher(call_wkdc: Call, student: Path) -> None:
    called = call_wkdc("profile", "--size", "32x48", "--batch", "2", "--rounds", "2", "--json")
    assert called.code == 0
    report = json.loads(called.stdout)
    assert {"size", "batch", "models", "speedup"} <= set(report)
    assert (report["size"], report["batch"]) == ([32, 48], 2)
    teacher, pruned = report["models"]
    assert (teacher["path"], pruned["path"]) == ("teacher.pth", "student.pth")
    for model in (teacher, pruned):
        path = student.with_name(model["path"])
        cost = measure_complexity(load_generator(path).network, 3, (32, 48))
        assert model["params"] == cost.params
        assert model["macs"] == 2 * cost.macs
        assert model["macs_output_resolution"] == 2 * cost.macs_output_resolution
        assert model["size_bytes"] == path.stat().st_size
        assert {"torch-cpu", "onnx-cpu", "openvino-cpu"} <= set(model["latency_ms"])
        for latency in model["latency_ms"].values():
            assert {"median", "p90"} <= set(latency)
    assert set(report["speedup"]) == {"params", "macs", *teacher["latency_ms"]}
    for runtime in ("torch-cpu", "onnx-cpu"):
        medians = [model["latency_ms"][runtime]["median"] for model in (teacher, pruned)]
        assert report["speedup"][runtime] == pytest.approx(medians[0] / medians[1])
    assert sorted(p.name for p in student.parent.iterdir()) == ["student.pth", "teacher.pth"]


def test_the_command_shows_a_table(call_wkdc: Call, onnx_student: Path, tmp_path: Path) -> None:
    write_convolution(tmp_path / "foreign.onnx")
    options = ("--size", "64", "--rounds", "5", "--threads", "1")
    called = call_wkdc("profile", "student.onnx", "foreign.onnx", *options)
    assert called.code == 0
    assert called.errors == []
    lines = called.stdout.splitlines()
    assert lines[0].startswith("64x64, batch 1, 1 thread, cpu")
    for name in ("student.onnx", "foreign.onnx", "parameters", "MACs", "file", "onnx-cpu", "p90"):
        assert name in called.stdout
    (macs,) = [line for line in lines if line.strip("│ ").startswith("MACs ")]
    assert macs.count("-") == 1  # of the foreign one nothing is known
    assert "torch-cpu" not in called.stdout
    assert "x [" in called.stdout  # the interval, as it is written
    assert onnx_student.is_file()


def test_the_command_reports_unknown_macs_as_null(call_wkdc: Call, tmp_path: Path) -> None:
    write_convolution(tmp_path / "foreign.onnx")
    called = call_wkdc("profile", "foreign.onnx", "--size", "32", "--rounds", "1", "--json")
    assert called.code == 0
    report = json.loads(called.stdout)
    (model,) = report["models"]
    assert (model["params"], model["macs"], model["macs_output_resolution"]) == (81, None, None)
    assert report["speedup"] == {}


def test_the_command_shows_layers(call_wkdc: Call, onnx_student: Path) -> None:
    options = ("--size", "32", "--rounds", "1", "--layers")
    called = call_wkdc("profile", onnx_student.name, *options)
    assert called.code == 0
    for said in ("by kind", "by layer", "convolution", "norm", "model.1 ", " more "):
        assert said in called.stdout
    called = call_wkdc("profile", onnx_student.name, *options, "--json")
    (model,) = json.loads(called.stdout)["models"]
    assert {"runs", "total_ms", "kinds", "layers"} == set(model["layers"])
    assert {"layer", "kind", "nodes", "ms", "share"} == set(model["layers"]["layers"][0])


def test_layers_are_a_matter_of_the_processor(
    monkeypatch: pytest.MonkeyPatch, exported_once: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(OptionError, match="layers are timed on the processor, not on cuda"):
        wkdc.profile([exported_once], device="cuda", layers=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is present")
def test_a_gpu_is_never_replaced_by_the_processor(
    monkeypatch: pytest.MonkeyPatch, exported_once: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # PyTorch may see a GPU that ONNX Runtime has no libraries for.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(DeviceError, match=r"ONNX Runtime cannot load its CUDAExecutionProvider: "):
        wkdc.profile([exported_once], size=(32, 32), rounds=1, device="cuda")
    assert capfd.readouterr() == ("", "")


def test_without_a_student_it_says_what_is_missing(call_wkdc: Call, teacher: Path) -> None:
    called = call_wkdc("profile")
    (error,) = called.stderr.splitlines()
    assert (called.code, called.stdout) == (1, "")
    assert error.startswith("wkdc: student.pth does not exist")
    assert teacher.is_file()


def test_a_student_without_a_card_has_no_teacher(call_wkdc: Call, tmp_path: Path) -> None:
    torch.save(resnet_state_dict(1, blocks=1, ngf=4), tmp_path / "student.pth")
    called = call_wkdc("profile")
    assert called.code == 1
    (error,) = called.errors
    assert "teacher" in error
    # `--teacher` is an option of other commands; this one is given the files themselves.
    assert "--teacher" not in call_wkdc("profile", "--help").stdout
    assert "--teacher" not in error


@pytest.mark.parametrize("size", ["64x", "x64", "64x64x64", "-64", "6.4", "big", ""])
def test_sizes_that_are_none(call_wkdc: Call, onnx_student: Path, size: str) -> None:
    called = call_wkdc("profile", onnx_student.name, f"--size={size}", "--rounds", "1")
    (error,) = called.stderr.splitlines()
    assert (called.code, called.stdout) == (2, "")
    assert error.startswith("wkdc: ")
    assert repr(size) in error


def test_what_a_file_says_of_itself_takes_no_memory(exported_once: Path, tmp_path: Path) -> None:
    """Its costs are counted of a network without numbers: here of 46 TB."""
    model = onnx.load(str(exported_once))
    for entry in model.metadata_props:
        if entry.key == "wkdc.options":
            options = json.loads(entry.value) | {"stream": 10**6, "inner": [10**6] * 3}
            entry.value = json.dumps(options)
    onnx.save(model, str(tmp_path / "huge.onnx"))
    (measured,) = wkdc.profile([tmp_path / "huge.onnx"], size=(32, 32), rounds=1).models
    assert measured.params is not None
    assert measured.params > 10**13
