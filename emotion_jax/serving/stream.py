"""One client's frames: the newest is looked at, older ones that still wait are dropped."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable

from starlette.websockets import WebSocket, WebSocketDisconnect

from emotion_jax.inference.recognizer import Result
from emotion_jax.serving.batcher import Busy
from emotion_jax.serving.limits import Limits
from emotion_jax.serving.schema import faces

# RFC 6455, section 7.4.1.
GOING_AWAY, UNSUPPORTED, INVALID, INTERNAL, LATER = 1001, 1003, 1007, 1011, 1013


class Closing(Exception):
    """The connection ends, with a code and a reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class _Newest:
    """The newest frame that was not looked at yet, its number and when it came."""

    def __init__(self) -> None:
        self._frame = b""
        self._count, self._time = 0, 0.0
        self._there = asyncio.Event()

    def put(self, frame: bytes) -> None:
        self._frame, self._time = frame, time.perf_counter()
        self._count += 1
        self._there.set()

    async def take(self) -> tuple[bytes, int, float]:
        await self._there.wait()
        self._there.clear()
        frame, self._frame = self._frame, b""
        return frame, self._count - 1, self._time


async def serve(
    socket: WebSocket, look: Callable[[bytes], Awaitable[Result]], limits: Limits
) -> None:
    """Answer the frames of an accepted WebSocket until it ends.

    Args:
      socket: binary messages are image files, answers are ``schema.FrameAnswer`` as text.
      look: finds and names the faces in a frame.
      limits: of time.
    """
    newest = _Newest()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_read(socket, newest, limits))
            group.create_task(_answer(socket, newest, look, limits))
    except* WebSocketDisconnect:
        pass
    except* Closing as group_of_reasons:
        reason = group_of_reasons.exceptions[0]
        assert isinstance(reason, Closing)
        await _close(socket, reason, limits)


async def _read(socket: WebSocket, newest: _Newest, limits: Limits) -> None:
    while True:
        try:
            async with asyncio.timeout(limits.idle_seconds):
                message = await socket.receive()
        except TimeoutError:
            raise Closing(GOING_AWAY, "no frame for a long time") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message["code"])
        if message.get("bytes") is None:
            raise Closing(UNSUPPORTED, "a frame is a binary message")
        newest.put(message["bytes"])


async def _answer(
    socket: WebSocket,
    newest: _Newest,
    look: Callable[[bytes], Awaitable[Result]],
    limits: Limits,
) -> None:
    while True:
        frame, number, came = await newest.take()
        try:
            result = await look(frame)
        except Busy:
            raise Closing(LATER, "too many frames are waiting") from None
        except Exception:
            logging.getLogger(__name__).exception("A frame could not be looked at")
            raise Closing(INTERNAL, "the server has failed") from None
        if result.error is not None:
            raise Closing(INVALID, result.error)
        spent = round(1000 * (time.perf_counter() - came), 1)
        answer = {"frame": number, "faces": faces(result), "ms": spent}
        try:
            async with asyncio.timeout(limits.send_seconds):
                await socket.send_text(json.dumps(answer))
        except TimeoutError:
            raise Closing(INTERNAL, "answers are not taken") from None


async def _close(socket: WebSocket, reason: Closing, limits: Limits) -> None:
    """Say goodbye, to who may not listen any more."""
    try:
        async with asyncio.timeout(limits.send_seconds):
            # The reason has to fit a control frame: 125 bytes with its code.
            text = reason.reason.encode("ascii", "replace")[:120].decode("ascii")
            await socket.close(reason.code, text)
    except (TimeoutError, RuntimeError, WebSocketDisconnect):
        return
