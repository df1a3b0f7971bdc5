"""Working through many items in threads, a bounded number ahead of who takes the results.

Belongs here: order and bounds. Not here: what is done with an item.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

IO_THREADS = 16
"""Files that are read at once, where nothing else is said: reading waits, above all for a store far away."""


def ahead(
    function: Callable[[T], R], items: Iterable[T], threads: int, at_most: int | None = None
) -> Generator[R, None, None]:
    """`function` of each item, in order, from so many threads.

    At most `at_most` items are under way or done but not taken (None: as many as threads), so memory does
    not grow with their number. What the function raises is raised in its item's place; then, and when the
    generator is closed, nothing more is begun.
    """
    limit = max(1, threads if at_most is None else at_most)
    pending: deque[Future[R]] = deque()
    remaining = iter(items)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    try:
        for item in remaining:
            pending.append(pool.submit(function, item))
            if len(pending) >= limit:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
