"""pix2pixHD's discriminator: its files, what it says, its losses, and making it smaller."""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import LABELS, Called
from originals import multiscale_forward, multiscale_state_dict, patchgan_state_dict
from torch import Tensor, nn

from wkdc.checkpoints.checkpoint import load_discriminator, load_generator
from wkdc.data.calibration import read_calibration
from wkdc.errors import CheckpointError, OptionError
from wkdc.networks.multiscale import MultiscaleDiscriminator, layer_outputs
from wkdc.networks.patchgan import PatchGAN
from wkdc.prune import prune
from wkdc.pruning.width_search import TOLERANCE
from wkdc.training.losses import discriminator_loss, feature_loss, generator_loss
from wkdc.training.objective import Batch, Objective
from wkdc.training.recipe import PAPER, PIX2PIXHD

# Both sides do the same float32 sums, perhaps in another order: one rounding is 6e-8, and five
# layers with values of order 1 stay far below this. A wrong layer is beyond 1e-2.
SAME = 1e-5

PRUNED = [[3, 5, 9, 4], [2, 7, 6, 8], [5, 5, 5, 5]]

KINDS: dict[str, dict[str, Any]] = {
    f"{scales} scales, {'apart' if apart else 'joined'}, {norm}": {
        "scales": scales,
        "apart": apart,
        "norm": norm,
    }
    for scales, apart, norm in itertools.product((1, 2, 3), (True, False), ("instance", "batch"))
} | {
    "two layers": {"layers": 2},
    "pruned": {"scales": 3, "widths": PRUNED},
    "pruned, joined": {"scales": 3, "widths": PRUNED, "apart": False},
}


def load(folder: Path, state_dict: dict[str, Tensor]) -> Any:
    torch.save(state_dict, folder / "latest_net_D.pth")
    return load_discriminator(folder / "latest_net_D.pth")


@pytest.mark.parametrize("name", KINDS)
@torch.no_grad()
def test_it_scores_as_the_original_does(name: str, tmp_path: Path) -> None:
    options = KINDS[name]
    state_dict = multiscale_state_dict(5, **options)
    images = torch.rand(2, 6, 44, 60, generator=torch.Generator().manual_seed(1)) * 2 - 1
    loaded = load(tmp_path, state_dict)
    assert loaded.architecture.family == "multiscale"
    assert loaded.in_channels == 6
    shared = {k: v for k, v in options.items() if k != "widths"}
    expected = multiscale_forward(state_dict, images, **shared)
    found = layer_outputs(loaded.network, images)
    assert [len(layers) for layers in found] == [len(layers) for layers in expected]
    for ours, theirs in zip(found, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert float(b.std()) > 0.02  # else a wrong layer would hide
            assert float((a - b).abs().max()) <= SAME
    scores = torch.cat([layers[-1].flatten(1) for layers in expected], 1)
    assert float((loaded.network(images) - scores).abs().max()) <= SAME
    assert {k: v.shape for k, v in loaded.network.state_dict().items()} == {
        k: v.shape for k, v in state_dict.items()
    }


def test_the_stock_one_has_the_stock_size() -> None:
    """Two scales for 35 labels, their edges and an image, counted by hand."""
    network = MultiscaleDiscriminator(39)
    one = 39 * 64 * 16 + 64 + 64 * 128 * 16 + 128 + 128 * 256 * 16 + 256 + 256 * 512 * 16 + 512
    assert sum(p.numel() for p in network.parameters()) == 2 * (one + 512 * 16 + 1)


def test_widths_and_scales_are_told_from_the_file(tmp_path: Path) -> None:
    options = load(tmp_path, multiscale_state_dict(0, scales=3, widths=PRUNED)).architecture.options
    assert options["widths"] == PRUNED
    assert (options["norm"], options["affine"], options["bias"]) == ("instance", False, True)


def test_files_that_are_almost_one(tmp_path: Path) -> None:
    whole = multiscale_state_dict(0)
    torch.save({k: v for k, v in whole.items() if "layer2" not in k}, tmp_path / "d.pth")
    with pytest.raises(CheckpointError, match=r"d\.pth: .*does not fit"):
        load_discriminator(tmp_path / "d.pth")
    torch.save(whole, tmp_path / "d.pth")
    with pytest.raises(CheckpointError, match="these are the weights of a discriminator"):
        load_generator(tmp_path / "d.pth")


# Losses


def test_feature_loss_by_hand() -> None:
    """Two scales of two layers: four times the mean of the layers' mean absolute differences."""
    real = [[torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 1, 1)] for _ in range(2)]
    fake = [
        [torch.full((1, 1, 2, 2), 1.0), torch.full((1, 2, 1, 1), -3.0)],
        [torch.full((1, 1, 2, 2), 0.5), torch.zeros(1, 2, 1, 1)],
    ]
    assert feature_loss(fake, real).item() == pytest.approx(4 * (1 + 3 + 0.5 + 0) / 4)
    assert feature_loss(real, real).item() == 0


def test_feature_loss_is_that_of_pix2pixhd_for_its_stock_layers() -> None:
    """With four layers before the scores: their sum, the mean over scales."""
    values = torch.Generator().manual_seed(0)
    fake, real = (
        [[torch.randn(2, 3, 4, 5, generator=values) for _ in range(4)] for _ in range(3)]
        for _ in range(2)
    )
    expected = sum(
        (1 / 3) * (a - b).abs().mean()
        for ours, theirs in zip(fake, real, strict=True)
        for a, b in zip(ours, theirs, strict=True)
    )
    assert feature_loss(fake, real).item() == pytest.approx(float(expected), rel=1e-6)


def test_no_gradient_goes_to_the_real_features() -> None:
    fake, real = torch.ones(1, 1, 2, 2, requires_grad=True), torch.zeros(1, 1, 2, 2)
    real.requires_grad_(True)
    feature_loss([[fake]], [[real]]).backward()
    assert real.grad is None
    assert fake.grad is not None
    assert float(fake.grad.sum()) == pytest.approx(4)


def objective_of(network: nn.Module, **changes: object) -> Objective:
    recipe = dataclasses.replace(PIX2PIXHD, crop=32, load_size=40, **changes)
    return Objective(recipe, network, conditional=True, forward=lambda net, x: net(x), seed=0)


def test_the_objective_sums_over_scales_and_weighs_features() -> None:
    torch.manual_seed(0)
    network = MultiscaleDiscriminator(4 + 3, widths=[[3, 4, 5, 6]] * 2)
    objective = objective_of(network)
    inputs, real, generated = (
        torch.rand(2, 4, 32, 32),
        torch.rand(2, 3, 32, 32),
        torch.rand(2, 3, 32, 32),
    )
    batch = Batch(inputs, None, real, real)
    losses = objective.student_losses(nn.Identity(), generated, batch)
    assert list(losses) == ["adversarial", "feature_matching", "total"]
    fakes, reals = (layer_outputs(network, torch.cat([inputs, x], 1)) for x in (generated, real))
    adversarial = sum(generator_loss(layers[-1]) for layers in fakes)
    feature = feature_loss(*([layers[:-1] for layers in found] for found in (fakes, reals)))
    assert losses["adversarial"].item() == pytest.approx(float(adversarial), rel=1e-6)
    assert losses["feature_matching"].item() == pytest.approx(feature.item(), rel=1e-6)
    total = float(adversarial) + 10 * feature.item()
    assert losses["total"].item() == pytest.approx(total, rel=1e-6)
    loss = objective.discriminator_loss(generated, batch)
    expected = sum(discriminator_loss(a[-1], b[-1]) for a, b in zip(reals, fakes, strict=True))
    assert loss is not None
    assert loss.item() == pytest.approx(float(expected), rel=1e-6)


def test_features_teach_the_student_alone() -> None:
    torch.manual_seed(0)
    network = MultiscaleDiscriminator(4 + 3, widths=[[3, 4]] * 2)
    student = nn.Conv2d(4, 3, 1)
    inputs, real = torch.rand(1, 4, 32, 32), torch.rand(1, 3, 32, 32)
    losses = objective_of(network).student_losses(
        student, student(inputs), Batch(inputs, None, real)
    )
    losses["feature_matching"].backward()
    assert student.weight.grad is not None
    assert float(student.weight.grad.abs().sum()) > 0
    assert all(weight.grad is None for weight in network.parameters())


def test_at_the_real_picture_features_are_matched() -> None:
    torch.manual_seed(0)
    network = MultiscaleDiscriminator(4 + 3, widths=[[3, 4]] * 2)
    inputs, real = torch.rand(1, 4, 32, 32), torch.rand(1, 3, 32, 32)
    batch = Batch(inputs, None, real)
    losses = objective_of(network).student_losses(nn.Identity(), real, batch)
    assert losses["feature_matching"].item() == 0


def test_a_patchgan_has_scores_alone() -> None:
    network = PatchGAN(3, widths=(4, 8))
    images = torch.rand(1, 3, 32, 32)
    ((scores,),) = layer_outputs(network, images)
    assert torch.equal(scores, network(images))


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(OptionError, match="feature-matching weight 10 would not be used"):
        dataclasses.replace(PAPER, feature_matching=10.0, adversarial=0.0)
    with pytest.raises(OptionError, match="scales is 0"):
        dataclasses.replace(PAPER, scales=0)
    with pytest.raises(OptionError, match="weight feature_matching is -1"):
        dataclasses.replace(PAPER, feature_matching=-1.0)


# Making it smaller


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("ratio", [2, 4, 15])
def test_the_ratio_is_met(ratio: float, apart: bool, tmp_path: Path) -> None:
    state_dict = multiscale_state_dict(0, scales=3, ndf=16, in_channels=9, apart=apart)
    torch.save(state_dict, tmp_path / "net_D.pth")
    result = prune(tmp_path / "net_D.pth", ratio=ratio, output=tmp_path / "d.pth", calibrate=0)
    assert result.params_ratio == pytest.approx(ratio, rel=TOLERANCE)
    again = load_discriminator(tmp_path / "d.pth")
    assert again.architecture == result.architecture
    assert again.network(torch.rand(1, 9, 32, 32)).shape[0] == 1


def test_it_is_reconstructed_on_label_maps_and_images(label_data: Path, tmp_path: Path) -> None:
    channels = LABELS + 1 + 3
    torch.save(multiscale_state_dict(0, ndf=16, in_channels=channels), tmp_path / "net_D.pth")
    (image, *_) = read_calibration(load_discriminator(tmp_path / "net_D.pth"), label_data, 3).images
    assert image.shape == (1, channels, 192, 192)
    assert set(image[:, : LABELS + 1].unique().tolist()) == {0, 1}
    assert float(image[:, LABELS + 1 :].min()) < 0
    said: list[str] = []
    result = prune(
        tmp_path / "net_D.pth",
        ratio=4,
        output=tmp_path / "d.pth",
        data=label_data,
        calibrate=3,
        on_notice=said.append,
    )
    assert result.params_ratio == pytest.approx(4, rel=TOLERANCE)
    assert result.calibrated_on == 3
    assert all(layer.after <= layer.before for layer in result.layers)
    assert len(result.layers) == 2 * 5
    assert said == []
    assert result.psnr_db is None  # scores are no images


def test_the_command_names_its_channels(
    call_wkdc: Callable[..., Called], tmp_path: Path, photos: Path
) -> None:
    torch.save(multiscale_state_dict(0, ndf=8, in_channels=9), tmp_path / "latest_net_D.pth")
    done = call_wkdc("prune", "latest_net_D.pth", "--ratio", 4)
    assert done.code == 0, done.stderr
    assert "reads 9 channels and the bundled photos have 3" in " ".join(done.stderr.split())
    assert "--discriminator discriminator.pth" in " ".join(done.stdout.split())
    shown = call_wkdc("info", "discriminator.pth")
    assert "multiscale" in shown.stdout
    refused = call_wkdc("prune", "latest_net_D.pth", "--ratio", 4, "--data", photos)
    assert refused.code == 1
    assert "is shown 9 channels at once" in refused.errors[0]


def test_other_discriminators_have_no_features(tmp_path: Path) -> None:
    torch.save(patchgan_state_dict(0, ndf=4), tmp_path / "d.pth")
    assert load_discriminator(tmp_path / "d.pth").architecture.family == "patchgan"
