"""The settings of a run: frozen, plain, and written down with it."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from wkdc.errors import OptionError
from wkdc.metrics.wavelet import check_wavelet
from wkdc.training.losses import Compared, Gan, Measure, Reduction

Schedule = Literal["linear", "cosine"]
Optimizer = Literal["adam", "adamw", "soap"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]

RATES: dict[Optimizer, float] = {"adam": 5e-4, "adamw": 5e-4, "soap": 1e-3}
"""The learning rate of a student that starts far from its teacher; see `rate_for`."""

FEATURES = 1.0
"""Weight of blocks' features where it is left open and they can be compared."""

FAR_DB = 26.0
"""A student that starts nearer than that, in PSNR over training crops, learns at a lower rate."""

HALVED_DB = 2.5
"""The rate is halved for each so many decibels beyond `FAR_DB`."""

LEAST_SHARE = 1 / 32
"""Of the rate, however near it starts: of one that is 38.5 dB from its teacher."""

SMALLEST_SCORED = 24
"""Of smaller crops, the discriminator's last norm would see a single value, which has no spread."""

MOST = {
    "ndf": 1024,
    "scales": 8,
    "levels": 16,
    "batch": 4096,
    "accumulate": 4096,
    "load_size": 16384,
    "crop": 8192,
    "reuse": 10**6,
}
"""Beyond these a value is a slip, or the record of a run is damaged."""


@dataclass(frozen=True)
class Recipe:
    """How a student learns.

    Attributes:
        name: what the preset is called.
        adversarial: weight of the GAN loss; at 0 no discriminator is built.
        gan: which one; see `wkdc.training.losses.generator_loss`.
        ndf: channels of the discriminator's first layer; the paper's best for its students is 32.
        scales: 1 for a PatchGAN, more for a multi-scale discriminator of so many.
        feature_matching: weight of the difference, layer by layer, of what a multi-scale
            discriminator says of the student's image and of the real one.
        image_pool: how many earlier fakes the discriminator is also shown, 0 for none.
        wavelet_weight, wavelet, levels, bands, measure, reduction: see
            `wkdc.training.losses.wavelet_loss`.
        pixel: weight of the mean absolute difference to the teacher's images.
        truth: the same to the true images of paired data.
        cycle: the same between an input and what the reverse generator makes of the student's
            image; counts where there is a reverse generator.
        identity: the same between a true image of the target domain and what the student
            makes of that; counts with unpaired data.
        features: weight of the difference of blocks' features; see `FeatureLoss`. None is
            `FEATURES` where student and teacher can be compared, else 0.
        optimizer, learning_rate, beta1: of the student and its discriminator. A rate of None goes
            by how near the student starts; see `rate_for`. SOAP has means of its own, not `beta1`.
        schedule: `linear` holds the rate for half of the run, then falls to 0 in a line; `cosine`
            falls from the start.
        batch: crops that go through the networks at once.
        accumulate: batches of a step, one after the other, so that memory holds only one.
        load_size: the shorter side that images are resized to before they are cropped.
        crop: side of the squares that are trained on.
        jitter: share of the crops that get other colours, see `wkdc.data.jitter`: a teacher labels
            any input. None do beside true images.
        reuse: how often a crop is used, on average, with one output of the teacher; 1 runs it anew
            for every step.
        average_from: share of the run after which the weights are averaged.
        epochs: the run's length where no other is asked for; None asks for `minutes`.
        minutes: likewise.
    """

    name: str
    adversarial: float
    gan: Gan
    ndf: int
    scales: int
    feature_matching: float
    image_pool: int
    wavelet_weight: float
    wavelet: str
    levels: int
    bands: Compared
    measure: Measure
    reduction: Reduction
    pixel: float
    features: float | None
    truth: float
    cycle: float
    identity: float
    optimizer: Optimizer
    learning_rate: float | None
    beta1: float
    schedule: Schedule
    batch: int
    accumulate: int
    load_size: int
    crop: int
    jitter: float
    reuse: int
    average_from: float
    epochs: int | None
    minutes: float | None

    def __post_init__(self) -> None:
        """Check every value where it enters.

        Raises:
            OptionError: a negative weight, a crop larger than the loaded image, ...
        """
        weights = (
            "adversarial",
            "feature_matching",
            "wavelet_weight",
            "pixel",
            "features",
            "truth",
            "cycle",
            "identity",
        )
        for name in weights:
            value = getattr(self, name)
            if value is not None and (not math.isfinite(value) or value < 0):
                raise OptionError(f"weight {name} is {value}; give 0 or a positive number")
        for name, most in MOST.items():
            if not 1 <= getattr(self, name) <= most:
                raise OptionError(f"{name} is {getattr(self, name)}; give 1 to {most}")
        if not any(getattr(self, name) != 0 for name in weights):
            raise OptionError("all loss weights are 0; nothing would be learned")
        if self.feature_matching and not self.adversarial:
            raise OptionError(
                f"feature-matching weight {self.feature_matching:g} would not be used: without an "
                "adversarial loss there is no discriminator; give --adversarial 1"
            )
        check_wavelet(self.wavelet)
        if not 0 <= self.jitter <= 1:
            raise OptionError(f"jitter is {self.jitter}; give a share of the crops, 0 to 1")
        if self.crop > self.load_size:
            raise OptionError(
                f"crop {self.crop} is larger than the {self.load_size} that images are resized "
                "to; lower --crop or raise --load-size"
            )
        if self.adversarial and self.crop < SMALLEST_SCORED:
            raise OptionError(
                f"crop {self.crop} is too small for a discriminator; give --crop "
                f"{SMALLEST_SCORED} or more, or --adversarial 0"
            )
        rate = self.learning_rate
        # Adam moves every weight by about so much a step.
        if rate is not None and not 0 < rate <= 1:
            raise OptionError(
                f"learning rate {rate} is not allowed; give a number above 0 and at "
                "most 1, such as 0.001"
            )

    @property
    def jittered(self) -> float:
        """`jitter` where the teacher alone says what is right, and 0 beside true images."""
        true_images = self.adversarial or self.truth or self.cycle or self.identity
        return 0.0 if true_images else self.jitter

    @property
    def images_per_step(self) -> int:
        """Images that one process sees a step."""
        return self.batch * self.accumulate


PAPER = Recipe(
    name="paper",
    adversarial=1.0,
    gan="lsgan",
    ndf=32,
    scales=1,
    feature_matching=0.0,
    image_pool=50,
    wavelet_weight=0.4,
    wavelet="haar",
    levels=4,
    bands="high",
    measure="l1",
    reduction="levels",
    pixel=0.0,
    features=0.0,
    truth=100.0,
    cycle=10.0,
    identity=5.0,
    optimizer="adam",
    learning_rate=2e-4,
    beta1=0.5,
    schedule="linear",
    batch=1,
    accumulate=1,
    load_size=286,
    crop=256,
    jitter=0.0,
    reuse=1,
    average_from=0.0,
    epochs=200,
    minutes=None,
)
"""Zhang et al. 2022, section 4.1 and the authors' code."""

FAITHFUL = Recipe(
    name="faithful",
    adversarial=0.0,
    gan="lsgan",
    ndf=32,
    scales=1,
    feature_matching=0.0,
    image_pool=50,
    wavelet_weight=16.0,
    wavelet="haar",
    levels=4,
    bands="high",
    measure="l1",
    reduction="pixels",
    pixel=1.0,
    features=None,
    truth=0.0,
    cycle=0.0,
    identity=0.0,
    optimizer="soap",
    learning_rate=None,
    beta1=0.9,
    schedule="cosine",
    batch=4,
    accumulate=1,
    load_size=256,
    crop=128,
    jitter=0.5,
    reuse=6,
    average_from=0.5,
    epochs=None,
    minutes=30.0,
)
"""What brings a student nearest to its teacher in minutes: docs/results.md has the figures."""


CYCLEGAN = replace(PAPER, name="cyclegan", ndf=64, wavelet_weight=0.0, truth=0.0)
"""Zhu et al. 2017, as pytorch-CycleGAN-and-pix2pix has it: no teacher."""

PIX2PIX = replace(CYCLEGAN, name="pix2pix", gan="vanilla", truth=100.0, cycle=0.0, identity=0.0)
"""Isola et al. 2017, likewise; without the dropout that their generator keeps in use."""

PIX2PIXHD = replace(
    PIX2PIX, name="pix2pixhd", gan="lsgan", scales=2, feature_matching=10.0, truth=0.0
)
"""Wang et al. 2018, with the global generator alone, and without the loss of VGG's features."""


def recipe_named(name: str) -> Recipe:
    """The preset called `name`.

    Raises:
        OptionError: an unknown name.
    """
    match name:
        case "paper":
            return PAPER
        case "faithful":
            return FAITHFUL
        case _:
            raise OptionError(f"recipe {name!r} is not known; choose faithful or paper")


def rate_for(psnr_db: float, optimizer: Optimizer) -> float:
    """The learning rate for a student that starts so near to its teacher, on training crops.

    One that starts near has little to learn, and a rate that is right for a far one takes it
    further away: docs/results.md has the figures.
    """
    share = math.pow(0.5, max(0.0, (psnr_db - FAR_DB) / HALVED_DB))
    return RATES[optimizer] * max(LEAST_SHARE, share)
