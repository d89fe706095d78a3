"""Files that hold more than one network, and how a teacher is read by the commands that follow."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Called
from originals import StateDict, patchgan_state_dict, resnet_state_dict, unet_state_dict
from torch import Tensor

import wkdc
from wkdc.checkpoints.checkpoint import load_discriminator, load_generator, load_network
from wkdc.checkpoints.reading import Reading
from wkdc.checkpoints.weight_files import load_plain
from wkdc.errors import CheckpointError

Call = Callable[..., Called]

A2B = resnet_state_dict(1, blocks=2, ngf=4)
B2A = resnet_state_dict(2, blocks=2, ngf=5)
SCORES = patchgan_state_dict(3, ndf=4)
ADAM = {
    "state": {0: {"step": torch.tensor(7.0), "exp_avg": torch.zeros(4, 3, 7, 7)}},
    "param_groups": [{"lr": 2e-4, "params": [0]}],
}


def under(prefix: str, weights: StateDict) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in weights.items()}


ONE_GENERATOR: dict[str, tuple[Any, str]] = {
    "beside its discriminator": ({"netG_A": A2B, "netD_A": SCORES}, "netG_A"),
    "beside its optimizer": ({"G_A2B": A2B, "optimizer": ADAM, "epoch": 3}, "G_A2B"),
    "beside its discriminator, as usual": (
        {"generator": A2B, "discriminator": SCORES},
        "generator",
    ),
    "by prefix": (under("generator", A2B) | under("discriminator", SCORES), "generator"),
    "in Lightning's dict": (
        {
            "state_dict": under("gen_AB", A2B) | under("disc_B", SCORES),
            "optimizer_states": [ADAM],
            "global_step": 12,
        },
        "state_dict.gen_AB",
    ),
    "of parallel training": (
        {"G_ema": under("module", A2B), "D": under("module", SCORES)},
        "G_ema",
    ),
    "compiled": ({"gen": under("_orig_mod", A2B), "step": torch.tensor(5)}, "gen"),
    "with counters inside": (
        {"G": {**A2B, "num_updates": torch.tensor(7), "decay": torch.tensor(0.999)}, "D": SCORES},
        "G",
    ),
    "by prefix, with a counter": (
        under("G", A2B) | under("D", SCORES) | {"G.num_updates": torch.tensor(7)},
        "G",
    ),
    "below its model": (under("model.netG", A2B) | under("model.netD", SCORES), "model.netG"),
}


def loaded(content: Any, folder: Path, key: str | None = None) -> Any:
    torch.save(content, folder / "networks.pth")
    return load_generator(folder / "networks.pth", key=key)


@pytest.mark.parametrize("name", ONE_GENERATOR)
def test_the_only_generator_is_taken_and_said(name: str, tmp_path: Path) -> None:
    content, key = ONE_GENERATOR[name]
    found = loaded(content, tmp_path)
    assert found.notes[0] == f"the generator {key!r} of this file (else --key)"
    assert torch.equal(found.network.state_dict()["model.1.weight"], A2B["model.1.weight"])
    named = loaded(content, tmp_path, key)
    assert torch.equal(named.network.state_dict()["model.1.weight"], A2B["model.1.weight"])
    assert not any("--key" in note for note in named.notes)


@pytest.mark.parametrize(
    ("content", "keys"),
    [
        ({"netG_A2B": A2B, "netG_B2A": B2A, "optimizer": ADAM}, ["netG_A2B", "netG_B2A"]),
        ({"G_ema": A2B, "G": B2A}, ["G_ema", "G"]),
        ({"netG": A2B, "netG_ema": B2A}, ["netG", "netG_ema"]),
        ({"params": A2B, "params_ema": B2A}, ["params", "params_ema"]),
        ({"state_dict": A2B, "ema_state_dict": B2A}, ["state_dict", "ema_state_dict"]),
        ({"model": {"G": A2B, "F": B2A}, "D": SCORES}, ["model.G", "model.F"]),
        (
            {"state_dict": under("gen_AB", A2B) | under("gen_BA", B2A)},
            ["state_dict.gen_AB", "state_dict.gen_BA"],
        ),
    ],
)
def test_of_several_one_has_to_be_named(content: Any, keys: list[str], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as refused:
        loaded(content, tmp_path)
    assert all(f"{key} (resnet generator, 0." in str(refused.value) for key in keys)
    assert f"--key {keys[0]}" in str(refused.value)
    for key, weights in zip(keys, (A2B, B2A), strict=True):
        network = loaded(content, tmp_path, key).network
        assert torch.equal(network.state_dict()["model.1.weight"], weights["model.1.weight"])


def test_the_end_of_a_key_is_enough_where_only_one_has_it(tmp_path: Path) -> None:
    content = {"state_dict": under("gen_AB", A2B) | under("gen_BA", B2A)}
    network = loaded(content, tmp_path, "gen_BA").network
    assert torch.equal(network.state_dict()["model.1.weight"], B2A["model.1.weight"])
    with pytest.raises(CheckpointError, match="holds several networks under --key G;"):
        loaded({"one": {"G": A2B}, "other": {"G": B2A}}, tmp_path, "G")


@pytest.mark.parametrize("wrapper", ["state_dict", "generator", "params_ema"])
def test_a_usual_wrapper_is_not_worth_a_word(wrapper: str, tmp_path: Path) -> None:
    notes = loaded({wrapper: A2B, "optimizer": ADAM, "epoch": 3}, tmp_path).notes
    assert not any("--key" in note for note in notes)


def test_a_discriminator_is_not_taken_for_a_generator_beside_it(tmp_path: Path) -> None:
    unknown = {"first.weight": torch.zeros(8, 3, 3, 3), "last.weight": torch.zeros(3, 8, 3, 3)}
    for content in (
        {"G": unknown, "D": SCORES},
        under("G", unknown) | under("D", SCORES),
    ):
        with pytest.raises(CheckpointError, match=r"under G what cannot be read: .*--arch"):
            loaded(content, tmp_path)
        assert load_network(
            tmp_path / "networks.pth", Reading(key="D")
        ).architecture.is_discriminator


def test_a_counter_beside_the_weights_is_passed_over(tmp_path: Path) -> None:
    found = loaded({**A2B, "num_updates": torch.tensor(7)}, tmp_path)
    assert torch.equal(found.network.state_dict()["model.1.weight"], A2B["model.1.weight"])


@pytest.mark.parametrize("lost", ["encoder", "stream", "inner", "decoder"])
def test_a_card_without_a_width_is_refused(lost: str, tmp_path: Path) -> None:
    torch.save(A2B, tmp_path / "teacher.pth")
    wkdc.prune(tmp_path / "teacher.pth", ratio=2, calibrate=0, output=tmp_path / "student.pth")
    content = torch.load(tmp_path / "student.pth", weights_only=True)
    del content["wkdc"]["options"][lost]
    torch.save(content, tmp_path / "student.pth")
    with pytest.raises(CheckpointError, match=f"card (lacks '{lost}'|is broken)"):
        load_generator(tmp_path / "student.pth")


def test_a_key_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing under --key G; it holds netG \(resnet"):
        loaded({"netG": A2B, "netD": SCORES}, tmp_path, "G")
    student = tmp_path / "student.pth"
    torch.save(A2B, tmp_path / "teacher.pth")
    wkdc.prune(tmp_path / "teacher.pth", ratio=2, calibrate=0, output=student)
    with pytest.raises(CheckpointError, match="holds one network"):
        load_generator(student, key="G")


def test_a_discriminator_is_found_where_one_is_wanted(tmp_path: Path) -> None:
    torch.save({"netG_A": A2B, "netD_A": SCORES}, tmp_path / "both.pth")
    assert load_discriminator(tmp_path / "both.pth").architecture.family == "patchgan"
    torch.save({"netD_A": SCORES, "optimizer": ADAM}, tmp_path / "scores.pth")
    with pytest.raises(CheckpointError, match="weights of a discriminator"):
        load_generator(tmp_path / "scores.pth")


def test_without_any_network_the_message_is_that_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no generator that wkdc knows"):
        loaded({"a.weight": torch.ones(3, 3), "b.weight": torch.ones(2)}, tmp_path)


def test_later_commands_read_the_teacher_as_prune_did(
    tmp_path: Path, photos: Path, call_wkdc: Call
) -> None:
    torch.save({"netG_A2B": A2B, "netG_B2A": B2A}, tmp_path / "teacher.pth")
    done = call_wkdc("prune", "teacher.pth", "--ratio", 2, "--calibrate", 2)
    assert done.code == 1
    assert "choose one, such as --key netG_A2B" in done.errors[0]
    done = call_wkdc("prune", "teacher.pth", "--ratio", 2, "--calibrate", 0, "--key", "netG_B2A")
    assert done.code == 0, done.stderr
    card = load_plain(tmp_path / "student.pth")["wkdc"]
    assert card["teacher"]["reading"] == {"key": "netG_B2A"}
    done = call_wkdc("profile", "--size", 64, "--rounds", 1, "--json")
    models = json.loads(done.stdout)["models"]
    assert models[0]["params"] == sum(value.numel() for value in B2A.values())
    done = call_wkdc("distill", "--data", photos, "--steps", 2, "--crop", 32, "--json")
    assert done.code == 0, done.stderr
    for command in ("evaluate", "analyze"):
        done = call_wkdc(command, "student.pth", "--data", photos, "--size", 64, "--json")
        assert done.code == 0, done.stderr
    assert "teacher.pth (there), key netG_B2A" in call_wkdc("info", "student.pth").stdout
    # Of its teacher the card knows better, also beside another file that has such a key.
    evaluate = ("evaluate", "student.pth", "--data", photos, "--size", 64, "--key", "netG_A2B")
    assert call_wkdc(*evaluate).stdout == call_wkdc(*evaluate[:-2]).stdout
    done = call_wkdc("info", "teacher.pth", "--key", "netG_A2B", "--json")
    assert json.loads(done.stdout)["params"] == sum(value.numel() for value in A2B.values())


def test_both_directions_may_come_from_one_file(
    tmp_path: Path, photos: Path, call_wkdc: Call
) -> None:
    torch.save({"netG_A2B": A2B, "netG_B2A": B2A}, tmp_path / "teacher.pth")
    prune = ("prune", "teacher.pth", "--ratio", 2, "--calibrate", 0)
    assert call_wkdc(*prune, "--key", "netG_A2B").code == 0
    reverse = ("--reverse", "teacher.pth", "--cycle", 1)
    distill = ("distill", "--data", photos, "--steps", 1, "--crop", 32, *reverse)
    done = call_wkdc(*distill)
    assert done.code == 1
    assert "--reverse-key" in done.errors[0]
    done = call_wkdc(*distill, "--reverse-key", "netG_B2A")
    assert done.code == 0, done.stderr
    options = json.loads((tmp_path / "runs/distill-001/options.json").read_text())
    assert options["request"]["reverse_key"] == "netG_B2A"
    done = call_wkdc("distill", "--data", photos, "--steps", 1, "--reverse-key", "netG_B2A")
    assert "name its file with --reverse" in done.errors[0]


def test_every_command_takes_a_key(tmp_path: Path, photos: Path, call_wkdc: Call) -> None:
    """Of files without a card: the student's one network needs none, and gets none.

    Students as in the test before, so that exports are shared.
    """
    torch.save({"netG_A2B": A2B, "netG_B2A": B2A}, tmp_path / "both.pth")
    torch.save(B2A, tmp_path / "teacher.pth")
    done = call_wkdc("prune", "teacher.pth", "--ratio", 2, "--calibrate", 0)
    assert done.code == 0, done.stderr
    data = ("--data", photos, "--size", 64)
    named = ("--teacher", "both.pth", "--key", "netG_B2A")
    for command in (
        ("evaluate", "student.pth", *named, *data, "--limit", 2),
        ("analyze", "student.pth", *named, *data, "--limit", 2),
        ("compare", "student.pth", *named, *data, "--count", 1),
        ("profile", "both.pth", "student.pth", *named[2:], "--size", 64, "--rounds", 1),
        ("report", "student.pth", *named, *data, "--limit", 2, "--count", 1),
        ("distill", *named, "--data", photos, "--steps", 1, "--crop", 32),
    ):
        without = [one for one in command if one not in named[2:]]
        assert "choose one, such as --key" in call_wkdc(*without).stderr
        done = call_wkdc(*command)
        assert done.code == 0, done.stderr
    card = load_plain(tmp_path / "student.pth")["wkdc"]
    assert card["teacher"]["reading"] == {"key": "netG_B2A"}
    done = call_wkdc("evaluate", "student.pth", *data, "--limit", 2)  # without saying it again
    assert done.code == 0, done.stderr


def test_a_norm_that_was_named_holds_for_the_teacher_too(tmp_path: Path, photos: Path) -> None:
    """A file of BatchNorm, read by each image's statistics, is the same teacher to all commands."""
    weights = unet_state_dict(1, downs=5, ngf=6)
    torch.save(weights, tmp_path / "teacher.pth")
    teacher = load_generator(tmp_path / "teacher.pth", norm="batch-per-image")
    student = tmp_path / "student.pth"
    wkdc.prune(teacher, ratio=2, calibrate=4, output=student)
    card = load_plain(student)["wkdc"]
    assert card["teacher"]["reading"] == {"norm": "batch-per-image"}
    result = wkdc.evaluate([student], photos, size=64)
    other = wkdc.evaluate([student], photos, size=64, teacher=tmp_path / "teacher.pth")
    assert result.scores[-1] == other.scores[-1]  # by its digest, wherever it is named


def test_nothing_of_a_reading_is_code() -> None:
    from wkdc.checkpoints.reading import Reading

    assert Reading(arch="os:abort").for_card() == {}
