"""Fetches the next items of an iterator while the caller works on one: servers and files then work meanwhile."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T]) -> Iterator[T]:
    """Give the items in their order, each fetched in a thread while the caller works on the one before.

    >>> list(ahead(range(3)))
    [0, 1, 2]
    """
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as executor:
        waiting = executor.submit(next, iterator, end)
        while (item := waiting.result()) is not end:
            waiting = executor.submit(next, iterator, end)
            yield item  # type: ignore[misc]


def all_ahead(calls: Iterable[Callable[[], T]], num_threads: int) -> Iterator[T]:
    """Give the results of calls in their order; a few are made at once, ahead of the caller.

    Parameters
    ----------
    calls : iterable of callable
        Taken in the caller's thread, only as many as are under way.
    num_threads : int

    Examples
    --------
    >>> list(all_ahead([lambda: 1, lambda: 2], 2))
    [1, 2]
    """
    with ThreadPoolExecutor(num_threads, thread_name_prefix="ahead") as executor:
        waiting: deque[Future[T]] = deque()
        try:
            for call in calls:
                waiting.append(executor.submit(call))
                if len(waiting) > num_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()


def groups_of(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut items into lists of `size`, of which only the last may be smaller.

    >>> list(groups_of(range(3), 2))
    [[0, 1], [2]]
    """
    iterator = iter(items)
    while some := list(islice(iterator, size)):
        yield some
