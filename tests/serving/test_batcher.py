import asyncio
import threading

import pytest

from emotion_jax.inference.recognizer import Result
from emotion_jax.serving.batcher import Batcher, Busy


class Gate:
    """Work that waits to be let through, and remembers its batches."""

    def __init__(self):
        self.batches, self.open = [], threading.Event()

    def __call__(self, images):
        self.batches.append(list(images))
        assert self.open.wait(10)
        return [Result(error=image.decode()) for image in images]

    async def begun(self, count=1):
        while len(self.batches) < count:
            await asyncio.sleep(0.001)


def names(count, start=0):
    return [str(i).encode() for i in range(start, start + count)]


def test_what_waits_is_looked_at_together_and_everyone_gets_their_own():
    async def scenario():
        gate = Gate()
        batcher = Batcher(gate, size=3, limit=10)
        first = asyncio.create_task(batcher(b"0"))
        await gate.begun()
        others = [asyncio.create_task(batcher(name)) for name in names(5, 1)]
        await asyncio.sleep(0.01)
        gate.open.set()
        assert [r.error for r in await asyncio.gather(first, *others)] == list("012345")
        assert gate.batches == [[b"0"], [b"1", b"2", b"3"], [b"4", b"5"]]

    asyncio.run(scenario())


def test_too_many_are_turned_away():
    async def scenario():
        gate = Gate()
        batcher = Batcher(gate, size=1, limit=2)
        tasks = [asyncio.create_task(batcher(b"0"))]
        await gate.begun()
        tasks += [asyncio.create_task(batcher(name)) for name in names(2, 1)]
        await asyncio.sleep(0.01)
        with pytest.raises(Busy):
            await batcher(b"3")
        gate.open.set()
        assert len(await asyncio.gather(*tasks)) == 3

    asyncio.run(scenario())


def test_images_of_clients_that_have_gone_are_not_looked_at():
    async def scenario():
        gate = Gate()
        batcher = Batcher(gate, size=8, limit=10)
        first = asyncio.create_task(batcher(b"0"))
        await gate.begun()
        gone, stays = asyncio.create_task(batcher(b"1")), asyncio.create_task(batcher(b"2"))
        await asyncio.sleep(0.01)
        gone.cancel()
        first.cancel()  # its batch goes on without it
        await asyncio.sleep(0.01)
        gate.open.set()
        assert (await stays).error == "2"
        assert gate.batches == [[b"0"], [b"2"]]

    asyncio.run(scenario())


def test_a_failure_is_told_to_its_batch_and_the_next_goes_on():
    def work(images):
        if b"bad" in images:
            raise ZeroDivisionError
        return [Result() for _ in images]

    async def scenario():
        batcher = Batcher(work, size=8, limit=10)
        with pytest.raises(ZeroDivisionError):
            await batcher(b"bad")
        assert await batcher(b"good") == Result()

    asyncio.run(scenario())
