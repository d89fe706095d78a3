"""ncnn: a generator as a .param and a .bin file, and such files at work on the CPU."""

import hashlib
import io
import json
import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wkdc.checkpoints.card import check_facts
from wkdc.checkpoints.checkpoint import Generator
from wkdc.errors import CheckpointError, MissingExtraError, one_line
from wkdc.networks.architecture import valid_side
from wkdc.phones.sources import described, quiet
from wkdc.system.files import sha256_of, text_of
from wkdc.system.temporary import check_room, scratch_folder

ENDING = ".ncnn.param"

SIDES = 256, 320, 384
"""The converter is shown the first as height and width, then the others, or the next that the
network takes: far enough apart that no layer's map is of the same size in both."""

SCALE = {"mean_values": [127.5] * 3, "norm_values": [1 / 127.5] * 3}
"""ncnn's names of how pixels of 0 to 255 become [-1, 1]."""


def beside(param: Path) -> tuple[Path, Path]:
    """The weights and the facts that belong to a .ncnn.param: .ncnn.bin and .ncnn.json."""
    return param.with_suffix(".bin"), param.with_suffix(".json")


def digest(param: Path) -> str:
    """The SHA-256 of the .ncnn.param and the .ncnn.bin behind it, 64 hex digits."""
    weights, _ = beside(param)
    return hashlib.sha256(param.read_bytes() + weights.read_bytes()).hexdigest()


def write_ncnn(generator: Generator, folder: Path, stem: str, *, half: bool) -> Path:
    """Write `stem`.ncnn.param, .ncnn.bin and .ncnn.json into `folder`; height and width stay open.

    Args:
        half: whether weights are stored in float16.

    Raises:
        MissingExtraError: ncnn or its converter pnnx is not installed.
        CheckpointError: pnnx does not convert the network.
    """
    try:
        import pnnx
    except ImportError:
        raise MissingExtraError("ncnn is not installed: pip install 'wkdc[ncnn]'") from None
    side, high, wide = (valid_side(one, generator.architecture) for one in SIDES)
    channels = generator.in_channels
    with scratch_folder() as made:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pnnx reads TorchScript alone
            example = torch.zeros(1, channels, side, side)
            traced = torch.jit.trace(generator.network.eval(), example, check_trace=False)  # type: ignore[no-untyped-call]
            content = io.BytesIO()  # PyTorch ends the process where the disk is full
            torch.jit.save(traced, content)
        (made / "network.pt").write_bytes(content.getbuffer())
        ran = subprocess.run(
            [
                pnnx.EXEC_PATH,
                "network.pt",
                f"inputshape=[1,{channels},{side},{side}]",
                f"inputshape2=[1,{channels},{high},{wide}]",  # both stay open
                f"fp16={int(half)}",
            ],
            cwd=made,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        check_room(made.parent, 1)  # pnnx does not look whether its files are whole
        param, weights = made / "network.ncnn.param", made / "network.ncnn.bin"
        if not (param.is_file() and weights.is_file()):
            last = (ran.stderr.strip().splitlines() or [f"exit {ran.returncode}"])[-1]
            raise CheckpointError(
                f"{generator.path} is not converted for ncnn by pnnx: {one_line(last)}"
            )
        output = folder / f"{stem}{ENDING}"
        weights_output, facts_output = beside(output)
        output.write_bytes(param.read_bytes())
        weights_output.write_bytes(weights.read_bytes())
    digests = {file.name: sha256_of(file) for file in (output, weights_output)}
    facts = described(generator, "float16" if half else "float32") | SCALE
    facts |= {"input": "in0", "output": "out0", "sha256": digests}
    facts_output.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return output


class NcnnNetwork:
    """A .ncnn.param with its .bin in ncnn on the CPU, called with images N×C×H×W.

    Attributes:
        facts: see `described`; written beside the network.
        pixels: whether it gives bytes; never.

    Raises:
        MissingExtraError: ncnn is not installed.
        CheckpointError: a file is missing or cannot be read, or has a layer that ncnn lacks.
    """

    pixels = False

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        try:
            import ncnn
        except ImportError:
            raise MissingExtraError("ncnn is not installed: pip install 'wkdc[ncnn]'") from None
        weights, described = beside(path)
        for file in (path, weights, described):
            if not file.is_file():
                raise CheckpointError(
                    f"{file} is missing; a network of ncnn is {path.name}, {weights.name} and "
                    f"{described.name}: wkdc export MODEL.pth --ncnn writes all three"
                )
        try:
            self.facts: dict[str, Any] = json.loads(described.read_text(encoding="utf-8"))
            self._names = str(self.facts["input"]), str(self.facts["output"])
            for key in ("in_channels", "out_channels", "multiple", "smallest", "params"):
                self.facts[key] = int(self.facts[key])
            half = self.facts["precision"] == "float16"
            digests = dict(self.facts.get("sha256", {}))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise CheckpointError(f"{described} does not say what {path.name} holds") from None
        check_facts(self.facts, described)
        for file in (path, weights):  # ncnn reads a damaged file without a check, and crashes
            if digests.get(file.name, digest := sha256_of(file)) != digest:
                raise CheckpointError(
                    f"{file} is not the file that was exported, whose digest {described.name} "
                    "names; export it again"
                )
        self._ncnn = ncnn
        self._network = ncnn.Net()
        options = self._network.opt
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = half
        if threads is not None:
            options.num_threads = threads
        network, numbers = text_of(path), text_of(weights)
        with quiet():  # ncnn prints names of the file as they are
            failed = self._network.load_param(network) or self._network.load_model(numbers)
        if failed:
            raise CheckpointError(f"{path} cannot be read by ncnn, or has a layer that it lacks")
        ends = self._network.input_names(), self._network.output_names()
        if any(name not in known for name, known in zip(self._names, ends, strict=True)):
            raise CheckpointError(
                f"{path} has no input and output of the names in {described}; export it again"
            )

    def __call__(self, images: Tensor) -> Tensor:
        """Translate float32 N×C×H×W in [-1, 1]."""
        return torch.stack([self._one(image) for image in images.float()])

    def _one(self, image: Tensor) -> Tensor:
        held = np.ascontiguousarray(image.numpy())
        entry, end = self._names
        extractor = self._network.create_extractor()
        extractor.input(entry, self._ncnn.Mat(held).clone())  # the first layer may write to it
        code, out = extractor.extract(end)
        if code:
            raise CheckpointError(f"ncnn stopped with code {code} at {tuple(image.shape)}")
        return torch.from_numpy(np.array(out))
