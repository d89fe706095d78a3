"""One page on a student beside its teacher: size, speed and what was lost."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wkdc.analyze import analyze
from wkdc.checkpoints.checkpoint import Generator
from wkdc.checkpoints.reading import Reading
from wkdc.data.folders import Data, ImageFolder, as_folder, evenly_spread
from wkdc.data.inputs import Reader
from wkdc.data.layouts import Direction
from wkdc.errors import CheckpointError, MissingExtraError, OptionError, ParityError
from wkdc.evaluate import evaluate
from wkdc.inference.comparison import SMALLEST, open_comparison
from wkdc.metrics.fidelity import most_different_square, psnr_db
from wkdc.metrics.wavelet import LEVELS
from wkdc.networks.layers import Norm
from wkdc.onnx.file import OnnxNetwork
from wkdc.onnx.parity import example_images, measure_parity
from wkdc.profile import profile
from wkdc.reporting.charts import check_matplotlib
from wkdc.reporting.facts import ComparedImage, Exported, Facts, File
from wkdc.reporting.given_results import COMMANDS, read_given_results
from wkdc.reporting.page import render_page
from wkdc.reporting.page_tables import summarise
from wkdc.reporting.results import Made, to_plain
from wkdc.reporting.subject import Subject, find_subject
from wkdc.system.files import check_writable, sha256_of, write_atomically
from wkdc.system.units import counted, megabytes

SIZE = 256
"""Height and width that images are compared at."""

ZOOM = 4
"""How many times smaller than the image the detail is."""

LARGE_BYTES = 5_000_000
"""A larger page is slow to send and to open, and gets a warning."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class ReportResult:
    """A page that was written.

    Attributes:
        run: the folder of the run that trained the student, None without one.
        measured: the commands that were run for it, and not read from a file.
        summary: the most important figures, as at the top of the page.
        warnings: limits of the figures; they are on the page, too.
    """

    output: Path
    size_bytes: int
    student: Path
    teacher: Path
    run: Path | None
    measured: tuple[str, ...]
    summary: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Settings:
    """What the models are measured with; see `report`."""

    data: ImageFolder
    size: int
    limit: int | None
    direction: Direction
    reading: Reading
    device: str
    seed: int


def report(
    model: str | Path = "student.pth",
    data: Data | None = None,
    *,
    output: str | Path = "report.html",
    results: Sequence[str | Path] = (),
    teacher: str | Path | None = None,
    count: int = 4,
    size: int = SIZE,
    limit: int | None = None,
    direction: Direction | None = None,
    norm: Norm | None = None,
    key: str | None = None,
    arch: str | None = None,
    device: str = "cpu",
    seed: int = 0,
    on_progress: Progress | None = None,
) -> ReportResult:
    """Measure a student beside its teacher, and write one HTML file that shows it.

    The page shows images, scores, wavelet bands, size, latency, the curves of the run that trained
    the student, the agreement of its .onnx, and how all of it was made.

    Args:
        model: a student's .pth, or the folder of a run, whose latest student is taken.
        data: a folder of images, see `wkdc.evaluate`; by default what the student was trained
            on.
        output: the .html to write; replaced if it exists.
        results: JSON files of `wkdc profile`, `evaluate` and `analyze`, shown instead of measuring
            again.
        teacher: by default the one on the student's card.
        count: images to show, evenly spread over the test images.
        size: height and width that images are compared and timed at.
        limit: use only the first `limit` images.
        direction: by default the one that the student was trained in.
        norm, key, arch: of .pth files that cannot tell, see `load_generator`.
        on_progress: called with the current stage and the share of it that is done.

    Raises:
        OptionError: no images, a result of other files, or an output that does not end in .html.
        CheckpointError: there is no student, or its teacher does not exist.
        MissingExtraError: the packages of the extra `report` are not installed.
        DeviceError, DatasetError, ImageError, OutputError: see `open_comparison`.
    """
    tell = on_progress or (lambda stage, share: None)
    path = Path(output)
    _check(path, count, size, limit)
    reading = Reading(norm=norm, key=key, arch=arch)
    subject = find_subject(Path(model), teacher, reading)
    folder = as_folder(data) if data is not None else subject.data
    if folder is None:
        raise OptionError(
            f"no images to translate: {subject.student.path} does not say what it was trained on; "
            "give --data FOLDER"
        )
    given = read_given_results(results, subject)
    settings = _Settings(folder, size, limit, direction or subject.direction, reading, device, seed)
    found = {name: given.get(name) or _measure(name, subject, settings, tell) for name in COMMANDS}
    facts = _facts(subject, settings, found, _images(subject, settings, count, tell))
    text = render_page(facts).encode(errors="backslashreplace")  # names may be no text
    write_atomically(path, lambda file: file.write_bytes(text))
    warnings, size_bytes = tuple(facts.warnings), path.stat().st_size
    if size_bytes > LARGE_BYTES:
        said = f"the page has {megabytes(size_bytes)}; a smaller --count makes it smaller"
        warnings = (*warnings, said)
    return ReportResult(
        output=path,
        size_bytes=size_bytes,
        student=subject.student.path,
        teacher=subject.teacher.path,
        run=None if subject.record is None else subject.record.path,
        measured=tuple(name for name in COMMANDS if name not in given),
        summary=tuple(f"{value} {name} ({note})" for value, name, note in summarise(facts)),
        warnings=warnings,
    )


def _check(output: Path, count: int, size: int, limit: int | None) -> None:
    """Check, before minutes of work, that the page can be made."""
    if output.suffix.lower() not in (".html", ".htm"):
        raise OptionError(f"output {output} does not end in .html; give such as report.html")
    if count < 1:
        raise OptionError(f"count is {count}; give 1 image or more")
    if size < SMALLEST or size % 2**LEVELS:
        raise OptionError(
            f"size {size} is not allowed; give a multiple of {2**LEVELS}, {SMALLEST} or more"
        )
    if limit is not None and limit < 2:
        raise OptionError(f"limit is {limit}; give 2 images or more")
    if importlib.util.find_spec("jinja2") is None:
        raise MissingExtraError("a report needs Jinja2: pip install 'wkdc[report]'")
    check_matplotlib("a report", "report")
    check_writable(output)


def _measure(name: str, subject: Subject, settings: _Settings, tell: Progress) -> Any:
    """Run one of `COMMANDS`; its result as `--json` prints it."""
    said = settings.reading
    if name == "profile":
        return to_plain(
            profile(
                [subject.teacher.path, subject.student.path],
                size=(settings.size, settings.size),
                device=settings.device,
                norm=said.norm,
                key=said.key,
                arch=said.arch,
                on_round=lambda done, total: tell("timing", done / total),
            )
        )
    measure: Callable[..., Any] = evaluate if name == "evaluate" else analyze
    stage = "translating for " + ("scores" if name == "evaluate" else "bands")
    return to_plain(
        measure(
            subject.models,
            settings.data,
            teacher=subject.teacher.path,
            size=settings.size,
            limit=settings.limit,
            direction=settings.direction,
            norm=said.norm,
            key=said.key,
            arch=said.arch,
            device=settings.device,
            seed=settings.seed,
            on_progress=lambda _, share: tell(stage, share),
        )
    )


def _facts(
    subject: Subject,
    settings: _Settings,
    found: Mapping[str, Mapping[str, Any]],
    images: Sequence[ComparedImage],
) -> Facts:
    """Everything on the page, with its warnings."""
    exported, notes = _exported(subject)
    trained, used = subject.direction, settings.direction
    other = f"the student was trained {trained}, and is used {used} here" if used != trained else ""
    return Facts(
        teacher=_file(subject.teacher),
        student=_file(subject.student),
        widths=subject.widths(),
        history=(subject.student.card or {}).get("history", []),
        profile=found["profile"],
        evaluation=found["evaluate"],
        analysis=found["analyze"],
        labels=subject.labels(),
        images=images,
        record=subject.record,
        exported=exported,
        warnings=(
            *subject.warnings,
            *filter(None, [other]),
            *subject.student.notes,
            *found["profile"]["warnings"],
            *found["evaluate"]["warnings"],
            *_few(found["evaluate"]),
            *notes,
        ),
        made=Made.by("report", settings.device),
    )


def _exported(subject: Subject) -> tuple[Exported | None, list[str]]:
    """The .onnx beside the student, compared with it again; or why it is not shown."""
    student, path = subject.student, subject.onnx_path
    if not path.is_file():
        return None, []
    try:
        network = OnnxNetwork(path)
        if network.metadata.get("source_sha256") != student.sha256:
            return None, [f"{path} was made from another file than {student.path}; export it again"]
        checks = measure_parity(student, network, example_images(student))
    except CheckpointError as error:
        return None, [str(error)]
    except ParityError:
        return None, [f"{path} makes images of another size than {student.path}; export it again"]
    differences = tuple((f"{one.height}×{one.width}", one.max_abs_error) for one in checks)
    precision = network.metadata.get("precision", "float32")
    file = File(path.name, sha256_of(path), path.stat().st_size)
    return Exported(file, differences, precision), []


def _few(evaluation: Mapping[str, Any]) -> list[str]:
    count = evaluation["protocol"]["inputs"]
    return [f"all scores are of {counted(count, 'image')} only"] if count < 10 else []


def _file(generator: Generator) -> File:
    return File(generator.path.name, generator.sha256, generator.path.stat().st_size)


def _images(
    subject: Subject, settings: _Settings, count: int, tell: Progress
) -> list[ComparedImage]:
    """`count` of the measured test images, evenly spread, with both translations."""
    opened = open_comparison(
        [subject.student.path],
        settings.data,
        teacher=subject.teacher.path,
        size=settings.size,
        direction=settings.direction,
        seed=settings.seed,
        reading=settings.reading,
        device=settings.device,
    )
    teacher, student = opened.generators
    reader = Reader(opened.layout, teacher.in_channels, teacher.out_channels)
    chosen = evenly_spread(opened.layout.validation[: settings.limit], count)
    side = max(16, settings.size // ZOOM)
    images = []
    for number, file in enumerate(chosen, 1):
        inputs = reader.squares(file, settings.size)[0]
        target, output = teacher.generate(inputs), student.generate(inputs)
        box = most_different_square([target, output], side)
        score = psnr_db(output, target)
        shown = reader.shown(inputs), reader.seen(target), reader.seen(output)
        images.append(ComparedImage(file.name, *shown, score, box))
        tell("translating what is shown", number / len(chosen))
    return images
