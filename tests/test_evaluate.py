"""The figures are those of torch-fidelity and torchmetrics on the same images, and mean the same
every time."""

import functools
import json
import shutil
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_fidelity
import torchvision
from conftest import PHOTOS, Called
from PIL import Image
from torch_fidelity.sample_similarity_lpips import SampleSimilarityLPIPS

import wkdc
from wkdc.data.images import load_square
from wkdc.data.photos import photo_paths
from wkdc.errors import OptionError
from wkdc.metrics.bootstrap import bootstrap_interval
from wkdc.metrics.distribution import Distance, find_extractor, measure_distance
from wkdc.metrics.fidelity import mean_fidelity
from wkdc.metrics.lpips import LPIPS_FILES, load_lpips

Call = Callable[..., Called]

# Photos for features: enough for a set, small enough to be fast.
MANY = 12


@pytest.fixture
def domains(tmp_path: Path) -> Path:
    """`trainA`, `trainB`, `testA`, `testB` with small photos."""
    paths = photo_paths()
    for place, name in enumerate(("testA", "testB", "trainA", "trainB")):
        part = tmp_path / "domains" / name
        part.mkdir(parents=True)
        for path in paths[place % 2 :: 2][:MANY] if name.startswith("test") else paths[:2]:
            with Image.open(path) as photo:
                photo.convert("RGB").resize((72, 64)).save(part / f"{path.stem}.png")
    return tmp_path / "domains"


def test_scores_are_those_of_the_images_kept(student: Path, photos: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    done = wkdc.evaluate([student], photos, size=64, keep=kept)
    names = [score.name for score in done.scores]
    assert names == ["input", "teacher", str(student)]
    assert done.protocol.inputs == PHOTOS  # of a plain folder, all
    folders = sorted(folder for folder in kept.iterdir() if folder.is_dir())
    for folder, score in zip(folders, done.scores, strict=True):
        outputs = [load_square(path, 64) for path in sorted(folder.iterdir())]
        targets = [load_square(path, 64) for path in sorted(folders[1].iterdir())]
        if score.name == "teacher":
            assert score.to_teacher is None
            continue
        by_hand = mean_fidelity(zip(outputs, targets, strict=True))
        assert score.to_teacher is not None
        # The same 8 bits, the same sums.
        assert score.to_teacher.psnr_db.mean == pytest.approx(by_hand.psnr_db, rel=1e-9)
        assert score.to_teacher.high_band_error.mean == pytest.approx(
            by_hand.high_band_error, rel=1e-6
        )
        assert score.to_teacher.psnr_db.low <= by_hand.psnr_db <= score.to_teacher.psnr_db.high


@pytest.mark.usefixtures("few_features")
def test_sets_are_compared_as_torch_fidelity_compares_them(
    call_wkdc: Call, student: Path, domains: Path
) -> None:
    kept = domains.parent / "kept"
    arguments = ("--data", domains, "--size", 64, "--features", "efficientnet", "--keep", kept)
    called = call_wkdc("evaluate", student, *arguments, "--json")
    assert called.code == 0, called.stderr
    said = json.loads(called.stdout)
    assert said["protocol"]["inputs"] == said["protocol"]["domain"] == MANY
    assert said["protocol"]["kid_subset_size"] == MANY // 2
    extractor = find_extractor("efficientnet")
    assert said["protocol"]["extractor_sha256"] == extractor.sha256
    direct = torch_fidelity.calculate_metrics(
        input1=str(kept / "2-student"),
        input2=str(kept / "domain"),
        fid=True,
        kid=True,
        prc=True,
        cuda=False,
        kid_subset_size=MANY // 2,
        rng_seed=0,
        cache=False,
        verbose=False,
        save_cpu_ram=True,
        feature_extractor=extractor.name,
        feature_extractor_weights_path=str(extractor.weights),
    )
    found = said["scores"][2]["from_domain"]
    # The same images, features and seed; batches of another size add in another order.
    assert found["fid"] == pytest.approx(direct["frechet_inception_distance"], rel=1e-3)
    assert found["kid"] == pytest.approx(direct["kernel_inception_distance_mean"], abs=1e-5)
    assert found["precision"] == direct["precision"]
    assert found["recall"] == direct["recall"]
    assert said["scores"][1]["from_teacher"] is None
    assert any("FID of 12 images" in warning for warning in said["warnings"])
    table = call_wkdc("evaluate", student, "--data", domains, "--size", 64)
    assert table.code == 0
    assert "teacher: PSNR, dB" in table.stdout
    assert "FID" not in table.stdout


def measure(one: Path, other: Path, cache: Path) -> Distance:
    """The distance of two folders; with subsets of all images, KID is one number."""
    return measure_distance(
        one,
        other,
        find_extractor("efficientnet"),
        subset_size=MANY,
        seed=0,
        device=torch.device("cpu"),
        cache=cache,
    )


@pytest.fixture
def same(domains: Path) -> Path:
    """The images of `testA` in reverse order."""
    folder = Path(shutil.copytree(domains / "testA", domains / "same"))
    for number, path in enumerate(sorted(folder.iterdir(), reverse=True)):
        path.rename(folder / f"{number}.png")
    return folder


def test_equal_sets_have_no_distance(domains: Path, same: Path, tmp_path: Path) -> None:
    """Of all features."""
    equal = measure(domains / "testA", same, tmp_path / "features")
    # FID of equal sets is the rounding of a matrix root of float64 covariances in 1280 dimensions.
    assert abs(equal.fid) < 1e-2
    assert (equal.precision, equal.recall) == (1, 1)
    (features, _) = (torch.load(file) for file in (tmp_path / "features").rglob("*feat*.pt"))
    assert features.shape == (MANY, 1280)


@pytest.mark.usefixtures("few_features")
def test_distances_are_the_same_in_any_order(domains: Path, same: Path, tmp_path: Path) -> None:
    apart, shuffled = (
        measure(one, domains / "testB", tmp_path / one.name) for one in (domains / "testA", same)
    )
    assert apart.fid > 10
    assert shuffled.fid == pytest.approx(apart.fid, rel=1e-3)
    # The same sums in another order.
    assert shuffled.kid == pytest.approx(apart.kid, abs=1e-5)


def test_an_onnx_file_scores_as_its_source(student: Path, onnx_student: Path, photos: Path) -> None:
    done = wkdc.evaluate([student, onnx_student], photos, size=64, limit=3)
    ours, theirs = (score.to_teacher for score in done.scores[2:])
    assert ours is not None
    assert theirs is not None
    # They agree to 1e-4; a few pixels fall on the other side of a half.
    assert ours.psnr_db.mean == pytest.approx(theirs.psnr_db.mean, abs=0.05)
    assert ours.ssim.mean == pytest.approx(theirs.ssim.mean, abs=1e-3)
    # Its card names the same teacher, unless that was left behind.
    alone = wkdc.evaluate([onnx_student], photos, size=64, limit=3)
    assert alone.scores[2].to_teacher == theirs
    (student.parent / "teacher.pth").unlink()
    with pytest.raises(OptionError, match="nothing to compare with"):
        wkdc.evaluate([onnx_student], photos, size=64)


def test_paired_data_brings_the_truth(teacher: Path, tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / "paired" / part).mkdir(parents=True)
        for path in photo_paths()[:3]:
            with Image.open(path) as photo:
                photo.convert("RGB").resize((128, 64)).save(
                    tmp_path / "paired" / part / f"{path.stem}.png"
                )
    done = wkdc.evaluate([teacher], tmp_path / "paired", size=64)
    assert [score.name for score in done.scores] == ["input", str(teacher)]
    assert all(score.to_truth is not None for score in done.scores)
    assert done.protocol.teacher is None
    assert done.protocol.domain == 3


def test_the_interval_holds_the_mean() -> None:
    exact = bootstrap_interval([3.0] * 5, seed=0)
    assert (exact.mean, exact.low, exact.high) == (3.0, 3.0, 3.0)
    few = bootstrap_interval([1.0, 2.0, 6.0], seed=0)
    many = bootstrap_interval([1.0, 2.0, 6.0] * 50, seed=0)
    assert few.low < few.mean == many.mean == 3.0 < few.high
    assert many.high - many.low < few.high - few.low


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "give --data FOLDER"),
        (("--data", "photos", "--limit", 1), 2, "2 images or more"),
        (("--data", "photos", "--size", 16), 2, "give 64 or more"),
        (("--data", "photos", "--weights", "x.pth"), 2, "would not be used"),
        (("--data", "photos", "--features", "efficientnet", "--weights", "x"), 2, "its own"),
        (("--data", "photos", "--features", "inception", "--weights", "x"), 1, "does not exist"),
        (
            ("--data", "photos", "--features", "inception", "--weights", "teacher.pth"),
            1,
            "not the Inception that FID",
        ),
        (("--data", "photos", "--features", "efficientnet"), 2, "8 are the least"),
        (("--data", "photos", "--keep", "photos"), 1, "photos exists; give another folder"),
        (("--data", "photos", "--teacher", "gone.pth"), 1, "gone.pth"),
        (("--data", "empty"), 1, "empty"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else None,
)
@pytest.mark.usefixtures("student", "photos")
def test_wrong_use_says_what_to_do(
    call_wkdc: Call, tmp_path: Path, arguments: tuple[object, ...], code: int, said: str
) -> None:
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    called = call_wkdc("evaluate", "student.pth", *arguments)
    assert called.code == code, called.stderr
    assert len(called.errors) == 1
    assert said in called.errors[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_model_without_a_teacher_needs_something_to_be_compared_with(
    call_wkdc: Call, teacher: Path, photos: Path
) -> None:
    called = call_wkdc("evaluate", teacher, "--data", photos, "--size", 64)
    assert called.code == 2
    assert "nothing to compare with" in called.errors[0]


@pytest.fixture
def lpips_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """PyTorch's hub folder with weights of LPIPS's shapes, at random, as after a download."""
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(0)
    with torch.device("meta"):
        vgg = torchvision.models.vgg16()
    # What LPIPS does not read, three matrices of 0.5 GB, is one number that stands for all.
    shapes = {name: of.shape for name, of in vgg.state_dict().items()}
    weights = {
        name: torch.zeros(1).expand(shape) if "classifier" in name else torch.randn(shape) / 20
        for name, shape in shapes.items()
    }
    torch.save(weights, folder / LPIPS_FILES[1])
    channels = (64, 128, 256, 512, 512)
    last = {f"lin{n}.model.1.weight": torch.rand(1, c, 1, 1) for n, c in enumerate(channels)}
    torch.save(last, folder / LPIPS_FILES[0])
    return folder


@pytest.mark.usefixtures("lpips_weights")
def test_lpips_is_torch_fidelitys(
    call_wkdc: Call, student: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Building VGG16 takes seconds.
    monkeypatch.setattr(sys.modules["wkdc.evaluate"], "load_lpips", functools.cache(load_lpips))
    copy = Path(shutil.copy(student.with_name("teacher.pth"), student.with_name("copy.pth")))
    teacher = ("--teacher", student.with_name("teacher.pth"))
    arguments = (student, copy, *teacher, "--data", photos, "--size", 64, "--limit", 2, "--lpips")
    called = call_wkdc("evaluate", *arguments, "--keep", "kept", "--json")
    assert called.code == 0, called.stderr
    said = json.loads(called.stdout)
    assert set(said["protocol"]["lpips_sha256"]) == set(LPIPS_FILES)
    distance = SampleSimilarityLPIPS("lpips-vgg16", None, "uint8")
    folders = sorted(path for path in Path("kept").iterdir())
    images = [
        [
            torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1).unsqueeze(0)
            for path in sorted(folder.glob("*.png"))
        ]
        for folder in folders[:3]
    ]
    for place, score in ((0, said["scores"][0]), (2, said["scores"][2])):
        pairs = zip(images[place], images[1], strict=True)
        wanted = statistics.fmean(float(distance(one, other)) for one, other in pairs)
        # float32, and the same images of 8 bits.
        assert score["to_teacher"]["lpips"]["mean"] == pytest.approx(wanted, rel=1e-5)
        assert wanted > 0
    assert "LPIPS" in call_wkdc("evaluate", *arguments).stdout
    assert said["scores"][-1]["to_teacher"]["lpips"] == {"mean": 0, "low": 0, "high": 0}


def test_weights_of_lpips_that_cannot_be_had_are_named(
    call_wkdc: Call, lpips_weights: Path, student: Path, photos: Path
) -> None:
    (lpips_weights / LPIPS_FILES[0]).write_text("no weights")
    called = call_wkdc("evaluate", student, "--data", photos, "--lpips")
    assert called.code == 1
    assert len(called.errors) == 1
    assert str(lpips_weights) in called.errors[0]
    assert LPIPS_FILES[1] in called.errors[0]
