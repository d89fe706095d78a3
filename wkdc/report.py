"""One page on a student beside its teacher: how much smaller and faster, and what was lost."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wkdc.analyze import LEVELS, analyze
from wkdc.checkpoints.checkpoint import Generator, load_generator, teacher_path
from wkdc.checkpoints.lineage import images_of, last_options, record_of, student_of
from wkdc.checkpoints.run_record import Record, read_record
from wkdc.compare import most_different
from wkdc.data.inputs import Reader
from wkdc.data.layouts import Direction
from wkdc.errors import MissingExtraError, OptionError
from wkdc.evaluate import evaluate
from wkdc.inference.comparison import SMALLEST, evenly_spread, open_comparison
from wkdc.metrics.fidelity import psnr_db
from wkdc.networks.complexity import count_params
from wkdc.onnx.file import OnnxNetwork
from wkdc.onnx.parity import example_images, measure_parity
from wkdc.profile import profile
from wkdc.reporting.charts import check_matplotlib
from wkdc.reporting.page import Exported, Facts, File, Picture, render_page, summarise
from wkdc.reporting.results import Made, read_result, to_plain
from wkdc.system.files import check_writable, sha256_of, write_atomically
from wkdc.system.units import megabytes

SIZE = 256
"""Height and width that images are compared at."""

ZOOM = 4
"""How much smaller than the image the detail is."""

LARGE_BYTES = 5_000_000
"""Larger pages are slow to send and to open, which is said."""

MEASURING = ("profile", "evaluate", "analyze")

SAID = {
    "profile": {"models", "size", "batch", "threads", "device", "interval", "warnings"},
    "evaluate": {"scores", "protocol", "warnings"},
    "analyze": {"models", "teacher_sha256", "teacher_power", "real_power", "images", "sentences"},
}
"""What a result of each command has to hold."""

Tell = Callable[[str, float], None]


@dataclass(frozen=True)
class ReportResult:
    """A page that was written.

    Attributes:
        measured: what was measured for it, and not read from a file.
        summary: the answer in a few lines, as it stands on the page's top.
        warnings: what a reader of the figures should know; they are on the page, too.
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
class _Subject:
    """What the page is about.

    Attributes:
        data: the folder that the student was taught or calibrated on, None where none is known.
        start: the student before it was taught.
    """

    student: Generator
    teacher: Generator
    record: Record | None
    start: Path | None
    data: Path | None
    direction: Direction
    warnings: tuple[str, ...]


def report(
    model: str | Path = "student.pth",
    data: str | Path | None = None,
    *,
    output: str | Path = "report.html",
    results: Sequence[str | Path] = (),
    teacher: str | Path | None = None,
    count: int = 4,
    size: int = SIZE,
    limit: int | None = None,
    direction: Direction | None = None,
    arch: str | None = None,
    device: str = "cpu",
    seed: int = 0,
    on_progress: Tell | None = None,
) -> ReportResult:
    """Measure a student beside its teacher, and write one HTML file that shows it.

    The page holds images, scores, bands, size, time, the curves of the run that taught the
    student, how well its .onnx agrees, and how all of it was made.

    Args:
        model: a student's .pth, or the folder of a run, whose latest student is taken.
        data: a folder of images, see `wkdc.evaluate`; by default what the student was taught on.
        output: the .html to write; replaced if it exists.
        results: JSON files of `wkdc profile`, `evaluate` and `analyze`, which are shown instead of
            measuring again.
        teacher: by default the one on the student's card.
        count: images to show, evenly spread over the test images.
        size: height and width that images are compared and timed at.
        limit: measure on the first so many images.
        direction: by default the one that the student was taught in.
        on_progress: called with what is being done, and the share of it that is done.

    Raises:
        OptionError: no images, a result of other files, or an output that is no .html.
        CheckpointError: no student, or its teacher is not there.
        MissingExtraError: the packages of the extra `report` are not installed.
        DeviceError, DatasetError, ImageError, OutputError: see `open_comparison`.
    """
    tell = on_progress or (lambda stage, share: None)
    path = Path(output)
    _check(path, count, size, limit)
    subject = _find(Path(model), teacher, arch)
    folder = Path(data) if data is not None else subject.data
    if folder is None:
        raise OptionError(
            f"no images to draw: {subject.student.path} does not say what it was taught on; give "
            "--data FOLDER"
        )
    given = _given_results(results, subject)
    way = direction or subject.direction
    student, guide = subject.student.path, subject.teacher.path
    ours = [student] if subject.start is None else [subject.start, student]

    def profiled() -> Any:
        return profile(
            [guide, student],
            size=(size, size),
            device=device,
            arch=arch,
            on_round=lambda done, total: tell("timing", done / total),
        )

    def drawn(measure: Callable[..., Any], stage: str) -> Callable[[], Any]:
        return lambda: measure(
            ours,
            folder,
            teacher=guide,
            size=size,
            limit=limit,
            direction=way,
            arch=arch,
            device=device,
            seed=seed,
            on_progress=lambda _, share: tell(stage, share),
        )

    measures = {
        "profile": profiled,
        "evaluate": drawn(evaluate, "drawing for scores"),
        "analyze": drawn(analyze, "drawing for bands"),
    }
    found = {
        name: given[name] if name in given else to_plain(measure())
        for name, measure in measures.items()
    }
    exported, notes = _exported(subject.student)
    taught = subject.direction
    other = f"the student was taught {taught}, and draws {way} here" if way != taught else ""
    warnings = (
        *subject.warnings,
        *filter(None, [other]),
        *subject.student.notes,
        *found["profile"]["warnings"],
        *found["evaluate"]["warnings"],
        *_few(found["evaluate"]),
        *notes,
    )
    facts = Facts(
        teacher=_file(subject.teacher),
        student=_file(subject.student),
        widths=_widths(subject),
        history=(subject.student.card or {}).get("history", []),
        profile=found["profile"],
        evaluation=found["evaluate"],
        analysis=found["analyze"],
        labels=_labels(subject),
        pictures=_pictures(subject, folder, count, size, limit, way, arch, device, seed, tell),
        record=subject.record,
        exported=exported,
        warnings=warnings,
        made=Made.by("report", device),
    )
    text = render_page(facts)
    write_atomically(path, lambda file: file.write_text(text, encoding="utf-8"))
    size_bytes = path.stat().st_size
    if size_bytes > LARGE_BYTES:
        said = f"the page has {megabytes(size_bytes)}; a smaller --count makes it smaller"
        warnings = (*warnings, said)
    return ReportResult(
        output=path,
        size_bytes=size_bytes,
        student=student,
        teacher=guide,
        run=None if subject.record is None else subject.record.path,
        measured=tuple(name for name in measures if name not in given),
        summary=tuple(f"{value} {name} ({note})" for value, name, note in summarise(facts)),
        warnings=warnings,
    )


def _check(output: Path, count: int, size: int, limit: int | None) -> None:
    """Find out, before minutes of work, whether the page can be made."""
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


def _find(model: Path, teacher: str | Path | None, arch: str | None) -> _Subject:
    """The student, its teacher, and the run that taught it."""
    record: Record | None
    if model.suffix.lower() == ".onnx":
        raise OptionError(
            f"{model} does not say how it was made; give the .pth that it was exported from"
        )
    if model.is_dir():
        record = read_record(model)
        student, said = student_of(record, arch)
    else:
        student, said = load_generator(model, arch=arch), None
        record = record_of(student)
    guide = load_generator(
        teacher_path(student, hint="name it with --teacher") if teacher is None else teacher,
        arch=arch,
    )
    if guide.sha256 == student.sha256:
        raise OptionError(f"{student.path} is its own teacher {guide.path}; give a student")
    start = None if record is None else record.start
    if start is not None and sha256_of(start) == student.sha256:
        start = None
    return _Subject(
        student,
        guide,
        record,
        start,
        images_of(student, record),
        last_options(student).get("direction", "AtoB"),
        () if said is None else (said,),
    )


def _given_results(results: Sequence[str | Path], subject: _Subject) -> dict[str, dict[str, Any]]:
    """Results from files, by command, each of which has to be of this student.

    Raises:
        OptionError: two of one command, or one of other files.
    """
    labels, found = _labels(subject), dict[str, dict[str, Any]]()
    for path in results:
        result = read_result(path, MEASURING)
        command = result["made"]["command"]
        if command in found:
            raise OptionError(f"{path} is a second result of wkdc {command}; give one")
        if not SAID[command] <= set(result):
            raise OptionError(f"{path} was printed by another version of wkdc; measure again")
        rows = result["scores" if command == "evaluate" else "models"]
        known = [labels.get(row["sha256"]) for row in rows]
        if known.count("student") != 1:
            raise OptionError(
                f"{path} has to be of {subject.student.path} or its .onnx, once; its digests are "
                f"{', '.join(str(row['sha256'])[:12] for row in rows if row['sha256']) or 'none'}, "
                f"the student's {subject.student.sha256[:12]}; measure again, or leave it out"
            )
        _check_teacher(Path(path), command, result, subject)
        found[command] = result
    return found


def _check_teacher(path: Path, command: str, result: Mapping[str, Any], subject: _Subject) -> None:
    """Make sure that a result compares with the teacher of the page.

    Raises:
        OptionError: it does not.
    """
    if command == "profile":  # a teacher's .onnx has a digest of its own
        first = result["models"][0]
        same = first["params"] == count_params(subject.teacher.network)
        same &= first["sha256"] != subject.student.sha256
    elif command == "evaluate":
        same = result["protocol"]["teacher_sha256"] == subject.teacher.sha256
    else:
        same = result["teacher_sha256"] == subject.teacher.sha256
    if not same:
        raise OptionError(
            f"{path} does not compare with the teacher {subject.teacher.path}; measure again with "
            "it" + (" as the first model" if command == "profile" else ", or leave it out")
        )


def _labels(subject: _Subject) -> dict[str, str]:
    """What files are called on the page, by their digests."""
    labels = {subject.teacher.sha256: "teacher", subject.student.sha256: "student"}
    exported = subject.student.path.with_suffix(".onnx")
    if exported.is_file():
        labels[sha256_of(exported)] = "student"
    if subject.start is not None:
        labels[sha256_of(subject.start)] = "before training"
    return labels


def _exported(student: Generator) -> tuple[Exported | None, list[str]]:
    """The .onnx beside the student, drawn with and compared again."""
    path = student.path.with_suffix(".onnx")
    if not path.is_file():
        return None, []
    network = OnnxNetwork(path)
    if network.metadata.get("source_sha256") != student.sha256:
        return None, [f"{path} was made from another file than {student.path}; export it again"]
    checks = measure_parity(student, network, example_images(student))
    differences = tuple((f"{one.height}×{one.width}", one.max_abs_error) for one in checks)
    precision = network.metadata.get("precision", "float32")
    file = File(path.name, sha256_of(path), path.stat().st_size)
    return Exported(file, differences, precision), []


def _few(evaluation: Mapping[str, Any]) -> list[str]:
    pictures = evaluation["protocol"]["inputs"]
    counted = "1 image" if pictures == 1 else f"{pictures} images"
    return [f"all scores are of {counted} only"] if pictures < 10 else []


def _file(generator: Generator) -> File:
    return File(generator.path.name, generator.sha256, generator.path.stat().st_size)


def _widths(subject: _Subject) -> tuple[tuple[str, Sequence[int], Sequence[int]], ...]:
    before, after = (one.architecture.widths() for one in (subject.teacher, subject.student))
    return tuple(
        (name, wide, narrow) for (name, wide), (_, narrow) in zip(before, after, strict=False)
    )


def _pictures(
    subject: _Subject,
    data: Path,
    count: int,
    size: int,
    limit: int | None,
    direction: Direction,
    arch: str | None,
    device: str,
    seed: int,
    tell: Tell,
) -> list[Picture]:
    """Test images of those that are measured, evenly spread, drawn by both."""
    opened = open_comparison(
        [subject.student.path],
        data,
        teacher=subject.teacher.path,
        size=size,
        direction=direction,
        seed=seed,
        arch=arch,
        device=device,
    )
    guide, student = opened.generators
    reader = Reader(opened.layout, guide.in_channels, guide.out_channels)
    chosen = evenly_spread(opened.layout.validation[:limit], count)
    pictures = []
    for number, file in enumerate(chosen, 1):
        given = reader.squares(file, size)[0]
        wanted, made = guide.generate(given), student.generate(given)
        box = most_different([wanted, made], max(16, size // ZOOM))
        pictures.append(
            Picture(file.name, reader.shown(given), wanted, made, psnr_db(made, wanted), box)
        )
        tell("drawing what is shown", number / len(chosen))
    return pictures
