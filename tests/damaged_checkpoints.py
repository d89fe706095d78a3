"""Checkpoints as training scripts write them, every form of file, damaged in their bytes."""

import io
import pickle
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch
from damage import Whole, mutated, outcome
from damaged_weights import whole

from wkdc.checkpoints.card import history_entry, make_card, read_card
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.checkpoints.recognition import recognise


def _forms(family: str) -> dict[str, dict[Any, Any]]:
    """A network as scripts save it: alone, beside others and other things, or with a card."""
    weights, other = whole(family), whole("patchgan")
    flat = [(f"gen.{key}", value) for key, value in weights.items()]
    flat += [(f"d.{key}", value) for key, value in other.items()]
    card = make_card(recognise(weights).architecture, None, [history_entry("prune", ratio=2)])
    return {
        "alone": weights,
        "parallel": {f"module.{key}": value for key, value in weights.items()},
        "wrapped": {"epoch": 7, "state_dict": weights, "optimizer": {"state": {}, "lr": [2e-4]}},
        "nested": {"networks": {"netG": {"model": weights}, "netD": other}, "args": {"ngf": 1}},
        "several": {"netG_A2B": weights, "netG_B2A": weights, "netD_A": other},
        "flat": dict(flat),
        "card": {"wkdc": card, "state_dict": weights},
    }


def make_checkpoints(folder: Path) -> None:
    """Each form of some families, in today's form of file; a few in the older ones."""
    for family in ("resnet", "unet", "global", "animegan", "patchgan"):
        for form, content in _forms(family).items():
            name = f"{family}-{form}"
            torch.save(content, folder / f"{name}.pth")
            if form in ("alone", "several", "card"):
                torch.save(
                    content, folder / f"{name}-old.pth", _use_new_zipfile_serialization=False
                )
    plain = {key: value.tolist() for key, value in whole("resnet").items()}
    (folder / "pickle.pth").write_bytes(pickle.dumps(plain, protocol=2))
    tensors = whole("resnet")
    offsets, at = {}, 0
    for key, value in tensors.items():
        size = value.numel() * 4
        shape = list(value.shape)
        offsets[key] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    header = repr(offsets).replace("'", '"').encode()
    packed = b"".join(value.float().numpy().tobytes() for value in tensors.values())
    (folder / "net.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + packed)


CODE = (
    b"cos\nsystem\n(S'touch /tmp/wkdc-was-here'\ntR.",
    b"\x80\x02cbuiltins\neval\nX\x05\x00\x00\x001+1+1\x85R.",
    b"\x80\x02cbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x10\x85R.",
    b"\x80\x02ctorch\nload\nX\x01\x00\x00\x00x\x85R.",
    b"\x80\x02ctorch.nn.modules.conv\nConv2d\n(K\x03K\x03K\x03tR.",
    b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
    b"(" * 100_000 + b".",
    b"]" * 50_000 + b"a" * 49_999 + b".",
)
"""Pickles that would run something, take terabytes, or nest without end."""


def _inside(content: bytes, pick: random.Random) -> bytes:
    """A zip with damage behind right checksums: in a member, its name or place, or its packing."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    packing = pick.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    name = pick.choice([one for one in members if one.endswith("data.pkl")] + list(members))
    match pick.randrange(8):
        case 0 | 1 | 2:
            members[name] = mutated(members[name], pick)
        case 3:
            members[name] = pick.choice(CODE)
        case 4:
            members[pick.choice(("../x", "/x", "code/x.py", "constants.pkl", "a" * 300))] = (
                members.pop(name)
            )
        case 5:
            members[name] = bytes(pick.choice((0, 1, 2**20, 2**27)))
            packing = zipfile.ZIP_DEFLATED
        case 6:
            del members[name]
        case _:
            other = pick.choice(list(members))
            members[name], members[other] = members[other], members[name]
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", packing) as out:
        for inside, data in members.items():
            out.writestr(inside, data)
    return made.getvalue()


def try_checkpoint(seed: int, folder: Path, files: Whole) -> bool:
    """Whether a checkpoint with damaged bytes is taken."""
    pick = random.Random(seed)
    content = files.bytes(pick.choice(files.names("checkpoints")))
    if content.startswith(b"PK") and pick.random() < 0.7:
        content = _inside(content, pick)
    elif pick.random() < 0.05:
        content = pick.choice(CODE)
    if pick.random() < 0.5:
        content = mutated(content, pick)
    path = folder / pick.choice(("net.pth", "net.pth", "net.pt", "net.ckpt", "net.safetensors"))
    path.write_bytes(content)
    key = pick.choice((None, None, "netG_A2B", "gen", "networks.netG", "\n"))
    outcome(lambda: read_card(path))
    return outcome(lambda: load_generator(path, key=key))
