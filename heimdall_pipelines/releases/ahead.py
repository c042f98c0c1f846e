"""Fetches the next items of an iterator while the caller works on one: servers and files then work meanwhile."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
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


def groups_of(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut items into lists of `size`, of which only the last may be smaller.

    >>> list(groups_of(range(3), 2))
    [[0, 1], [2]]
    """
    iterator = iter(items)
    while some := list(islice(iterator, size)):
        yield some
