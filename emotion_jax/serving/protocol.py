"""Uvicorn's HTTP, with a limit to the time that a request's head may take."""

import asyncio
import logging
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# What uvicorn says of every WebSocket that is refused with a status and a reason, as ours are.
_REFUSED = "ASGI callable returned without completing handshake."


def quiet() -> None:
    """Keep uvicorn from calling refusals errors."""
    logging.getLogger("uvicorn.error").addFilter(_is_worth_saying)


def _is_worth_saying(record: logging.LogRecord) -> bool:
    return record.msg != _REFUSED


def timed(seconds: float) -> type[H11Protocol]:
    """A protocol that closes connections which leave it without a whole head for so long.

    Uvicorn itself waits for ever for a client that sends its request letter by letter.
    """

    class Timed(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._wait()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)

        def handle_websocket_upgrade(self, event: Any) -> None:
            super().handle_websocket_upgrade(event)
            self._stop()
            socket: Any = self.transport.get_protocol()

            def check() -> None:
                # Heads that h11 takes and the parser of WebSockets does not are never answered.
                if not socket.handshake_complete:
                    self.transport.close()

            self.loop.call_later(seconds, check)

        def _wait(self) -> None:
            """Have the clock run while, and only while, a head is waited for.

            Or the rest of a body whose request is answered already: uvicorn's own clock stops at
            its first byte.
            """
            theirs, ours = self.conn.their_state, self.conn.our_state
            is_due = theirs is h11.IDLE or (theirs is h11.SEND_BODY and ours is h11.DONE)
            is_http = self.transport.get_protocol() is self
            if not is_due or not is_http or self.transport.is_closing():
                self._stop()
            elif self._deadline is None:
                self._deadline = self.loop.call_later(seconds, self.transport.close)

        def _stop(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    return Timed
