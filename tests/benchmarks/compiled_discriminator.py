"""Whether torch.compile speeds up a discriminator's part of a training step.

    python tests/benchmarks/compiled_discriminator.py

A PatchGAN judges one image of 128x128 three times, forward and backward, as a step lets it: for
the student, and for its own sake the real image and the generated one. All in turn; the
fastest of 8.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from wkdc.benchmark.latency import time_in_turn
from wkdc.networks.patchgan import PatchGAN, patchgan_widths
from wkdc.system.compilation import compiled

ROUNDS = 8


def main() -> None:
    picture = torch.rand(1, 3, 128, 128) * 2 - 1
    calls: dict[str, Callable[[], object]] = {}
    for ndf in (64, 32):
        for kind in ("as it is", "compiled"):
            network = PatchGAN(3, widths=patchgan_widths(ndf), norm="instance")
            call = network if kind == "as it is" else compiled(network)

            def step(
                network: PatchGAN = network,
                call: Callable[[Tensor], Tensor] = call,
            ) -> None:
                network.requires_grad_(False)
                generated = picture.clone().requires_grad_()
                call(generated).square().mean().backward()
                network.requires_grad_(True)
                (call(picture) - 1).square().mean().backward()
                call(picture).square().mean().backward()

            calls[f"ndf {ndf}, {kind}"] = step
    for name, latency in time_in_turn(calls, ROUNDS).items():
        print(f"{name}: {latency.fastest:.0f} ms")


if __name__ == "__main__":
    main()
