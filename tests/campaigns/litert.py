"""LiteRT's files in each precision, in the environment of its converter.

    python tests/campaigns/litert.py

Needs `pip install 'wkdc[litert]'`. Every line is one check; the first that fails ends it.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from original_families import SAVED, saved_family
from originals import resnet_forward, resnet_state_dict
from PIL import Image

from wkdc.deploy.phone import export_phone
from wkdc.inference.model import open_model
from wkdc.phones.litert import LiteRtNetwork

SIZE = 64, 64


def wkdc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "wkdc", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def must(held: bool, said: str) -> None:
    print("holds:" if held else "FAILS:", said, flush=True)
    if not held:
        sys.exit(1)


def main() -> None:
    weights = resnet_state_dict(3, blocks=2, ngf=8)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "student.pth"
        torch.save(weights, source)
        half = export_phone(source, "litert", sizes=[SIZE], precision="float16")
        small = half.size_bytes
        must(LiteRtNetwork(half.output).facts["precision"] == "float16", "float16 is said")
        int8 = export_phone(source, "litert", sizes=[SIZE], precision="int8", pixels=True)
        must((int8.psnr_db or 0) > 30, f"int8 with bytes, {int8.psnr_db} dB")
        whole = export_phone(source, "litert", sizes=[SIZE])
        must(small < whole.size_bytes, "float16 is smaller")
        images = torch.rand(1, 3, *SIZE) * 2 - 1
        error = open_model(whole.output).generate(images) - resnet_forward(
            weights, images, blocks=2
        )
        # float32 sums in another order, as in every exported file.
        must(float(error.abs().max()) < 1e-4, "float32 gives the original's images")
        large = export_phone(source, "litert", sizes=[(256, 256)], output=folder / "large.tflite")
        flat = torch.full((1, 3, 256, 256), 0.95)
        flat[:, :, 40:80, 40:80], flat[:, 1, 100:140, 100:180] = -0.5, 0.2
        error = open_model(large.output).generate(flat) - resnet_forward(weights, flat, blocks=2)
        # One sum of 65536 values in XNNPACK's order was off by 1e-2 here.
        must(float(error.abs().max()) < 1e-4, "a flat image, whose deviations are small")
        for family in SAVED:
            generator = saved_family(family, folder / "family.pth")
            made = export_phone(generator, "litert", sizes=[SIZE], output=folder / "family.tflite")
            must((made.psnr_db or 0) > 80, f"{family}, {made.max_abs_error:.0e}")
        Image.linear_gradient("L").convert("RGB").resize(SIZE).save(folder / "photo.png")
        ran = wkdc(folder, "translate", "student.tflite", "photo.png", "-o", "out.png")
        must(ran.returncode == 0 and (folder / "out.png").is_file(), "translate")
        options = ("--size", "64", "--rounds", "1", "--threads", "1", "--json")
        ran = wkdc(folder, "profile", "student.tflite", "student.pth", *options)
        must(ran.returncode == 0, f"profile {ran.stderr}")
        phone = json.loads(ran.stdout)["models"][0]
        must(set(phone["latency_ms"]) == {"litert-cpu"}, "profile has LiteRT's time")
        ran = wkdc(folder, "profile", "student.tflite", "--size", "96")
        must("takes 64x64 alone" in ran.stderr and ran.returncode in (1, 2), "another size")
        (folder / "broken.tflite").write_bytes(b"TFL3 and no more")
        ran = wkdc(folder, "translate", "broken.tflite", "photo.png", "-o", "x.png")
        must(ran.returncode == 1 and "cannot be read by LiteRT" in ran.stderr, "a damaged file")


if __name__ == "__main__":
    main()
