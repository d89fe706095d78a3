"""Sliced layers solved again, so that they say what the teacher's kept channels say.

Slicing takes inputs away from every layer. What is left can still say most of it, with other
weights: those that least squares finds, layer by layer from the input on, for what the student's
layer really receives. He et al. (2017) and Luo et al. (2017) did so for classifiers. A few
unlabelled images are enough, and nothing is trained.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from wkdc.pruning.activations import Observation, positions_in
from wkdc.pruning.channels import CONVOLUTIONS, is_depthwise, trace_flow
from wkdc.pruning.least_squares import FewEquations, NormalEquations

RIDGE = 2.0
"""Weight of staying at the sliced kernel, by the mean square of an input and the unknowns for each
equation: the fewer equations there are, the less the fit may believe each."""

MOST_RIDGE = 0.1
"""The same weight at most: a U-Net's innermost maps give fewer equations than unknowns."""

LEAST_RIDGE = 1e-6
"""The same where nearly all can be said anyway."""

HELD_BACK = 10.0
"""The ridge at most, by the share of variance that the freest fit misses: a fit that misses nothing
has nothing wrong to believe."""

FLAT = 1e-10
"""An output that varies by less, relative to its mean square, is rounding, and says nothing."""


@dataclass(frozen=True)
class LayerFit:
    """How well one layer follows the teacher's kept channels, on the calibration images.

    Attributes:
        name: of the layer, as in the state dict.
        before, after: share of the teacher's variance that is missed, without and with the new
            weights, given the same inputs; 0 is a perfect copy.
    """

    name: str
    before: float
    after: float


def reconstruct(
    student: nn.Module,
    kept: Mapping[str, Sequence[int]],
    teacher: Observation,
    *,
    on_layer: Callable[[float], None] | None = None,
) -> list[LayerFit]:
    """Solve the student's convolutions, in place, in one forward pass.

    A layer's target is the teacher's output before the norm, at the kept channels. Where
    InstanceNorm follows, both sides are centred image by image, as it will do, and its scale
    is lowered by how well they agree, which is least squares for what comes out of it. GroupNorm
    mixes channels, of which some are gone, so its scale and shift are solved for its own output.

    Args:
        kept: for each convolution by name, which of the teacher's output channels it stands for;
            one that is not named stands for all.
        teacher: what it puts out, and on which images.
        on_layer: called after each layer with the share that is done.
    """
    flow = trace_flow(student, teacher.images[0])
    names = [name for name in flow.order if name in flow.usable]
    fits: list[LayerFit] = []
    hooks = []
    for name in names:

        def solve(layer: nn.Module, inputs: tuple[Tensor], name: str = name) -> None:
            dtype, channels = inputs[0].dtype, kept.get(name, slice(None))
            targets = [rows[:, channels].to(dtype) for rows in teacher.outputs[name]]
            solver = _solve_depthwise if is_depthwise(layer) else _solve
            fits.append(solver(name, layer, flow.norms.get(name), inputs[0], targets))
            if on_layer is not None:
                on_layer(len(fits) / len(names))

        hooks.append(student.get_submodule(name).register_forward_pre_hook(solve))
    for name, rows in teacher.normalised.items():

        def rescale(
            norm: nn.Module,
            _: object,
            out: Tensor,
            name: str = name,
            rows: Sequence[Tensor] = rows,
        ) -> Tensor:
            channels = kept.get(name, slice(None))
            return _rescale(norm, out, [one[:, channels].to(out.dtype) for one in rows])

        if name in flow.norms:
            hooks.append(flow.norms[name].register_forward_hook(rescale))
    try:
        with torch.no_grad():
            student(torch.cat(list(teacher.images)))
    finally:
        for hook in hooks:
            hook.remove()
    return fits


def patches(layer: nn.Module, image: Tensor) -> Tensor:
    """What `layer` multiplies to make its outputs at `positions_in` its map: P×(k·k·C) for 1×C×H×W.

    A transposed convolution is a convolution of the input with zeros between its pixels, by the
    kernel turned around.
    """
    kernel, stride, margin = _geometry(layer)
    if isinstance(layer, nn.ConvTranspose2d):
        _, channels, high, wide = image.shape
        stuffed = image.new_zeros(1, channels, (high - 1) * stride + 1, (wide - 1) * stride + 1)
        stuffed[..., ::stride, ::stride] = image
        near = kernel - 1 - margin
        far = near + int(layer.output_padding[0])
        padded, stride = functional.pad(stuffed, (near, far, near, far)), 1
    elif isinstance(layer, nn.Conv2d) and margin:
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        padded = functional.pad(image, (margin,) * 4, mode=mode)
    else:
        padded = image
    high, wide = padded.shape[-2:]
    height, width = ((side - kernel) // stride + 1 for side in (high, wide))
    positions = positions_in(height, width)
    corners = stride * (positions // width * wide + positions % width)
    taps = (wide * torch.arange(kernel)[:, None] + torch.arange(kernel)).flatten()
    pixels = padded[0].permute(1, 2, 0).flatten(0, 1)  # copied, so that a pixel's channels touch
    return pixels[corners[:, None] + taps].flatten(1)


def kernel_matrix(layer: nn.Module) -> Tensor:
    """The weights as (k·k·C)×outputs, in the order of `patches`."""
    weight: Tensor = layer.weight.detach()  # type: ignore[operator]
    if isinstance(layer, nn.ConvTranspose2d):
        weight = weight.transpose(0, 1).flip(2, 3)
    return weight.permute(0, 2, 3, 1).flatten(1).T


def set_kernel(layer: nn.Module, matrix: Tensor) -> None:
    """The inverse of `kernel_matrix`: write the weights back."""
    weight: Tensor = layer.weight  # type: ignore[assignment]
    new = matrix.T.reshape(len(matrix.T), *weight.shape[2:], -1).permute(0, 3, 1, 2)
    if isinstance(layer, nn.ConvTranspose2d):
        new = new.flip(2, 3).transpose(0, 1)
    with torch.no_grad():
        weight.copy_(new)


def _solve(
    name: str, layer: nn.Module, norm: nn.Module | None, inputs: Tensor, targets: Sequence[Tensor]
) -> LayerFit:
    """Give `layer` the weights and bias that least squares finds, and `norm` what follows.

    Args:
        inputs: N×C×H×W that the layer receives.
        targets: for each of the N images, P×outputs that it should put out.
    """
    old = kernel_matrix(layer).double().clone()
    count, images = len(targets[0]), len(targets)
    enough = count * images >= len(old)
    equations: NormalEquations | FewEquations = NormalEquations() if enough else FewEquations()
    means_in, means_out = [], []
    for image, target in zip(inputs, targets, strict=True):
        rows = patches(layer, image.unsqueeze(0))
        means_in.append(rows.mean(0).double())
        means_out.append(target.mean(0).double())
        equations.add(rows - means_in[-1].to(rows.dtype), target - means_out[-1].to(rows.dtype))
    mean_in, mean_out = torch.stack(means_in), torch.stack(means_out)
    centre_in, centre_out = mean_in.mean(0), mean_out.mean(0)
    outputs = old.shape[1]
    if layer.bias is None and (norm is None or getattr(norm, "num_features", 0) != outputs):
        # There is no offset, or not one for each output, that could make up for centring.
        centre_in, centre_out = torch.zeros_like(centre_in), torch.zeros_like(centre_out)
    if not isinstance(norm, nn.InstanceNorm2d):  # the differences between images count too
        weight = count**0.5
        equations.add(weight * (mean_in - centre_in), weight * (mean_out - centre_out))
    says = equations.square > FLAT * count * mean_out.square().sum(0)
    if not bool(says.any()):
        return LayerFit(name, 0.0, 0.0)
    total = equations.square.sum().clamp_min(1e-24)

    def missed(matrix: Tensor) -> float:
        crossed, energy = equations.against(matrix)
        return max(0.0, float((equations.square - 2 * crossed + energy).sum() / total))

    scarcity, mean_square = len(old) / (count * images), equations.energy / len(old)
    new = equations.solve(old, max(LEAST_RIDGE * mean_square, 1e-12))
    ridge = min(RIDGE * scarcity, MOST_RIDGE)
    if scarcity < 0.5:  # else the freest fit misses little of what it was made of, and means little
        ridge = min(ridge, HELD_BACK * missed(new))
    if ridge > LEAST_RIDGE:
        new = equations.solve(old, max(ridge * mean_square, 1e-12))
    set_kernel(layer, new)
    offset = centre_out - centre_in @ new
    crossed, energy = equations.against(new)
    spread = (energy * equations.square).clamp_min(1e-24).sqrt()
    agreement = torch.where(says, crossed / spread, 1.0)
    with torch.no_grad():
        if isinstance(layer.bias, Tensor):
            layer.bias.copy_(offset)
        elif isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None:
            norm.running_mean -= _by_channel(offset, norm)
        if isinstance(norm, nn.InstanceNorm2d) and norm.affine:
            norm.weight.mul_(_by_channel(agreement, norm))
    return LayerFit(name, missed(old), missed(new))


def _solve_depthwise(
    name: str, layer: nn.Module, norm: nn.Module | None, inputs: Tensor, targets: Sequence[Tensor]
) -> LayerFit:
    """`_solve` for a depthwise `layer`: k·k unknowns and an offset for each channel."""
    old = kernel_matrix(layer).double()  # (k·k)×C
    taps, channels = old.shape
    bias = layer.bias if isinstance(layer.bias, Tensor) else torch.zeros(channels)
    ones = taps + (1 if isinstance(layer.bias, Tensor) else 0)
    gram = torch.zeros(channels, ones, ones).double()
    cross = torch.zeros(channels, ones).double()
    total = torch.zeros(channels).double()
    for image, target in zip(inputs, targets, strict=True):
        rows = patches(layer, image.unsqueeze(0)).view(-1, taps, channels).permute(2, 0, 1)
        if ones > taps:
            rows = torch.cat([rows, rows.new_ones(channels, rows.shape[1], 1)], 2)
        rows, wanted = rows.double(), target.T.double()
        gram += rows.transpose(1, 2) @ rows
        cross += (rows.transpose(1, 2) @ wanted.unsqueeze(2)).squeeze(2)
        total += wanted.square().sum(1)
    start = torch.cat([old, bias.detach().double()[None]])[:ones].T
    ridge = LEAST_RIDGE * gram.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)
    damping = ridge[:, None, None] * torch.eye(ones).double()
    new = torch.linalg.solve(gram + damping, cross + ridge[:, None] * start)

    def missed(kernels: Tensor) -> float:
        left = (
            total
            - 2 * (kernels * cross).sum(1)
            + torch.einsum("ci,cij,cj->c", kernels, gram, kernels)
        )
        return max(0.0, float(left.sum() / total.sum().clamp_min(1e-24)))

    set_kernel(layer, new[:, :taps].T)
    if isinstance(layer.bias, Tensor):
        with torch.no_grad():
            layer.bias.copy_(new[:, taps])
    return LayerFit(name, missed(start), missed(new))


@torch.no_grad()
def _rescale(norm: nn.Module, out: Tensor, targets: Sequence[Tensor]) -> Tensor:
    """Give `norm` the scale and shift that bring its output `out`, N×C×H×W, to `targets`.

    Args:
        targets: for each of the N images, P×C that it should put out.

    Returns:
        What it puts out then.
    """
    if not isinstance(norm.weight, Tensor) or not isinstance(norm.bias, Tensor):
        return out
    places = positions_in(*out.shape[-2:])
    made = torch.cat([image.flatten(1)[:, places] for image in out], 1).double()
    wanted = torch.cat([target.T for target in targets], 1).double()
    apart = made - made.mean(1, keepdim=True)
    energy = apart.square().sum(1)
    says = energy > FLAT * made.square().sum(1)
    scale = torch.where(says, (apart * wanted).sum(1) / energy.clamp_min(1e-24), 1.0)
    shift = wanted.mean(1) - scale * made.mean(1)
    norm.weight.mul_(scale)
    norm.bias.mul_(scale).add_(shift)
    shape = (1, -1, 1, 1)
    return out * scale.to(out.dtype).view(shape) + shift.to(out.dtype).view(shape)


def _by_channel(outputs: Tensor, norm: nn.InstanceNorm2d | nn.BatchNorm2d) -> Tensor:
    """One value for each channel of `norm`: the mean of four where a pixel shuffle comes first."""
    return outputs.view(norm.num_features, -1).mean(1)


def _geometry(layer: nn.Module) -> tuple[int, int, int]:
    """Kernel size, stride and padding of a square convolution."""
    if not isinstance(layer, CONVOLUTIONS):
        raise TypeError(f"{type(layer).__name__} is no convolution")
    return layer.kernel_size[0], layer.stride[0], int(layer.padding[0])
