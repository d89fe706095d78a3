"""The page in a real browser, with the runtime of npm's package, and no other server in reach."""

import base64
import functools
import http.server
import io
import json
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from conftest import HANG_S, Called
from originals import resnet_state_dict
from PIL import Image
from playwright.sync_api import Browser, Page, Route
from test_export import GREY

import wkdc
from wkdc.data.photos import photo_paths
from wkdc.deploy.web_runtime import FILES, fetch_archive, find_runtime
from wkdc.errors import CheckpointError, OutputError, PackageError
from wkdc.inference.model import open_model

Call = Callable[..., Called]

NO_WEBGPU = "delete Navigator.prototype.gpu"  # the same everywhere, also where there is a GPU
ISOLATING = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}


@pytest.fixture(scope="session")
def archive() -> Path:
    """npm's package in the user's own cache: fetched once on a machine, 33 MB."""
    return fetch_archive()


@pytest.fixture(scope="session")
def site(made_once: Path, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The student's page, below a path of its own."""
    folder = tmp_path_factory.mktemp("www") / "some where" / "page"
    wkdc.export_web(made_once / "student.pth", folder, runtime_files=archive)
    return folder


@contextmanager
def served(folder: Path, headers: dict[str, str]) -> Iterator[str]:
    """The address of a plain static server."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        # A server that does not know what scripts are called in modules, or WebAssembly.
        extensions_map: ClassVar = {
            ".html": "text/html",
            ".js": "text/javascript",
            ".css": "text/css",
        }

        def end_headers(self) -> None:
            for name, value in headers.items():
                self.send_header(name, value)
            super().end_headers()

        def log_message(self, *_: object) -> None:
            pass

    make = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), make) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Watched:
    """An open page, and what a browser told of it."""

    page: Page
    outside: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def wait_until_translated(self, name: str) -> None:
        self.page.locator("#status", has_text=f"{name} is translated").wait_for()

    def pixels(self, canvas: str = "translated") -> np.ndarray:
        """The pixels on a canvas, H×W×3."""
        url = self.page.locator(f"#{canvas}").evaluate("canvas => canvas.toDataURL('image/png')")
        with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as opened:
            return np.array(opened.convert("RGB"))


Open = Callable[..., Watched]


@pytest.fixture
def open_site(browser: Browser, site: Path) -> Iterator[Open]:
    """Serve a page and open it, ready to translate; at the end nothing may have gone wrong."""
    closing: list[Callable[[], Any]] = []
    opened: list[Watched] = []

    def open_(
        folder: Path = site,
        *,
        headers: dict[str, str] | None = None,
        script: str = NO_WEBGPU,
        **how: Any,
    ) -> Watched:
        serving = served(folder.parents[1], headers or {})
        origin = serving.__enter__()
        context = browser.new_context(**how)
        context.set_default_timeout(HANG_S * 1000)
        closing.extend([context.close, lambda: serving.__exit__(None, None, None)])
        watched = Watched(context.new_page())
        opened.append(watched)

        def refuse(route: Route) -> None:
            watched.outside.append(route.request.url)
            route.abort()

        context.route(lambda url: not url.startswith((origin, "data:", "blob:")), refuse)
        page = watched.page
        page.on("pageerror", lambda error: watched.errors.append(str(error)))
        page.on("console", lambda m: m.type == "error" and watched.errors.append(m.text))
        page.add_init_script(script)
        page.goto(f"{origin}/{folder.parent.name.replace(' ', '%20')}/{folder.name}/")
        page.locator("#status", has_text="Ready").wait_for()
        return watched

    yield open_
    for close in closing:
        close()
    for watched in opened:
        assert (watched.outside, watched.errors) == ([], [])


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real photo, of no multiple of 4, small enough not to be scaled."""
    path = tmp_path_factory.mktemp("photo") / "a photo.png"
    with Image.open(photo_paths()[0]) as opened:
        opened.convert("RGB").resize((151, 113)).save(path)
    return path


def expected(model: Path, photo: Path, folder: Path) -> np.ndarray:
    """What ONNX Runtime translates, as the command does it."""
    wkdc.translate(open_model(model, device="cpu"), [photo], folder)
    with Image.open(folder / photo.name) as opened:
        return np.array(opened.convert("RGB"))


def furthest(left: np.ndarray, right: np.ndarray) -> int:
    assert left.shape == right.shape
    return int(np.abs(left.astype(int) - right.astype(int)).max())


# --- What is translated --------------------------------------------------------------------------


def test_a_photo_is_translated_as_onnx_runtime_translates_it(
    open_site: Open, site: Path, photo: Path, tmp_path: Path
) -> None:
    watched = open_site()
    page = watched.page
    assert page.title() == "student: image to image"
    page.set_input_files("#file", photo)
    watched.wait_until_translated(photo.name)
    wanted = expected(site / "model.onnx", photo, tmp_path)
    with Image.open(photo) as opened:
        assert furthest(watched.pixels("original"), np.array(opened)) == 0
    # The same sums in another order: float32's rounding is far below, but may cross a half.
    assert furthest(watched.pixels(), wanted) <= 2
    assert float(wanted.std()) > 5  # a flat image would hide anything
    for canvas, said in (("original", photo.name), ("translated", "translated by student")):
        assert said in (page.locator(f"#{canvas}").get_attribute("aria-label") or "")
    assert "ms" in page.locator("#time").inner_text()
    assert "151×113 in WebAssembly, 1 thread" in page.locator("#how").inner_text()
    with page.expect_download() as download:
        page.locator("#save").click()
    assert download.value.suggested_filename == "a photo-student.png"
    with Image.open(download.value.path()) as saved:
        assert furthest(np.array(saved.convert("RGB")), watched.pixels()) == 0
    page.locator("#measure").click()
    page.locator("#how", has_text="median of 10").wait_for()


def test_a_photo_is_dropped_scaled_and_translated_again(open_site: Open) -> None:
    watched = open_site()
    page = watched.page
    content = list(photo_paths()[1].read_bytes())
    page.evaluate(
        """bytes => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "dropped.jpg", {type: "image/jpeg"}));
            const event = {dataTransfer: data, bubbles: true, cancelable: true};
            document.getElementById("drop").dispatchEvent(new DragEvent("drop", event));
        }""",
        content,
    )
    watched.wait_until_translated("dropped.jpg")
    assert max(watched.pixels().shape) == 320
    page.locator("#longest").select_option("256")
    page.locator("#how", has_text="256").wait_for()
    assert max(watched.pixels().shape) == 256
    assert watched.pixels().shape == watched.pixels("original").shape


def test_what_is_no_image_is_said_and_the_page_goes_on(
    open_site: Open, photo: Path, tmp_path: Path
) -> None:
    """Names of files are shown as they are, and are no markup."""
    name = '"><img src=x onerror=alert(1)>.png'
    (tmp_path / name).write_text("no image")
    watched = open_site()
    watched.page.set_input_files("#file", tmp_path / name)
    watched.page.locator("#status.failed", has_text=f"{name} cannot be read").wait_for()
    shutil.copy(photo, tmp_path / name)
    watched.page.set_input_files("#file", tmp_path / name)
    watched.wait_until_translated(name)
    assert watched.page.locator("img[src='x']").count() == 0


def test_the_camera_takes_an_image(open_site: Open) -> None:
    watched = open_site(permissions=["camera"])
    page = watched.page
    page.locator("#longest").select_option("256")
    page.locator("#camera").focus()
    page.keyboard.press("Enter")
    page.locator("#shoot:focus").wait_for()  # once there is something to see
    page.keyboard.press("Enter")
    watched.wait_until_translated("camera.png")
    assert page.locator("#viewfinder").is_hidden()
    assert float(watched.pixels("original").std()) > 5  # the browser's moving test image
    assert page.evaluate("document.getElementById('video').srcObject") is None


def test_a_grey_network_translates_grey(
    call_wkdc: Call, open_site: Open, archive: Path, photo: Path, tmp_path: Path
) -> None:
    # A network that another test exports too.
    torch.save(resnet_state_dict(0, blocks=3, ngf=4, **GREY), tmp_path / "grey.pth")
    folder = tmp_path / "grey" / "page"
    folder.mkdir(parents=True)  # an empty one is in nobody's way
    options = ("--padding", "replicate", "--runtime-files", archive)
    called = call_wkdc("export", "grey.pth", "--web", "grey/page", *options)
    assert called.code == 0, called.stderr
    assert called.stdout.splitlines()[-1] == "next: python3 -m http.server --directory grey/page"
    watched = open_site(folder)
    watched.page.set_input_files("#file", photo)
    watched.wait_until_translated(photo.name)
    wanted = expected(folder / "model.onnx", photo, tmp_path / "wanted")
    assert furthest(watched.pixels(), wanted) <= 2


# --- How it is shown ---------------------------------------------------------------------------


def test_the_slider_moves_by_keyboard(open_site: Open, photo: Path) -> None:
    watched = open_site()
    page = watched.page
    page.set_input_files("#file", photo)
    watched.wait_until_translated(photo.name)
    shown = "getComputedStyle(document.getElementById('translated')).clipPath"
    assert "50%" in page.evaluate(shown)
    page.locator("#at").focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert "55%" in page.evaluate(shown)
    boxes = [page.locator(f"#{canvas}").bounding_box() for canvas in ("original", "translated")]
    assert boxes[0] == boxes[1]  # one upon the other


def test_everything_is_reached_by_keyboard(open_site: Open, photo: Path) -> None:
    watched = open_site()
    page = watched.page
    page.set_input_files("#file", photo)
    watched.wait_until_translated(photo.name)
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    wanted = ["choose", "camera", "at", "save", "measure", "longest", "backend", "A"]
    assert reached == wanted


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(open_site: Open, photo: Path, scheme: str) -> None:
    watched = open_site(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    page = watched.page
    page.set_input_files("#file", photo)
    watched.wait_until_translated(photo.name)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    wide = page.evaluate(
        "[...document.querySelectorAll('body *')]"
        ".filter(one => one.getBoundingClientRect().right > 360.5).map(one => one.outerHTML)"
    )
    assert wide == []
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")


# --- What runs it ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (NO_WEBGPU, "This browser has no WebGPU: WebAssembly is used."),
        (
            "Object.defineProperty(Navigator.prototype, 'gpu',"
            " {get: () => ({requestAdapter: async () => null})})",
            "This browser finds no GPU for WebGPU: WebAssembly is used.",
        ),
        (
            "Object.defineProperty(Navigator.prototype, 'gpu',"
            " {get: () => ({requestAdapter: async () => ({})})})",
            "WebGPU does not work here",
        ),
    ],
    ids=["absent", "no adapter", "promised only"],
)
def test_without_webgpu_webassembly_translates_and_the_page_says_so(
    open_site: Open, photo: Path, script: str, said: str
) -> None:
    watched = open_site(script=script)
    page = watched.page
    assert said in page.locator("#note").inner_text()
    assert "One thread is in use: more need a server" in page.locator("#note").inner_text()
    assert page.locator("#backend").input_value() == "wasm"
    page.set_input_files("#file", photo)
    watched.wait_until_translated(photo.name)
    assert "in WebAssembly" in page.locator("#how").inner_text()


def test_threads_where_the_server_isolates_the_page(
    open_site: Open, site: Path, photo: Path, tmp_path: Path
) -> None:
    watched = open_site(headers=ISOLATING)
    page = watched.page
    cores = page.evaluate("navigator.hardwareConcurrency")
    threads = "1 thread" if cores == 1 else f"{min(cores, 8)} threads"
    assert f"Threads in use: {min(cores, 8)}." in page.locator("#note").inner_text()
    page.set_input_files("#file", photo)
    watched.wait_until_translated(photo.name)
    assert threads in page.locator("#how").inner_text()
    wanted = expected(site / "model.onnx", photo, tmp_path)
    assert furthest(watched.pixels(), wanted) <= 2


# --- The command -------------------------------------------------------------------------------


def test_the_command_writes_all_that_the_page_needs(
    call_wkdc: Call, archive: Path, student: Path
) -> None:
    called = call_wkdc(
        "export", "student.pth", "--web", "new/site", "--runtime-files", archive, "--json"
    )
    assert (called.code, called.stderr) == (0, "")
    said = json.loads(called.stdout)
    folder = student.parent / "new" / "site"
    assert said["output"] == "new/site/model.onnx"
    assert said["max_abs_error"] <= said["tolerance"] == 1e-4
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert said["web"]["size_bytes"] == sum(path.stat().st_size for path in paths)
    assert said["web"]["runtime"].startswith("onnxruntime-web ")
    names = {path.name for path in (folder / "runtime").iterdir()}
    assert names == {file.name for file in FILES} | {"LICENSE.txt"}
    assert "Microsoft" in (folder / "runtime" / "LICENSE.txt").read_text()
    facts = json.loads((folder / "model.json").read_text())
    assert (facts["name"], facts["size_bytes"]) == ("student", said["size_bytes"])
    assert sorted(student.parent.iterdir()) == [
        student.parent / name for name in ("new", "student.pth", "teacher.pth")
    ]


def test_a_folder_that_is_in_use_stays(archive: Path, teacher: Path) -> None:
    folder = teacher.parent / "site"
    folder.mkdir()
    (folder / "index.html").write_text("mine")
    with pytest.raises(OutputError, match="site exists; give another folder"):
        wkdc.export_web(teacher, folder, runtime_files=archive)
    assert [path.name for path in folder.iterdir()] == ["index.html"]


def test_a_network_whose_images_no_browser_has(archive: Path, tmp_path: Path) -> None:
    torch.save(resnet_state_dict(5, blocks=1, ngf=4, in_channels=6), tmp_path / "six.pth")
    with pytest.raises(CheckpointError, match=r"six\.pth turns 6 channels into 3"):
        wkdc.export_web(tmp_path / "six.pth", tmp_path / "site", runtime_files=archive)
    assert not (tmp_path / "site").exists()


def test_another_package_is_not_trusted(archive: Path, tmp_path: Path) -> None:
    """One byte of one file differs; a file is missing; the archive ends early; it is none."""
    folder = tmp_path / "unpacked" / "package" / "dist"
    folder.mkdir(parents=True)
    with tarfile.open(archive) as package:
        for file in FILES:
            member = package.extractfile(f"package/dist/{file.source}")
            assert member is not None
            (folder / file.source).write_bytes(member.read())
    found = find_runtime(archive)
    assert set(found) == {file.name for file in FILES}
    for place in (folder, folder.parent, folder.parents[1]):  # as npm and tar leave it
        assert find_runtime(place) == found
    last = folder / FILES[-1].source
    content = bytearray(last.read_bytes())
    content[1000] ^= 1
    last.write_bytes(content)
    with pytest.raises(PackageError, match=rf"dist has no {FILES[-1].source} of SHA-256"):
        find_runtime(folder)
    last.unlink()
    with pytest.raises(PackageError, match="has no"):
        find_runtime(folder)
    (tmp_path / "half.tgz").write_bytes(archive.read_bytes()[:100_000])
    (tmp_path / "text.tgz").write_text("404: Not Found")
    with tarfile.open(tmp_path / "other.tgz", "w:gz") as other:
        other.addfile(tarfile.TarInfo("package/package.json"), io.BytesIO())
    for name, said in (("half", "damaged"), ("text", "damaged"), ("other", "has no")):
        with pytest.raises(PackageError, match=said):
            find_runtime(tmp_path / f"{name}.tgz")
    with pytest.raises(PackageError, match=r"gone\.tgz does not exist"):
        find_runtime(tmp_path / "gone.tgz")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--web", "site"), 1, "npm is not installed; install Node.js, or give --runtime-files"),
        (("--web", "site", "--runtime-files", "."), 1, "has no ort.wasm.min.mjs"),
        (("--runtime-files", "."), 2, "give --web DIR"),
        (("--web", "site", "--uint8-io"), 2, "a page takes float32"),
        (("--web", "site", "--triton", "models"), 2, "give one of --web and --triton"),
    ],
)
def test_wrong_use_says_what_to_do(
    call_wkdc: Call,
    teacher: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[object, ...],
    code: int,
    said: str,
) -> None:
    monkeypatch.setenv("PATH", str(teacher.parent))  # where there is no npm
    called = call_wkdc("export", "teacher.pth", *arguments)
    assert (called.code, called.stdout) == (code, "")
    (error,) = called.errors
    assert said in error
    assert list(teacher.parent.iterdir()) == [teacher]


def test_npm_without_a_registry(call_wkdc: Call, teacher: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")  # where nobody answers
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    called = call_wkdc("export", "teacher.pth", "--web", "site")
    assert called.code == 1
    (error,) = called.errors
    assert "npm cannot fetch onnxruntime-web@" in error
    assert "--runtime-files" in error
    assert list(teacher.parent.iterdir()) == [teacher]


def test_a_damaged_archive_in_the_cache_is_fetched_again(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a power cut left of it."""
    kept = tmp_path / "kept.tgz"
    kept.write_bytes(archive.read_bytes()[:100_000])

    def fetch() -> Path:
        if not kept.exists():
            shutil.copy(archive, kept)
        return kept

    monkeypatch.setattr("wkdc.deploy.web_runtime.fetch_archive", fetch)
    assert find_runtime() == find_runtime(archive)
