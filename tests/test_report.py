"""The page that a report is, opened in a real browser without a network."""

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from conftest import HANG_S, Called
from playwright.sync_api import Browser, Page

import wkdc
from wkdc.checkpoints.run_record import read_record
from wkdc.data.folders import evenly_spread
from wkdc.errors import MissingExtraError, OptionError
from wkdc.report import LARGE_BYTES, ReportResult
from wkdc.reporting import charts
from wkdc.reporting.results import read_result, to_plain

Call = Callable[..., Called]

SIZE, STEPS = 64, 3
SECTIONS = ("images", "lost", "speed", "training", "export", "chain", "protocol")


@dataclass(frozen=True)
class Chain:
    """A folder in which a student was pruned, taught, exported, profiled and reported on."""

    folder: Path
    result: ReportResult

    @property
    def text(self) -> str:
        return self.result.output.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def reported(made_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    folder = tmp_path_factory.mktemp("chain")
    for name in ("teacher.pth", "student.pth"):
        shutil.copy(made_once / name, folder)
    shutil.copytree(made_once / "photos", folder / "photos")
    student = folder / "student.pth"
    wkdc.distill(folder / "photos", student=student, steps=STEPS, runs=folder / "runs")
    wkdc.export(student, tolerance=0.05)
    profiled = wkdc.profile([folder / "teacher.pth", student], size=(SIZE, SIZE), rounds=2)
    (folder / "profile.json").write_text(json.dumps(to_plain(profiled)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        known = [folder / "profile.json"]
        made = wkdc.report(student, output=folder / "report.html", results=known, size=SIZE)
    return Chain(folder, made)


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a file offline; at the end nothing may have gone wrong or have been asked for."""
    contexts, wrong = [], []

    def open_(file: Path, **how: Any) -> Page:
        context = browser.new_context(offline=True, **how)
        context.set_default_timeout(HANG_S * 1000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        page.on(
            "request",
            lambda request: request.url.startswith(("file:", "data:")) or wrong.append(request.url),
        )
        page.goto(file.as_uri())
        return page

    yield open_
    for context in contexts:
        context.close()
    assert wrong == []


def test_a_page_says_how_much_smaller_how_much_faster_and_what_was_lost(
    reported: Chain, open_page: Callable[..., Page]
) -> None:
    page = open_page(reported.result.output)
    assert page.title() == "student.pth beside teacher.pth"
    for name in SECTIONS:
        assert page.locator(f"section#{name} h2").is_visible(), name
    tiles = page.locator(".tiles li").all_inner_texts()
    assert len(tiles) == 4
    info = [wkdc.info(reported.folder / name) for name in ("teacher.pth", "student.pth")]
    assert tiles[0].startswith(f"{info[0].params / info[1].params:.1f}×")
    assert "fewer parameters" in tiles[0]
    assert re.search(r"faster|slower", tiles[1])
    assert "dB" in tiles[2]
    assert "error in fine detail" in tiles[3]
    chain = page.locator("#chain").inner_text()
    for said in ("wkdc prune", "wkdc distill", *(one.sha256 for one in info)):
        assert said in chain
    assert f"{STEPS} steps" in page.locator("#training").inner_text()
    assert "student.onnx" in page.locator("#export").inner_text()
    assert "before training" in page.locator("#lost").inner_text()
    assert reported.result.measured == ("evaluate", "analyze")
    assert reported.result.run is not None
    assert reported.result.size_bytes < LARGE_BYTES


def test_a_slider_moves_with_keys_and_with_the_mouse(
    reported: Chain, open_page: Callable[..., Page]
) -> None:
    page = open_page(reported.result.output)
    slider = page.locator(".slider").first
    shown = "one => getComputedStyle(one.querySelector('.over')).clipPath"
    assert "50%" in slider.evaluate(shown)
    slider.locator("input").focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert "55%" in slider.evaluate(shown)
    box = slider.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 0.2 * box["width"], box["y"] + 0.5 * box["height"])
    (at,) = re.findall(r"(\d+)%", slider.evaluate(shown))
    assert 10 < int(at) < 30  # the handle's width shifts it by some percent
    others = page.locator(".slider").nth(1)
    assert "50%" in others.evaluate(shown)


@pytest.mark.parametrize("script", [True, False])
def test_teacher_and_student_stand_below_their_names(
    reported: Chain, open_page: Callable[..., Page], script: bool
) -> None:
    page = open_page(reported.result.output, java_script_enabled=script)
    page.emulate_media(media="print")
    for slider in page.locator(".slider").all():
        images = slider.locator("img").all()
        boxes = [image.bounding_box() for image in images]
        assert all(box is not None and box["width"] > 20 for box in boxes)
        assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
        for image, name in zip(images, ("teacher", "student"), strict=True):
            assert name in (image.get_attribute("alt") or "")
        left = slider.locator(".left").bounding_box()
        assert left["x"] < boxes[0]["x"] + boxes[0]["width"]
        assert slider.locator(".left").inner_text() == "teacher"


def test_nothing_is_wider_than_a_phone(reported: Chain, open_page: Callable[..., Page]) -> None:
    page = open_page(reported.result.output, viewport={"width": 360, "height": 740})
    page.locator("summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    wide = page.evaluate(
        "[...document.querySelectorAll('body *')]"
        ".filter(one => one.getBoundingClientRect().right > 360.5).map(one => one.outerHTML)"
    )
    assert wide == []


def test_a_dark_page_has_light_text_in_its_charts(
    reported: Chain, open_page: Callable[..., Page]
) -> None:
    def lightness(page: Page, selector: str, of: str) -> float:
        colour = page.locator(selector).first.evaluate(f"one => getComputedStyle(one).{of}")
        return sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 765

    for scheme, paper in (("light", 1.0), ("dark", 0.1)):
        page = open_page(reported.result.output, color_scheme=scheme)
        assert lightness(page, "body", "backgroundColor") == pytest.approx(paper, abs=0.05)
        # A contrast that is seen: ink and paper lie on opposite sides of the middle grey.
        for text in ("body", "svg text"):
            ink = lightness(page, text, "fill" if text == "svg text" else "color")
            assert abs(ink - paper) > 0.7


def test_everything_has_a_name_for_those_who_do_not_see_it(reported: Chain) -> None:
    seen: list[tuple[str, dict[str, str | None]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.append((tag, dict(attrs)))

    Reader().feed(reported.text)
    assert all(of.get("alt") for tag, of in seen if tag == "img")
    assert all(of.get("aria-label") for tag, of in seen if tag in ("svg", "input", "nav"))
    ids = [of["id"] for _, of in seen if "id" in of]
    assert len(ids) == len(set(ids))
    for tag, of in seen:
        assert not {"src", "href"} & set(of) or tag in ("img", "a", "use", "path")
        for name in ("src", "href", "xlink:href"):
            assert (of.get(name) or "#").startswith(("#", "data:")), (tag, of)


def test_images_are_spread_from_the_first_to_the_last() -> None:
    paths = [Path(str(number)) for number in range(20)]
    assert evenly_spread(paths, 4) == [paths[n] for n in (0, 6, 12, 19)]
    assert evenly_spread(paths, 15)[-1] == paths[-1]
    assert evenly_spread(paths, 20) == evenly_spread(paths, 30) == paths
    assert evenly_spread(paths, 1) == paths[:1]


def test_names_are_no_markup(
    reported: Chain, tmp_path: Path, open_page: Callable[..., Page], call_wkdc: Call
) -> None:
    folder = tmp_path / "<script>alert(1)<b>"
    shutil.copytree(reported.folder / "photos", folder)
    (folder / "broken.png").write_text("no image")
    shutil.copy(reported.folder / "teacher.pth", tmp_path)
    name = '"><img src=x onerror=alert(1)> $x$\udcff.pth'
    shutil.copy(reported.folder / "student.pth", tmp_path / name)
    more = ("--result", reported.folder / "profile.json", "--size", SIZE, "--count", 1)
    called = call_wkdc("report", tmp_path / name, "--data", folder, *more)
    assert called.code == 0, called.stderr
    assert "report.html: " in called.stdout
    page = open_page(tmp_path / "report.html")
    assert page.title().startswith(name.replace("\udcff", "\\udcff"))
    assert page.locator("script").count() == 1
    assert page.locator("img[src='x']").count() == 0
    assert "<script>alert(1)<b>" in page.locator("#protocol").inner_text()
    assert "note: left out: " in called.stderr
    assert "broken.png" in page.locator("#warnings").inner_text()
    assert "6 images only" in page.locator("#warnings").inner_text()
    assert page.locator("#training").count() == 1
    assert "wkdc export" in page.locator("#export").inner_text()


@pytest.mark.usefixtures("few_features")
def test_results_of_other_commands_are_shown(
    reported: Chain, call_wkdc: Call, open_page: Callable[..., Page], tmp_path: Path
) -> None:
    """A run's folder stands for what the run made, and for the images that it was taught on."""
    run = reported.folder / "runs" / "distill-001"
    student = reported.folder / "student.pth"
    photos = Path(shutil.copytree(reported.folder / "photos", tmp_path / "photos"))
    for number, path in enumerate(sorted(photos.iterdir())[:2]):
        shutil.copy(path, photos / f"again-{number}.png")  # of 6 there is no KID
    told: list[object] = ["--result", reported.folder / "profile.json"]
    for command, more in (("evaluate", ("--features", "efficientnet")), ("analyze", ())):
        called = call_wkdc(command, student, "--data", photos, "--size", SIZE, *more, "--json")
        assert called.code == 0, called.stderr
        (tmp_path / f"{command}.json").write_text(called.stdout)
        told += ["--result", tmp_path / f"{command}.json"]
    called = call_wkdc("report", run, *told, "--size", SIZE, "--count", 1, "--json")
    assert called.code == 0, called.stderr
    said = json.loads(called.stdout)
    assert (said["measured"], said["student"], said["run"]) == ([], str(student), str(run))
    evaluation = json.loads((tmp_path / "evaluate.json").read_text())
    mean = evaluation["scores"][-1]["to_teacher"]["psnr_db"]["mean"]
    page = open_page(tmp_path / "report.html")
    assert f"{mean:.1f} dB" in page.locator(".tiles").inner_text()
    assert "KID" in page.locator("#lost").inner_text()
    assert "before training" not in page.locator("#lost").inner_text()
    # Files that compare with something else than the teacher of the page.
    profiled = json.loads((reported.folder / "profile.json").read_text())
    profiled["models"] = profiled["models"][::-1]
    evaluation["protocol"]["teacher_sha256"] = "0" * 64
    for changed in (profiled, evaluation):
        (tmp_path / "changed.json").write_text(json.dumps(changed))
        called = call_wkdc("report", run, "--result", "changed.json")
        assert called.code == 2
        assert "does not compare with the teacher" in called.errors[0]
    called = call_wkdc("report", run, *told, *told[:2])
    assert called.code == 2
    assert "is a second result of wkdc profile" in called.errors[0]


def test_a_run_that_goes_on_is_reported_by_its_checkpoint(reported: Chain, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "distill-001"
    shutil.copytree(reported.folder / "runs" / "distill-001", run)
    shutil.copy(reported.folder / "teacher.pth", tmp_path)
    options = json.loads((run / "options.json").read_text())
    (run / "options.json").write_text(json.dumps(options | {"finished": False}))
    with (run / "metrics.jsonl").open("a") as log:
        log.write('{"step": 4, "to')  # being written
    record = read_record(run)
    assert [values["step"] for values in record.losses] == [1, 2, 3]
    assert record.latest is not None
    shutil.copy(reported.folder / "student.onnx", record.latest.with_suffix(".onnx"))
    found = wkdc.report(
        run, reported.folder / "photos", output=tmp_path / "r.html", size=SIZE, limit=2, count=1
    )
    assert found.student == record.latest
    assert any("has not come to its end" in warning for warning in found.warnings)
    assert any("made from another file" in warning for warning in found.warnings)
    assert "has not come to its end" in found.output.read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("student.pth",), 2, "give --data FOLDER"),
        (("student.pth", "-o", "report.txt"), 2, "does not end in .html"),
        (("student.pth", "-o", "gone/report.html"), 1, "gone"),
        (("student.pth", "--count", 0), 2, "1 image or more"),
        (("teacher.pth", "--data", "photos"), 1, "does not say who its teacher is"),
        (("photos",), 2, "no run folder"),
        (("student.onnx", "--data", "photos"), 2, "give the .pth that it was exported from"),
        (("student.pth", "--data", "photos", "--result", "gone.json"), 2, "cannot read gone.json"),
        (("student.pth", "--data", "photos", "--result", "info.json"), 2, "is no result"),
        (
            ("student.pth", "--data", "photos", "--result", "other.json"),
            2,
            "has to be of student.pth",
        ),
        (("student.pth", "--data", "photos", "--result", "older.json"), 2, "another version"),
        (("student.pth", "--data", "photos", "--size", 100), 2, "a multiple of 16, 64 or more"),
        (("student.pth", "--data", "photos", "--limit", 1), 2, "give 2 images or more"),
        (("student.pth", "--data", "photos", "--teacher", "student.pth"), 2, "its own teacher"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_wrong_use_says_what_to_do(
    call_wkdc: Call,
    student: Path,
    photos: Path,
    arguments: tuple[object, ...],
    code: int,
    said: str,
) -> None:
    folder = student.parent
    (folder / "info.json").write_text('{"path": "student.pth"}')
    made = {"command": "analyze"}
    other = {"made": made, "models": [{"name": "a.pth", "sha256": "0" * 64}], "images": 2}
    other |= dict.fromkeys(("teacher_sha256", "teacher_power", "real_power", "sentences"))
    older = {"made": {"command": "evaluate"}, "scores": []}
    (folder / "older.json").write_text(json.dumps(older))
    (folder / "other.json").write_text(json.dumps(other))
    called = call_wkdc("report", *arguments)
    assert called.code == code, called.stderr
    assert len(called.errors) == 1
    assert said in called.errors[0]
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_missing_package_is_named(
    student: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=re.escape("pip install 'wkdc[report]'")):
        wkdc.report(student, photos, output=student.with_name("report.html"))


def test_names_in_charts_are_text(tmp_path: Path) -> None:
    """Also in a file of its own, where XML has no place for control characters."""
    name = "<script>alert(1)</script> ]]>&\"'\n\x1b[31m\udcff"
    shown = "<script>alert(1)</script> ]]>&\"'\\n\\x1b[31m\\udcff"
    bands = {f"{band}{level}": 0.5 for band in ("lh", "hl", "hh") for level in range(1, 5)}
    power, curve = [1.0] * 8, [(1.0, 2.0), (2.0, 1.0)]
    draws: list[Callable[[Any], None]] = [
        lambda axes: charts.plot_errors(axes, {name: {**bands, "ll4": 0.5}}),
        lambda axes: charts.plot_spectra(axes, {name: power}, power, None),
        lambda axes: charts.plot_widths(axes, [(name, [4], [2])]),
        lambda axes: charts.plot_times(axes, {name: {name: 1.0}}),
        lambda axes: charts.plot_curves(axes, {name: curve, "b": curve}, "losses"),
    ]
    for draw in draws:
        charts.save_figure(tmp_path / "chart.svg", ".svg", [draw])
        for root in (
            ElementTree.parse(tmp_path / "chart.svg").getroot(),
            ElementTree.fromstring(charts.inline_svg(draw, name)),
        ):
            assert shown in [one.text for one in root.iter() if one.tag.endswith("text")]
            assert not [one for one in root.iter() if one.tag.endswith("script")]
    assert root.get("aria-label") == shown


def test_results_go_into_a_file_and_back(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Found:
        path: Path
        values: tuple[float, ...]

    plain = to_plain({"made": {"command": "profile"}, 1: Found(Path("a"), (0.5, float("inf")))})
    assert plain == {
        "made": {"command": "profile"},
        "1": {"path": "a", "values": [0.5, None]},
    }
    file = tmp_path / "result.json"
    file.write_text(json.dumps(plain))
    assert read_result(file, ("profile",)) == plain
    with pytest.raises(OptionError, match="is of wkdc profile; give what wkdc analyze --json"):
        read_result(file, ("analyze",))


def test_a_damaged_export_is_named_and_the_rest_is_shown(reported: Chain, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(reported.folder, tmp_path / "chain"))
    (folder / "student.onnx").write_bytes(b"damaged")
    results = [folder / "profile.json"]
    made = wkdc.report(
        folder / "student.pth",
        data=folder / "photos",
        output=folder / "again.html",
        results=results,
        size=SIZE,
        limit=2,
        count=1,
    )
    assert any("student.onnx" in warning for warning in made.warnings)
    assert made.output.is_file()
