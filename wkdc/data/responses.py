"""Answers of a server that is not trusted: bounded in time, and from HTTP alone."""

import contextlib
import http.client
import os
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from wkdc.errors import one_line

TIMEOUT_S = 30.0  # for the connection, and for each silence of the server
ANSWER_S = 120.0  # for an answer up to its body, with all redirections
WINDOW_S = 60.0  # a body has to bring WINDOW_BYTES in each such time
WINDOW_BYTES = 2**16

_CHUNK_BYTES = 2**16


class Interrupted(Exception):
    """A try that failed in a way that another may not."""


class Downgraded(Exception):
    """A redirection from HTTPS to an address without it, where anybody on the way may answer."""


class _Redirections(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: Any, *rest: Any
    ) -> urllib.request.Request | None:
        """What is asked next; never without HTTPS after an address with it."""
        following = super().redirect_request(req, fp, *rest)
        if following is not None and req.type == "https" and following.type != "https":
            fp.close()
            raise Downgraded
        return following


def answer_to(request: urllib.request.Request) -> http.client.HTTPResponse:
    """The server's answer up to its body, within `ANSWER_S`, however slowly its headers come.

    Raises:
        Downgraded: a redirection leaves HTTPS; it is not followed.
    """
    opener = urllib.request.OpenerDirector()  # which knows no file:, ftp: and data:
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirections(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    answer: Future[http.client.HTTPResponse] = Future()

    def ask() -> None:
        try:
            answer.set_result(opener.open(request, timeout=TIMEOUT_S))
        except BaseException as error:
            answer.set_exception(error)

    # The thread of an answer that comes too slowly is left to end with its connection.
    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.result(ANSWER_S)
    except TimeoutError:
        answer.add_done_callback(_close_late)
        raise


def _close_late(answer: "Future[http.client.HTTPResponse]") -> None:
    if answer.exception() is None:
        answer.result().close()


def chunks(
    response: http.client.HTTPResponse, total_bytes: int | None, start: int
) -> Iterator[bytes]:
    """The body of `response`, which starts at byte `start` of the whole, up to `total_bytes`.

    Raises:
        Interrupted: it breaks off, or comes more slowly than `WINDOW_BYTES` in `WINDOW_S`.
    """
    left = None if total_bytes is None else max(0, total_bytes - start)
    while left != 0:
        came, until = 0, time.monotonic() + WINDOW_S
        slow = threading.Event()
        # What a server sends between the parts of a body may hold up a single read for ever.
        watch = threading.Timer(2 * WINDOW_S, _cut, (response, slow))
        watch.daemon = True
        watch.start()
        try:
            while left != 0 and time.monotonic() < until:
                size = _CHUNK_BYTES if left is None else min(left, _CHUNK_BYTES)
                chunk = response.read1(size)
                if not chunk:
                    if slow.is_set():
                        raise TimeoutError
                    return
                came += len(chunk)
                left = None if left is None else left - len(chunk)
                yield chunk
        except (OSError, http.client.HTTPException) as error:
            what = "the server sends too slowly" if slow.is_set() else one_line(error)
            raise Interrupted(what) from error
        finally:
            watch.cancel()
        if left != 0 and came < WINDOW_BYTES:
            raise Interrupted(f"the server sends too slowly: {came} bytes in {WINDOW_S:g} s")


def _cut(response: http.client.HTTPResponse, slow: threading.Event) -> None:
    """End the connection under a read that waits; to close the response would wait with it."""
    slow.set()
    with (
        contextlib.suppress(OSError, ValueError, AttributeError),  # it has ended meanwhile
        socket.socket(fileno=os.dup(response.fileno())) as connection,
    ):
        connection.shutdown(socket.SHUT_RDWR)
