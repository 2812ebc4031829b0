"""Turns of those who read data sets are shared by projects, whatever one of them sends."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from service.api.readers import MOST_READING, MOST_READING_OF_ONE, MOST_WAITING_OF_ONE, Readers
from service.operations.errors import ServiceError


class Crowd:
    """Readers in threads of their own; ``order`` has whoever got a turn."""

    def __init__(self) -> None:
        self.readers, self.order = Readers(), list[str]()
        self._seen, self._go, self._threads = threading.Condition(), threading.Semaphore(0), list[threading.Thread]()

    def send(self, project: str) -> None:
        """One more, which reads or waits when this returns."""
        before = self._there()
        thread = threading.Thread(target=self._read, args=(project,))
        self._threads.append(thread)
        thread.start()
        with self.readers._change:
            assert self.readers._change.wait_for(lambda: self._there() > before, 30)

    def _there(self) -> int:
        return self.readers._reading.total() + len(self.readers._waiting)

    def _read(self, project: str) -> None:
        with self.readers.turn(project):
            with self._seen:
                self.order.append(project)
                self._seen.notify_all()
            self._go.acquire()

    def until(self, count: int) -> list[str]:
        """Who had a turn, once they are so many."""
        with self._seen:
            assert self._seen.wait_for(lambda: len(self.order) >= count, 30), self.order
            return list(self.order)

    def end(self, count: int = 1) -> None:
        """Let so many of those who read go."""
        self._go.release(count)

    def close(self) -> None:
        self.end(len(self._threads))
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    made = Crowd()
    yield made
    made.close()


def test_one_project_leaves_a_turn_to_others(crowd: Crowd) -> None:
    for _ in range(MOST_READING_OF_ONE + MOST_WAITING_OF_ONE):
        crowd.send("a")
    assert crowd.until(MOST_READING_OF_ONE) == ["a"] * MOST_READING_OF_ONE
    assert MOST_READING_OF_ONE < MOST_READING
    with pytest.raises(ServiceError) as caught, crowd.readers.turn("a"):
        pass
    assert (caught.value.status, caught.value.code) == (503, "overloaded")
    # Nobody waits for it.
    crowd.send("b")
    assert crowd.until(MOST_READING_OF_ONE + 1)[-1] == "b"


def test_the_next_turn_is_of_who_has_least(crowd: Crowd) -> None:
    for project in "aabaabc":
        crowd.send(project)
    assert sorted(crowd.until(3)) == ["a", "a", "b"]
    crowd.end()
    # "c" came last and has none.
    assert crowd.until(4)[3] == "c"
