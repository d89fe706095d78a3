"""Work that overlaps: threads read ahead and write behind while another draws."""

import collections
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


def ordered_map(
    work: Callable[[Given], Made], items: Iterable[Given], *, threads: int, ahead: int
) -> Generator[Made, None, None]:
    """`map`, with the work done by threads while the caller does its own; results stay in order.

    Stages chain: the items of one may be the results of another, with what the caller does between
    them. Close the last stage first. An item is taken, in the caller's thread, when the one before
    it was handed over, and no more than `ahead` + 1 are in work or wait, so that memory is bounded.
    What `work` raises is raised at its result's turn; then, or when the generator is closed, what
    has not begun never begins, and what has is waited for.

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
    """The same items, each made by a thread while the caller works with those before it.

    For an iterator that takes time, such as a decoder; see `ordered_map`.
    """
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
