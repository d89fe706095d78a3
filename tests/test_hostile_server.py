"""A server that means harm, at a real socket: bounded in time, memory and disk.

Each case writes what HTTP libraries of servers would never write. Time limits are shortened, and
what is tried again is tried at once: no test waits for the limits that users have.
"""

import gzip
import os
import resource
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import HANG_S
from test_named_sets import IMAGES, contents, leftovers, make_zip

from wkdc.data import download as fetch
from wkdc.data import responses
from wkdc.data.named_sets import find_dataset
from wkdc.errors import DatasetError, OutputError, WkdcError

OK = b"HTTP/1.1 200 OK\r\n"
PART = b"HTTP/1.1 206 Partial Content\r\n"
BEFORE = {"datasets/maps/a.jpg": b"kept"}


@dataclass
class Raw:
    """Answers the n-th request by the n-th of `answers`, and all later ones by the last."""

    url: str = ""
    answers: list[Callable[[socket.socket], None]] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def drip(self, connection: socket.socket, data: bytes) -> None:
        """`data` over and over, a byte at a time, until the other side has enough."""
        while not self.closing.wait(0.005):
            connection.sendall(data[:1])
            data = data[1:] + data[:1]

    def pour(self, connection: socket.socket, data: bytes) -> None:
        while not self.closing.is_set():
            connection.sendall(data)


@contextmanager
def serving(encryption: ssl.SSLContext | None = None) -> Iterator[Raw]:
    """A server at a port of its own, with HTTPS where `encryption` is given."""
    state = Raw()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                if encryption is not None:
                    self.request = encryption.wrap_socket(self.request, server_side=True)
                state.requests.append(self.request.recv(2**16))
                answer = state.answers[min(len(state.requests), len(state.answers)) - 1]
                answer(self.request)
            except OSError:  # it was hung up
                return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        scheme = "http" if encryption is None else "https"
        state.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield state
        state.closing.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def raw(monkeypatch: pytest.MonkeyPatch) -> Iterator[Raw]:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setattr(fetch, "BACKOFF_S", 0.001)
    for limit in ("WINDOW_S", "ANSWER_S"):
        monkeypatch.setattr(responses, limit, 0.2)
    with serving() as state:
        yield state


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """wkdc's cache, which holds another set already."""
    for name, content in BEFORE.items():
        (tmp_path / "cache" / name).parent.mkdir(parents=True)
        (tmp_path / "cache" / name).write_bytes(content)
    return tmp_path / "cache"


def refusal(raw: Raw, cache: Path, kind: type[WkdcError] = DatasetError) -> str:
    """What is said about a server, after which the cache holds what it held."""
    began = time.monotonic()
    with pytest.raises(kind) as caught:
        find_dataset("horse2zebra", root=cache, mirror=raw.url, cache=cache)
    assert time.monotonic() - began < HANG_S
    said = str(caught.value)
    assert said.isprintable()
    assert len(said) < 1500
    kept = contents(cache / "datasets/maps")
    assert kept == {"a.jpg": b"kept"}
    return said


def body(content: bytes, *headers: str, start: bytes = OK) -> Callable[[socket.socket], None]:
    """A whole answer, with its length."""
    lines = [*headers, f"Content-Length: {len(content)}", "", ""]
    return lambda connection: connection.sendall(start + "\r\n".join(lines).encode() + content)


def parts(cache: Path) -> list[str]:
    return sorted(name for name in leftovers(cache) if name.startswith(".downloads"))


SLOW: dict[str, tuple[bytes, bytes]] = {
    "status": (b"", b"H"),
    "header": (OK + b"X: ", b"x"),
    "headers": (OK, b"X: 1\r\n"),
    "continue": (b"HTTP/1.1 100 Continue\r\n", b"X: 1\r\n"),
    "body": (OK + b"Content-Length: 999999\r\n\r\n", b"x"),
    "endless body": (OK + b"\r\n", b"x"),
    "chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "size of a chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x"),
    "redirect": (b"HTTP/1.1 302 Found\r\nLocation: /", b"x"),
}


@pytest.mark.parametrize("case", SLOW)
def test_a_byte_now_and_then_ends(raw: Raw, cache: Path, case: str) -> None:
    """No silence, so that a limit for each of them never comes; the whole has one."""
    start, then = SLOW[case]

    def answer(connection: socket.socket) -> None:
        connection.sendall(start)
        raw.drip(connection, then)

    raw.answers = [answer]
    said = refusal(raw, cache)
    assert "cannot download horse2zebra" in said
    assert "too slowly" in said or "TimeoutError" in said
    assert len(raw.requests) == fetch.ATTEMPTS
    assert not (cache / "datasets/horse2zebra").exists()


@pytest.mark.parametrize(
    "headers", [b"\r\n", b"Transfer-Encoding: chunked\r\n\r\n"], ids=["until it closes", "chunked"]
)
def test_a_body_without_end_is_cut(
    raw: Raw, cache: Path, headers: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "MOST_BYTES", 2**21)
    monkeypatch.setattr(responses, "WINDOW_S", 60.0)
    block = b"x" * 2**16
    chunked = b"%x\r\n%b\r\n" % (len(block), block)

    def answer(connection: socket.socket) -> None:
        connection.sendall(OK + headers)
        raw.pour(connection, chunked if b"chunked" in headers else block)

    raw.answers = [answer]
    assert "it is larger than 2097152 bytes" in refusal(raw, cache)
    assert len(raw.requests) == 1
    assert parts(cache) == []


def test_a_body_without_end_leaves_room_on_the_disk(
    raw: Raw, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the disk had 3 MiB left: one of them stays."""
    usage = fetch.shutil.disk_usage(cache)
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: usage._replace(free=3 * 2**20))
    monkeypatch.setattr(responses, "WINDOW_S", 60.0)

    def answer(connection: socket.socket) -> None:
        connection.sendall(OK + b"\r\n")
        raw.pour(connection, b"x" * 2**16)

    raw.answers = [answer]
    assert "it is larger than 2097152 bytes" in refusal(raw, cache)
    assert parts(cache) == []


def test_an_archive_larger_than_any_is_not_begun(
    raw: Raw, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "MOST_BYTES", 2**21)
    raw.answers = [body(bytes(2**21 + 1))]
    assert "it is larger than 2097152 bytes" in refusal(raw, cache)
    assert parts(cache) == []


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/a.zip",
        "data:application/zip,PK",
        "gopher://127.0.0.1/",
        "javascript:1",
        "/cyclegan/datasets/horse2zebra.zip",  # again and again
        "/\x1b[31m",
        "http://[::1",
        "http:///",
        "//127.0.0.1:9/",  # where nobody answers
        "//" + "a" * 60_000,
    ],
)
def test_a_redirection_leads_to_http_alone(raw: Raw, cache: Path, location: str) -> None:
    raw.answers = [body(b"", f"Location: {location}", start=b"HTTP/1.1 302 \x1b[31mFound\r\n")]
    said = refusal(raw, cache)
    assert "redirects" in said or "cannot download horse2zebra" in said
    assert "root:" not in said
    assert parts(cache) == []


def test_a_redirection_to_another_server_is_followed(raw: Raw, cache: Path) -> None:
    """As mirrors do; what comes from there is checked as all is."""
    other = raw.url.replace("127.0.0.1", "localhost")
    found = b"HTTP/1.1 302 Found\r\n"
    raw.answers = [body(b"", f"Location: {other}/", start=found), body(make_zip())]
    folder = find_dataset("horse2zebra", root=cache, mirror=raw.url, cache=cache)
    assert contents(folder) == IMAGES
    assert b"Host: localhost" in raw.requests[1]


@pytest.fixture
def https(raw: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Raw]:
    """A server beside `raw`, whose certificate wkdc trusts."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl, which makes the certificate of a server with HTTPS")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = (*("-keyout", key, "-out", certificate), *("-days", "2", "-subj", "/CN=wkdc"))
    command = (
        openssl,
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        *made,
    )
    subprocess.run(
        [*command, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True
    )
    encryption = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    encryption.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setattr(responses, "ANSWER_S", HANG_S)  # handshakes take their time
    with serving(encryption) as state:
        yield state


@pytest.mark.parametrize("back", [False, True], ids=["to HTTP", "and back"])
def test_a_redirection_does_not_leave_https(raw: Raw, https: Raw, cache: Path, back: bool) -> None:
    """Nothing is asked of the address without HTTPS, which may lead anywhere, back to HTTPS too."""
    found = b"HTTP/1.1 302 Found\r\n"
    https.answers = [body(b"", f"Location: {raw.url}/a.zip", start=found), body(make_zip())]
    raw.answers = [
        body(b"", f"Location: {https.url}/b.zip", start=found) if back else https.answers[1]
    ]
    said = refusal(https, cache)
    assert "leads to an address without HTTPS" in said
    assert (len(https.requests), len(raw.requests)) == (1, 0)
    assert parts(cache) == []


def test_a_redirection_within_https_is_followed(https: Raw, cache: Path) -> None:
    https.answers = [
        body(b"", "Location: /b.zip", start=b"HTTP/1.1 302 Found\r\n"),
        body(make_zip()),
    ]
    folder = find_dataset("horse2zebra", root=cache, mirror=https.url, cache=cache)
    assert contents(folder) == IMAGES
    assert b"GET /b.zip" in https.requests[1]


def test_a_certificate_that_nobody_vouches_for(
    https: Raw, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    https.answers = [body(make_zip())]
    assert "certificate verify failed" in refusal(https, cache)
    assert https.requests == []


HEADERS: dict[str, bytes] = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "ANSI": b"HTTP/1.1 404 \x1b[31mred\x1b[0m\r\n\r\n",
    "long reason": b"HTTP/1.1 404 " + b"x" * 60_000 + b"\r\n\r\n",
    "long status": b"HTTP/1.1 404" + b"4" * 60_000 + b"\r\n\r\n",
    "long line": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2**17,
    "many headers": OK + b"X: 1\r\n" * 200 + b"\r\n",
    "negative length": OK + b"Content-Length: -5\r\n\r\n",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 9\r\n\r\nx",
    "huge length": OK + b"Content-Length: " + b"9" * 4000 + b"\r\n\r\n",
    "negative chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nxxxxx\r\n",
    "no chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "nothing": b"",
    "part of nothing": PART + b"Content-Range: bytes 0-9/" + b"9" * 5000 + b"\r\n\r\n",
    "informed for ever": b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers_that_no_server_sends(raw: Raw, cache: Path, case: str) -> None:
    raw.answers = [lambda connection: connection.sendall(HEADERS[case])]
    refusal(raw, cache, WkdcError)
    assert not (cache / "datasets/horse2zebra").exists()


@pytest.mark.parametrize(
    ("less", "more"), [(500, 0), (0, 500)], ids=["shorter than the body", "longer"]
)
def test_a_length_that_lies(raw: Raw, cache: Path, less: int, more: int) -> None:
    content = make_zip()
    length = len(content) - less + more
    lie = OK + f"Content-Length: {length}\r\nAccept-Ranges: none\r\n\r\n".encode() + content
    raw.answers = [lambda connection: connection.sendall(lie)]
    said = refusal(raw, cache)
    assert "is damaged" in said if less else f"ended after {len(content)} of {length}" in said
    raw.answers = [body(content)]
    assert contents(find_dataset("horse2zebra", root=cache, mirror=raw.url, cache=cache)) == IMAGES


def test_nothing_is_decoded_that_was_not_asked_for(raw: Raw, cache: Path) -> None:
    """A bomb of 256 MB in 1 MB stays 1 MB."""
    raw.answers = [body(gzip.compress(bytes(2**28), compresslevel=1), "Content-Encoding: gzip")]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "is damaged" in refusal(raw, cache)
    # In KiB. What making the bomb took is counted before; this is less than half of it.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    assert b"Accept-Encoding: identity" in raw.requests[0]
    assert parts(cache) == []


def test_parts_that_shift_from_try_to_try(raw: Raw, cache: Path) -> None:
    """Each try brings some bytes of another file under another mark: never glued together."""
    versions = [make_zip({"a.jpg": os.urandom(3000)}) for _ in range(fetch.ATTEMPTS)]

    def answer(number: int) -> Callable[[socket.socket], None]:
        content = versions[number]
        head = OK if number % 2 == 0 else PART
        at = 0 if number % 2 == 0 else 100
        span = f"Content-Range: bytes {at}-{len(content) - 1}/{len(content)}\r\n" if at else ""
        text = f'ETag: "v{number}"\r\nContent-Length: {len(content) - at}\r\n{span}\r\n'
        return lambda connection: connection.sendall(head + text.encode() + content[at : at + 100])

    raw.answers = [answer(number) for number in range(fetch.ATTEMPTS)]
    assert "cannot download horse2zebra" in refusal(raw, cache)
    content = make_zip()
    raw.answers = [body(content)]
    assert contents(find_dataset("horse2zebra", root=cache, mirror=raw.url, cache=cache)) == IMAGES


def test_a_mark_of_several_lines_does_not_stand_in_the_way(raw: Raw, cache: Path) -> None:
    """It could not be sent back with the next request, so it is none."""
    content = make_zip()
    head = f'ETag: "a\r\n b"\r\nContent-Length: {len(content)}\r\n\r\n'.encode()
    raw.answers = [
        lambda connection: connection.sendall(OK + head + content[:5000]),
        body(content),
    ]
    assert contents(find_dataset("horse2zebra", root=cache, mirror=raw.url, cache=cache)) == IMAGES
    assert b"If-Range" not in raw.requests[1]


def test_a_million_entries_are_refused_before_they_are_written(
    raw: Raw, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """30 000 empty files here, and a limit as much lower; the full limit is a matter of minutes."""
    monkeypatch.setattr("wkdc.data.unpack.MAX_MEMBERS", 12_000)
    names = {f"{number:x}.jpg": b"" for number in range(30_000)}
    raw.answers = [body(make_zip(names))]
    assert "or 12000 members" in refusal(raw, cache)
    assert parts(cache) == []


def test_names_that_differ_in_case_alone(raw: Raw, cache: Path, tmp_path: Path) -> None:
    """Both files are there, or, where the file system has one for both, neither."""
    (tmp_path / "CASE").touch()
    raw.answers = [body(make_zip({"a.jpg": b"x", "A.jpg": b"y"}))]
    if (tmp_path / "case").exists():
        assert "two entries of one name" in refusal(raw, cache)
        assert parts(cache) == []
    else:
        folder = find_dataset("horse2zebra", root=cache, mirror=raw.url, cache=cache)
        assert contents(folder) == {"a.jpg": b"x", "A.jpg": b"y"}


def test_a_disk_that_the_server_says_is_too_small(raw: Raw, cache: Path) -> None:
    raw.answers = [lambda c: c.sendall(OK + b"Content-Length: %d\r\n\r\n" % 2**62)]
    assert "do not fit on the disk" in refusal(raw, cache, OutputError)
    assert parts(cache) == []
