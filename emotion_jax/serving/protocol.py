"""Uvicorn's HTTP, with limits to the time that a request's head and an answer may take."""

import asyncio
import contextlib
import logging
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# What uvicorn says of every WebSocket that is refused with a status and a reason, as ours are.
_REFUSED = "ASGI callable returned without completing handshake."

KEPT = 64 * 1024  # bytes of answers that wait to be taken before no more are made


def quiet() -> None:
    """Keep uvicorn from calling refusals errors."""
    logging.getLogger("uvicorn.error").addFilter(_is_worth_saying)


def _is_worth_saying(record: logging.LogRecord) -> bool:
    return record.msg != _REFUSED


def timed(head_seconds: float, send_seconds: float) -> type[H11Protocol]:
    """A protocol that ends connections of clients which do not send, or do not read.

    Uvicorn itself waits for ever for a client that sends its request letter by letter, and for one
    that takes nothing of its answers.

    Args:
      head_seconds: a connection without a whole head for so long is closed.
      send_seconds: one whose answers are not taken for so long is cut off; one that was closed with
        some of them still to be taken, within twice as long.
    """
    limits = {"head_seconds": head_seconds, "send_seconds": send_seconds}
    return type("Timed", (_Timed,), limits)


class _Timed(H11Protocol):
    head_seconds: float
    send_seconds: float
    _deadline: asyncio.TimerHandle | None = None
    _patience: asyncio.TimerHandle | None = None  # while much waits to be taken
    _watching: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._socket = transport.get_extra_info("socket")
        transport.set_write_buffer_limits(KEPT)  # TLS would keep eight times as much
        self._wait()
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._wait()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._wait()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._patience = self.loop.call_later(self.send_seconds, self._cut)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._patience is not None:
            self._patience.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._deadline, self._patience, self._watching):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: Any) -> None:
        # Of a client that asks for it with answers untaken the patience ends all the same: the
        # WebSocket would not know that writing is paused.
        super().handle_websocket_upgrade(event)
        self._stop()
        protocol: Any = self.transport.get_protocol()

        def check() -> None:
            # Heads that h11 takes and the parser of WebSockets does not are never answered.
            if not protocol.handshake_complete:
                self._close()

        self.loop.call_later(self.head_seconds, check)

    def _wait(self) -> None:
        """Have the clock run while, and only while, a head is waited for.

        Or the rest of a body whose request is answered already: uvicorn's own clock stops at
        its first byte.
        """
        theirs, ours = self.conn.their_state, self.conn.our_state
        is_due = theirs is h11.IDLE or (theirs is h11.SEND_BODY and ours is h11.DONE)
        is_over = self.transport.is_closing() or self.transport.get_protocol() is not self
        if is_over or not is_due:
            self._stop()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.head_seconds, self._close)

    def _close(self) -> None:
        # A transport of TLS that is closed twice cannot be asked for its protocol any more.
        if not self.transport.is_closing():
            self.transport.close()

    def _cut(self) -> None:
        # Not by abort: a transport of TLS that uvicorn's WebSockets have closed twice ignores it.
        with contextlib.suppress(OSError):  # it is closed meanwhile
            self._socket.shutdown(socket.SHUT_RDWR)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _watch(self) -> None:
        """See to it that a transport that closes is closed, that of a WebSocket too.

        By itself it waits for ever for its client to take what was sent.
        """
        is_closing = self.transport.is_closing()
        then = self._cut if is_closing else self._watch
        self._watching = self.loop.call_later(self.send_seconds, then)
