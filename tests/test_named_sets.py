"""Finding and fetching data sets, against a real HTTP server that misbehaves on request."""

import email.utils
import errno
import gzip
import hashlib
import io
import json
import os
import re
import struct
import subprocess
import sys
import tarfile
import threading
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import HANG_S, wait_until
from damage import check_refusal

from wkdc.data import download as fetch
from wkdc.data import responses
from wkdc.data import unpack as unpacking
from wkdc.data.download import DownloadProgress
from wkdc.data.named_sets import DATASET_NAMES, find_dataset
from wkdc.data.unpack import unpack
from wkdc.errors import DatasetError, OptionError, OutputError
from wkdc.system.files import UNPACKED_FREE_BYTES

ZIP = "/cyclegan/datasets/horse2zebra.zip"
IMAGES = {f"{part}/{i}.jpg": os.urandom(3000) for part in ("trainA", "testB") for i in range(8)}


@dataclass
class Reply:
    """How the server answers one request; the defaults are what a good server does."""

    cut_after: int | None = None  # body bytes, then the connection is gone
    ranges: bool = True
    if_range: bool = True
    status: int | None = None
    length: int | None = None  # the Content-Length that it claims
    content_range: str | None = None
    sized: bool = True
    hold: threading.Event | None = None  # waited for before the body's second half


@dataclass
class Server:
    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    dates: dict[str, float] = field(default_factory=dict)
    replies: list[Reply] = field(default_factory=list)  # for the next requests, then good ones
    requests: list[SimpleNamespace] = field(default_factory=list)
    half_sent: threading.Event = field(default_factory=threading.Event)

    def ranges(self) -> list[str | None]:
        return [request.headers.get("Range") for request in self.requests]


class Handler(BaseHTTPRequestHandler):
    server_state: Server

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        state = self.server_state
        state.requests.append(SimpleNamespace(path=self.path, headers=dict(self.headers)))
        reply = state.replies.pop(0) if state.replies else Reply()
        body = state.files.get(self.path)
        if body is None or reply.status:
            self.send_error(reply.status or 404)
            return
        etag = state.etags.get(self.path)
        date = state.dates.get(self.path)
        stamp = email.utils.formatdate(date, usegmt=True) if date is not None else None
        start, asked = 0, re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        current = not reply.if_range or condition is None or condition in (etag, stamp)
        if asked and reply.ranges and current:
            start = int(asked[1])
            if start >= len(body):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if start:
            span = f"bytes {start}-{len(body) - 1}/{len(body)}"
            self.send_header("Content-Range", reply.content_range or span)
        if etag:
            self.send_header("ETag", etag)
        if stamp:
            self.send_header("Last-Modified", stamp)
        if reply.sized:
            self.send_header("Content-Length", str(reply.length or len(body) - start))
        self.end_headers()
        send = body[start:] if reply.cut_after is None else body[start : start + reply.cut_after]
        if reply.hold:
            half = len(send) // 2
            self.wfile.write(send[:half])
            self.wfile.flush()
            state.half_sent.set()
            reply.hold.wait(HANG_S)
            send = send[half:]
        self.wfile.write(send)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()
    handler = type("BoundHandler", (Handler,), {"server_state": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        http.daemon_threads = True
        state.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "127.0.0.1")
        monkeypatch.setattr(fetch, "BACKOFF_S", 0.001)
        yield state
        http.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def find(server: Server, tmp_path: Path, cache: Path) -> Callable[..., Path]:
    def call(data: str | Path = "horse2zebra", **options: object) -> Path:
        arguments = {"root": tmp_path / "root", "mirror": server.url, "cache": cache} | options
        return find_dataset(data, **arguments)  # type: ignore[arg-type]

    return call


@pytest.fixture(autouse=True)
def _no_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the user's variables, cache and working folder out of the tests."""
    for name in ("WKDC_DATA_URL", "WKDC_CACHE"):
        monkeypatch.delenv(name, raising=False)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)


def make_zip(files: dict[str, bytes] = IMAGES, *, top: str = "horse2zebra/") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(top + name, content)
    return buffer.getvalue()


def make_tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        for info, content in members:
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tar_member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def leftovers(cache: Path) -> set[str]:
    """What a finished or refused download left in the cache, locks and digests aside."""
    store = cache / "datasets"
    found = {path.relative_to(store).as_posix() for path in store.rglob("*")}
    return {name for name in found if not re.fullmatch(r"\.downloads(/[^/]+\.(lock|json))?", name)}


# Finding


def test_the_path_itself_comes_first(find: Callable[..., Path], tmp_path: Path) -> None:
    for place in ("here/horse2zebra", "root/horse2zebra", "cache/datasets/horse2zebra"):
        (tmp_path / place).mkdir(parents=True)
    assert find() == Path("horse2zebra")
    Path("horse2zebra").rmdir()
    assert find() == tmp_path / "root/horse2zebra"
    (tmp_path / "root/horse2zebra").rmdir()
    assert find() == tmp_path / "cache/datasets/horse2zebra"


def test_only_then_the_server_is_asked(
    find: Callable[..., Path], server: Server, cache: Path
) -> None:
    server.files[ZIP] = make_zip()
    folder = find()
    assert folder == cache / "datasets/horse2zebra"
    assert contents(folder) == IMAGES
    assert find() == folder
    assert len(server.requests) == 1
    assert leftovers(cache) == {
        "horse2zebra",
        "horse2zebra/trainA",
        "horse2zebra/testB",
        *(f"horse2zebra/{name}" for name in IMAGES),
    }


def test_a_set_of_ones_own_is_found_by_its_name_under_the_root(
    find: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "root/cats2dogs").mkdir(parents=True)
    assert find("cats2dogs") == tmp_path / "root/cats2dogs"
    assert find(tmp_path / "root/cats2dogs") == tmp_path / "root/cats2dogs"


@pytest.mark.parametrize("place", ["here/maps", "root/maps", "cache/datasets/maps"])
def test_a_file_is_no_data_set(find: Callable[..., Path], tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).touch()
    with pytest.raises(DatasetError, match=r"maps is a file: a data set is a folder"):
        find("maps")


@pytest.mark.parametrize(
    "text", ["./horse2zebra", "data/horse2zebra", "/horse2zebra", "~/x", ".", "a\\b"]
)
def test_what_looks_like_a_path_is_never_downloaded(
    find: Callable[..., Path], server: Server, text: str
) -> None:
    if text == ".":
        assert find(text) == Path()
        return
    with pytest.raises(DatasetError, match=f"^no such folder: {re.escape(text)}") as caught:
        find(text)
    assert ("bare name horse2zebra" in str(caught.value)) == ("horse2zebra" in text)
    assert server.requests == []


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("horse2zebr", "horse2zebra"),
        ("HORSE2ZEBRA", "horse2zebra"),
        ("pix2pix/facade", "pix2pix/facades"),
        ("cyclegan/edges2shoes", "edges2shoes"),
        ("qqq", None),
        ("", None),
        (" ", None),
    ],
)
def test_an_unknown_name_is_answered_in_one_line(
    find: Callable[..., Path], typed: str, near: str | None
) -> None:
    with pytest.raises(DatasetError) as caught:
        find(typed)
    message = str(caught.value)
    assert f'no data set "{typed}"' in message
    assert "\n" not in message
    assert all(name in message for name in DATASET_NAMES)
    assert re.findall('did you mean "(.*)"', message) == ([near] if near else [])


@pytest.mark.parametrize("name", ["cityscapes", "pix2pix/cityscapes", "cyclegan/cityscapes"])
def test_cityscapes_must_be_prepared_by_the_user(
    find: Callable[..., Path], server: Server, tmp_path: Path, name: str
) -> None:
    with pytest.raises(DatasetError, match=r"licence forbids.*cityscapes-dataset\.com"):
        find(name)
    assert server.requests == []
    (tmp_path / "root/cityscapes").mkdir(parents=True)
    assert find(name) == tmp_path / "root/cityscapes"


def test_names_that_two_papers_share_are_two_folders(
    find: Callable[..., Path], server: Server, cache: Path
) -> None:
    server.files["/cyclegan/datasets/facades.zip"] = make_zip({"trainA/1.jpg": b"unpaired"})
    server.files["/pix2pix/datasets/facades.tar.gz"] = make_tar(
        (tar_member("facades/train/1.jpg"), b"paired")
    )
    store = cache / "datasets"
    assert find("facades") == find("cyclegan/facades") == store / "facades"
    assert find("pix2pix/facades") == find("pix2pix-facades") == store / "pix2pix-facades"
    assert contents(store / "facades") == {"trainA/1.jpg": b"unpaired"}
    assert contents(store / "pix2pix-facades") == {"train/1.jpg": b"paired"}
    assert len(server.requests) == 2


def test_every_name_asks_for_its_own_archive(find: Callable[..., Path], server: Server) -> None:
    for name in DATASET_NAMES:
        with pytest.raises(DatasetError):
            find(name)
    asked = {request.path for request in server.requests}
    assert len(asked) == len(server.requests) == len(DATASET_NAMES) - 1  # all but cityscapes
    assert {"/cyclegan/datasets/maps.zip", "/pix2pix/datasets/maps.tar.gz", ZIP} <= asked
    assert "/pix2pix/datasets/edges2shoes.tar.gz" in asked
    assert all(re.fullmatch(r"/cyclegan/.*\.zip|/pix2pix/.*\.tar\.gz", path) for path in asked)


def test_the_manual_lists_every_name() -> None:
    manual = Path(__file__).parents[1] / "docs/datasets.md"
    assert set(DATASET_NAMES) <= set(re.findall(r"`([\w/]+)`", manual.read_text(encoding="utf-8")))


def test_mirror_and_cache_come_from_the_environment(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files[f"/data{ZIP}"] = make_zip()
    monkeypatch.setenv("WKDC_DATA_URL", f"{server.url}/data/")
    monkeypatch.setenv("WKDC_CACHE", str(tmp_path / "elsewhere"))
    assert find_dataset("horse2zebra") == tmp_path / "elsewhere/datasets/horse2zebra"
    assert [request.path for request in server.requests] == [f"/data{ZIP}"]


def test_the_arguments_outrank_the_environment(
    find: Callable[..., Path], server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files[ZIP] = make_zip()
    monkeypatch.setenv("WKDC_DATA_URL", "http://127.0.0.1:9/wrong")
    monkeypatch.setenv("WKDC_CACHE", "wrong")
    assert find() == cache / "datasets/horse2zebra"


def test_the_user_cache_is_the_default(server: Server, tmp_path: Path) -> None:
    server.files[ZIP] = make_zip()
    script = (
        "from wkdc.data.named_sets import find_dataset; "
        f"print(find_dataset('horse2zebra', mirror={server.url!r}))"
    )
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "xdg")}
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | home, capture_output=True, text=True
    )
    folder = Path(done.stdout.strip())
    assert folder.parts[-3:] == ("wkdc", "datasets", "horse2zebra"), done.stderr
    assert folder.is_relative_to(tmp_path)
    assert contents(folder) == IMAGES


@pytest.mark.parametrize("mirror", ["ftp://example.org", "example.org/data", "file:///data"])
def test_a_mirror_must_be_http(find: Callable[..., Path], mirror: str) -> None:
    with pytest.raises(OptionError, match="is not an address such as"):
        find(mirror=mirror)


# Downloading


def test_progress_counts_up_to_the_whole(find: Callable[..., Path], server: Server) -> None:
    body = server.files[ZIP] = make_zip({"a.jpg": os.urandom(300_000)})
    seen: list[DownloadProgress] = []
    find(on_progress=seen.append)
    assert len(seen) > 2
    assert [report.done_bytes for report in seen] == sorted({r.done_bytes for r in seen})
    assert seen[-1] == DownloadProgress("horse2zebra", len(body), len(body))


def test_a_cut_connection_goes_on_where_it_ended(find: Callable[..., Path], server: Server) -> None:
    server.files[ZIP] = make_zip()
    server.etags[ZIP] = '"v1"'
    server.replies = [Reply(cut_after=10_000), Reply(cut_after=7_000)]
    assert contents(find()) == IMAGES
    assert server.ranges() == [None, "bytes=10000-", "bytes=17000-"]
    assert [r.headers.get("If-Range") for r in server.requests] == [None, '"v1"', '"v1"']


@pytest.mark.parametrize("mark", ["etag", "weak etag", "date", "none"])
def test_a_later_call_goes_on_from_the_part(
    find: Callable[..., Path], server: Server, cache: Path, mark: str
) -> None:
    body = server.files[ZIP] = make_zip()
    if "etag" in mark:
        server.etags[ZIP] = 'W/"v1"' if "weak" in mark else '"v1"'
    if mark == "date":
        server.dates[ZIP] = 1_500_000_000
    server.replies = [Reply(cut_after=10_000), *[Reply(status=503)] * 4]
    with pytest.raises(DatasetError, match=r"503.*10000 bytes are kept"):
        find()
    part = cache / "datasets/.downloads/horse2zebra.zip.part"
    assert part.read_bytes() == body[:10_000]
    server.requests.clear()
    assert contents(find()) == IMAGES
    assert server.ranges() == ["bytes=10000-"]
    expected = {"etag": '"v1"', "date": "Fri, 14 Jul 2017 02:40:00 GMT"}.get(mark)
    assert server.requests[0].headers.get("If-Range") == expected


@pytest.mark.parametrize("honest", [True, False], ids=["if-range", "no-if-range"])
@pytest.mark.parametrize("mark", ["etag", "date", "size"])
def test_a_changed_file_is_not_glued_to_an_old_part(
    find: Callable[..., Path], server: Server, mark: str, honest: bool
) -> None:
    server.files[ZIP] = make_zip()
    server.etags |= {ZIP: '"v1"'} if mark == "etag" else {}
    server.dates |= {ZIP: 1e9} if mark == "date" else {}
    server.replies = [Reply(cut_after=10_000), *[Reply(status=500)] * 4]
    with pytest.raises(DatasetError):
        find()
    fresh = {name: os.urandom(3000) for name in IMAGES}
    server.files[ZIP] = make_zip(fresh if mark != "size" else fresh | {"more.jpg": b"more"})
    server.etags |= {ZIP: '"v2"'} if mark == "etag" else {}
    server.dates |= {ZIP: 2e9} if mark == "date" else {}
    server.replies = [Reply(if_range=honest)]
    server.requests.clear()
    assert contents(find()) == (fresh if mark != "size" else fresh | {"more.jpg": b"more"})
    assert server.ranges()[0] == "bytes=10000-"


def test_a_part_from_another_server_is_not_continued(
    find: Callable[..., Path], server: Server
) -> None:
    server.files[ZIP] = server.files[f"/other{ZIP}"] = make_zip()
    server.replies = [Reply(cut_after=10_000), *[Reply(status=500)] * 4]
    with pytest.raises(DatasetError):
        find()
    server.requests.clear()
    assert contents(find(mirror=f"{server.url}/other")) == IMAGES
    assert server.ranges() == [None]


def test_a_server_without_ranges_restarts_from_zero(
    find: Callable[..., Path], server: Server, cache: Path
) -> None:
    body = server.files[ZIP] = make_zip()
    server.replies = [Reply(cut_after=10_000), Reply(ranges=False)]
    assert contents(find()) == IMAGES
    assert server.ranges() == [None, "bytes=10000-"]
    # zipfile overlooks bytes in front of an archive; the digest does not.
    assert json.loads((cache / "datasets/.downloads/horse2zebra.json").read_text()) == {
        "url": f"{server.url}{ZIP}",
        "sha256": hashlib.sha256(body).hexdigest(),
        "size_bytes": len(body),
    }


@pytest.mark.parametrize("wrong", ["bytes 0-9/10", "bytes 5-9/{}", "bytes 5-9/*", "nonsense"])
def test_a_range_that_was_not_asked_for_is_not_used(
    find: Callable[..., Path], server: Server, wrong: str
) -> None:
    body = server.files[ZIP] = make_zip()
    server.replies = [Reply(cut_after=10_000), Reply(content_range=wrong.format(len(body)))]
    assert contents(find()) == IMAGES
    assert len(server.requests) == 3


def test_a_part_longer_than_the_file_is_dropped(find: Callable[..., Path], server: Server) -> None:
    server.files[ZIP] = make_zip()
    server.replies = [Reply(cut_after=40_000), *[Reply(status=500)] * 4]
    with pytest.raises(DatasetError):
        find()
    server.files[ZIP] = make_zip({"a.jpg": b"small"})
    server.requests.clear()
    assert contents(find()) == {"a.jpg": b"small"}
    assert server.ranges() == ["bytes=40000-", None]


def test_a_body_that_stays_short_is_an_error(
    find: Callable[..., Path], server: Server, cache: Path
) -> None:
    body = server.files[ZIP] = make_zip()
    lie = Reply(length=len(body) + 500, ranges=False)
    server.replies = [lie] * 9
    with pytest.raises(DatasetError, match=rf"ended after {len(body)} of {len(body) + 500} bytes"):
        find()
    assert len(server.requests) == fetch.ATTEMPTS
    assert not (cache / "datasets/horse2zebra").exists()


def test_a_body_without_a_length_is_taken(find: Callable[..., Path], server: Server) -> None:
    server.files[ZIP] = make_zip()
    server.replies = [Reply(sized=False)]
    seen: list[DownloadProgress] = []
    assert contents(find(on_progress=seen.append)) == IMAGES
    assert {report.total_bytes for report in seen} == {None}


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_refusal_is_one_clear_error(
    find: Callable[..., Path], server: Server, status: int
) -> None:
    server.files[ZIP] = make_zip()
    server.replies = [Reply(status=status)]
    with pytest.raises(DatasetError, match=rf"answers {status} .*horse2zebra\.zip.*WKDC_DATA_URL"):
        find()
    assert len(server.requests) == 1


def test_a_passing_failure_is_tried_again(find: Callable[..., Path], server: Server) -> None:
    server.files[ZIP] = make_zip()
    server.replies = [Reply(status=503), Reply(status=429)]
    assert contents(find()) == IMAGES


def test_progress_renews_the_patience(find: Callable[..., Path], server: Server) -> None:
    big = {"a.jpg": os.urandom(8 * 2**20)}
    server.files[ZIP] = make_zip(big)
    server.replies = [Reply(cut_after=2**20 + 1)] * (fetch.ATTEMPTS + 2)
    assert contents(find()) == big
    assert len(server.requests) == fetch.ATTEMPTS + 3


def test_nobody_there_is_said_at_once(
    find: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waits and tries again"))
    with pytest.raises(DatasetError, match=r"(?i)cannot download horse2zebra.*refused"):
        find(mirror="http://127.0.0.1:9")


def test_a_silent_server_times_out(
    find: Callable[..., Path], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files[ZIP] = make_zip()
    monkeypatch.setattr(responses, "TIMEOUT_S", 0.15)
    silent = threading.Event()
    server.replies = [Reply(hold=silent)]
    assert contents(find()) == IMAGES
    silent.set()
    assert server.ranges() == [None, f"bytes={len(server.files[ZIP]) // 2}-"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the full disk is Linux's /dev/full")
def test_a_full_disk_is_said_plainly(
    find: Callable[..., Path], server: Server, cache: Path
) -> None:
    server.files[ZIP] = make_zip()
    part = cache / "datasets/.downloads/horse2zebra.zip.part"
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    with pytest.raises(OutputError, match=f"{os.strerror(errno.ENOSPC)}; free some space"):
        find()


def test_a_file_larger_than_the_disk_is_not_begun(
    find: Callable[..., Path], server: Server, cache: Path
) -> None:
    server.files[ZIP] = make_zip()
    server.replies = [Reply(length=2**60)]
    with pytest.raises(OutputError, match="1152921504606846976 bytes do not fit"):
        find()
    assert leftovers(cache) == set()


def test_a_cache_that_is_a_file_is_said_plainly(find: Callable[..., Path], cache: Path) -> None:
    cache.touch()
    with pytest.raises((OutputError, DatasetError), match=str(cache)):
        find()


# Trust


def test_another_digest_is_refused_until_the_record_is_deleted(
    find: Callable[..., Path], server: Server, cache: Path
) -> None:
    server.files[ZIP] = make_zip()
    find()
    forget_folder(cache)
    other = {"trainA/1.jpg": b"other"}
    server.files[ZIP] = make_zip(other)
    for _ in range(2):
        with pytest.raises(
            DatasetError, match=r"has SHA-256 [0-9a-f]{64}.*delete .*json"
        ) as caught:
            find()
        assert leftovers(cache) == set()
    record = Path(re.findall(r"delete (\S+) and", str(caught.value))[0])
    assert json.loads(record.read_text())["url"] == f"{server.url}{ZIP}"
    record.unlink()
    assert contents(find()) == other


def test_the_same_digest_is_accepted_again_from_any_server(
    find: Callable[..., Path], server: Server, cache: Path
) -> None:
    server.files[ZIP] = server.files[f"/b{ZIP}"] = make_zip()
    find()
    forget_folder(cache)
    assert contents(find(mirror=f"{server.url}/b")) == IMAGES


def test_a_spoiled_digest_record_is_not_ignored(
    find: Callable[..., Path], server: Server, cache: Path
) -> None:
    server.files[ZIP] = make_zip()
    find()
    forget_folder(cache)
    record = cache / "datasets/.downloads/horse2zebra.json"
    record.write_text("{")
    with pytest.raises(DatasetError, match=r"horse2zebra\.json cannot be read: delete it"):
        find()


def forget_folder(cache: Path) -> None:
    folder = cache / "datasets/horse2zebra"
    folder.rename(cache.parent / f"old-{os.urandom(4).hex()}")


# Unpacking


@pytest.mark.parametrize("top", ["", "./", "horse2zebra/", "some_name/"])
def test_one_top_folder_is_the_data_set(
    find: Callable[..., Path], server: Server, top: str
) -> None:
    server.files[ZIP] = make_zip(top=top)
    assert contents(find()) == IMAGES


def test_what_macos_adds_is_left_out(find: Callable[..., Path], server: Server) -> None:
    junk = ["__MACOSX/horse2zebra/._1.jpg", "horse2zebra/.DS_Store", "horse2zebra/trainA/._1.jpg"]
    good = {f"horse2zebra/{name}": content for name, content in IMAGES.items()}
    server.files[ZIP] = make_zip(good | dict.fromkeys(junk, b"junk"), top="")
    assert contents(find()) == IMAGES


def test_a_tar_with_folders_and_large_files_is_unpacked(
    find: Callable[..., Path], server: Server
) -> None:
    files = {
        f"train/{i}.jpg": os.urandom(size) for i, size in enumerate([0, 512, 2**20, 2**21 + 9])
    }
    members = [(tar_member(f"edges2shoes/{name}"), content) for name, content in files.items()]
    folder = (tar_member("edges2shoes/", tarfile.DIRTYPE), b"")
    server.files["/pix2pix/datasets/edges2shoes.tar.gz"] = make_tar(folder, *members)
    assert contents(find("edges2shoes")) == files


def zip_link() -> bytes:
    info = zipfile.ZipInfo("horse2zebra/link")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("horse2zebra/1.jpg", b"good")
        file.writestr(info, "../../outside")
    return buffer.getvalue()


def zip_bomb() -> bytes:
    return make_zip({"1.jpg": b"good", "zeros.jpg": bytes(UNPACKED_FREE_BYTES + 2**23)})


def zip_name() -> bytes:
    """A file whose name has 3000 bytes in front of it, and 20 in the list; zipfile shows both."""
    content = make_zip()
    return content[:26] + struct.pack("<H", 3000) + content[28:]


def zip_twice() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's, of just that
        buffer = io.BytesIO(make_zip({"a": b"x"}))
        with zipfile.ZipFile(buffer, "a") as file:
            file.writestr("horse2zebra/a", b"y")
    return buffer.getvalue()


def zip_by(method: int) -> bytes:
    """LZMA takes as much memory as the file says, and bzip2 makes 4 GB of 4 KB in one step."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        file.writestr("a.jpg", b"x")
    return buffer.getvalue()


def zip_list() -> bytes:
    """A file of nothing but its end, which says that the list before it is 32 MiB long."""
    size = 2**25 + 1
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, size, 0, 0)
    return bytes(size) + end


def tar_sparse(places: bytes) -> bytes:
    """A file with holes, whose `places` come before its content."""
    info = tar_member("facades/sparse.jpg")
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "facades/sparse.jpg",
        "GNU.sparse.realsize": "9",
    }
    return make_tar((info, places))


def spoiled(archive: bytes, at: int) -> bytes:
    return archive[:at] + bytes([archive[at] ^ 255]) + archive[at + 1 :]


GOOD = (tar_member("facades/1.jpg"), os.urandom(5000))
HOSTILE: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "zip-parent": ("zip", lambda: make_zip({"a": b"", "../../evil": b"x"}), "leaves the folder"),
    "zip-backslash": ("zip", lambda: make_zip({"..\\..\\evil": b"x"}), "leaves the folder"),
    "zip-absolute": ("zip", lambda: make_zip({"/tmp/evil": b"x"}, top=""), "an absolute path"),
    "zip-drive": ("zip", lambda: make_zip({"C:\\evil": b"x"}, top=""), "an absolute path"),
    "zip-link": ("zip", zip_link, "a link"),
    "zip-bomb": ("zip", zip_bomb, "would unpack to more than"),
    "zip-many": ("zip", make_zip, "would unpack to more than .* members"),
    "zip-clash": ("zip", lambda: make_zip({"a": b"x", "a/b": b"y"}), "two entries of one name"),
    "zip-name": ("zip", zip_name, "is damaged"),
    "zip-twice": ("zip", zip_twice, "two entries of one name"),
    "zip-deep": ("zip", lambda: make_zip({"a/" * 17 + "b": b"x"}), "a path that is too long"),
    "zip-long": ("zip", lambda: make_zip({"a" * 256: b"x"}), "a path that is too long"),
    "zip-lzma": ("zip", lambda: zip_by(zipfile.ZIP_LZMA), "compressed by method 14"),
    "zip-bzip2": ("zip", lambda: zip_by(zipfile.ZIP_BZIP2), "compressed by method 12"),
    "zip-list": ("zip", zip_list, "a header of 33554433 bytes"),
    "zip-empty": ("zip", lambda: make_zip({}), "holds no files"),
    "zip-truncated": ("zip", lambda: make_zip()[:-500], "is damaged"),
    "zip-spoiled": ("zip", lambda: spoiled(make_zip(), 1500), "is damaged"),
    "zip-is-html": ("zip", lambda: b"<html>Please log in</html>", "is damaged"),
    "tar-parent": ("tar", lambda: make_tar(GOOD, (tar_member("../evil"), b"x")), "leaves the f"),
    "tar-absolute": ("tar", lambda: make_tar(GOOD, (tar_member("/evil"), b"x")), "an absolute"),
    "tar-link": (
        "tar",
        lambda: make_tar(
            GOOD,
            (tar_member("facades/up", tarfile.SYMTYPE, "../.."), b""),
            (tar_member("facades/up/evil"), b"x"),
        ),
        "a link",
    ),
    "tar-hardlink": (
        "tar",
        lambda: make_tar(GOOD, (tar_member("facades/h", tarfile.LNKTYPE, "/etc/passwd"), b"")),
        "a link",
    ),
    "tar-device": ("tar", lambda: make_tar((tar_member("zero", tarfile.CHRTYPE), b"")), "a device"),
    "tar-fifo": ("tar", lambda: make_tar((tar_member("fifo", tarfile.FIFOTYPE), b"")), "a device"),
    "tar-bomb": (
        "tar",
        lambda: make_tar(GOOD, (tar_member("zeros"), bytes(UNPACKED_FREE_BYTES + 2**23))),
        "would unpack to more than",
    ),
    "tar-sparse": ("tar", lambda: tar_sparse(b"1\n0\n9\n"), "a sparse file"),
    "tar-sparse-map": ("tar", lambda: tar_sparse(b"999999999\n" + b"0\n" * 2**21), "a header of"),
    "tar-twice": ("tar", lambda: make_tar(GOOD, GOOD), "two entries of one name"),
    "tar-zeros": ("tar", lambda: gzip.compress(bytes(2**28)), "goes on after its end"),
    "tar-header": (
        "tar",
        lambda: make_tar((tar_member("header", tarfile.XHDTYPE), bytes(2**21)), GOOD),
        "a header of 2097152 bytes",
    ),
    "tar-trailer": ("tar", lambda: make_tar(GOOD, (tar_member("x"), bytes(9)))[:-4], "is damaged"),
    "tar-spoiled": ("tar", lambda: spoiled(make_tar(GOOD), -6), "is damaged"),
    "tar-truncated": ("tar", lambda: make_tar(GOOD)[:2500], "is damaged"),
    "tar-is-zip": ("tar", make_zip, "is damaged"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_or_damaged_archive_leaves_nothing(
    find: Callable[..., Path],
    server: Server,
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
) -> None:
    kind, build, message = HOSTILE[case]
    name = "horse2zebra" if kind == "zip" else "pix2pix/facades"
    path = ZIP if kind == "zip" else "/pix2pix/datasets/facades.tar.gz"
    server.files[path] = build()
    with monkeypatch.context() as patch:
        patch.setattr(unpacking, "MAX_MEMBERS", 5 if case == "zip-many" else unpacking.MAX_MEMBERS)
        with pytest.raises(DatasetError, match=message) as caught:
            find(name)
    check_refusal(caught.value)
    assert leftovers(cache) == set()
    assert not list(tmp_path.rglob("*evil*"))
    assert not list(cache.rglob("*.json"))  # what was refused is not what later ones must match
    server.files[path] = make_zip() if kind == "zip" else make_tar(GOOD)
    assert contents(find(name)) == (IMAGES if kind == "zip" else {"1.jpg": GOOD[1]})


def test_unpacking_stops_before_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = tarfile.TarInfo("huge.jpg")
    huge.size = 2**60
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(huge.tobuf() + bytes(10_240)))
    monkeypatch.setattr("wkdc.system.files.UNPACKED_FREE_BYTES", 2**61)
    with pytest.raises(OutputError, match="1152921504606846976 bytes do not fit"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Kills and crowds

KILL = """
import os, re, signal, sys
from pathlib import Path
from wkdc.data.named_sets import find_dataset

event, place, left, mirror, cache = *sys.argv[1:3], int(sys.argv[3]), *sys.argv[4:]

def kill_at(name, arguments):
    global left
    if name == event and any(re.search(place, str(argument)) for argument in arguments):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill_at)
find_dataset("horse2zebra", mirror=mirror, cache=Path(cache))
print("survived")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.parametrize(
    ("event", "place", "after", "whole"),
    [
        ("os.rename", r"\.zip\.part$", 0, False),
        ("open", r"\.unpacking/", 0, False),
        ("open", r"\.unpacking/", 5, False),
        ("os.rename", r"\.json\.draft$", 0, False),
        ("os.rename", r"\.unpacking", 0, False),  # all unpacked, the final name not yet taken
        ("os.remove", r"\.zip$", 0, True),
    ],
)
def test_a_kill_at_any_point_leaves_a_whole_folder_or_none(
    find: Callable[..., Path],
    server: Server,
    cache: Path,
    event: str,
    place: str,
    after: int,
    whole: bool,
) -> None:
    server.files[ZIP] = make_zip()
    arguments = [event, place, str(after), server.url, str(cache)]
    done = subprocess.run(
        [sys.executable, "-c", KILL, *arguments], capture_output=True, text=True, timeout=HANG_S
    )
    assert (done.returncode, done.stdout) == (-9, ""), done.stderr
    final = cache / "datasets/horse2zebra"
    assert (contents(final) if final.exists() else None) == (IMAGES if whole else None)
    assert contents(find()) == IMAGES
    assert len(server.requests) == 1
    assert (cache / "datasets/.downloads/horse2zebra.unpacking").exists() == whole  # empty then


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_download_killed_midway_goes_on(
    find: Callable[..., Path], server: Server, cache: Path
) -> None:
    body = server.files[ZIP] = make_zip()
    server.etags[ZIP] = '"v1"'
    never = threading.Event()
    server.replies = [Reply(hold=never)]
    process = start(server, cache)
    assert server.half_sent.wait(HANG_S)
    part = cache / "datasets/.downloads/horse2zebra.zip.part"
    wait_until(lambda: part.exists() and part.stat().st_size == len(body) // 2)
    process.kill()
    process.communicate()
    never.set()
    assert not (cache / "datasets/horse2zebra").exists()
    assert contents(find()) == IMAGES
    assert server.ranges() == [None, f"bytes={len(body) // 2}-"]


def test_two_processes_share_one_download(server: Server, cache: Path) -> None:
    server.files[ZIP] = make_zip()
    gate = threading.Event()
    server.replies = [Reply(hold=gate)]
    processes = [start(server, cache) for _ in range(3)]
    assert [process.stdout and process.stdout.readline() for process in processes] == ["go\n"] * 3
    assert server.half_sent.wait(HANG_S)
    threading.Event().wait(0.2)  # let the other two come to the download as well
    gate.set()
    outputs = [process.communicate(timeout=HANG_S) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert {out.strip() for out, _ in outputs} == {str(cache / "datasets/horse2zebra")}
    assert contents(cache / "datasets/horse2zebra") == IMAGES
    assert len(server.requests) == 1


def start(server: Server, cache: Path) -> "subprocess.Popen[str]":
    script = (
        "import sys; from pathlib import Path; from wkdc.data.named_sets import find_dataset\n"
        "print('go', flush=True)\n"
        "print(find_dataset('horse2zebra', mirror=sys.argv[1], cache=Path(sys.argv[2])))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script, server.url, str(cache)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
