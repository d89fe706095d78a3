"""The figures of a report's page: its summary, and the table of scores."""

from collections.abc import Iterator, Mapping
from typing import Any

from wkdc.reporting.facts import Facts, label_of, student_profile
from wkdc.system import units


def summarise(facts: Facts) -> Iterator[tuple[str, str, str]]:
    """The most important figures: value, name and note of each."""
    teacher, student = facts.profile["models"][0], student_profile(facts)
    sizes = f"{units.megabytes(teacher['size_bytes'])} to {units.megabytes(student['size_bytes'])}"
    yield (
        f"{teacher['params'] / student['params']:.1f}×",
        "fewer parameters",
        f"{units.millions(teacher['params'])} to {units.millions(student['params'])}; file {sizes}",
    )
    runtimes = sorted(set(teacher["latency_ms"]) & set(student["latency_ms"]))
    if runtimes:  # ONNX Runtime's comes before PyTorch's
        before, after = (one["latency_ms"][runtimes[0]]["median"] for one in (teacher, student))
        height, width = facts.profile["size"]
        yield (
            f"{max(before / after, after / before):.1f}×",
            "faster" if after <= before else "slower",
            f"{before:.0f} ms to {after:.0f} ms for {height}×{width} in {runtimes[0]} on "
            f"{facts.profile['made']['processor']}, "
            f"{units.counted(facts.profile['threads'], 'thread')} (medians)",
        )
    scores = {label_of(facts, score): score["to_teacher"] for score in facts.evaluation["scores"]}
    mine, unchanged = scores["student"], scores.get("input")
    if mine is not None:
        beside = f"; the unchanged input: {_db(unchanged)}" if unchanged else ""
        count = facts.evaluation["protocol"]["inputs"]
        counted = "1 image" if count == 1 else f"mean of {count} images"
        yield _db(mine), "PSNR to the teacher's images", f"{counted}{beside}"
        error = mine["high_band_error"]["mean"]
        others = [
            f"{called}: {scores[name]['high_band_error']['mean']:.0%}"
            for name, called in (("input", "the unchanged input"), ("before training",) * 2)
            if scores.get(name) and scores[name]["high_band_error"]["mean"] is not None
        ]
        yield (
            "–" if error is None else f"{error:.0%}",
            "error in fine detail",
            "; ".join(["0 % is a copy", *others]),
        )


def lacks(facts: Facts) -> Iterator[tuple[str, str]]:
    """Name of each model, and the detail that it lacks most."""
    models = [one for one in facts.analysis["models"] if one["sha256"] is not None]
    for model, sentence in zip(models, facts.analysis["sentences"], strict=True):
        yield label_of(facts, model), sentence.removeprefix(model["name"]).strip()


_Row = tuple[str, list[tuple[str, str]]]
"""Name of the score; value and interval of each model, empty if there is none."""


def score_table(facts: Facts) -> tuple[list[str], list[_Row]]:
    """Columns and rows of the table of scores; models without any score are left out."""
    names = [label_of(facts, score) for score in facts.evaluation["scores"]]
    rows = [*_image_rows(facts), *_set_rows(facts)]
    kept = [index for index in range(len(names)) if any(cells[index][0] for _, cells in rows)]
    return (
        [names[index] for index in kept],
        [(name, [cells[index] for index in kept]) for name, cells in rows],
    )


def _image_rows(facts: Facts) -> Iterator[_Row]:
    for side, key in (("to the teacher", "to_teacher"), ("to true images", "to_truth")):
        found = [score[key] for score in facts.evaluation["scores"]]
        if any(found):
            for figure, name, digits in (
                ("psnr_db", "PSNR (dB)", 1),
                ("ssim", "SSIM", 3),
                ("high_band_error", "high-band error", 3),
                ("lpips", "LPIPS", 3),
            ):
                if not any(one and one[figure] for one in found):
                    continue
                cells = [_cell(one[figure], digits) if one else ("", "") for one in found]
                yield f"{name} {side}", cells


def _set_rows(facts: Facts) -> Iterator[_Row]:
    for side, key in (("to the teacher", "from_teacher"), ("to the domain", "from_domain")):
        found = [score[key] for score in facts.evaluation["scores"]]
        if any(found):
            yield (
                f"KID × 1000 {side}",
                [
                    (f"{1e3 * one['kid']:.2f}", f"± {1e3 * one['kid_std']:.2f}")
                    if one
                    else ("", "")
                    for one in found
                ],
            )
            yield f"FID {side}", [(f"{one['fid']:.1f}", "") if one else ("", "") for one in found]


def _cell(interval: Mapping[str, float | None], digits: int) -> tuple[str, str]:
    def shown(value: float | None) -> str:
        return "∞" if value is None else f"{value:.{digits}f}"

    return shown(interval["mean"]), f"{shown(interval['low'])}–{shown(interval['high'])}"


def _db(scores: Mapping[str, Any]) -> str:
    mean = scores["psnr_db"]["mean"]
    return "∞ dB" if mean is None else f"{mean:.1f} dB"
