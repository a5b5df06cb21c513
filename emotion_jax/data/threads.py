"""Many small reads at once, for disks with latency."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_order(
    function: Callable[[T], R],
    items: Iterable[T],
    workers: int = 0,
    stop: threading.Event | None = None,
) -> Iterator[R]:
    """``map`` in threads: results in the order of the items, a bounded number in flight.

    Args:
      function: what it raises is raised here, at its item's turn; the rest is then dropped.
      items: taken as they are needed.
      workers: threads; 0 chooses, for latency rather than for cores.
      stop: set at the end, early or not, for a function that takes long and looks at it.
    """
    workers = workers or min(32, 4 * (os.cpu_count() or 1))
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers, "in-order") as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= 4 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            if stop is not None:
                stop.set()
            for future in pending:
                future.cancel()
