"""Weight files and cards as they must not be: every kind of damage, one seeded choice at a time.

A damaged file is refused in one line, or, where it is still a valid one, loaded.
"""

import copy
import random
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from damage import Whole, entries, outcome
from original_families import (
    anime_state_dict,
    cut_state_dict,
    pytorch_gan_state_dict,
    style_state_dict,
)
from originals import (
    global_generator_state_dict,
    multiscale_state_dict,
    patchgan_state_dict,
    resnet_state_dict,
    unet_state_dict,
)
from torch import Tensor

from wkdc.checkpoints.card import history_entry, make_card, read_card
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.checkpoints.recognition import recognise

Weights = dict[Any, Any]

WHOLE: dict[str, Callable[[], Weights]] = {
    "resnet": lambda: resnet_state_dict(1, blocks=2, ngf=1),
    "resnet, batch": lambda: resnet_state_dict(1, blocks=1, ngf=1, norm="batch"),
    "resnet, zero": lambda: resnet_state_dict(1, blocks=2, ngf=1, padding="zero", affine=True),
    "global": lambda: global_generator_state_dict(1, downs=2, blocks=1, ngf=1, in_channels=2),
    "unet": lambda: unet_state_dict(1, downs=4, ngf=1),
    "unet, instance": lambda: unet_state_dict(1, downs=3, ngf=1, norm="instance"),
    "patchgan": lambda: patchgan_state_dict(1, ndf=1),
    "multiscale": lambda: multiscale_state_dict(1, ndf=1, layers=2),
    "multiscale, not apart": lambda: multiscale_state_dict(1, ndf=1, layers=2, apart=False),
    "cut": lambda: cut_state_dict(1, ngf=1, blocks=1),
    "cut, no antialias": lambda: cut_state_dict(1, ngf=1, blocks=1, antialias_up=False),
    "pytorch-gan": lambda: pytorch_gan_state_dict(1, ngf=1, blocks=1),
    "fast-neural-style": lambda: style_state_dict(1, width=1, blocks=1),
    "animegan": lambda: anime_state_dict(1, width=1),
}
"""Small networks of every family, whole."""

ODD_KEYS = (
    "",
    ".",
    ".weight",
    "weight",
    "layers.weight",
    "block_c.weight",
    "block_c.layers.weight",
    "block_c.1.layers.0.1.weight",
    "model.model.0.weight",
    "model.model.1.model.3.model.3.model.3.weight",
    "model.0.conv_block.x.weight",
    "model.10.conv_block.1.weight",
    "other.10.conv_block.1.weight",
    "model.99.filt",
    "res1.conv1.conv2d.weight",
    "scale0_layer0.0.weight",
    "layer9.0.weight",
    "model1_0.weight",
    "module.model.1.weight",
    "model.1.weight\nmodel.2",
    "model.²٣.weight",
    "model." + "9" * 5000 + ".weight",
    "x" * 10000,
    7,
    None,
    ("model", 1),
)

ODD_VALUES: tuple[Callable[[], Any], ...] = (
    lambda: None,
    lambda: 5,
    lambda: -1.5,
    lambda: True,
    lambda: "text",
    lambda: "",
    list,
    lambda: [1, [2, {}]],
    dict,
    lambda: {"weight": torch.ones(2)},
    lambda: (1, 2),
    lambda: 10**30,
    lambda: float("nan"),
    lambda: torch.ones(2, 3),
    lambda: torch.tensor(float("nan")),
    lambda: b"bytes",
    lambda: torch.Size([1]),
    lambda: torch.float32,
    lambda: 1j,
)

SHAPES = (
    (),
    (0,),
    (1,),
    (0, 0, 0, 0),
    (0, 3, 3, 3),
    (3, 0, 3, 3),
    (1, 1),
    (1, 2, 3),
    (1, 1, 0, 7),
    (2, 3, 1, 1),
    (1, 3, 4, 4),
    (4, 4, 7, 7),
    (2, 2, 3, 3),
    (1, 1, 1, 1, 1),
)

DTYPES = (
    torch.int64,
    torch.uint8,
    torch.bool,
    torch.complex64,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.float8_e4m3fn,
    torch.uint16,
)

HUGE = ((2**40,), (2**20, 2**20, 7, 7), (2**31, 1, 3, 3), (2**16, 2**16, 4, 4), (1, 2**40, 7, 7))


@cache
def whole(family: str) -> Weights:
    """The weights of a small network; they are shared, so copy before a change."""
    return dict(WHOLE[family]())


def _sparse(value: Tensor, pick: random.Random) -> Tensor:
    return value.float().to_sparse()


def _quantized(value: Tensor, pick: random.Random) -> Tensor:
    return torch.quantize_per_tensor(value.float(), 0.1, 0, torch.qint8)


def _reshaped(value: Tensor, pick: random.Random) -> Tensor:
    return torch.ones(pick.choice(SHAPES))


def _other_dtype(value: Tensor, pick: random.Random) -> Tensor:
    return value.to(pick.choice(DTYPES))


def _on_meta(value: Tensor, pick: random.Random) -> Tensor:
    return torch.empty(pick.choice((tuple(value.shape), *HUGE)), device="meta")


def _expanded(value: Tensor, pick: random.Random) -> Tensor:
    """Promises more numbers than it holds."""
    dtype = pick.choice((torch.float32, torch.float16))
    return torch.ones((), dtype=dtype).expand(pick.choice(HUGE))


def _axes_swapped(value: Tensor, pick: random.Random) -> Tensor:
    return value.transpose(0, -1) if value.dim() > 1 else value.unsqueeze(0)


def _not_finite(value: Tensor, pick: random.Random) -> Tensor:
    return torch.full_like(value, pick.choice((float("nan"), float("inf"))), dtype=torch.float32)


def _wider(value: Tensor, pick: random.Random) -> Tensor:
    if value.dim() == 0:
        return value.reshape(1)
    return torch.cat([value, value], pick.randrange(value.dim()))


VALUE_DAMAGE: tuple[Callable[[Tensor, random.Random], Any], ...] = (
    _sparse,
    _quantized,
    _reshaped,
    _reshaped,
    _other_dtype,
    _on_meta,
    _expanded,
    _axes_swapped,
    _not_finite,
    _wider,
    lambda value, pick: pick.choice(ODD_VALUES)(),
)


def _one_changed(weights: Weights, key: Any, pick: random.Random) -> None:
    value = weights[key]
    if isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta:
        plain = value.dequantize() if value.is_quantized else value
        if plain.numel() < 10**6 and not plain.is_complex():
            weights[key] = pick.choice(VALUE_DAMAGE)(plain, pick)


def _alike_changed(weights: Weights, key: Any, pick: random.Random) -> None:
    """The same done to all tensors of one kind: all weights, or all biases."""
    leaf, seed = str(key).rpartition(".")[2], pick.random()
    for other in [k for k in weights if str(k).rpartition(".")[2] == leaf]:
        _one_changed(weights, other, random.Random(seed))


def _dropped(weights: Weights, key: Any, pick: random.Random) -> None:
    del weights[key]


def _many_dropped(weights: Weights, key: Any, pick: random.Random) -> None:
    """All of one layer, or all before or behind one."""
    keys = list(weights)
    at = keys.index(key)
    layer = str(key).rpartition(".")[0]
    parts = (keys[:at], keys[at + 1 :], [k for k in keys if str(k).startswith(layer)])
    for other in pick.choice(parts):
        del weights[other]


def _renamed(weights: Weights, key: Any, pick: random.Random) -> None:
    weights[_other_name(key, pick)] = weights.pop(key)


def _doubled(weights: Weights, key: Any, pick: random.Random) -> None:
    weights[_other_name(key, pick)] = weights[key]


def _other_name(key: Any, pick: random.Random) -> Any:
    parts = str(key).split(".")
    at = pick.randrange(len(parts))
    changed = (
        [*parts[:at], pick.choice(("0", "3", "10", "x", "conv_block", "weight")), *parts[at + 1 :]],
        parts[:at] + parts[at + 1 :],
        [*parts[:at], pick.choice(("0", "model", "layers", "")), *parts[at:]],
    )
    return pick.choice(
        (*ODD_KEYS, *(".".join(one) for one in changed), *(".".join(one) for one in changed))
    )


def _swapped(weights: Weights, key: Any, pick: random.Random) -> None:
    other = pick.choice(list(weights))
    weights[key], weights[other] = weights[other], weights[key]


def _nested(weights: Weights, key: Any, pick: random.Random) -> None:
    inner = dict(weights)
    if pick.random() < 0.5:
        weights.clear()
    weights[pick.choice(("state_dict", "model", "netG", "a.b", "", "odd\nname", 7))] = inner


def _of_another(weights: Weights, key: Any, pick: random.Random) -> None:
    """Entries of another family beside, or instead of, its own."""
    weights |= whole(pick.choice(list(WHOLE)))


DAMAGE = (
    _one_changed,
    _one_changed,
    _alike_changed,
    _dropped,
    _many_dropped,
    _renamed,
    _doubled,
    _swapped,
    _nested,
    _of_another,
)


def damaged_weights(seed: int) -> Weights:
    """The weights of a small network with one to three kinds of damage."""
    pick = random.Random(seed)
    weights = dict(whole(pick.choice(list(WHOLE))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(pick.choice((1, 1, 2, 3))):
            if weights:
                pick.choice(DAMAGE)(weights, pick.choice(list(weights)), pick)
    return weights


@cache
def _whole_card(family: str) -> dict[str, Any]:
    architecture = recognise(whole(family)).architecture
    teacher = {"path": "t.pth", "sha256": "0", "params": 1, "macs": 2, "reading": {"norm": "batch"}}
    return make_card(architecture, teacher, [history_entry("prune", ratio=2)])


def damaged_card(seed: int) -> dict[str, Any]:
    """A file with a whole network, and a card with one to three wrong entries."""
    pick = random.Random(seed)
    family = pick.choice(list(WHOLE))
    outer: dict[Any, Any] = {"wkdc": copy.deepcopy(_whole_card(family))}
    for _ in range(pick.choice((1, 1, 2, 3))):
        holder, key = pick.choice(list(entries(outer)))
        match pick.randrange(8):
            case 0:
                holder.pop(key)
            case 1 if isinstance(holder, dict):
                holder[pick.choice(("norm", "skips", "upsampling", "extra", "arch", 7))] = (
                    pick.choice(ODD_VALUES)()
                )
            case 2:
                holder[key] = pick.choice((10**12, 2**40, [4] * 10**5, [[2] * 1000] * 1000, -3, 0))
            case 3:
                holder[key] = pick.choice(("custom", "unet", "resnet", "none", "zero", "nearest"))
            case _:
                holder[key] = pick.choice(ODD_VALUES)()
        if "wkdc" not in outer:
            break
    return {**outer, "state_dict": whole(family)}


def _save(content: dict[Any, Any], path: Path) -> bool:
    """Write `content`, if it can be: not every kind of tensor has a file's form."""
    try:
        torch.save(content, path)
    except (RuntimeError, NotImplementedError, OSError):
        return False
    return True


def try_weights(seed: int, folder: Path, files: Whole) -> bool:
    """Whether damaged weights are taken, as a dict and from a file."""
    weights, path = damaged_weights(seed), folder / "damaged.pth"
    taken = outcome(lambda: recognise(weights))
    if _save(weights, path):
        outcome(lambda: read_card(path))
        taken = outcome(lambda: load_generator(path))
    return taken


def try_card(seed: int, folder: Path, files: Whole) -> bool:
    """Whether a file whose card is damaged is taken."""
    path = folder / "damaged.pth"
    if not _save(damaged_card(seed), path):
        return False
    read = outcome(lambda: read_card(path))
    return outcome(lambda: load_generator(path)) and read
