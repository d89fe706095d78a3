"""Download a file over HTTP, resuming after interruptions.

`download` completes the file or leaves nothing at its name. It does not lock: the caller ensures
that no other process works on the same files. The server is not trusted: it can neither send for
ever, nor so slowly that it takes for ever, nor lead elsewhere than to HTTP.
"""

import errno
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from wkdc.data.responses import Downgraded, Interrupted, answer_to, chunks
from wkdc.errors import DatasetError, one_line
from wkdc.system.files import writing

ATTEMPTS = 5  # failed tries in a row before a download is given up
BACKOFF_S = 1.0  # the wait after the first failure; it doubles with each, up to 8 times
MOST_BYTES = 2**36  # of an archive; the largest public set has 8.6e9

_PROGRESS_BYTES = 2**20  # a try that brought this much is no failed try
_NO_CONNECTION = (
    socket.gaierror,
    ConnectionRefusedError,
    ssl.SSLError,
    http.client.InvalidURL,
    ValueError,  # a host name that cannot be encoded
)
_RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class DownloadProgress:
    """Progress of the download of `name`; `total_bytes` is None where it is unknown."""

    name: str
    done_bytes: int
    total_bytes: int | None


class _Unreachable(Interrupted):
    """No connection; only retried in the middle of a download."""


@dataclass(frozen=True)
class _Version:
    """The version of the file that a `.part` belongs to, as the server identifies it."""

    url: str
    etag: str | None
    last_modified: str | None
    total_bytes: int | None


def download(
    url: str,
    archive: Path,
    *,
    name: str,
    on_progress: Callable[[DownloadProgress], None] | None = None,
) -> None:
    """Fetch `url` into the file `archive`, unless that is already there.

    The bytes go to `archive.part`, which an interrupted download leaves and the next one continues
    by an HTTP range, as long as the server still offers the same file. When complete it is renamed.

    Raises:
        DatasetError: the server refuses, cannot be reached, or fails `ATTEMPTS` times in a row.
        OutputError: the file cannot be written.
    """
    if archive.exists():
        return
    part = archive.with_name(f"{archive.name}.part")
    before = most = _size(part)
    failures = 0
    while True:
        try:
            _receive(url, part, name, on_progress)
            break
        except Interrupted as error:
            size = _size(part)
            if size >= most + _PROGRESS_BYTES:
                most, failures = size, 0
            failures += 1
            hopeless = isinstance(error, _Unreachable) and size == before
            if hopeless or failures >= ATTEMPTS:
                kept = f" ({size} bytes are kept for the next try)" if size else ""
                raise DatasetError(
                    f"cannot download {name} from {url}: {error}{kept}; check the network, or name "
                    "another server in WKDC_DATA_URL"
                ) from error
            time.sleep(BACKOFF_S * min(2 ** (failures - 1), 8))
    with writing(archive):
        part.replace(archive)
        _version_file(part).unlink(missing_ok=True)


def _receive(
    url: str, part: Path, name: str, on_progress: Callable[[DownloadProgress], None] | None
) -> None:
    """Make one request that completes `part`, or raise."""
    had = _load_version(part, url)
    done = _size(part) if had else 0
    if had and done and done == had.total_bytes:
        return
    headers = {"User-Agent": "wkdc"}
    if had and done:
        headers["Range"] = f"bytes={done}-"
        # A weak ETag says nothing about bytes, so it may not stand in If-Range (RFC 9110, 13.1.5).
        strong = had.etag if had.etag and not had.etag.startswith("W/") else had.last_modified
        headers |= {"If-Range": strong} if strong else {}
    with _open(urllib.request.Request(url, headers=headers), part) as response:
        start, version = _describe(response, url)
        if response.status == 206 and (not had or start != done or _differs(had, version)):
            _forget(part)
            raise Interrupted("the server sends another part or file than was asked for")
        total = version.total_bytes
        with writing(part):
            room = shutil.disk_usage(part.parent).free
            if total is not None and total - start > room:
                raise OSError(errno.ENOSPC, f"{total} bytes do not fit on the disk")
            out = part.open("ab" if start else "wb", buffering=0)
        most = min(MOST_BYTES, start + room - _PROGRESS_BYTES if total is None else total)
        with out:
            if not start:
                _save_version(part, version)
            done = start
            for chunk in chunks(response, total, start):
                done += len(chunk)
                if max(done, total or 0) > most:
                    _forget(part)
                    raise DatasetError(
                        f"{url} is refused, nothing is kept: it is larger than {most} bytes; name "
                        "another server in WKDC_DATA_URL"
                    )
                with writing(part):
                    _write(out, chunk)
                if on_progress:
                    on_progress(DownloadProgress(name, done, total))
            with writing(part):
                os.fsync(out.fileno())
    if total is not None and done < total:
        raise Interrupted(f"the connection ended after {done} of {total} bytes")


def _open(request: urllib.request.Request, part: Path) -> http.client.HTTPResponse:
    try:
        response = answer_to(request)
    except Downgraded:
        raise DatasetError(
            f"{request.full_url} leads to an address without HTTPS, which is not asked; name "
            "another server in WKDC_DATA_URL"
        ) from None
    except urllib.error.HTTPError as error:
        error.close()
        # In words of ours: the server's may be of any length, or control a terminal.
        answer = f"the server answers {error.code} {http.client.responses.get(error.code, '')}"
        if 300 <= error.code < 400:
            answer = f"the server redirects ({error.code}) in a circle, or to what is not HTTP,"
        if error.code == 416:  # the file became shorter than our part of it
            _forget(part)
            raise Interrupted(answer) from error
        if error.code in _RETRY_STATUS:
            raise Interrupted(answer) from error
        raise DatasetError(
            f"{answer} for {request.full_url}; name another server in WKDC_DATA_URL, or give the "
            "path of a folder"
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        text = one_line(getattr(reason, "strerror", None) or reason)
        if isinstance(reason, (*_NO_CONNECTION, str)):  # of an address that is none
            raise _Unreachable(text) from error
        raise Interrupted(text) from error
    return response


def _describe(response: http.client.HTTPResponse, url: str) -> tuple[int, _Version]:
    """The byte at which the body of `response` starts, and what it says about the whole file."""
    start, total = 0, response.length
    if response.status == 206:
        span = re.fullmatch(
            r"bytes (\d{1,18})-\d+/(\d{1,18}|\*)", response.headers.get("Content-Range", "")
        )
        if span is None:
            raise Interrupted("the server answers a part and does not say which")
        start = int(span[1])
        total = int(span[2]) if span[2] != "*" else (start + total if total is not None else None)
    if total is not None and total >= 2**63:
        raise Interrupted("the server names a length that no file has")
    # What fills several lines could not be sent back, and would stand in the way of every try.
    etag, modified = (
        value if value is not None and value.isprintable() else None
        for value in (response.headers.get("ETag"), response.headers.get("Last-Modified"))
    )
    return start, _Version(url, etag, modified, total)


def _differs(had: _Version, now: _Version) -> bool:
    """Whether an identifier that both have differs, or both have none."""
    identifiers = (
        (had.etag, now.etag),
        (had.last_modified, now.last_modified),
        (had.total_bytes, now.total_bytes),
    )
    shared = [old == new for old, new in identifiers if old is not None and new is not None]
    return not (shared and all(shared))


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _load_version(part: Path, url: str) -> _Version | None:
    try:
        version = _Version(**json.loads(_version_file(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return version if version.url == url else None


def _save_version(part: Path, version: _Version) -> None:
    with writing(part):
        _version_file(part).write_text(json.dumps(asdict(version)), encoding="utf-8")


def _forget(part: Path) -> None:
    with writing(part):
        part.unlink(missing_ok=True)
        _version_file(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _write(out: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[out.write(view) :]
