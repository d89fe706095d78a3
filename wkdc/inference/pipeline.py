"""Overlapping stages: threads read and write while the caller computes."""

import collections
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


def ordered_map(
    work: Callable[[Given], Made], items: Iterable[Given], *, threads: int, ahead: int
) -> Generator[Made, None, None]:
    """`map` in threads, with the results in order.

    Stages can be chained: the items of one may be results of another. Close the last stage first.
    Items are taken in the caller's thread, and at most `ahead` + 1 are in progress or waiting, so
    memory is bounded. An error of `work` is raised when its result is due. Then, or when the
    generator is closed, pending items are cancelled, and running ones are waited for.

    Args:
        threads: 1 where the order of the work matters.
        ahead: at least 1, or nothing overlaps.
    """
    waiting: collections.deque[Future[Made]] = collections.deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def prefetch(items: Iterable[Made], *, ahead: int) -> Generator[Made, None, None]:
    """The items of a slow iterator, such as a decoder, fetched by a thread; see `ordered_map`."""
    source = iter(items)
    end = object()
    taken = ordered_map(lambda _: next(source, end), iter(int, 1), threads=1, ahead=ahead)
    try:
        for item in taken:
            if item is end:
                return
            yield item  # type: ignore[misc]
    finally:
        taken.close()
