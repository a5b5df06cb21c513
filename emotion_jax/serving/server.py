"""From an address to a server that answers there until it is stopped."""

import contextlib
import ipaddress
import os
import re
import secrets
import socket
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from emotion_jax.errors import Interrupted, UserError
from emotion_jax.serving.guard import LOOPBACK, Policy, is_address
from emotion_jax.serving.limits import Limits
from emotion_jax.serving.protocol import quiet, timed
from emotion_jax.training import signals

WILDCARDS = ("", "0.0.0.0", "::")  # hosts that stand for all of this machine's addresses
GRACE = 2  # seconds for what is under way when the server is stopped


@dataclass(frozen=True)
class Address:
    """Where the server listens.

    Attributes:
      socket: bound, so that a port that is taken is known before anything is loaded.
      host: as it was asked for.
      port: the real one where any was asked for (0).
      is_loopback: whether this machine alone can reach it.
    """

    socket: socket.socket
    host: str
    port: int
    is_loopback: bool


def bind(host: str, port: int) -> Address:
    """Take a port.

    Raises:
      UserError: the host is not one of this machine, or the port is taken or not allowed.
    """
    if not 0 <= port < 2**16:
        raise UserError(f"--port is {port}; use 1 to 65535, or 0 for any that is free.")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise UserError(f"--host {host} is not known here ({error}).") from None
    try:
        if os.name == "posix":  # a restart need not wait; elsewhere it would let two share a port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(place)
        bound.listen(128)
    except OSError as error:
        bound.close()
        why = error.strerror or error
        raise UserError(f"Cannot listen on {host} port {port}: {why}; try another.") from None
    name, number = bound.getsockname()[:2]
    return Address(bound, host, number, ipaddress.ip_address(name.split("%")[0]).is_loopback)


def names(address: Address, more: Collection[str] = ()) -> list[str]:
    """DNS names and IP addresses by which a server may be called, sorted.

    Args:
      address: where it listens.
      more: further names, in small letters.

    Raises:
      UserError: one of ``more`` is no name.
    """
    for name in more:
        if not is_address(name) and not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", name):
            raise UserError(
                f"--allow-host {name} is no host's name or address; give the name alone, without "
                "scheme and port, an international one in its ASCII form (xn--...)."
            )
    found = {*LOOPBACK, *more}
    if address.host not in WILDCARDS:
        found.add(address.host.lower())
    if not address.is_loopback:
        machine = socket.gethostname().lower()
        found |= {machine, f"{machine.partition('.')[0]}.local"}
        found |= _addresses(machine, address.socket.family)
    return sorted(found)


def policy(
    address: Address, known: Collection[str], is_secure: bool, token: str | None = None
) -> Policy:
    """Whom to answer: strangers have to show a token where they can reach the server.

    They can where it listens for other machines, and by a proxy where it has a further name.

    Args:
      address: where it listens.
      known: names by which it may be called.
      is_secure: whether it speaks HTTPS.
      token: to be shown; drawn anew where none is given.

    Raises:
      UserError: the token is too short, or cannot be part of an address.
    """
    if token is not None and not re.fullmatch(r"[A-Za-z0-9._~-]{16,}", token):
        raise UserError(
            "The token must be 16 or more of the letters A to Z and a to z, digits and . _ ~ -."
        )
    is_private = address.is_loopback and set(known) <= {*LOOPBACK, address.host.lower()}
    if is_private and token is None:
        return Policy(frozenset(known), is_secure=is_secure, port=address.port)
    token = token or secrets.token_urlsafe(24)
    return Policy(frozenset(known), not address.is_loopback, token, is_secure, address.port)


def url(address: Address, given: Policy, host: str) -> str:
    """The page's address, the token included."""
    scheme = "https" if given.is_secure else "http"
    name = f"[{host}]" if ":" in host else host
    query = f"?token={given.token}" if given.token else ""
    return f"{scheme}://{name}:{address.port}/{query}"


def configure(app: ASGIApp, limits: Limits, certificate: Path | None = None) -> uvicorn.Config:
    """Uvicorn's settings: with limits, and without all that is not needed."""
    quiet()
    return uvicorn.Config(
        app,
        http=timed(limits.head_seconds, limits.send_seconds),
        ws="websockets-sansio",
        loop="asyncio",
        lifespan="off",
        log_level="error",
        access_log=False,  # addresses may hold the token
        server_header=False,
        proxy_headers=False,
        ws_max_size=limits.frame,
        ws_per_message_deflate=False,  # JPEG does not shrink, and a small message could grow
        limit_concurrency=limits.connections,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=GRACE,
        h11_max_incomplete_event_size=16 * 1024,
        ssl_certfile=certificate,
    )


def run(config: uvicorn.Config, address: Address, started: Callable[[], None]) -> None:
    """Serve until a signal comes.

    Args:
      config: from ``configure``.
      address: from ``bind``.
      started: called once connections are answered.

    Raises:
      Interrupted: a signal came, and all is closed.
    """
    with signals.deferred() as noted:
        _Server(config, noted, started).run(sockets=[address.socket])
        if signum := noted():
            raise Interrupted(signum)


class _Server(uvicorn.Server):
    """Leaves the signals to us."""

    def __init__(
        self, config: uvicorn.Config, noted: Callable[[], int], started: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._noted, self._started = noted, started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started()

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or bool(self._noted())


def _addresses(machine: str, family: int) -> set[str]:
    """This machine's for others, as far as they can be found without asking anyone."""
    found = set()
    with contextlib.suppress(OSError):
        infos = socket.getaddrinfo(
            machine, None, socket.AF_INET if family == socket.AF_INET else socket.AF_UNSPEC
        )
        found |= {str(info[4][0]).split("%")[0] for info in infos}
    # The address of the way out; connecting a datagram socket sends nothing.
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # RFC 5737: an address that is nobody's
        found.add(probe.getsockname()[0])
    # A name may lead to 127.0.1.1 (Debian), and fe80:: needs a zone, which differs by client.
    kinds = {name: ipaddress.ip_address(name) for name in found}
    return {n for n, kind in kinds.items() if not kind.is_loopback and not kind.is_link_local}
