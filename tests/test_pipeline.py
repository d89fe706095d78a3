"""Work of threads comes back in order, no more of it waits than was asked for, and errors pass."""

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from conftest import HANG_S

from wkdc.inference.pipeline import ordered_map, prefetch


class Gate:
    """Work that stands still until it is opened, and counts who stands in it."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.begun: list[int] = []

    def __call__(self, item: int) -> int:
        self.begun.append(item)
        assert self.open.wait(HANG_S)
        return item * item


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("ahead", [1, 4, 100])
def test_results_come_in_order(threads: int, ahead: int) -> None:
    done = list(ordered_map(lambda n: n * n, range(50), threads=threads, ahead=ahead))
    assert done == [n * n for n in range(50)]
    assert list(prefetch(iter(range(50)), ahead=ahead)) == list(range(50))


def test_one_translates_while_others_read_and_write() -> None:
    """Each stage waits until the one before it has begun with the next, which only threads can."""
    last = 20
    read_begun, made_begun = ([threading.Event() for _ in range(last + 1)] for _ in range(2))

    def read(n: int) -> int:
        read_begun[n].set()
        return n

    def translate(n: int) -> int:
        made_begun[n].set()
        assert read_begun[min(n + 1, last)].wait(HANG_S)
        return n

    def write(n: int) -> int:
        assert made_begun[min(n + 1, last)].wait(HANG_S)
        return n

    items = ordered_map(read, range(last + 1), threads=1, ahead=1)
    written = ordered_map(write, map(translate, items), threads=1, ahead=1)
    assert list(written) == list(range(last + 1))


def test_no_more_is_taken_than_may_wait() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for n in range(100):
            taken.append(n)
            yield n

    results = ordered_map(lambda n: n, items(), threads=2, ahead=3)
    for n, result in enumerate(results):
        assert result == n
        assert len(taken) <= n + 1 + 3


def test_an_error_of_the_work_is_raised_at_its_turn() -> None:
    def fail(n: int) -> int:
        if n == 5:
            raise ValueError("the fifth")
        return n

    seen: list[int] = []
    with pytest.raises(ValueError, match="the fifth"):
        seen.extend(ordered_map(fail, range(100), threads=2, ahead=2))
    results = ordered_map(fail, range(100), threads=2, ahead=2)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="the fifth"):
        next(results)


def test_an_error_of_the_source_is_raised() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    for results in (
        ordered_map(lambda n: n, items(), threads=1, ahead=1),
        prefetch(items(), ahead=1),
    ):
        with pytest.raises(OSError, match="gone"):
            list(results)


def test_who_closes_waits_for_what_has_begun_and_for_nothing_else() -> None:
    before = set(threading.enumerate())
    gate = Gate()
    results = ordered_map(gate, range(100), threads=1, ahead=3)
    opener = threading.Timer(0.2, gate.open.set)
    opener.start()
    with closing(results):
        assert next(results) == 0
    assert len(gate.begun) <= 4
    opener.join()
    assert set(threading.enumerate()) <= before
