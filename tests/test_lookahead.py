"""Work ahead of its use: order, bound, errors in their place, and nothing left behind when the caller stops."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from c3.common.lookahead import iterate_ahead, look_ahead


class Recorder:
    """Starts tasks that are finished by asking for their result, and counts those under way."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.cancelled: list[int] = []
        self.under_way = self.most = 0

    def start(self, item: int) -> Task:
        self.started.append(item)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        return Task(self, item)


class Task:
    def __init__(self, recorder: Recorder, item: int) -> None:
        self.recorder, self.item = recorder, item

    def result(self) -> int:
        self.recorder.under_way -= 1
        if self.item == 13:
            raise ValueError("thirteen")
        return 10 * self.item

    def cancel(self) -> None:
        self.recorder.cancelled.append(self.item)


@pytest.mark.parametrize("ahead", [0, 1, 2, 5, 50])
@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_results_come_in_order_and_never_more_than_asked_are_under_way(ahead: int, count: int) -> None:
    recorder, found = Recorder(), []
    for result in look_ahead(recorder.start, range(count), ahead):
        found.append(result)
        assert recorder.under_way == min(ahead, count - len(found))  # while the caller works
    assert found == [10 * item for item in range(count)]
    assert recorder.most <= ahead + 1  # the one waited for is one of them
    assert not recorder.cancelled


def test_items_are_taken_no_further_than_needed() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    assert next(look_ahead(Recorder().start, items(), 3)) == 0
    assert taken == [0, 1, 2, 3]


def test_an_error_comes_in_the_place_of_its_result_and_cancels_the_rest() -> None:
    recorder = Recorder()
    results = look_ahead(recorder.start, [1, 2, 13, 4, 5, 6, 7], 2)
    assert [next(results), next(results)] == [10, 20]
    with pytest.raises(ValueError, match="thirteen"):
        next(results)
    assert recorder.started == [1, 2, 13, 4, 5]
    assert recorder.cancelled == [4, 5]


def test_closing_early_cancels_what_has_not_begun() -> None:
    release = threading.Event()
    futures: list[Future[int]] = []
    with ThreadPoolExecutor(1) as pool:

        def start(item: int) -> Future[int]:
            futures.append(pool.submit(lambda: (item == 0 or release.wait(120)) and item))
            return futures[-1]

        results = look_ahead(start, range(100), 4)
        assert next(results) == 0
        results.close()
        release.set()
    assert len(futures) == 5
    assert all(future.cancelled() for future in futures[2:])  # the second may run already


def test_a_thread_makes_the_next_items_and_no_more() -> None:
    made, main = [], threading.get_ident()
    closed = threading.Event()

    def items() -> Generator[int, None, None]:
        try:
            for item in range(100):
                assert threading.get_ident() != main
                made.append(item)
                yield item
        finally:
            closed.set()

    ahead = iterate_ahead(items(), 2, "test")
    assert [next(ahead), next(ahead)] == [0, 1]
    ahead.close()
    assert closed.is_set()
    assert len(made) <= 4
    assert list(iterate_ahead(items(), 2, "test")) == list(range(100))


def test_an_error_of_the_items_comes_after_those_before_it() -> None:
    def items() -> Generator[int, None, None]:
        yield 1
        yield 2
        raise ValueError("no more")

    found: list[int] = []
    with pytest.raises(ValueError, match="no more"):
        found.extend(iterate_ahead(items(), 2, "test"))
    assert found == [1, 2]
