"""A model repository that Triton would load, whose model gives the images of its source."""

import http.server
import importlib.metadata
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import PHOTO_SIZE, Called
from google.protobuf import text_format
from originals import unet_state_dict

import wkdc
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.data.images import load_pixels, pixels_to_images
from wkdc.deploy.triton import _config
from wkdc.inference.model import open_model

Call = Callable[..., Called]


@pytest.fixture(scope="session")
def model_config() -> ModuleType:
    """Triton's own ModelConfig, without the client around it, which needs gRPC."""
    path = importlib.metadata.distribution("tritonclient").locate_file(
        "tritonclient/grpc/model_config_pb2.py"
    )
    spec = importlib.util.spec_from_file_location("model_config_pb2", str(path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parse(model_config: ModuleType, path: Path) -> Any:
    """The config, each field of which has to be one that Triton knows."""
    return text_format.Parse(path.read_text(encoding="utf-8"), model_config.ModelConfig())


def files_of(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_the_config_says_what_the_file_takes(
    call_wkdc: Call, model_config: ModuleType, student: Path, photos: Path
) -> None:
    called = call_wkdc("export", "student.pth", "--triton", "models", "--json")
    assert (called.code, called.stderr) == (0, "")
    said = json.loads(called.stdout)
    assert said["output"] == "models/student/1/model.onnx"
    assert said["max_abs_error"] <= said["tolerance"] == 1e-4
    assert said["triton"] == {"repository": "models", "config": "models/student/config.pbtxt"}
    repository = student.parent / "models"
    assert files_of(repository) == ["student/1/model.onnx", "student/config.pbtxt"]
    config = parse(model_config, repository / "student" / "config.pbtxt")
    assert (config.name, config.backend, config.max_batch_size) == ("student", "onnxruntime", 8)
    ((given,), (translated,)) = (config.input, config.output)
    assert (given.name, list(given.dims)) == ("image", [3, -1, -1])
    assert (translated.name, list(translated.dims)) == ("picture", [3, -1, -1])
    assert given.data_type == translated.data_type == model_config.TYPE_FP32
    assert given.format == model_config.ModelInput.FORMAT_NCHW
    assert config.HasField("dynamic_batching")
    assert config.dynamic_batching.max_queue_delay_microseconds == 2000
    assert [group.count for group in config.instance_group] == [1]
    told = {name: value.string_value for name, value in config.parameters.items()}
    assert told == {"wkdc.multiple": "4", "wkdc.smallest": "8"}
    models = [open_model(path, device="cpu") for path in (Path(said["output"]), student)]
    for path in sorted(photos.iterdir())[:2]:
        images = pixels_to_images(load_pixels(path)).unsqueeze(0)
        apart = (models[0].generate(images) - models[1].generate(images)).abs()
        assert float(apart.max()) <= 1e-4  # what every export promises
    # A second model finds room beside it; a second one of the same name does not.
    called = call_wkdc("export", "teacher.pth", "--triton", "models", "--max-batch", 4)
    assert called.code == 0, called.stderr
    assert called.stdout.splitlines()[-1] == "next: tritonserver --model-repository models"
    assert sorted(path.name for path in repository.iterdir()) == ["student", "teacher"]
    edited = repository / "student" / "config.pbtxt"
    edited.write_text("# mine\n")
    called = call_wkdc("export", "student.pth", "--triton", "models")
    assert called.code == 1
    assert "models/student exists" in called.errors[0]
    assert edited.read_text() == "# mine\n"


def test_a_name_stays_a_name_in_the_config(
    model_config: ModuleType, student: Path, tmp_path: Path
) -> None:
    name = '"\n} <script> $(touch here) \\ ü\x1b[31m'
    generator = load_generator(student.rename(tmp_path / f"{name}.pth"))
    path = tmp_path / "config.pbtxt"
    path.write_text(_config(generator, max_batch=1, pixels=False), encoding="utf-8")
    assert parse(model_config, path).name == name


def test_bytes_of_a_grey_unet(model_config: ModuleType, tmp_path: Path) -> None:
    torch.save(unet_state_dict(4, downs=5, ngf=4, in_channels=1), tmp_path / 'grey "1".pth')
    result = wkdc.export_triton(
        tmp_path / 'grey "1".pth', tmp_path / "models", max_batch=2, pixels=True
    )
    config = parse(model_config, result.config)
    assert (config.name, config.max_batch_size) == ('grey "1"', 2)
    assert result.config.parent.name == config.name
    ((given,), (translated,)) = (config.input, config.output)
    assert given.data_type == translated.data_type == model_config.TYPE_UINT8
    assert given.format == model_config.ModelInput.FORMAT_NHWC
    assert (list(given.dims), list(translated.dims)) == ([-1, -1, 1], [-1, -1, 3])
    assert config.parameters["wkdc.multiple"].string_value == "32"


class Protocol(http.server.BaseHTTPRequestHandler):
    """What a server answers that keeps to KServe's protocol, as far as the documented request."""

    model: ClassVar[Path]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        (given,) = body["inputs"]
        wanted = {
            "name": "image",
            "datatype": "FP32",
            "shape": [1, 3, PHOTO_SIZE[1], PHOTO_SIZE[0]],
        }
        right = {name: given[name] for name in wanted} == wanted
        if self.path != "/v2/models/student/infer" or not right:
            self.send_error(400)
            return
        images = np.array(given["data"], np.float32).reshape(given["shape"])
        (translated,) = onnxruntime.InferenceSession(self.model).run(None, {"image": images})
        image = {"name": "picture", "datatype": "FP32", "shape": translated.shape}
        answer = {
            "model_name": "student",
            "outputs": [image | {"data": translated.ravel().tolist()}],
        }
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        pass


def test_the_documented_request_translates(
    onnx_student: Path, photos: Path, tmp_path: Path
) -> None:
    text = (Path(__file__).parents[1] / "docs" / "deploy.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    photo = Path(shutil.copy(sorted(photos.iterdir())[0], tmp_path / "photo.png"))
    handler = type("Handler", (Protocol,), {"model": onnx_student})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        answering = threading.Thread(target=server.serve_forever)
        answering.start()
        code = code.replace("http://localhost:8000", f"http://127.0.0.1:{server.server_port}")
        command = (sys.executable, "-c", code)
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        server.shutdown()
        answering.join()
    assert done.returncode == 0, done.stderr
    wkdc.translate(onnx_student, [photo], tmp_path / "wanted.png")
    apart = (
        load_pixels(tmp_path / "translated.png").int() - load_pixels(tmp_path / "wanted.png").int()
    )
    assert int(apart.abs().max()) <= 1  # what rounds to two sides of a step


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--triton", "models", "--max-batch", 0), 2, "give 1 or more"),
        (("--triton", "models", "-o", "a.onnx"), 2, "give one of --output and --triton"),
        (("--max-batch", 4), 2, "give --triton DIR"),
        (("--triton", "teacher.pth"), 1, "cannot write teacher.pth/teacher"),
    ],
)
def test_wrong_use_leaves_nothing(
    call_wkdc: Call, teacher: Path, arguments: tuple[object, ...], code: int, said: str
) -> None:
    called = call_wkdc("export", "teacher.pth", *arguments)
    assert (called.code, called.stdout) == (code, "")
    assert said in called.errors[0]
    assert len(called.errors) == 1
    assert [path for path in teacher.parent.rglob("*") if path.is_file()] == [teacher]
