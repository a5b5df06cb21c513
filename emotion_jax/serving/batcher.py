"""Images of many clients, looked at together."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from emotion_jax.inference.recognizer import Result

Work = Callable[[Sequence[bytes]], Sequence[Result]]


class Busy(Exception):
    """Too many images are waiting."""


class Batcher:
    """Hands what is waiting to the network at once, while the batch before is looked at.

    There is no timer: a lone client never waits for others, and the more clients there are, the
    fuller are the batches. For one event loop.
    """

    def __init__(self, work: Work, size: int, limit: int) -> None:
        """Prepare.

        Args:
          work: image files to results, in order; called in a thread, one call at a time.
          size: images in a batch, at most.
          limit: images that wait, at most.
        """
        self._work, self._size, self._limit = work, size, limit
        self._waiting: deque[tuple[bytes, asyncio.Future[Result]]] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def __call__(self, image: bytes) -> Result:
        """The result for one image.

        Raises:
          Busy: too many images are waiting.
        """
        if len(self._waiting) >= self._limit:
            raise Busy
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        entry = (image, result)
        self._waiting.append(entry)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._run())
        try:
            return await result
        finally:
            if entry in self._waiting:  # its client has gone
                self._waiting.remove(entry)

    async def _run(self) -> None:
        while self._waiting:
            count = min(self._size, len(self._waiting))
            batch = [self._waiting.popleft() for _ in range(count)]
            try:
                results = await asyncio.to_thread(self._work, [image for image, _ in batch])
            except Exception as error:
                for _, result in batch:
                    if not result.done():
                        result.set_exception(error)
            else:
                for (_, result), found in zip(batch, results, strict=True):
                    if not result.done():
                        result.set_result(found)
