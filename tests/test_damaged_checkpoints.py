"""Damaged weight files and cards: refused in one line, whatever the damage, and without memory.

tests/campaigns/damage.py tries thousands more.
"""

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from damage import check_refusal
from damaged_weights import HUGE, whole

from wkdc.checkpoints.card import make_card, read_card
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.checkpoints.recognition import recognise
from wkdc.errors import CheckpointError


def refused(content: dict[Any, Any], path: Path) -> str:
    torch.save(content, path)
    with pytest.raises(CheckpointError) as caught:
        load_generator(path)
    check_refusal(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("shape", HUGE, ids=str)
def test_a_tensor_that_promises_more_than_the_file_holds(
    shape: tuple[int, ...], dtype: torch.dtype, tmp_path: Path
) -> None:
    """One number, said to be repeated: terabytes, in a small file."""
    weights = whole("resnet") | {"model.4.weight": torch.ones((), dtype=dtype).expand(shape)}
    said = refused(weights, tmp_path / "net.pth")
    assert "'model.4.weight' promises" in said
    assert (tmp_path / "net.pth").stat().st_size < 10**6


def save_compressed(content: dict[Any, Any], path: Path) -> None:
    plain = io.BytesIO()
    torch.save(content, plain)
    with zipfile.ZipFile(plain) as stored, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name in stored.namelist():
            out.writestr(name, stored.read(name))


def test_a_compressed_file_of_weights(tmp_path: Path) -> None:
    save_compressed(whole("resnet"), tmp_path / "net.pth")
    assert load_generator(tmp_path / "net.pth")


def test_a_small_file_that_unpacks_to_much(tmp_path: Path) -> None:
    """PyTorch reads compressed zips, and takes the memory that they promise."""
    save_compressed(whole("resnet") | {"large": torch.zeros(2**25)}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="would take 128 MiB of memory") as caught:
        load_generator(tmp_path / "net.pth")
    check_refusal(caught.value)


def test_a_key_of_ten_thousand_characters(tmp_path: Path) -> None:
    two = {"x" * 10_000: whole("resnet"), "netG\n": whole("unet")}
    said = refused(two, tmp_path / "net.pth")
    assert "holds several networks: " in said
    assert f" {'x' * 100}... (resnet generator" in said
    with pytest.raises(CheckpointError, match=r"nothing under --key y{100}\.\.\.;") as caught:
        load_generator(tmp_path / "net.pth", key="y" * 10_000)
    check_refusal(caught.value)


def test_a_card_of_more_layers_than_any_network(tmp_path: Path) -> None:
    card = make_card(recognise(whole("resnet")).architecture, None, [])
    card["options"] = card["options"] | {"inner": [4] * 10**5}
    said = refused({"wkdc": card, "state_dict": whole("resnet")}, tmp_path / "net.pth")
    assert "card is broken" in said


def test_a_card_of_wide_layers_takes_no_memory(tmp_path: Path) -> None:
    card = make_card(recognise(whole("resnet")).architecture, None, [])
    card["options"] = card["options"] | {"stream": 2**20}
    said = refused({"wkdc": card, "state_dict": whole("resnet")}, tmp_path / "net.pth")
    assert "is of another network than its weights" in said


@pytest.mark.parametrize(
    ("family", "key", "value", "phrase"),
    [
        ("resnet", "model." + "9" * 5000 + ".weight", torch.ones(1), "characters"),
        ("resnet", "model.1.weight", torch.ones(0, 3, 7, 7), "holds no numbers"),
        ("resnet", "model.1.weight", None, "is no tensor"),
        ("global", "model.10.bias", torch.tensor(1.0), "does not fit"),
        ("animegan", "layers.weight", torch.ones(1, 1, 1, 1), "does not fit"),
        (
            "unet",
            "model.model.1.model.3.model.3.model.3.model.3.model.3.weight",
            torch.ones(1),
            "fit",
        ),
    ],
)
def test_what_once_ended_in_a_traceback(
    family: str, key: Any, value: Any, phrase: str, tmp_path: Path
) -> None:
    weights = whole(family) | {key: value}
    with pytest.raises(CheckpointError, match=phrase) as caught:
        recognise(weights)
    check_refusal(caught.value)
    assert phrase in refused(weights, tmp_path / "net.pth")


@pytest.mark.parametrize(
    "wrong",
    [
        {"history": 5},
        {"history": [5]},
        {"history": [{"command": "prune"}]},
        {"history": [{"command": 5, "options": {}}]},
        {"teacher": {"path": 5, "sha256": "0"}},
        {"teacher": {"path": "t.pth", "sha256": "0", "reading": {"norm": 5}}},
        {"family": "custom", "options": {}},
        {"family": "custom", "options": 5},
        {"format": torch.ones(2)},
        {"options": None},
        {"family": ["unet"]},
        {"family": "unet" * 1000},
    ],
    ids=str,
)
def test_a_card_of_wrong_types(wrong: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    card = make_card(recognise(whole("unet")).architecture, None, []) | wrong
    said = refused({"wkdc": card, "state_dict": whole("unet")}, path)
    assert said == f"{path}: its card is broken; prune the teacher again"
    with pytest.raises(CheckpointError, match="its card is broken"):
        read_card(path)
